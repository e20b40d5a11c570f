//! Answers: from what a machine said, or from a refusal, to the frame that the client gets. Each request gets exactly one.

use distric_exec::command::OutResult;
use distric_exec::{Command, Reply, Verdict};
use distric_model::{GroupId, TaskId};
use distric_wire::Code;
use distric_wire::client::{BatchOutcome, BatchResponse, QueryReply, Response, SubmitOutcome};
use distric_wire::task::ResultAck;
use distric_wire::{Items, Strs, Uuids};
use serde_json::{Value, json};

use super::connections::ReplyTo;
use super::proposals::{Proposal, REDEFINE_MAX, Waiting};
use super::{Note, Shard, ShardOutputs};
use crate::node::envelope::ProposalNumber;
use crate::node::letters::{Class, ConnId, ShardLetter, Unplaced};
use crate::node::machine_clock::Now;
use crate::node::owner_of;
use crate::node::refusal::Refusal;

/// After an election the client should come back this soon, milliseconds.
pub(super) const ELECTION_RETRY_MS: u64 = 200;
/// A log with too much in flight asks to wait this long, milliseconds.
const LOG_FULL_RETRY_MS: u64 = 50;

impl Shard {
    /// A work group's machine answered a proposal of this shard.
    pub(super) fn on_replied(&mut self, now: Now, number: ProposalNumber, reply: Reply, out: &mut ShardOutputs) {
        let Some((opened_at, proposal)) = self.proposals.close(number) else { return };
        self.stats.commit.observe_us(now.mono.since_us(opened_at));
        if let Reply::Undefined { workflow, version } = &reply {
            return self.define_and_repeat(now, proposal, workflow, *version, out);
        }
        match proposal.waiting {
            Waiting::Submit(to) => self.answer_submit(now, to, &reply, out),
            Waiting::Command(to) => self.answer_command(now, to, &reply, out),
            Waiting::Result { conn } => {
                if let Reply::TaskVerdict { task, fencing_token, verdict } = reply {
                    self.acknowledge_result(now, conn, task, fencing_token, verdict, out);
                }
            }
            Waiting::Definition => self.forget_definition(proposal.group, proposal.command),
            Waiting::Catalog { .. } | Waiting::Housekeeping | Waiting::Drain { .. } | Waiting::OwnLead { .. } => {}
        }
    }

    /// The group does not know a workflow version: its definition first, then the same command again, in one breath.
    fn define_and_repeat(&mut self, now: Now, proposal: Proposal, workflow: &str, version: u64, out: &mut ShardOutputs) {
        let from_catalog = || {
            let define = proposal.namespace.as_ref().and_then(|namespace| self.definition(namespace, workflow, version));
            define.map(|define| bytes::Bytes::from(define.encode()))
        };
        match proposal.definition.clone().or_else(from_catalog) {
            Some(command) if proposal.redefined < REDEFINE_MAX => {
                // One that is on its way already is before whatever is proposed now. A command that was put behind it and is still without it
                // says that it was lost.
                let puts = self.defining.entry((proposal.group, command.clone())).or_default();
                if *puts <= proposal.redefined {
                    *puts = proposal.redefined + 1;
                    let (waiting, group) = (Waiting::Definition, proposal.group);
                    self.propose(now, Proposal { waiting, group, command, namespace: None, definition: None, redefined: 0 }, out);
                }
                self.propose(now, Proposal { redefined: proposal.redefined + 1, ..proposal }, out);
            }
            _ => {
                let refusal = Refusal::new(Code::UnknownWorkflow, format!("workflow `{workflow}` version {version} is not in the catalog"));
                self.refuse_waiting(now, proposal, refusal, out);
            }
        }
    }

    /// A definition is no longer on its way: the next command that needs it brings it again.
    fn forget_definition(&mut self, group: GroupId, command: bytes::Bytes) {
        self.defining.remove(&(group, command));
    }

