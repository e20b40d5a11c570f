//! What rules mean, operator by operator, beyond what the fixtures draw.

use distric_rules::{Catalog, CheckContext, Decision, Envelope, check};
use serde_json::{Value, json};

fn catalog(text: &str) -> Catalog {
    let checked = check("rules.yaml", text, &CheckContext::default());
    let set = checked.catalog.unwrap_or_else(|| panic!("{:#?}", checked.problems));
    Catalog::compile(7, &set).expect("a checked set compiles")
}

/// Whether one rule with these conditions matches.
fn matches_in(envelope: &Envelope<'_>, conditions: &str, payload: &Value) -> bool {
    let catalog = catalog(&format!("rules:\n- id: r\n  conditions: {conditions}\n"));
    let holds = !catalog.decide_value(envelope, payload).rules.is_empty();
    let explanation = catalog.explain(envelope, payload, None);
    assert_eq!(explanation.rules[0].condition.holds(), holds, "the explanation differs: {conditions} on {payload}");
    holds
}

fn matches(conditions: &str, payload: &Value) -> bool {
    matches_in(&Envelope::default(), conditions, payload)
}

fn leaf(operator: &str, value: &str) -> String {
    format!("[{{field: a, op: {operator}, value: {value}}}]")
}

#[test]
fn operators_hold_for_some_leaf() {
    for (operator, value, yes, no) in [
        ("eq", "1", vec![json!(1), json!(1.0), json!([0, [1]])], vec![json!("1"), json!(true), json!([]), json!({}), json!(null)]),
        ("==", "null", vec![json!(null), json!([null])], vec![json!(0), json!(""), json!({})]),
        ("ne", "x", vec![json!("y"), json!([]), json!({}), json!(null)], vec![json!("x"), json!(["y", "x"])]),
        ("in", "[1, x, true]", vec![json!("x"), json!([2, true])], vec![json!("1"), json!(false)]),
        ("not_in", "[1, x]", vec![json!("1"), json!([])], vec![json!([3, 1])]),
        ("gt", "'10000'", vec![json!(10_001), json!([1, 10_000.5])], vec![json!(10_000), json!("10001"), json!(true)]),
        ("gte", "5", vec![json!(5), json!(5.0)], vec![json!(4.999), json!(null)]),
        ("lt", "5", vec![json!(-1)], vec![json!(5), json!("4")]),
        ("lte", "5", vec![json!(5)], vec![json!(5.1)]),
        ("in_range", "[1, '3']", vec![json!(1), json!(3)], vec![json!(0.9), json!(3.1), json!("2")]),
        ("in_range", "[null, 3]", vec![json!(-1e300), json!(3)], vec![json!(4)]),
        ("prefix", "ab", vec![json!("abc"), json!(["x", "ab"])], vec![json!("xab"), json!(12)]),
        ("suffix", "ab", vec![json!("xab")], vec![json!("abx")]),
        ("contains", "b", vec![json!("abc"), json!(["b"]), json!([["b"]])], vec![json!(["abc"]), json!({"b": 1})]),
        ("contains", "5", vec![json!([1, 5.0])], vec![json!("5"), json!(["5"]), json!(5)]),
        ("regex", "'^a.c$'", vec![json!("abc"), json!("aéc")], vec![json!("abcd"), json!("abc\n")]),
        ("wildcard", "a*c", vec![json!("abbc"), json!("ac")], vec![json!("abcd"), json!(5)]),
        ("equals_ignore_case", "Straße", vec![json!("STRAßE"), json!("straße")], vec![json!("strasse"), json!(null)]),
        (
            "cidr",
            "[10.0.0.0/8, '2001:db8::/32']",
            vec![json!("10.1.2.3"), json!("2001:db8::1")],
            vec![json!("11.0.0.1"), json!("10.0.0.0/8"), json!("x")],
        ),
        ("cidr", "192.168.0.1", vec![json!("192.168.0.1")], vec![json!("192.168.0.2")]),
        ("exists", "true", vec![json!(null), json!([]), json!({})], vec![]),
        ("length", "3", vec![json!("äöü"), json!([1, 2, 3])], vec![json!("ab"), json!({"x": 1}), json!(3)]),
        ("length", "{greater_than: 2}", vec![json!("abc"), json!([1, 2, 3])], vec![json!("ab"), json!([])]),
        ("length", "{op: in_range, value: [0, 1]}", vec![json!(""), json!([]), json!(["long text"])], vec![json!("ab")]),
        ("length", "{not_equals: 2}", vec![json!("abc")], vec![json!("ab"), json!(5)]),
        (
            "before",
            "2026-01-01T00:00:00Z",
            vec![json!("2025-12-31T23:59:59.999Z"), json!("2026-01-01T00:30:00+01:00")],
            vec![json!("2026-01-01T00:00:00Z"), json!("2025"), json!(0)],
        ),
        ("after", "2026-01-01T00:00:00Z", vec![json!("2026-01-01T00:00:00.001Z")], vec![json!("2026-01-01T01:00:00+01:00"), json!("x")]),
    ] {
        for payload in yes {
            assert!(matches(&leaf(operator, value), &json!({ "a": payload })), "{operator} {value} must hold for {payload}");
        }
        for payload in no {
            assert!(!matches(&leaf(operator, value), &json!({ "a": payload })), "{operator} {value} must not hold for {payload}");
        }
        assert!(!matches(&leaf(operator, value), &json!({ "b": 1 })), "{operator} {value} must not hold for a missing field");
    }
    assert!(matches(&leaf("exists", "false"), &json!({})) && !matches(&leaf("exists", "false"), &json!({"a": null})));
}

