//! Timers: machine time alone fires them, once, without storms; an idle node does nothing at all.

use distric_model::Instant;
use distric_wire::client::QueryKind;
use uuid::Uuid;

use crate::world::{ClientId, Setup, World, message};

const RULES: &str = "rules: [{ id: later, event_type: later, actions: [{ workflow: nap }] }]";

fn workflow(duration: &str) -> String {
    format!("workflow: {{ id: nap, tasks: [{{ id: pause, type: wait, config: {{ duration: {duration} }} }}] }}")
}

fn serving(setup: Setup, duration: &str) -> (World, ClientId) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(&workflow(duration)));
    (world, client)
}

fn start(world: &mut World, client: ClientId) -> Uuid {
    world.ask(client, &message("later", "{}")).response().instances[0]
}

fn status(world: &mut World, client: ClientId, instance: Uuid) -> String {
    world.look(client, QueryKind::Instance, Some(instance))["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_wait_ends_when_its_time_has_come_with_few_ticks() {
    for (seed, shards) in [(1, 1), (2, 3)] {
        let (mut world, client) = serving(Setup::of(seed, shards), "5s");
        let instances: Vec<Uuid> = (0..40).map(|_| start(&mut world, client)).collect();
        world.run_ms(4_800);
        for instance in &instances {
            assert_eq!(status(&mut world, client, *instance), "running");
        }
        world.run_ms(300);
        for instance in &instances {
            assert_eq!(status(&mut world, client, *instance), "completed");
        }
        let ticks = world.logged("tick");
        assert!((1..=80).contains(&ticks), "{ticks} ticks for 40 timers");
    }
}

#[test]
fn a_jump_of_the_calendar_moves_timers_by_a_tenth_at_most_and_makes_no_storm() {
    for (seed, jump_ms) in [(1, 3_600_000_i64), (2, -3_600_000), (3, 40), (4, -40), (5, 700), (6, -700)] {
        let (mut world, client) = serving(Setup::of(seed, 3), "10s");
        let instance = start(&mut world, client);
        let since = world.mono;
        world.run_ms(1_000);
        world.wall_offset_us = world.wall_offset_us.checked_add_signed(jump_ms * 1_000).unwrap();
        world.run_ms(8_000 - 100);
        assert_eq!(status(&mut world, client, instance), "running", "jump of {jump_ms} ms");
        world.run_ms(2_500);
        assert_eq!(
            status(&mut world, client, instance),
            "completed",
            "jump of {jump_ms} ms, {} ms later",
            world.mono.since_us(since) / 1_000
        );
        let ticks = world.logged("tick");
        assert!(ticks <= 40, "jump of {jump_ms} ms: {ticks} ticks");
    }
}

#[test]
fn a_calendar_that_jitters_makes_no_storm() {
    let (mut world, client) = serving(Setup::of(7, 1), "3s");
    let base = world.wall_offset_us;
    for n in 0..40 {
        start(&mut world, client);
        world.wall_offset_us = base + world.draw(2_000_000);
        world.run_ms(100 + n);
    }
    world.run_ms(6_000);
    assert_eq!(world.count(|stats| stats.instances_completed_count), 40);
    let ticks = world.logged("tick");
    assert!(ticks <= 400, "{ticks} ticks for 40 timers");
}

#[test]
fn time_that_a_node_was_away_has_passed_when_it_is_back() {
    for (seed, shards) in [(1, 1), (2, 3)] {
        let (mut world, client) = serving(Setup::of(seed, shards), "30m");
        let instance = start(&mut world, client);
        world.crash(0);
        world.wall_offset_us += 40 * 60 * 1_000_000;
        world.start(0);
        world.until(10_000, "the node is ready again", |world| world.nodes[0].is_ready());
        world.run_ms(500);
        let client = world.client(0);
        assert_eq!(status(&mut world, client, instance), "completed", "it was due before the node came back");
    }
}

#[test]
fn a_timer_survives_a_restart_and_fires_on_time() {
    for (seed, shards) in [(3, 1), (4, 3)] {
        let (mut world, client) = serving(Setup::of(seed, shards), "5s");
        let instance = start(&mut world, client);
        world.run_ms(1_000);
        world.restart(0);
        let client = world.client(0);
        world.run_ms(3_000);
        assert_eq!(status(&mut world, client, instance), "running");
        world.run_ms(1_600);
        assert_eq!(status(&mut world, client, instance), "completed");
    }
}

#[test]
fn an_idle_node_proposes_nothing_and_sleeps() {
    for shards in [1, 3] {
        let (mut world, client) = serving(Setup::of(9, shards), "50ms");
        start(&mut world, client);
        world.run_ms(1_000);
        let before = world.logged_all();
        let is_far = |at: Option<Instant>, now: Instant| at.is_none_or(|at| at.since_us(now) > 5_000_000);
        assert!(
            is_far(world.nodes[0].shards_wake(), world.mono),
            "the next wake-up is {:?} at {:?}",
            world.nodes[0].shards_wake(),
            world.mono
        );
        let steps = world.steps;
        world.run_ms(60_000);
        assert_eq!(world.logged_all(), before);
        assert!(is_far(world.nodes[0].shards_wake(), world.mono));
        assert!(world.steps - steps < 10, "{} letters in an idle minute", world.steps - steps);
    }
}

#[test]
fn retention_forgets_with_few_ticks() {
    let settings = distric_exec::Settings { history_retention_ms: 5_000, dedupe_window_ms: 5_000, ..distric_exec::Settings::default() };
    let (mut world, client) = serving(Setup { settings, ..Setup::of(10, 3) }, "50ms");
    for _ in 0..100 {
        start(&mut world, client);
        world.run_ms(20);
    }
    let before = world.logged("tick");
    world.run_ms(10_000);
    assert_eq!((world.count(|stats| stats.instances_finished), world.count(|stats| stats.messages_held)), (0, 0));
    let ticks = world.logged("tick") - before;
    assert!(ticks <= 60, "{ticks} ticks");
}
