//! Scopes: what the expressions of an instance see.
//!
//! Tasks of a body see what stands around it: the instance whose task the body is of is in the same group and does not end before them, so
//! its input and outputs are read where they are. Only what an expression reads is parsed.

use distric_rules::expr::Scope;
use serde_json::Value;

use super::Machine;
use super::ingest::Message;
use super::instances::{Failure, Instance};
use super::programs::{Reads, Step, empty_object};
use super::state::State;
use crate::definition::{FOR_EACH_NAMES, LoopNames, MessageNames, RunNames, TaskNames, WHILE_NAMES, Work};
use crate::octets::Octets;

/// A round that is about to begin, for the expressions that decide about it.
#[derive(Clone, Copy)]
pub(super) struct Round<'a> {
    pub value: &'a Octets,
    pub number: u32,
}

/// One loop around an expression: what its value and its number are called, and what they are.
struct Loop<'a> {
    names: [&'static str; 2],
    value: &'a Octets,
    number: u32,
}

/// What the names of a loop are called.
fn names_of(work: &Work) -> Option<[&'static str; 2]> {
    match work {
        Work::ForEach { .. } => Some(FOR_EACH_NAMES),
        Work::While { .. } => Some(WHILE_NAMES),
        _ => None,
    }
}

/// Whose names an expression sees.
struct Reader<'a> {
    reads: &'a Reads,
    task_id: &'a str,
    attempt: u32,
}

/// See [`Machine::origin_names`].
pub(super) struct OriginNames<'a> {
    pub input: Value,
    pub params: Value,
    message: Option<&'a Message>,
    message_id: String,
    message_time: Option<String>,
}

impl OriginNames<'_> {
    /// The message that began it, if it is read and still kept.
    pub fn message(&self) -> Option<MessageNames<'_>> {
        self.message.map(|message| MessageNames {
            id: &self.message_id,
            event_type: message.event_type.as_deref(),
            source: message.source.as_deref(),
            headers: &message.headers,
            timestamp: self.message_time.as_deref(),
        })
    }
}