#[test]
fn paths_enter_lists_and_a_backslash_keeps_a_dot() {
    let payload = json!({"items": [{"sku": "a", "tags": ["x"]}, 5, [{"sku": "b"}]], "a.b": 1, "payload2": 1});
    assert!(matches("{field: items.sku, op: eq, value: b}", &payload));
    assert!(matches("{field: items.tags, op: contains, value: x}", &payload));
    assert!(!matches("{field: items.sku.x, op: exists}", &payload));
    assert!(matches(r"{field: 'a\.b', op: eq, value: 1}", &payload) && !matches("{field: a.b, op: exists}", &payload));
    for conditions in ["{field: payload.items.sku, op: eq, value: a}", "{not: {field: payload, op: exists}}"] {
        assert!(matches(conditions, &payload));
    }
    // A payload with a member of that name keeps it.
    assert!(!matches("{field: payload.x, op: exists}", &json!({"payload": {}, "x": 1})));
}

#[test]
fn the_envelope_is_addressed_with_a_dollar_sign() {
    let envelope = Envelope {
        namespace: "eu",
        event_type: Some("order.created"),
        source: Some("shop"),
        timestamp_us: Some(1_767_225_600_500_000),
        headers: &[("X-Tenant", "t1"), ("x-tenant", "t2")],
        content_type: None,
    };
    for conditions in [
        "{field: $namespace, op: eq, value: eu}",
        "{field: $event_type, op: prefix, value: order.}",
        "{field: $source, op: length, value: 4}",
        "{field: $timestamp, op: after, value: '2026-01-01T00:00:00Z'}",
        "{field: $timestamp, op: eq, value: '2026-01-01T00:00:00.5Z'}",
        "[{field: $headers.x-tenant, op: eq, value: t1}, {field: $headers.X-TENANT, op: eq, value: t2}]",
        // Without a member of its own the payload's event type is the envelope's.
        "{field: event_type, op: eq, value: order.created}",
    ] {
        assert!(matches_in(&envelope, conditions, &json!({})), "{conditions}");
        assert!(!matches(conditions, &json!({})), "{conditions}");
    }
    let own = json!({"event_type": "own"});
    assert!(matches_in(&envelope, "[{field: event_type, op: eq, value: own}, {field: $event_type, op: eq, value: order.created}]", &own));
    assert!(matches("{field: $event_type, op: eq, value: own}", &own));
}

