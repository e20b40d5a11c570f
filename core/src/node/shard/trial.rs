//! A candidate beside the catalog, on one shard: for whom it decides, what it would have decided, and the counts of both.
//!
//! A canary decides for its share of the messages, by a hash of the key that places the message: one key is always on one side, and a
//! larger share keeps all that were in the smaller one. A shadow is asked after the answer is on its way: messages wait in a bounded
//! queue, and a turn judges them for a bounded time; what finds the queue full is counted and not judged.
//! Invariant: a decision names the version of the rules that made it, and nothing follows from what a shadow says.
//! Invariant: a share that was changed or ended holds from the next message on, though a catalog compiled before may come later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use distric_model::{Instant, MessageId, Namespace};
use distric_rules::{Catalog, Decision, Envelope, PayloadFormat};
use distric_wire::client::Submit;
use serde_json::{Value, json};

use super::Shard;
use super::rule_counts::RuleCounts;
use super::submit::fnv;
use crate::node::catalog_view::{CatalogView, TrialView};
use crate::node::machine_clock::Now;
use crate::node::meta::{SHARE_WHOLE, TrialMode};

/// Messages that wait to be judged by a shadow.
pub const SHADOW_QUEUE_MAX: usize = 1_024;
/// Bytes of their payloads.
pub const SHADOW_QUEUE_BYTES_MAX: usize = 8 << 20;
/// Time that one turn spends on judging them, nanoseconds. Turns with more to do come a millisecond apart at the earliest.
pub const SHADOW_TURN_NS_MAX: u64 = 200_000;
/// Differing messages that are kept.
pub const SAMPLES_MAX: usize = 64;
/// Of those whose first difference is one rule.
pub const SAMPLES_PER_RULE_MAX: usize = 4;
/// A larger payload is not kept with its sample, bytes.
pub const SAMPLE_PAYLOAD_BYTES_MAX: usize = 4_096;

/// The trial as this shard sees it.
#[derive(Debug, Default)]
pub(super) struct TrialSeat {
    /// The candidate's version, what it is there for, and its share; `None`: no trial.
    in_force: Option<(u64, TrialMode, u32)>,
    /// The revision that this is of.
    revision: u64,
    /// The candidate that the counts are about.
    counted: u64,
    active: Side,
    candidate: Side,
    shadow: Shadow,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    due_at: Option<Instant>,
}

/// What one of the two rule sets did since the trial began.
#[derive(Debug, Default)]
struct Side {
    counts: RuleCounts,
    decisions_count: u64,
    decisions_ns: u64,
}

/// How the two differed.
#[derive(Debug, Default)]
struct Shadow {
    judged_count: u64,
    skipped_count: u64,
    differing_count: u64,
    /// By rule: gained, lost, with other actions.
    rules: BTreeMap<Arc<str>, [u64; 3]>,
    samples: Vec<Value>,
    samples_by_rule: BTreeMap<Arc<str>, usize>,
}

/// A message that the catalog has decided and the shadow has not.
#[derive(Debug)]
struct Waiting {
    namespace: Namespace,
    message_id: MessageId,
    event_type: Option<String>,
    source: Option<String>,
    timestamp_us: Option<u64>,
    headers: Vec<(String, String)>,
    content_type: Option<String>,
    payload: Vec<u8>,
    decision: Decision,
}

impl TrialSeat {
    /// Takes over what a compiled catalog says, unless something later was heard already.
    pub fn install(&mut self, view: &CatalogView) {
        if view.revision >= self.revision {
            self.revision = view.revision;
            self.put(view.trial.as_ref().map(|trial| (trial.version, trial.mode, trial.share)));
        }
    }

    /// A share that was changed; 0 ends the trial.
    pub fn on_share(&mut self, revision: u64, version: u64, mode: TrialMode, share: u32) {
        // A trial that begins comes with its compiled rules.
        if revision >= self.revision && self.in_force.is_some_and(|(known, ..)| known == version) {
            self.revision = revision;
            self.put((share > 0).then_some((version, mode, share)));
        }
    }

    fn put(&mut self, in_force: Option<(u64, TrialMode, u32)>) {
        self.in_force = in_force;
        match in_force {
            Some((version, ..)) if version != self.counted => {
                *self = Self { in_force, revision: self.revision, counted: version, ..Self::default() }
            }
            Some(_) => {}
            None => {
                self.queue.clear();
                self.queue_bytes = 0;
                self.due_at = None;
            }
        }
    }

