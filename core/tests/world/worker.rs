//! A worker of the world: keeps credit, runs what it is told, keeps results until they are confirmed, as the protocol asks.

use std::collections::BTreeMap;

use distric_model::{Instant, Slot, Timestamp, WorkerId};
use distric_wire::client::Hello;
use distric_wire::task::{Credit, ReconcileReply, ResultOutcome, Status, TaskRef, TaskResult, Verdict, WorkerHello};
use distric_wire::{Flags, Message, Strs, TaskRefs};
use uuid::Uuid;

use super::said::{Assigned, Said};

/// A worker says something at least this often, milliseconds.
const HEARTBEAT_MS: u64 = 1_000;
/// An unconfirmed result is sent again after this long, milliseconds.
const PATIENCE_MS: u64 = 2_000;
/// A lost session is opened again after this long, milliseconds.
const RECONNECT_MS: u64 = 150;

/// One attempt: task and token.
pub type Key = (Uuid, u64);

/// How an attempt ends, and when.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// Completed with this output, after milliseconds.
    Done(u64, String),
    /// Failed, after milliseconds; whether it may be tried again.
    Fail(u64, bool),
    /// Given back at once.
    Return,
    /// Runs until the test ends it.
    Hold,
}

struct Run {
    assigned: Assigned,
    ends_at: Option<Instant>,
    ending: Ending,
    /// It came on the present session of its group.
    is_current: bool,
}

struct Kept {
    group: u32,
    attempt: u32,
    ending: Ending,
    sent_at: Instant,
    /// Its credit stays with the leader, on the present session of its group.
    renewed: bool,
}

/// How a worker treats each attempt.
pub type Habit = Box<dyn FnMut(&Assigned) -> Ending>;

pub struct Worker {
    pub id: WorkerId,
    pub generation: u64,
    pub node: usize,
    /// The shard of its next connection.
    pub shard: usize,
    pub conn: Option<u64>,
    pub reconnects: bool,
    /// Says nothing any more, and does nothing.
    pub silent: bool,
    pub slots: u32,
    pub task_types: Vec<String>,
    pub habit: Habit,
    /// Every Assignment frame that came, repeats included.
    pub assignments: Vec<Assigned>,
    /// Every ResultAck that came.
    pub acks: Vec<(Key, u8)>,
    /// Attempts that were completed here and confirmed as accepted.
    pub confirmed: Vec<Key>,
    /// Attempts that were started here.
    pub started: Vec<Key>,
    pub drained: bool,
    pub cancelled: Vec<Key>,
    running: BTreeMap<Key, Run>,
    kept: BTreeMap<Key, Kept>,
    dial_at: Option<Instant>,
    beat_at: Option<Instant>,
    received: Vec<u8>,
    welcomed: bool,
    /// The groups whose leader answers on this session, and its term.
    groups: Vec<(u32, u64)>,
    /// How many tasks wait, as their leaders have said since then.
    pub backlogs: BTreeMap<u32, u32>,
}

/// What a worker wants of the world.
pub enum Wish {
    Dial,
    Send(Vec<u8>),
}

impl Worker {
    pub fn new(number: u64, node: usize, shard: usize, types: &[&str], habit: Habit) -> Self {
        Self {
            id: WorkerId::new(Timestamp::from_us(1), Slot::truncate(0), number),
            generation: 1,
            node,
            shard,
            conn: None,
            reconnects: true,
            silent: false,
            slots: 4,
            task_types: types.iter().map(|name| (*name).to_owned()).collect(),
            habit,
            assignments: Vec::new(),
            acks: Vec::new(),
            confirmed: Vec::new(),
            started: Vec::new(),
            drained: false,
            cancelled: Vec::new(),
            running: BTreeMap::new(),
            kept: BTreeMap::new(),
            dial_at: Some(Instant::from_us(0)),
            beat_at: None,
            received: Vec::new(),
            welcomed: false,
            groups: Vec::new(),
            backlogs: BTreeMap::new(),
        }
    }

    pub fn next_wake(&self) -> Option<Instant> {
        if self.silent {
            return None;
        }
        let ends = self.running.values().filter_map(|run| run.ends_at);
        let resend = self.kept.values().map(|kept| kept.sent_at.plus_ms(PATIENCE_MS)).filter(|_| self.welcomed);
        self.dial_at.into_iter().chain(self.beat_at).chain(ends).chain(resend).min()
    }

    pub fn is_welcome(&self) -> bool {
        self.welcomed
    }

    /// Attempts that run here.
    pub fn running(&self) -> Vec<Key> {
        self.running.keys().copied().collect()
    }

