//! Checkpoints: the whole state as records, written step by step. A restart reads them and applies what the log has beyond.
//!
//! [`Machine::take_changes`] tells what changed since it was last called, in time proportional to the change and not to the state;
//! [`Machine::restore`] makes the same machine from the records that all those changes left.
//! Invariant: a restored machine has the digest of the original and the same effects for every entry that follows.
//! Checked by: `exec/tests/checkpoint.rs`.

pub mod record;
mod restore;
mod revival;
pub(super) mod tracked;

use distric_model::{Change, InstanceId};

use self::record::{
    CHECKPOINT_FORMAT, ClassRecord, DedupeRecord, Header, InstanceRecord, Kin, MessageRecord, OutRecord, ProgramRecord, Seldom,
    TEXT_BYTES_HERE_MAX, Tag, TaskRecord, Text, TextKind, WorkerRecord, WorkerSeldom, encode,
};
use super::Machine;
use super::instances::{Instance, Task};
use crate::octets::Octets;

/// A text of an instance that a checkpoint has in a record of its own: which, of which task, and what it was.
pub(super) type StoredText = (TextKind, u16, Octets);

impl Machine {
    /// Appends to `out` every record that is new, different or gone since the last call; the first time, every record there is.
    ///
    /// To be called between two entries. Whoever calls it keeps the changes, in order, with the log position [`Self::applied_index`]:
    /// the machine will not tell them again. Shape: O(what changed); one instance is one record, with those of its texts that are
    /// longer than 256 bytes apart, which are written when they change only.
    pub fn take_changes(&mut self, out: &mut Vec<Change>) {
        out.push(Change::put(Tag::Header.key(&[]), encode(&self.header())));
        self.queues.take_changes(out, |id, key, last, turns| {
            Change::put(Tag::Class.key(&[&id.to_be_bytes()]), encode(&ClassRecord { key: key.clone(), last, turns }))
        });
        self.programs.take_changes(out, |program| {
            let (namespace, workflow, body) = (program.namespace.clone(), program.workflow.clone(), program.text().clone());
            encode(&ProgramRecord { namespace, workflow, version: program.version, body })
        });
        self.messages.take_changes(
            out,
            |id| Tag::Message.key(&[&id.to_bytes()]),
            |_, message, _| {
                encode(&MessageRecord {
                    namespace: message.namespace.clone(),
                    event_type: message.event_type.clone(),
                    source: message.source.clone(),
                    timestamp_us: message.timestamp_us,
                    headers: message.headers.clone(),
                    payload: message.payload.clone(),
                    derived: message.derived.clone(),
                    payload_hash: message.payload_hash,
                    received_us: message.received_us,
                    catalog_version: message.catalog_version,
                    rules: message.rules.clone(),
                    instances: message.instances.clone(),
                    bytes: message.bytes,
                })
            },
        );
        out.extend(self.texts_gone.drain(..).map(|(instance, kind, index)| Change::removed(text_key(instance, kind, index))));
        self.instances.take_changes(out, |id| Tag::Instance.key(&[&id.to_bytes()]), |_, instance, out| record_of(instance, out));
        self.dedupe.take_changes(
            out,
            |number| Tag::Dedupe.numbered(number),
            |at, key, payload_hash, outcome| {
                let (namespace, key) = (key.namespace.clone(), key.key.clone());
                encode(&DedupeRecord { at, namespace, key, payload_hash, outcome: outcome.clone() })
            },
        );
        self.outbox.take_changes(
            out,
            |seq| Tag::Outbox.numbered(*seq),
            |(record, task)| encode(&OutRecord { out: record.clone(), task: *task }),
        );
        self.inbox.take_changes(
            out,
            |from| Tag::InboxSource.key(&[&from.0.to_be_bytes()]),
            |(from, seq)| Tag::InboxAhead.key(&[&from.0.to_be_bytes(), &seq.to_be_bytes()]),
        );
        self.signals.take_changes(out, |number| Tag::Waiter.numbered(*number), |number| Tag::Signal.numbered(*number));
        self.gates.take_changes(out, |number| Tag::Gate.numbered(*number), |number| Tag::Asker.numbered(*number));
        self.schedules.take_changes(out, |number| Tag::Schedule.numbered(*number));
        self.workers.take_changes(
            out,
            |id| Tag::Worker.key(&[&id.to_bytes()]),
            |worker| {
                encode(&WorkerRecord {
                    generation: worker.generation,
                    is_up: worker.is_up,
                    is_draining: worker.is_draining,
                    name: worker.name.clone(),
                    slots: worker.slots,
                    prefetch: worker.prefetch,
                    task_types: worker.task_types.iter().cloned().collect(),
                    labels: worker.labels.clone(),
                    granted: worker.granted,
                    since: worker.since,
                    seldom: WorkerSeldom::of(worker.busy, worker.capacity, worker.elsewhere),
                })
            },
            |token| Tag::Lease.numbered(*token),
            encode,
        );
        self.retention.finished.take_changes(out, |number| Tag::Finished.numbered(number), encode);
        self.retention.kept.take_changes(out, |number| Tag::Kept.numbered(number), encode);
        self.loops.take_changes(out);
        self.errands.take_changes(out, |number| Tag::Errand.numbered(number), encode);
    }

