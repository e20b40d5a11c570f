//! Every workflow under `examples/workflows` is accepted as it stands, and does what its first comment says.

mod support;

use std::path::Path;

use distric_exec::command::{Command, Signal};
use distric_exec::definition::{KnownTypes, check_workflows};
use distric_exec::{Octets, Reply, Verdict};
use distric_model::InstanceId;
use serde_json::{Value, json};
use support::*;

const TYPES: [&str; 4] = ["transform", "log", "http", "webhook"];

/// A world with the workflows of an example, a worker for all built-in types, and an instance of the workflow.
fn begin(file: &str, workflow: &str, input: Value) -> (World, InstanceId) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/workflows").join(file);
    let text = std::fs::read_to_string(&path).expect("the example is there");
    let checked = check_workflows(file, &text, &KnownTypes::any());
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    let mut world = World::new();
    for definition in &checked.definitions {
        assert_eq!(world.define(definition.to_json()), Reply::Done);
    }
    world.worker_with(1, 16, &TYPES, &[]);
    let mut message = world.message(input);
    message.actions = vec![action(workflow)];
    match world.ingest(message) {
        Reply::Accepted { instances, .. } => (world, instances[0].1),
        other => panic!("not accepted: {other:?}"),
    }
}

#[test]
fn signals() {
    let order = json!({ "order": "o-17" });
    let (mut world, paid) = begin("signals.yaml", "order", order.clone());
    let mut message = world.message(order);
    message.actions = vec![action("order")];
    let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
    let unpaid = instances[0].1;
    carry(&mut [&mut world], |_| 0);
    let payment = Signal {
        namespace: namespace(),
        name: "payment".into(),
        key: Some("o-17".into()),
        instance: None,
        payload: Octets::from(&json!({ "amount": 12.5 })),
        ttl_ms: None,
        idempotency_key: None,
        payload_hash: 0,
    };
    assert_eq!(world.apply(Command::Signal(Box::new(payment))), Some(Reply::Signalled { delivered: true, repeat: false }));
    assert_eq!(json_of(&world.take("pack").config)["message"], json!("o-17 is paid: 12.5"));
    world.advance_ms(3_600_000);
    assert_eq!((world.task(paid, "remind").status, world.task(unpaid, "remind").status), ("skipped", "assigned"));
}

#[test]
fn compensation() {
    let (mut world, id) = begin("compensation.yaml", "trip", json!({ "traveller": "ada", "hotel": "h-7" }));
    world.complete("flight", json!({ "status": 201, "body": { "id": "f-1" } }));
    world.complete("hotel", json!({ "status": 201, "body": { "id": "b-2" } }));
    world.fail("car");
    let hotel = world.take("hotel:compensate");
    assert_eq!(json_of(&hotel.config)["url"], json!("http://127.0.0.1:9700/hotels/b-2"));
    assert_eq!(world.report(&hotel, completed(json!({ "status": 204 }))), Verdict::Accepted);
    let flight = world.take("flight:compensate");
    assert_eq!(json_of(&flight.config)["url"], json!("http://127.0.0.1:9700/flights/f-1"));
    world.report(&flight, completed(json!({ "status": 204 })));
    assert_eq!(world.status(id), "failed");
    assert_eq!((world.task(id, "flight").status, world.task(id, "hotel").status), ("compensated", "compensated"));
}

#[test]
fn keys() {
    let (mut world, first) = begin("keys.yaml", "invoice", json!({ "customer": "c-1" }));
    let send = |world: &mut World, workflow: &str, input: Value| {
        let mut message = world.message(input);
        message.actions = vec![action(workflow)];
        let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
        carry(&mut [world], |_| 0);
        instances[0].1
    };
    carry(&mut [&mut world], |_| 0);
    let second = send(&mut world, "invoice", json!({ "customer": "c-1" }));
    assert_eq!((world.status(first), world.status(second)), ("running", "queued"));
    world.complete("print", json!(null));
    carry(&mut [&mut world], |_| 0);
    assert_eq!((world.status(first), world.status(second)), ("completed", "running"));

    let changes: Vec<InstanceId> = (0..3).map(|_| send(&mut world, "search-index", json!({ "document": "d" }))).collect();
    world.advance_ms(5_000);
    carry(&mut [&mut world], |_| 0);
    assert_eq!(changes.iter().map(|id| world.status(*id)).collect::<Vec<_>>(), ["skipped", "skipped", "running"]);

    let events: Vec<InstanceId> = (0..5).map(|n| send(&mut world, "audit-upload", json!({ "n": n }))).collect();
    world.advance_ms(10_000);
    carry(&mut [&mut world], |_| 0);
    assert_eq!((world.status(events[0]), world.status(events[4])), ("running", "skipped"));
    assert_eq!(json_of(&world.take("upload").config)["message"], json!("upload 5 events"));
}

#[test]
fn schedule() {
    use distric_exec::command::Schedule;
    let (mut world, _) = begin("schedule.yaml", "daily-report", json!({ "report": "by hand", "scheduled_at": "now" }));
    world.complete("write", json!(null));
    let schedule = Schedule { namespace: namespace(), workflow: "daily-report".into(), version: Some(1), pins: Vec::new() };
    world.apply(Command::Schedule(schedule));
    // It is Tuesday, 22:13:20 UTC; six in the morning an hour east of it is five in UTC.
    world.advance_ms((6 * 3_600 + 46 * 60 + 40) * 1_000);
    assert_eq!(json_of(&world.take("write").config)["message"], json!("sales for 2023-11-15T05:00:00Z"));
}

