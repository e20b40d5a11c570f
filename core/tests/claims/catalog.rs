//! The catalog: atomic changes, each checked before it counts, in use everywhere when it is answered.

use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, QueryKind};
use serde_json::json;

use crate::world::{RULES, Said, Setup, WORKFLOWS, World, catalog_body, message};

const REFUNDS: &str = "{ id: refunds, event_type: refund, actions: [{ workflow: ship }] }";

#[test]
fn after_the_answer_every_shard_decides_by_the_new_version() {
    for seed in 0..10 {
        let mut world = World::new(Setup::of(seed, 3));
        let clients: Vec<usize> = (0..3).map(|shard| world.client(shard)).collect();
        for version in 1..=6 {
            let text = RULES.replace("orders", &format!("orders-{version}"));
            assert_eq!(world.apply(clients[version % 3], Some(&text), Some(WORKFLOWS)), version as u64);
            for client in &clients {
                let response = world.ask(*client, &message("order", "{}")).response();
                assert_eq!((response.catalog_version, &response.rules[0]), (version as u64, &format!("orders-{version}")));
            }
        }
    }
}

#[test]
fn a_dry_run_plans_and_changes_nothing() {
    let mut world = World::new(Setup::of(3, 3));
    let client = world.client(1);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    let body = catalog_body(Some("rules: []"), None);
    let dry = Command { kind: CommandKind::ApplyCatalog.number(), body: Some(body.as_bytes()), dry_run: true, ..Command::default() };
    let plan = world.ask(client, &dry).reply();
    assert_eq!((plan.version, &plan.body["would_be"], &plan.body["rules_removed"]), (Some(1), &2.into(), &json!(["orders"])));
    assert_eq!(world.look(client, QueryKind::Rules, None)["items"].as_array().unwrap().len(), 1);
    assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 1);
    let same = catalog_body(Some(RULES), Some(WORKFLOWS));
    let applied = world.command(client, CommandKind::ApplyCatalog, None, &same).reply();
    assert_eq!(applied.version, Some(1), "what changes nothing makes no version");
}

#[test]
fn a_bad_catalog_is_refused_with_its_place_and_the_old_one_stays() {
    let mut world = World::new(Setup::of(4, 3));
    let client = world.client(2);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    let misspelt = "rules:\n  - id: orders\n    conditions:\n      - { field: a, operator: greater_then, value: 1 }\n";
    let refused = world.command(client, CommandKind::ApplyCatalog, None, &catalog_body(Some(misspelt), None)).rejection();
    assert_eq!((refused.code, refused.at.map(|at| at.0)), (Code::BadCatalog, Some(4)), "{}", refused.reason);
    assert!(refused.reason.contains("rules.yaml") && refused.field.as_deref().is_some_and(|path| path.contains("operator")), "{refused:?}");
    let stray = RULES.replace("ship", "sail");
    let refused = world.command(client, CommandKind::ApplyCatalog, None, &catalog_body(Some(&stray), None)).rejection();
    assert_eq!(refused.code, Code::BadCatalog);
    assert!(refused.reason.contains("sail"), "{}", refused.reason);
    let cycle = "workflow: { id: ship, tasks: [{ id: a, type: job, depends_on: [b] }, { id: b, type: job, depends_on: [a] }] }";
    let refused = world.command(client, CommandKind::ApplyCatalog, None, &catalog_body(None, Some(cycle))).rejection();
    assert_eq!(refused.code, Code::BadCatalog);
    for nonsense in ["", "[]", "{}", r#"{"rules":5}"#] {
        assert_eq!(world.command(client, CommandKind::ApplyCatalog, None, nonsense).code(), Code::BadArgument);
    }
    let removed = world.command(client, CommandKind::ApplyCatalog, None, &catalog_body(None, Some("workflows: []")));
    assert_eq!(removed.code(), Code::BadCatalog, "a rule still starts it");
    assert_eq!(world.look(client, QueryKind::CatalogHistory, None)["catalog_version"], 1);
    assert_eq!(world.ask(client, &message("order", "{}")).response().rules, ["orders"]);
}

#[test]
fn one_rule_comes_and_goes() {
    let mut world = World::new(Setup::of(5, 3));
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    assert_eq!(world.ask(client, &message("refund", "{}")).response().outcome, 3);
    assert_eq!(world.command(client, CommandKind::PutRule, Some("refunds"), REFUNDS).reply().version, Some(2));
    assert_eq!(world.ask(client, &message("refund", "{}")).response().rules, ["refunds"]);
    assert_eq!(world.command(client, CommandKind::PutRule, Some("other"), REFUNDS).code(), Code::BadCatalog);
    assert_eq!(world.command(client, CommandKind::DeleteRule, Some("refunds"), "").reply().version, Some(3));
    assert_eq!(world.command(client, CommandKind::DeleteRule, Some("refunds"), "").code(), Code::NotFound);
    assert_eq!(world.command(client, CommandKind::DeleteRule, None, "").code(), Code::BadArgument);
    assert_eq!(world.ask(client, &message("refund", "{}")).response().outcome, 3);
    assert_eq!(world.command(client, CommandKind::DeleteWorkflow, Some("ship"), "").code(), Code::BadCatalog);
    world.command(client, CommandKind::DeleteRule, Some("orders"), "").reply();
    world.command(client, CommandKind::DeleteWorkflow, Some("ship"), "").reply();
    assert_eq!(world.command(client, CommandKind::DeleteWorkflow, Some("ship"), "").code(), Code::NotFound);
    assert_eq!(world.command(client, CommandKind::StartWorkflow, Some("ship"), "{}").code(), Code::UnknownWorkflow);
    let orders = "{ id: orders, event_type: order, actions: [{ workflow: ship }] }";
    let refused = world.command(client, CommandKind::PutRule, Some("orders"), orders).rejection();
    assert_eq!(refused.code, Code::BadCatalog, "an unknown workflow");
}