    fn header(&self) -> Header {
        Header {
            format: CHECKPOINT_FORMAT,
            group: self.group,
            version: self.version,
            applied_index: self.applied_index,
            now: self.now,
            settings: self.settings.clone(),
            state_bytes: self.state_bytes,
            is_tick_unfinished: self.is_tick_unfinished,
            arrivals_count: self.queues.arrivals_count(),
            tokens_count: self.workers.tokens_count(),
            timers_count: self.timers.set_count(),
            out_count: self.outbox.added_count(),
            dedupe_next: self.dedupe.next(),
            finished_next: self.retention.finished.next(),
            kept_next: self.retention.kept.next(),
            errands_next: self.errands.next(),
        }
    }
}

/// The record of an instance. Its larger texts that the last checkpoint does not have go to `out`, each with a record of its own.
fn record_of(instance: &mut Instance, out: &mut Vec<Change>) -> Vec<u8> {
    let mut texts = Texts { id: instance.id, stored: std::mem::take(&mut instance.stored_texts), kept: Vec::new(), out };
    // The payload and parameters of what a message started: the payload is the message's.
    let payload = match instance.origin.message {
        Some(_) if !instance.origin.is_payload_changed => Text::None,
        _ => texts.place(TextKind::Payload, ORIGIN, Some(&instance.origin.payload)),
    };
    let params = texts.place(TextKind::Params, ORIGIN, Some(&instance.origin.params));
    let tasks = (0..).zip(&instance.tasks).map(|(index, task)| task_record(index, task, &mut texts)).collect();
    let origin = &instance.origin;
    let turns = (0..).zip(&instance.tasks).filter(|(_, task)| task.turn > 0).map(|(index, task)| (index, task.turn));
    let record = InstanceRecord {
        program: instance.program.defined_at,
        status: instance.status,
        message: origin.message,
        rule: origin.rule.clone(),
        payload,
        params,
        timeout_ms: origin.timeout_ms,
        retry: origin.retry.as_deref().copied(),
        traceparent: origin.traceparent.clone(),
        hops: origin.hops,
        created_at: instance.created_at,
        started_at: instance.started_at,
        ended_at: instance.ended_at,
        timer: instance.timer,
        verdict: instance.verdict,
        failure: instance.failure.clone(),
        history: instance.history.iter().collect(),
        history_dropped_count: instance.history.dropped_count(),
        revision: instance.revision,
        bytes: instance.bytes,
        tasks,
        seldom: Seldom {
            is_payload_changed: instance.origin.is_payload_changed,
            pause: instance.pause.as_deref().cloned(),
            door: instance.door.clone(),
            admission: instance.origin.admission.clone(),
            flow: instance.flow.clone(),
            turns: turns.collect(),
            kin: Kin { family: origin.family.clone(), output: instance.output.clone(), body: instance.program.body },
        },
    };
    instance.stored_texts = texts.finish();
    encode(&record)
}

fn task_record(index: u16, task: &Task, texts: &mut Texts<'_>) -> TaskRecord {
    TaskRecord {
        status: task.status,
        attempt: task.attempt,
        losses_count: task.losses_count,
        token: task.token,
        settled_token: task.settled_token,
        worker: task.worker,
        assigned_at: task.assigned_at,
        next_attempt_at: task.next_attempt_at,
        ended_at: task.ended_at,
        timer: task.timer,
        arrival: task.arrival,
        waiting_count: task.waiting_count,
        input: texts.place(TextKind::Input, index, task.input.as_ref()),
        config: texts.place(TextKind::Config, index, task.config.as_ref()),
        output: texts.place(TextKind::Output, index, task.output.as_ref()),
        idempotency_key: task.idempotency_key.clone(),
        failure: task.failure.clone(),
        out_seq: task.out_seq,
        rerun: task.rerun,
    }
}

/// The texts of one instance on their way into records.
struct Texts<'a> {
    id: InstanceId,
    /// What the last checkpoint has of it.
    stored: Vec<StoredText>,
    /// What this one will have.
    kept: Vec<StoredText>,
    out: &'a mut Vec<Change>,
}

impl Texts<'_> {
    fn place(&mut self, kind: TextKind, index: u16, text: Option<&Octets>) -> Text {
        let Some(text) = text else { return Text::None };
        if text.len() <= TEXT_BYTES_HERE_MAX {
            return Text::Here(text.clone());
        }
        let place = self.stored.iter().position(|(stored, at, _)| (*stored, *at) == (kind, index));
        let is_there = place.is_some_and(|place| self.stored.swap_remove(place).2.shares_with(text));
        if !is_there {
            self.out.push(Change::put(text_key(self.id, kind, index), text.to_vec()));
        }
        self.kept.push((kind, index, text.clone()));
        Text::Apart
    }

    /// What is left of the last checkpoint's texts is gone.
    fn finish(self) -> Vec<StoredText> {
        self.out.extend(self.stored.iter().map(|(kind, index, _)| Change::removed(text_key(self.id, *kind, *index))));
        self.kept
    }
}

/// The place of an instance's own texts: no task has this index.
const ORIGIN: u16 = u16::MAX;

fn text_key(instance: InstanceId, kind: TextKind, index: u16) -> Vec<u8> {
    Tag::Instance.key(&[&instance.to_bytes(), &index.to_be_bytes(), &[kind as u8]])
}
