//! A catalog that changes a hundred times under load: every decision is the plain evaluation of the version that it names, and never a
//! mixture of two.

use std::collections::BTreeMap;

use distric_rules::{Catalog, Envelope, RuleSet};
use distric_wire::client::{Command, CommandKind, Query, QueryKind};
use serde_json::{Value, json};

use crate::world::said::Response;
use crate::world::{ClientId, Said, Setup, WORKFLOWS, World, catalog_body, keyed, message};

/// Changes of the catalog in one run.
const CHANGES: u64 = 100;

struct Sent {
    client: ClientId,
    id: u64,
    event_type: String,
    payload: Value,
}

/// A rule that hangs on values that the messages have, in one of the shapes that the language knows.
fn rule(world: &mut World, id: &str) -> Value {
    let threshold = world.draw(20);
    let condition = match world.draw(6) {
        0 => json!({ "field": "n", "operator": "greater_than", "value": threshold }),
        1 => {
            json!({ "any": [{ "field": "n", "operator": "less_than", "value": threshold }, { "field": "t", "operator": "prefix", "value": "b" }] })
        }
        2 => json!({ "not": { "field": "n", "operator": "in_range", "value": [threshold, threshold + 5] } }),
        3 => json!({ "field": "t", "operator": "regex", "value": format!("^[a-{}]", (b'b' + (threshold % 3) as u8) as char) }),
        4 => json!({ "field": "list", "operator": "contains", "value": threshold % 4 }),
        _ => json!({ "field": "t", "operator": "in", "value": ["alpha", "beta"] }),
    };
    let mut rule = json!({ "id": id, "priority": world.draw(5), "conditions": [condition] });
    if world.draw(3) > 0 {
        rule["event_type"] = json!(format!("e{}", world.draw(3)));
    }
    match world.draw(6) {
        0 => rule["on_match"] = json!("stop"),
        1 | 2 => rule["actions"] = json!([{ "workflow": "ship" }]),
        3 => rule["transform"] = json!([{ "set": "n", "value": threshold }]),
        _ => {}
    }
    rule
}

/// Asks for one of all kinds of change; returns the number of the request.
fn change(world: &mut World, client: ClientId, known: u64) -> u64 {
    let id = format!("r{}", world.draw(12));
    let by_name = |kind: CommandKind, name: &str| (kind, Some(name.to_owned()), None, None);
    let (kind, name, body, version) = match world.draw(8) {
        0 => {
            let ids: Vec<u64> = (0..12).filter(|_| world.draw(3) > 0).collect();
            let rules: Vec<Value> = ids.iter().map(|number| rule(world, &format!("r{number}"))).collect();
            let text = json!({ "rules": rules, "fail_fast": world.draw(4) == 0 }).to_string();
            (CommandKind::ApplyCatalog, None, Some(catalog_body(Some(&text), Some(WORKFLOWS))), None)
        }
        1 => by_name(CommandKind::DeleteRule, &id),
        2 => by_name(CommandKind::DisableRule, &id),
        3 => by_name(CommandKind::EnableRule, &id),
        4 => (CommandKind::RollbackCatalog, None, None, Some(world.draw(known + 1).max(1))),
        _ => (CommandKind::PutRule, None, Some(rule(world, &id).to_string()), None),
    };
    let command =
        Command { kind: kind.number(), name: name.as_deref(), body: body.as_deref().map(str::as_bytes), version, ..Command::default() };
    world.send(client, &command)
}

fn load(world: &mut World, clients: &[ClientId], sent: &mut Vec<Sent>) {
    for client in clients {
        let event_type = format!("e{}", world.draw(3));
        let texts = ["alpha", "beta", "gamma", "b"];
        let list: Vec<u64> = (0..world.draw(3)).map(|_| world.draw(4)).collect();
        let mut payload = json!({ "n": world.draw(25), "list": list });
        if world.draw(4) > 0 {
            payload["t"] = json!(texts[world.draw(4) as usize]);
        }
        let text = payload.to_string();
        let key = format!("k{}", sent.len());
        // With a key the decision goes through the log and comes back from there.
        let submit = if world.draw(2) == 0 { keyed(&event_type, &text, &key) } else { message(&event_type, &text) };
        let id = world.send(*client, &submit);
        sent.push(Sent { client: *client, id, event_type, payload });
        // Some of what travels arrives before the next one is sent.
        let steps = world.draw(12);
        world.steps(steps);
    }
}

