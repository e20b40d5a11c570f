//! Restoring: records, in the order of their keys, become a machine again; then everything is computed that no record holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use distric_model::{GroupId, InstanceId, MessageId, WorkerId};

use super::ORIGIN;
use super::record::{
    CHECKPOINT_FORMAT, ClassRecord, DedupeRecord, Header, InstanceRecord, MessageRecord, OutRecord, ProgramRecord, RestoreError, Tag,
    TaskRecord, Text, TextKind, WorkerRecord, decode,
};
use super::tracked::{Tracked, TrackedQueue};
use crate::command::Define;
use crate::machine::Machine;
use crate::machine::admission::gates::{Asker, Gate, Gates};
use crate::machine::compensation::is_open;
use crate::machine::dedupe::{Dedupe, Key, Outcome};
use crate::machine::history::History;
use crate::machine::ingest::Message;
use crate::machine::instances::{Instance, Origin, Task, TaskAt};
use crate::machine::outbox::{Inbox, Outbox};
use crate::machine::schedules::{Schedule, Schedules};
use crate::machine::signals::{Kept, Signals, Waiter};
use crate::machine::state::State;
use crate::machine::stats::Stats;
use crate::machine::tasks::{flow_of, queue_key};
use crate::machine::timers::{Timer, Timers};
use crate::machine::workers::{Lease, Worker, Workers};
use crate::octets::Octets;

impl Machine {
    /// Makes the machine whose checkpoint these records are: the last value of every key that [`Self::take_changes`] told and did not
    /// take back, in ascending order of keys.
    ///
    /// The next [`Self::take_changes`] tells only what changed after this. Counters of [`Self::stats`] start anew.
    /// Errors: [`RestoreError`]; never a panic, whatever the records hold.
    pub fn restore<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: impl IntoIterator<Item = (K, V)>) -> Result<Self, RestoreError> {
        let mut records = records.into_iter();
        let header: Header = match records.next() {
            Some((key, value)) if Tag::of(key.as_ref()) == Some(Tag::Header) => decode(key.as_ref(), value.as_ref())?,
            _ => return Err(RestoreError::NoHeader),
        };
        if header.format > CHECKPOINT_FORMAT {
            return Err(RestoreError::UnknownFormat { format: header.format });
        }
        let mut restoring = Restoring { machine: Self::new(header.group, header.settings.clone()), parts: Parts::default() };
        restoring.machine.version = header.version;
        restoring.machine.applied_index = header.applied_index;
        restoring.machine.now = header.now;
        restoring.machine.state_bytes = header.state_bytes;
        restoring.machine.is_tick_unfinished = header.is_tick_unfinished;
        let mut last_key = vec![Tag::Header as u8];
        for (key, value) in records {
            let (key, value) = (key.as_ref(), value.as_ref());
            if key <= &last_key[..] {
                return Err(RestoreError::out_of_order(key));
            }
            last_key.clear();
            last_key.extend_from_slice(key);
            restoring.read(key, value)?;
        }
        restoring.finish(&header)
    }
}

struct Restoring {
    machine: Machine,
    parts: Parts,
}

/// What has been read.
#[derive(Default)]
struct Parts {
    messages: BTreeMap<MessageId, Message>,
    instances: BTreeMap<InstanceId, Instance>,
    /// Texts that instances have in records of their own and that have not come.
    texts_missing: BTreeSet<(InstanceId, u16, TextKind)>,
    dedupe: Dedupe,
    dedupe_next: Option<u64>,
    out: BTreeMap<u64, (Arc<crate::machine::effects::Out>, Option<TaskAt>)>,
    waiters: BTreeMap<u64, Waiter>,
    signals: BTreeMap<u64, Kept>,
    gates: BTreeMap<u64, Gate>,
    askers: BTreeMap<u64, Asker>,
    schedules: BTreeMap<u64, Schedule>,
    inbox_below: BTreeMap<GroupId, u64>,
    inbox_ahead: BTreeSet<(GroupId, u64)>,
    workers: BTreeMap<WorkerId, Worker>,
    leases: BTreeMap<u64, Lease>,
    finished: Numbered<(distric_model::Timestamp, InstanceId)>,
    kept: Numbered<(distric_model::Timestamp, MessageId)>,
    errands: Numbered<crate::machine::Errand>,
    names: BTreeSet<Arc<str>>,
}

