//! Effects: what apply asked for, carried out by the leader, and the letters between groups.
//!
//! Hints are acted on by an active leader only; answers go to whoever asked, wherever the entry was applied.

use std::sync::Arc;

use bytes::Bytes;
use distric_exec::command::{In, OutAck, OutResult, Relay};
use distric_exec::{Assignment, Command, Effect, InResult, Out, OutBody};
use distric_model::{GroupId, WorkerId};
use distric_wire::task::{Assignment as WireAssignment, CancelTask, CreditReturned};
use distric_wire::{Flags, Message};

use super::partition::{Applied, OUT_RETRY_MS};
use super::proposals::{Proposal, Waiting};
use super::{Note, Shard, ShardOutputs};
use crate::node::envelope::{NO_REPLY, Origin};
use crate::node::letters::{Class, CommittedEntry, ConnId, ShardIndex, ShardLetter};
use crate::node::machine_clock::Now;
use crate::node::owner_of;

/// Most outbox records delivered again in one turn.
const OUT_RETRIES_PER_TURN_MAX: usize = 256;

impl Shard {
    /// Entries of a work group that lives here.
    pub(super) fn on_committed(&mut self, now: Now, group: GroupId, entries: &[CommittedEntry], out: &mut ShardOutputs) {
        let mut effects = std::mem::take(&mut self.effects);
        for entry in entries {
            self.stats.entries_applied_count += 1;
            effects.clear();
            let applied = self.partition(group).apply(now, entry, &mut effects);
            let became_active = match applied {
                Applied::Skipped { activated } => activated,
                Applied::Stopped => false,
                Applied::Halted => {
                    let halted = self.partition(group).halted().cloned().unwrap_or_default();
                    out.notes.push(Note::GroupHalted { group: group.to_string(), index: halted.0, reason: halted.1 });
                    self.to_all_shards(Class::Request, out, || ShardLetter::GroupActive { group, term: None });
                    false
                }
                Applied::Effects { origin, emit, activated } => {
                    if self.is_ours(origin) {
                        self.proposals.settle(origin.number);
                    }
                    for effect in effects.drain(..) {
                        self.on_effect(now, group, origin, emit, effect, entry, out);
                    }
                    activated
                }
            };
            if became_active {
                out.notes.push(Note::GroupActive { group: group.to_string(), term: entry.term });
                self.on_active(now, group, out);
            }
        }
        self.effects = effects;
        self.propose_wants(now, group, out);
        self.tell_backlog(now, group, out);
        self.release_barriers(now, group, out);
    }

    #[expect(clippy::too_many_arguments, reason = "one effect with all that its entry says")]
    fn on_effect(
        &mut self,
        now: Now,
        group: GroupId,
        origin: Origin,
        emit: bool,
        effect: Effect,
        entry: &CommittedEntry,
        out: &mut ShardOutputs,
    ) {
        match effect {
            Effect::Reply(reply) => {
                if self.is_ours(origin) {
                    let letter = ShardLetter::Replied { number: origin.number, reply: Box::new(reply) };
                    out.letter(origin.number.shard(), Class::Reply, letter);
                }
            }
            Effect::Event(event) => self.tell_followers(now, &event, out),
            _ if !emit => {}
            Effect::Dispatch(assignment) => self.dispatch(now, &assignment, out),
            Effect::CancelTask { worker, task, fencing_token } => {
                self.send_to_worker(now, worker, &CancelTask { task_id: task.uuid(), fencing_token }, out);
            }
            Effect::CreditReturned { worker, amount } => self.send_to_worker(now, worker, &CreditReturned { group: group.0, amount }, out),
            Effect::Out(record) => self.deliver(group, &record, out),
            Effect::InApplied { from, seq, result } => self.on_in_applied(now, group, from, seq, result, entry, out),
        }
    }

