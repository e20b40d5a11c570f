//! The catalog: a compiled rule set that decides about messages. Shared read-only between threads.

use std::hint::black_box;
use std::sync::Arc;

use serde_json::Value;

use crate::compile::{Consequence, Program};
use crate::decision::{Decision, Envelope, PayloadError, PayloadFormat};
use crate::document::Problem;
use crate::explain::{Explanation, explain};
use crate::hands::{Alone, Hands};
use crate::index::Payload;
use crate::index::scratch::{self, Scratch};
use crate::message::Message;
use crate::payload;
use crate::ruleset::RuleSet;
use crate::walk::{Rules, Walk};

/// One version of the rules, compiled.
#[derive(Debug)]
pub struct Catalog {
    version: u64,
    set: RuleSet,
    program: Arc<Program>,
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Catalog>();
};

impl Catalog {
    /// Compiles a checked rule set as the catalog of this version.
    ///
    /// Errors: what only shows over all rules: a cycle, or a chain with more transforming rules than
    /// [`TRANSFORMING_ANCESTORS_MAX`](crate::TRANSFORMING_ANCESTORS_MAX).
    pub fn compile(version: u64, rules: &RuleSet) -> Result<Self, Vec<Problem>> {
        Self::compile_with(&Alone, version, rules)
    }

    /// Compiles as [`Catalog::compile`], with hands: the catalog is the same whoever they are.
    ///
    /// Errors: as there. Checked by `rules/src/index/tests.rs`.
    pub fn compile_with(hands: &dyn Hands, version: u64, rules: &RuleSet) -> Result<Self, Vec<Problem>> {
        Ok(Self { version, set: rules.clone(), program: Arc::new(Program::compile(hands, rules)?) })
    }

    /// Compiles a checked rule set as this version, at a cost that follows what it changes: where at most [`CHANGED_MAX`](crate::CHANGED_MAX)
    /// rules of a large set are new or gone, the index of this catalog is kept, and one over the new rules is laid over it. Decides as
    /// [`Catalog::compile`]d.
    ///
    /// Errors: as there. Checked by `rules/src/layers/tests.rs`.
    pub fn recompile(&self, version: u64, rules: &RuleSet) -> Result<Self, Vec<Problem>> {
        self.recompile_with(&Alone, version, rules)
    }

    /// Compiles as [`Catalog::recompile`], with hands.
    ///
    /// Errors: as there.
    pub fn recompile_with(&self, hands: &dyn Hands, version: u64, rules: &RuleSet) -> Result<Self, Vec<Problem>> {
        let under = self.program.under.as_ref().map_or(&self.program, |under| &under.program);
        match Program::compile_over(under, rules)? {
            Some(program) => Ok(Self { version, set: rules.clone(), program }),
            None => Self::compile_with(hands, version, rules),
        }
    }

    /// Whether messages are read twice, for rules that changed since one index was built over all: [`Catalog::compile`] ends that.
    pub fn is_layered(&self) -> bool {
        self.program.under.is_some()
    }

    /// The same rules as another version of the catalog: shares everything that was compiled.
    pub fn at_version(&self, version: u64) -> Self {
        Self { version, set: self.set.clone(), program: self.program.clone() }
    }

    /// The version that every decision names.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The rules that it was compiled from, disabled ones included.
    pub fn rules(&self) -> &RuleSet {
        &self.set
    }

    /// The rule at a place of a decision of this catalog.
    pub fn id_at(&self, place: u32) -> Option<&Arc<str>> {
        self.program.ids.get(place as usize)
    }

    /// Whether messages that no rule matches are kept in the log.
    pub fn keep_unmatched(&self) -> bool {
        self.set.keep_unmatched()
    }

    /// Decides about a message whose payload is in the form that the envelope's content type names ([`PayloadFormat::of`]).
    ///
    /// Errors: the payload is not of that form, or nests too deep; then no rule was evaluated.
    pub fn decide(&self, envelope: &Envelope<'_>, payload: &[u8]) -> Result<Decision, PayloadError> {
        let mut decision = Decision::default();
        self.decide_into(envelope, payload, &mut decision)?;
        Ok(decision)
    }

    /// Decides as [`Catalog::decide`] into a decision that was used before: its list of rules is used again, so once warm
    /// nothing is allocated for a message whose rules neither transform nor start anything.
    ///
    /// Errors: as there; then the decision is empty, but for its version.
    pub fn decide_into(&self, envelope: &Envelope<'_>, payload: &[u8], decision: &mut Decision) -> Result<(), PayloadError> {
        self.decide_with::<false>(envelope, payload, decision, &mut [])
    }

    /// Decides as [`Catalog::decide`], and adds to `work_ns`, by place ([`Catalog::id_at`]), what each rule cost this message: looking at it
    /// where the index led to it, its questions about texts, and what its match had done. Estimated, in nanoseconds, for shares of rules in the
    /// work that rules cause; reading the message and searching its texts is nobody's. `work_ns` grows to the number of rules.
    ///
    /// Errors: as there. Checked by `rules/tests/work.rs`.
    pub fn decide_counted(&self, envelope: &Envelope<'_>, payload: &[u8], work_ns: &mut Vec<u64>) -> Result<Decision, PayloadError> {
        work_ns.resize(self.program.rules.len().max(work_ns.len()), 0);
        let mut decision = Decision::default();
        self.decide_with::<true>(envelope, payload, &mut decision, work_ns)?;
        decision.places.iter().for_each(|place| work_ns[*place as usize] += self.program.match_ns(*place));
        Ok(decision)
    }

