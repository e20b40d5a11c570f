//! Ingest: messages come in, with what the rules decided about them; workflows are started without a message.
//!
//! The order of the checks is part of the contract: a resend is recognised before anything else, then what can be mended by
//! proposing again (`Undefined`), then what is refused. Until all have passed, nothing changes.

use std::sync::Arc;

use distric_model::limits::{HEADERS_MAX, HOPS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX};
use distric_model::{GroupId, InstanceId, MessageId, Namespace, Timestamp};
use serde::Serialize;
use serde::de::IgnoredAny;

use super::Machine;
use super::admission::door::ActionAdmission;
use super::dedupe::{Key, Outcome};
use super::effects::{Effect, InResult, OutBody, Refusal, RefusalCode, Reply};
use super::families::Family;
use super::instances::Origin;
use super::programs::Program;
use super::turn::Turn;
use crate::command::{In, Ingest, OutResult, Relay, Start, StartAction};
use crate::definition::CALLED_WORKFLOWS_MAX;
use crate::octets::Octets;

/// Most workflows that one message starts.
pub const ACTIONS_PER_MESSAGE_MAX: usize = 256;
/// Keys whose window is over that every ingest forgets, so that a steady stream needs no ticks for it.
const FORGOTTEN_PER_INGEST_MAX: usize = 4;
/// What a message is charged beside its content.
const MESSAGE_BYTES_AROUND: u64 = 360;
/// When a full machine may be asked again, milliseconds: room comes with retention, which is slow.
const STORAGE_FULL_RETRY_MS: u64 = 5_000;

/// A message, kept as long as an instance that it started; unmatched ones as long as history.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub id: MessageId,
    pub namespace: Namespace,
    pub event_type: Option<Arc<str>>,
    pub source: Option<Arc<str>>,
    pub timestamp_us: Option<u64>,
    pub headers: Vec<(String, String)>,
    pub payload: Octets,
    /// The payload after transforms, when there were any: what its instances work on.
    pub derived: Option<Octets>,
    pub payload_hash: u64,
    pub received_us: u64,
    pub catalog_version: u64,
    pub rules: Arc<[Arc<str>]>,
    pub instances: Arc<[(Arc<str>, InstanceId)]>,
    /// Instances that are not forgotten.
    pub instances_left_count: usize,
    pub bytes: u64,
}

impl Machine {
    /// Takes a message in, or says why not.
    pub(super) fn ingest(&mut self, turn: &mut Turn<'_>, ingest: Ingest) -> Reply {
        self.dedupe.forget(turn.now, self.settings.dedupe_window_ms, FORGOTTEN_PER_INGEST_MAX);
        let key = ingest.idempotency_key.as_ref().map(|key| Key::new(&ingest.namespace, key));
        if let Some(reply) = self.recall_message(key.as_ref(), &ingest) {
            self.stats.repeats_count += 1;
            return reply;
        }
        let programs = match self.programs_of(&ingest) {
            Ok(programs) => programs,
            Err(undefined) => return undefined,
        };
        if let Err(refusal) = check_message(&ingest).and_then(|()| self.check_room(key.as_ref(), turn.now)) {
            self.stats.refusals_count += 1;
            return Reply::Refused(refusal);
        }
        self.stats.messages_count += 1;
        self.accept(turn, key, ingest, programs)
    }

