//! A small world around one machine: a log, a clock, workers by number, and a trace of what happened.
//!
//! Every command goes through the form of the log, and the log is kept, so that any story can be told again to a second machine.

#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod story;

use std::sync::Arc;

use distric_exec::command::{
    Cancel, Command, Define, Ingest, OutAck, Relay, StartAction, TaskDone, TaskOutcome, WorkerCredit, WorkerDown, WorkerDrain, WorkerUp,
};
use distric_exec::machine::views::{InstanceView, TaskView};
use distric_exec::{Assignment, Context, Effect, Event, InResult, Machine, Octets, Out, Reply, Settings, Verdict};
use distric_model::{Capacity, Elsewhere, GroupId, InstanceId, MessageId, Namespace, Needs, Slot, TaskId, Timestamp, WorkerId};
use serde_json::{Value, json};

/// Machine time at the start: not zero, so that a forgotten conversion shows.
pub const START_MS: u64 = 1_700_000_000_000;

pub struct World {
    pub machine: Machine,
    pub now: Timestamp,
    pub log: Vec<(Context, Vec<u8>)>,
    pub effects: Vec<Effect>,
    /// Assignments not yet answered, in order of dispatch.
    pub inbox: Vec<Assignment>,
    pub cancels: Vec<(WorkerId, TaskId, u64)>,
    pub events: Vec<Event>,
    /// The draw of the next entry.
    pub draw: u64,
    messages_count: u64,
    /// How many of `effects` were looked at for outbox records.
    carried_count: usize,
}

pub fn namespace() -> Namespace {
    Namespace::default()
}

pub fn worker(number: u64) -> WorkerId {
    WorkerId::new(Timestamp::from_us(1), Slot::truncate(0), number)
}

/// A settled middle: backoffs are not moved by jitter.
pub const DRAW_MIDDLE: u64 = 1 << 63;

