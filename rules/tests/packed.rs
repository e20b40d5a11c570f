//! Payloads in MessagePack: decided as the JSON document that says the same, and refused with their byte.

#[path = "../../wire/tests/support/counting_allocator_unsafe.rs"]
mod counting_allocator_unsafe;

use std::fs;
use std::path::Path;

use counting_allocator_unsafe::{Counting, allocations};
use distric_rules::{Catalog, CheckContext, Decision, Envelope, PayloadError, PayloadFormat, RuleSet, check};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PACKED: Envelope<'static> = Envelope {
    namespace: "default",
    event_type: None,
    source: None,
    timestamp_us: None,
    headers: &[],
    content_type: Some("application/msgpack"),
};
const PLAIN: Envelope<'static> = Envelope { content_type: None, ..PACKED };

fn packed(document: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(document).unwrap()
}

#[test]
fn the_fixtures_are_decided_alike_and_deciding_again_allocates_nothing() {
    for mix in ["simple", "regex", "mixed", "nested"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{mix}-42"));
        let rules = check("rules.json", &fs::read_to_string(folder.join("rules.json")).unwrap(), &CheckContext::default()).catalog.unwrap();
        let catalog = Catalog::compile(1, &rules).unwrap();
        let messages = fs::read_to_string(folder.join("messages.jsonl")).unwrap();
        let mut matches_count = 0;
        for message in messages.lines() {
            let document: Value = serde_json::from_str(message).unwrap();
            let decision = catalog.decide(&PLAIN, message.as_bytes()).unwrap();
            assert_eq!(catalog.decide(&PACKED, &packed(&document)).unwrap(), decision, "{message}");
            matches_count += decision.rules.len();
        }
        assert!(matches_count > 0, "{mix}");
        let payloads: Vec<Vec<u8>> = messages.lines().map(|message| packed(&serde_json::from_str(message).unwrap())).collect();
        // An event type that no rule names would be copied into the decision.
        let envelope = Envelope { event_type: Some("payment.created"), ..PACKED };
        let mut decision = Decision::default();
        let mut decide_all = || payloads.iter().for_each(|payload| catalog.decide_into(&envelope, payload, &mut decision).unwrap());
        decide_all();
        assert_eq!(allocations(decide_all).0, 0, "{mix}");
    }
}

fn catalog() -> Catalog {
    let rules = json!({ "rules": [
        { "id": "one", "conditions": [{ "field": "a", "op": "equals", "value": 1 }] },
        { "id": "deep", "conditions": [{ "field": "a.b", "op": "greater_than", "value": 0 }] },
        { "id": "text", "conditions": [{ "field": "é", "op": "contains", "value": "x" }],
          "transform": [{ "copy": "é", "to": "copied" }], "actions": [{ "workflow": "w", "params": { "who": "${copied}" } }] },
        { "id": "long", "conditions": [{ "field": "a", "op": "length", "value": { "greater_than": 2 } }] },
    ] });
    Catalog::compile(1, &RuleSet::from_json(&rules).unwrap()).unwrap()
}

#[test]
fn templates_and_transforms_read_what_was_packed() {
    let (catalog, document) = (catalog(), json!({ "é": "axb", "a": [1, { "b": 0.5 }, null] }));
    let decision = catalog.decide(&PACKED, &packed(&document)).unwrap();
    assert_eq!(decision, catalog.decide(&PLAIN, document.to_string().as_bytes()).unwrap());
    assert_eq!(decision.rules.iter().map(|id| &**id).collect::<Vec<_>>(), ["deep", "long", "one", "text"]);
    assert_eq!((&decision.actions[0].params["who"], &decision.derived.unwrap()["copied"]), (&json!("axb"), &json!("axb")));
}

#[test]
fn of_two_members_with_one_name_the_last_counts() {
    let catalog = catalog();
    for (payload, expected) in [(&b"\x82\xa1a\x01\xa1a\x02"[..], &[][..]), (b"\x82\xa1a\x02\xa1a\x01", &["one"])] {
        let found = catalog.decide(&PACKED, payload).unwrap().rules;
        assert_eq!(found.iter().map(|id| &**id).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_payload_that_is_no_map_has_no_fields() {
    for payload in [&b"\xc0"[..], b"\x91\x81\xa1a\x01", b"\xa1a", b"\x01"] {
        assert_eq!(catalog().decide(&PACKED, payload).unwrap().rules.len(), 0, "{payload:x?}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_byte_also_where_no_rule_looks() {
    for (payload, offset) in [
        (&b""[..], 0),
        (b"\x81\xa1a", 3),
        (b"\x81\xa1z\xc4\x01\x00", 3),
        (b"\x81\xa1z\x91\xc1", 4),
        (b"\x81\x01\x01", 1),
        (b"\x81\xa1z\xa2a\xff", 5),
        (b"\x80\x80", 1),
        (b"\xdf\xff\xff\xff\xff", 0),
    ] {
        match catalog().decide(&PACKED, payload) {
            Err(PayloadError::NotMessagePack { offset: found, .. }) => assert_eq!(found, offset, "{payload:x?}"),
            other => panic!("{payload:x?}: {other:?}"),
        }
    }
    let deep = [&b"\x81\xa1z"[..], &[0x91; 40], b"\xc0"].concat();
    assert_eq!(catalog().decide(&PACKED, &deep), Err(PayloadError::TooDeep { limit: 32 }));
}

#[test]
fn content_types_name_the_form() {
    let of = |text| PayloadFormat::of(Some(text));
    assert_eq!(PayloadFormat::of(None), Some(PayloadFormat::Json));
    for text in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
        assert_eq!(of(text), Some(PayloadFormat::Json), "{text}");
    }
    for text in ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack ; v=5", "application/vnd.shop.order+MsgPack"] {
        assert_eq!(of(text), Some(PayloadFormat::MessagePack), "{text}");
    }
    for text in ["", "text/plain", "+json", "json", "application/jsonl", "é+xml"] {
        assert_eq!(of(text), None, "{text}");
    }
}
