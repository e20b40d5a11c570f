//! What must come out, said beforehand: from the stream and the rules alone, without a node, a log or the workflow engine.
//!
//! In: events, the rule file.  Out: [`Expected`].  May touch: `rules`.
//! The workflows of `examples/payments/workflows.yaml` are written here a second time, in Rust, so that the two can disagree.

use std::collections::{BTreeMap, BTreeSet};

use distric_rules::{Catalog, Envelope};
use serde_json::{Value, json};

use super::events::Event;
use super::receiver::{EffectName, is_refused};

/// Most times that one message may lead to another one here; a loop would be our own mistake.
const HOPS_MAX: u8 = 4;

/// What a run over some events must lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Distinct idempotency keys of the events.
    pub messages: usize,
    /// Instances by workflow and final state.
    pub instances: BTreeMap<(String, &'static str), u64>,
    /// Effects that the receiver must accept, each under exactly one idempotency key.
    pub accepted: BTreeSet<EffectName>,
    /// Effects that it must be asked for and must refuse.
    pub refused: BTreeSet<EffectName>,
    /// Messages that workflows publish.
    pub published: u64,
    /// How often each rule matches.
    pub rule_matches: BTreeMap<String, u64>,
}

impl Expected {
    /// All instances.
    pub fn instance_count(&self) -> u64 {
        self.instances.values().sum()
    }

    /// Says what these events lead to under this catalog.
    pub fn of(events: &[Event], catalog: &Catalog) -> Self {
        let mut expected = Self::default();
        let mut seen = BTreeSet::new();
        for event in events {
            if seen.insert(event.idempotency_key.as_str()) {
                expected.messages += 1;
                expected.message(catalog, &event.event_type, Some(&event.source), &event.payload, 0);
            }
        }
        expected
    }

    fn message(&mut self, catalog: &Catalog, event_type: &str, source: Option<&str>, payload: &Value, hops: u8) {
        assert!(hops <= HOPS_MAX, "the example's workflows publish in a circle");
        let envelope = Envelope { namespace: "default", event_type: Some(event_type), source, ..Envelope::default() };
        let decision = catalog.decide_value(&envelope, payload);
        for rule in &decision.rules {
            *self.rule_matches.entry(rule.to_string()).or_default() += 1;
        }
        let input = decision.derived.as_ref().unwrap_or(payload);
        for action in &decision.actions {
            let run = Run::of(&action.workflow, input, &action.params);
            let is_refused = run.effects.iter().any(|(effect, reference)| is_refused(effect, reference));
            let state = if is_refused { "failed" } else { "completed" };
            *self.instances.entry((action.workflow.to_string(), state)).or_default() += 1;
            for name in run.effects {
                let set = if is_refused { &mut self.refused } else { &mut self.accepted };
                assert!(set.insert(name.clone()), "the example has two instances with the effect {name:?}");
            }
            if let Some((event_type, payload)) = run.published {
                self.published += 1;
                self.message(catalog, event_type, None, &payload, hops + 1);
            }
        }
    }
}

/// What one instance does to the world.
#[derive(Debug, Default)]
struct Run {
    effects: Vec<EffectName>,
    published: Option<(&'static str, Value)>,
}

impl Run {
    fn of(workflow: &str, input: &Value, params: &Value) -> Self {
        let text = |pointer: &str| input.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        match workflow {
            "payment_processing" => Self { effects: vec![("receipt".into(), text("/reference"))], published: None },
            "order_fulfilment" => Self { effects: vec![("shipment".into(), text("/reference"))], published: None },
            "refund" => Self { effects: vec![("refund".into(), text("/refund_id"))], published: None },
            "risk_notice" => {
                Self { effects: vec![("notice".into(), format!("{}/{}", text("/reference"), text("/reason")))], published: None }
            }
            "fraud_detection" => {
                let score = fraud_score(input);
                if score < 60 {
                    return Self::default();
                }
                let (reference, reason) = (text("/reference"), params["reason"].as_str().unwrap_or_default());
                let alert = json!({"reference": reference, "reason": reason, "score": score, "user": {"id": text("/user/id")}});
                Self { effects: vec![("hold".into(), format!("{reference}/{reason}"))], published: Some(("risk_alert", alert)) }
            }
            other => unreachable!("the example has no workflow {other}"),
        }
    }
}

fn fraud_score(input: &Value) -> i64 {
    let amount = input["amount_usd"].as_f64().unwrap_or_default();
    let by_amount = if amount >= 5_000.0 {
        60
    } else if amount >= 500.0 {
        40
    } else {
        10
    };
    let by_tier = match input["user"]["tier"].as_str() {
        Some("free") => 30,
        Some("silver") => 20,
        _ => 0,
    };
    let by_country = if matches!(input["user"]["country"].as_str(), Some("RU" | "NG")) { 30 } else { 0 };
    by_amount + by_tier + by_country
}

#[cfg(test)]
mod tests {
    use distric_rules::{CheckContext, check};

    use super::*;
    use crate::demo::{RULES_TEXT, WORKFLOWS_TEXT, events};

    fn catalog() -> Catalog {
        let checked = check("rules.yaml", RULES_TEXT, &CheckContext::default());
        assert!(checked.problems.is_empty(), "{:#?}", checked.problems);
        Catalog::compile(1, &checked.catalog.unwrap()).unwrap()
    }

    #[test]
    fn the_stream_exercises_every_rule_and_every_end() {
        let catalog = catalog();
        let expected = Expected::of(&events::stream(), &catalog);
        for rule in catalog.rules().iter() {
            let matches = expected.rule_matches.get(rule.id()).copied().unwrap_or_default();
            assert!(matches >= 5, "{} matches {matches} times", rule.id());
        }
        let of = |workflow: &str, state| expected.instances.get(&(workflow.to_owned(), state)).copied().unwrap_or_default();
        for workflow in ["payment_processing", "fraud_detection", "order_fulfilment", "refund", "risk_notice"] {
            assert!(of(workflow, "completed") >= 50, "{workflow}: {:?}", expected.instances);
        }
        assert!(of("refund", "failed") >= 10, "{:?}", expected.instances);
        assert_eq!(expected.published, of("risk_notice", "completed"));
        assert!(expected.accepted.is_disjoint(&expected.refused));
    }

    #[test]
    fn the_example_uses_the_language_widely() {
        let operators = [
            "equals",
            "not_equals",
            "in",
            "not_in",
            "greater_than",
            "less_than",
            "greater_or_equal",
            "less_or_equal",
            "in_range",
            "prefix",
            "suffix",
            "contains",
            "regex",
            "wildcard",
            "equals_ignore_case",
            "cidr",
            "exists",
            "length",
            "before",
            "after",
        ];
        for operator in operators {
            assert!(RULES_TEXT.contains(&format!("operator: {operator},")), "{operator} is not shown");
        }
        assert!(catalog().rules().iter().count() >= 12);
        for word in
            ["type: transform", "type: webhook", "type: log", "type: publish", "type: wait", "type: branch", "retry:", "when:", "join:"]
        {
            assert!(WORKFLOWS_TEXT.contains(word), "{word} is not shown");
        }
    }
}
