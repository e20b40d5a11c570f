//! Random stories: any log, however strange, with what must hold after each entry of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use distric_exec::command::*;
use distric_exec::{Effect, Octets, Reply, Settings};
use distric_model::{Capacity, Elsewhere, GroupId, InstanceId, Needs, Slot, TaskId, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What a random story does next. Small numbers, so that things meet.
#[derive(Clone, Debug)]
pub enum Step {
    Send {
        workflow: u8,
        key: Option<u8>,
        hash: u8,
        delay: bool,
    },
    Start {
        workflow: u8,
        key: Option<u8>,
    },
    Up {
        worker: u8,
        generation: u8,
        slots: u8,
        types: u8,
    },
    Credit {
        worker: u8,
        generation: u8,
        amount: i8,
    },
    Down {
        worker: u8,
        generation: u8,
    },
    Drain {
        worker: u8,
        drain: bool,
    },
    /// Reports on one of the assignments ever made: late, twice, or in time.
    Report {
        which: u8,
        outcome: u8,
        renew: bool,
        attempt: u8,
    },
    Garbage {
        task: u64,
        token: u8,
    },
    Cancel {
        which: u8,
    },
    Pass {
        ms: u32,
    },
    Back,
    Tick,
    Continue,
    Deliver {
        which: u8,
    },
    Ack {
        which: u8,
        accept: bool,
    },
    Configure {
        bytes: u16,
        finished: u8,
    },
    Define {
        workflow: u8,
    },
    /// Pause, resume, or retry in one of two versions.
    Operate {
        which: u8,
        operation: u8,
    },
    /// A signal by one of two keys, or to one of the instances.
    Signal {
        which: u8,
        keyed: bool,
        ttl: u8,
        key: Option<u8>,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    let key = || proptest::option::of(0_u8..4);
    prop_oneof![
        8 => (0_u8..11, key(), 0_u8..2, any::<bool>()).prop_map(|(workflow, key, hash, delay)| Step::Send { workflow, key, hash, delay }),
        1 => (0_u8..11, key()).prop_map(|(workflow, key)| Step::Start { workflow, key }),
        2 => (0_u8..3, 0_u8..3, 0_u8..5, 0_u8..3).prop_map(|(worker, generation, slots, types)| Step::Up { worker, generation, slots, types }),
        4 => (0_u8..3, 0_u8..3, -4_i8..8).prop_map(|(worker, generation, amount)| Step::Credit { worker, generation, amount }),
        1 => (0_u8..3, 0_u8..3).prop_map(|(worker, generation)| Step::Down { worker, generation }),
        1 => (0_u8..3, any::<bool>()).prop_map(|(worker, drain)| Step::Drain { worker, drain }),
        10 => (any::<u8>(), 0_u8..5, any::<bool>(), 0_u8..8)
            .prop_map(|(which, outcome, renew, attempt)| Step::Report { which, outcome, renew, attempt }),
        1 => (any::<u64>(), any::<u8>()).prop_map(|(task, token)| Step::Garbage { task, token }),
        1 => any::<u8>().prop_map(|which| Step::Cancel { which }),
        3 => (0_u32..40_000).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Back),
        4 => Just(Step::Tick),
        2 => Just(Step::Continue),
        2 => any::<u8>().prop_map(|which| Step::Deliver { which }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, accept)| Step::Ack { which, accept }),
        1 => (any::<u16>(), 0_u8..10).prop_map(|(bytes, finished)| Step::Configure { bytes, finished }),
        1 => (0_u8..11).prop_map(|workflow| Step::Define { workflow }),
        3 => (any::<u8>(), 0_u8..5).prop_map(|(which, operation)| Step::Operate { which, operation }),
        2 => (any::<u8>(), any::<bool>(), 0_u8..30, key()).prop_map(|(which, keyed, ttl, key)| Step::Signal { which, keyed, ttl, key }),
    ]
}

/// What the most demanding task of [`definition`] needs: whoever has room for it has room for all of them.
const MOST_NEEDED: Needs = Needs { cpu_millis: 0, memory_mib: 1_024 };

