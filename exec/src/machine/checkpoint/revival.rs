//! Revival: single records of a checkpoint as the values of a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::{MessageId, Needs};

use super::record::{MessageRecord, TaskRecord, Text, TextKind, WorkerRecord};
use crate::machine::dedupe::Outcome;
use crate::machine::ingest::Message;
use crate::machine::instances::Task;
use crate::machine::workers::Worker;
use crate::octets::Octets;

pub(super) fn message_of(id: MessageId, record: MessageRecord) -> Message {
    Message {
        id,
        namespace: record.namespace,
        event_type: record.event_type,
        source: record.source,
        timestamp_us: record.timestamp_us,
        headers: record.headers,
        payload: record.payload,
        derived: record.derived,
        payload_hash: record.payload_hash,
        received_us: record.received_us,
        catalog_version: record.catalog_version,
        rules: record.rules,
        instances: record.instances,
        instances_left_count: 0,
        bytes: record.bytes,
    }
}

pub(super) fn task_of(index: u16, record: TaskRecord, text: &mut impl FnMut(TextKind, u16, Text) -> Option<Octets>) -> Task {
    Task {
        status: record.status,
        attempt: record.attempt,
        losses_count: record.losses_count,
        token: record.token,
        settled_token: record.settled_token,
        worker: record.worker,
        assigned_at: record.assigned_at,
        next_attempt_at: record.next_attempt_at,
        ended_at: record.ended_at,
        timer: record.timer,
        arrival: record.arrival,
        turn: 0,
        waiting_count: record.waiting_count,
        input: text(TextKind::Input, index, record.input),
        config: text(TextKind::Config, index, record.config),
        output: text(TextKind::Output, index, record.output),
        idempotency_key: record.idempotency_key,
        failure: record.failure,
        out_seq: record.out_seq,
        rerun: record.rerun,
    }
}

pub(super) fn worker_of(record: WorkerRecord) -> Worker {
    let (busy, capacity, elsewhere) = record.seldom.parts();
    Worker {
        generation: record.generation,
        is_up: record.is_up,
        is_draining: record.is_draining,
        name: record.name,
        slots: record.slots,
        prefetch: record.prefetch,
        task_types: record.task_types.into_iter().collect(),
        labels: record.labels,
        granted: record.granted,
        in_use: 0,
        since: record.since,
        busy,
        capacity,
        held: Needs::default(),
        elsewhere,
        tokens: BTreeSet::new(),
        load: None,
    }
}

/// The outcome with its lists shared with the message that it is of, as long as that is kept.
pub(super) fn shared_outcome(outcome: Outcome, messages: &BTreeMap<MessageId, Message>) -> Outcome {
    let Outcome::Message { message_id, catalog_version, rules, instances } = outcome else { return outcome };
    match messages.get(&message_id).filter(|message| message.rules == rules && message.instances == instances) {
        Some(message) => {
            Outcome::Message { message_id, catalog_version, rules: message.rules.clone(), instances: message.instances.clone() }
        }
        None => Outcome::Message { message_id, catalog_version, rules, instances },
    }
}

pub(super) fn shared_name(names: &mut BTreeSet<Arc<str>>, name: Arc<str>) -> Arc<str> {
    if let Some(known) = names.get(&name) {
        return known.clone();
    }
    names.insert(name.clone());
    name
}