/// The items of a queue as they come.
struct Numbered<T> {
    first: Option<u64>,
    items: VecDeque<T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { first: None, items: VecDeque::new() }
    }
}

impl<T> Numbered<T> {
    fn push(&mut self, key: &[u8], item: T) -> Result<(), RestoreError> {
        let number = number(key)?;
        let first = *self.first.get_or_insert(number);
        if number != first + self.items.len() as u64 {
            return Err(RestoreError::bad(key, "the one before it is missing"));
        }
        self.items.push_back(item);
        Ok(())
    }

    fn queue(self, next: u64) -> Result<TrackedQueue<T>, RestoreError> {
        let first = self.first.unwrap_or(next);
        if first.checked_add(self.items.len() as u64) != Some(next) {
            return Err(RestoreError::bad(&[Tag::Header as u8], format!("a queue does not end before number {next}")));
        }
        Ok(TrackedQueue::restored(first, self.items))
    }
}

impl Restoring {
    fn read(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        let parts = &mut self.parts;
        match Tag::of(key) {
            Some(Tag::Class) => {
                let record: ClassRecord = decode(key, value)?;
                let is_next = self.machine.queues.restore_class(number32(key)?, record.key, record.last, &record.turns);
                if !is_next {
                    return Err(RestoreError::bad(key, "it is not the next class"));
                }
            }
            Some(Tag::Program) => self.read_program(key, decode(key, value)?)?,
            Some(Tag::Message) => {
                let id = MessageId::from_bytes(bytes16(key)?).map_err(|error| RestoreError::bad(key, error.to_string()))?;
                parts.messages.insert(id, message_of(id, decode(key, value)?));
            }
            Some(Tag::Instance) if key.len() == INSTANCE_KEY_BYTES => self.read_instance(key, decode(key, value)?)?,
            Some(Tag::Instance) => self.read_text(key, value)?,
            Some(Tag::Dedupe) => {
                let record: DedupeRecord = decode(key, value)?;
                let number = number(key)?;
                if parts.dedupe_next.is_some_and(|next| next != number) {
                    return Err(RestoreError::bad(key, "the one before it is missing"));
                }
                if parts.dedupe_next.is_none() {
                    parts.dedupe = Dedupe::restored(number);
                }
                parts.dedupe_next = Some(number + 1);
                let outcome = shared_outcome(record.outcome, &parts.messages);
                parts.dedupe.remember(Key::new(&record.namespace, &record.key), record.at, record.payload_hash, outcome);
            }
            Some(Tag::Outbox) => {
                let record: OutRecord = decode(key, value)?;
                parts.out.insert(number(key)?, (record.out, record.task));
            }
            Some(Tag::InboxSource) => {
                parts.inbox_below.insert(GroupId(number32(key)?), decode(key, value)?);
            }
            Some(Tag::InboxAhead) => {
                let source = GroupId(u32::from_be_bytes(part(key, 1)?));
                parts.inbox_ahead.insert((source, u64::from_be_bytes(part(key, 5)?)));
            }
            Some(Tag::Worker) => {
                let id = WorkerId::from_bytes(bytes16(key)?).map_err(|error| RestoreError::bad(key, error.to_string()))?;
                parts.workers.insert(id, worker_of(decode(key, value)?));
            }
            Some(Tag::Lease) => {
                parts.leases.insert(number(key)?, decode(key, value)?);
            }
            Some(Tag::Finished) => parts.finished.push(key, decode(key, value)?)?,
            Some(Tag::Kept) => parts.kept.push(key, decode(key, value)?)?,
            Some(Tag::Errand) => parts.errands.push(key, decode(key, value)?)?,
            Some(Tag::Waiter) => {
                parts.waiters.insert(number(key)?, decode(key, value)?);
            }
            Some(Tag::Signal) => {
                parts.signals.insert(number(key)?, decode(key, value)?);
            }
            Some(Tag::Gate) => {
                parts.gates.insert(number(key)?, decode(key, value)?);
            }
            Some(Tag::Asker) => {
                parts.askers.insert(number(key)?, decode(key, value)?);
            }
            Some(Tag::Schedule) => {
                parts.schedules.insert(number(key)?, decode(key, value)?);
            }
            Some(Tag::Header) | None => return Err(RestoreError::bad(key, "there is no such kind of record")),
        }
        Ok(())
    }