pub fn definition(workflow: u8) -> Value {
    let retry = json!({"max_attempts": 2, "initial_backoff": "1s", "jitter": 0.5});
    let tasks = match workflow {
        0 => json!([job("a", &[])]),
        1 => json!([job("a", &[]), job("b", &["a"]), job("c", &["a"]), job("d", &["b", "c"])]),
        2 => json!([
            job_with("a", &[], json!({"retry": retry, "timeout": "2s"})),
            job_with("b", &["a"], json!({"when": "tasks.a.output.ok == true", "type": "other", "critical": false})),
            job_with("c", &["a", "b"], json!({"join": "all_done", "config": {"n": "${attempt}"}})),
        ]),
        3 => json!([
            {"id": "p", "type": "publish", "config": {"event_type": "e", "payload": {"x": 1}}},
            {"id": "w", "type": "wait", "config": {"duration": "3s"}},
            job_with("a", &["p", "w"], json!({"join": "any", "placement": {"strategy": "round_robin"}, "resources": {"memory": "1GiB"}})),
        ]),
        5 => {
            let undo = json!({"type": "job", "retry": retry, "timeout": "2s"});
            let publish = json!({"type": "publish", "config": {"event_type": "undo", "payload": "${tasks.b.output}"}});
            let tasks = json!([
                job_with("a", &[], json!({"compensate": undo, "timeout": "2s"})),
                job_with("b", &["a"], json!({"compensate": publish})),
                job_with("c", &["a"], json!({"compensate": undo})),
                job("d", &["b", "c"]),
            ]);
            return json!({"id": "w5", "timeout": "20s", "on_failure": "compensate", "tasks": tasks});
        }
        6 => json!([
            {"id": "s", "type": "wait_for_signal", "config": {"name": "go", "key": "k${input.n}", "timeout": "9s"}, "critical": false},
            {"id": "own", "type": "wait_for_signal", "config": {"name": "go"}},
            job_with("a", &["s", "own"], json!({"join": "any", "config": {"got": "${tasks.s.output}"}})),
        ]),
        7 => {
            let key = "k${default(input.n, 'none')}";
            return json!({"id": "w7", "timeout": "20s", "tasks": [job_with("a", &[], json!({"placement": {"affinity_key": key}, "resources": {"memory": "600MiB"}}))],
                "concurrency": {"key": key, "limit": 1, "when_full": "cancel_oldest"}, "rate_limit": {"limit": 2, "per": "5s"},
                "fairness": {"key": key, "weight": 3}});
        }
        8 => {
            return json!({"id": "w8", "timeout": "20s", "tasks": [job("a", &[])], "batch": {"max_items": 2, "max_wait": "4s"},
                "concurrency": {"limit": 2}});
        }
        9 => {
            let undo = json!({"type": "job", "retry": retry, "timeout": "2s"});
            let body = json!([job_with("a", &[], json!({"compensate": undo, "timeout": "2s", "config": {"i": "${item}"}}))]);
            let each = json!({"id": "each", "type": "for_each", "config": {"items": [1, 2, 3], "max_parallel": 2, "tasks": body}});
            let tasks = json!([each, job_with("b", &["each"], json!({"timeout": "3s"}))]);
            return json!({"id": "w9", "timeout": "20s", "on_failure": "compensate", "tasks": tasks});
        }
        10 => {
            let body = json!([job_with("a", &[], json!({"timeout": "2s", "input": "${state}"}))]);
            let config = json!({"initial": 0, "condition": "state < 3", "max_iterations": 4, "tasks": body, "output": "${state + 1}"});
            let each = json!({"items": "${[input, 7]}", "workflow": "w0", "on_item_failure": "ignore"});
            let tasks = json!([
                {"id": "b", "type": "while", "config": config, "retry": retry},
                {"id": "s", "type": "sub_workflow", "config": {"workflow": "w0"}, "depends_on": ["b"], "critical": false, "timeout": "5s"},
                {"id": "f", "type": "for_each", "config": each, "depends_on": ["b"]},
            ]);
            return json!({"id": "w10", "timeout": "20s", "on_failure": {"workflow": "w1"}, "tasks": tasks});
        }
        _ => json!([
            {"id": "b", "type": "branch", "config": {"cases": [{"when": "input.n > 1", "name": "x"}], "default": "y"}},
            {"id": "f", "type": "fail", "config": {"message": "no"}, "depends_on": ["b"], "when": "tasks.b.output.branch == 'x'"},
            job_with("a", &["b"], json!({"when": "input.absent"})),
        ]),
    };
    json!({"id": format!("w{workflow}"), "timeout": "20s", "tasks": tasks})
}