impl World {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        Self::of_group(GroupId(1), settings)
    }

    pub fn of_group(group: GroupId, settings: Settings) -> Self {
        Self {
            machine: Machine::new(group, settings),
            now: Timestamp::from_us(START_MS * 1_000),
            log: Vec::new(),
            effects: Vec::new(),
            inbox: Vec::new(),
            cancels: Vec::new(),
            events: Vec::new(),
            draw: DRAW_MIDDLE,
            messages_count: 0,
            carried_count: 0,
        }
    }

    /// The outbox records that were not taken yet.
    pub fn take_outs(&mut self) -> Vec<Arc<Out>> {
        let outs = self.effects[self.carried_count..].iter().filter_map(|effect| match effect {
            Effect::Out(out) => Some(out.clone()),
            _ => None,
        });
        let outs = outs.collect();
        self.carried_count = self.effects.len();
        outs
    }

    /// Applies a record of another world's outbox. Returns what became of it.
    pub fn relay(&mut self, from: GroupId, out: &Out) -> InResult {
        self.apply(Command::Relay(Box::new(Relay { from, seq: out.seq, body: out.body.clone(), floor: out.floor })));
        let applied = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::InApplied { result, .. } => Some(result.clone()),
            _ => None,
        });
        applied.expect("a relay is looked at")
    }

    /// Applies one command and returns its reply.
    pub fn apply_once(&mut self, command: Command) -> Option<Reply> {
        let bytes = command.encode();
        let decoded = Command::decode(&bytes).expect("what was encoded decodes");
        assert_eq!(decoded, command);
        let at = Context { index: self.log.len() as u64 + 1, stamp: self.now, draw: self.draw };
        self.log.push((at, bytes));
        let first = self.effects.len();
        self.machine.apply(at, decoded, &mut self.effects);
        let mut replies = Vec::new();
        for effect in &self.effects[first..] {
            match effect {
                Effect::Reply(reply) => replies.push(reply.clone()),
                Effect::Dispatch(assignment) => self.inbox.push((**assignment).clone()),
                Effect::CancelTask { worker, task, fencing_token } => self.cancels.push((*worker, *task, *fencing_token)),
                Effect::Event(event) => self.events.push((**event).clone()),
                _ => {}
            }
        }
        assert!(replies.len() <= 1, "{command:?} was answered {} times", replies.len());
        replies.pop()
    }

    /// Applies one command, then continues as long as the machine wants, as a leader does.
    pub fn apply(&mut self, command: Command) -> Option<Reply> {
        let reply = self.apply_once(command);
        while self.machine.wants_continue() {
            self.apply_once(Command::Continue);
        }
        reply
    }

    /// Lets time pass, firing every timer at its own time.
    pub fn advance_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while let Some(due) = self.machine.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.apply(Command::Tick);
        }
        self.now = end;
    }

    pub fn define(&mut self, definition: Value) -> Reply {
        let workflow = Arc::from(definition["id"].as_str().expect("a definition in a test has an id"));
        let define = Define { namespace: namespace(), workflow, version: 1, body: Octets::from(&definition) };
        self.apply(Command::Define(define)).expect("a Define is answered")
    }

    /// Defines a workflow `w` of these tasks.
    pub fn workflow(&mut self, tasks: Value) {
        assert_eq!(self.define(json!({ "id": "w", "tasks": tasks })), Reply::Done);
    }

    pub fn message(&mut self, payload: Value) -> Ingest {
        self.messages_count += 1;
        let key = format!("message-{}", self.messages_count);
        let slot = Slot::of("default", key.as_bytes());
        Ingest {
            namespace: namespace(),
            message_id: MessageId::new(self.now, slot, self.messages_count),
            event_type: Some(Arc::from("payment")),
            source: Some(Arc::from("test")),
            timestamp_us: Some(START_MS * 1_000),
            headers: vec![("x-tenant".into(), "t1".into())],
            content_type: None,
            payload: Octets::from(&payload),
            derived: None,
            routing_key: None,
            idempotency_key: None,
            payload_hash: self.messages_count,
            traceparent: None,
            received_us: self.now.as_us(),
            catalog_version: 7,
            rules: vec![Arc::from("r1")],
            actions: vec![action("w")],
            hops: 0,
        }
    }

    pub fn ingest(&mut self, ingest: Ingest) -> Reply {
        self.apply(Command::Ingest(Box::new(ingest))).expect("an Ingest is answered")
    }

    /// Sends a message that starts `w`, and returns the instance.
    pub fn start(&mut self, payload: Value) -> InstanceId {
        let message = self.message(payload);
        match self.ingest(message) {
            Reply::Accepted { instances, repeat: false, .. } => instances[0].1,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Sends a message that starts `w`, with these versions of the workflows that it calls.
    pub fn start_calling(&mut self, payload: Value, pins: &[(&str, u64)]) -> InstanceId {
        let mut message = self.message(payload);
        message.actions[0].pins = pins.iter().map(|(workflow, version)| (Arc::from(*workflow), *version)).collect();
        match self.ingest(message) {
            Reply::Accepted { instances, repeat: false, .. } => instances[0].1,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// The instances that a task runs or ran, in order of their rounds.
    pub fn rounds(&self, id: InstanceId, task: &str) -> Vec<InstanceId> {
        self.task(id, task).rounds.map_or_else(Vec::new, |rounds| rounds.instances)
    }

    /// The output of a task that completed.
    pub fn output(&self, id: InstanceId, task: &str) -> Value {
        let output = self.task(id, task).output;
        output.map_or(Value::Null, |output| serde_json::from_str(output.get()).expect("an output is JSON"))
    }

    /// The first blocker of a task, as people read it.
    pub fn why(&self, id: InstanceId, task: &str) -> Value {
        let why = self.machine.why_task(self.task(id, task).id).expect("the task exists");
        serde_json::to_value(&why).expect("a view is JSON")["blockers"][0].clone()
    }

    /// Opens a session of a worker that offers `job` and grants its credit.
    pub fn worker_up(&mut self, number: u64, credit: u32) -> WorkerId {
        self.worker_with(number, credit, &["job"], &[])
    }

    pub fn worker_with(&mut self, number: u64, credit: u32, types: &[&str], labels: &[(&str, &str)]) -> WorkerId {
        self.apply(Command::WorkerUp(Box::new(session(number, 1, credit, types, labels))));
        self.credit(number, 1, i64::from(credit));
        worker(number)
    }

    /// Opens a session of a worker that states processors and memory, and grants its credit.
    pub fn worker_of(&mut self, number: u64, credit: u32, cpu_millis: Option<u64>, memory_mib: Option<u64>) -> WorkerId {
        let capacity = Capacity { cpu_millis, memory_mib };
        self.apply(Command::WorkerUp(Box::new(WorkerUp { capacity, ..session(number, 1, credit, &["job"], &[]) })));
        self.credit(number, 1, i64::from(credit));
        worker(number)
    }

    /// A worker says what tasks of other groups take there.
    pub fn tell_elsewhere(&mut self, worker_number: u64, number: u64, memory_mib: u64) {
        let elsewhere = Some(Elsewhere { number, taken: Needs { cpu_millis: 0, memory_mib } });
        self.apply(Command::WorkerCredit(WorkerCredit { worker: worker(worker_number), generation: 1, amount: 0, elsewhere }));
    }

    /// A worker gives an attempt back, because there is no room for it beside what others take there.
    pub fn refuse(&mut self, assignment: &Assignment, number: u64, memory_mib: u64) -> Verdict {
        let (task, attempt, fencing_token) = (assignment.task, assignment.attempt, assignment.fencing_token);
        let outcome = TaskOutcome::Returned { reason: "it needs 4 GiB memory, 2 GiB is free".into() };
        let elsewhere = Some(Elsewhere { number, taken: Needs { cpu_millis: 0, memory_mib } });
        let done = TaskDone { task, attempt, fencing_token, outcome, renew_credit: true, elsewhere };
        match self.apply(Command::TaskDone(Box::new(done))) {
            Some(Reply::TaskVerdict { verdict, .. }) => verdict,
            other => panic!("a TaskDone was answered {other:?}"),
        }
    }

    pub fn credit(&mut self, number: u64, generation: u64, amount: i64) {
        self.apply(Command::WorkerCredit(WorkerCredit { worker: worker(number), generation, amount, elsewhere: None }));
    }

    pub fn worker_down(&mut self, number: u64, generation: u64) {
        self.apply(Command::WorkerDown(WorkerDown { worker: worker(number), generation }));
    }

    pub fn drain(&mut self, number: u64, drain: bool) {
        self.apply(Command::WorkerDrain(WorkerDrain { worker: worker(number), drain }));
    }

    pub fn cancel(&mut self, instance: InstanceId) -> Reply {
        let cancel = Cancel { namespace: namespace(), instance, reason: "an operator said so".into() };
        self.apply(Command::Cancel(cancel)).expect("a Cancel is answered")
    }

    /// The oldest assignment of the task that has not been answered.
    pub fn take(&mut self, task: &str) -> Assignment {
        let place = self.inbox.iter().position(|assignment| &*assignment.task_id == task);
        let place = place.unwrap_or_else(|| panic!("`{task}` is not assigned; assigned are {:?}", self.assigned()));
        self.inbox.remove(place)
    }

    /// Names of the tasks whose assignments have not been answered.
    pub fn assigned(&self) -> Vec<String> {
        self.inbox.iter().map(|assignment| assignment.task_id.to_string()).collect()
    }

    pub fn report(&mut self, assignment: &Assignment, outcome: TaskOutcome) -> Verdict {
        self.report_with(assignment, outcome, true)
    }

    pub fn report_with(&mut self, assignment: &Assignment, outcome: TaskOutcome, renew_credit: bool) -> Verdict {
        let done = TaskDone {
            task: assignment.task,
            attempt: assignment.attempt,
            fencing_token: assignment.fencing_token,
            outcome,
            renew_credit,
            elsewhere: None,
        };
        match self.apply(Command::TaskDone(Box::new(done))) {
            Some(Reply::TaskVerdict { verdict, .. }) => verdict,
            other => panic!("a TaskDone was answered {other:?}"),
        }
    }

    pub fn complete(&mut self, task: &str, output: Value) {
        let assignment = self.take(task);
        assert_eq!(self.report(&assignment, completed(output)), Verdict::Accepted);
    }

    pub fn fail(&mut self, task: &str) {
        let assignment = self.take(task);
        assert_eq!(self.report(&assignment, failed()), Verdict::Accepted);
    }

    pub fn instance(&self, id: InstanceId) -> InstanceView {
        self.machine.instance(id).expect("the instance exists")
    }

    pub fn status(&self, id: InstanceId) -> &'static str {
        self.instance(id).summary.status
    }

    pub fn task(&self, id: InstanceId, task: &str) -> TaskView {
        let view = self.instance(id).tasks.into_iter().find(|view| &*view.task == task);
        view.unwrap_or_else(|| panic!("there is no task `{task}`"))
    }

    /// `task=status` of all tasks, in the order of the definition.
    pub fn tasks(&self, id: InstanceId) -> String {
        let tasks = self.instance(id).tasks;
        tasks.iter().map(|task| format!("{}={}", task.task, task.status)).collect::<Vec<_>>().join(" ")
    }

    /// The history as `task:from>to`, one word per transition.
    pub fn trace(&self, id: InstanceId) -> String {
        let history = self.instance(id).history;
        let word = |h: &distric_exec::machine::views::HistoryView| format!("{}:{}>{}", h.task.as_deref().unwrap_or("*"), h.from, h.to);
        history.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// The most transitions that any entry of the log made, told to a second machine.
    pub fn most_transitions(&self, settings: Settings) -> u64 {
        let mut other = Machine::new(self.machine.group(), settings);
        let mut most = 0;
        for (at, bytes) in &self.log {
            let before = other.stats().transitions_count;
            other.apply(*at, Command::decode(bytes).expect("the log decodes"), &mut Vec::new());
            most = most.max(other.stats().transitions_count - before);
        }
        assert_eq!(other.digest(), self.machine.digest(), "a replica differs after {} entries", self.log.len());
        most
    }

    /// Tells the whole log to a second machine, which must come to the same state.
    pub fn assert_replays(&self, settings: Settings) {
        let mut other = Machine::new(self.machine.group(), settings);
        let mut effects = Vec::new();
        for (at, bytes) in &self.log {
            other.apply(*at, Command::decode(bytes).expect("the log decodes"), &mut effects);
        }
        assert_eq!(other.digest(), self.machine.digest(), "a replica differs after {} entries", self.log.len());
        assert_eq!(effects, self.effects, "a replica had other effects");
    }
}

pub fn action(workflow: &str) -> StartAction {
    StartAction {
        rule: Arc::from("r1"),
        workflow: Arc::from(workflow),
        version: 1,
        params: Octets::default(),
        timeout_ms: None,
        retry: None,
        delay_ms: 0,
        ordering_key: None,
        concurrency: None,
        pins: Vec::new(),
    }
}

pub fn session(number: u64, generation: u64, slots: u32, types: &[&str], labels: &[(&str, &str)]) -> WorkerUp {
    WorkerUp {
        worker: worker(number),
        generation,
        name: format!("worker-{number}"),
        slots,
        prefetch: 0,
        task_types: types.iter().map(|name| Arc::from(*name)).collect(),
        labels: labels.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect(),
        capacity: Capacity::default(),
    }
}

pub fn completed(output: Value) -> TaskOutcome {
    TaskOutcome::Completed { output: Octets::from(&output) }
}

pub fn failed() -> TaskOutcome {
    TaskOutcome::Failed { code: "boom".into(), error: "it broke".into(), retryable: true, retry_after_ms: None }
}

/// A task of type `job`.
pub fn job(id: &str, depends_on: &[&str]) -> Value {
    json!({ "id": id, "type": "job", "depends_on": depends_on })
}

/// A task of type `job` with more members.
pub fn job_with(id: &str, depends_on: &[&str], members: Value) -> Value {
    let mut task = job(id, depends_on);
    for (name, value) in members.as_object().expect("members are an object") {
        task[name] = value.clone();
    }
    task
}

pub fn json_of(octets: &Octets) -> Value {
    octets.to_json().expect("it is JSON")
}

/// Carries outbox records that need no decision between worlds until none is left, each to the first world that `home` names.
pub fn carry(worlds: &mut [&mut World], home: impl Fn(&Out) -> usize) {
    loop {
        let mut is_quiet = true;
        for from in 0..worlds.len() {
            let group = worlds[from].machine.group();
            for out in worlds[from].take_outs() {
                is_quiet = false;
                if let InResult::Final(result) = worlds[home(&out)].relay(group, &out) {
                    worlds[from].apply(Command::OutAck(OutAck { seq: out.seq, result }));
                }
            }
        }
        if is_quiet {
            return;
        }
    }
}