#[test]
fn the_event_type_shorthand_is_a_leading_equals() {
    let catalog = catalog(
        "rules:\n- {id: a, event_type: x}\n- {id: b, event_type: y}\n- {id: c, when: [{field: event_type, op: in, value: [x, z]}]}\n- {id: d}\n",
    );
    let ids = |envelope_type: Option<&str>, payload: Value| -> Vec<String> {
        let decision = catalog.decide_value(&Envelope { event_type: envelope_type, ..Envelope::default() }, &payload);
        decision.rules.iter().map(ToString::to_string).collect()
    };
    assert_eq!(ids(Some("x"), json!({})), ["a", "c", "d"]);
    assert_eq!(ids(None, json!({"event_type": "x"})), ["a", "c", "d"]);
    assert_eq!(ids(Some("y"), json!({"event_type": "x"})), ["b", "c", "d"]);
    assert_eq!(ids(None, json!({"event_type": ["y", "x"]})), ["a", "b", "c", "d"]);
    assert_eq!(ids(None, json!({"event_type": 5})), ["d"]);
    assert_eq!(ids(None, json!([{"event_type": "x"}])), ["d"]);
}

#[test]
fn three_spellings_have_one_meaning() {
    let (a, b) = ("{field: a, op: exists}", "{field: b, op: exists}");
    for (conditions, truth) in [
        (format!("[{a}, {b}]"), [false, false, false, true]),
        (format!("{{all: [{a}, {b}]}}"), [false, false, false, true]),
        (format!("{{combinator: AND, conditions: [{a}, {b}]}}"), [false, false, false, true]),
        (format!("{{any: [{a}, {b}]}}"), [false, true, true, true]),
        (format!("{{combinator: OR, conditions: [{a}, {b}]}}"), [false, true, true, true]),
        (format!("{{not: {a}}}"), [true, false, true, false]),
        (format!("{{combinator: NOT, conditions: [[{a}, {b}]]}}"), [true, true, true, false]),
        (format!("{{not: [{a}, {{any: [{{not: {b}}}, {{combinator: AND, conditions: []}}]}}]}}"), [true, false, true, false]),
        ("[]".into(), [true; 4]),
        ("{any: []}".into(), [false; 4]),
    ] {
        let found = [json!({}), json!({"a": 1}), json!({"b": 1}), json!({"a": 1, "b": 1})].map(|payload| matches(&conditions, &payload));
        assert_eq!(found, truth, "{conditions}");
    }
}

fn decide(text: &str, payload: Value) -> Decision {
    catalog(text).decide_value(&Envelope::default(), &payload)
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.rules.iter().map(|id| &**id).collect()
}

#[test]
fn higher_priority_comes_first_then_the_smaller_id() {
    let text =
        "rules:\n- {id: b}\n- {id: a}\n- {id: z, priority: 5}\n- {id: low, priority: -1}\n- {id: off, priority: 9, enabled: false}\n";
    let decision = decide(text, json!({}));
    assert_eq!((ids(&decision), decision.catalog_version), (vec!["z", "a", "b", "low"], 7));
}

#[test]
fn stop_and_fail_fast_end_the_walk() {
    let text = "rules:\n- {id: a, priority: 3}\n- {id: b, priority: 2, on_match: stop, when: {field: s, op: exists}}\n- {id: c, priority: 1, actions: [{workflow: w}]}\n- {id: d}\n";
    assert_eq!(ids(&decide(text, json!({}))), ["a", "c", "d"]);
    assert_eq!(ids(&decide(text, json!({"s": 1}))), ["a", "b"]);
    // Only a match that has actions ends a fail-fast walk.
    assert_eq!(ids(&decide(&format!("{text}fail_fast: true\n"), json!({}))), ["a", "c"]);
    assert!(catalog("rules: []\nkeep_unmatched: true\n").keep_unmatched());
}

#[test]
fn chains_are_evaluated_after_their_rules_and_see_their_transforms() {
    let text = r#"
rules:
- id: normalise
  transform:
  - {rename: ts, to: timestamp}
  - {set: risk.level, value: low}
- id: unrelated
  priority: 50
  when: {field: timestamp, op: exists}
- id: score
  priority: 100
  after: [normalise]
  when: [{field: timestamp, op: exists}, {field: risk.level, op: eq, value: low}]
  transform:
  - {compute: score, expr: "amount * 2"}
  - {set: note, value: "${score} for ${user.id}"}
- id: either
  after: [score, never]
  requires: any
  when: {field: score, op: gt, value: 10}
  actions: [{workflow: w, params: {score: "${score}", was: "${amount}"}}]
- id: both
  after: [score, never]
- id: never
  when: {any: []}
"#;
    let decision = decide(text, json!({"ts": 5, "amount": 10, "user": {"id": "u"}}));
    assert_eq!(ids(&decision), ["normalise", "score", "either"]);
    assert_eq!(
        decision.derived.unwrap(),
        json!({"timestamp": 5, "amount": 10, "user": {"id": "u"}, "risk": {"level": "low"}, "score": 20, "note": "20 for u"})
    );
    assert_eq!(decision.actions[0].params, json!({"score": 20, "was": 10}));
    assert_eq!(ids(&decide(text, json!({"ts": 5, "amount": 1, "user": {}}))), ["normalise", "score"]);
}