/// What a workflow may come to call.
fn pins(workflow: u8) -> Vec<(Arc<str>, u64)> {
    if workflow == 10 { vec![(Arc::from("w0"), 1), (Arc::from("w1"), 1)] } else { Vec::new() }
}

pub struct Story {
    pub world: World,
    /// Characters that every payload has beside its number.
    pub payload_padding: usize,
    assignments: Vec<distric_exec::Assignment>,
    instances: Vec<InstanceId>,
    outs: Vec<Arc<distric_exec::Out>>,
    accepted: BTreeSet<TaskId>,
}

impl Story {
    /// What some worker says of others now.
    fn elsewhere(&self, memory_mib: u64) -> Elsewhere {
        Elsewhere { number: self.world.log.len() as u64, taken: Needs { cpu_millis: 0, memory_mib } }
    }

    /// A story whose workflows are mostly known and that has a worker.
    pub fn begin() -> Self {
        let mut story = Self {
            world: World::new(),
            payload_padding: 0,
            assignments: Vec::new(),
            instances: Vec::new(),
            outs: Vec::new(),
            accepted: BTreeSet::new(),
        };
        for workflow in [0, 1, 2, 3, 5, 6, 7, 8, 9, 10] {
            story.tell(&Step::Define { workflow });
        }
        story.tell(&Step::Up { worker: 0, generation: 0, slots: 4, types: 1 });
        story.tell(&Step::Credit { worker: 0, generation: 0, amount: 4 });
        story
    }

