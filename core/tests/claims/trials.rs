//! Claims about candidates: a shadow changes nothing and says where it differs; a canary decides for its share and names itself.

use std::collections::{BTreeMap, BTreeSet};

use distric_rules::{Catalog, Envelope, RuleSet};
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, Query, QueryKind, Submit};
use serde_json::{Value, json};

use crate::world::{ClientId, Said, Setup, WORKFLOWS, World, keyed, message};

const ACTIVE: &str = "
rules:
  - { id: large, event_type: order, conditions: [{ field: n, operator: greater_than, value: 10 }], actions: [{ workflow: ship }] }
  - { id: seen, event_type: order }
";
const CANDIDATE: &str = "
rules:
  - { id: large, event_type: order, conditions: [{ field: n, operator: greater_than, value: 5 }], actions: [{ workflow: ship }] }
  - { id: seen, event_type: order }
  - { id: odd, event_type: order, conditions: [{ field: n, operator: in, value: [1, 3, 5, 7, 9, 11, 13] }] }
";

fn body(rules: &str, share: u32) -> String {
    json!({ "rules": { "name": "candidate.yaml", "text": rules }, "share": share }).to_string()
}

fn start(world: &mut World, client: ClientId, kind: CommandKind, share: u32) -> u64 {
    let reply = world.command(client, kind, None, &body(CANDIDATE, share)).reply();
    assert_eq!(reply.body["share"], share);
    reply.body["trial_version"].as_u64().unwrap()
}

fn set_share(world: &mut World, client: ClientId, share: u32) -> Said {
    world.command(client, CommandKind::SetTrial, None, &json!({ "share": share }).to_string())
}

fn trial(world: &mut World, client: ClientId) -> Value {
    world.look(client, QueryKind::Trial, None)
}

/// The rules of a version as the node has them, compiled here.
fn version_of(world: &mut World, client: ClientId, version: u64) -> Catalog {
    let query = Query { kind: QueryKind::CatalogExport.number(), version: Some(version), ..Query::default() };
    let reply = world.ask(client, &query).reply();
    let mut document = reply.body["options"].clone();
    document["rules"] = reply.body["rules"].clone();
    Catalog::compile(version, &RuleSet::from_json(&document).unwrap()).unwrap()
}

/// Sends `n` = 0 to 14 for many keys; returns the version that decided about each key. Every decision is checked by plain evaluation.
fn versions_by_key(world: &mut World, clients: &[ClientId], keys: usize) -> BTreeMap<String, u64> {
    let mut versions = BTreeMap::new();
    let mut catalogs = BTreeMap::new();
    for at in 0..keys {
        let (key, payload) = (format!("user-{at}"), format!("{{\"n\":{}}}", at % 15));
        let client = clients[at % clients.len()];
        let submit = Submit { routing_key: Some(&key), ..message("order", &payload) };
        let said = world.ask(client, &submit).response();
        let version = said.catalog_version;
        catalogs.entry(version).or_insert_with(|| version_of(world, clients[0], version));
        let envelope = Envelope { namespace: "default", event_type: Some("order"), ..Envelope::default() };
        let right = catalogs[&version].explain(&envelope, &json!({ "n": at % 15 }), None).matched;
        assert_eq!(said.rules, right.iter().map(|id| id.to_string()).collect::<Vec<_>>(), "under version {version}: {payload}");
        versions.insert(key, version);
    }
    versions
}

fn decided_by(versions: &BTreeMap<String, u64>, version: u64) -> BTreeSet<&String> {
    versions.iter().filter(|(_, decided)| **decided == version).map(|(key, _)| key).collect()
}

