//! Workers: their sessions on this shard, and what the groups of this shard know of all sessions of the node.
//!
//! A session lives on the shard of its connection; every shard hears of it, because its groups place tasks on it.
//! Liveness here is the stream and the heartbeat on it; with what gossip says (see `liveness`) it decides how long a worker whose
//! stream broke has to come back before the groups are told that it is down. Until then its tasks stay where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_exec::command::{TaskDone, TaskOutcome, WorkerCredit, WorkerDown, WorkerDrain, WorkerUp};
use distric_exec::{Command, Octets};
use distric_model::limits::TASK_OUTPUT_BYTES_MAX;
use distric_model::{Elsewhere, GroupId, Instant, Needs, NodeId, TaskId, WorkerId};
use distric_wire::client::Rejection;
use distric_wire::task::{Backlog, Drain, Reconcile, ResultOutcome, TaskRef, TaskResult, WorkerWelcome};
use distric_wire::{AnyMessage, Code, Headers, TaskRefs, U32s, U64s};

use super::connections::Phase;
use super::partition::{Absent, Partition};
use super::proposals::{Proposal, Waiting};
use super::{Note, Shard, ShardOutputs};
use crate::node::letters::{Class, ConnId, ShardIndex, ShardLetter, WorkerCard};
use crate::node::machine_clock::Now;
use crate::node::owner_of;
use crate::node::refusal::Refusal;

/// A worker that says nothing for this long has a broken stream, milliseconds; it sends a Status every second.
pub const WORKER_SILENCE_MS: u64 = 3_000;
/// A stranger that has not said Hello after this long is shown out, milliseconds.
pub const HELLO_MS_MAX: u64 = 10_000;
/// At least this long between two looks through the connections, milliseconds.
const SILENCE_CHECK_MS: u64 = 1_000;
/// Longest error text that is taken from a worker, bytes.
const ERROR_BYTES_MAX: usize = 4_096;

/// The sessions of the node, as this shard knows them.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    table: BTreeMap<WorkerId, Attachment>,
    /// The backlog that was last reported, by group.
    told: BTreeMap<GroupId, u32>,
    /// When the sessions of this shard are looked through for silent ones.
    check_at: Option<Instant>,
}

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub shard: ShardIndex,
    pub conn: ConnId,
    pub card: Arc<WorkerCard>,
    pub opened_at: Instant,
}

impl Attachment {
    /// Which of two sessions of a worker is the later one; the same on every shard.
    fn order(&self) -> (u64, Instant, ConnId) {
        (self.card.generation, self.opened_at, self.conn)
    }
}

impl Attachments {
    /// A worker's session.
    pub fn find(&self, worker: WorkerId) -> Option<&Attachment> {
        self.table.get(&worker)
    }

    /// Whether a connection carries the worker's present session.
    fn is_present(&self, worker: WorkerId, conn: ConnId) -> bool {
        self.find(worker).is_some_and(|attached| attached.conn == conn)
    }

    /// All workers with a session.
    pub fn cards(&self) -> Vec<Arc<WorkerCard>> {
        self.table.values().map(|attached| attached.card.clone()).collect()
    }
}

impl Shard {
    /// A worker says who it is, on a connection of this shard.
    pub(super) fn open_worker_session(&mut self, now: Now, conn: ConnId, message_id: u64, card: Arc<WorkerCard>, out: &mut ShardOutputs) {
        if let Some(attached) = self.workers.find(card.worker)
            && attached.card.generation > card.generation
        {
            let refusal = Refusal::new(Code::Conflict, "a later run of this worker has a session").field("generation");
            return self.reject_frame(now, conn, message_id, &refusal, out);
        }
        if let Some(connection) = self.connections.find(conn) {
            connection.phase = Phase::Worker(card.clone());
            self.watch_silence(now, WORKER_SILENCE_MS);
        }
        self.welcome_worker(now, conn, message_id, out);
        out.notes.push(Note::WorkerAttached { worker: card.worker.to_string(), name: card.name.clone(), slots: card.slots });
        let shard = self.options.index;
        let opened_at = now.mono;
        self.to_all_shards(Class::Request, out, || ShardLetter::WorkerAttached { shard, conn, card: card.clone(), opened_at });
    }