    fn command(&mut self, step: &Step) -> Option<Command> {
        let pick = |which: u8, count: usize| usize::from(which) % count.max(1);
        Some(match step {
            Step::Send { workflow, key, hash, delay } => {
                let mut message = self.world.message(json!({"n": hash, "padding": "x".repeat(self.payload_padding)}));
                message.actions = vec![action(&format!("w{workflow}"))];
                message.actions[0].pins = pins(*workflow);
                message.actions[0].delay_ms = if *delay { 2_000 } else { 0 };
                message.payload_hash = u64::from(*hash);
                message.idempotency_key = key.map(|key| Arc::from(format!("k{key}")));
                Command::Ingest(Box::new(message))
            }
            Step::Start { workflow, key } => Command::Start(Box::new(Start {
                namespace: namespace(),
                slot: Slot::truncate(3),
                workflow: Arc::from(format!("w{workflow}")),
                version: 1,
                input: Octets::from(&json!("z".repeat(self.payload_padding))),
                idempotency_key: key.map(|key| Arc::from(format!("k{key}"))),
                payload_hash: 0,
                timeout_ms: None,
                retry: None,
                delay_ms: 0,
                traceparent: None,
                received_us: 0,
                pins: pins(*workflow),
            })),
            Step::Up { worker, generation, slots, types } => {
                // Two of three states its memory: about as much as the tasks of two slots need.
                let capacity = Capacity { cpu_millis: None, memory_mib: (*worker != 0).then(|| u64::from(*slots) * 600) };
                let types: &[&str] = [&["job"][..], &["job", "other"], &["other"]][usize::from(*types)];
                let up = session(u64::from(*worker), u64::from(*generation), u32::from(*slots), types, &[]);
                Command::WorkerUp(Box::new(WorkerUp { capacity, ..up }))
            }
            Step::Credit { worker: who, generation, amount } => Command::WorkerCredit(WorkerCredit {
                worker: worker(u64::from(*who)),
                generation: u64::from(*generation),
                amount: i64::from(*amount),
                elsewhere: (*amount % 2 == 0).then(|| self.elsewhere(u64::from(*generation) * 500)),
            }),
            Step::Down { worker: who, generation } => {
                Command::WorkerDown(WorkerDown { worker: worker(u64::from(*who)), generation: u64::from(*generation) })
            }
            Step::Drain { worker: who, drain } => Command::WorkerDrain(WorkerDrain { worker: worker(u64::from(*who)), drain: *drain }),
            Step::Report { which, outcome, renew, attempt } => {
                let assignment = self.assignments.get(pick(*which, self.assignments.len()))?;
                let outcome = match outcome {
                    0 | 1 => completed(json!({"ok": outcome, "padding": "y".repeat(self.payload_padding)})),
                    2 => failed(),
                    3 => TaskOutcome::Returned { reason: "no".into() },
                    _ => TaskOutcome::Completed { output: Octets::from("{") },
                };
                // Now and then a worker lies about the attempt.
                let attempt = if *attempt == 7 { assignment.attempt + 1 } else { assignment.attempt };
                let (task, fencing_token) = (assignment.task, assignment.fencing_token);
                let elsewhere = matches!(outcome, TaskOutcome::Returned { .. }).then(|| self.elsewhere(900));
                Command::TaskDone(Box::new(TaskDone { task, attempt, fencing_token, outcome, renew_credit: *renew, elsewhere }))
            }
            Step::Garbage { task, token } => Command::TaskDone(Box::new(TaskDone {
                task: TaskId::new(Timestamp::from_us(*task >> 8), Slot::truncate(*task as u16), *task),
                attempt: 1,
                fencing_token: u64::from(*token),
                outcome: completed(json!(1)),
                renew_credit: true,
                elsewhere: Some(self.elsewhere(700)),
            })),
            Step::Cancel { which } => {
                let instance = *self.instances.get(pick(*which, self.instances.len()))?;
                Command::Cancel(Cancel { namespace: namespace(), instance, reason: "r".into() })
            }
            Step::Operate { which, operation } => {
                let instance = *self.instances.get(pick(*which, self.instances.len()))?;
                let input = Octets::from(&json!({"n": 2, "padding": "i".repeat(self.payload_padding)}));
                let operation = match operation {
                    0 => Operation::Pause,
                    1 => Operation::Resume,
                    2 => Operation::Retry { from: None, input: Some(input), version: None, pins: Vec::new() },
                    3 => Operation::Retry { from: Some(Arc::from("b")), input: None, version: None, pins: Vec::new() },
                    _ => Operation::Retry { from: None, input: None, version: Some(2), pins: Vec::new() },
                };
                Command::Operate(Box::new(Operate { namespace: namespace(), instance, operation, reason: "o".into() }))
            }
            Step::Signal { which, keyed, ttl, key } => Command::Signal(Box::new(Signal {
                namespace: namespace(),
                name: Arc::from("go"),
                key: keyed.then(|| Arc::from(format!("k{}", which % 2))),
                instance: if *keyed { None } else { Some(*self.instances.get(pick(*which, self.instances.len()))?) },
                payload: Octets::from(&json!({"which": which, "padding": "s".repeat(self.payload_padding)})),
                ttl_ms: Some(u64::from(*ttl) * 1_000),
                idempotency_key: key.map(|key| Arc::from(format!("s{key}"))),
                payload_hash: 0,
            })),
            Step::Pass { ms } => {
                self.world.now = self.world.now.plus_ms(u64::from(*ms));
                return None;
            }
            Step::Back => {
                self.world.now = Timestamp::from_us(self.world.now.as_us().saturating_sub(5_000_000));
                return None;
            }
            Step::Tick => Command::Tick,
            Step::Continue => Command::Continue,
            Step::Deliver { which } => {
                let out = self.outs.get(pick(*which, self.outs.len()))?.clone();
                let distric_exec::OutBody::Publish(published) = &out.body else {
                    return Some(Command::Relay(Box::new(Relay {
                        from: GroupId(1),
                        seq: out.seq,
                        body: out.body.clone(),
                        floor: out.floor,
                    })));
                };
                let mut body = self.world.message(json!(1));
                body.message_id = published.message_id;
                body.payload_hash = 9;
                body.idempotency_key = Some(published.idempotency_key.clone());
                body.hops = published.hops;
                body.actions = vec![action("w3")];
                Command::In(Box::new(In { from: GroupId(1), seq: out.seq, body, floor: out.floor }))
            }
            Step::Ack { which, accept } => {
                let seq = self.outs.get(pick(*which, self.outs.len())).map_or(9, |out| out.seq);
                let message_id = self.world.message(json!(1)).message_id;
                let refused = OutResult::Refused { code: "c".into(), reason: "r".into() };
                let accepted = OutResult::Accepted { message_id, instances: Vec::new() };
                Command::OutAck(OutAck { seq, result: if *accept { accepted } else { refused } })
            }
            Step::Configure { bytes, finished } => Command::Configure(Settings {
                state_bytes_max: 20_000 + u64::from(*bytes),
                dedupe_bytes_max: 1_000,
                history_instances_max: u64::from(*finished),
                history_retention_ms: 30_000,
                dedupe_window_ms: 20_000,
                ..Settings::default()
            }),
            Step::Define { workflow } => {
                let body = Octets::from(&definition(*workflow));
                Command::Define(Define { namespace: namespace(), workflow: Arc::from(format!("w{workflow}")), version: 1, body })
            }
        })
    }

