//! The rule language, payloads, and the compiled program.

use distric_oracle::odd::Odd;
use distric_oracle::oracle::{Beside, Oracle};
use distric_rules::{Catalog, CheckContext, Envelope, PayloadFormat, RuleSet, check};
use serde_json::{Value, json};

/// Rules of one drawn program.
const PROGRAM_RULES: usize = 24;

/// A document of rules, YAML or JSON: refused with words, or a catalog whose canonical form is read as the same and decides.
pub fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = check("fuzz", text, &CheckContext::default());
    for problem in &checked.problems {
        assert!(!problem.to_string().is_empty(), "a problem has words");
    }
    let Some(set) = checked.catalog else {
        assert!(!checked.problems.is_empty(), "refused without a word");
        return;
    };
    let canonical = set.to_json();
    let again = RuleSet::from_json(&canonical).expect("we read what we write");
    assert_eq!(again.to_json(), canonical);
    let Ok(catalog) = Catalog::compile(1, &set) else { return };
    for payload in [json!({}), json!({ "event_type": "order", "amount": 7, "a": [1, "a", { "b": null }] })] {
        decided(&catalog, payload.to_string().as_bytes());
    }
}

/// A payload, against rules that look at everything: refused, or decided as the parsed value is.
pub fn payload(data: &[u8]) {
    thread_local! {
        static CATALOG: std::cell::OnceCell<Catalog> = const { std::cell::OnceCell::new() };
    }
    CATALOG.with(|kept| decided(kept.get_or_init(curious), data));
}

/// A MessagePack payload, against the same rules: refused, or decided as the JSON text that says the same.
pub fn packed(data: &[u8]) {
    thread_local! {
        static CATALOG: std::cell::OnceCell<Catalog> = const { std::cell::OnceCell::new() };
    }
    let envelope = Envelope { namespace: "fuzz", content_type: Some("application/msgpack"), ..Envelope::default() };
    CATALOG.with(|kept| {
        let catalog = kept.get_or_init(curious);
        match (catalog.decide(&envelope, data), PayloadFormat::MessagePack.to_json(data)) {
            (Ok(decision), Ok(text)) => {
                let plain = Envelope { content_type: None, ..envelope };
                assert_eq!(Ok(decision), catalog.decide(&plain, &text), "{}", String::from_utf8_lossy(&text));
            }
            (Err(error), Err(other)) => assert_eq!(error, other),
            (decided, read) => panic!("{decided:?}, but {read:?}"),
        }
    });
}

/// Rules that look at everything.
fn curious() -> Catalog {
    let fields = ["a", "b", "a.b", "event_type", "user.email", "items.sku", "payload.a", "é"];
    let tests =
        [("exists", json!(true)), ("greater_than", json!(0)), ("contains", json!("a")), ("length", json!(2)), ("equals", json!("a"))];
    let conditions =
        fields.iter().flat_map(|field| tests.iter().map(move |(op, value)| json!([{ "field": field, "op": op, "value": value }])));
    let rules: Vec<Value> = conditions.enumerate().map(|(i, all)| json!({ "id": format!("r{i}"), "conditions": all })).collect();
    compiled(&rules)
}

/// A drawn program, chosen by the first two bytes, and a payload: the index, direct evaluation and the naive evaluator agree.
pub fn program(data: &[u8]) {
    let Some((seed, data)) = data.split_first_chunk::<2>() else { return };
    let (rules, _) = Odd::drawn(u64::from(u16::from_le_bytes(*seed)), PROGRAM_RULES, 0);
    let Some((payload, found)) = decided(&compiled(&rules), data) else { return };
    let oracle = Oracle::read(&rules).expect("drawn rules are of its language");
    assert_eq!(found, oracle.matches(Beside::default(), &payload), "{payload}");
}

fn compiled(rules: &[Value]) -> Catalog {
    let set = RuleSet::from_json(&json!({ "rules": rules })).expect("these rules are right");
    Catalog::compile(1, &set).expect("and compile")
}

/// The payload and the matching rules, when it is one.
fn decided(catalog: &Catalog, data: &[u8]) -> Option<(Value, Vec<String>)> {
    let envelope = Envelope { namespace: "fuzz", ..Envelope::default() };
    match (catalog.decide(&envelope, data), serde_json::from_slice::<Value>(data)) {
        (Ok(decision), Ok(value)) => {
            assert_eq!(decision, catalog.decide_value(&envelope, &value), "{value}");
            assert_eq!(decision.rules, catalog.explain(&envelope, &value, None).matched, "{value}");
            Some((value, decision.rules.iter().map(ToString::to_string).collect()))
        }
        (Err(error), _) => {
            assert!(!error.to_string().is_empty(), "an error has words");
            None
        }
        (Ok(_), Err(error)) => panic!("decided about what is no JSON: {error}"),
    }
}