    /// A proposal did not enter its log: certainly not done.
    pub(super) fn on_refused(&mut self, now: Now, number: ProposalNumber, why: Unplaced, out: &mut ShardOutputs) {
        let Some((_, proposal)) = self.proposals.close(number) else { return };
        let is_kept = proposal.waiting.is_for_nobody() || matches!(proposal.waiting, Waiting::Result { .. });
        if why == Unplaced::Overloaded && is_kept {
            return self.proposals.defer(now.mono, proposal);
        }
        self.note_refused_own(&proposal);
        let refusal = match why {
            Unplaced::Overloaded => Refusal::new(Code::Overloaded, "too much waits to be committed").retry_after_ms(LOG_FULL_RETRY_MS),
            Unplaced::NoLeader => Refusal::new(Code::Unavailable, format!("{} has no leader that can be reached", proposal.group))
                .retry_after_ms(ELECTION_RETRY_MS),
            Unplaced::TooLarge { limit_bytes } => {
                let (group, bytes) = (proposal.group.to_string(), proposal.command.len() as u64);
                out.notes.push(Note::CommandTooLarge { group, bytes, limit_bytes });
                let reason = format!("with what the rules made of it this has {bytes} bytes, and the log takes {limit_bytes}");
                Refusal::new(Code::TooLarge, reason).limit("command_bytes_max", limit_bytes)
            }
        };
        if matches!(why, Unplaced::TooLarge { .. }) && proposal.group != GroupId::META {
            self.refuse_record(&proposal, &refusal, out);
        }
        self.refuse_waiting(now, proposal, refusal, out);
    }

    /// A record of another group's outbox that no log takes: its source hears so, or it would deliver it for ever.
    fn refuse_record(&self, proposal: &Proposal, refusal: &Refusal, out: &mut ShardOutputs) {
        let Ok(Command::In(record)) = Command::decode(&proposal.command) else { return };
        let (from, seq) = (record.from, record.seq);
        let result = OutResult::Refused { code: refusal.code.name().to_owned(), reason: refusal.reason.to_string() };
        out.letter(owner_of(from, self.options.count), Class::Reply, ShardLetter::OutAcked { group: from, seq, result });
    }

    /// Nothing was heard of a proposal in time: its fate is unknown, and must not be called a failure.
    pub(super) fn answer_unknown(&mut self, now: Now, proposal: Proposal, out: &mut ShardOutputs) {
        self.note_refused_own(&proposal);
        let reason = "no answer from the log in time; send it again with the same idempotency key";
        self.refuse_waiting(now, proposal, Refusal::new(Code::OutcomeUnknown, reason).retry_after_ms(ELECTION_RETRY_MS), out);
    }

    fn note_refused_own(&mut self, proposal: &Proposal) {
        if let Waiting::OwnLead { term } = proposal.waiting
            && let Some(partition) = self.partitions.get_mut(&proposal.group)
        {
            partition.on_refused_own(term);
        }
    }

    fn refuse_waiting(&mut self, now: Now, proposal: Proposal, refusal: Refusal, out: &mut ShardOutputs) {
        match proposal.waiting {
            Waiting::Submit(to) | Waiting::Command(to) => self.refuse(now, to, refusal, out),
            // The worker keeps its result and sends it again when the session is renewed or its own patience ends.
            Waiting::Result { .. } | Waiting::Housekeeping | Waiting::OwnLead { .. } => {}
            Waiting::Drain { tries } => self.drain_again(now, tries, proposal, out),
            Waiting::Definition => self.forget_definition(proposal.group, proposal.command),
            Waiting::Catalog { from, .. } => Self::answer(from, super::super::question::Answer::Rejected(Box::new(refusal)), out),
        }
    }

    /// Answers a Submit from what the machine said, now or when the key was first used.
    pub(super) fn answer_submit(&mut self, now: Now, to: ReplyTo, reply: &Reply, out: &mut ShardOutputs) {
        match reply {
            Reply::Accepted { message_id, catalog_version, rules, instances, repeat } => {
                if *repeat {
                    self.stats.messages_repeat_count += 1;
                } else {
                    self.stats.messages_accepted_count += 1;
                }
                let rules: Vec<&str> = rules.iter().map(|rule| &**rule).collect();
                let workflows: Vec<&str> = instances.iter().map(|(workflow, _)| &**workflow).collect();
                let instances: Vec<uuid::Uuid> = instances.iter().map(|(_, instance)| instance.uuid()).collect();
                let outcome = if *repeat { SubmitOutcome::Repeat } else { SubmitOutcome::Accepted };
                let response = Response {
                    outcome: outcome.number(),
                    message_id: message_id.uuid(),
                    catalog_version: *catalog_version,
                    rules: Strs::of(&rules),
                    workflows: Strs::of(&workflows),
                    instances: Uuids::of(&instances),
                };
                self.respond(now, to, &response, out);
            }
            other => self.refuse(now, to, refusal_of(other), out),
        }
    }

    fn answer_command(&mut self, now: Now, to: ReplyTo, reply: &Reply, out: &mut ShardOutputs) {
        match reply {
            Reply::Started { instance, repeat } => self.document(now, to, &json!({ "instance": instance, "repeat": repeat }), None, out),
            Reply::Signalled { delivered, repeat } => {
                self.document(now, to, &json!({ "delivered": delivered, "repeat": repeat }), None, out);
            }
            Reply::Done => self.document(now, to, &json!({ "done": true }), None, out),
            other => self.refuse(now, to, refusal_of(other), out),
        }
    }