#[test]
fn a_change_for_another_version_is_refused() {
    let mut world = World::new(Setup::of(6, 1));
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    let put = |if_match| Command {
        kind: CommandKind::PutRule.number(),
        name: Some("refunds"),
        body: Some(REFUNDS.as_bytes()),
        if_match: Some(if_match),
        ..Command::default()
    };
    assert_eq!(world.ask(client, &put(7)).code(), Code::PreconditionFailed);
    assert_eq!(world.ask(client, &put(1)).reply().version, Some(2));
    assert_eq!(world.ask(client, &put(1)).code(), Code::PreconditionFailed);
}

#[test]
fn two_changes_at_once_both_land_as_versions_of_their_own() {
    for seed in 0..20 {
        let mut world = World::new(Setup::of(seed, 3));
        let clients: Vec<usize> = (0..3).map(|shard| world.client(shard)).collect();
        world.apply(clients[0], Some(RULES), Some(WORKFLOWS));
        let ids: Vec<u64> = clients
            .iter()
            .enumerate()
            .map(|(n, client)| {
                let rule = REFUNDS.replace("refunds", &format!("refunds-{n}"));
                world.send(*client, &Command { kind: CommandKind::PutRule.number(), body: Some(rule.as_bytes()), ..Command::default() })
            })
            .collect();
        let mut versions: Vec<u64> = Vec::new();
        for (client, id) in clients.iter().zip(ids) {
            versions.push(world.answer(*client, id).reply().version.unwrap());
        }
        versions.sort_unstable();
        assert_eq!(versions, [2, 3, 4]);
        for client in &clients {
            assert_eq!(world.ask(*client, &message("refund", "{}")).response().rules.len(), 3);
        }
    }
}

#[test]
fn two_changes_under_one_precondition_have_one_winner() {
    for seed in 0..10 {
        let mut world = World::new(Setup::of(seed, 3));
        let clients = [world.client(1), world.client(2)];
        world.apply(clients[0], Some(RULES), Some(WORKFLOWS));
        let put = Command { kind: CommandKind::PutRule.number(), body: Some(REFUNDS.as_bytes()), if_match: Some(1), ..Command::default() };
        let delete = Command { kind: CommandKind::DeleteRule.number(), name: Some("orders"), if_match: Some(1), ..Command::default() };
        let ids = [world.send(clients[0], &put), world.send(clients[1], &delete)];
        let answers = [world.answer(clients[0], ids[0]), world.answer(clients[1], ids[1])];
        let won = answers.iter().filter(|said| matches!(said, Said::Reply(reply) if reply.version == Some(2))).count();
        let lost =
            answers.iter().filter(|said| matches!(said, Said::Rejection(refused) if refused.code == Code::PreconditionFailed)).count();
        assert_eq!((won, lost), (1, 1), "{answers:?}");
    }
}

#[test]
fn the_catalog_survives_a_restart() {
    for shards in [1, 3] {
        let mut world = World::new(Setup::of(8, shards));
        let client = world.client(0);
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        world.command(client, CommandKind::PutRule, Some("refunds"), REFUNDS).reply();
        let rules = world.look(client, QueryKind::Rules, None);
        for _ in 0..3 {
            world.restart(0);
            let client = world.client(shards - 1);
            assert_eq!(world.look(client, QueryKind::Rules, None), rules);
            let response = world.ask(client, &message("refund", "{}")).response();
            assert_eq!((response.catalog_version, response.rules[0].as_str()), (2, "refunds"));
        }
    }
}

#[test]
fn an_applied_change_that_was_answered_is_durable() {
    let mut world = World::new(Setup::of(9, 3));
    let client = world.client(0);
    world.nodes[0].hold_flush = true;
    let body = catalog_body(Some(RULES), Some(WORKFLOWS));
    let apply = Command { kind: CommandKind::ApplyCatalog.number(), body: Some(body.as_bytes()), ..Command::default() };
    let id = world.send(client, &apply);
    world.settle();
    world.run_ms(50);
    assert_eq!(world.took(client, id), None);
    world.restart(0);
    let client = world.client(0);
    assert_eq!(world.look(client, QueryKind::CatalogHistory, None)["catalog_version"], 0);
    assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 3);
}
