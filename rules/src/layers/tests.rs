//! A program over another one is held against one that was built at once.

use serde_json::{Value, json};

use super::*;
use crate::index::tests::{below, message, rule};
use crate::{Catalog, CheckContext, Decision, RuleSet, check_rule};

/// Rules at the start: enough for [`CHANGED_MAX`] of them to change.
const RULES: usize = 1_200;

/// A rule that is unlike the one with this number was: other conditions, another priority, a chain, a field that no other rule has.
fn changed(i: usize, round: usize) -> Value {
    let draw = |n, what| below(n, i + 7_919 * round, what);
    let mut changed = rule(i + 10_000 * round);
    changed["id"] = json!(format!("r{i:04}"));
    match draw(7, 40) {
        0 => changed["enabled"] = json!(false),
        1 => changed["after"] = json!([format!("r{:04}", i.saturating_sub(1 + draw(20, 41)))]),
        2 => changed["transform"] = json!([{ "set": "amount", "value": draw(100, 42) }]),
        3 => changed["conditions"] = json!([{ "field": format!("extra{}", draw(3, 43)), "op": "equals", "value": draw(3, 44) }]),
        4 => changed["on_match"] = json!(if draw(4, 45) == 0 { "stop" } else { "continue" }),
        _ => {}
    }
    // Only to lower numbers, so that there is no circle; what stands at zero comes after nothing.
    if i == 0 {
        changed.as_object_mut().expect("a rule").remove("after");
    }
    changed
}

fn put(set: &RuleSet, rules: impl IntoIterator<Item = Value>, removed: &[String]) -> RuleSet {
    let rules = rules.into_iter().map(|rule| check_rule("test", &rule.to_string()).expect("the rule is right")).collect();
    let checked = set.patched(rules, removed.iter().map(String::as_str), &CheckContext::default());
    checked.catalog.unwrap_or_else(|| panic!("{:?}", checked.problems))
}

fn decisions(catalog: &Catalog, message: &Value) -> [Decision; 3] {
    let envelope = Envelope { timestamp_us: Some(1_700_000_000_000_000), ..Envelope::default() };
    let text = message.to_string();
    let mut work_ns = Vec::new();
    let counted = catalog.decide_counted(&envelope, text.as_bytes(), &mut work_ns).expect("JSON");
    assert!(counted.places.iter().all(|place| work_ns[*place as usize] > 0), "whoever matched was looked at");
    [catalog.decide(&envelope, text.as_bytes()).expect("JSON"), catalog.decide_value(&envelope, message), counted]
}

fn assert_same(layered: &Catalog, set: &RuleSet, seed: usize) -> usize {
    let whole = Catalog::compile(layered.version(), set).expect("what can be laid over can be built at once");
    assert!(!whole.is_layered());
    let mut matches_count = 0;
    for i in 0..8 {
        let mut message = message(8 * seed + i);
        message[format!("extra{}", i % 3)] = json!(i % 4);
        let found = decisions(layered, &message);
        assert_eq!(found, decisions(&whole, &message), "{message}");
        assert_eq!(found[0].rules, layered.explain(&Envelope::default(), &message, None).matched, "{message}");
        matches_count += found[0].rules.len();
    }
    matches_count
}

#[test]
fn a_catalog_that_followed_changes_decides_as_one_built_at_once() {
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    let mut set = RuleSet::from_json(&json!({ "rules": rules })).expect("the rules are right");
    let mut catalog = Catalog::compile(1, &set).expect("and compile");
    let (mut layered_count, mut whole_count, mut matches_count) = (0, 0, 0);
    for round in 1..=24 {
        let draw = |n, what| below(n, round, what);
        // Sometimes so many that all rules are put into one index.
        let count = if draw(6, 50) == 0 { CHANGED_MAX } else { 1 + draw(40, 51) };
        let rules = (0..count).map(|k| changed(draw(RULES + 50, 100 + k), round));
        let mut by_id: std::collections::BTreeMap<String, Value> = rules.map(|rule| (rule["id"].to_string(), rule)).collect();
        // A rule may come after one that was removed in another round.
        for rule in by_id.values_mut() {
            let after = rule["after"][0].as_str().map(str::to_owned);
            if after.is_some_and(|id| set.rule(&id).is_none()) {
                rule.as_object_mut().expect("a rule").remove("after");
            }
        }
        let is_needed = |id: &str| set.iter().any(|rule| rule.after.iter().any(|(after, _)| **after == *id));
        let is_wanted = |id: &str| by_id.values().any(|rule| rule["after"][0] == *id);
        let removed: Vec<String> = (0..draw(5, 60)).map(|k| format!("r{:04}", draw(RULES, 70 + k))).collect();
        let removed: Vec<String> = removed.into_iter().filter(|id| !is_needed(id) && !is_wanted(id)).collect();
        set = put(&set, by_id.into_values(), &removed);
        catalog = catalog.recompile(round as u64, &set).expect("the set compiles");
        *(if catalog.is_layered() { &mut layered_count } else { &mut whole_count }) += 1;
        matches_count += assert_same(&catalog, &set, round);
    }
    assert!(layered_count > 8 && whole_count > 1, "{layered_count} layered, {whole_count} not");
    assert!(matches_count > 100, "{matches_count} matches are too few to say anything");
}

#[test]
fn large_changes_are_built_at_once() {
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    let set = RuleSet::from_json(&json!({ "rules": rules })).expect("the rules are right");
    let large = Catalog::compile(1, &set).expect("and compile");
    let with = |count: usize| put(&set, (0..count).map(|i| json!({ "id": format!("new{i}"), "conditions": [] })), &[]);
    assert!(large.recompile(2, &with(CHANGED_MAX)).expect("compiles").is_layered());
    assert!(!large.recompile(2, &with(CHANGED_MAX + 1)).expect("compiles").is_layered());
    let few = RuleSet::from_json(&json!({ "rules": rules[..CHANGED_SHARE] })).expect("the rules are right");
    let small = Catalog::compile(1, &few).expect("and compile");
    assert!(small.recompile(2, &put(&few, [rule(3_000)], &[])).expect("compiles").is_layered());
    assert!(!small.recompile(2, &put(&few, [rule(3_000), rule(3_001)], &[])).expect("compiles").is_layered());
    // The lower layer stays the same, however often it is followed.
    let twice = large.recompile(2, &with(200)).and_then(|catalog| catalog.recompile(3, &with(CHANGED_MAX))).expect("compiles");
    assert!(twice.is_layered());
    assert!(!twice.recompile(4, &with(CHANGED_MAX + 1)).expect("compiles").is_layered());
}

#[test]
fn a_change_taken_back_leaves_nothing_to_lay_over() {
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    let set = RuleSet::from_json(&json!({ "rules": rules })).expect("the rules are right");
    let catalog = Catalog::compile(1, &set).expect("and compile");
    let changed = catalog.recompile(2, &put(&set, [changed(5, 1)], &[])).expect("compiles");
    let back = changed.recompile(3, &set).expect("compiles");
    assert_eq!((changed.is_layered(), back.is_layered(), back.version()), (true, false, 3));
    let gone = catalog.recompile(4, &put(&set, [], &["r0007".to_owned()])).expect("compiles");
    assert!(gone.is_layered(), "a rule is gone");
    assert_same(&gone, gone.rules(), 3);
}
