//! Signals over groups: whoever comes first, wherever the key and the instance live, and whatever is lost, one signal completes one task.

use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, QueryKind};

use crate::world::{ClientId, Setup, World, key_of, keyed, losing_and_doubling};

const RULES: &str = "
rules:
  - { id: order, event_type: order, actions: [{ workflow: order }] }
";

const WORKFLOWS: &str = "
workflows:
  - id: order
    tasks:
      - { id: paid, type: wait_for_signal, config: { name: payment, key: '${input.key}' } }
      - { id: own, type: wait_for_signal, depends_on: [paid], config: { name: done } }
";

fn signal<'a>(name: &'a str, body: &'a str, idempotency_key: &'a str) -> Command<'a> {
    Command {
        kind: CommandKind::Signal.number(),
        name: Some(name),
        body: Some(body.as_bytes()),
        idempotency_key: Some(idempotency_key),
        ..Command::default()
    }
}

/// One instance in group `from` and one signal to a key of group `to`, which comes first when `early`.
fn meet(world: &mut World, client: ClientId, from: u32, to: u32, early: bool) {
    let body = format!(r#"{{"key":"{}","payload":{{"amount":5}}}}"#, key_of(to));
    let payment = signal("payment", &body, "s-1");
    let order = format!(r#"{{"key":"{}"}}"#, key_of(to));
    if early {
        world.ask(client, &payment).reply();
    }
    let instance = world.ask(client, &keyed("order", &order, &key_of(from))).response().instances[0];
    if !early {
        world.run_ms(3_000);
        world.ask(client, &payment).reply();
    }
    assert_eq!(world.ask(client, &payment).reply().body["repeat"], true);
    world.run_ms(20_000);
    let view = world.look(client, QueryKind::Instance, Some(instance));
    assert_eq!((&view["tasks"][0]["status"], &view["tasks"][0]["output"]["amount"]), (&"completed".into(), &5.into()), "{view:#}");
    assert_eq!(world.count(|stats| stats.signals_kept + stats.signals_awaited), 1, "only `own` waits");
    let own = Command { id: Some(instance), ..signal("done", "{}", "s-2") };
    assert_eq!(world.ask(client, &own).reply().body["delivered"], true);
    assert_eq!(world.ended(client, instance, 1_000)["status"], "completed");
    assert_eq!(world.ask(client, &Command { idempotency_key: None, ..own }).code(), Code::Conflict);
    assert_eq!(world.count(|stats| stats.out_pending), 0);
}

fn serving(setup: Setup) -> (World, ClientId) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    (world, client)
}

#[test]
fn a_signal_finds_its_task_in_any_group_whoever_comes_first() {
    for (seed, shards) in [(1, 1), (2, 3)] {
        for (from, to) in [(1, 2), (3, 3), (4, 1)] {
            for early in [false, true] {
                let (mut world, client) = serving(Setup::of(seed, shards));
                meet(&mut world, client, from, to, early);
            }
        }
    }
}

#[test]
fn lost_and_doubled_letters_change_nothing() {
    for seed in 0..12 {
        let (mut world, client) = serving(Setup::of(seed, 3));
        world.meddle = Some(losing_and_doubling(3));
        meet(&mut world, client, 1, 2, seed % 2 == 0);
    }
}

#[test]
fn what_is_no_signal_is_refused_with_its_reason() {
    let (mut world, client) = serving(Setup::of(5, 1));
    for (body, code) in [
        ("{", Code::BadPayload),
        (r#"{"kee":"k"}"#, Code::BadPayload),
        (r#"{"payload":1}"#, Code::BadArgument),
        (r#"{"key":"k","ttl":"soon"}"#, Code::BadArgument),
        (r#"{"key":""}"#, Code::BadArgument),
    ] {
        assert_eq!(world.ask(client, &signal("payment", body, "k")).code(), code, "{body}");
    }
    let unnamed = Command { name: None, ..signal("payment", r#"{"key":"k"}"#, "k") };
    assert_eq!(world.ask(client, &unnamed).code(), Code::BadArgument);
}
