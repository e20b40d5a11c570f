//! Submit: from a message on the wire to a proposal for its home group.
//!
//! The order is: limits, before anything costs; the record of the key, when this is a resend; the decision of the catalog; the
//! proposal. The home is a hash of what the sender chose, never of anything that a rule derives, so that a retry
//! after a change of the catalog meets its own record.

use std::sync::Arc;

use bytes::Bytes;
use distric_exec::command::{Define, Ingest, Retry, Start, StartAction};
use distric_exec::{Command, Octets};
use distric_model::limits::{HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
use distric_model::{GroupId, InstanceId, MessageId, Namespace, Slot};
use distric_rules::{Decision, Envelope, PayloadFormat, RetryPolicy};
use distric_wire::client::{Response, Submit, SubmitOutcome};
use distric_wire::{Code, Strs, Uuids};

use super::connections::ReplyTo;
use super::proposals::{Proposal, Waiting};
use super::trial::key_of;
use super::{Shard, ShardOutputs};
use crate::node::group_of;
use crate::node::machine_clock::Now;
use crate::node::question::Question;
use crate::node::refusal::Refusal;

/// Starts that no rule asked for and that no key places.
pub(super) struct Begin<'a> {
    pub namespace: Namespace,
    pub workflow: &'a str,
    pub version: Option<u64>,
    pub input: &'a [u8],
    pub idempotency_key: Option<&'a str>,
    pub traceparent: Option<&'a str>,
    /// How long until it begins, milliseconds.
    pub delay_ms: u64,
    /// The definition, when it is not the catalog's.
    pub definition: Option<Command>,
}