    /// Whether this very run of this node proposed an entry.
    fn is_ours(&self, origin: Origin) -> bool {
        origin.node == self.options.node && origin.boot == self.options.boot && origin.number != NO_REPLY
    }

    /// The leader of a group that has just become active: effects of its predecessor may be lost, state is not.
    fn on_active(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        let settings = self.options.settings.clone();
        let term = self.partition(group).led_term();
        for command in self.partition(group).founding_wants(&settings) {
            self.propose_own(now, group, &command, out);
        }
        let views = self.partition(group).machine.workers_view();
        for view in views.iter().filter(|view| view.status != "down") {
            if self.workers.find(view.id).is_none() {
                self.expect_back(now, group, view.id, view.generation);
            }
        }
        for card in self.workers.cards() {
            self.introduce(now, group, &card, out);
        }
        // After the introductions: the credit that answers this must find the workers known.
        self.to_all_shards(Class::Request, out, || ShardLetter::GroupActive { group, term });
        let records: Vec<Arc<Out>> = self.partition(group).machine.pending_out().take(OUT_RETRIES_PER_TURN_MAX).cloned().collect();
        for record in records {
            self.deliver(group, &record, out);
        }
        self.reconcile_schedules(now, group, out);
    }

    /// What a group's machine wants for its own sake.
    pub(super) fn propose_wants(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        let Some(partition) = self.partitions.get_mut(&group) else { return };
        for command in partition.wants(now) {
            self.propose_own(now, group, &command, out);
        }
    }

    /// Sends an attempt to its worker. A worker without a stream gets it when it comes back and is asked what it knows.
    pub(super) fn dispatch(&mut self, now: Now, assignment: &Assignment, out: &mut ShardOutputs) {
        self.stats.tasks_dispatched_count += 1;
        let message = WireAssignment {
            group: assignment.group.0,
            task_id: assignment.task.uuid(),
            instance_id: assignment.instance.uuid(),
            namespace: assignment.namespace.as_str(),
            workflow: &assignment.workflow,
            workflow_version: assignment.workflow_version,
            task: &assignment.task_id,
            task_type: &assignment.task_type,
            attempt: assignment.attempt,
            fencing_token: assignment.fencing_token,
            input: &assignment.input,
            config: &assignment.config,
            timeout_ms: assignment.timeout_ms,
            idempotency_key: &assignment.idempotency_key,
            traceparent: assignment.traceparent.as_deref(),
            cpu_millis: Some(assignment.needs.cpu_millis).filter(|cpu| *cpu > 0),
            memory_mib: Some(assignment.needs.memory_mib).filter(|memory| *memory > 0),
        };
        self.send_to_worker(now, assignment.worker, &message, out);
    }

    /// One frame for a worker, over whichever shard holds its stream.
    pub(super) fn send_to_worker<'a, M: Message<'a>>(&mut self, now: Now, worker: WorkerId, message: &M, out: &mut ShardOutputs) {
        if let Some(attached) = self.workers.find(worker) {
            self.send_to_conn(now, attached.shard, attached.conn, 0, message, out);
        }
    }

    /// One frame for a connection of this or another shard.
    pub(super) fn send_to_conn<'a, M: Message<'a>>(
        &self,
        now: Now,
        shard: ShardIndex,
        conn: ConnId,
        message_id: u64,
        message: &M,
        out: &mut ShardOutputs,
    ) {
        if shard == self.options.index {
            out.frame(conn, message, message_id, now.wall, false);
        } else {
            let mut frames = Vec::new();
            distric_wire::encode(message, message_id, now.wall.as_us(), Flags::NONE, &mut frames);
            out.letter(shard, Class::Reply, ShardLetter::Frames { conn, frames });
        }
    }

    /// Sends an outbox record to the group of its slot.
    fn deliver(&mut self, from_group: GroupId, record: &Arc<Out>, out: &mut ShardOutputs) {
        // The group of a slot is not known before the map is: left to the retry, as all that is lost on the way.
        if self.cluster.is_none() {
            return;
        }
        let group = self.group_of_slot(record.to);
        let letter = ShardLetter::Deliver { group, from_group, record: record.clone() };
        out.letter(owner_of(group, self.options.count), Class::Request, letter);
    }

