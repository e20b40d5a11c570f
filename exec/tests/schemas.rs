//! Schemas of inputs and parameters: what fits runs, what does not is refused or an incident that says where.

mod support;

use distric_exec::command::{Command, Operate, Operation, Start};
use distric_exec::definition::{KnownTypes, SCHEMA_NODES_MAX, SCHEMA_WORK_MAX, check_workflows};
use distric_exec::machine::Settings;
use distric_exec::{Octets, Reply};
use distric_model::{InstanceId, Slot};
use serde_json::{Value, json};
use support::*;

/// A world with one workflow whose input is an amount, and whose rule may say how fast.
fn world() -> World {
    let mut world = World::new();
    let defined = world.define(json!({
        "id": "w",
        "input_schema": {
            "type": "object",
            "required": ["amount"],
            "properties": { "amount": { "$ref": "#/$defs/amount" }, "code": { "type": "string", "pattern": "^[A-Z]{3}$" } },
            "$defs": { "amount": { "type": "number", "minimum": 0 } }
        },
        "params_schema": { "properties": { "speed": { "enum": ["slow", "fast"] } } },
        "tasks": [job("a", &[])]
    }));
    assert_eq!(defined, Reply::Done);
    world.worker_up(1, 4);
    world
}

fn start(world: &mut World, input: Value, key: &str) -> Reply {
    let start = Start {
        namespace: namespace(),
        slot: Slot::truncate(1),
        workflow: "w".into(),
        version: 1,
        input: Octets::from(&input),
        timeout_ms: None,
        retry: None,
        delay_ms: 0,
        idempotency_key: Some(key.into()),
        payload_hash: 1,
        received_us: 0,
        traceparent: None,
        pins: Vec::new(),
    };
    world.apply(Command::Start(Box::new(start))).expect("a start is answered")
}

/// An instance that a message starts.
fn ingest(world: &mut World, payload: Value, params: Value) -> InstanceId {
    let mut message = world.message(payload);
    message.actions[0].params = Octets::from(&params);
    match world.ingest(message) {
        Reply::Accepted { instances, .. } => instances[0].1,
        other => panic!("not accepted: {other:?}"),
    }
}