    /// Tells a worker which groups it may lease credit to, and where the other coordinators are. A group that is not active yet has no
    /// place to keep credit.
    fn welcome_worker(&self, now: Now, conn: ConnId, message_id: u64, out: &mut ShardOutputs) {
        let groups: Vec<u32> = self.active_groups.keys().map(|group| group.0).collect();
        let terms: Vec<u64> = self.active_groups.values().copied().collect();
        let coordinators: Vec<(String, String)> =
            self.coordinators.iter().map(|(node, address)| (node.to_string(), address.to_string())).collect();
        let welcome = WorkerWelcome { groups: U32s::of(&groups), coordinators: Headers::of_owned(&coordinators), terms: U64s::of(&terms) };
        out.frame(conn, &welcome, message_id, now.wall, false);
    }

    /// Group 0 has other members, or they are elsewhere: the workers of this shard hear of it.
    pub(super) fn on_coordinators(&mut self, now: Now, addresses: Arc<[(NodeId, Arc<str>)]>, out: &mut ShardOutputs) {
        if self.coordinators != addresses {
            self.coordinators = addresses;
            self.welcome_workers(now, out);
        }
    }

    fn welcome_workers(&self, now: Now, out: &mut ShardOutputs) {
        for (conn, connection) in self.connections.iter() {
            if matches!(connection.phase, Phase::Worker(_)) {
                self.welcome_worker(now, conn, 0, out);
            }
        }
    }

    /// A group of this node became active, or is no longer: the workers of this shard hear of it.
    pub(super) fn on_group_active(&mut self, now: Now, group: GroupId, term: Option<u64>, out: &mut ShardOutputs) {
        let before = match term {
            Some(term) => self.active_groups.insert(group, term),
            None => self.active_groups.remove(&group),
        };
        if before != term {
            self.welcome_workers(now, out);
            if term.is_some() {
                out.letter(owner_of(group, self.options.count), Class::Request, ShardLetter::GroupWelcome { group });
            }
        }
    }

    /// Tells every shard that a session ended.
    pub(super) fn announce_detached(&mut self, conn: ConnId, worker: WorkerId, out: &mut ShardOutputs) {
        out.notes.push(Note::WorkerDetached { worker: worker.to_string() });
        let shard = self.options.index;
        self.to_all_shards(Class::Request, out, || ShardLetter::WorkerDetached { shard, conn, worker });
    }

    /// A session was opened on some shard.
    pub(super) fn on_worker_attached(&mut self, now: Now, attached: Attachment, out: &mut ShardOutputs) {
        let card = attached.card.clone();
        let worker = card.worker;
        let known = self.workers.table.get(&worker);
        let is_late = known.is_some_and(|known| known.order() > attached.order());
        let loser = if is_late { Some(attached) } else { self.workers.table.insert(worker, attached) };
        if let Some(loser) = loser.filter(|loser| loser.shard == self.options.index) {
            out.closes.push(loser.conn);
        }
        if is_late {
            return;
        }
        let groups: Vec<GroupId> = self.partitions.keys().copied().collect();
        for group in groups {
            self.partition(group).absent.remove(&worker);
            if self.partition(group).is_active() {
                self.introduce(now, group, &card, out);
            }
        }
        self.workers.told.clear();
    }

    /// Makes a worker known to a group that is led here, and asks it about the attempts that the group believes it has.
    pub(super) fn introduce(&mut self, now: Now, group: GroupId, card: &WorkerCard, out: &mut ShardOutputs) {
        let machine = &self.partition(group).machine;
        // What an earlier process had is lost with it and placed anew when the entry below is applied: sent again, it would run twice.
        let is_same_process = machine.worker_generation(card.worker) == Some(card.generation);
        let (assigned, cancelled) =
            if is_same_process { (machine.assigned_to(card.worker), machine.cancelled_on(card.worker)) } else { (Vec::new(), Vec::new()) };
        let up = Command::WorkerUp(Box::new(WorkerUp {
            worker: card.worker,
            generation: card.generation,
            name: card.name.clone(),
            slots: card.slots,
            prefetch: card.prefetch,
            task_types: card.task_types.clone(),
            labels: card.labels.clone(),
            capacity: card.capacity,
        }));
        // Attempts that nobody waits for end with the session that they came on: one that the worker never had would take up room that
        // the worker is about to lease, and nobody would ever give that back. One that still runs there is in the worker's own count.
        for (task, token) in &cancelled {
            self.end_lease(now, group, *task, *token, false, out);
        }
        self.propose_own(now, group, &up, out);
        let refs: Vec<TaskRef> =
            assigned.iter().chain(&cancelled).map(|(task, token)| TaskRef { task_id: task.uuid(), fencing_token: *token }).collect();
        // Sent even when empty: it tells the worker where its credit for this group stands.
        self.send_to_worker(now, card.worker, &Reconcile { group: group.0, tasks: TaskRefs::of(&refs) }, out);
        for (task, fencing_token) in cancelled {
            self.send_to_worker(now, card.worker, &distric_wire::task::CancelTask { task_id: task.uuid(), fencing_token }, out);
        }
    }

