//! Queries: views of the state, for whoever asks. They change nothing and are bounded.

use distric_model::{InstanceId, MessageId, Namespace, TaskId, Timestamp};
use serde_json::value::RawValue;

use super::Machine;
use super::compensation::is_shown;
use super::instances::{Failure, Instance, TaskAt};
use super::loops::RoundKey;
use super::outputs::output_of;
use super::state::State;
use super::tasks::retry_of;
use super::views::{
    ErrorView, HistoryView, InstanceSummary, InstanceView, MessageView, Page, ParentView, RoundsView, StartedView, TaskView,
};
use crate::definition::Work;
use crate::octets::Octets;

/// Most items of one page.
pub const PAGE_ITEMS_MAX: usize = 1_000;
/// Most items that one query looks at; a page may be short for it.
pub const PAGE_SCAN_MAX: usize = 100_000;

/// Most instances named of the rounds of one task.
pub const ROUNDS_NAMED_MAX: usize = 64;

/// What a list of instances shall contain. Absent: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// Of this namespace.
    pub namespace: Option<Namespace>,
    /// With this status.
    pub status: Option<String>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// Started by this rule.
    pub rule: Option<String>,
    /// Started by this message.
    pub message: Option<MessageId>,
    /// With this key: one that it begins by, or that its tasks take turns under.
    pub key: Option<String>,
    /// With this code of its error.
    pub code: Option<String>,
    /// Created at this time or later.
    pub from: Option<Timestamp>,
    /// Created before this time.
    pub until: Option<Timestamp>,
    /// Whose failed task is this one: for incidents.
    pub task: Option<String>,
}

impl InstanceFilter {
    /// Whether an instance is among those that are asked for.
    pub(super) fn wants(&self, instance: &Instance) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == found);
        let origin = &instance.origin;
        is(&self.status, Some(public_status(instance)))
            && is(&self.workflow, Some(&instance.program.workflow))
            && is(&self.rule, origin.rule.as_deref())
            && is(&self.code, instance.failure.as_ref().map(|failure| &*failure.code))
            && self.message.is_none_or(|message| origin.message == Some(message))
            && self.from.is_none_or(|from| instance.created_at >= from)
            && self.until.is_none_or(|until| instance.created_at < until)
            && self.key.as_deref().is_none_or(|key| instance.has_key(key))
            && is_wanted(self.namespace.as_ref(), &instance.program.namespace)
    }

    /// The least id that can be among them, after `cursor`.
    pub(super) fn least_id(&self, cursor: Option<InstanceId>) -> InstanceId {
        // Ids begin with the millisecond of their creation.
        let least = |from: Timestamp| InstanceId::new(from, distric_model::Slot::truncate(0), 0);
        let from = self.from.map_or_else(least_instance, least);
        cursor.map_or(from, |cursor| cursor.max(from))
    }

    /// Whether none with this id or a greater one can be among them.
    pub(super) fn is_past(&self, id: InstanceId) -> bool {
        self.until.is_some_and(|until| id >= InstanceId::new(until.plus_ms(1), distric_model::Slot::truncate(0), 0))
    }
}

impl Instance {
    /// Whether it begins by this key, or its tasks take turns under it.
    fn has_key(&self, key: &str) -> bool {
        let passes = self.door.iter().flat_map(|door| &door.passes);
        passes.map(|pass| &*pass.gate.key).chain(self.flow.iter().map(|flow| &*flow.key)).any(|found| found == key)
    }
}

/// What a list of tasks shall contain. Absent: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Of this namespace.
    pub namespace: Option<Namespace>,
    /// With this status. `running` finds assigned tasks as well: whether a worker has begun is not in the log.
    pub status: Option<String>,
}

impl Machine {
    /// A message.
    pub fn message(&self, id: MessageId) -> Option<MessageView> {
        let message = self.messages.get(&id)?;
        let started = message.instances.iter().map(|(workflow, id)| StartedView {
            workflow: workflow.clone(),
            id: *id,
            status: self.instances.get(id).map(|instance| instance.status.as_str()),
        });
        Some(MessageView {
            message_id: id,
            namespace: message.namespace.clone(),
            event_type: message.event_type.clone(),
            source: message.source.clone(),
            received_at_us: message.received_us,
            timestamp_us: message.timestamp_us,
            headers: message.headers.iter().cloned().collect(),
            catalog_version: message.catalog_version,
            rules: message.rules.to_vec(),
            instances: started.collect(),
            payload: raw(&message.payload),
        })
    }