#[test]
fn a_canary_decides_for_its_share_of_the_keys_on_every_node_and_ends_at_once() {
    let mut world = World::new(Setup { nodes: 3, work_groups: 2, ..Setup::of(31, 2) });
    let clients: Vec<ClientId> =
        (0..3).flat_map(|node| (0..2).map(move |shard| (node, shard))).map(|(n, s)| world.client_of(n, s)).collect();
    let active = world.apply(clients[0], Some(ACTIVE), Some(WORKFLOWS));
    let candidate = start(&mut world, clients[3], CommandKind::StartCanary, 2_500);
    assert_eq!(candidate, active + 1, "the candidate has a version of its own");
    world.run_ms(500);
    assert_eq!(trial(&mut world, clients[5])["trial"]["version"], candidate, "known on every node");

    let at_25 = versions_by_key(&mut world, &clients, 600);
    let inside = decided_by(&at_25, candidate);
    assert!((110..190).contains(&inside.len()), "{} of 600 keys", inside.len());
    assert_eq!(decided_by(&at_25, active).len(), 600 - inside.len());
    assert_eq!(versions_by_key(&mut world, &clients[1..], 600), at_25, "one key is on one side, whichever node is asked");

    set_share(&mut world, clients[1], 6_000).reply();
    world.run_ms(500);
    let at_60 = versions_by_key(&mut world, &clients, 600);
    assert!(decided_by(&at_60, candidate).is_superset(&inside));
    assert!((310..410).contains(&decided_by(&at_60, candidate).len()));

    // Both sides are counted by rule on the node that is asked.
    let status = trial(&mut world, clients[0]);
    let sides = (status["active"]["decisions"].as_u64().unwrap(), status["candidate"]["decisions"].as_u64().unwrap());
    assert!(sides.0 > 200 && sides.1 > 100, "{status}");
    let odd = status["items"].as_array().unwrap().iter().find(|row| row["rule"] == "odd").unwrap();
    assert_eq!((&odd["active"]["matched"], &odd["candidate"]["evaluated"]), (&json!(0), &json!(sides.1)));
    assert!(odd["candidate"]["matched"].as_u64().unwrap() > 30, "{odd}");

    world.command(clients[4], CommandKind::EndTrial, None, "").reply();
    world.run_ms(500);
    let ended = versions_by_key(&mut world, &clients, 60);
    assert_eq!(decided_by(&ended, active).len(), 60);
    assert_eq!(trial(&mut world, clients[2])["trial"], Value::Null);
    // What the candidate decided can still be explained, and the next change has a number of its own.
    assert_eq!(version_of(&mut world, clients[0], candidate).rules().len(), 3);
    assert_eq!(world.command(clients[0], CommandKind::DisableRule, Some("seen"), "").reply().version, Some(candidate + 1));
    assert_eq!(version_of(&mut world, clients[0], active).rules().len(), 2);
    let history = world.look(clients[0], QueryKind::CatalogHistory, None);
    assert_eq!((&history["items"][1]["version"], &history["items"][1]["trial"]["mode"]), (&json!(candidate), &json!("Canary")));
    assert!(history["items"][1]["trial"]["ended_at_us"].is_u64());
}

