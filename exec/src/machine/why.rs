//! Why: everything that keeps a task from going on, by name. Computed from the state that apply itself decides by.

use std::sync::Arc;

use distric_model::{Capacity, Needs, TaskId, WorkerId};

use super::Machine;
use super::instances::{Instance, TaskAt};
use super::queries::error_view;
use super::state::State;
use super::tasks::{queue_key, retry_of};
use super::views::{Blocker, WhyView};
use super::workers::Worker;
use crate::resources::{cpu_text, memory_text};

/// Most workers named in one answer.
const WORKERS_NAMED_MAX: usize = 64;

impl Machine {
    /// Why a task is where it is. `None` when there is no such task.
    pub fn why_task(&self, id: TaskId) -> Option<WhyView> {
        let at = self.locate(id)?;
        let instance = self.instances.get(&at.instance)?;
        let task = &instance.tasks[usize::from(at.index)];
        let blockers = match task.status {
            State::Pending => waiting_for(instance, at.index),
            State::Compensating => {
                let undoing = instance.program.steps.iter().filter(|step| step.compensates == Some(at.index));
                vec![Blocker::WaitingForTasks { tasks: undoing.map(|step| step.id.clone()).collect() }]
            }
            State::Ready => self.not_placed(instance, at),
            State::Assigned => task
                .worker
                .zip(task.assigned_at)
                .map(|(worker, since)| Blocker::AssignedTo {
                    worker,
                    since_us: since.as_us(),
                    fencing_token: task.token,
                    timeout_at_us: task.timer.map(|(due, _)| due.as_us()),
                })
                .into_iter()
                .collect(),
            State::BackingOff => task
                .next_attempt_at
                .map(|until| Blocker::BackingOff {
                    until_us: until.as_us(),
                    attempt: task.attempt,
                    max_attempts: retry_of(instance, at.index).max_attempts,
                    error: task.failure.as_ref().map(error_view),
                })
                .into_iter()
                .collect(),
            State::Running if self.awaits_signal(at) => {
                let until_us = task.next_attempt_at.map(distric_model::Timestamp::as_us);
                let awaited = self.awaited(at).map(|(key, _)| Blocker::WaitingForSignal { name: key.name, key: key.key, until_us });
                awaited.into_iter().chain(task.out_seq.map(|seq| Blocker::WaitingForDelivery { seq })).collect()
            }
            State::Running if self.loops.run(at).is_some() => self.waiting_rounds(at),
            State::Running => match (task.out_seq, task.next_attempt_at) {
                (Some(seq), _) => vec![Blocker::WaitingForDelivery { seq }],
                (None, Some(until)) => vec![Blocker::WaitingUntil { until_us: until.as_us() }],
                (None, None) => Vec::new(),
            },
            _ => Vec::new(),
        };
        let mut blockers = blockers;
        if let Some(pause) = instance.pause.as_ref().filter(|_| matches!(task.status, State::Pending | State::BackingOff)) {
            blockers.insert(0, Blocker::Paused { reason: pause.reason.clone() });
        }
        let name = instance.program.steps[usize::from(at.index)].id.clone();
        Some(WhyView { task: id, group: self.group, name, status: task.status.as_str(), blockers })
    }

    fn waiting_rounds(&self, at: TaskAt) -> Vec<Blocker> {
        let Some(run) = self.loops.run(at) else { return Vec::new() };
        vec![Blocker::WaitingForInstances {
            instances: run.open.values().copied().take(super::ROUNDS_NAMED_MAX).collect(),
            completed: run.completed_count,
            failed: run.failed_count,
            ending: run.stop.as_ref().map(|stop| error_view(&stop.failure)),
        }]
    }

    /// What none of these workers has room for, with the one that comes nearest.
    fn no_room(&self, needs: Needs, workers: &[WorkerId]) -> Blocker {
        let measures = [Measure { needed: needs.cpu_millis, ..CPU }, Measure { needed: needs.memory_mib, ..MEMORY }];
        let known: Vec<&Worker> = workers.iter().filter_map(|id| self.workers.get(*id)).collect();
        let lacks = measures.iter().filter_map(|measure| lack_of(measure, &known)).collect::<Vec<_>>();
        let message = if lacks.is_empty() {
            let wanted: Vec<String> =
                measures.iter().map(|measure| format!("{}{}", (measure.text)(measure.needed), measure.name)).collect();
            format!("needs {}; no worker has both free", wanted.join(" and "))
        } else {
            lacks.join("; ")
        };
        Blocker::NoRoom { needs, message: Arc::from(message) }
    }

