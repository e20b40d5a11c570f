//! When workflows begin, over groups and restarts: keys whose homes lie elsewhere, schedules, starts that wait for a time.

use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, Query, QueryKind};
use serde_json::Value;
use uuid::Uuid;

use crate::world::{ClientId, Setup, World, diligent, holding, key_of, keyed, losing_and_doubling};

const RULES: &str = "
rules:
  - { id: one, event_type: one, actions: [{ workflow: one }] }
";

const WORKFLOWS: &str = "
workflows:
  - id: one
    concurrency: { key: '${input.tenant}', limit: 1 }
    tasks: [{ id: a, type: job }]
";

fn serving(setup: Setup, workflows: &str) -> (World, ClientId) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(workflows));
    (world, client)
}

fn status(world: &mut World, client: ClientId, instance: Uuid) -> String {
    world.look(client, QueryKind::Instance, Some(instance))["status"].as_str().unwrap().to_owned()
}

/// Instances of four groups with one key.
fn start_in_all_groups(world: &mut World, client: ClientId) -> Vec<Uuid> {
    let payload = r#"{"tenant":"tenant-7"}"#;
    (1..=4).map(|group| world.ask(client, &keyed("one", payload, &key_of(group))).response().instances[0]).collect()
}

#[test]
fn a_limit_holds_over_all_groups_and_why_names_the_key() {
    for (seed, shards) in [(1, 1), (2, 3)] {
        let (mut world, client) = serving(Setup::of(seed, shards), WORKFLOWS);
        world.worker(0, &["job"], holding());
        let instances = start_in_all_groups(&mut world, client);
        world.run_ms(5_000);
        let statuses: Vec<String> = instances.iter().map(|instance| status(&mut world, client, *instance)).collect();
        assert_eq!(statuses.iter().filter(|status| *status == "running").count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| *status == "queued").count(), 3, "{statuses:?}");
        let waiting = instances[statuses.iter().position(|status| status == "queued").unwrap()];
        let why = world.look(client, QueryKind::WhyInstance, Some(waiting));
        let blocker = &why["blockers"][0];
        assert_eq!((blocker["kind"].as_str(), blocker["key"].as_str()), (Some("waiting_for_key"), Some("tenant-7")), "{why:#}");
        let gate = &blocker["gate"];
        assert_eq!((gate["inside_count"].as_u64(), gate["limit"].as_u64(), gate["waiting_count"].as_u64()), (Some(1), Some(1), Some(3)));
        let running = world.look(client, QueryKind::WhyInstance, Some(instances[statuses.iter().position(|s| s == "running").unwrap()]));
        assert_eq!(running["tasks"][0]["name"], "a", "{running:#}");
    }
}

#[test]
fn what_a_rule_starts_waits_for_the_keys_of_its_action() {
    let mut world = World::new(Setup::of(5, 3));
    let client = world.client(0);
    let rules = include_str!("../../../examples/ordering/rules.yaml");
    world.apply(client, Some(rules), Some(include_str!("../../../examples/ordering/workflows.yaml")));
    world.worker(0, &["post_booking", "audit_booking"], holding());
    let payload = r#"{"account":"a-7","bank":"b-1"}"#;
    let sent = (1..=4).map(|group| world.ask(client, &keyed("booking", payload, &key_of(group))).response().instances.clone());
    let sent: Vec<Vec<Uuid>> = sent.collect();
    world.run_ms(5_000);
    let mut running = |workflow: &str| {
        let views = world.instances_of(client, workflow);
        let statuses: Vec<&str> = views.iter().filter_map(|view| view["status"].as_str()).collect();
        (statuses.iter().filter(|status| **status == "running").count(), statuses.iter().filter(|status| **status == "queued").count())
    };
    assert_eq!((running("post"), running("audit")), ((1, 3), (2, 2)), "{sent:?}");
}

#[test]
fn all_begin_in_the_end_whatever_is_lost() {
    for seed in 0..4 {
        let (mut world, client) = serving(Setup::of(seed, 3), WORKFLOWS);
        world.worker(0, &["job"], diligent(10));
        world.meddle = Some(losing_and_doubling(4));
        for instance in start_in_all_groups(&mut world, client) {
            assert_eq!(world.ended(client, instance, 60_000)["status"], "completed", "seed {seed}");
        }
        world.run_ms(10_000);
        assert_eq!(world.count(|stats| stats.keys_open + stats.starts_waiting + stats.out_pending), 0, "seed {seed}");
    }
}

