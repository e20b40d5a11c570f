//! Rules that can never match, that meet undecided, or that cost too much: what their author reads.

use distric_rules::{CATALOG_NS_MAX, CheckContext, Severity, check};
use serde_json::{Value, json};

/// Everything said about these rules, as messages; whether they can be used.
fn said(rules: &[Value]) -> (bool, Vec<String>) {
    said_about(&json!({ "rules": rules }))
}

fn said_about(document: &Value) -> (bool, Vec<String>) {
    let checked = check("f.json", &document.to_string(), &CheckContext::default());
    (checked.catalog.is_some(), checked.problems.into_iter().map(|problem| problem.message).collect())
}

fn leaf(field: &str, op: &str, value: impl Into<Value>) -> Value {
    json!({ "field": field, "op": op, "value": value.into() })
}

#[test]
fn an_or_without_a_possible_alternative_never_holds() {
    let rule = |any: Value| json!({ "id": "r", "conditions": [leaf("a", "equals", 1), { "any": any }] });
    let never = rule(json!([leaf("a", "not_equals", 1), { "all": [leaf("a", "exists", false), leaf("b", "exists", true)] }]));
    assert_eq!(said(&[never]).1, ["every alternative of an `any` contradicts what must hold beside it: this never holds"]);
    let lists = rule(json!([leaf("a", "equals", 2), leaf("a", "not_equals", 1)]));
    assert_eq!(
        said(&[lists]).1,
        ["every alternative of an `any` contradicts what must hold beside it: this holds for lists only, if at all"]
    );
    assert_eq!(said(&[rule(json!([]))]).1, ["an empty `any` never holds"]);
    let nested = rule(json!([{ "all": [leaf("b", "exists", true), { "any": [leaf("a", "not_equals", 1)] }] }]));
    assert_eq!(said(&[nested]).1.len(), 1);
    let possible = rule(json!([leaf("a", "equals", 2), leaf("b", "equals", 2)]));
    assert_eq!(said(&[possible]).1, [""; 0]);
}

#[test]
fn rules_that_meet_at_equal_priority_are_named_when_their_order_matters() {
    let rule = |id: &str, condition: Value, more: Value| {
        let mut rule = json!({ "id": id, "conditions": [condition] });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let stop = || json!({ "on_match": "stop" });
    let undecided = "`a` and `b` may match together and `a` stops; at equal priority only their ids say which is first";
    assert_eq!(said(&[rule("a", leaf("x", "equals", 1), stop()), rule("b", leaf("y", "equals", 1), json!({}))]).1, [undecided]);
    // What cannot meet, is ordered otherwise, or has no effect on each other, is fine.
    for second in [
        rule("b", leaf("x", "equals", 2), json!({})),
        rule("b", leaf("x", "in_range", json!([2, 3])), json!({})),
        rule("b", leaf("x", "exists", false), json!({})),
        rule("b", leaf("x", "not_equals", 1), json!({})),
        rule("b", leaf("y", "equals", 1), json!({ "priority": -1 })),
        rule("b", leaf("y", "equals", 1), json!({ "after": ["a"] })),
        rule("b", leaf("y", "equals", 1), json!({ "enabled": false })),
    ] {
        assert_eq!(said(&[rule("a", leaf("x", "equals", 1), stop()), second.clone()]).1, [""; 0], "{second}");
    }
    let writes = |to: &str| json!({ "transform": [{ "set": to, "value": 1 }] });
    let first = || rule("a", leaf("x", "equals", 1), writes("score"));
    let both = "`a` and `b` may match together and both write `score`; at equal priority only their ids say which is first";
    assert_eq!(said(&[first(), rule("b", leaf("y", "equals", 1), writes("score"))]).1, [both]);
    assert_eq!(said(&[first(), rule("b", leaf("y", "equals", 1), writes("other"))]).1, [""; 0]);
    let types = |id: &str, event_type: &str| json!({ "id": id, "event_type": event_type, "on_match": "stop" });
    assert_eq!(said(&[types("a", "one"), types("b", "two")]).1, [""; 0]);
    let actions = |id: &str| json!({ "id": id, "conditions": [leaf(id, "equals", 1)], "actions": [{ "workflow": "w" }] });
    assert_eq!(said(&[actions("a"), actions("b")]).1, [""; 0]);
    let fail_fast = json!({ "rules": [actions("a"), actions("b")], "fail_fast": true });
    assert_eq!(
        said_about(&fail_fast).1,
        ["`a` and `b` may match together and both stop; at equal priority only their ids say which is first"]
    );
}

/// A rule of so many expressions without any literal: nothing leads to it, and each must be tried.
fn unfindable(id: usize, count: usize) -> Value {
    let any: Vec<Value> = (0..count).map(|_| leaf("note", "regex", "[ab][cd]")).collect();
    json!({ "id": format!("r{id:03}"), "conditions": [{ "any": any }] })
}

#[test]
fn rules_that_would_hold_up_every_message_are_refused() {
    let (usable, messages) = said(&[unfindable(0, 300)]);
    assert!(!usable);
    assert_eq!(messages, ["this may cost every message 153 µs, since nothing that must hold leads to it"]);
    // With something that leads to it, the same rule is cheap.
    let mut found = unfindable(0, 300);
    found["event_type"] = json!("order");
    assert_eq!(said(&[found]), (true, Vec::new()));
    // Each passes alone, and all of them do not pass together.
    let count = CATALOG_NS_MAX as usize / (190 * 512) + 1;
    let (usable, messages) = said(&(0..count).map(|id| unfindable(id, 190)).collect::<Vec<_>>());
    assert!(!usable);
    assert_eq!(
        messages,
        [format!("the rules to which nothing leads that must hold may cost every message {} µs together", count * 190 * 512 / 1_000)]
    );
    let (usable, messages) = said(&[json!({ "id": "r", "conditions": (0..4_097).map(|i| leaf("a", "equals", i)).collect::<Vec<_>>() })]);
    assert!(!usable && messages == ["the rule has 4097 comparisons"], "{messages:?}");
}

#[test]
fn rules_that_can_only_be_evaluated_one_by_one_are_a_warning() {
    let rules: Vec<Value> = (0..4).map(|id| unfindable(id, 60)).collect();
    let checked = check("f.json", &json!({ "rules": rules }).to_string(), &CheckContext::default());
    let messages: Vec<(Severity, String)> = checked.problems.into_iter().map(|problem| (problem.severity, problem.message)).collect();
    let expected =
        "4 rules may cost every message 122 µs together, since nothing that must hold leads to them; most of it `r000` with 30720 ns";
    assert!(messages.contains(&(Severity::Warning, expected.into())), "{messages:?}");
}
