//! Many rules, so that every way to a candidate is chosen; the reference is direct evaluation.

use serde_json::{Value, json};

use crate::compile::Program;
use crate::decision::Envelope;
use crate::hands::tests::Backwards;
use crate::hands::{Alone, Hands};
use crate::{Catalog, RuleSet};

pub(crate) const RULES: usize = 6_000;

/// A number below `n`, spread over its arguments.
pub(crate) fn below(n: usize, i: usize, what: usize) -> usize {
    (super::values::mix(i as u64, what as u64) >> 33) as usize % n
}

pub(crate) fn rule(i: usize) -> Value {
    let draw = |n, what| below(n, i, what);
    let low = draw(100, 4);
    let mut conditions = vec![
        json!({ "field": "event_type", "op": "equals", "value": format!("t{}", draw(8, 0)) }),
        json!({ "field": "amount", "op": "in_range", "value": [low, low + draw(10, 5)] }),
    ];
    conditions.push(match draw(6, 1) {
        0 => json!({ "field": "note", "op": "contains", "value": format!("w{}", draw(60, 2)) }),
        1 => json!({ "field": "note", "op": "regex", "value": format!("w{} .*w{}", draw(60, 2), draw(9, 3)) }),
        2 => json!({ "any": [{ "field": "note", "op": "prefix", "value": format!("w{}", draw(60, 2)) }, { "field": "note", "op": "suffix", "value": format!("{}", draw(60, 2)) }] }),
        3 => json!({ "field": "note", "op": "wildcard", "value": format!("w{}*w{}", draw(9, 2), draw(60, 3)) }),
        4 => json!({ "field": "country", "op": "not_equals", "value": format!("c{}", draw(40, 2)) }),
        _ => json!({ "field": "country", "op": "in", "value": (0..1 + draw(4, 2)).map(|k| format!("c{}", draw(40, 10 + k))).collect::<Vec<_>>() }),
    });
    if draw(4, 6) == 0 {
        conditions.push(json!({ "not": { "field": "country", "op": "equals", "value": format!("c{}", draw(40, 7)) } }));
    }
    if draw(20, 8) == 0 {
        conditions.remove(0);
    }
    json!({ "id": format!("r{i:04}"), "priority": draw(9, 9), "conditions": conditions })
}

pub(crate) fn message(i: usize) -> Value {
    let draw = |n, what| below(n, i + RULES, what);
    let text = |what| format!("w{} w{} w{}", draw(60, what), draw(60, what + 1), draw(60, what + 2));
    let mut message = json!({ "event_type": format!("t{}", draw(8, 0)), "amount": draw(100, 1), "country": format!("c{}", draw(40, 2)), "note": text(3) });
    match draw(8, 6) {
        0 => message["country"] = json!([message["country"], "c1", "c1", "c2"]),
        1 => message["event_type"] = json!(["t1", "t2", message["event_type"], "t2"]),
        2 => message["amount"] = json!([draw(100, 7), draw(100, 8), "x"]),
        3 => message["note"] = json!([text(10), format!("w{}", draw(60, 13)), [text(14)]]),
        4 => drop(message.as_object_mut().and_then(|members| members.remove("amount"))),
        5 => message["note"] = Value::Null,
        _ => {}
    }
    message
}

#[test]
fn candidates_of_cells_groups_and_columns_are_those_of_direct_evaluation() {
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    let set = RuleSet::from_json(&json!({ "rules": rules })).expect("the rules are right");
    let index = Program::compile(&Alone, &set).expect("and compile").index;
    assert!(!index.cells.is_empty(), "some are found by two keys");
    assert!(!index.groups.is_empty(), "some by an equality");
    assert!(!index.columns.is_empty(), "and some are left over by columns");
    let catalog = Catalog::compile(1, &set).expect("and compile");
    let mut matches_count = 0;
    for i in 0..60 {
        let message = message(i);
        let decision = catalog.decide(&Envelope::default(), message.to_string().as_bytes()).expect("JSON");
        assert_eq!(decision.rules, catalog.explain(&Envelope::default(), &message, None).matched, "{message}");
        matches_count += decision.rules.len();
    }
    assert!(matches_count > 100, "{matches_count} matches are too few to say anything");
}

#[test]
fn what_is_built_does_not_depend_on_the_hands() {
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    let text = json!({ "rules": rules }).to_string();
    let build = |hands: &dyn Hands| {
        let checked = crate::check_with(hands, "rules.json", &text, &crate::CheckContext::default());
        let set = checked.catalog.expect("the rules are right");
        let (options, texts) = set.to_parts(hands);
        assert_eq!((options.as_str(), texts.len()), ("{}", RULES));
        assert!(texts.iter().zip(set.iter()).all(|((id, text), rule)| {
            let written = rule.to_json().to_string();
            **id == *rule.id && **text == *written
        }));
        let texts: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
        let read = RuleSet::from_parts(hands, &options, &texts).expect("what was written can be read");
        assert_eq!(read.to_json(), set.to_json());
        let program = Program::compile(hands, &read).expect("and compile");
        (
            format!("{:?}", program.index),
            format!("{:?}", program.paths),
            program.ids.clone(),
            Catalog::compile_with(hands, 1, &set).expect("and compile"),
        )
    };
    let alone = build(&Alone);
    assert!(alone.0.len() > RULES, "there is something to compare");
    for threads in [1, 2, 4] {
        let several = build(&Backwards(threads));
        assert!(alone.0 == several.0 && alone.1 == several.1 && alone.2 == several.2, "{threads} threads build another index");
        for i in 0..200 {
            let message = message(i);
            assert_eq!(alone.3.decide_value(&Envelope::default(), &message), several.3.decide_value(&Envelope::default(), &message));
        }
    }
}