    fn read_program(&mut self, key: &[u8], record: ProgramRecord) -> Result<(), RestoreError> {
        let ProgramRecord { namespace, workflow, version, body } = record;
        let define = Define { namespace, workflow, version, body };
        let machine = &mut self.machine;
        let classes_count = machine.queues.classes_count();
        match machine.programs.define(define, number(key)?, &mut machine.queues) {
            crate::Reply::Done if machine.queues.classes_count() > classes_count => Err(RestoreError::bad(key, "its class is missing")),
            crate::Reply::Done => Ok(()),
            crate::Reply::Refused(refusal) => Err(RestoreError::bad(key, refusal.reason)),
            _ => Err(RestoreError::bad(key, "it cannot be defined")),
        }
    }

    fn read_instance(&mut self, key: &[u8], record: InstanceRecord) -> Result<(), RestoreError> {
        let id = InstanceId::from_bytes(bytes16(key)?).map_err(|error| RestoreError::bad(key, error.to_string()))?;
        let program = self.machine.programs.defined_at(record.program).cloned();
        let program = program.ok_or_else(|| RestoreError::bad(key, "its program is missing"))?;
        if !record.tasks.is_empty() && record.tasks.len() != program.steps.len() {
            return Err(RestoreError::bad(key, format!("it has {} tasks, its program {}", record.tasks.len(), program.steps.len())));
        }
        let parts = &mut self.parts;
        let mut text = |kind, index, text: Text| match text {
            Text::None => None,
            Text::Here(octets) => Some(octets),
            Text::Apart => {
                parts.texts_missing.insert((id, index, kind));
                None
            }
        };
        let payload = match record.message {
            None => text(TextKind::Payload, ORIGIN, record.payload).unwrap_or_default(),
            Some(message) => {
                let message = parts.messages.get_mut(&message).ok_or_else(|| RestoreError::bad(key, "its message is missing"))?;
                message.instances_left_count += 1;
                match record.payload {
                    Text::None => message.derived.as_ref().unwrap_or(&message.payload).clone(),
                    own => text(TextKind::Payload, ORIGIN, own).unwrap_or_default(),
                }
            }
        };
        let params = text(TextKind::Params, ORIGIN, record.params).unwrap_or_default();
        let mut tasks = Vec::with_capacity(record.tasks.len());
        for (index, task) in (0..).zip(record.tasks) {
            tasks.push(task_of(index, task, &mut text));
        }
        for (index, turn) in record.seldom.turns {
            let task: &mut Task = tasks.get_mut(usize::from(index)).ok_or_else(|| RestoreError::bad(key, "it has a turn of no task"))?;
            task.turn = turn;
        }
        let rule = record.rule.map(|rule| shared_name(&mut parts.names, rule));
        let open_count = (0..tasks.len() as u16).filter(|index| is_open(&program, &tasks, *index)).count();
        parts.instances.insert(
            id,
            Instance {
                id,
                program,
                status: record.status,
                origin: Origin {
                    message: record.message,
                    admission: record.seldom.admission,
                    rule,
                    payload,
                    is_payload_changed: record.seldom.is_payload_changed,
                    params,
                    timeout_ms: record.timeout_ms,
                    retry: record.retry,
                    traceparent: record.traceparent,
                    hops: record.hops,
                },
                created_at: record.created_at,
                started_at: record.started_at,
                ended_at: record.ended_at,
                timer: record.timer,
                tasks,
                open_count,
                pause: record.seldom.pause,
                door: record.seldom.door,
                flow: record.seldom.flow,
                verdict: record.verdict,
                failure: record.failure,
                history: History::restored(record.history, record.history_dropped_count),
                revision: record.revision,
                bytes: record.bytes,
                stored_texts: Vec::new(),
            },
        );
        Ok(())
    }

