//! Rendering: conditions, inputs and configs of tasks, from what the instance holds.
//!
//! Only what an expression reads is parsed. An input that is not written out is put together from texts, without parsing, when it is asked for.

use std::sync::Arc;

use distric_model::limits::{INSTANCE_BYTES_MAX, KEY_BYTES_MAX};
use distric_rules::expr::{Budget, ExprError, Scope};
use serde_json::Value;

use super::Machine;
use super::ingest::Message;
use super::instances::{Failure, Instance, TaskAt};
use super::programs::{Reads, Step, empty_object};
use super::state::State;
use crate::definition::{Join, MessageNames, RunNames, TaskNames, Work};
use crate::octets::Octets;

/// What went wrong in an expression, as the failure of its task.
pub(super) fn expression_failure(member: &str, error: &ExprError) -> Failure {
    Failure::new("expression_error", &format!("{member}: {error}"))
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
    /// Whether a task's condition holds; true when it has none. Errors: the failure of the task.
    pub(super) fn condition_holds(&self, at: TaskAt) -> Result<bool, Failure> {
        let Some(instance) = self.instances.get(&at.instance) else { return Ok(true) };
        let Some(when) = &instance.program.tasks[usize::from(at.index)].when else { return Ok(true) };
        self.with_scope(instance, at.index, |scope| {
            when.evaluate_bool(scope, &mut Budget::default()).map_err(|error| expression_failure("when", &error))
        })
    }

    /// The place of a task's affinity key on the ring of workers. Errors: the failure of the task.
    pub(super) fn affinity_of(&self, at: TaskAt) -> Result<Option<u64>, Failure> {
        let Some(instance) = self.instances.get(&at.instance) else { return Ok(None) };
        let Some(key) = &instance.program.tasks[usize::from(at.index)].affinity_key else { return Ok(None) };
        self.with_scope(instance, at.index, |scope| {
            let text = key.render_text(scope, &mut Budget::default());
            let text = text.map_err(|error| expression_failure("placement.affinity_key", &error))?;
            Ok(Some(super::workers::ring_place(text.as_bytes(), 0)))
        })
    }

    /// Renders what the next attempt of a task needs. Errors: the failure of the task.
    pub(super) fn prepare(&mut self, at: TaskAt) -> Result<(), Failure> {
        let Some(instance) = self.instances.get(&at.instance) else { return Ok(()) };
        let step = &instance.program.steps[usize::from(at.index)];
        let compiled = &instance.program.tasks[usize::from(at.index)];
        let task = &instance.tasks[usize::from(at.index)];
        let Work::Worker { config } = &compiled.work else { return Ok(()) };
        let is_prepared = task.arrival > 0 && !step.reads.attempt;
        let has_expressions = compiled.input.is_some() || compiled.idempotency_key.is_some() || step.constant_config.is_none();
        if is_prepared {
            return Ok(());
        }
        let (mut input, mut rendered_config, mut key) = (None, None, task.idempotency_key.clone());
        if has_expressions {
            let budget = &mut Budget::default();
            self.with_scope(instance, at.index, |scope| {
                let mut render = |member: &str, template: &distric_rules::expr::Template| {
                    template.render(scope, budget).map_err(|error| expression_failure(member, &error))
                };
                input = compiled.input.as_ref().map(|template| render("input", template)).transpose()?;
                if step.constant_config.is_none() {
                    rendered_config = Some(render("config", config)?);
                }
                if let (Some(template), None) = (&compiled.idempotency_key, &key) {
                    key = Some(key_of(render("idempotency_key", template)?)?);
                }
                Ok(())
            })?;
        }
        let mut input = input.as_ref().map(Octets::from);
        if input.is_none() && step.join == Join::Any {
            // What it depends on may still change, and all attempts shall see the same.
            input = Some(default_input(instance, step));
        }
        let config = rendered_config.as_ref().map(Octets::from);
        let size = |octets: &Option<Octets>| octets.as_ref().map_or(0, |octets| octets.len() as u64);
        let grown = size(&input) + size(&config) + key.as_ref().map_or(0, |key| key.len() as u64);
        if instance.bytes + grown > INSTANCE_BYTES_MAX as u64 {
            let message = format!("with its input the instance would hold more than {INSTANCE_BYTES_MAX} bytes");
            return Err(Failure::new("instance_too_large", &message));
        }
        self.with_instance(at.instance, |instance| {
            let task = &mut instance.tasks[usize::from(at.index)];
            let shrunk = size(&task.input) + size(&task.config) + task.idempotency_key.as_ref().map_or(0, |key| key.len() as u64);
            task.input = input;
            task.config = config;
            task.idempotency_key = key;
            instance.bytes = instance.bytes + grown - shrunk;
        });
        Ok(())
    }

    /// The input of a task as JSON text.
    pub(super) fn input_of(&self, instance: &Instance, index: u16) -> Octets {
        let stored = instance.tasks.get(usize::from(index)).and_then(|task| task.input.clone());
        stored.unwrap_or_else(|| default_input(instance, &instance.program.steps[usize::from(index)]))
    }

    /// The config of a task as JSON text.
    pub(super) fn config_of(&self, instance: &Instance, index: u16) -> Octets {
        let stored = instance.tasks.get(usize::from(index)).and_then(|task| task.config.clone());
        stored.or_else(|| instance.program.steps[usize::from(index)].constant_config.clone()).unwrap_or_else(|| Octets::from("null"))
    }

    /// What expressions see of where an instance came from, parsed as far as they read it. Errors: an input that is not JSON.
    pub(super) fn origin_names(&self, instance: &Instance, reads: &Reads) -> Result<OriginNames<'_>, Failure> {
        let origin = &instance.origin;
        let parsed = |read: bool, octets: &Octets, absent: Value| {
            if !read || octets.is_empty() {
                return Ok(absent);
            }
            octets.to_json().ok_or_else(|| Failure::new("bad_input", "the input of the instance is not JSON"))
        };
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
        let program = &*instance.program;
        let step = &program.steps[usize::from(index)];
        let reads = &step.reads;
        let origin = self.origin_names(instance, reads)?;
        let outputs: Vec<(u16, Option<Value>)> = reads
            .tasks
            .iter()
            .map(|index| (*index, instance.tasks[usize::from(*index)].output.as_ref().and_then(Octets::to_json)))
            .collect();
        let tasks = outputs.iter().map(|(index, output)| {
            let task = &instance.tasks[usize::from(*index)];
            let error = task.failure.as_ref().map(|failure| (&*failure.code, &*failure.message));
            (&*program.steps[usize::from(*index)].id, TaskNames { output: output.as_ref(), status: public_status(task.status), error })
        });
        let names = RunNames {
            input: &origin.input,
            params: &origin.params,
            message: origin.message(),
            tasks: tasks.collect(),
            instance_id: &instance.id.to_string(),
            workflow_id: &program.workflow,
            workflow_version: program.version,
            task_id: &step.id,
            attempt: instance.tasks[usize::from(index)].attempt + 1,
        };
        evaluate(&names.scope())
    }
}