    fn accept(&mut self, turn: &mut Turn<'_>, key: Option<Key>, ingest: Ingest, programs: Vec<Arc<Program>>) -> Reply {
        let payload = ingest.derived.as_ref().unwrap_or(&ingest.payload).clone();
        let actions = ingest.actions.iter().zip(programs);
        let instances = actions.map(|(action, program)| {
            let origin = origin_of(&ingest, action, payload.clone());
            (action.workflow.clone(), self.create_instance(turn, ingest.message_id.slot(), program, origin, action.delay_ms))
        });
        let instances: Arc<[(Arc<str>, InstanceId)]> = instances.collect();
        let rules: Arc<[Arc<str>]> = Arc::from(ingest.rules);
        let headers_bytes: usize = ingest.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let derived_bytes = ingest.derived.as_ref().map_or(0, |derived| derived.len());
        let message = Message {
            id: ingest.message_id,
            namespace: ingest.namespace,
            event_type: ingest.event_type,
            source: ingest.source,
            timestamp_us: ingest.timestamp_us,
            headers: ingest.headers,
            bytes: (ingest.payload.len() + headers_bytes + derived_bytes) as u64 + MESSAGE_BYTES_AROUND,
            payload: ingest.payload,
            derived: ingest.derived,
            payload_hash: ingest.payload_hash,
            received_us: ingest.received_us,
            catalog_version: ingest.catalog_version,
            rules: rules.clone(),
            instances: instances.clone(),
            instances_left_count: instances.len(),
        };
        let outcome = Outcome::Message { message_id: message.id, catalog_version: message.catalog_version, rules, instances };
        let reply = match outcome.repeated() {
            Reply::Accepted { message_id, catalog_version, rules, instances, .. } => {
                Reply::Accepted { message_id, catalog_version, rules, instances, repeat: false }
            }
            other => other,
        };
        if let Some(key) = key {
            self.dedupe.remember(key, turn.now, message.payload_hash, outcome);
        }
        self.state_bytes += message.bytes;
        if message.instances.is_empty() {
            self.retention.message_kept(turn.now, message.id);
        }
        self.messages.insert(message.id, message);
        if self.retention.kept_count() > self.settings.history_messages_max {
            self.forget_oldest_kept_message();
        }
        reply
    }

    /// What a message that came before is answered: one with the same idempotency key, or with the same id.
    fn recall_message(&self, key: Option<&Key>, ingest: &Ingest) -> Option<Reply> {
        if let Some(reply) = key.and_then(|key| self.dedupe.recall(key, ingest.payload_hash)) {
            return Some(reply);
        }
        let message = self.messages.get(&ingest.message_id)?;
        if message.payload_hash != ingest.payload_hash || message.namespace != ingest.namespace {
            return Some(Reply::Conflict { message_id: Some(message.id) });
        }
        Some(Reply::Accepted {
            message_id: message.id,
            catalog_version: message.catalog_version,
            rules: message.rules.clone(),
            instances: message.instances.clone(),
            repeat: true,
        })
    }

    fn programs_of(&self, ingest: &Ingest) -> Result<Vec<Arc<Program>>, Reply> {
        let mut programs = Vec::with_capacity(ingest.actions.len());
        for action in &ingest.actions {
            programs.push(self.program_of(&ingest.namespace, &action.workflow, action.version)?);
            self.check_pins(&ingest.namespace, &action.pins)?;
        }
        Ok(programs)
    }

    /// Whether everything that a start may come to call is known here.
    pub(super) fn check_pins(&self, namespace: &Namespace, pins: &[(Arc<str>, u64)]) -> Result<(), Reply> {
        pins.iter().try_for_each(|(workflow, version)| self.program_of(namespace, workflow, *version).map(drop))
    }

    fn program_of(&self, namespace: &Namespace, workflow: &Arc<str>, version: u64) -> Result<Arc<Program>, Reply> {
        let program = self.programs.get(namespace, workflow, version).cloned();
        program.ok_or_else(|| Reply::Undefined { workflow: workflow.clone(), version })
    }

    /// Whether there is room for something new. Errors: which limit is met.
    pub(super) fn check_room(&self, key: Option<&Key>, now: Timestamp) -> Result<(), Refusal> {
        if self.held_bytes() >= self.settings.state_bytes_max {
            return Err(Refusal {
                code: RefusalCode::StorageFull,
                reason: format!("the partition holds {} bytes", self.held_bytes()),
                limit: Some(("state_bytes_max", self.settings.state_bytes_max)),
                retry_after_ms: Some(STORAGE_FULL_RETRY_MS),
            });
        }
        key.map_or(Ok(()), |key| self.dedupe.room_for(key, &self.settings, now))
    }