    /// A session ended on some shard.
    pub(super) fn on_worker_detached(&mut self, now: Now, shard: ShardIndex, conn: ConnId, worker: WorkerId, out: &mut ShardOutputs) {
        let current = self.workers.find(worker).is_some_and(|attached| attached.shard == shard && attached.conn == conn);
        if !current {
            return;
        }
        let Some(ended) = self.workers.table.remove(&worker) else { return };
        let groups: Vec<GroupId> = self.partitions.keys().copied().collect();
        for group in groups {
            self.expect_back(now, group, worker, ended.card.generation);
            self.give_up_absent_workers(now, group, out);
        }
    }

    /// Starts the time that a run of a worker has to come back.
    pub(super) fn expect_back(&mut self, now: Now, group: GroupId, worker: WorkerId, generation: u64) {
        let until = now.mono.plus_ms(self.grace_ms(worker, generation));
        let partition = self.partition(group);
        if partition.is_active() {
            partition.absent.insert(worker, Absent { generation, until });
        }
    }

    /// Workers that did not come back: their tasks are placed again.
    pub(super) fn give_up_absent_workers(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        let Some(partition) = self.partitions.get_mut(&group) else { return };
        let is_gone = |(_, absent): &(&WorkerId, &Absent)| absent.until <= now.mono;
        let gone: Vec<(WorkerId, Absent)> = partition.absent.iter().filter(is_gone).map(|(worker, absent)| (*worker, *absent)).collect();
        for (worker, absent) in gone {
            let partition = self.partition(group);
            partition.absent.remove(&worker);
            // The later of what the machine knows and what the session said: a `WorkerUp` that is on its way is before this in the log.
            let generation = partition.machine.worker_generation(worker).map_or(absent.generation, |known| known.max(absent.generation));
            out.notes.push(Note::WorkerGivenUp { worker: worker.to_string(), group: group.to_string() });
            self.propose_own(now, group, &Command::WorkerDown(WorkerDown { worker, generation }), out);
        }
    }

    /// Closes the connections of workers that have said nothing for too long, and of strangers that never said who they are.
    pub(super) fn close_silent(&mut self, now: Now, out: &mut ShardOutputs) {
        if self.workers.check_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let mut next: Option<Instant> = None;
        for (conn, connection) in self.connections.iter() {
            let patience_ms = match &connection.phase {
                Phase::Worker(card) => self.silence_ms(card.worker, card.generation),
                Phase::AwaitingHello => HELLO_MS_MAX,
                Phase::Client => continue,
            };
            let silent_at = connection.heard_at.plus_ms(patience_ms);
            if silent_at <= now.mono {
                out.closes.push(conn);
            }
            let look_at = silent_at.max(now.mono.plus_ms(SILENCE_CHECK_MS));
            next = Some(next.map_or(look_at, |earlier| earlier.min(look_at)));
        }
        self.workers.check_at = next;
    }