    fn read_text(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        let id = InstanceId::from_bytes(bytes16(key)?).map_err(|error| RestoreError::bad(key, error.to_string()))?;
        let index = u16::from_be_bytes(part(key, INSTANCE_KEY_BYTES)?);
        let kind = key.get(INSTANCE_KEY_BYTES + 2).and_then(|byte| TextKind::of(*byte));
        let kind = kind.ok_or_else(|| RestoreError::bad(key, "there is no such text"))?;
        let instance = self.parts.instances.get_mut(&id).ok_or_else(|| RestoreError::bad(key, "its instance is missing"))?;
        if !self.parts.texts_missing.remove(&(id, index, kind)) {
            return Err(RestoreError::bad(key, "its instance has no such text"));
        }
        let text = Octets::from(value);
        instance.stored_texts.push((kind, index, text.clone()));
        let task = instance.tasks.get_mut(usize::from(index));
        match (kind, task) {
            (TextKind::Payload, None) => instance.origin.payload = text,
            (TextKind::Params, None) => instance.origin.params = text,
            (TextKind::Input, Some(task)) => task.input = Some(text),
            (TextKind::Config, Some(task)) => task.config = Some(text),
            (TextKind::Output, Some(task)) => task.output = Some(text),
            _ => return Err(RestoreError::bad(key, "there is no such text")),
        }
        Ok(())
    }