    /// Starts a workflow without a message, or says why not.
    pub(super) fn start(&mut self, turn: &mut Turn<'_>, start: Start) -> Reply {
        self.dedupe.forget(turn.now, self.settings.dedupe_window_ms, FORGOTTEN_PER_INGEST_MAX);
        let key = start.idempotency_key.as_ref().map(|key| Key::new(&start.namespace, key));
        if let Some(reply) = key.as_ref().and_then(|key| self.dedupe.recall(key, start.payload_hash)) {
            self.stats.repeats_count += 1;
            return reply;
        }
        let program = match self.program_of(&start.namespace, &start.workflow, start.version) {
            Ok(program) => program,
            Err(undefined) => return undefined,
        };
        if let Err(undefined) = self.check_pins(&start.namespace, &start.pins) {
            return undefined;
        }
        let checked = check_key(start.idempotency_key.as_ref())
            .and_then(|()| check_json("input", &start.input))
            .and_then(|()| check_pins_count(&start.pins))
            .and_then(|()| program.takes(&start.input, &Octets::default()).map_err(|reason| refusal(RefusalCode::BadArgument, reason)))
            .and_then(|()| self.check_room(key.as_ref(), turn.now));
        if let Err(refusal) = checked {
            self.stats.refusals_count += 1;
            return Reply::Refused(refusal);
        }
        let origin = Origin {
            message: None,
            admission: None,
            rule: None,
            payload: start.input,
            is_payload_changed: false,
            params: Octets::default(),
            timeout_ms: start.timeout_ms,
            retry: start.retry.map(Box::new),
            traceparent: start.traceparent,
            hops: 0,
            family: Family::of_start(start.pins),
        };
        let instance = self.create_instance(turn, start.slot, program, origin, start.delay_ms);
        if let Some(key) = key {
            self.dedupe.remember(key, turn.now, start.payload_hash, Outcome::Start { instance });
        }
        Reply::Started { instance, repeat: false }
    }

    /// Takes in a record of another group's outbox, unless it was before.
    pub(super) fn apply_in(&mut self, turn: &mut Turn<'_>, record: In) {
        let In { from, seq, body, floor } = record;
        self.inbox.raise(from, floor);
        let result = if self.inbox.has_seen(from, seq) {
            InResult::Final(self.seen_result(&body))
        } else if self.inbox.has_room(from, seq) {
            self.apply_unseen(turn, from, seq, body)
        } else {
            InResult::Later(refusal(RefusalCode::StorageFull, "too many records of the source are ahead of a missing one".into()))
        };
        turn.out.push(Effect::InApplied { from, seq, result });
    }

    /// Takes in a record that needs no decision, unless it was before.
    pub(super) fn apply_relay(&mut self, turn: &mut Turn<'_>, relay: Relay) {
        let Relay { from, seq, body, floor } = relay;
        self.inbox.raise(from, floor);
        let result = if self.inbox.has_seen(from, seq) {
            InResult::Final(self.seen_relay(seq, &body))
        } else if !self.may_follow(from, &body) {
            InResult::Later(refusal(RefusalCode::Conflict, "a record of the same key that comes before it is missing".into()))
        } else if self.inbox.has_room(from, seq) {
            self.inbox.note(from, seq);
            InResult::Final(self.apply_unseen_relay(turn, seq, body))
        } else {
            InResult::Later(refusal(RefusalCode::StorageFull, "too many records of the source are ahead of a missing one".into()))
        };
        turn.out.push(Effect::InApplied { from, seq, result });
    }

    /// Whether all that a record must not overtake was applied.
    fn may_follow(&self, from: GroupId, body: &OutBody) -> bool {
        let after = match body {
            OutBody::Ask(ask) => ask.after,
            OutBody::Leave(leave) => leave.after,
            _ => 0,
        };
        self.inbox.has_seen(from, after)
    }

    fn apply_unseen_relay(&mut self, turn: &mut Turn<'_>, seq: u64, body: OutBody) -> OutResult {
        match body {
            OutBody::Await { key, task, round } => self.await_here(turn, key, task, round),
            OutBody::StopAwaiting { task, round } => self.forget_waiter(task, round),
            OutBody::Deliver { task, signal } => return self.take_delivery(turn, seq, task, signal.payload),
            OutBody::Ask(ask) => self.ask_here(turn, *ask),
            OutBody::Leave(leave) => self.leave_here(turn, &leave.gate, leave.instance, leave.round),
            OutBody::Told(told) => return self.told(turn, *told),
            OutBody::Publish(_) => return OutResult::Refused { code: "bad_argument".into(), reason: "a message needs a decision".into() },
        }
        OutResult::Done
    }

    fn apply_unseen(&mut self, turn: &mut Turn<'_>, from: GroupId, seq: u64, body: Ingest) -> InResult {
        let result = match self.ingest(turn, body) {
            Reply::Undefined { workflow, version } => return InResult::Undefined { workflow, version },
            Reply::Refused(refusal) if refusal.code != RefusalCode::BadArgument => return InResult::Later(refusal),
            reply => out_result(reply),
        };
        self.inbox.note(from, seq);
        InResult::Final(result)
    }