impl Machine {
    /// What expressions see of where an instance came from, parsed as far as they read it. Errors: an input that is not JSON.
    pub(super) fn origin_names(&self, instance: &Instance, reads: &Reads) -> Result<OriginNames<'_>, Failure> {
        let origin = &instance.origin;
        let message = if reads.message { origin.message.and_then(|id| self.messages.get(&id)) } else { None };
        Ok(OriginNames {
            input: parsed(reads.input, &origin.payload, Value::Null)?,
            params: parsed(reads.params, &origin.params, empty_object())?,
            message_id: message.map_or_else(String::new, |message| message.id.to_string()),
            message_time: message.and_then(|message| message.timestamp_us).and_then(rfc3339),
            message,
        })
    }

    /// Calls `evaluate` with the names that the expressions of a task see. Errors: those of `evaluate`, and an input that is not JSON.
    pub(super) fn with_scope<T>(
        &self,
        instance: &Instance,
        index: u16,
        evaluate: impl FnOnce(&Scope<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with_round(instance, index, None, evaluate)
    }

    /// The same for the expressions of a task with a body about one of its rounds.
    pub(super) fn with_round<T>(
        &self,
        instance: &Instance,
        index: u16,
        round: Option<Round<'_>>,
        evaluate: impl FnOnce(&Scope<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let place = usize::from(index);
        let step = &instance.program.steps[place];
        let names = names_of(&instance.program.tasks[place].work);
        let own = round.zip(names).map(|(round, names)| Loop { names, value: round.value, number: round.number });
        let reader = Reader { reads: &step.reads, task_id: &step.id, attempt: instance.tasks[place].attempt + 1 };
        self.with_names(instance, &reader, own, evaluate)
    }

    /// The same for what an instance returns, once its tasks have ended.
    pub(super) fn with_all_tasks<T>(
        &self,
        instance: &Instance,
        reads: &Reads,
        evaluate: impl FnOnce(&Scope<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with_names(instance, &Reader { reads, task_id: "", attempt: 1 }, None, evaluate)
    }

    fn with_names<T>(
        &self,
        instance: &Instance,
        reader: &Reader<'_>,
        own: Option<Loop<'_>>,
        evaluate: impl FnOnce(&Scope<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let reads = reader.reads;
        let around = self.instances_around(instance);
        let root = around.last().copied().unwrap_or(instance);
        let program = &*instance.program;
        let origin = self.origin_names(root, reads)?;
        let own_tasks = reads.tasks.iter().map(|index| (instance, *index));
        let outer_tasks = reads.outer.iter().filter_map(|(level, index)| Some((*around.get(usize::from(*level))?, *index)));
        let outputs: Vec<(&Instance, u16, Option<Value>)> = own_tasks
            .chain(outer_tasks)
            .map(|(holder, index)| (holder, index, holder.tasks[usize::from(index)].output.as_ref().and_then(Octets::to_json)))
            .collect();
        let tasks = outputs.iter().map(|(holder, index, output)| {
            let task = &holder.tasks[usize::from(*index)];
            let error = task.failure.as_ref().map(|failure| (&*failure.code, &*failure.message));
            let names = TaskNames { output: output.as_ref(), status: public_status(task.status), error };
            (&*holder.program.steps[usize::from(*index)].id, names)
        });
        let loops: Vec<Loop<'_>> = if reads.loops { own.into_iter().chain(self.loops_around(instance)).collect() } else { Vec::new() };
        let values = loops.iter().map(|round| parsed(true, round.value, Value::Null)).collect::<Result<Vec<_>, _>>()?;
        let rounds = loops.iter().zip(&values).map(|(round, value)| LoopNames {
            value_name: round.names[0],
            value,
            number_name: round.names[1],
            number: u64::from(round.number),
        });
        let names = RunNames {
            input: &origin.input,
            params: &origin.params,
            message: origin.message(),
            tasks: tasks.collect(),
            instance_id: &instance.id.to_string(),
            workflow_id: &program.workflow,
            workflow_version: program.version,
            task_id: reader.task_id,
            attempt: reader.attempt,
            loops: rounds.collect(),
        };
        evaluate(&names.scope())
    }

    /// The instances whose tasks an instance is in the body of, the nearest first: as many as bodies stand in bodies.
    fn instances_around<'a>(&'a self, instance: &'a Instance) -> Vec<&'a Instance> {
        let mut around = Vec::new();
        let mut inner = instance;
        while let Some(key) = inner.parent().filter(|_| inner.program.body.is_some()) {
            let Some(outer) = self.instances.get(&key.task.instance) else { break };
            around.push(outer);
            inner = outer;
        }
        around
    }

    /// The instance whose input the expressions of an instance see: itself, unless its program is the body of a task.
    pub(super) fn lexical_root<'a>(&'a self, instance: &'a Instance) -> &'a Instance {
        self.instances_around(instance).last().copied().unwrap_or(instance)
    }

    /// The loops that an instance runs rounds of, the innermost first.
    fn loops_around<'a>(&'a self, instance: &'a Instance) -> Vec<Loop<'a>> {
        let mut loops = Vec::new();
        let mut inner = instance;
        for outer in self.instances_around(instance) {
            if let Some(key) = inner.parent()
                && let Some(names) = outer.program.tasks.get(usize::from(key.task.index)).and_then(|task| names_of(&task.work))
            {
                loops.push(Loop { names, value: &inner.origin.payload, number: key.place });
            }
            inner = outer;
        }
        loops
    }

    /// `{"input": …, "params": …, "tasks": {…}}` put together from texts that are known to be JSON: as `RunNames::default_input` says.
    pub(super) fn default_input(&self, instance: &Instance, step: &Step) -> Octets {
        let root = self.lexical_root(instance);
        let or = |octets: &Octets, absent: &'static str| if octets.is_empty() { Octets::from(absent) } else { octets.clone() };
        let mut text = Vec::with_capacity(root.origin.payload.len() + root.origin.params.len() + 64);
        text.extend_from_slice(b"{\"input\":");
        text.extend_from_slice(&payload_of(root));
        text.extend_from_slice(b",\"params\":");
        text.extend_from_slice(&or(&root.origin.params, "{}"));
        let mut named: Vec<&str> = Vec::new();
        for round in self.loops_around(instance) {
            // The innermost of a kind hides those around it.
            if !named.contains(&round.names[0]) {
                named.push(round.names[0]);
                text.extend_from_slice(format!(",\"{}\":", round.names[0]).as_bytes());
                text.extend_from_slice(&or(round.value, "null"));
                text.extend_from_slice(format!(",\"{}\":{}", round.names[1], round.number).as_bytes());
            }
        }
        text.extend_from_slice(b",\"tasks\":{");
        for (place, dependency) in step.depends_on.iter().enumerate() {
            let task = &instance.tasks[usize::from(*dependency)];
            let output = task.output.as_ref().map_or(&b"null"[..], |output| output);
            // Ids of tasks are plain names: they need no escapes.
            text.extend_from_slice(if place == 0 { b"\"" } else { b",\"" });
            text.extend_from_slice(instance.program.steps[usize::from(*dependency)].id.as_bytes());
            text.extend_from_slice(b"\":{\"output\":");
            text.extend_from_slice(output);
            text.extend_from_slice(b",\"status\":\"");
            text.extend_from_slice(public_status(task.status).as_bytes());
            text.extend_from_slice(b"\"}");
        }
        text.extend_from_slice(b"}}");
        Octets::from(text)
    }
}

/// The value of a text when it is read, and `absent` when it is not or there is none. Errors: it is not JSON.
fn parsed(read: bool, octets: &Octets, absent: Value) -> Result<Value, Failure> {
    if !read || octets.is_empty() {
        return Ok(absent);
    }
    octets.to_json().ok_or_else(|| Failure::new("bad_input", "the input of the instance is not JSON"))
}

/// The input of an instance as JSON text.
pub(super) fn payload_of(instance: &Instance) -> Octets {
    let payload = &instance.origin.payload;
    if payload.is_empty() { Octets::from("null") } else { payload.clone() }
}

/// The status that expressions see: queues and attempts are no business of theirs.
fn public_status(state: State) -> &'static str {
    match state {
        State::Ready | State::Assigned | State::BackingOff | State::Running => "running",
        other => other.as_str(),
    }
}

pub(super) fn rfc3339(us: u64) -> Option<String> {
    let instant = jiff::Timestamp::from_microsecond(i64::try_from(us).ok()?).ok()?;
    Some(instant.to_string())
}
