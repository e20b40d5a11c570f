//! Incidents: instances that failed or timed out, each with the task that is the reason, its input and its attempts.
//!
//! An incident is a view of an instance in history: it opens when the instance ends badly, and is resolved by a retry. Which instances have one
//! is kept as an index, so that a list of incidents costs what it shows.
//! Invariant: an instance is in the index exactly while its status is `failed` or `timed_out`.

use std::collections::BTreeSet;

use distric_model::InstanceId;

use super::Machine;
use super::instances::{Instance, TaskAt};
use super::queries::{InstanceFilter, error_view, page, raw, us};
use super::state::State;
use super::views::{AttemptView, IncidentDetailView, IncidentView, Page};

/// The instances that have an incident.
#[derive(Debug, Default)]
pub(super) struct Incidents(BTreeSet<InstanceId>);

impl Incidents {
    /// Notes what an instance has become.
    pub fn note(&mut self, id: InstanceId, status: State) {
        if matches!(status, State::Failed | State::TimedOut) {
            self.0.insert(id);
        } else {
            self.0.remove(&id);
        }
    }

    /// An instance is forgotten.
    pub fn forget(&mut self, id: InstanceId) {
        self.0.remove(&id);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Machine {
    /// Incidents after `cursor`, at most `limit`, by the id of their instance. The filter's status is of no meaning.
    pub fn incidents(&self, filter: &InstanceFilter, cursor: Option<InstanceId>, limit: usize) -> Page<IncidentView> {
        let filter = InstanceFilter { status: None, ..filter.clone() };
        let open = self.incidents.0.range(filter.least_id(cursor)..).take_while(|id| !filter.is_past(**id));
        let after_cursor = open.filter(|id| cursor.is_none_or(|cursor| **id > cursor)).filter_map(|id| self.instances.get(id));
        page(
            after_cursor,
            limit,
            |instance| instance.id.to_string(),
            |instance| {
                if !filter.wants(instance) {
                    return None;
                }
                let view = incident(instance);
                let of_task = filter.task.as_deref().is_none_or(|task| view.task.as_deref() == Some(task));
                of_task.then_some(view)
            },
        )
    }

    /// The incident of an instance. `None` when it has none.
    pub fn incident(&self, id: InstanceId) -> Option<IncidentDetailView> {
        let instance = self.instances.get(&id).filter(|_| self.incidents.0.contains(&id))?;
        let task = failed_task(instance);
        let input = match task {
            Some(index) if instance.tasks[usize::from(index)].arrival > 0 => raw(&self.input_of(instance, index)),
            Some(_) => None,
            None => raw(&instance.origin.payload),
        };
        let attempts = task.map(|index| attempts_of(instance, index)).unwrap_or_default();
        Some(IncidentDetailView { incident: incident(instance), input, attempts })
    }
}

fn incident(instance: &Instance) -> IncidentView {
    let task = failed_task(instance);
    let step = task.map(|index| &instance.program.steps[usize::from(index)]);
    IncidentView {
        instance: instance.id,
        namespace: instance.program.namespace.clone(),
        workflow: instance.program.workflow.clone(),
        version: instance.program.version,
        rule: instance.origin.rule.clone(),
        message_id: instance.origin.message,
        task: step.map(|step| step.id.clone()),
        task_id: task.map(|index| TaskAt { instance: instance.id, index }.id()),
        task_type: step.map(|step| step.task_type.clone()),
        error: instance.failure.as_ref().map(error_view),
        opened_at_us: us(instance.ended_at),
    }
}

/// The critical task that failed first. `None`: the instance failed as a whole.
fn failed_task(instance: &Instance) -> Option<u16> {
    let failed = (0..).zip(&instance.tasks).filter(|(index, task)| {
        let step = &instance.program.steps[usize::from(*index)];
        step.is_critical && step.compensates.is_none() && matches!(task.status, State::Failed | State::TimedOut)
    });
    failed.min_by_key(|(index, task)| (task.ended_at, *index)).map(|(index, _)| index)
}

/// The attempts of a task, as far as its history goes back.
fn attempts_of(instance: &Instance, index: u16) -> Vec<AttemptView> {
    let mut attempts: Vec<AttemptView> = Vec::new();
    for entry in instance.history.iter().filter(|entry| entry.task == Some(index)) {
        if matches!(entry.to, State::Assigned | State::Running) {
            attempts.push(AttemptView {
                attempt: entry.attempt,
                worker: entry.worker,
                started_at_us: entry.at.as_us(),
                ended_at_us: None,
                outcome: None,
                reason: None,
            });
        } else if let Some(last) = attempts.last_mut().filter(|last| last.ended_at_us.is_none()) {
            last.ended_at_us = Some(entry.at.as_us());
            last.outcome = Some(entry.to.as_str());
            last.reason = entry.reason;
        }
    }
    attempts
}