#[test]
fn a_schedule_of_the_catalog_starts_its_workflow_until_it_is_taken_out_and_survives_a_restart() {
    let tick = "  - { id: tick, schedule: { cron: '* * * * *' }, tasks: [{ id: a, type: job }] }";
    let (mut world, client) = serving(Setup::of(3, 2), &format!("{WORKFLOWS}{tick}\n"));
    world.worker(0, &["job"], diligent(10));
    world.run_ms(150_000);
    let runs = world.instances_of(client, "tick");
    assert!((2..=3).contains(&runs.len()), "{} runs in two minutes and a half", runs.len());
    let view = world.look(client, QueryKind::Schedules, None);
    assert_eq!((view["items"][0]["workflow"].as_str(), view["items"][0]["runs_count"].as_u64()), (Some("tick"), Some(runs.len() as u64)));

    world.restart(0);
    let client = world.client(0);
    world.run_ms(130_000);
    let after = world.instances_of(client, "tick").len();
    assert!((2..=4).contains(&(after - runs.len())), "{after} runs after a restart, {} before", runs.len());

    let tick = "  - { id: tick, tasks: [{ id: a, type: job }] }";
    world.apply(client, None, Some(&format!("{WORKFLOWS}{tick}\n")));
    world.run_ms(1_000);
    let last = world.instances_of(client, "tick").len();
    world.run_ms(130_000);
    assert_eq!(world.instances_of(client, "tick").len(), last, "a workflow without a schedule starts no more");
    assert_eq!(world.look(client, QueryKind::Schedules, None)["items"], Value::Array(Vec::new()));
}

#[test]
fn a_start_begins_when_it_is_told_to() {
    let (mut world, client) = serving(Setup::of(4, 2), WORKFLOWS);
    let start = |delay_ms, start_at_us, key| Command {
        kind: CommandKind::StartWorkflow.number(),
        name: Some("one"),
        body: Some(br#"{"tenant":"t"}"#),
        idempotency_key: Some(key),
        delay_ms,
        start_at_us,
        ..Command::default()
    };
    let at_us = world.now().wall.as_us() + 20_000_000;
    let id = |body: Value| body["instance"].as_str().or(body["id"].as_str()).unwrap().parse::<Uuid>().unwrap();
    let later = id(world.ask(client, &start(Some(10_000), None, "a")).reply().body);
    let then = id(world.ask(client, &start(None, Some(at_us), "b")).reply().body);
    world.run_ms(9_000);
    assert_eq!((status(&mut world, client, later).as_str(), status(&mut world, client, then).as_str()), ("scheduled", "scheduled"));
    world.run_ms(2_000);
    assert_eq!(status(&mut world, client, later), "running");
    world.run_ms(10_000);
    assert_eq!(status(&mut world, client, then), "queued", "its key is taken");
    assert_eq!(world.ask(client, &start(Some(1), Some(at_us), "c")).code(), Code::BadArgument);
    assert_eq!(world.ask(client, &start(Some(u64::MAX), None, "d")).code(), Code::BadArgument);
}

#[test]
fn incidents_and_filters_are_asked_of_all_groups() {
    let failing = "workflows: [{ id: one, concurrency: { key: '${input.tenant}', limit: 4 }, tasks: [{ id: f, type: fail, config: { message: no } }] }]";
    let (mut world, client) = serving(Setup::of(6, 3), failing);
    let mut instances = start_in_all_groups(&mut world, client);
    instances.iter().for_each(|instance| assert_eq!(world.ended(client, *instance, 20_000)["status"], "failed"));
    instances.sort_unstable();
    let asked = |kind: QueryKind, filter: &'static str| Query { kind: kind.number(), filter: Some(filter.as_bytes()), ..Query::default() };
    let ids = |body: &Value, member: &str| -> Vec<Uuid> {
        body["items"].as_array().unwrap().iter().map(|row| row[member].as_str().unwrap().parse().unwrap()).collect()
    };
    let found = world.ask(client, &asked(QueryKind::Incidents, r#"{"code":"failed","task":"f"}"#)).reply().body;
    assert_eq!(ids(&found, "instance"), instances, "{found:#}");
    let by_key = world.ask(client, &asked(QueryKind::Instances, r#"{"key":"tenant-7"}"#)).reply().body;
    assert_eq!(ids(&by_key, "id"), instances);
    let none = world.ask(client, &asked(QueryKind::Instances, r#"{"key":"tenant-8"}"#)).reply().body;
    assert!(ids(&none, "id").is_empty());
    assert_eq!(world.ask(client, &asked(QueryKind::Instances, r#"{"kee":"x"}"#)).code(), Code::BadArgument);
    let one = world.look(client, QueryKind::Incident, Some(instances[0]));
    assert_eq!((one["task"].as_str(), one["error"]["code"].as_str()), (Some("f"), Some("failed")), "{one:#}");
    assert_eq!(world.query(client, QueryKind::Incident, Some(Uuid::from_u128(instances[0].as_u128() + 7))).code(), Code::NotFound);
}