    fn not_placed(&self, instance: &Instance, at: TaskAt) -> Vec<Blocker> {
        let class = instance.program.steps[usize::from(at.index)].class;
        let key = self.queues.key(class);
        let no_labels = std::collections::BTreeMap::new();
        let offering: Vec<(WorkerId, bool)> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.offers(&key.task_type, &no_labels))
            .map(|(id, worker)| (*id, worker.offers(&key.task_type, &key.labels)))
            .collect();
        let labelled: Vec<WorkerId> = offering.iter().filter(|(_, is_eligible)| *is_eligible).map(|(id, _)| *id).collect();
        let is_met = |id: &WorkerId| self.workers.get(*id).is_some_and(|worker| self.queues.is_met_by(class, *id, worker));
        let eligible: Vec<WorkerId> = labelled.iter().copied().filter(is_met).collect();
        let of = |wanted: &dyn Fn(WorkerId) -> bool| {
            eligible.iter().copied().filter(|id| wanted(*id)).take(WORKERS_NAMED_MAX).collect::<Vec<_>>()
        };
        let is_draining = |id: WorkerId| self.workers.get(id).is_some_and(|worker| worker.is_draining);
        let mut blockers = Vec::new();
        if offering.is_empty() {
            blockers.push(Blocker::NoWorkerOffersType { task_type: key.task_type.clone() });
        } else if let (Some(condition), false, true) =
            (key.demands.as_ref().and_then(|demands| demands.condition.clone()), labelled.is_empty(), eligible.is_empty())
        {
            blockers.push(Blocker::NoWorkerFulfils { condition, offering_count: labelled.len() });
        } else if eligible.is_empty() {
            let labels = key.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            blockers.push(Blocker::NoWorkerWithLabels { labels, offering_count: offering.len() });
        } else {
            let draining = of(&is_draining);
            let busy = of(&|id| !is_draining(id) && !self.workers.has_free_credit(id));
            let free: Vec<WorkerId> = eligible.iter().copied().filter(|id| self.workers.has_free_credit(*id)).collect();
            let has_room = |id: &WorkerId| self.workers.get(*id).is_some_and(|worker| worker.room().fits(key.needs()));
            if free.iter().any(has_room) {
                blockers.push(Blocker::Placing);
            } else if !eligible.iter().any(has_room) {
                blockers.push(self.no_room(key.needs(), &eligible));
            }
            if !draining.is_empty() {
                blockers.push(Blocker::WorkersDraining { workers: draining });
            }
            if !busy.is_empty() {
                blockers.push(Blocker::NoCredit { workers: busy });
            }
        }
        // Where it has been before: the last thing that its history says of it.
        let before = instance.history.iter().filter(|transition| transition.task == Some(at.index)).last();
        if let Some(reason) = before.filter(|transition| transition.to == State::Ready).and_then(|transition| transition.reason.clone()) {
            blockers.push(Blocker::CameBack { reason });
        }
        let ahead_count = self.queues.ahead_count(class, queue_key(instance, at.index));
        if ahead_count > 0 {
            blockers.push(Blocker::Queued { ahead_count });
        }
        blockers
    }
}

/// One of the two things that workers have to a measure.
struct Measure {
    needed: u64,
    text: fn(u64) -> String,
    name: &'static str,
    of: fn(&Capacity) -> Option<u64>,
}

const CPU: Measure = Measure { needed: 0, text: cpu_text, name: "", of: |capacity| capacity.cpu_millis };
const MEMORY: Measure = Measure { needed: 0, text: memory_text, name: " memory", of: |capacity| capacity.memory_mib };

/// A sentence, when no worker has enough of this; of those with equally much, about the first.
fn lack_of(measure: &Measure, workers: &[&Worker]) -> Option<String> {
    let most = |of: &dyn Fn(&Worker) -> Capacity| {
        // Who does not limit it has enough.
        let amounts = workers.iter().map(|worker| ((measure.of)(&of(worker)).unwrap_or(u64::MAX), &worker.name));
        amounts.reduce(|best, next| if next.0 > best.0 { next } else { best })
    };
    let (free, freest) = most(&Worker::room)?;
    if measure.needed <= free {
        return None;
    }
    let (all, largest) = most(&|worker| worker.capacity)?;
    let (text, name) = (measure.text, measure.name);
    Some(if measure.needed > all {
        format!("needs {}{name}, the most that a worker has is {} on {largest}", text(measure.needed), text(all))
    } else {
        format!("needs {}{name}, the most free is {} on {freest}", text(measure.needed), text(free))
    })
}

fn waiting_for(instance: &Instance, index: u16) -> Vec<Blocker> {
    let step = &instance.program.steps[usize::from(index)];
    let open = step.depends_on.iter().filter(|dependency| !instance.tasks[usize::from(**dependency)].status.is_end());
    let tasks: Vec<_> = open.map(|dependency| instance.program.steps[usize::from(*dependency)].id.clone()).collect();
    if tasks.is_empty() { vec![Blocker::Placing] } else { vec![Blocker::WaitingForTasks { tasks }] }
}