#[test]
fn for_each() {
    let lines = json!([{ "sku": "a", "n": 1 }, { "sku": "b", "n": 2 }]);
    let (mut world, id) = begin("for_each.yaml", "order_lines", json!({ "lines": lines, "card": "c-1" }));
    for (sku, reservation) in [("a", "r-1"), ("b", "r-2")] {
        let stock = world.take("stock");
        assert_eq!(json_of(&stock.config)["url"], json!(format!("http://127.0.0.1:9700/stock/{sku}")));
        world.report(&stock, completed(json!({ "status": 201, "body": { "id": reservation } })));
    }
    let pay = world.take("pay");
    assert_eq!(json_of(&pay.config)["body"], json!({ "card": "c-1", "reservations": ["r-1", "r-2"] }));
    world.report(&pay, failed());
    for reservation in ["r-2", "r-1"] {
        let undo = world.take("stock:compensate");
        assert_eq!(json_of(&undo.config)["url"], json!(format!("http://127.0.0.1:9700/reservations/{reservation}")));
        world.report(&undo, completed(json!({ "status": 204 })));
    }
    assert_eq!((world.status(id), world.task(id, "reserve").status), ("failed", "compensated"));
}

#[test]
fn while_loop() {
    let (mut world, id) = begin("while.yaml", "all_pages", json!({ "list": "orders" }));
    for (page, next) in [("1", json!("2")), ("2", json!(null))] {
        let fetch = world.take("page");
        assert_eq!(json_of(&fetch.config)["url"], json!(format!("http://127.0.0.1:9700/orders?page={page}")));
        world.report(&fetch, completed(json!({ "status": 200, "body": { "items": [1, 2, 3], "next": next } })));
    }
    assert_eq!(json_of(&world.take("tell").config)["message"], json!("6 in all"));
    assert_eq!(world.output(id, "pages"), json!({ "next": null, "count": 6 }));
}

#[test]
fn sub_workflow() {
    let (mut world, _) = begin("sub_workflow.yaml", "identity_check", json!({ "name": "alone" }));
    world.take("score");
    let mut start = |user: &str| {
        let mut message = world.message(json!({ "user": user }));
        message.actions = vec![action("onboarding")];
        message.actions[0].pins = vec![("identity_check".into(), 1), ("onboarding_failed".into(), 1)];
        match world.ingest(message) {
            Reply::Accepted { instances, .. } => instances[0].1,
            other => panic!("not accepted: {other:?}"),
        }
    };
    let (good, bad) = (start("ada"), start("bob"));
    world.complete("score", json!({ "status": 200, "body": { "score": 80 } }));
    assert_eq!(json_of(&world.take("welcome").config)["message"], json!("welcome ada, score 80"));
    world.fail("score");
    let tell = world.take("tell");
    assert_eq!(world.status(bad), "failed");
    let message = format!("onboarding {bad}: task `check`: workflow `identity_check`: task `score`: it broke");
    assert_eq!(json_of(&tell.config)["message"], json!(message));
    assert_eq!(world.status(good), "running");
}

#[test]
fn aggregate() {
    let orders = json!([{ "region": "eu", "cents": 250 }, { "region": "us", "cents": 900 }, { "region": "eu", "cents": 150 }]);
    let (mut world, id) = begin("aggregate.yaml", "region_report", json!({ "orders": orders }));
    let regions = json!([
        { "group": "eu", "orders": 2, "total": 400, "largest": 250 },
        { "group": "us", "orders": 1, "total": 900, "largest": 900 },
    ]);
    assert_eq!(world.output(id, "regions"), regions);
    assert_eq!(json_of(&world.take("tell").config)["message"], json!("the best region ordered for 900 of 1300"));
    let (world, id) = begin("aggregate.yaml", "region_report", json!({ "orders": [{ "region": "eu", "cents": "250" }] }));
    let failure = world.task(id, "regions").error.expect("it failed");
    assert_eq!((&*failure.code, &*failure.message), ("bad_items", "items[0]: `cents` is not a number"));
}

#[test]
fn input_schema() {
    let transfer = |amount: Value| json!({ "from": "DE1234", "to": "FR5678", "amount": amount });
    let (mut world, good) = begin("input_schema.yaml", "transfer", transfer(json!(12.5)));
    world.complete("book", json!(null));
    assert_eq!(world.status(good), "completed");
    let (world, bad) = begin("input_schema.yaml", "transfer", transfer(json!("12.5")));
    let error = world.instance(bad).summary.error.expect("it failed");
    assert_eq!((&*error.code, &*error.message), ("bad_input", r#"input/amount: "12.5" is not of type "number""#));
}

#[test]
fn resources() {
    let (mut world, id) = begin("resources.yaml", "nightly_model", json!({ "day": "2030-01-31" }));
    let of = |number: u64, capacity: distric_model::Capacity| distric_exec::command::WorkerUp {
        capacity,
        ..session(number, 1, 4, &["build_features", "train_model", "log"], &[])
    };
    let small = distric_model::Capacity { cpu_millis: Some(2_000), memory_mib: Some(4 << 10) };
    let large = distric_model::Capacity { cpu_millis: Some(8_000), memory_mib: Some(16 << 10) };
    for (number, capacity) in [(21, small), (22, large)] {
        world.apply(distric_exec::Command::WorkerUp(Box::new(of(number, capacity))));
        world.credit(number, 1, 4);
    }
    if world.assigned() == ["features"] {
        world.complete("features", json!("f"));
    }
    let train = world.take("train");
    assert_eq!((train.worker, train.needs.cpu_millis, train.needs.memory_mib), (worker(22), 4_000, 12 << 10));
    world.report(&train, completed(json!("m")));
    world.complete("announce", json!(null));
    assert_eq!(world.status(id), "completed");
}
