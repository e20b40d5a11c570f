//! What rules cost, by rule: counted where the index leads to them, and never in the way of the decision.

use std::fs;
use std::path::Path;

use distric_rules::{Catalog, CheckContext, Envelope, RuleSet, check};
use serde_json::json;

#[test]
fn counting_changes_no_decision_and_every_match_has_a_cost() {
    for mix in ["simple", "regex", "mixed", "nested"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{mix}-7"));
        let rules = check("rules.json", &fs::read_to_string(folder.join("rules.json")).unwrap(), &CheckContext::default()).catalog.unwrap();
        let catalog = Catalog::compile(1, &rules).unwrap();
        let (mut work_ns, mut matches_count) = (Vec::new(), 0);
        for message in fs::read_to_string(folder.join("messages.jsonl")).unwrap().lines() {
            let before = work_ns.clone();
            let decision = catalog.decide_counted(&Envelope::default(), message.as_bytes(), &mut work_ns).unwrap();
            assert_eq!(decision, catalog.decide(&Envelope::default(), message.as_bytes()).unwrap());
            for place in &decision.places {
                assert!(work_ns[*place as usize] > before.get(*place as usize).copied().unwrap_or(0), "{mix}: {message}");
            }
            matches_count += decision.places.len();
        }
        assert!(matches_count > 0, "{mix}");
    }
}

#[test]
fn a_rule_that_is_never_looked_at_costs_nothing_and_a_dear_one_has_the_larger_share() {
    let rules = json!({ "rules": [
        { "id": "a-cheap", "conditions": [{ "field": "kind", "op": "equals", "value": "order" }] },
        { "id": "b-other", "conditions": [{ "field": "kind", "op": "equals", "value": "refund" }] },
        { "id": "c-dear", "conditions": [{ "field": "note", "op": "regex", "value": "[ab][cd][ef]" }] },
        { "id": "d-writes", "conditions": [{ "field": "kind", "op": "equals", "value": "order" }], "transform": [{ "set": "x", "value": 1 }] },
        { "id": "e-third", "conditions": [{ "field": "kind", "op": "equals", "value": "third" }] },
    ] });
    let catalog = Catalog::compile(1, &RuleSet::from_json(&rules).unwrap()).unwrap();
    let mut work_ns = Vec::new();
    for i in 0..100 {
        let message = json!({ "kind": "order", "note": format!("nothing {i}") }).to_string();
        catalog.decide_counted(&Envelope::default(), message.as_bytes(), &mut work_ns).unwrap();
    }
    let of = |id: &str| work_ns[(0..5).find(|place| catalog.id_at(*place).is_some_and(|found| &**found == id)).unwrap() as usize];
    assert_eq!((of("b-other"), of("e-third")), (0, 0));
    assert!(0 < of("a-cheap") && of("a-cheap") < of("c-dear") && of("c-dear") < of("d-writes"), "{work_ns:?}");
}