    /// An instance with its tasks and its history.
    pub fn instance(&self, id: InstanceId) -> Option<InstanceView> {
        let instance = self.instances.get(&id)?;
        let history = instance.history.iter().map(|transition| HistoryView {
            at_us: transition.at.as_us(),
            task: transition.task.map(|index| instance.program.steps[usize::from(index)].id.clone()),
            from: transition.from.as_str(),
            to: transition.to.as_str(),
            attempt: transition.attempt,
            worker: transition.worker,
            reason: transition.reason,
        });
        Some(InstanceView {
            summary: self.summary(instance),
            input: raw(&instance.origin.payload),
            output: if instance.status == State::Completed { raw(&output_of(instance)) } else { None },
            tasks: (0..instance.tasks.len() as u16)
                .filter(|index| is_shown(instance, *index))
                .map(|index| self.task_view(instance, index))
                .collect(),
            history: history.collect(),
            history_dropped: instance.history.dropped_count(),
        })
    }

    /// A task. `None` also before its instance has begun.
    pub fn task(&self, id: TaskId) -> Option<TaskView> {
        let at = self.locate(id)?;
        Some(self.task_view(self.instances.get(&at.instance)?, at.index))
    }

    /// Tasks after `cursor`, at most `limit`, by id.
    pub fn tasks(&self, filter: &TaskFilter, cursor: Option<TaskId>, limit: usize) -> Page<TaskView> {
        let from = cursor.and_then(|cursor| self.instance_at_or_before(cursor));
        let instances = self.instances.range(from.unwrap_or_else(least_instance)..);
        let of_namespace = |instance: &&Instance| is_wanted(filter.namespace.as_ref(), &instance.program.namespace);
        let tasks = instances.flat_map(|(id, instance)| {
            let indexes = (0..instance.tasks.len() as u16).filter(|index| is_shown(instance, *index));
            indexes.map(move |index| (TaskAt { instance: *id, index }.id(), instance, index))
        });
        let after_cursor = tasks.filter(|(id, _, _)| cursor.is_none_or(|cursor| *id > cursor));
        page(
            after_cursor,
            limit,
            |(id, ..)| id.to_string(),
            |(_, instance, index)| {
                let has_status = matches_task(filter.status.as_deref(), instance.tasks[usize::from(*index)].status);
                (has_status && of_namespace(instance)).then(|| self.task_view(instance, *index))
            },
        )
    }

    /// Instances after `cursor`, at most `limit`, by id.
    pub fn instances(&self, filter: &InstanceFilter, cursor: Option<InstanceId>, limit: usize) -> Page<InstanceSummary> {
        let view = |instance: &Instance| filter.wants(instance).then(|| self.summary(instance));
        if let Some(message) = filter.message {
            // A message knows its own.
            let mut ids: Vec<InstanceId> =
                self.messages.get(&message).map(|message| message.instances.iter().map(|(_, id)| *id).collect()).unwrap_or_default();
            ids.sort_unstable();
            let own = ids.iter().filter(|id| cursor.is_none_or(|cursor| **id > cursor)).filter_map(|id| self.instances.get(id));
            return page(own, limit, |instance| instance.id.to_string(), |instance| view(instance));
        }
        let instances = self.instances.range(filter.least_id(cursor)..).take_while(|(id, _)| !filter.is_past(**id));
        let after_cursor = instances.filter(|(id, _)| cursor.is_none_or(|cursor| **id > cursor));
        page(after_cursor, limit, |(id, _)| id.to_string(), |(_, instance)| view(instance))
    }

    /// Where a task is; `None` when there is none with this id.
    pub(super) fn locate(&self, task: TaskId) -> Option<TaskAt> {
        let instance = self.instance_at_or_before(task)?;
        let offset = u128::from_be_bytes(task.to_bytes()).checked_sub(u128::from_be_bytes(instance.to_bytes()))?.checked_sub(1)?;
        let index = u16::try_from(offset).ok()?;
        let exists = usize::from(index) < self.instances.get(&instance)?.tasks.len();
        exists.then_some(TaskAt { instance, index })
    }

    fn instance_at_or_before(&self, task: TaskId) -> Option<InstanceId> {
        let bound = InstanceId::from_bytes(task.to_bytes()).ok()?;
        self.instances.range(..=bound).next_back().map(|(id, _)| *id)
    }