    fn decide_with<const COUNTED: bool>(
        &self,
        envelope: &Envelope<'_>,
        payload: &[u8],
        decision: &mut Decision,
        work_ns: &mut [u64],
    ) -> Result<(), PayloadError> {
        decision.rules.clear();
        decision.places.clear();
        let (rules, places) = (std::mem::take(&mut decision.rules), std::mem::take(&mut decision.places));
        *decision = Decision { catalog_version: self.version, rules, places, ..Decision::default() };
        let timestamp = self.timestamp(envelope);
        scratch::with(|scratch| {
            let format = PayloadFormat::of(envelope.content_type).unwrap_or(PayloadFormat::Json);
            let readable = match format {
                PayloadFormat::Json => std::str::from_utf8(payload).ok().map(Payload::Text),
                PayloadFormat::MessagePack => Some(Payload::Packed(payload)),
            };
            let find = |payload| self.program.find::<COUNTED>(scratch, envelope, timestamp.as_deref(), payload, work_ns);
            let Some(text) = readable.and_then(find) else {
                let parsed = payload::parse_form(format, payload)?;
                self.decide_parsed::<COUNTED>(scratch, envelope, timestamp.as_deref(), &parsed, decision, work_ns);
                return Ok(());
            };
            decision.event_type = self.program.lowest().event_type(scratch, envelope, text);
            // Only what transforms and templates read must be parsed in full.
            let reads_payload = self.program.consequence(&scratch.matched) == Consequence::Payload;
            let parsed = if reads_payload { payload::parse_form(format, payload)? } else { Value::Null };
            self.conclude(&scratch.matched, Message { payload: &parsed, envelope, timestamp: timestamp.as_deref() }, decision);
            Ok(())
        })
    }

    /// Decides about a message whose payload is parsed already. A payload that is no object has no fields.
    pub fn decide_value(&self, envelope: &Envelope<'_>, payload: &Value) -> Decision {
        let mut decision = Decision { catalog_version: self.version, ..Decision::default() };
        let timestamp = self.timestamp(envelope);
        scratch::with(|scratch| self.decide_parsed::<false>(scratch, envelope, timestamp.as_deref(), payload, &mut decision, &mut []));
        decision
    }

    fn decide_parsed<const COUNTED: bool>(
        &self,
        scratch: &mut Scratch,
        envelope: &Envelope<'_>,
        timestamp: Option<&str>,
        payload: &Value,
        decision: &mut Decision,
        work_ns: &mut [u64],
    ) {
        let found = self.program.find::<COUNTED>(scratch, envelope, timestamp, Payload::Value(payload), work_ns);
        assert!(found.is_some(), "what is parsed can be read");
        decision.event_type = event_type(envelope, payload);
        self.conclude(&scratch.matched, Message { payload, envelope, timestamp }, decision);
    }

    /// Walks over what the index has found.
    fn conclude(&self, found: &[u32], message: Message<'_>, decision: &mut Decision) {
        let id = |place: &u32| self.program.ids[*place as usize].clone();
        if self.program.consequence(found) == Consequence::None {
            // Counting up needs a cache line for each id, one after another; looking at the counts before brings them in all at once.
            black_box(found.iter().map(|place| Arc::strong_count(&self.program.ids[*place as usize])).fold(0, usize::wrapping_add));
            decision.rules.extend(found.iter().map(id));
            decision.places.extend_from_slice(found);
            return;
        }
        let mut walk = Walk::run_found(&self.walk_rules(), found, message);
        decision.rules.extend(walk.matched.iter().map(id));
        decision.places.extend_from_slice(&walk.matched);
        decision.derived = walk.derive_all(message.payload);
        decision.actions = std::mem::take(&mut walk.actions);
        decision.notes = std::mem::take(&mut walk.notes);
    }

    /// Says for every rule, or for one, what each of its conditions saw and came to. Decides exactly as [`Catalog::decide_value`].
    pub fn explain(&self, envelope: &Envelope<'_>, payload: &Value, rule: Option<&str>) -> Explanation {
        let timestamp = envelope.timestamp_us.and_then(timestamp_text);
        let message = Message { payload, envelope, timestamp: timestamp.as_deref() };
        explain(self, &self.walk_rules(), message, rule)
    }

    fn walk_rules(&self) -> Rules<'_> {
        Rules { program: &self.program, lookups: self.set.lookups(), fail_fast: self.set.fail_fast() }
    }

    fn timestamp(&self, envelope: &Envelope<'_>) -> Option<String> {
        envelope.timestamp_us.filter(|_| self.program.uses_timestamp).and_then(timestamp_text)
    }
}

/// The event type of a message: the envelope's, else the payload's when that is a string.
pub(crate) fn event_type(envelope: &Envelope<'_>, payload: &Value) -> Option<Arc<str>> {
    envelope.event_type.or_else(|| payload.get("event_type")?.as_str()).map(Arc::from)
}

/// RFC 3339 text in UTC; `None` beyond the year 9999.
fn timestamp_text(us: u64) -> Option<String> {
    jiff::Timestamp::from_microsecond(i64::try_from(us).ok()?).ok().map(|at| at.to_string())
}