#[test]
fn a_promoted_candidate_is_the_catalog() {
    let mut world = World::new(Setup::of(32, 2));
    let client = world.client(0);
    world.apply(client, Some(ACTIVE), Some(WORKFLOWS));
    let candidate = start(&mut world, client, CommandKind::StartCanary, 100);
    let plan = Command { kind: CommandKind::PromoteTrial.number(), dry_run: true, ..Command::default() };
    let plan = world.ask(client, &plan).reply().body;
    assert_eq!((&plan["would_be"], &plan["rules_changed"]), (&json!(candidate + 1), &json!(["large", "odd"])));
    let promoted = world.command(client, CommandKind::PromoteTrial, None, "").reply();
    assert_eq!((promoted.version, &promoted.body["rules_changed"]), (Some(candidate + 1), &json!(["large", "odd"])));
    assert_eq!(trial(&mut world, client)["trial"], Value::Null);
    let said = world.ask(client, &message("order", r#"{"n": 7}"#)).response();
    assert_eq!((said.catalog_version, said.rules.len()), (candidate + 1, 3));
    let history = world.look(client, QueryKind::CatalogHistory, None);
    assert_eq!(history["items"][1]["trial"]["promoted_as"], candidate + 1);
    let back = Command { kind: CommandKind::RollbackCatalog.number(), version: Some(candidate - 1), ..Command::default() };
    assert_eq!(world.ask(client, &back).reply().version, Some(candidate + 2));
    assert_eq!(world.ask(client, &message("order", r#"{"n": 7}"#)).response().rules, vec!["seen"]);
}

#[test]
fn a_shadow_changes_nothing_and_says_where_it_differs() {
    let mut world = World::new(Setup::of(33, 3));
    let clients: Vec<ClientId> = (0..3).map(|shard| world.client(shard)).collect();
    let active = world.apply(clients[0], Some(ACTIVE), Some(WORKFLOWS));
    let candidate = start(&mut world, clients[0], CommandKind::StartShadow, 10_000);
    for n in 0..30 {
        let (key, payload) = (format!("k{n}"), format!("{{\"n\":{}}}", n % 15));
        let submit = if n % 2 == 0 { keyed("order", &payload, &key) } else { message("order", &payload) };
        let said = world.ask(clients[n % 3], &submit).response();
        assert_eq!(said.catalog_version, active);
        assert_eq!(said.instances.len(), usize::from(n % 15 > 10), "only the catalog acts");
    }
    world.run_ms(100);
    let status = trial(&mut world, clients[1]);
    assert_eq!((&status["trial"]["version"], &status["trial"]["mode"]), (&json!(candidate), &json!("shadow")));
    let shadow = &status["shadow"];
    // 6 to 10 are large for the candidate, and seven odd ones of fifteen match its own rule: 1 3 5 6 7 8 9 10 11 13.
    assert_eq!(
        (&shadow["judged"], &shadow["skipped"], &shadow["differing"], &shadow["waiting"]),
        (&json!(30), &json!(0), &json!(20), &json!(0))
    );
    let row = |rule: &str| status["items"].as_array().unwrap().iter().find(|row| row["rule"] == rule).unwrap().clone();
    assert_eq!((&row("large")["gained"], &row("odd")["gained"], &row("seen")["gained"]), (&json!(10), &json!(14), &json!(0)));
    assert_eq!((&row("large")["active"]["matched"], &row("large")["candidate"]["matched"]), (&json!(8), &json!(18)));
    assert_eq!((&status["active"]["decisions"], &status["candidate"]["decisions"]), (&json!(30), &json!(30)));
    let samples = world.look(clients[2], QueryKind::TrialSamples, None);
    let items = samples["items"].as_array().unwrap();
    // At most four of one first difference and core.
    assert!((5..=20).contains(&items.len()), "{samples}");
    for item in items {
        let n = item["payload"]["n"].as_u64().unwrap();
        assert_eq!(item["gained"].as_array().unwrap().contains(&json!("large")), (6..=10).contains(&n), "{item}");
        assert_eq!((&item["catalog_version"], &item["candidate_version"]), (&json!(active), &json!(candidate)));
    }
    // A share is of the keys, and another trial begins with counts of its own.
    world.command(clients[0], CommandKind::EndTrial, None, "").reply();
    start(&mut world, clients[0], CommandKind::StartShadow, 3_000);
    for n in 0..300 {
        let key = format!("user-{n}");
        world.ask(clients[n % 3], &Submit { routing_key: Some(&key), ..message("order", r#"{"n":1}"#) }).response();
    }
    world.run_ms(100);
    let judged = trial(&mut world, clients[0])["shadow"]["judged"].as_u64().unwrap();
    assert!((60..120).contains(&judged), "{judged} of 300");
}

#[test]
fn one_trial_at_a_time_and_only_of_what_could_be_the_catalog() {
    let mut world = World::new(Setup::of(34, 2));
    let client = world.client(1);
    let code = |world: &mut World, kind: CommandKind, body: &str| world.command(client, kind, None, body).code();
    assert_eq!(code(&mut world, CommandKind::StartShadow, &body(CANDIDATE, 100)), Code::Conflict, "there are no rules yet");
    world.apply(client, Some(ACTIVE), Some(WORKFLOWS));
    for kind in [CommandKind::PromoteTrial, CommandKind::EndTrial] {
        assert_eq!(code(&mut world, kind, ""), Code::NotFound);
    }
    assert_eq!(set_share(&mut world, client, 100).code(), Code::NotFound);
    let unknown = CANDIDATE.replace("workflow: ship", "workflow: fly");
    assert_eq!(code(&mut world, CommandKind::StartCanary, &body(&unknown, 100)), Code::BadCatalog);
    for share in [0, 10_001] {
        assert_eq!(code(&mut world, CommandKind::StartCanary, &body(CANDIDATE, share)), Code::BadArgument);
    }
    let with_workflows = json!({ "rules": { "text": CANDIDATE }, "workflows": { "text": WORKFLOWS } }).to_string();
    assert_eq!(code(&mut world, CommandKind::StartCanary, &with_workflows), Code::BadArgument);
    assert_eq!(trial(&mut world, client)["trial"], Value::Null, "what was refused changed nothing");

    start(&mut world, client, CommandKind::StartCanary, 100);
    assert_eq!(code(&mut world, CommandKind::StartShadow, &body(CANDIDATE, 100)), Code::Conflict);
    assert_eq!(set_share(&mut world, client, 10_001).code(), Code::BadArgument);
    let other = Command { kind: CommandKind::EndTrial.number(), version: Some(99), ..Command::default() };
    assert_eq!(world.ask(client, &other).code(), Code::NotFound);
    // The catalog may change beside it; then the candidate is of the past.
    world.command(client, CommandKind::DisableRule, Some("seen"), "").reply();
    assert_eq!(trial(&mut world, client)["trial"]["is_outdated"], true);
    assert_eq!(code(&mut world, CommandKind::PromoteTrial, ""), Code::Conflict);
    world.command(client, CommandKind::EndTrial, None, "").reply();
}

#[test]
fn a_trial_outlives_every_restart() {
    let mut world = World::new(Setup { nodes: 3, work_groups: 1, ..Setup::of(35, 2) });
    let client = world.client_of(0, 0);
    world.apply(client, Some(ACTIVE), Some(WORKFLOWS));
    let candidate = start(&mut world, client, CommandKind::StartCanary, 10_000);
    for node in 0..3 {
        world.crash(node);
    }
    for node in 0..3 {
        world.start(node);
    }
    world.run_ms(5_000);
    let clients: Vec<ClientId> = (0..3).map(|node| world.client_of(node, 1)).collect();
    for client in &clients {
        assert_eq!(world.ask(*client, &message("order", r#"{"n":7}"#)).response().catalog_version, candidate);
    }
    set_share(&mut world, clients[1], 1).reply();
    world.run_ms(500);
    assert_eq!(trial(&mut world, clients[2])["trial"]["share"], 1);
}

#[test]
fn a_body_in_parts_is_used_once_by_a_command_on_its_connection() {
    let mut world = World::new(Setup::of(36, 2));
    let (client, other) = (world.client(0), world.client(1));
    let id = uuid::Uuid::from_u128(7);
    let text = json!({ "rules": { "text": ACTIVE }, "workflows": { "text": WORKFLOWS } }).to_string();
    let stage = |world: &mut World, client: ClientId, from: usize, part: &str| {
        let name = from.to_string();
        let kind = CommandKind::StageBody.number();
        world.ask(client, &Command { kind, id: Some(id), name: Some(&name), body: Some(part.as_bytes()), ..Command::default() })
    };
    let apply = Command { kind: CommandKind::ApplyCatalog.number(), id: Some(id), ..Command::default() };
    for (n, from) in (0..text.len()).step_by(50).enumerate() {
        let part = &text[from..text.len().min(from + 50)];
        assert_eq!(stage(&mut world, client, from, part).reply().body["staged"], from + part.len());
        if n == 1 {
            assert_eq!(stage(&mut world, client, from + 99, part).code(), Code::Conflict, "a gap");
        }
    }
    assert_eq!(world.ask(other, &apply).code(), Code::NotFound, "it belongs to the connection");
    assert_eq!(world.ask(client, &apply).reply().version, Some(1));
    assert_eq!(world.ask(client, &apply).code(), Code::NotFound, "it is used once");
    assert_eq!(world.ask(other, &message("order", r#"{"n":11}"#)).response().rules, vec!["large", "seen"]);
    assert_eq!(stage(&mut world, client, 0, "").code(), Code::BadArgument);
    let nameless = Command { kind: CommandKind::StageBody.number(), id: Some(id), body: Some(b"x"), ..Command::default() };
    assert_eq!(world.ask(client, &nameless).code(), Code::BadArgument);
}