#[test]
fn every_transform_does_what_it_says() {
    let text = r#"
rules:
- id: r
  transform:
  - {copy: user.id, to: user_id}
  - {copy: items.sku, to: skus}
  - {copy: $source, to: source}
  - {copy: nowhere, to: gone}
  - {rename: nowhere, to: gone}
  - {remove: card.number}
  - {set: items.seen, value: true}
  - {lookup: country, in: risk, to: risk.country, default: 1}
  - {lookup: origin, in: risk, to: risk.origin, default: 1}
  - {lookup: origin, in: risk, to: risk.none}
  - {lookup: codes, in: risk, to: risk.code}
  - {compute: total, expr: "amount * (1.0 + tax)"}
lookups:
  risk: {GB: 1, RU: 5, 7: {deep: true}}
"#;
    let payload = json!({"user": {"id": 9}, "items": [{"sku": "a"}, {"sku": "b"}], "card": {"number": "4111", "kind": "visa"},
        "country": "RU", "codes": [3, 7], "amount": 10.0, "tax": 0.5});
    let decision = catalog(text).decide_value(&Envelope { source: Some("shop"), ..Envelope::default() }, &payload);
    assert_eq!(decision.notes, []);
    assert_eq!(
        decision.derived.unwrap(),
        json!({"user": {"id": 9}, "user_id": 9, "items": [{"sku": "a", "seen": true}, {"sku": "b", "seen": true}], "skus": ["a", "b"],
            "card": {"kind": "visa"}, "country": "RU", "codes": [3, 7], "amount": 10.0, "tax": 0.5, "total": 15.0, "source": "shop",
            "risk": {"country": 5, "origin": 1, "code": {"deep": true}}})
    );
}

