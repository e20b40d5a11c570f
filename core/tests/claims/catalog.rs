//! The catalog: atomic changes, each checked before it counts, in use everywhere when it is answered.

use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, Query, QueryKind};
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
    let call = |workflow: &str| {
        format!("workflow: {{ id: ship, tasks: [\n  {{ id: a, type: sub_workflow, config: {{ workflow: {workflow} }} }}] }}")
    };
    for (called, said) in [("sail", "there is no workflow `sail`"), ("ship", "the workflows call each other: ship -> ship")] {
        let refused = world.command(client, CommandKind::ApplyCatalog, None, &catalog_body(None, Some(&call(called)))).rejection();
        assert_eq!((refused.code, refused.at), (Code::BadCatalog, Some((2, 52))), "{}", refused.reason);
        assert!(refused.reason.contains("workflows.yaml") && refused.reason.contains(said), "{}", refused.reason);
    }
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

fn named(world: &mut World, client: usize, rule: &str) -> serde_json::Value {
    world.ask(client, &Query { kind: QueryKind::Rule.number(), name: Some(rule), ..Query::default() }).reply().body
}

fn by_version(kind: CommandKind, version: u64) -> Command<'static> {
    Command { kind: kind.number(), version: Some(version), ..Command::default() }
}

#[test]
fn a_rule_is_switched_off_and_on() {
    let mut world = World::new(Setup::of(10, 3));
    let client = world.client(1);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    let before = named(&mut world, client, "orders");
    assert_eq!(world.command(client, CommandKind::DisableRule, Some("orders"), "").reply().version, Some(2));
    assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 3);
    assert_eq!(named(&mut world, client, "orders")["enabled"], false);
    assert_eq!(world.command(client, CommandKind::DisableRule, Some("orders"), "").reply().version, Some(2), "it is off already");
    assert_eq!(world.command(client, CommandKind::EnableRule, Some("orders"), "").reply().version, Some(3));
    assert_eq!(world.ask(client, &message("order", "{}")).response().rules, ["orders"]);
    assert_eq!(named(&mut world, client, "orders")["actions"], before["actions"]);
    assert_eq!(world.command(client, CommandKind::EnableRule, Some("nothing"), "").code(), Code::NotFound);
    assert_eq!(world.command(client, CommandKind::EnableRule, None, "").code(), Code::BadArgument);
}

#[test]
fn a_rollback_makes_a_new_version_of_an_old_one() {
    let mut world = World::new(Setup::of(11, 3));
    let client = world.client(2);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    world.command(client, CommandKind::PutRule, Some("refunds"), REFUNDS).reply();
    world.command(client, CommandKind::DeleteRule, Some("orders"), "").reply();
    assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 3);
    let dry = world.ask(client, &Command { dry_run: true, ..by_version(CommandKind::RollbackCatalog, 1) }).reply();
    assert_eq!((dry.version, &dry.body["rules_changed"], &dry.body["rules_removed"]), (Some(3), &json!(["orders"]), &json!(["refunds"])));
    assert_eq!(world.ask(client, &by_version(CommandKind::RollbackCatalog, 1)).reply().version, Some(4));
    let response = world.ask(client, &message("order", "{}")).response();
    assert_eq!((response.catalog_version, response.rules[0].as_str()), (4, "orders"));
    assert_eq!(world.ask(client, &message("refund", "{}")).response().outcome, 3);
    let history = world.look(client, QueryKind::CatalogHistory, None);
    assert_eq!(history["items"][0]["reason"], "rollback to version 1");
    // A rollback is a change like any other: it can be rolled back.
    assert_eq!(world.ask(client, &by_version(CommandKind::RollbackCatalog, 2)).reply().version, Some(5));
    assert_eq!(world.ask(client, &message("refund", "{}")).response().rules, ["refunds"]);
    assert_eq!(world.ask(client, &by_version(CommandKind::RollbackCatalog, 9)).code(), Code::NotFound);
    let no_version = Command { kind: CommandKind::RollbackCatalog.number(), ..Command::default() };
    assert_eq!(world.ask(client, &no_version).code(), Code::BadArgument);
    // The empty catalog was a version too.
    assert_eq!(world.ask(client, &by_version(CommandKind::RollbackCatalog, 0)).reply().version, Some(6));
    assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 3);
    assert_eq!(world.command(client, CommandKind::StartWorkflow, Some("ship"), "{}").code(), Code::UnknownWorkflow);
}

