//! A machine restored from its checkpoints is the machine itself: the same digest, and the same effects for all that follows.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_exec::command::*;
use distric_exec::{CHECKPOINT_FORMAT, Machine, Octets, RestoreError, Settings};
use distric_model::{Change, GroupId};
use proptest::prelude::*;
use serde_json::json;
use support::story::{Story, step};
use support::*;

/// What keeps the records, as a store does.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn keep(records: &mut Records, changes: Vec<Change>) {
    for Change { key, value } in changes {
        match value {
            Some(value) => records.insert(key, value),
            None => records.remove(&key),
        };
    }
}

fn checkpoint(machine: &mut Machine, records: &mut Records) -> usize {
    let mut changes = Vec::new();
    machine.take_changes(&mut changes);
    let count = changes.len();
    keep(records, changes);
    count
}

fn restore(records: &Records) -> Machine {
    Machine::restore(records).expect("records that the machine told can be restored")
}

/// Restores from `records` and tells the rest of the log: state and effects must be those of the world.
fn assert_goes_on_alike(world: &World, mut records: Records, entries_before: usize, effects_before: usize) {
    let mut restored = restore(&records);
    let mut effects = Vec::new();
    let rest = &world.log[entries_before..];
    for (place, (at, bytes)) in rest.iter().enumerate() {
        restored.apply(*at, Command::decode(bytes).unwrap(), &mut effects);
        if place == rest.len() / 2 {
            // Its own increments are as good as those of the machine that wrote the base.
            checkpoint(&mut restored, &mut records);
        }
    }
    assert_eq!(effects, world.effects[effects_before..], "restored after entry {entries_before}");
    assert_eq!(restored.digest(), world.machine.digest(), "restored after entry {entries_before}");
    checkpoint(&mut restored, &mut records);
    assert_eq!(restore(&records).digest(), world.machine.digest());
    let mut whole = Records::new();
    checkpoint(&mut restore_as_new(world), &mut whole);
    assert_eq!(records, whole, "a base and increments leave the same records as one whole checkpoint");
}

/// A replica that has applied the whole log and was never asked for a checkpoint.
fn restore_as_new(world: &World) -> Machine {
    let mut machine = Machine::new(world.machine.group(), Settings::default());
    let mut effects = Vec::new();
    world.log.iter().for_each(|(at, bytes)| machine.apply(*at, Command::decode(bytes).unwrap(), &mut effects));
    machine
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_story_goes_on_alike_from_any_checkpoint(
        steps in proptest::collection::vec((step(), 0_u8..12), 1..150),
        large: bool,
    ) {
        let mut story = Story::begin();
        story.payload_padding = if large { 400 } else { 0 };
        let mut records = Records::new();
        let mut taken = Vec::new();
        for (step, dice) in &steps {
            story.tell(step);
            if *dice == 0 {
                checkpoint(&mut story.world.machine, &mut records);
                prop_assert_eq!(restore(&records).digest(), story.world.machine.digest());
                taken.push((records.clone(), story.world.log.len(), story.world.effects.len()));
            }
        }
        for (records, entries, effects) in taken {
            assert_goes_on_alike(&story.world, records, entries, effects);
        }
    }

    #[test]
    fn damaged_records_are_an_error_or_harmless(place in 0_usize..10_000, value: u8) {
        let mut world = one_of_each();
        let mut records = Records::new();
        checkpoint(&mut world.machine, &mut records);
        let bytes_count: usize = records.values().map(Vec::len).sum();
        let mut place = place % bytes_count;
        for record in records.values_mut() {
            if place < record.len() {
                record[place] = value;
                break;
            }
            place -= record.len();
        }
        if let Ok(mut machine) = Machine::restore(&records) {
            let at = distric_exec::Context { index: u64::MAX - 1, stamp: world.now, draw: 1 };
            machine.apply(at, Command::Tick, &mut Vec::new());
        }
    }
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    for n in 0..500 {
        world.start(json!({"n": n}));
    }
    let mut records = Records::new();
    let whole = checkpoint(&mut world.machine, &mut records);
    assert!(whole > 1_000, "500 messages and as many instances are {whole} records");
    world.complete("a", json!("x".repeat(1_000)));
    let step = checkpoint(&mut world.machine, &mut records);
    // Header, class, two instances, their worker, one lease fewer and one more, one finished, the large output.
    assert_eq!(step, 9, "one task that completes and one that is dispatched are {step} records");
    assert_eq!(checkpoint(&mut world.machine, &mut records), 1, "without a change, the header");
    assert_eq!(restore(&records).digest(), world.machine.digest());
}