    /// The candidate that a key falls to, under the trial in force.
    fn candidate<'v>(&self, view: &'v CatalogView, namespace: &Namespace, key: &[u8], wanted: TrialMode) -> Option<&'v TrialView> {
        let (version, mode, share) = self.in_force?;
        let trial = view.trial.as_ref().filter(|trial| trial.version == version && trial.namespace == *namespace)?;
        (mode == wanted && bucket(version, namespace, key) < share).then_some(trial)
    }

    /// The candidate that decides about a message with this key, if it falls to a canary.
    pub fn canary<'v>(&self, view: &'v CatalogView, namespace: &Namespace, key: &[u8]) -> Option<&'v TrialView> {
        self.candidate(view, namespace, key, TrialMode::Canary)
    }

    /// Counts a decision of either side, while a trial of this namespace runs.
    pub fn count(&mut self, view: &CatalogView, namespace: &Namespace, decision: &Decision, ns: u64, is_candidate: bool) {
        if self.in_force.is_none() || view.trial.as_ref().is_none_or(|trial| trial.namespace != *namespace) {
            return;
        }
        let side = if is_candidate { &mut self.candidate } else { &mut self.active };
        side.count(namespace, decision, ns);
    }

    /// The rules of a namespace turn to another version.
    pub fn turn(&mut self, namespace: &Namespace, old: Option<&Catalog>, new: Option<&Catalog>) {
        self.active.counts.turn(namespace, old, new);
    }

    /// When queued messages are to be judged.
    pub fn next_wake(&self) -> Option<Instant> {
        self.due_at
    }
}

impl Side {
    fn count(&mut self, namespace: &Namespace, decision: &Decision, ns: u64) {
        self.counts.count(namespace, decision);
        self.decisions_count += 1;
        self.decisions_ns += ns;
    }

    fn view(&self, namespace: &Namespace, rules: Option<&Catalog>) -> Value {
        json!({
            "decisions": self.decisions_count, "decisions_ns": self.decisions_ns, "counts": self.counts.view(namespace, rules),
        })
    }
}

impl Shard {
    /// Puts a decided message in the queue of a shadow, if it falls to one.
    pub(super) fn shadow(&mut self, now: Now, namespace: &Namespace, submit: &Submit<'_>, message_id: MessageId, decision: &Decision) {
        if self.trial.in_force.is_none() {
            return;
        }
        let id = message_id.uuid();
        let key = key_of(submit.routing_key, submit.idempotency_key, id.as_bytes());
        if self.trial.candidate(&self.catalog, namespace, key, TrialMode::Shadow).is_none() {
            return;
        }
        let seat = &mut self.trial;
        if seat.queue.len() >= SHADOW_QUEUE_MAX || seat.queue_bytes + submit.payload.len() > SHADOW_QUEUE_BYTES_MAX {
            seat.shadow.skipped_count += 1;
            return;
        }
        seat.queue_bytes += submit.payload.len();
        seat.due_at.get_or_insert(now.mono);
        seat.queue.push_back(Waiting {
            namespace: namespace.clone(),
            message_id,
            event_type: submit.event_type.map(str::to_owned),
            source: submit.source.map(str::to_owned),
            timestamp_us: submit.timestamp_us,
            headers: submit.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            content_type: submit.content_type.map(str::to_owned),
            payload: submit.payload.to_vec(),
            decision: decision.clone(),
        });
    }

    /// Judges queued messages, for a bounded time.
    pub(super) fn judge_shadowed(&mut self, now: Now) {
        if self.trial.due_at.is_none_or(|due_at| due_at > now.mono) {
            return;
        }
        let stopwatch = self.options.stopwatch;
        let started = stopwatch();
        let seat = &mut self.trial;
        let version = seat.in_force.map(|(version, ..)| version);
        let Some(trial) = self.catalog.trial.as_ref().filter(|trial| Some(trial.version) == version) else {
            return seat.put(None);
        };
        let mut at = started;
        while at.saturating_sub(started) < SHADOW_TURN_NS_MAX {
            let Some(message) = seat.queue.pop_front() else { break };
            seat.queue_bytes -= message.payload.len();
            let headers: Vec<(&str, &str)> = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let envelope = Envelope {
                namespace: message.namespace.as_str(),
                event_type: message.event_type.as_deref(),
                source: message.source.as_deref(),
                timestamp_us: message.timestamp_us,
                headers: &headers,
                content_type: message.content_type.as_deref(),
            };
            let decided = trial.rules.decide(&envelope, &message.payload);
            let then = stopwatch();
            // The catalog has read this payload, so the candidate does.
            if let Ok(decision) = decided {
                seat.candidate.count(&message.namespace, &decision, then.saturating_sub(at));
                seat.shadow.compare(&message, &decision);
            }
            at = stopwatch();
        }
        seat.due_at = (!seat.queue.is_empty()).then_some(now.mono);
    }