#[test]
fn an_export_in_pages_is_the_catalog_as_it_was() {
    let mut world = World::new(Setup::of(12, 2));
    let client = world.client(1);
    let filler = "x".repeat(9_000);
    let rules: Vec<String> = (0..100)
        .map(|n| format!("  - {{ id: r{n:03}, description: {filler}, event_type: e{n}, actions: [{{ workflow: ship }}] }}"))
        .collect();
    let text = format!("fail_fast: true\nrules:\n{}\n", rules.join("\n"));
    assert_eq!(world.apply(client, Some(&text), Some(WORKFLOWS)), 1);
    for (n, version) in (100..150).zip(2..) {
        let rule = format!("{{ id: r{n}, description: {filler}, event_type: e{n}, actions: [{{ workflow: ship }}] }}");
        assert_eq!(world.command(client, CommandKind::PutRule, None, &rule).reply().version, Some(version));
    }
    let mut export = |version: Option<u64>| {
        let (mut ids, mut workflows, mut cursor, mut pages) = (Vec::new(), Vec::new(), None::<String>, 0);
        loop {
            let query = Query { kind: QueryKind::CatalogExport.number(), version, cursor: cursor.as_deref(), ..Query::default() };
            let reply = world.ask(client, &query).reply();
            assert_eq!(reply.version, Some(version.unwrap_or(51)));
            assert_eq!(reply.body.get("options"), (pages == 0).then(|| json!({"fail_fast": true})).as_ref());
            let names = |list: &str| -> Vec<String> {
                reply.body[list].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
            };
            ids.extend(names("rules"));
            workflows.extend(names("workflows"));
            pages += 1;
            match reply.next_cursor {
                Some(next) => cursor = Some(next),
                None => return (ids, workflows, pages),
            }
        }
    };
    let (ids, workflows, pages) = export(None);
    assert_eq!((ids.len(), workflows), (150, vec!["ship".to_owned()]));
    assert!(pages >= 3 && ids.is_sorted(), "{pages} pages");
    let (then, workflows, _) = export(Some(1));
    assert_eq!((&then[..], workflows.len()), (&ids[..100], 1));
    assert_eq!(
        world.ask(client, &Query { kind: QueryKind::CatalogExport.number(), version: Some(52), ..Query::default() }).code(),
        Code::NotFound
    );
    for cursor in ["", "x", "1:rules:a", "1:rule", "-1:rule:a"] {
        let query = Query { kind: QueryKind::CatalogExport.number(), cursor: Some(cursor), ..Query::default() };
        assert_eq!(world.ask(client, &query).code(), Code::BadArgument, "{cursor:?}");
    }
}

#[test]
fn matches_are_counted_over_versions_and_cores() {
    let mut world = World::new(Setup::of(13, 3));
    let clients: Vec<usize> = (0..3).map(|shard| world.client(shard)).collect();
    world.apply(clients[0], Some(RULES), Some(WORKFLOWS));
    let counted = |world: &mut World| {
        let mut found = world.look(clients[1], QueryKind::RuleStatistics, None);
        // Each rule has its part of the work; how it is reckoned is tested where that is done.
        let items = found["items"].as_array_mut().unwrap().iter_mut();
        let shares = items.map(|item| item.as_object_mut().unwrap().remove("cost_share").unwrap());
        let sum: f64 = shares.filter_map(|share| share.as_f64()).sum();
        assert!(sum == 0.0 || (sum - 1.0).abs() < 1e-3, "{sum}");
        found
    };
    assert_eq!(counted(&mut world), json!({ "messages": 0, "rules_matched_count": 0, "items": [] }));
    for (n, client) in (0..9).zip(clients.iter().cycle()) {
        world.ask(*client, &message(if n < 6 { "order" } else { "refund" }, "{}")).response();
    }
    let orders = |evaluated: u64, matched: u64| json!({ "rule": "orders", "evaluated": evaluated, "matched": matched, "errors": 0 });
    assert_eq!(counted(&mut world)["items"], json!([orders(9, 6)]));
    // Places move with another version; what was counted stays with the rule.
    let first = "{ id: a-first, event_type: refund, priority: 9, transform: [{ compute: x, expr: \"missing + 1\" }] }";
    world.command(clients[0], CommandKind::PutRule, None, first).reply();
    for client in &clients {
        world.ask(*client, &message("order", "{}")).response();
        world.ask(*client, &message("refund", "{}")).response();
    }
    let items = counted(&mut world)["items"].clone();
    assert_eq!(items, json!([orders(15, 9), { "rule": "a-first", "evaluated": 15, "matched": 3, "errors": 3 }]));
    world.command(clients[2], CommandKind::DeleteRule, Some("a-first"), "").reply();
    assert_eq!(counted(&mut world)["items"], json!([orders(15, 9)]));
}
