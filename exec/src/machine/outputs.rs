//! Outputs: what an instance returns to whoever runs it, or looks at it.

use distric_model::InstanceId;
use distric_model::limits::TASK_OUTPUT_BYTES_MAX;
use distric_rules::expr::Budget;

use super::Machine;
use super::instances::{Failure, Instance, Task};
use super::rendering::expression_failure;
use super::state::State;
use crate::octets::Octets;

impl Machine {
    /// Renders what an instance returns that is about to complete. One that cannot be rendered fails it.
    pub(super) fn render_output(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Some((output, reads)) = &instance.program.output else { return };
        if instance.verdict.is_some() {
            return;
        }
        let rendered = self.with_all_tasks(instance, reads, |scope| {
            let value = output.render(scope, &mut Budget::default()).map_err(|error| expression_failure("output", &error))?;
            let output = Octets::from(&value);
            let message = format!("what it returns has {} bytes, more than {TASK_OUTPUT_BYTES_MAX}", output.len());
            if output.len() > TASK_OUTPUT_BYTES_MAX { Err(Failure::new("output_too_large", &message)) } else { Ok(output) }
        });
        self.with_instance(id, |instance| {
            instance.bytes -= instance.output.take().map_or(0, |output| output.len() as u64);
            match rendered {
                Ok(output) => {
                    instance.bytes += output.len() as u64;
                    instance.output = Some(output);
                }
                Err(failure) => (instance.verdict, instance.failure) = (Some(State::Failed), Some(failure)),
            }
        });
    }
}

/// What an instance returns: what its definition says, else the output of its last task, or of each of its last tasks by id.
pub(super) fn output_of(instance: &Instance) -> Octets {
    if let Some(output) = &instance.output {
        return output.clone();
    }
    let last = instance.program.steps.iter().zip(&instance.tasks);
    let mut last = last.filter(|(step, _)| step.dependents.is_empty() && step.compensates.is_none());
    let text = |task: &Task| task.output.clone().unwrap_or_else(|| Octets::from("null"));
    match (last.next(), last.next()) {
        (Some((_, only)), None) => text(only),
        (Some(first), Some(second)) => {
            let mut joined = Vec::new();
            for (step, task) in [first, second].into_iter().chain(last) {
                // Ids of tasks are plain names: they need no escapes.
                joined.extend_from_slice(if joined.is_empty() { b"{\"" } else { b",\"" });
                joined.extend_from_slice(step.id.as_bytes());
                joined.extend_from_slice(b"\":");
                joined.extend_from_slice(&text(task));
            }
            joined.push(b'}');
            Octets::from(joined)
        }
        _ => Octets::from("null"),
    }
}