impl Shard {
    /// One message, alone or of a batch.
    pub(super) fn on_submit(&mut self, now: Now, submit: &Submit<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        self.stats.messages_received_count += 1;
        let admitted = self.admit(1).and_then(|()| check_limits(submit)).and_then(|()| Self::namespace_of(submit.namespace));
        let namespace = match admitted {
            Ok(namespace) => namespace,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        if let (true, Some(key)) = (submit.resend, submit.idempotency_key) {
            let (_, group) = self.home(&namespace, submit.routing_key, submit.idempotency_key, None);
            let question = Question::Recall { group, namespace, key: Arc::from(key), payload_hash: payload_hash(submit) };
            let mut payload = Vec::with_capacity(submit.payload_bytes());
            submit.encode_payload(&mut payload);
            return self.ask_recall(now, group, question, payload, to, out);
        }
        self.decide_and_propose(now, submit, namespace, to, out);
    }

    /// The message after admission, and after its key was found to be unknown if it is a resend.
    pub(super) fn decide_and_propose(&mut self, now: Now, submit: &Submit<'_>, namespace: Namespace, to: ReplyTo, out: &mut ShardOutputs) {
        let (message_id, group) = match self.message_home(now, submit, &namespace) {
            Ok(home) => home,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        let (decision, keep) = match self.decide(&namespace, submit, message_id) {
            Ok(decided) => decided,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        self.shadow(now, &namespace, submit, message_id, &decision);
        if decision.actions.is_empty() && submit.idempotency_key.is_none() && !keep {
            self.stats.messages_unmatched_count += 1;
            let rules: Vec<&str> = decision.rules.iter().map(|rule| &**rule).collect();
            let response = Response {
                outcome: SubmitOutcome::Unmatched.number(),
                message_id: message_id.uuid(),
                catalog_version: decision.catalog_version,
                rules: Strs::of(&rules),
                workflows: Strs::EMPTY,
                instances: Uuids::EMPTY,
            };
            return self.respond(now, to, &response, out);
        }
        let ingest = match self.ingest_of(now, submit, &namespace, message_id, decision) {
            Ok(ingest) => ingest,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        let command = Bytes::from(Command::Ingest(Box::new(ingest)).encode());
        self.propose(
            now,
            Proposal { waiting: Waiting::Submit(to), group, command, namespace: Some(namespace), definition: None, redefined: 0 },
            out,
        );
    }

    /// Starts a workflow without a rule.
    pub(super) fn begin(&mut self, now: Now, begin: &Begin<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        let resolved = match &begin.definition {
            Some(_) => begin.version,
            None => self.catalog.resolve(&begin.namespace, begin.workflow, begin.version),
        };
        let Some(version) = resolved else {
            let refusal = Refusal::new(Code::UnknownWorkflow, format!("no workflow `{}` is in service", begin.workflow)).field("name");
            return self.refuse(now, to, refusal, out);
        };
        let (slot, group) = self.home(&begin.namespace, None, begin.idempotency_key, None);
        let hash = fnv(&[begin.workflow.as_bytes(), begin.input]);
        let start = Start {
            namespace: begin.namespace.clone(),
            slot,
            workflow: Arc::from(begin.workflow),
            version,
            input: Octets::from(begin.input),
            idempotency_key: begin.idempotency_key.map(Arc::from),
            payload_hash: hash,
            timeout_ms: None,
            retry: None,
            delay_ms: begin.delay_ms,
            traceparent: begin.traceparent.map(Arc::from),
            received_us: now.wall.as_us(),
            pins: if begin.definition.is_some() { Vec::new() } else { self.catalog.pins(&begin.namespace, begin.workflow, version) },
        };
        let command = Bytes::from(Command::Start(Box::new(start)).encode());
        let namespace = Some(begin.namespace.clone());
        let definition = begin.definition.as_ref().map(|define| Bytes::from(define.encode()));
        self.propose(now, Proposal { waiting: Waiting::Command(to), group, command, namespace, definition, redefined: 0 }, out);
    }

    /// The definition of a workflow version, as a command for a group that lacks it.
    pub(super) fn definition(&self, namespace: &Namespace, workflow: &str, version: u64) -> Option<Command> {
        let body = self.catalog.body(namespace, workflow, version)?;
        Some(Command::Define(Define { namespace: namespace.clone(), workflow: Arc::from(workflow), version, body: Octets::from(&**body) }))
    }

    /// The group of an instance, message or task by the slot in its id.
    pub(super) fn group_of_slot(&self, slot: Slot) -> GroupId {
        group_of(slot, self.cluster.map_or(1, |(_, work_groups)| work_groups))
    }

    /// The home of a key: routing key, else idempotency key, else the id given, else a slot drawn now.
    fn home(
        &mut self,
        namespace: &Namespace,
        routing_key: Option<&str>,
        idempotency_key: Option<&str>,
        id: Option<MessageId>,
    ) -> (Slot, GroupId) {
        let slot = match routing_key.or(idempotency_key) {
            Some(key) => Slot::of(namespace.as_str(), key.as_bytes()),
            None => id.map_or_else(|| Slot::truncate(self.draws.draw() as u16), MessageId::slot),
        };
        (slot, self.group_of_slot(slot))
    }

    fn message_home(&mut self, now: Now, submit: &Submit<'_>, namespace: &Namespace) -> Result<(MessageId, GroupId), Refusal> {
        let given = match submit.message_id.map(MessageId::from_uuid) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(error)) => return Err(Refusal::new(Code::BadArgument, error.to_string()).field("message_id")),
        };
        let (slot, group) = self.home(namespace, submit.routing_key, submit.idempotency_key, given);
        if let Some(id) = given.filter(|id| id.slot() != slot) {
            // Look-ups go by the slot in the id; an id that points elsewhere would never be found.
            let reason =
                format!("message_id carries slot {}, its key has slot {}: leave one of them out", id.slot().number(), slot.number());
            return Err(Refusal::new(Code::BadArgument, reason).field("message_id"));
        }
        Ok((given.unwrap_or_else(|| MessageId::new(now.wall, slot, self.draws.draw())), group))
    }

    /// Decides by the catalog, or by a canary for its share. Returns as well whether a message without a match is kept.
    fn decide(&mut self, namespace: &Namespace, submit: &Submit<'_>, message_id: MessageId) -> Result<(Decision, bool), Refusal> {
        let Some(view) = self.catalog.namespaces.get(namespace) else {
            return Ok((Decision { catalog_version: self.catalog.version, ..Decision::default() }, false));
        };
        let id = message_id.uuid();
        let key = key_of(submit.routing_key, submit.idempotency_key, id.as_bytes());
        let canary = self.trial.canary(&self.catalog, namespace, key);
        let rules = canary.map_or(&view.rules, |candidate| &candidate.rules);
        let headers: Vec<(&str, &str)> = submit.headers.iter().collect();
        let envelope = Envelope {
            namespace: namespace.as_str(),
            event_type: submit.event_type,
            source: submit.source,
            timestamp_us: submit.timestamp_us,
            headers: &headers,
            content_type: submit.content_type,
        };
        let started = (self.options.stopwatch)();
        let work = if canary.is_none() { self.rule_counts.work(namespace) } else { None };
        let decision = match work {
            Some(work_ns) => rules.decide_counted(&envelope, submit.payload, work_ns),
            None => rules.decide(&envelope, submit.payload),
        };
        let ns = (self.options.stopwatch)().saturating_sub(started);
        self.stats.rule_evaluation.observe_us(ns / 1_000);
        let keep = rules.keep_unmatched();
        if let Ok(decision) = &decision {
            if canary.is_none() {
                self.rule_counts.count(namespace, decision);
            }
            self.trial.count(&self.catalog, namespace, decision, ns, canary.is_some());
        }
        let decision = decision.map_err(|error| Refusal::new(Code::BadPayload, error.to_string()).field("payload"))?;
        Ok((decision, keep))
    }

    fn ingest_of(
        &self,
        now: Now,
        submit: &Submit<'_>,
        namespace: &Namespace,
        message_id: MessageId,
        decision: Decision,
    ) -> Result<Ingest, Refusal> {
        let mut actions = Vec::with_capacity(decision.actions.len());
        for action in decision.actions {
            let Some(version) = self.catalog.resolve(namespace, &action.workflow, action.version) else {
                let reason = format!("rule `{}` starts workflow `{}`, which is not in service", action.rule, action.workflow);
                return Err(Refusal::new(Code::UnknownWorkflow, reason));
            };
            let pins = self.catalog.pins(namespace, &action.workflow, version);
            actions.push(StartAction {
                pins,
                rule: action.rule,
                workflow: action.workflow,
                version,
                params: if action.params.is_null() { Octets::default() } else { Octets::from(&action.params) },
                timeout_ms: action.timeout_ms,
                retry: action.retry.as_ref().map(retry_of),
                delay_ms: action.delay_ms,
                ordering_key: action.ordering_key.map(Arc::from),
                concurrency: action.concurrency.map(|(key, limit)| (Arc::from(key), limit)),
            });
        }
        Ok(Ingest {
            namespace: namespace.clone(),
            message_id,
            event_type: decision.event_type.or_else(|| submit.event_type.map(Arc::from)),
            source: submit.source.map(Arc::from),
            timestamp_us: submit.timestamp_us,
            headers: submit.headers.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            content_type: submit.content_type.map(str::to_owned),
            payload: payload_of(submit)?,
            derived: decision.derived.as_ref().map(Octets::from),
            routing_key: submit.routing_key.map(str::to_owned),
            idempotency_key: submit.idempotency_key.map(Arc::from),
            payload_hash: payload_hash(submit),
            traceparent: submit.traceparent.map(Arc::from),
            received_us: now.wall.as_us(),
            catalog_version: decision.catalog_version,
            rules: decision.rules,
            actions,
            hops: 0,
        })
    }

    /// A message that a workflow published, decided by this node's catalog, for the group that it is for.
    pub(super) fn ingest_of_published(&mut self, now: Now, published: &distric_exec::Published) -> Result<Ingest, Refusal> {
        let headers: Vec<(&str, &str)> = published.headers.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let submit = Submit {
            namespace: Some(published.namespace.as_str()),
            event_type: published.event_type.as_deref(),
            source: published.source.as_deref(),
            timestamp_us: Some(published.at.as_us()),
            headers: distric_wire::Headers::of(&headers),
            payload: &published.payload,
            routing_key: published.routing_key.as_deref(),
            idempotency_key: Some(&published.idempotency_key),
            traceparent: published.traceparent.as_deref(),
            ..Submit::default()
        };
        let (decision, _) = self.decide(&published.namespace, &submit, published.message_id)?;
        self.shadow(now, &published.namespace, &submit, published.message_id, &decision);
        let ingest = self.ingest_of(now, &submit, &published.namespace, published.message_id, decision)?;
        Ok(Ingest { hops: published.hops, ..ingest })
    }

    /// The group of an instance.
    pub(super) fn group_of_instance(&self, instance: InstanceId) -> GroupId {
        self.group_of_slot(instance.slot())
    }
}

fn check_limits(submit: &Submit<'_>) -> Result<(), Refusal> {
    let too_large = |field: &'static str, name: &'static str, limit: usize| {
        Err(Refusal::new(Code::TooLarge, format!("{field} is longer than {limit} bytes")).limit(name, limit as u64).field(field))
    };
    if submit.payload.len() > MESSAGE_BYTES_MAX {
        return too_large("payload", "message_bytes_max", MESSAGE_BYTES_MAX);
    }
    for (field, key) in [("routing_key", submit.routing_key), ("idempotency_key", submit.idempotency_key)] {
        match key {
            Some("") => return Err(Refusal::new(Code::BadArgument, format!("{field} is empty; leave it out instead")).field(field)),
            Some(key) if key.len() > KEY_BYTES_MAX => return too_large(field, "key_bytes_max", KEY_BYTES_MAX),
            _ => {}
        }
    }
    for (field, name) in [("event_type", submit.event_type), ("source", submit.source), ("traceparent", submit.traceparent)] {
        if name.is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return too_large(field, "name_bytes_max", NAME_BYTES_MAX);
        }
    }
    if submit.headers.len() > HEADERS_MAX {
        return Err(Refusal::new(Code::TooLarge, "too many headers").limit("headers_max", HEADERS_MAX as u64).field("headers"));
    }
    if let Some(content_type) = submit.content_type
        && PayloadFormat::of(Some(content_type)).is_none()
    {
        let reason = format!("content type `{content_type}` is not supported: send application/json or application/msgpack");
        return Err(Refusal::new(Code::BadPayload, reason.chars().take(KEY_BYTES_MAX).collect::<String>()).field("content_type"));
    }
    Ok(())
}

/// The payload as the log keeps it: JSON text, in which workflows and queries read it, whatever it was sent as.
fn payload_of(submit: &Submit<'_>) -> Result<Octets, Refusal> {
    let format = PayloadFormat::of(submit.content_type).unwrap_or(PayloadFormat::Json);
    let text = format.to_json(submit.payload).map_err(|error| Refusal::new(Code::BadPayload, error.to_string()).field("payload"))?;
    if text.len() > MESSAGE_BYTES_MAX {
        let reason = format!("as JSON text payload is longer than {MESSAGE_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::TooLarge, reason).limit("message_bytes_max", MESSAGE_BYTES_MAX as u64).field("payload"));
    }
    Ok(Octets::from(&*text))
}

/// What tells a resend from another message under the same key: the payload and what it is said to be.
fn payload_hash(submit: &Submit<'_>) -> u64 {
    fnv(&[submit.event_type.unwrap_or_default().as_bytes(), submit.payload])
}

/// FNV-1a (64 bit) over the parts, each followed by a zero byte.
pub(super) fn fnv(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// A policy in the whole numbers of the log.
fn retry_of(policy: &RetryPolicy) -> Retry {
    let permille = |share: f64| (share * 1_000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32;
    Retry {
        max_attempts: policy.max_attempts,
        initial_backoff_ms: policy.initial_backoff_ms,
        multiplier_permille: permille(policy.multiplier),
        max_backoff_ms: policy.max_backoff_ms,
        jitter_permille: permille(policy.jitter),
    }
}