    /// The process is replaced by a new one: everything is forgotten.
    pub fn restart(&mut self) {
        self.generation += 1;
        self.running.clear();
        self.kept.clear();
        self.silent = false;
    }

    /// Forgets some attempts that run here, as after a fault of the process.
    pub fn forget(&mut self, count: usize) -> Vec<Key> {
        let forgotten: Vec<Key> = self.running().into_iter().take(count).collect();
        for key in &forgotten {
            self.running.remove(key);
        }
        forgotten
    }

    /// Connects now, and again whenever the connection breaks.
    pub fn come_back(&mut self, now: Instant) {
        self.reconnects = true;
        self.dial_at = Some(now);
    }

    /// Opens another connection beside the one that it has, which it has given up on.
    pub fn dial_again(&mut self, now: Instant) {
        self.on_end(now);
        self.dial_at = Some(now);
    }

    /// The connection is open: the two greetings.
    pub fn on_connected(&mut self, now: Instant, conn: u64) -> Vec<u8> {
        self.conn = Some(conn);
        self.dial_at = None;
        self.welcomed = false;
        self.groups.clear();
        self.backlogs.clear();
        self.received.clear();
        self.beat_at = Some(now.plus_ms(HEARTBEAT_MS));
        let mut bytes = Vec::new();
        let hello = Hello { version_min: 1, version_max: 1, client_name: "worker", client_version: "0", api_key: None, features: None };
        put(&hello, 1, &mut bytes);
        let task_types: Vec<&str> = self.task_types.iter().map(String::as_str).collect();
        let worker_hello = WorkerHello {
            worker_id: self.id.uuid(),
            generation: self.generation,
            name: "worker",
            slots: self.slots,
            prefetch: 0,
            task_types: Strs::of(&task_types),
            ..WorkerHello::default()
        };
        put(&worker_hello, 2, &mut bytes);
        bytes
    }

    /// The connection is gone.
    pub fn on_end(&mut self, now: Instant) {
        self.conn = None;
        self.welcomed = false;
        self.groups.clear();
        self.beat_at = None;
        self.dial_at = self.reconnects.then(|| now.plus_ms(RECONNECT_MS));
    }

    /// Whatever is due.
    pub fn on_time(&mut self, now: Instant) -> Vec<Wish> {
        let mut wishes = Vec::new();
        if self.silent {
            return wishes;
        }
        if self.dial_at.is_some_and(|at| at <= now) {
            self.dial_at = None;
            wishes.push(Wish::Dial);
        }
        let mut bytes = Vec::new();
        if self.beat_at.is_some_and(|at| at <= now) {
            self.beat_at = Some(now.plus_ms(HEARTBEAT_MS));
            if self.welcomed {
                put(&Status { running: self.running.len() as u32, queued: 0, draining: self.drained }, 0, &mut bytes);
            }
        }
        let due: Vec<Key> = self.running.iter().filter(|(_, run)| run.ends_at.is_some_and(|at| at <= now)).map(|(key, _)| *key).collect();
        for key in due {
            let ending = self.running[&key].ending.clone();
            self.finish(now, key, ending, &mut bytes);
        }
        let late: Vec<Key> =
            self.kept.iter().filter(|(_, kept)| self.welcomed && kept.sent_at.plus_ms(PATIENCE_MS) <= now).map(|(key, _)| *key).collect();
        for key in late {
            self.send_result(now, key, &mut bytes);
        }
        if !bytes.is_empty() && self.conn.is_some() {
            wishes.push(Wish::Send(bytes));
        }
        wishes
    }

    /// Ends an attempt that runs here.
    pub fn finish(&mut self, now: Instant, key: Key, ending: Ending, bytes: &mut Vec<u8>) {
        let run = self.running.remove(&key).expect("only what runs ends");
        // On a later session than the one it came on, the lease may be gone: credit left with such a result would be lost.
        let renewed = run.is_current && ending != Ending::Return;
        self.kept.insert(key, Kept { group: run.assigned.group, attempt: run.assigned.attempt, ending, sent_at: now, renewed });
        if self.welcomed {
            self.send_result(now, key, bytes);
        }
    }