    fn acknowledge_result(&mut self, now: Now, conn: ConnId, task: TaskId, fencing_token: u64, verdict: Verdict, out: &mut ShardOutputs) {
        let verdict = match verdict {
            Verdict::Accepted => distric_wire::task::Verdict::Accepted,
            Verdict::Stale => distric_wire::task::Verdict::Stale,
            Verdict::Unknown => distric_wire::task::Verdict::Unknown,
        };
        let ack = ResultAck { task_id: task.uuid(), fencing_token, verdict: verdict.number() };
        out.frame(conn, &ack, 0, now.wall, false);
    }

    /// Sends the answer to a Submit.
    pub(super) fn respond(&mut self, now: Now, to: ReplyTo, response: &Response<'_>, out: &mut ShardOutputs) {
        match to {
            ReplyTo::Frame { conn, message_id, bytes } => {
                self.connections.settle(conn, bytes);
                out.frame(conn, response, message_id, now.wall, false);
            }
            ReplyTo::Batch { batch, position } => self.fill_batch(now, batch, position, &BatchOutcome::Response(*response), out),
        }
    }

    /// Sends a refusal.
    pub(super) fn refuse(&mut self, now: Now, to: ReplyTo, refusal: Refusal, out: &mut ShardOutputs) {
        self.stats.rejections_count += 1;
        match to {
            ReplyTo::Frame { conn, message_id, bytes } => {
                self.connections.settle(conn, bytes);
                out.frame(conn, &refusal.to_wire(), message_id, now.wall, false);
            }
            ReplyTo::Batch { batch, position } => self.fill_batch(now, batch, position, &BatchOutcome::Rejection(refusal.to_wire()), out),
        }
    }

    /// Sends a document as the answer to a query or command.
    pub(super) fn document(&mut self, now: Now, to: ReplyTo, body: &Value, version: Option<u64>, out: &mut ShardOutputs) {
        self.raw_document(now, to, body.to_string().as_bytes(), None, version, out);
    }

    /// As [`Self::document`], for a document that is text already and may go on.
    pub(super) fn raw_document(
        &mut self,
        now: Now,
        to: ReplyTo,
        body: &[u8],
        next_cursor: Option<&str>,
        version: Option<u64>,
        out: &mut ShardOutputs,
    ) {
        let ReplyTo::Frame { conn, message_id, bytes } = to else { return };
        self.connections.settle(conn, bytes);
        let frame_bytes_max = self.options.frame_bytes_max as usize;
        if body.len() + QUERY_REPLY_OVERHEAD_BYTES > frame_bytes_max {
            let refusal = Refusal::new(Code::TooLarge, "the answer does not fit in a frame; ask for less")
                .limit("frame_bytes_max", frame_bytes_max as u64);
            return self.reject_frame(now, conn, message_id, &refusal, out);
        }
        let compress = self.connections.compresses(conn);
        let reply = QueryReply { content_type: "application/json", body, next_cursor, version };
        out.frame(conn, &reply, message_id, now.wall, compress);
    }

    fn fill_batch(&mut self, now: Now, number: u64, position: usize, outcome: &BatchOutcome<'_>, out: &mut ShardOutputs) {
        let Some(batch) = self.batches.get_mut(&number) else { return };
        batch.items[position] = outcome.to_item();
        batch.open -= 1;
        if batch.open > 0 {
            return;
        }
        let batch = self.batches.remove(&number).expect("looked up above");
        if let ReplyTo::Frame { conn, message_id, bytes } = batch.to {
            self.connections.settle(conn, bytes);
            let items: Vec<&[u8]> = batch.items.iter().map(Vec::as_slice).collect();
            let compress = self.connections.compresses(conn);
            out.frame(conn, &BatchResponse { items: Items::of(&items) }, message_id, now.wall, compress);
        }
    }
}

/// Room for the fields of a QueryReply besides its body.
const QUERY_REPLY_OVERHEAD_BYTES: usize = 512;

/// A machine's answer that is not a success.
fn refusal_of(reply: &Reply) -> Refusal {
    match reply {
        Reply::Conflict { message_id: Some(first) } => {
            Refusal::new(Code::IdempotencyConflict, format!("the idempotency key was used with another payload by message {first}"))
                .field("idempotency_key")
        }
        Reply::Conflict { message_id: None } => {
            Refusal::new(Code::IdempotencyConflict, "the idempotency key was used for something else").field("idempotency_key")
        }
        Reply::Refused(refusal) => refusal.into(),
        other => Refusal::new(Code::Internal, format!("unexpected answer of the machine: {other:?}")),
    }
}
