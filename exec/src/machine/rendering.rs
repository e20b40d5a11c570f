//! Rendering: conditions, inputs and configs of tasks, from what the instance holds.
//!
//! Only what an expression reads is parsed. An input that is not written out is put together from texts, without parsing, when it is asked for.

use std::sync::Arc;

use distric_model::limits::{INSTANCE_BYTES_MAX, KEY_BYTES_MAX};
use distric_rules::expr::{Budget, ExprError};
use serde_json::Value;

use super::Machine;
use super::instances::{Failure, Instance, TaskAt};
use crate::definition::{Join, Work};
use crate::octets::Octets;

/// What went wrong in an expression, as the failure of its task.
pub(super) fn expression_failure(member: &str, error: &ExprError) -> Failure {
    Failure::new("expression_error", &format!("{member}: {error}"))
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
            input = Some(self.default_input(instance, step));
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
        stored.unwrap_or_else(|| self.default_input(instance, &instance.program.steps[usize::from(index)]))
    }

    /// The config of a task as JSON text.
    pub(super) fn config_of(&self, instance: &Instance, index: u16) -> Octets {
        let stored = instance.tasks.get(usize::from(index)).and_then(|task| task.config.clone());
        stored.or_else(|| instance.program.steps[usize::from(index)].constant_config.clone()).unwrap_or_else(|| Octets::from("null"))
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