#[test]
fn actions_carry_every_member() {
    let text = r#"
rules:
- id: r
  actions:
  - workflow: fraud_detection
    version: 3
    params: {threshold: high, who: "${user.id}", text: "id ${user.id}!", deep: {all: ["${amount}", "$${x}"]}, gone: "${user.nobody}"}
    timeout: 30
    retry: 3
    ordering_key: "${user.id}"
    concurrency: {key: "${$namespace}", limit: 10}
    delay: 5s
  - {workflow: plain, version: latest, retry: {max_attempts: 2, initial_backoff: 250ms, multiplier: 3, max_backoff: 1m, jitter: 0}}
"#;
    let catalog = catalog(text);
    let envelope = Envelope { namespace: "eu", ..Envelope::default() };
    let decision = catalog.decide(&envelope, br#"{"user": {"id": 9}, "amount": 2.5}"#).unwrap();
    let [first, second] = decision.actions.as_slice() else { panic!("two actions") };
    assert_eq!((&*first.rule, &*first.workflow, first.version), ("r", "fraud_detection", Some(3)));
    assert_eq!(first.params, json!({"threshold": "high", "who": 9, "text": "id 9!", "deep": {"all": [2.5, "${x}"]}, "gone": null}));
    assert_eq!((first.timeout_ms, first.delay_ms, first.retry.unwrap().max_attempts), (Some(30_000), 5_000, 4));
    assert_eq!((first.ordering_key.as_deref(), first.concurrency.clone()), (Some("9"), Some(("eu".into(), 10))));
    assert_eq!((second.version, second.params.clone(), second.timeout_ms, second.ordering_key.clone()), (None, json!({}), None, None));
    let retry = second.retry.unwrap();
    assert_eq!(
        (retry.max_attempts, retry.initial_backoff_ms, retry.multiplier, retry.max_backoff_ms, retry.jitter),
        (2, 250, 3.0, 60_000, 0.0)
    );
    let notes: Vec<String> = decision.notes.iter().map(|note| format!("{} {}", note.rule, note.path)).collect();
    assert_eq!(notes, ["r actions[0].params.gone"]);
    assert_eq!(decision.derived, None);
}

#[test]
fn a_failed_expression_stops_nothing_else() {
    let text = "rules:\n- id: r\n  transform:\n  - {compute: a, expr: \"1 / 0\"}\n  - {set: b, value: 1}\n  actions: [{workflow: w, params: {b: \"${b}\"}, ordering_key: \"${a}\"}]\n";
    let decision = decide(text, json!({}));
    assert_eq!(decision.derived, Some(json!({"b": 1})));
    assert_eq!((decision.actions[0].params.clone(), decision.actions[0].ordering_key.clone()), (json!({"b": 1}), None));
    assert_eq!(decision.notes.iter().map(|note| note.path.as_str()).collect::<Vec<_>>(), ["transform[0]", "actions[0].ordering_key"]);
}

#[test]
fn payloads_that_are_no_objects_have_no_fields() {
    let catalog =
        catalog("rules:\n- {id: all}\n- {id: field, when: {field: a, op: exists}}\n- {id: none, when: {not: {field: a, op: exists}}}\n");
    for payload in ["[{\"a\":1}]", "5", "null", "\"a\""] {
        let decision = catalog.decide(&Envelope::default(), payload.as_bytes()).unwrap();
        assert_eq!(ids(&decision), ["all", "none"], "{payload}");
    }
    assert_eq!(
        catalog.decide(&Envelope::default(), b"{\"a\":").unwrap_err().to_string(),
        "the payload is not valid JSON at byte 5: EOF while parsing a value"
    );
    assert_eq!(ids(&catalog.decide(&Envelope::default(), br#"{"a":1,"a":2}"#).unwrap()), ["all", "field"]);
}

#[test]
fn an_explanation_prints_what_every_condition_saw() {
    let text = r#"
rules:
- id: high
  priority: 9
  event_type: pay
  when: [{field: amount, op: gt, value: 1000}, {not: {field: user.tags, op: contains, value: vip}}]
  on_match: stop
  actions: [{workflow: fraud, params: {who: "${user.id}", gone: "${x}"}}]
- {id: cut, when: {field: a, op: exists}}
- {id: off, enabled: false}
- {id: late, priority: 10, after: [off]}
"#;
    let catalog = catalog(text);
    let payload = json!({"event_type": "pay", "amount": [5, 2000], "user": {"id": 1, "tags": ["new"]}});
    let explanation = catalog.explain(&Envelope::default(), &payload, None);
    let gone = explanation.rules.iter().flat_map(|rule| &rule.notes).map(|note| note.message.clone()).next().unwrap();
    assert_eq!(
        explanation.to_string(),
        format!(
            "catalog version 7, event type pay, 1 of the rules match\n\
             \nlate (priority 10) was not tried: it comes after `off`, which did not match\n  yes all (of nothing)\n\
             \nhigh (priority 9) matches: its conditions hold\n  yes all\n    yes $event_type equals \"pay\", saw \"pay\"\n    yes all\n      \
             yes amount greater_than 1000, saw [5,2000]\n      yes not\n        no  user.tags contains \"vip\", saw [\"new\"]\n  \
             starts fraud (latest) with {{\"gone\":null,\"who\":1}}\n  no value for actions[0].params.gone: {gone}\n\
             \ncut (priority 0) was not tried: `high` matched before it and stopped\n  no  a exists true, the field is missing\n\
             \noff (priority 0) was not tried: it is disabled\n  yes all (of nothing)\n"
        )
    );
    let json = serde_json::to_value(catalog.explain(&Envelope::default(), &payload, Some("cut"))).unwrap();
    assert_eq!(
        json["rules"],
        json!([{"id": "cut", "priority": 0, "outcome": "cut", "reason": "`high` matched before it and stopped",
            "condition": {"field": "a", "operator": "exists", "value": true, "saw": [], "holds": false}}])
    );
}

#[test]
fn a_decision_survives_json() {
    let decision = decide(
        "rules:\n- {id: r, transform: [{set: a, value: 1}], actions: [{workflow: w, retry: 1, concurrency: {key: k, limit: 2}}]}\n",
        json!({}),
    );
    let back: Decision = serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
    // Places are of one compiled catalog and stay behind.
    assert_eq!(back, Decision { places: Vec::new(), ..decision });
}