/// The rules of a version, from the node itself, compiled for plain evaluation.
fn version_of(world: &mut World, client: ClientId, version: u64) -> Catalog {
    let query = Query { kind: QueryKind::CatalogExport.number(), version: Some(version), ..Query::default() };
    let reply = world.ask(client, &query).reply();
    assert!(reply.next_cursor.is_none(), "so few rules fit on one page");
    let mut document = reply.body["options"].clone();
    document["rules"] = reply.body["rules"].clone();
    let set = RuleSet::from_json(&document).expect("what was applied is readable");
    Catalog::compile(version, &set).expect("what was applied compiles")
}

fn run(setup: Setup) -> (usize, usize) {
    let nodes = setup.nodes;
    let shards = setup.shards;
    let mut world = World::new(setup);
    let clients: Vec<ClientId> =
        (0..nodes).flat_map(|node| (0..shards).map(move |shard| (node, shard))).map(|(node, shard)| world.client_of(node, shard)).collect();
    let body = catalog_body(Some("rules: []"), Some(WORKFLOWS));
    let first = Command { kind: CommandKind::ApplyCatalog.number(), body: Some(body.as_bytes()), ..Command::default() };
    let mut known = world.ask(clients[0], &first).reply().version.unwrap();
    let mut sent = Vec::new();
    for _ in 0..CHANGES {
        let by = clients[world.draw(clients.len() as u64) as usize];
        let request = change(&mut world, by, known);
        load(&mut world, &clients, &mut sent);
        match world.answer(by, request) {
            Said::Reply(reply) => known = known.max(reply.version.unwrap()),
            // A rule that is not there, or one that a chain needs: nothing changed.
            Said::Rejection(refused) => assert!(matches!(refused.code.name(), "not_found" | "bad_catalog"), "{refused:?}"),
            other => panic!("{other:?}"),
        }
        load(&mut world, &clients, &mut sent);
    }
    let mut versions: BTreeMap<u64, Catalog> = BTreeMap::new();
    let mut last: BTreeMap<ClientId, u64> = BTreeMap::new();
    let mut matched = 0;
    for Sent { client, id, event_type, payload } in &sent {
        let response: Response = world.answer(*client, *id).response();
        let version = response.catalog_version;
        let before = last.insert(*client, version).unwrap_or(0);
        assert!(before <= version, "versions never go back on a connection: {before}, then {version}");
        versions.entry(version).or_insert_with(|| version_of(&mut world, clients[0], version));
        // Plain evaluation: every condition of every rule, one after another, without the index.
        let envelope = Envelope { namespace: "default", event_type: Some(event_type), ..Envelope::default() };
        let right = versions[&version].explain(&envelope, payload, None).matched;
        let found: Vec<&str> = response.rules.iter().map(String::as_str).collect();
        assert_eq!(found, right.iter().map(|rule| &**rule).collect::<Vec<_>>(), "under version {version}: {event_type} {payload}");
        matched += usize::from(!found.is_empty());
    }
    (versions.len(), matched)
}

#[test]
fn a_hundred_changes_under_load_on_one_node_make_no_wrong_and_no_mixed_decision() {
    for seed in 0..5 {
        let (versions, matched) = run(Setup { frames_in_flight_max: 4_096, ..Setup::of(seed, 3) });
        assert!(versions > CHANGES as usize / 3 && matched > 100, "{versions} versions decided, {matched} messages matched");
    }
}

#[test]
fn a_hundred_changes_under_load_on_three_nodes_make_no_wrong_and_no_mixed_decision() {
    let (versions, matched) = run(Setup { nodes: 3, work_groups: 2, frames_in_flight_max: 4_096, ..Setup::of(7, 2) });
    assert!(versions > CHANGES as usize / 3 && matched > 100, "{versions} versions decided, {matched} messages matched");
}