#[test]
fn large_texts_are_written_once_and_go_with_their_instance() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[]), job("b", &["a"])]));
    world.worker_up(1, 1);
    let mut records = Records::new();
    world.start(json!({"n": 1}));
    world.complete("a", json!("x".repeat(1_000)));
    checkpoint(&mut world.machine, &mut records);
    let mut changes = Vec::new();
    world.complete("b", json!(1));
    world.machine.take_changes(&mut changes);
    let written: usize = changes.iter().filter_map(|change| Some(change.value.as_ref()?.len())).sum();
    assert!(written < 1_500, "{written} bytes were written for a small output");
    keep(&mut records, changes);
    assert!(records.values().any(|value| value.len() >= 1_000));
    world.apply(Command::Configure(Settings { history_instances_max: 0, ..Settings::default() }));
    checkpoint(&mut world.machine, &mut records);
    assert!(records.values().all(|value| value.len() < 1_000), "nothing large is left");
    assert_eq!(restore(&records).digest(), world.machine.digest());
}

#[test]
fn work_that_one_entry_left_for_the_next_is_restored() {
    let mut world = World::new();
    let tasks: Vec<_> = (0..600).map(|n| job(&format!("t{n}"), &[])).collect();
    world.workflow(json!(tasks));
    world.worker_up(1, 4);
    let mut message = world.message(json!(1));
    message.actions = vec![action("w"), action("w"), action("w")];
    world.apply_once(Command::Ingest(Box::new(message)));
    assert!(world.machine.wants_continue());
    let mut records = Records::new();
    checkpoint(&mut world.machine, &mut records);
    let (entries, effects) = (world.log.len(), world.effects.len());
    world.apply(Command::Continue);
    assert_goes_on_alike(&world, records, entries, effects);
}

/// A small machine that has at least one record of every kind.
fn one_of_each() -> World {
    let mut world = World::new();
    let long = "${input.text}";
    world.workflow(json!([
        job_with("a", &[], json!({"config": {"long": long}, "retry": 2})),
        {"id": "p", "type": "publish", "config": {"event_type": "e", "payload": {"x": 1}}},
        job("b", &["a"]),
    ]));
    world.worker_with(1, 2, &["job"], &[("zone", "eu")]);
    let mut message = world.message(json!({"text": "t".repeat(300)}));
    message.idempotency_key = Some(Arc::from("k"));
    message.derived = Some(Octets::from(&json!({"text": "d".repeat(300)})));
    world.ingest(message);
    world.complete("a", json!({"ok": true}));
    world.start(json!({"text": "short"}));
    world.fail("a");
    let cancelled = world.start(json!({"text": "cancelled"}));
    world.cancel(cancelled);
    let mut unmatched = world.message(json!(3));
    unmatched.actions.clear();
    world.ingest(unmatched);
    let mut ahead = world.message(json!(4));
    ahead.actions.clear();
    for seq in [1, 3] {
        world.apply(Command::In(Box::new(In { from: GroupId(2), seq, body: ahead.clone(), floor: 0 })));
    }
    world
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap()).collect()
}

/// One line per record: key and value. Written once by format 1; what it says is restored for ever.
const GOLDEN: &str = include_str!("fixtures/checkpoint_v1.txt");

#[test]
fn a_checkpoint_of_format_1_is_restored_and_still_written_alike() {
    let mut world = one_of_each();
    let mut records = Records::new();
    checkpoint(&mut world.machine, &mut records);
    let written: String = records.iter().map(|(key, value)| format!("{} {}\n", hex(key), hex(value))).collect();
    let golden: Records =
        GOLDEN.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (from_hex(key), from_hex(value))).collect();
    assert_eq!(GOLDEN, written, "the fixture should be:\n{written}");
    let restored = restore(&golden);
    assert_eq!(restored.digest(), world.machine.digest());
    // Errands are rare between entries; every other kind of record is in the fixture.
    let tags: std::collections::BTreeSet<u8> = golden.keys().map(|key| key[0]).collect();
    assert_eq!(tags.into_iter().collect::<Vec<_>>(), (1..=13).collect::<Vec<u8>>());
}

#[test]
fn what_is_no_checkpoint_is_an_error() {
    let mut world = one_of_each();
    let mut records = Records::new();
    checkpoint(&mut world.machine, &mut records);
    assert_eq!(Machine::restore(Vec::<(Vec<u8>, Vec<u8>)>::new()).unwrap_err(), RestoreError::NoHeader);
    let reversed: Vec<_> = records.iter().rev().collect();
    assert_eq!(Machine::restore(reversed).unwrap_err(), RestoreError::NoHeader);
    let mut swapped: Vec<_> = records.iter().collect();
    let last = swapped.len() - 1;
    swapped.swap(last, last - 1);
    assert!(matches!(Machine::restore(swapped).unwrap_err(), RestoreError::OutOfOrder { .. }));
    // A record that others need: without it there is no machine.
    for tag in [2_u8, 3, 4, 10] {
        let without = records.iter().filter(|(key, _)| key[0] != tag);
        assert!(Machine::restore(without).is_err(), "restored without records of kind {tag}");
    }
    let mut newer = records.clone();
    let header = newer.get_mut(&vec![1]).unwrap();
    assert_eq!(header[3], CHECKPOINT_FORMAT as u8, "the format is the first field");
    header[3] = 99;
    assert_eq!(Machine::restore(&newer).unwrap_err(), RestoreError::UnknownFormat { format: 99 });
}
