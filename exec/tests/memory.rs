//! What an open instance costs in memory, beside what it carries.

#[path = "../../wire/tests/support/counting_allocator_unsafe.rs"]
mod counting_allocator_unsafe;
mod support;

use std::sync::Arc;

use counting_allocator_unsafe::{Counting, live_bytes};
use distric_exec::command::{Command, Start};
use distric_exec::{Context, Octets};
use distric_model::Slot;
use serde_json::json;
use support::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INSTANCES: u64 = 20_000;
/// The bar, without what the allocator adds.
const BYTES_MAX: i64 = 1_024;
/// Name, key (the instance's id) and both once more as the task's configuration.
const SIGNAL_TEXT_BYTES: i64 = 24 + 56 + 80;

fn start(number: u64, now_us: u64, input: &Octets) -> Command {
    let slot = Slot::of("default", &number.to_be_bytes());
    Command::Start(Box::new(Start {
        namespace: namespace(),
        slot,
        workflow: Arc::from("w"),
        version: 1,
        input: input.clone(),
        idempotency_key: None,
        payload_hash: number,
        timeout_ms: None,
        retry: None,
        delay_ms: 0,
        traceparent: None,
        received_us: now_us,
        pins: Vec::new(),
    }))
}

/// Bytes that one more open instance of a workflow of this one task takes in the machine, payload of two bytes included.
fn bytes_an_instance(task: serde_json::Value) -> i64 {
    let mut world = World::new();
    world.workflow(json!([task]));
    let first = world.log.len() as u64 + 1;
    let mut effects = Vec::with_capacity(64);
    let before = live_bytes();
    for number in 0..INSTANCES {
        let command = Command::decode(&start(number, world.now.as_us(), &Octets::from("{}")).encode()).unwrap();
        let at = Context { index: first + number, stamp: world.now.plus_ms(number / 16), draw: world.draw };
        world.machine.apply(at, command, &mut effects);
        effects.clear();
    }
    let bytes = (live_bytes() - before) / INSTANCES as i64;
    assert_eq!(world.machine.stats().instances_open, INSTANCES);
    bytes
}

#[test]
fn an_open_instance_takes_at_most_a_kilobyte_beside_its_payload() {
    // What the allocator is asked for, with what the task says of itself: the names of a signal as they were put in.
    let waits = [
        ("a task that no worker offers", 0, json!({ "id": "t", "type": "job" })),
        ("a wait for an hour", 0, json!({ "id": "t", "type": "wait", "config": { "duration": "1h" } })),
        ("a wait for a signal", SIGNAL_TEXT_BYTES, json!({ "id": "t", "type": "wait_for_signal", "config": { "name": "go" } })),
    ];
    for (what, text_bytes, task) in waits {
        let bytes = bytes_an_instance(task) - text_bytes;
        println!("{what}: {bytes} bytes");
        assert!(bytes <= BYTES_MAX, "{what}: {bytes} bytes");
    }
}