    pub fn tell(&mut self, step: &Step) {
        let Some(command) = self.command(step) else { return };
        let first = self.world.effects.len();
        self.world.draw = self.world.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let reported = match &command {
            Command::TaskDone(done) => Some(done.task).filter(|_| matches!(done.outcome, TaskOutcome::Completed { .. })),
            _ => None,
        };
        if let Command::Operate(operate) = &command {
            // A retry has tasks done anew: their results are accepted once more.
            let mut instances = vec![operate.instance];
            while let Some(instance) = instances.pop() {
                for task in self.world.machine.instance(instance).map_or_else(Vec::new, |view| view.tasks) {
                    self.accepted.remove(&task.id);
                    instances.extend(task.rounds.into_iter().flat_map(|rounds| rounds.instances));
                }
            }
        }
        let open_before = reported.and_then(|task| self.world.machine.task(task)).is_some_and(|task| task.output.is_none());
        self.world.apply_once(command);
        let is_accepted = |task: &TaskId| self.world.machine.task(*task).is_some_and(|task| task.output.is_some());
        if let Some(task) = reported.filter(|_| open_before).filter(is_accepted) {
            assert!(self.accepted.insert(task), "two results of {task} were accepted");
        }
        for effect in &self.world.effects[first..] {
            match effect {
                Effect::Dispatch(assignment) => self.assignments.push((**assignment).clone()),
                Effect::Reply(Reply::Accepted { instances, .. }) => self.instances.extend(instances.iter().map(|(_, id)| *id)),
                Effect::Reply(Reply::Started { instance, .. }) => self.instances.push(*instance),
                Effect::Out(out) => self.outs.push(out.clone()),
                _ => {}
            }
        }
        self.assert_invariants();
    }

    fn assert_invariants(&self) {
        let machine = &self.world.machine;
        let workers = machine.workers_view();
        for worker in &workers {
            assert!(worker.credit_in_use <= worker.credit_granted, "{worker:?}");
            assert!(worker.credit_granted <= (worker.slots + worker.prefetch).max(worker.credit_in_use), "{worker:?}");
            let leases = machine.assigned_to(worker.id).len() + machine.cancelled_on(worker.id).len();
            assert_eq!(leases, worker.credit_in_use as usize, "{worker:?}");
            for (task, token) in machine.assigned_to(worker.id) {
                let again = machine.redispatch(task, token).expect("what is assigned can be dispatched again");
                assert_eq!((again.worker, machine.task(task).unwrap().status), (worker.id, "assigned"));
            }
        }
        let mut tasks = Vec::new();
        let mut cursor = None;
        loop {
            let page = machine.tasks(&Default::default(), cursor, 1_000);
            tasks.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next.parse().expect("a cursor is an id")),
                None => break,
            }
        }
        let ready = tasks.iter().filter(|task| task.status == "ready").count();
        assert_eq!(ready, machine.ready_backlog() as usize);
        if !machine.wants_continue() {
            // No task waits while somebody could take it.
            for task in tasks.iter().filter(|task| task.status == "ready") {
                let idle = workers.iter().any(|worker| {
                    let room = worker.capacity.without(worker.held.plus(worker.elsewhere));
                    worker.status == "up"
                        && worker.credit_granted > worker.credit_in_use
                        && worker.task_types.contains(&task.task_type)
                        && room.fits(MOST_NEEDED)
                });
                assert!(!idle, "{} waits while a worker is idle", task.id);
            }
            let assigned = tasks.iter().filter(|task| task.status == "assigned").count();
            let leased: usize = workers.iter().map(|worker| machine.assigned_to(worker.id).len()).sum();
            assert_eq!(assigned, leased, "every assigned task has a live lease");
        }
        for instance in machine.instances(&Default::default(), None, 1_000).items {
            let ended = instance.ended_at_us.is_some();
            let view = machine.instance(instance.id).unwrap();
            let open = view.tasks.iter().any(|task| task.ended_at_us.is_none());
            assert!(!(ended && open), "{} ended with open tasks", instance.id);
        }
    }
}
