//! What people see of gates: why an instance waits, and what a key holds.

use super::gates::Stand;
use super::{GateKey, door::PassStep};
use crate::machine::Machine;
use crate::machine::instances::Instance;
use crate::machine::state::State;
use crate::machine::views::{Blocker, GateView, WhyInstanceView};
use distric_model::InstanceId;

/// Most open tasks that the answer for an instance explains.
const TASKS_EXPLAINED_MAX: usize = 64;

impl Machine {
    /// Why an instance is where it is: its own blockers, and those of its open tasks. `None` when there is no such instance.
    pub fn why_instance(&self, id: InstanceId) -> Option<WhyInstanceView> {
        let instance = self.instances.get(&id)?;
        let mut blockers = Vec::new();
        if let Some(pause) = &instance.pause {
            blockers.push(Blocker::Paused { reason: pause.reason.clone() });
        }
        match instance.status {
            State::Scheduled => blockers.push(match instance.timer {
                Some((due, _)) => Blocker::WaitingUntil { until_us: due.as_us() },
                None => Blocker::Placing,
            }),
            State::Queued => blockers.push(waiting_for_key(instance)),
            _ => {}
        }
        let is_running = matches!(instance.status, State::Running | State::Compensating);
        let open = (0..instance.tasks.len() as u16)
            .filter(|_| is_running)
            .filter(|index| super::super::compensation::is_open(&instance.program, &instance.tasks, *index));
        let tasks = open.filter_map(|index| self.why_task(super::super::instances::TaskAt { instance: id, index }.id()));
        Some(WhyInstanceView {
            instance: id,
            group: self.group(),
            status: super::super::queries::public_status(instance),
            tasks: tasks.take(TASKS_EXPLAINED_MAX).collect(),
            blockers,
        })
    }

    /// What a key whose home is here holds, for the instance that asks. `None`: nothing is known of the key.
    pub fn gate_view(&self, key: &GateKey, instance: Option<InstanceId>) -> Option<GateView> {
        let number = self.gates.number_of(key)?;
        let gate = self.gates.gate(number)?;
        let own = instance.and_then(|instance| self.gates.find(instance, number));
        let waiting = self.gates.standing(number, Stand::Waiting);
        let inside = self.gates.standing(number, Stand::Inside).chain(self.gates.standing(number, Stand::Ending));
        let ids = inside.filter_map(|number| Some(self.gates.asker(number)?.instance));
        Some(GateView {
            rule: gate.rule.name(),
            key: gate.key.key.clone(),
            limit: gate.rule.limit(),
            inside_count: self.gates.inside_count(number),
            inside: ids.take(INSTANCES_NAMED_MAX).collect(),
            waiting_count: self.gates.count(number, Stand::Waiting),
            ahead_count: own.map(|own| waiting.take_while(|number| *number < own).count()),
            next_at_us: gate.timer.map(|(due, _)| due.as_us()),
        })
    }
}

/// Most instances named in one answer.
const INSTANCES_NAMED_MAX: usize = 16;

fn waiting_for_key(instance: &Instance) -> Blocker {
    match instance.door.as_ref().and_then(|door| door.current()) {
        Some((_, pass)) => Blocker::WaitingForKey {
            rule: pass.rule.name(),
            key: pass.gate.key.clone(),
            at: pass.gate.clone(),
            is_asked: pass.step == PassStep::Asked,
            gate: None,
        },
        None => Blocker::Placing,
    }
}
