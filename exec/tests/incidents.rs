//! What failed, why, and how it is found again.

mod support;

use std::sync::Arc;

use distric_exec::Reply;
use distric_exec::command::{Command, Operate, Operation};
use distric_exec::machine::InstanceFilter;
use distric_model::{InstanceId, Timestamp};
use serde_json::{Value, json};
use support::*;

fn retry(world: &mut World, id: InstanceId) {
    let operation =
        Operation::Retry { from: None, input: Some(distric_exec::Octets::from(&json!({"n": 9}))), version: None, pins: Vec::new() };
    let operate = Operate { namespace: namespace(), instance: id, operation, reason: "fixed".into() };
    assert_eq!(world.apply(Command::Operate(Box::new(operate))), Some(Reply::Done));
}

fn open(world: &World, filter: &InstanceFilter) -> Vec<InstanceId> {
    world.machine.incidents(filter, None, 100).items.iter().map(|view| view.instance).collect()
}

#[test]
fn a_task_out_of_retries_is_an_incident_until_its_instance_is_retried() {
    let mut world = World::new();
    let policy = json!({"max_attempts": 2, "initial_backoff": "1s", "jitter": 0});
    world.workflow(json!([job("a", &[]), job_with("b", &["a"], json!({"retry": policy, "input": {"n": "${input.n}"}}))]));
    world.worker_up(1, 4);
    let id = world.start(json!({"n": 3}));
    world.complete("a", json!(1));
    world.fail("b");
    assert_eq!(open(&world, &InstanceFilter::default()), [], "another attempt follows");
    world.advance_ms(1_000);
    world.fail("b");
    assert_eq!(open(&world, &InstanceFilter::default()), [id]);
    let incident = serde_json::to_value(world.machine.incident(id).unwrap()).unwrap();
    let text = |member: &str| incident[member].as_str().unwrap_or_default().to_owned();
    assert_eq!((text("task"), text("workflow"), text("type")), ("b".into(), "w".into(), "job".into()));
    assert_eq!((&incident["input"], &incident["error"]["code"]), (&json!({"n": 3}), &json!("boom")));
    let attempts: Vec<(u64, &str, &str)> = incident["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (attempt["attempt"].as_u64().unwrap(), attempt["outcome"].as_str().unwrap(), attempt["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(attempts, [(1, "backing_off", "boom: it broke"), (2, "failed", "boom: it broke")]);
    assert_eq!(world.machine.stats().incidents_open, 1);

    retry(&mut world, id);
    assert!(open(&world, &InstanceFilter::default()).is_empty() && world.machine.incident(id).is_none());
    let again = world.take("b");
    assert_eq!(json_of(&again.input), json!({"n": 9}));
    world.report(&again, completed(json!(1)));
    assert_eq!((world.status(id), world.machine.stats().incidents_open), ("completed", 0));
}

#[test]
fn incidents_and_instances_are_found_by_what_they_have() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.define(json!({"id": "v", "concurrency": {"key": "${input.t}", "limit": 9}, "tasks": [job("c", &[])]}));
    world.worker_up(1, 16);
    let plain = world.start(json!({"n": 1}));
    world.fail("a");
    world.advance_ms(10_000);
    let later = world.now;
    let mut message = world.message(json!({"t": "t-7"}));
    message.actions = vec![action("v"), action("w")];
    message.actions[0].rule = Arc::from("r2");
    let message_id = message.message_id;
    let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
    let (keyed, beside) = (instances[0].1, instances[1].1);
    carry(&mut [&mut world], |_| 0);
    world.fail("c");
    carry(&mut [&mut world], |_| 0);
    let by = |change: &dyn Fn(&mut InstanceFilter)| {
        let mut filter = InstanceFilter::default();
        change(&mut filter);
        filter
    };
    assert_eq!(open(&world, &by(&|filter| filter.task = Some("c".into()))), [keyed]);
    assert_eq!(open(&world, &by(&|filter| filter.until = Some(later))), [plain]);
    assert_eq!(open(&world, &by(&|filter| filter.code = Some("other".into()))), []);
    let instances = |filter: &InstanceFilter| -> Vec<InstanceId> {
        let mut ids: Vec<InstanceId> = world.machine.instances(filter, None, 100).items.iter().map(|view| view.id).collect();
        ids.sort_unstable();
        ids
    };
    let mut of_message = vec![keyed, beside];
    of_message.sort_unstable();
    assert_eq!(instances(&by(&|filter| filter.message = Some(message_id))), of_message);
    assert_eq!(instances(&by(&|filter| filter.key = Some("t-7".into()))), [keyed]);
    assert_eq!(instances(&by(&|filter| filter.rule = Some("r2".into()))), [keyed]);
    assert_eq!(instances(&by(&|filter| filter.from = Some(later))), of_message);
    assert_eq!(instances(&by(&|filter| filter.from = Some(Timestamp::from_us(later.as_us() + 10_000)))), []);
    // Pages of one, by cursor, are the whole.
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let page = world.machine.instances(&by(&|filter| filter.message = Some(message_id)), cursor, 1);
        found.extend(page.items.iter().map(|view| view.id));
        match page.next_cursor {
            Some(next) => cursor = InstanceId::from_uuid(next.parse().unwrap()).ok(),
            None => break,
        }
    }
    assert_eq!(found, of_message);
}

#[test]
fn an_instance_that_failed_before_it_began_is_an_incident_with_its_own_input() {
    let mut world = World::new();
    world.define(json!({"id": "w", "rate_limit": {"key": "${input.t}", "limit": 1, "per": "1s"}, "tasks": [job("a", &[])]}));
    let id = world.start(json!({"u": 1}));
    let incident: Value = serde_json::to_value(world.machine.incident(id).unwrap()).unwrap();
    assert_eq!(
        (&incident["task"], &incident["input"], &incident["error"]["code"]),
        (&json!(null), &json!({"u": 1}), &json!("expression_error"))
    );
}