    /// A record of another group's outbox: decided here, proposed here, dropped here when it was seen before.
    pub(super) fn on_deliver(&mut self, now: Now, group: GroupId, from_group: GroupId, record: &Out, out: &mut ShardOutputs) {
        // Not refused, neither for lack of room nor of a catalog to judge it by: the source delivers it again.
        if !self.serving || !self.proposals.has_room(1) {
            return;
        }
        let OutBody::Publish(published) = &record.body else {
            let relay =
                Command::Relay(Box::new(Relay { from: from_group, seq: record.seq, body: record.body.clone(), floor: record.floor }));
            return self.propose_housekeeping(now, group, &relay, out);
        };
        match self.ingest_of_published(now, published) {
            Ok(body) => {
                let namespace = Some(body.namespace.clone());
                let command = Command::In(Box::new(In { from: from_group, seq: record.seq, body, floor: record.floor }));
                let command = Bytes::from(command.encode());
                self.propose(
                    now,
                    Proposal { waiting: Waiting::Housekeeping, group, command, namespace, definition: None, redefined: 0 },
                    out,
                );
            }
            Err(refusal) => {
                let result = OutResult::Refused { code: refusal.code.name().to_owned(), reason: refusal.reason.into_owned() };
                let letter = ShardLetter::OutAcked { group: from_group, seq: record.seq, result };
                out.letter(owner_of(from_group, self.options.count), Class::Reply, letter);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one effect with all that its entry says")]
    fn on_in_applied(
        &mut self,
        now: Now,
        group: GroupId,
        from: GroupId,
        seq: u64,
        result: InResult,
        entry: &CommittedEntry,
        out: &mut ShardOutputs,
    ) {
        match result {
            InResult::Final(result) => {
                let letter = ShardLetter::OutAcked { group: from, seq, result };
                out.letter(owner_of(from, self.options.count), Class::Reply, letter);
            }
            InResult::Undefined { workflow, version } => {
                let Ok(envelope) = crate::node::envelope::Envelope::open(&entry.data) else { return };
                let Ok(Command::In(again)) = Command::decode(envelope.command) else { return };
                // Absent here means: retired and forgotten since the decision. The source delivers again, and it is decided anew.
                let Some(define) = self.definition(&again.body.namespace, &workflow, version) else { return };
                self.propose_housekeeping(now, group, &define, out);
                self.propose_housekeeping(now, group, &Command::In(again), out);
            }
            // No room at the target: the source's retry delivers it again.
            InResult::Later(_) => {}
        }
    }

    /// A record of an outbox that lives here has arrived.
    pub(super) fn on_out_acked(&mut self, now: Now, group: GroupId, seq: u64, result: OutResult, out: &mut ShardOutputs) {
        self.propose_housekeeping(now, group, &Command::OutAck(OutAck { seq, result }), out);
    }

    /// This shard can judge messages now: what was delivered to it in vain, or by it, need not wait for its turn.
    pub(super) fn deliver_all_again(&mut self, now: Now) {
        for partition in self.partitions.values_mut().filter(|partition| partition.is_active()) {
            partition.out_retry_at = Some(now.mono);
        }
    }

    /// Delivers unacknowledged outbox records again when their time has come.
    pub(super) fn retry_outbox(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        let Some(partition) = self.partitions.get_mut(&group) else { return };
        if partition.out_retry_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let records: Vec<Arc<Out>> = partition.machine.pending_out().take(OUT_RETRIES_PER_TURN_MAX).cloned().collect();
        partition.out_retry_at = (!records.is_empty()).then(|| now.mono.plus_ms(OUT_RETRY_MS));
        for record in records {
            self.deliver(group, &record, out);
        }
    }
}