    /// This shard's part of what is known about the trial.
    pub(super) fn trial_part(&self, with_samples: bool) -> Value {
        let seat = &self.trial;
        let view = seat.in_force.zip(self.catalog.trial.as_ref());
        let Some(((_, mode, share), trial)) = view.filter(|((version, ..), trial)| *version == trial.version) else {
            return json!({ "trial": null, "catalog_version": self.catalog.version });
        };
        if with_samples {
            return json!({ "trial": { "version": trial.version }, "samples": seat.shadow.samples });
        }
        let rules: serde_json::Map<String, Value> = seat.shadow.rules.iter().map(|(id, counts)| (id.to_string(), json!(counts))).collect();
        json!({
            "catalog_version": self.catalog.version,
            "trial": {
                "version": trial.version, "namespace": trial.namespace, "mode": mode.as_str(), "share": share,
                "base_version": trial.base_version, "is_outdated": trial.is_outdated, "started_at_us": trial.started_at_us,
                "author": trial.author, "reason": trial.reason, "rules_count": trial.rules.rules().len(),
            },
            "active": seat.active.view(&trial.namespace, self.catalog.rules(&trial.namespace)),
            "candidate": seat.candidate.view(&trial.namespace, Some(&trial.rules)),
            "shadow": {
                "judged": seat.shadow.judged_count, "skipped": seat.shadow.skipped_count, "differing": seat.shadow.differing_count,
                "waiting": seat.queue.len(), "rules": rules,
            },
        })
    }
}

impl Shadow {
    fn compare(&mut self, message: &Waiting, candidate: &Decision) {
        self.judged_count += 1;
        let active = &message.decision;
        let derives_other = active.derived != candidate.derived;
        if active.rules == candidate.rules && active.actions == candidate.actions && !derives_other {
            return;
        }
        self.differing_count += 1;
        let missing_in = |here: &Decision, there: &Decision| -> Vec<Arc<str>> {
            here.rules.iter().filter(|rule| !there.rules.contains(rule)).cloned().collect()
        };
        let (lost, gained) = (missing_in(active, candidate), missing_in(candidate, active));
        let acts_other = |rule: &&Arc<str>| {
            let of = |decision: &Decision| decision.actions.iter().filter(|action| action.rule == **rule).cloned().collect::<Vec<_>>();
            candidate.rules.contains(rule) && of(active) != of(candidate)
        };
        let changed: Vec<Arc<str>> = active.rules.iter().filter(acts_other).cloned().collect();
        for (kind, rules) in [&gained, &lost, &changed].into_iter().enumerate() {
            for rule in rules {
                self.rules.entry(rule.clone()).or_default()[kind] += 1;
            }
        }
        let first = gained.first().or(lost.first()).or(changed.first()).cloned().unwrap_or_else(|| Arc::from(""));
        let of_first = self.samples_by_rule.entry(first).or_default();
        if self.samples.len() < SAMPLES_MAX && *of_first < SAMPLES_PER_RULE_MAX {
            *of_first += 1;
            let payload = if message.payload.len() <= SAMPLE_PAYLOAD_BYTES_MAX {
                let format = PayloadFormat::of(message.content_type.as_deref()).unwrap_or(PayloadFormat::Json);
                format.to_json(&message.payload).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
            } else {
                Value::Null
            };
            self.samples.push(json!({
                "message_id": message.message_id, "event_type": active.event_type, "payload_bytes": message.payload.len(),
                "payload": payload, "catalog_version": active.catalog_version, "candidate_version": candidate.catalog_version,
                "gained": gained, "lost": lost, "changed": changed, "derives_other": derives_other,
                "order_differs": gained.is_empty() && lost.is_empty() && active.rules != candidate.rules,
            }));
        }
    }
}

/// The key whose hash says on which side a message is: that which places it.
pub(super) fn key_of<'k>(routing_key: Option<&'k str>, idempotency_key: Option<&'k str>, message_id: &'k [u8]) -> &'k [u8] {
    routing_key.or(idempotency_key).map_or(message_id, str::as_bytes)
}

/// Where a key falls, 0 to [`SHARE_WHOLE`] less one. Another trial, another order.
fn bucket(version: u64, namespace: &Namespace, key: &[u8]) -> u32 {
    let hash = fnv(&[&version.to_be_bytes(), namespace.as_str().as_bytes(), key]);
    // FNV leaves the low bits of similar keys alike; the multiplication brings all into the high ones.
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed % u64::from(SHARE_WHOLE)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_it_says_and_a_larger_one_keeps_the_smaller() {
        let namespace = Namespace::default();
        let buckets: Vec<u32> = (0..20_000).map(|n| bucket(7, &namespace, format!("user-{n}").as_bytes())).collect();
        for share in [100, 500, 2_500, 9_000] {
            let inside = buckets.iter().filter(|bucket| **bucket < share).count() as f64 / buckets.len() as f64;
            let wanted = f64::from(share) / f64::from(SHARE_WHOLE);
            assert!((inside - wanted).abs() < 0.01, "{share}: {inside}");
        }
        assert!(buckets.iter().all(|bucket| *bucket < SHARE_WHOLE));
        let again: Vec<u32> = (0..20_000).map(|n| bucket(8, &namespace, format!("user-{n}").as_bytes())).collect();
        let both = buckets.iter().zip(&again).filter(|(a, b)| **a < 1_000 && **b < 1_000).count();
        assert!((100..350).contains(&both), "another trial meets others: {both} of 20,000 in both tenths");
    }
}