    /// Sees to it that the connections are looked through after `patience_ms` at the latest.
    pub(super) fn watch_silence(&mut self, now: Now, patience_ms: u64) {
        let at = now.mono.plus_ms(patience_ms);
        self.workers.check_at = Some(self.workers.check_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// When [`Self::close_silent`] must look again.
    pub(super) fn next_silence(&self) -> Option<Instant> {
        self.workers.check_at
    }

    /// A frame of a worker's session.
    pub(super) fn on_worker_message(
        &mut self,
        now: Now,
        conn: ConnId,
        message_id: u64,
        card: &WorkerCard,
        message: &AnyMessage<'_>,
        out: &mut ShardOutputs,
    ) {
        let (worker, generation) = (card.worker, card.generation);
        match message {
            AnyMessage::Status(_) => {}
            AnyMessage::TaskResult(result) => self.on_task_result(now, conn, result, out),
            AnyMessage::Credit(credit) => {
                let group = GroupId(credit.group);
                let amount = credit.amount.clamp(-CREDIT_MAX, CREDIT_MAX);
                let elsewhere = elsewhere_of(credit.elsewhere, credit.cpu_millis_elsewhere, credit.memory_mib_elsewhere);
                let letter = ShardLetter::WorkerCredit { group, conn, worker, generation, amount, elsewhere };
                out.letter(owner_of(group, self.options.count), Class::Request, letter);
            }
            AnyMessage::ReconcileReply(reply) => {
                let group = GroupId(reply.group);
                let unknown =
                    reply.unknown.iter().filter_map(|task| Some((TaskId::from_uuid(task.task_id).ok()?, task.fencing_token))).collect();
                let letter = ShardLetter::WorkerUnknown { group, conn, worker, unknown };
                out.letter(owner_of(group, self.options.count), Class::Request, letter);
            }
            other => {
                let reason = format!("{} is not a message of a worker's session", other.name());
                out.frame(conn, &Rejection::new(Code::BadMessage, &reason), message_id, now.wall, false);
            }
        }
    }

    fn on_task_result(&mut self, now: Now, conn: ConnId, result: &TaskResult<'_>, out: &mut ShardOutputs) {
        self.stats.task_results_count += 1;
        let Ok(task) = TaskId::from_uuid(result.task_id) else {
            let ack = distric_wire::task::ResultAck {
                task_id: result.task_id,
                fencing_token: result.fencing_token,
                verdict: distric_wire::task::Verdict::Unknown.number(),
            };
            return out.frame(conn, &ack, 0, now.wall, false);
        };
        let cut = |text: Option<&str>| text.unwrap_or_default().chars().take(ERROR_BYTES_MAX).collect::<String>();
        let output = result.output.unwrap_or_default();
        let outcome = match ResultOutcome::from_number(result.outcome) {
            Some(ResultOutcome::Completed) if output.len() > TASK_OUTPUT_BYTES_MAX => TaskOutcome::Failed {
                code: "output_too_large".to_owned(),
                error: format!("the output has {} bytes, the limit is {TASK_OUTPUT_BYTES_MAX}", output.len()),
                retryable: false,
                retry_after_ms: None,
            },
            Some(ResultOutcome::Completed) => TaskOutcome::Completed { output: Octets::from(output) },
            Some(ResultOutcome::Returned) => TaskOutcome::Returned { reason: cut(result.error) },
            Some(ResultOutcome::Failed) => TaskOutcome::Failed {
                code: cut(result.error_code),
                error: cut(result.error),
                retryable: result.retryable.unwrap_or(true),
                retry_after_ms: result.retry_after_ms,
            },
            None => TaskOutcome::Failed {
                code: "bad_result".to_owned(),
                error: format!("the worker reported outcome {}", result.outcome),
                retryable: false,
                retry_after_ms: None,
            },
        };
        let elsewhere = elsewhere_of(result.elsewhere, result.cpu_millis_elsewhere, result.memory_mib_elsewhere);
        let (attempt, fencing_token, renew_credit) = (result.attempt, result.fencing_token, result.renew_credit);
        let done = TaskDone { task, attempt, fencing_token, outcome, renew_credit, elsewhere };
        let group = self.group_of_slot(task.slot());
        let command = bytes::Bytes::from(Command::TaskDone(Box::new(done)).encode());
        let waiting = Waiting::Result { conn };
        self.propose(now, Proposal { waiting, group, command, namespace: None, definition: None, redefined: 0 }, out);
    }

    /// A worker leases credit to a group of this shard, or asks some back.
    pub(super) fn on_worker_credit(&mut self, now: Now, group: GroupId, conn: ConnId, credit: WorkerCredit, out: &mut ShardOutputs) {
        if self.workers.is_present(credit.worker, conn) && self.partitions.get(&group).is_some_and(Partition::is_active) {
            self.propose_own(now, group, &Command::WorkerCredit(credit), out);
        }
    }

    /// A worker does not know attempts that a group believes it has: they are sent again under the same tokens.
    pub(super) fn on_worker_unknown(
        &mut self,
        now: Now,
        group: GroupId,
        conn: ConnId,
        worker: WorkerId,
        unknown: &[(TaskId, u64)],
        out: &mut ShardOutputs,
    ) {
        if !self.workers.is_present(worker, conn) {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&group).filter(|partition| partition.is_active()) else { return };
        let again: Vec<_> = unknown.iter().map(|(task, token)| (*task, *token, partition.machine.redispatch(*task, *token))).collect();
        for (task, fencing_token, assignment) in again {
            match assignment {
                Some(assignment) if assignment.worker == worker => self.dispatch(now, &assignment, out),
                Some(_) => {}
                // Cancelled or timed out since the session began, and the worker never had it or has forgotten it. What the worker has leased
                // meanwhile did not fit beside it: that is the credit which is free now.
                None => self.end_lease(now, group, task, fencing_token, true, out),
            }
        }
    }

    /// Ends the lease of an attempt that nobody waits for, without a word of its worker.
    fn end_lease(&mut self, now: Now, group: GroupId, task: TaskId, fencing_token: u64, renew_credit: bool, out: &mut ShardOutputs) {
        // Not `Returned`: what is returned never renews its credit.
        let (code, error) = ("unknown_to_worker".to_owned(), "the worker does not have it".to_owned());
        let outcome = TaskOutcome::Failed { code, error, retryable: true, retry_after_ms: None };
        let done = TaskDone { task, attempt: 0, fencing_token, outcome, renew_credit, elsewhere: None };
        self.propose_own(now, group, &Command::TaskDone(Box::new(done)), out);
    }

    /// An operator drains a worker, or ends the drain.
    pub(super) fn on_worker_drain(&mut self, now: Now, worker: WorkerId, drain: bool, out: &mut ShardOutputs) {
        self.drains.insert(worker, drain);
        if self.drains.len() > DRAINS_KEPT_MAX {
            self.drains.pop_first();
        }
        let groups: Vec<GroupId> = self.partitions.keys().copied().collect();
        for group in groups {
            let drain = Command::WorkerDrain(WorkerDrain { worker, drain });
            self.propose_unanswered(now, group, Waiting::Drain { tries: 0 }, &drain, out);
        }
        if self.workers.find(worker).is_some_and(|attached| attached.shard == self.options.index) {
            self.send_to_worker(now, worker, &Drain { drain }, out);
        }
    }

    /// A group that had no leader for so long did not take a drain: it is put again, unless something else was said of the worker since.
    pub(super) fn drain_again(&mut self, now: Now, tries: u8, proposal: Proposal, out: &mut ShardOutputs) {
        let Ok(Command::WorkerDrain(WorkerDrain { worker, drain })) = Command::decode(&proposal.command) else { return };
        if tries < DRAIN_TRIES_MAX && self.drains.get(&worker) == Some(&drain) {
            self.propose(now, Proposal { waiting: Waiting::Drain { tries: tries + 1 }, ..proposal }, out);
        }
    }

    /// Reports a group's backlog to all workers whatever was reported before: they have become its workers just now, and what came ahead of
    /// their welcome meant nothing to them.
    pub(super) fn tell_backlog_anew(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        self.workers.told.remove(&group);
        self.tell_backlog(now, group, out);
    }

    /// Reports a group's backlog to all workers when it came into being or doubled, so that idle credit moves there.
    pub(super) fn tell_backlog(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        let Some(partition) = self.partitions.get(&group).filter(|partition| partition.is_active()) else { return };
        let ready = partition.machine.ready_backlog();
        let told = self.workers.told.get(&group).copied().unwrap_or(0);
        let news = if told == 0 { ready > 0 } else { ready == 0 || ready >= told.saturating_mul(2) };
        if !news {
            return;
        }
        self.workers.told.insert(group, ready);
        for card in self.workers.cards() {
            self.send_to_worker(now, card.worker, &Backlog { group: group.0, ready }, out);
        }
    }
}

/// What a worker says of other groups' tasks, when it does.
fn elsewhere_of(number: Option<u64>, cpu_millis: Option<u64>, memory_mib: Option<u64>) -> Option<Elsewhere> {
    let taken = Needs { cpu_millis: cpu_millis.unwrap_or(0), memory_mib: memory_mib.unwrap_or(0) };
    Some(Elsewhere { number: number?, taken: taken.bounded() })
}

/// A drain is put so often to a group that has no leader: for some five minutes.
const DRAIN_TRIES_MAX: u8 = 60;
/// What was last said of so many workers is known, should a group have to be told again.
const DRAINS_KEPT_MAX: usize = 1_024;
/// Most credit that one frame may move.
const CREDIT_MAX: i64 = 1 << 20;