/// `{"input": …, "params": …, "tasks": {…}}` put together from texts that are known to be JSON: as `RunNames::default_input` says.
fn default_input(instance: &Instance, step: &Step) -> Octets {
    let or = |octets: &Octets, absent: &'static str| if octets.is_empty() { Octets::from(absent) } else { octets.clone() };
    let mut text = Vec::with_capacity(instance.origin.payload.len() + instance.origin.params.len() + 64);
    text.extend_from_slice(b"{\"input\":");
    text.extend_from_slice(&or(&instance.origin.payload, "null"));
    text.extend_from_slice(b",\"params\":");
    text.extend_from_slice(&or(&instance.origin.params, "{}"));
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

/// The status that expressions see: queues and attempts are no business of theirs.
fn public_status(state: State) -> &'static str {
    match state {
        State::Ready | State::Assigned | State::BackingOff | State::Running => "running",
        other => other.as_str(),
    }
}

fn key_of(value: Value) -> Result<Arc<str>, Failure> {
    let text = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    if text.is_empty() || text.len() > KEY_BYTES_MAX {
        let message = format!("idempotency_key: {} bytes are not within 1 and {KEY_BYTES_MAX}", text.len());
        return Err(Failure::new("expression_error", &message));
    }
    Ok(Arc::from(text))
}

pub(super) fn rfc3339(us: u64) -> Option<String> {
    let instant = jiff::Timestamp::from_microsecond(i64::try_from(us).ok()?).ok()?;
    Some(instant.to_string())
}
