//! What a decision may cost beside time: nothing, once the thread's buffers are warm.

#[path = "../../wire/tests/support/counting_allocator_unsafe.rs"]
mod counting_allocator_unsafe;

use std::fs;
use std::path::Path;

use counting_allocator_unsafe::{Counting, allocations};
use distric_rules::{Catalog, CheckContext, Decision, Envelope, check};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn deciding_again_allocates_nothing() {
    for mix in ["simple", "regex", "mixed", "nested"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{mix}-42"));
        let text = fs::read_to_string(folder.join("rules.json")).unwrap();
        let rules = check("rules.json", &text, &CheckContext::default()).catalog.unwrap();
        let catalog = Catalog::compile(1, &rules).unwrap();
        let messages = fs::read_to_string(folder.join("messages.jsonl")).unwrap();
        // An event type that no rule names would be copied into the decision.
        let envelope = Envelope { namespace: "default", event_type: Some("payment.created"), ..Envelope::default() };
        let mut decision = Decision::default();
        let mut decide_all = || {
            messages.lines().for_each(|message| catalog.decide_into(&envelope, message.as_bytes(), &mut decision).unwrap());
        };
        decide_all();
        let (count, _) = allocations(decide_all);
        assert_eq!(count, 0, "{mix}");
    }
}

#[test]
fn a_long_list_of_one_value_costs_a_look_for_each_element() {
    let rule = |i: usize| serde_json::json!({ "id": format!("r{i}"), "conditions": [{ "field": "a", "op": "equals", "value": i % 4 }, { "field": "b", "op": "equals", "value": i % 5 }] });
    let rules: Vec<_> = (0..400).map(rule).collect();
    let catalog = Catalog::compile(1, &distric_rules::RuleSet::from_json(&serde_json::json!({ "rules": rules })).unwrap()).unwrap();
    let message = serde_json::json!({ "a": vec![1; 20_000], "b": vec![1; 20_000] }).to_string();
    let mut decision = Decision::default();
    let mut decide = || catalog.decide_into(&Envelope::default(), message.as_bytes(), &mut decision).unwrap();
    decide();
    let (_, largest_bytes) = allocations(decide);
    assert!(largest_bytes < 4 << 20, "{largest_bytes}");
    assert_eq!(decision.rules.len(), 20);
}
