//! Control tasks: those that the machine runs itself, without a worker: `wait`, `wait_for_signal`, `branch`, `fail`, `publish`,
//! `aggregate`; and the beginning of those with a body.

use std::sync::Arc;

use distric_model::limits::{HEADERS_MAX, HOPS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
use distric_model::{MessageId, Slot, Timestamp};
use distric_rules::expr::{Budget, Scope, Template};
use serde_json::{Value, json};

use super::Machine;
use super::effects::{OutBody, Published};
use super::instances::{Failure, Instance, TaskAt};
use super::rendering::expression_failure;
use super::rounds::{Begun, items_of};
use super::state::State;
use super::timers::Timer;
use super::turn::Turn;
use crate::command::{OutAck, OutResult};
use crate::definition::Work;
use crate::octets::Octets;

/// What a control task does next.
enum Step {
    WaitUntil(Timestamp),
    Complete(Octets),
    Fail(Failure),
    Publish(Box<Message>),
    /// Runs its body.
    Enter(Begun),
    /// Waits for a signal with this name and, when it has one, key; until then at most.
    WaitForSignal {
        name: String,
        key: Option<String>,
        until: Option<Timestamp>,
    },
}

/// A message as its task describes it.
struct Message {
    event_type: String,
    payload: Octets,
    routing_key: Option<String>,
    headers: Vec<(String, String)>,
}

impl Machine {
    /// Runs a control task: to its end, or to what it waits for.
    pub(super) fn run_control(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        let now = turn.now;
        let work = &instance.program.tasks[usize::from(at.index)].work;
        let step = self.with_scope(instance, at.index, |scope| step_of(work, now, scope, &mut Budget::default()));
        self.with_instance(at.instance, |instance| {
            let task = &mut instance.tasks[usize::from(at.index)];
            task.attempt = if instance.program.steps[usize::from(at.index)].has_rounds { task.attempt + 1 } else { 1 };
            // The wait before another attempt is over: its timer has fired.
            (task.timer, task.next_attempt_at) = (None, None);
            task.assigned_at = Some(now);
            instance.move_task(turn, at.index, State::Running, None);
        });
        match step {
            Ok(Step::WaitUntil(due)) if due > now => self.set_wait_timer(at, due),
            Ok(Step::WaitForSignal { name, key, until }) => {
                if let Some(due) = until {
                    self.set_wait_timer(at, due);
                }
                self.wait_for_signal(turn, at, Arc::from(name), key.map(Arc::from));
            }
            Ok(Step::WaitUntil(_)) => self.complete(turn, at, Octets::from("null")),
            Ok(Step::Complete(output)) => self.complete(turn, at, output),
            Ok(Step::Fail(failure)) | Err(failure) => self.fail_for_good(turn, at, failure, State::Failed),
            Ok(Step::Publish(message)) => self.publish(turn, at, *message),
            Ok(Step::Enter(begun)) => self.enter_run(turn, at, begun),
        }
    }

    pub(super) fn set_wait_timer(&mut self, at: TaskAt, due: Timestamp) {
        let timer = self.timers.set(due, Timer::WaitEnd(at));
        if let Some(task) = self.task_mut(at) {
            task.timer = Some(timer);
            task.next_attempt_at = Some(due);
        }
    }

    /// A `wait` is over, or a `wait_for_signal` got none.
    pub(super) fn end_wait(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        if self.awaits_signal(at) {
            return self.time_out_wait(turn, at);
        }
        if self.has_rounds(at) {
            return self.time_out_run(at);
        }
        let Some(task) = self.task_mut(at) else { return };
        if task.status == State::Running {
            task.timer = None;
            self.complete(turn, at, Octets::from("null"));
        }
    }

    fn publish(&mut self, turn: &mut Turn<'_>, at: TaskAt, message: Message) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        let hops = instance.origin.hops.saturating_add(1);
        if let Err(failure) = check_published(&message, hops) {
            return self.fail_for_good(turn, at, failure, State::Failed);
        }
        let published = self.published(turn, instance, at, message, hops);
        let seq = self.send_out(turn, published.message_id.slot(), OutBody::Publish(Box::new(published)), Some(at));
        if let Some(task) = self.task_mut(at) {
            task.out_seq = Some(seq);
        }
    }

    fn published(&self, turn: &mut Turn<'_>, instance: &Instance, at: TaskAt, message: Message, hops: u8) -> Published {
        let namespace = instance.program.namespace.clone();
        let task = &instance.tasks[usize::from(at.index)];
        let idempotency_key = task.idempotency_key.clone().unwrap_or_else(|| super::tasks::default_key(at, task.rerun));
        let key = message.routing_key.as_deref().unwrap_or(&idempotency_key);
        let slot = Slot::of(namespace.as_str(), key.as_bytes());
        Published {
            message_id: MessageId::new(turn.now, slot, turn.mint(1)),
            namespace,
            event_type: Some(Arc::from(message.event_type)),
            source: Some(instance.program.workflow.clone()),
            headers: message.headers,
            payload: message.payload,
            routing_key: message.routing_key,
            idempotency_key,
            traceparent: instance.origin.traceparent.clone(),
            hops,
            at: turn.now,
        }
    }

    /// The target of an outbox record has it: the record goes, and the task that waits for it ends.
    pub(super) fn apply_out_ack(&mut self, turn: &mut Turn<'_>, ack: OutAck) {
        let Some((out, at)) = self.outbox.remove(ack.seq) else {
            self.stats.commands_ignored_count += 1;
            return;
        };
        self.state_bytes -= super::outbox::out_bytes(&out);
        match (&out.body, at) {
            (OutBody::Publish(_), Some(at)) => self.publish_acknowledged(turn, at, ack),
            (OutBody::Await { key, task, round }, Some(at)) => self.await_acknowledged(turn, at, key, *task, *round),
            (OutBody::Deliver { signal, .. }, _) if matches!(ack.result, OutResult::Refused { .. }) => {
                self.signal_came_back(turn, (**signal).clone());
            }
            (OutBody::Told(told), _) => self.told_acknowledged(turn, told, !matches!(ack.result, OutResult::Refused { .. })),
            _ => {}
        }
    }

    fn publish_acknowledged(&mut self, turn: &mut Turn<'_>, at: TaskAt, ack: OutAck) {
        let waits = |task: &mut super::instances::Task| task.status == State::Running && task.out_seq == Some(ack.seq);
        if !self.task_mut(at).is_some_and(waits) {
            return;
        }
        match ack.result {
            OutResult::Accepted { message_id, instances } => {
                let (workflows, ids): (Vec<_>, Vec<_>) = instances.into_iter().map(|(workflow, id)| (workflow, id.to_string())).unzip();
                let output = json!({ "message_id": message_id.to_string(), "workflows": workflows, "instances": ids });
                self.complete(turn, at, Octets::from(&output));
            }
            OutResult::Done => self.complete(turn, at, Octets::from("null")),
            OutResult::Refused { code, reason } => self.fail_for_good(turn, at, Failure::new(&code, &reason), State::Failed),
        }
    }
}

fn step_of(work: &Work, now: Timestamp, scope: &Scope<'_>, budget: &mut Budget) -> Result<Step, Failure> {
    let text = |member: &str, template: &Template, budget: &mut Budget| {
        template.render_text(scope, budget).map_err(|error| expression_failure(member, &error))
    };
    match work {
        Work::Wait(wait) => {
            let due = wait.due(now, scope, budget).map_err(|error| expression_failure("config", &error))?;
            Ok(Step::WaitUntil(due))
        }
        Work::WaitForSignal { name, key, timeout } => {
            let name = text("config.name", name, budget)?;
            let key = key.as_ref().map(|key| text("config.key", key, budget)).transpose()?;
            if !(1..=NAME_BYTES_MAX).contains(&name.len()) || key.as_ref().is_some_and(|key| !(1..=KEY_BYTES_MAX).contains(&key.len())) {
                let message = format!("a signal's name has 1 to {NAME_BYTES_MAX} bytes, its key 1 to {KEY_BYTES_MAX}");
                return Err(Failure::new("expression_error", &message));
            }
            let until = timeout.as_ref().map(|timeout| timeout.due(now, scope, budget)).transpose();
            let until = until.map_err(|error| expression_failure("config.timeout", &error))?;
            Ok(Step::WaitForSignal { name, key, until })
        }
        Work::Branch { cases, default } => {
            for case in cases {
                if case.when.evaluate_bool(scope, budget).map_err(|error| expression_failure("config.cases", &error))? {
                    return Ok(Step::Complete(Octets::from(&json!({ "branch": case.name }))));
                }
            }
            Ok(Step::Complete(Octets::from(&json!({ "branch": default }))))
        }
        Work::Fail { code, message } => {
            Ok(Step::Fail(Failure::new(&text("config.code", code, budget)?, &text("config.message", message, budget)?)))
        }
        Work::Aggregate { items, aggregate } => {
            let items = items.render(scope, budget).map_err(|error| expression_failure("config.items", &error))?;
            let Value::Array(items) = items else {
                return Err(Failure::new("bad_items", "config.items: the value is not a list"));
            };
            let value = aggregate.evaluate(&items).map_err(|problem| Failure::new("bad_items", &problem))?;
            Ok(Step::Complete(Octets::from(&value)))
        }
        Work::Publish { event_type, payload, routing_key, headers } => {
            let payload = payload.render(scope, budget).map_err(|error| expression_failure("config.payload", &error))?;
            let routing_key = routing_key.as_ref().map(|key| text("config.routing_key", key, budget)).transpose()?;
            let event_type = text("config.event_type", event_type, budget)?;
            let headers = headers.iter().map(|(name, value)| Ok((name.clone(), text("config.headers", value, budget)?)));
            let headers = headers.collect::<Result<_, Failure>>()?;
            Ok(Step::Publish(Box::new(Message { event_type, payload: Octets::from(&payload), routing_key, headers })))
        }
        Work::ForEach { items, .. } => items_of(items, scope, budget).map(Step::Enter),
        Work::While { initial, .. } => {
            let state = initial.render(scope, budget).map_err(|error| expression_failure("config.initial", &error))?;
            Ok(Step::Enter(Begun::State(Octets::from(&state))))
        }
        Work::SubWorkflow | Work::Undo => Ok(Step::Enter(Begun::Once)),
        Work::Worker { .. } => Err(Failure::new("internal", "a worker's task is not the machine's")),
    }
}

/// Whether a message may leave. Errors: which bound it exceeds.
fn check_published(message: &Message, hops: u8) -> Result<(), Failure> {
    let within = |name: &str, count: usize, count_max: usize| {
        if count <= count_max { Ok(()) } else { Err(Failure::new("bad_message", &format!("{name} {count} exceeds {count_max}"))) }
    };
    if hops > HOPS_MAX {
        let text = format!("the message behind it was published {HOPS_MAX} times already; it may go round in a circle");
        return Err(Failure::new("hops_exceeded", &text));
    }
    within("payload_bytes", message.payload.len(), MESSAGE_BYTES_MAX)?;
    within("event_type_bytes", message.event_type.len(), NAME_BYTES_MAX)?;
    within("routing_key_bytes", message.routing_key.as_ref().map_or(0, String::len), KEY_BYTES_MAX)?;
    within("headers", message.headers.len(), HEADERS_MAX)
}