    /// What became of a record that was applied before: as far as it is remembered.
    fn seen_result(&self, body: &Ingest) -> OutResult {
        if let Err(refusal) = check_message(body) {
            return out_result(Reply::Refused(refusal));
        }
        let key = body.idempotency_key.as_ref().map(|key| Key::new(&body.namespace, key));
        match self.recall_message(key.as_ref(), body) {
            Some(reply) => out_result(reply),
            None => OutResult::Accepted { message_id: body.message_id, instances: Vec::new() },
        }
    }
}

fn out_result(reply: Reply) -> OutResult {
    let refused = |code: &str, reason: &str| OutResult::Refused { code: code.to_owned(), reason: reason.to_owned() };
    match reply {
        Reply::Accepted { message_id, instances, .. } => OutResult::Accepted { message_id, instances: instances.to_vec() },
        Reply::Refused(refusal) => refused(refusal.code.as_str(), &refusal.reason),
        _ => refused("idempotency_conflict", "its idempotency key was used for something else"),
    }
}

fn origin_of(ingest: &Ingest, action: &StartAction, payload: Octets) -> Origin {
    Origin {
        message: Some(ingest.message_id),
        admission: ActionAdmission::of(action.ordering_key.as_ref(), action.concurrency.as_ref()),
        rule: Some(action.rule.clone()),
        payload,
        is_payload_changed: false,
        params: action.params.clone(),
        timeout_ms: action.timeout_ms,
        retry: action.retry.map(Box::new),
        traceparent: ingest.traceparent.clone(),
        hops: ingest.hops,
        family: Family::of_start(action.pins.clone()),
    }
}

/// Whether a message is within its bounds. Errors: which one it exceeds. Pure: the same message is judged alike for ever.
fn check_message(ingest: &Ingest) -> Result<(), Refusal> {
    let within = |name: &'static str, count: usize, count_max: usize| {
        let limit = Some((name, count_max as u64));
        let refused = |reason| Refusal { limit, ..refusal(RefusalCode::BadArgument, reason) };
        if count <= count_max { Ok(()) } else { Err(refused(format!("{count} is more than {name} {count_max}"))) }
    };
    check_key(ingest.idempotency_key.as_ref())?;
    within("payload_bytes_max", ingest.payload.len(), MESSAGE_BYTES_MAX)?;
    within("headers_max", ingest.headers.len(), HEADERS_MAX)?;
    within("actions_per_message_max", ingest.actions.len(), ACTIONS_PER_MESSAGE_MAX)?;
    within("hops_max", usize::from(ingest.hops), usize::from(HOPS_MAX))?;
    check_json("payload", &ingest.payload)?;
    ingest.derived.as_ref().map_or(Ok(()), |derived| check_json("derived", derived))?;
    ingest.actions.iter().try_for_each(|action| check_json("params", &action.params).and_then(|()| check_pins_count(&action.pins)))
}

fn check_pins_count(pins: &[(Arc<str>, u64)]) -> Result<(), Refusal> {
    let message = || format!("{} called workflows are more than {CALLED_WORKFLOWS_MAX}", pins.len());
    if pins.len() <= CALLED_WORKFLOWS_MAX { Ok(()) } else { Err(refusal(RefusalCode::BadArgument, message())) }
}

fn check_key(key: Option<&Arc<str>>) -> Result<(), Refusal> {
    match key {
        Some(key) if key.is_empty() || key.len() > KEY_BYTES_MAX => {
            let reason = format!("an idempotency key of {} bytes is not within 1 and {KEY_BYTES_MAX}", key.len());
            Err(Refusal { limit: Some(("key_bytes_max", KEY_BYTES_MAX as u64)), ..refusal(RefusalCode::BadArgument, reason) })
        }
        _ => Ok(()),
    }
}

/// Empty bytes stand for an absent value; all else must be JSON, because inputs are put together from it as text.
fn check_json(name: &str, octets: &Octets) -> Result<(), Refusal> {
    if octets.is_empty() || serde_json::from_slice::<IgnoredAny>(octets).is_ok() {
        Ok(())
    } else {
        Err(refusal(RefusalCode::BadArgument, format!("the {name} is not JSON")))
    }
}

fn refusal(code: RefusalCode, reason: String) -> Refusal {
    Refusal { code, reason, limit: None, retry_after_ms: None }
}