    fn task_view(&self, instance: &Instance, index: u16) -> TaskView {
        let (task, step) = (&instance.tasks[usize::from(index)], &instance.program.steps[usize::from(index)]);
        let has_input = task.arrival > 0;
        TaskView {
            id: TaskAt { instance: instance.id, index }.id(),
            instance: instance.id,
            namespace: instance.program.namespace.clone(),
            workflow: instance.program.workflow.clone(),
            task: step.id.clone(),
            task_type: step.task_type.clone(),
            status: task.status.as_str(),
            attempt: task.attempt,
            max_attempts: retry_of(instance, index).max_attempts,
            priority: step.priority,
            worker: task.worker,
            fencing_token: task.token,
            assigned_at_us: us(task.assigned_at),
            next_attempt_at_us: us(task.next_attempt_at),
            ended_at_us: us(task.ended_at),
            input: if has_input { raw(&self.input_of(instance, index)) } else { None },
            output: task.output.as_ref().and_then(raw),
            error: task.failure.as_ref().map(error_view),
            rounds: self.rounds_view(instance, index),
        }
    }

    fn rounds_view(&self, instance: &Instance, index: u16) -> Option<RoundsView> {
        let at = TaskAt { instance: instance.id, index };
        let run = self.loops.run(at)?;
        let is_for_each = matches!(instance.program.tasks[usize::from(index)].work, Work::ForEach { .. });
        Some(RoundsView {
            items: is_for_each.then_some(run.count),
            completed: run.completed_count,
            failed: run.failed_count,
            open: run.open.values().copied().take(ROUNDS_NAMED_MAX).collect(),
            instances: self.loops.rounds_of(at, ROUNDS_NAMED_MAX),
        })
    }

    fn summary(&self, instance: &Instance) -> InstanceSummary {
        let family = instance.origin.family.as_deref();
        InstanceSummary {
            id: instance.id,
            namespace: instance.program.namespace.clone(),
            workflow: instance.program.workflow.clone(),
            version: instance.program.version,
            status: public_status(instance),
            rule: instance.origin.rule.clone(),
            message_id: instance.origin.message,
            created_at_us: instance.created_at.as_us(),
            started_at_us: us(instance.started_at),
            ended_at_us: us(instance.ended_at),
            error: instance.failure.as_ref().map(error_view),
            revision: instance.revision,
            parent: instance.parent().map(|key| self.parent_view(key)),
            failure_of: family.and_then(|family| family.cause),
            failure_handled_by: family.and_then(|family| family.handler),
        }
    }

    fn parent_view(&self, key: RoundKey) -> ParentView {
        let parent = self.instances.get(&key.task.instance);
        let task = parent.and_then(|parent| parent.program.steps.get(usize::from(key.task.index))).map(|step| step.id.clone());
        ParentView { instance: key.task.instance, task, round: key.place }
    }
}

/// The first `limit` items that `view` wants, looking at no more than [`PAGE_SCAN_MAX`].
pub(super) fn page<I, T>(
    items: impl Iterator<Item = I>,
    limit: usize,
    id: impl Fn(&I) -> String,
    view: impl Fn(&I) -> Option<T>,
) -> Page<T> {
    let limit = limit.clamp(1, PAGE_ITEMS_MAX);
    let mut found = Vec::new();
    let mut items = items.enumerate().peekable();
    while let Some((place, item)) = items.next() {
        found.extend(view(&item));
        if (found.len() == limit || place + 1 == PAGE_SCAN_MAX) && items.peek().is_some() {
            return Page { items: found, next_cursor: Some(id(&item)) };
        }
    }
    Page { items: found, next_cursor: None }
}

/// The status that people see: a pause hides what it holds up.
pub(super) fn public_status(instance: &Instance) -> &'static str {
    if instance.pause.is_some() { State::Paused.as_str() } else { instance.status.as_str() }
}

pub(super) fn error_view(failure: &Failure) -> ErrorView {
    ErrorView { code: failure.code.to_string(), message: failure.message.to_string() }
}

fn matches_task(wanted: Option<&str>, status: State) -> bool {
    match wanted {
        None => true,
        Some("running") => matches!(status, State::Running | State::Assigned),
        Some(wanted) => wanted == status.as_str(),
    }
}

fn is_wanted(wanted: Option<&Namespace>, namespace: &Namespace) -> bool {
    wanted.is_none_or(|wanted| wanted == namespace)
}

pub(super) fn us(at: Option<Timestamp>) -> Option<u64> {
    at.map(Timestamp::as_us)
}

pub(super) fn raw(octets: &Octets) -> Option<Box<RawValue>> {
    serde_json::from_slice(octets).ok()
}

/// Less than every id that can exist.
fn least_instance() -> InstanceId {
    InstanceId::new(Timestamp::default(), distric_model::Slot::truncate(0), 0)
}