    /// Bytes from the node.
    pub fn on_bytes(&mut self, now: Instant, bytes: &[u8]) -> Vec<Wish> {
        self.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut self.received);
        let mut at = 0;
        let mut answer = Vec::new();
        while let Some((frame, consumed)) =
            distric_wire::parse(&received[at..], distric_wire::FrameLimits::AUTHENTICATED).expect("a node frames well")
        {
            at += consumed;
            self.on_said(now, Said::read(&frame), &mut answer);
        }
        self.received = received[at..].to_vec();
        if self.silent || answer.is_empty() { Vec::new() } else { vec![Wish::Send(answer)] }
    }

    fn on_said(&mut self, now: Instant, said: Said, answer: &mut Vec<u8>) {
        match said {
            Said::WorkerWelcome(groups) => {
                self.welcomed = true;
                let before = std::mem::replace(&mut self.groups, groups.clone());
                for (group, _) in groups.into_iter().filter(|group| !before.contains(group)) {
                    self.backlogs.insert(group, 0);
                    self.greet(group, answer);
                }
            }
            Said::Reconcile { group, tasks } => {
                // What is finished goes first, so that it is not taken for unknown.
                let finished: Vec<Key> = self.kept.iter().filter(|(_, kept)| kept.group == group).map(|(key, _)| *key).collect();
                for key in &finished {
                    self.send_result(now, *key, answer);
                }
                let unknown: Vec<TaskRef> = tasks
                    .iter()
                    .filter(|key| !self.running.contains_key(*key) && !self.kept.contains_key(*key))
                    .map(|(task_id, fencing_token)| TaskRef { task_id: *task_id, fencing_token: *fencing_token })
                    .collect();
                put(&ReconcileReply { group, unknown: TaskRefs::of(&unknown) }, 0, answer);
            }
            Said::Assignment(assigned) => {
                self.assignments.push((*assigned).clone());
                let key = (assigned.task_id, assigned.token);
                if self.kept.contains_key(&key) {
                    self.send_result(now, key, answer);
                } else if !self.running.contains_key(&key) && !self.silent {
                    self.started.push(key);
                    let ending = (self.habit)(&assigned);
                    let ends_at = match &ending {
                        Ending::Done(ms, _) | Ending::Fail(ms, _) => Some(now.plus_ms(*ms)),
                        Ending::Return => Some(now),
                        Ending::Hold => None,
                    };
                    self.running.insert(key, Run { assigned: *assigned, ends_at, ending, is_current: true });
                }
            }
            Said::ResultAck { task, token, verdict } => {
                self.acks.push(((task, token), verdict));
                let Some(kept) = self.kept.remove(&(task, token)) else { return };
                if verdict == Verdict::Accepted.number() && matches!(kept.ending, Ending::Done(..)) {
                    self.confirmed.push((task, token));
                }
                if !kept.renewed && self.groups.iter().any(|(group, _)| *group == kept.group) {
                    put(&Credit { group: kept.group, amount: 1, ..Credit::default() }, 0, answer);
                }
            }
            Said::CancelTask { task, token } => {
                self.cancelled.push((task, token));
                if self.running.contains_key(&(task, token)) {
                    self.finish(now, (task, token), Ending::Fail(0, false), answer);
                }
            }
            Said::Backlog { group, ready } => {
                // Said of a group that is not welcome here (yet), it means nothing.
                self.backlogs.entry(group).and_modify(|known| *known = ready);
            }
            Said::Drain(drain) => self.drained = drain,
            _ => {}
        }
    }

    /// A group's leader answers on this session from now on: whatever credit it had has lapsed.
    fn greet(&mut self, group: u32, answer: &mut Vec<u8>) {
        let mut held = 0;
        for run in self.running.values_mut().filter(|run| run.assigned.group == group) {
            run.is_current = false;
            held += 1;
        }
        for kept in self.kept.values_mut().filter(|kept| kept.group == group) {
            kept.renewed = false;
            held += 1;
        }
        put(&Credit { group, amount: i64::from(self.slots) - held, ..Credit::default() }, 0, answer);
    }

    fn send_result(&mut self, now: Instant, key: Key, bytes: &mut Vec<u8>) {
        let kept = self.kept.get_mut(&key).expect("only kept results are sent");
        kept.sent_at = now;
        let mut result = TaskResult {
            group: kept.group,
            task_id: key.0,
            attempt: kept.attempt,
            fencing_token: key.1,
            renew_credit: kept.renewed,
            ..TaskResult::default()
        };
        match &kept.ending {
            Ending::Done(_, output) => {
                result.outcome = ResultOutcome::Completed.number();
                result.output = Some(output.as_bytes());
            }
            Ending::Fail(_, retryable) => {
                result.outcome = ResultOutcome::Failed.number();
                result.error_code = Some("broken");
                result.error = Some("it broke");
                result.retryable = Some(*retryable);
            }
            Ending::Return | Ending::Hold => {
                result.outcome = ResultOutcome::Returned.number();
                result.error = Some("no");
            }
        }
        put(&result, 0, bytes);
    }
}

/// Appends one frame.
pub fn put<'a, M: Message<'a>>(message: &M, message_id: u64, bytes: &mut Vec<u8>) {
    distric_wire::encode(message, message_id, 0, Flags::NONE, bytes);
}