#[test]
fn a_start_with_the_wrong_input_is_refused_with_its_place_and_leaves_nothing() {
    let mut world = world();
    let refused = |reply: Reply| match reply {
        Reply::Refused(refusal) => refusal.reason,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(refused(start(&mut world, json!({"amount": "ten"}), "k")), r#"input/amount: "ten" is not of type "number""#);
    assert_eq!(refused(start(&mut world, json!({}), "k")), r#"input: "amount" is a required property"#);
    assert_eq!(refused(start(&mut world, json!({"amount": 1, "code": "eur"}), "k")), r#"input/code: "eur" does not match "^[A-Z]{3}$""#);
    // Of several the first by place.
    let both = refused(start(&mut world, json!({"code": 1, "amount": -1}), "k"));
    assert_eq!(both, "input/amount: -1 is less than the minimum of 0");
    assert_eq!(world.machine.stats().instances_started_count, 0);
    assert!(matches!(start(&mut world, json!({"amount": 1}), "k"), Reply::Started { repeat: false, .. }), "its key was not used up");
    assert_eq!(world.assigned(), ["a"]);
    world.assert_replays(Settings::default());
}

#[test]
fn a_message_with_the_wrong_input_is_kept_and_its_instance_is_an_incident_that_a_better_input_mends() {
    let mut world = world();
    let wrong = ingest(&mut world, json!({"amount": -1}), json!({}));
    let view = world.instance(wrong);
    let error = view.summary.error.as_ref().expect("it failed");
    assert_eq!(
        (world.status(wrong), &*error.code, &*error.message),
        ("failed", "bad_input", "input/amount: -1 is less than the minimum of 0")
    );
    let incident: Value = serde_json::to_value(world.machine.incident(wrong).unwrap()).unwrap();
    assert_eq!((&incident["task"], &incident["input"]), (&json!(null), &json!({"amount": -1})));
    let retry = |world: &mut World, input: Value| {
        let operation = Operation::Retry { from: None, input: Some(Octets::from(&input)), version: None, pins: Vec::new() };
        let operate = Operate { namespace: namespace(), instance: wrong, operation, reason: "mended".into() };
        world.apply(Command::Operate(Box::new(operate)))
    };
    retry(&mut world, json!({"amount": null}));
    assert_eq!(world.status(wrong), "failed", "still wrong");
    assert_eq!(retry(&mut world, json!({"amount": 2})), Some(Reply::Done));
    world.complete("a", json!(1));
    assert_eq!(world.status(wrong), "completed");
    world.assert_replays(Settings::default());
}

#[test]
fn parameters_have_a_schema_of_their_own() {
    let mut world = world();
    let fast = ingest(&mut world, json!({"amount": 1}), json!({"speed": "fast"}));
    let warp = ingest(&mut world, json!({"amount": 1}), json!({"speed": "warp"}));
    assert_eq!((world.status(fast), world.status(warp)), ("running", "failed"));
    let error = world.instance(warp).summary.error.clone().expect("it failed");
    assert_eq!(&*error.message, r#"params/speed: "warp" is not one of "slow" or "fast""#);
}

#[test]
fn an_input_too_large_for_its_schema_is_refused_before_it_is_judged() {
    let mut world = World::new();
    let parts: Vec<Value> = (0..1_000).map(|n| json!({ "type": ["array", "null"], "minItems": n % 2 })).collect();
    world.define(json!({"id": "w", "input_schema": { "allOf": parts }, "tasks": [job("a", &[])]}));
    let bytes = SCHEMA_WORK_MAX / 1_001 + 1;
    let Reply::Refused(refusal) = start(&mut world, json!([" ".repeat(bytes)]), "k") else { panic!("it is refused") };
    assert!(refusal.reason.starts_with("input: ") && refusal.reason.ends_with("(SCHEMA_WORK_MAX)"), "{}", refusal.reason);
    assert!(matches!(start(&mut world, json!([" ".repeat(bytes / 2)]), "k"), Reply::Started { .. }));
}

#[test]
fn schemas_without_a_bound_or_with_a_mistake_are_found_where_they_stand() {
    let problem = |schema: &str| {
        let text =
            format!("workflow:\n  id: w\n  tasks: [{{ id: a, type: log, config: {{ message: m }} }}]\n  input_schema:\n    {schema}\n");
        let checked = check_workflows("f.yaml", &text, &KnownTypes::builtin());
        assert!(checked.definitions.is_empty(), "{schema}");
        checked.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        problem("{ properties: { amount: { type: numbr } } }"),
        "f.yaml:5:37: workflow.input_schema.properties.amount.type: \"numbr\" is not valid under any of the schemas listed in the 'anyOf' keyword"
    );
    assert_eq!(
        problem("{ properties: { child: { $ref: '#' } } }"),
        "f.yaml:5:36: workflow.input_schema.properties.child.$ref: `#` leads back to itself: a schema that holds itself has no bound"
    );
    assert_eq!(
        problem("{ allOf: [{ $ref: '#/$defs/a' }], $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }] } } }"),
        "f.yaml:5:23: workflow.input_schema.allOf[0].$ref: `#/$defs/a` leads back to itself: a schema that holds itself has no bound"
    );
    assert!(problem("{ $ref: 'https://example.com/amount.json' }").contains("expected a place of this schema"));
    assert!(problem("{ $ref: '#/$defs/nothing' }").contains("there is no `/$defs/nothing` in this schema"));
    assert!(problem("{ properties: {}, unevaluatedProperties: false }").contains("`unevaluatedProperties` is not supported"));
    assert!(problem("{ properties: { a: { $id: x } } }").contains("`$id` is supported at the top only"));
    assert!(problem("{ type: string, pattern: '(?=a)b' }").contains("input_schema"));
    assert!(problem("[]").contains("a schema is a map, true or false"));
}

#[test]
fn references_that_double_at_every_step_are_more_than_the_bound_and_cost_nothing() {
    let mut definitions = serde_json::Map::new();
    for n in 0..64 {
        let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
        definitions.insert(format!("d{n}"), json!({ "allOf": [next, next] }));
    }
    definitions.insert("d64".to_owned(), json!({ "type": "object" }));
    let workflow = json!({"workflow": {
        "id": "w", "input_schema": { "$ref": "#/$defs/d0", "$defs": definitions }, "tasks": [{"id": "a", "type": "log", "config": {"message": "m"}}]
    }});
    let checked = check_workflows("f.json", &workflow.to_string(), &KnownTypes::builtin());
    assert!(checked.problems[0].to_string().contains(&format!("SCHEMA_NODES_MAX, {SCHEMA_NODES_MAX}")), "{:?}", checked.problems);
}
