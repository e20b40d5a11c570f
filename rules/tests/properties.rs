//! Laws of the language, on drawn conditions and messages; and: no text makes a reader panic.

use distric_rules::document::{Node, parse_documents};
use distric_rules::{Catalog, CheckContext, Envelope, RuleSet, check, check_rule};
use proptest::prelude::*;
use serde_json::{Value, json};

const MEMBERS: [&str; 4] = ["a", "b", "c", "event_type"];

/// Values small enough that conditions on them hold now and then.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        (-6_i64..7).prop_map(|n| json!(n as f64 / 2.0)),
        "[ab]{0,3}".prop_map(Value::from),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("10.0.0.1")),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(&MEMBERS[..3]), inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

fn message() -> impl Strategy<Value = Value> {
    prop_oneof![9 => prop::collection::btree_map(prop::sample::select(&MEMBERS[..]), value(), 0..4).prop_map(|map| json!(map)), 1 => value()]
}

fn leaf() -> impl Strategy<Value = Value> {
    let field = prop::sample::select(vec!["a", "b", "c", "event_type", "a.b", "a.c", "b.a.c", "payload.a", "$event_type"]);
    let number = (-3_i64..4).prop_map(Value::from);
    let text = "[ab]{0,2}".prop_map(Value::from);
    let test = prop_oneof![
        (prop::sample::select(vec!["equals", "not_equals", "contains"]), scalar()),
        (prop::sample::select(vec!["in", "not_in"]), prop::collection::vec(scalar(), 0..3).prop_map(Value::from)),
        (prop::sample::select(vec!["greater_than", "less_than", "greater_or_equal", "less_or_equal", "length"]), number.clone()),
        (Just("in_range"), (number.clone(), number).prop_map(|(low, high)| json!([low, high]))),
        (prop::sample::select(vec!["prefix", "suffix", "regex", "wildcard", "equals_ignore_case"]), text),
        (Just("exists"), any::<bool>().prop_map(Value::from)),
        (prop::sample::select(vec!["before", "after"]), Just(json!("2026-01-01T00:00:00Z"))),
        (Just("cidr"), Just(json!("10.0.0.0/8"))),
    ];
    (field, test).prop_map(|(field, (operator, value))| json!({ "field": field, "operator": operator, "value": value }))
}

fn condition() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|list| json!({ "all": list })),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|list| json!({ "any": list })),
            inner.prop_map(|condition| json!({ "not": condition })),
        ]
    })
}

fn catalog_of(rules: &[Value]) -> Catalog {
    let set = RuleSet::from_json(&json!({ "rules": rules })).expect("drawn rules are right");
    Catalog::compile(1, &set).expect("and compile")
}

fn ids(catalog: &Catalog, message: &Value) -> Vec<String> {
    catalog.decide_value(&Envelope::default(), message).rules.iter().map(ToString::to_string).collect()
}

fn holds(condition: &Value, message: &Value) -> bool {
    !ids(&catalog_of(&[json!({ "id": "r", "conditions": condition })]), message).is_empty()
}

fn not(condition: &Value) -> Value {
    json!({ "not": condition })
}

