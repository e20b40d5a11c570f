//! Any log, however strange, gives the same state on every replica, breaks no invariant and never panics.

mod support;

use std::sync::Arc;

use distric_exec::command::*;
use distric_exec::{Context, Effect, Machine, Settings};
use distric_model::GroupId;
use proptest::prelude::*;
use serde_json::json;
use support::story::{Story, step};
use support::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_story_is_told_alike_twice(steps in proptest::collection::vec(step(), 1..150)) {
        let mut story = Story::begin();
        for step in &steps {
            story.tell(step);
        }
        story.world.assert_replays(Settings::default());
        // In the end time passes, and everything ends but what is paused, what is undone (that waits for its workers as long as it takes), and
        // what waits for a key: its records are delivered at random only.
        for _ in 0..50 {
            story.world.advance_ms(10_000);
        }
        let all = story.world.machine.instances(&Default::default(), None, 1_000).items;
        let open: Vec<_> = all.into_iter().filter(|item| item.ended_at_us.is_none()).collect();
        let waited_for = |id| open.iter().any(|item| item.parent.as_ref().is_some_and(|parent| parent.instance == id));
        let may_wait = |status| matches!(status, "compensating" | "paused" | "queued");
        let stuck: Vec<_> = open.iter().filter(|item| !may_wait(item.status) && !waited_for(item.id)).collect();
        prop_assert!(stuck.is_empty(), "{:?}", stuck);
    }

    #[test]
    fn bytes_that_are_no_command_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::decode(&bytes);
    }

    #[test]
    fn damaged_entries_decode_to_something_harmless_or_not_at_all(place in 0_usize..400, value: u8) {
        let mut world = World::new();
        world.workflow(json!([job("a", &[])]));
        let mut message = world.message(json!({"a": 1}));
        message.idempotency_key = Some(Arc::from("k"));
        let mut bytes = Command::Ingest(Box::new(message)).encode();
        let place = place % bytes.len();
        bytes[place] = value;
        if let Ok(command) = Command::decode(&bytes) {
            let at = Context { index: 99, stamp: world.now, draw: 1 };
            let mut effects = Vec::new();
            world.machine.apply(at, command, &mut effects);
            prop_assert!(effects.iter().filter(|effect| matches!(effect, Effect::Reply(_))).count() <= 1);
        }
    }
}

#[test]
fn replicas_with_different_logs_differ_in_their_digest() {
    let empty = Machine::new(GroupId(1), Settings::default()).digest();
    let mut world = World::new();
    world.apply(Command::Noop);
    let one = world.machine.digest();
    world.workflow(json!([job("a", &[])]));
    let two = world.machine.digest();
    assert!(empty != one && one != two && empty != two);
}