    /// Everything is read: the rest is computed.
    fn finish(self, header: &Header) -> Result<Machine, RestoreError> {
        let Self { mut machine, mut parts } = self;
        if let Some((id, index, kind)) = parts.texts_missing.first() {
            return Err(RestoreError::bad(&super::text_key(*id, *kind, *index), "the text is missing"));
        }
        machine.queues.restore_arrivals(header.arrivals_count);
        let mut timers = Timers::restored(header.timers_count);
        for (id, instance) in &parts.instances {
            machine.programs.used(&instance.program);
            machine.open_count += usize::from(!instance.status.is_end());
            machine.incidents.note(*id, instance.status);
            let timer = match instance.status {
                State::Scheduled => Some(Timer::Begin(*id)),
                State::Running => Some(Timer::InstanceTimeout(*id)),
                _ => None,
            };
            timers.restore(instance.timer, timer);
            for (index, task) in (0..).zip(&instance.tasks) {
                let at = TaskAt { instance: *id, index };
                let timer = match task.status {
                    State::Assigned => Some(Timer::AttemptTimeout(at)),
                    State::BackingOff => Some(Timer::BackoffEnd(at)),
                    State::Running => Some(Timer::WaitEnd(at)),
                    _ => None,
                };
                timers.restore(task.timer, timer);
                if task.status == State::Ready {
                    machine.queues.push(
                        instance.program.steps[usize::from(index)].class,
                        queue_key(instance, index),
                        at,
                        flow_of(instance),
                    );
                }
            }
        }
        parts.gates.iter().for_each(|(number, gate)| timers.restore(gate.timer, Some(Timer::Gate(*number))));
        for (number, schedule) in &parts.schedules {
            let program = machine.programs.get(&schedule.namespace, &schedule.workflow, schedule.version).cloned();
            let program = program.ok_or_else(|| RestoreError::bad(&Tag::Schedule.numbered(*number), "its program is missing"))?;
            machine.programs.used(&program);
            timers.restore(schedule.timer, Some(Timer::Schedule(*number)));
        }
        machine.schedules = Schedules::restored(parts.schedules);
        machine.timers = timers;
        machine.gates = Gates::restored(parts.gates, parts.askers)
            .map_err(|number| RestoreError::bad(&Tag::Asker.numbered(number), "its key is missing"))?;
        machine.workers = Workers::restored(parts.workers, parts.leases, header.tokens_count)
            .map_err(|token| RestoreError::bad(&Tag::Lease.numbered(token), "its worker is missing, or has too little credit"))?;
        machine.outbox = Outbox::restored(parts.out, header.out_count);
        machine.inbox = Inbox::restored(parts.inbox_below, parts.inbox_ahead)
            .map_err(|source| RestoreError::bad(&Tag::InboxSource.key(&[&source.0.to_be_bytes()]), "the source is missing"))?;
        machine.signals = Signals::restored(parts.waiters, parts.signals);
        if parts.dedupe_next.is_none() {
            parts.dedupe = Dedupe::restored(header.dedupe_next);
        } else if parts.dedupe_next != Some(header.dedupe_next) {
            return Err(RestoreError::bad(&[Tag::Header as u8], "the remembered keys do not end where it says"));
        }
        machine.dedupe = parts.dedupe;
        machine.dedupe.mark_stored();
        machine.retention.finished = parts.finished.queue(header.finished_next)?;
        machine.retention.kept = parts.kept.queue(header.kept_next)?;
        machine.errands = parts.errands.queue(header.errands_next)?;
        machine.messages = Tracked::restored(parts.messages);
        machine.instances = Tracked::restored(parts.instances);
        machine.programs.mark_stored();
        machine.queues.mark_stored();
        machine.stats = Stats::default();
        Ok(machine)
    }
}

fn message_of(id: MessageId, record: MessageRecord) -> Message {
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

fn task_of(index: u16, record: TaskRecord, text: &mut impl FnMut(TextKind, u16, Text) -> Option<Octets>) -> Task {
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

fn worker_of(record: WorkerRecord) -> Worker {
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
        tokens: BTreeSet::new(),
        busy: record.busy,
        load: None,
    }
}

/// The outcome with its lists shared with the message that it is of, as long as that is kept.
fn shared_outcome(outcome: Outcome, messages: &BTreeMap<MessageId, Message>) -> Outcome {
    let Outcome::Message { message_id, catalog_version, rules, instances } = outcome else { return outcome };
    match messages.get(&message_id).filter(|message| message.rules == rules && message.instances == instances) {
        Some(message) => {
            Outcome::Message { message_id, catalog_version, rules: message.rules.clone(), instances: message.instances.clone() }
        }
        None => Outcome::Message { message_id, catalog_version, rules, instances },
    }
}

fn shared_name(names: &mut BTreeSet<Arc<str>>, name: Arc<str>) -> Arc<str> {
    if let Some(known) = names.get(&name) {
        return known.clone();
    }
    names.insert(name.clone());
    name
}

const INSTANCE_KEY_BYTES: usize = 17;

/// The `N` bytes of a key from a place on.
fn part<const N: usize>(key: &[u8], from: usize) -> Result<[u8; N], RestoreError> {
    let bytes = key.get(from..from + N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| RestoreError::bad(key, "its key is too short"))
}

fn bytes16(key: &[u8]) -> Result<[u8; 16], RestoreError> {
    part(key, 1)
}

fn number(key: &[u8]) -> Result<u64, RestoreError> {
    Ok(u64::from_be_bytes(part(key, 1)?))
}

fn number32(key: &[u8]) -> Result<u32, RestoreError> {
    Ok(u32::from_be_bytes(part(key, 1)?))
}