proptest! {
    #[test]
    fn de_morgan_and_double_negation(list in prop::collection::vec(condition(), 0..4), message in message()) {
        let negated: Vec<Value> = list.iter().map(not).collect();
        prop_assert_eq!(holds(&json!({ "not": { "all": list } }), &message), holds(&json!({ "any": negated }), &message));
        prop_assert_eq!(holds(&json!({ "not": { "any": list } }), &message), holds(&json!({ "all": negated }), &message));
        for condition in &list {
            prop_assert_eq!(holds(condition, &message), holds(&not(&not(condition)), &message));
            prop_assert_ne!(holds(condition, &message), holds(&not(condition), &message));
        }
    }

    #[test]
    fn the_order_of_the_rules_in_the_text_does_not_matter(
        conditions in prop::collection::vec((condition(), -2_i64..3), 1..6),
        message in message(),
        turn in 0_usize..6,
    ) {
        let rule = |(i, (condition, priority)): (usize, &(Value, i64))| json!({ "id": format!("r{i}"), "priority": priority, "conditions": condition });
        let mut rules: Vec<Value> = conditions.iter().enumerate().map(rule).collect();
        let before = catalog_of(&rules);
        let turn = turn % rules.len();
        rules.rotate_left(turn);
        prop_assert_eq!(ids(&before, &message), ids(&catalog_of(&rules), &message));
        // Each rule alone matches when it matches among the others: groups by event type lose nothing.
        let together = ids(&before, &message);
        for rule in &rules {
            let alone = !ids(&catalog_of(std::slice::from_ref(rule)), &message).is_empty();
            prop_assert_eq!(alone, together.iter().any(|id| rule["id"] == *id));
        }
    }

    #[test]
    fn members_that_no_rule_names_and_the_order_of_members_do_not_matter(condition in condition(), message in message(), extra in value()) {
        let catalog = catalog_of(&[json!({ "id": "r", "conditions": condition })]);
        let expected = ids(&catalog, &message);
        if let Value::Object(members) = &message {
            let mut more = members.clone();
            more.insert("unused".into(), extra);
            prop_assert_eq!(&ids(&catalog, &Value::Object(more)), &expected);
            let text: Vec<String> = members.iter().rev().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
            let decision = catalog.decide(&Envelope::default(), format!("{{{}}}", text.join(",")).as_bytes()).unwrap();
            prop_assert_eq!(decision.rules.len(), expected.len());
        }
    }

    #[test]
    fn canonical_json_reads_back_and_the_explanation_agrees(condition in condition(), message in message()) {
        let set = RuleSet::from_json(&json!({ "rules": [{ "id": "r", "when": condition }] })).unwrap();
        let back = RuleSet::from_json(&set.to_json()).unwrap();
        prop_assert_eq!(set.to_json(), back.to_json());
        let catalog = Catalog::compile(1, &back).unwrap();
        let matched = !ids(&catalog, &message).is_empty();
        prop_assert_eq!(matched, holds(&condition, &message));
        prop_assert_eq!(matched, catalog.explain(&Envelope::default(), &message, None).rules[0].condition.holds());
    }

    #[test]
    fn json_means_the_same_to_both_readers(value in value()) {
        let text = value.to_string();
        let as_json = parse_documents("f.json", &text).unwrap().remove(0).root;
        prop_assert_eq!(&as_json.to_json(), &value);
        prop_assert_eq!(Node::from_json(&value).to_json(), value);
        let spaced = format!("key: {text}");
        let as_yaml = parse_documents("f.yaml", &spaced).unwrap().remove(0).root;
        prop_assert_eq!(&as_yaml.get("key").unwrap().to_json(), &as_json.to_json());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC{0,200}", yamlish in "[a-c:\\-\\[\\]{},&*!|>'\"#?%@ \n\t]{0,80}") {
        for text in [text, yamlish] {
            for name in ["f", "f.json", "f.yaml"] {
                let _ = parse_documents(name, &text);
                let _ = check(name, &text, &CheckContext::default());
                let _ = check_rule(name, &text);
            }
        }
    }

    #[test]
    fn no_damaged_rule_file_makes_the_check_panic(at in 0_usize..600, what in "\\PC{0,3}", cut in 0_usize..8) {
        let mut text: Vec<char> = RULE_FILE.chars().collect();
        let at = at % text.len();
        let end = (at + cut).min(text.len());
        text.splice(at..end, what.chars());
        let checked = check("f.yaml", &text.iter().collect::<String>(), &CheckContext::default());
        prop_assert_eq!(checked.catalog.is_none(), checked.problems.iter().any(|p| p.severity == distric_rules::Severity::Error));
        if let Some(set) = checked.catalog {
            let catalog = Catalog::compile(1, &set).unwrap();
            let _ = catalog.decide(&Envelope::default(), br#"{"event_type":"pay","amount":5,"items":[{"sku":"x"}],"ip":"10.0.0.1"}"#);
        }
    }
}

const RULE_FILE: &str = r#"rules:
- id: a
  priority: 5
  event_type: pay
  conditions: [{field: amount, op: in_range, value: [1, 9]}, {not: {field: items.sku, op: regex, value: '^a.*$'}}]
  transform: [{set: x.y, value: "${amount}"}, {lookup: ip, in: t, to: z, default: 0}, {rename: items, to: things}]
  actions: [{workflow: w, params: {k: "${amount}"}, timeout: 5s, retry: {max_attempts: 3}, delay: 10}]
- {id: b, after: [a], requires: any, on_match: stop, when: {combinator: OR, conditions: [{field: ip, op: cidr, value: 10.0.0.0/8}]}}
lookups: {t: {10.0.0.1: home}}
fail_fast: false
"#;
