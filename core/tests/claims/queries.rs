//! Queries: lists without gaps or repeats, reasons for what is not found, and streams of events.

use std::collections::BTreeSet;

use distric_model::{InstanceId, MessageId, Slot, TaskId, Timestamp};
use distric_wire::Code;
use distric_wire::client::{Query, QueryKind, Submit, Subscribe, SubscribeKind};
use serde_json::Value;
use uuid::Uuid;

use crate::world::{ClientId, Ending, RULES, Said, Setup, WORKFLOWS, World, diligent, holding, message};

fn serving(setup: Setup) -> (World, ClientId) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    (world, client)
}

/// Walks a list to its end; asserts that rows come in order and none twice.
fn walk(world: &mut World, client: ClientId, query: &Query<'_>) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let reply = world.ask(client, &Query { cursor: cursor.as_deref(), ..*query }).reply();
        let items = reply.body["items"].as_array().unwrap();
        assert!(items.len() <= query.limit.unwrap_or(100) as usize);
        assert_eq!(reply.body["next_cursor"].as_str(), reply.next_cursor.as_deref());
        rows.extend(items.iter().cloned());
        cursor = reply.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "in order of id, each once");
    rows
}

#[test]
fn a_walk_over_all_groups_meets_everything_exactly_once() {
    for shards in [1, 3] {
        let (mut world, client) = serving(Setup::of(51, shards));
        let mut ids = Vec::new();
        for n in 0..230 {
            let submit = Submit { namespace: (n % 10 == 0).then_some("other"), ..message("order", "{}") };
            ids.push((n % 10 != 0, world.send(client, &submit)));
            if n % 7 == 0 {
                world.run_ms(3);
            }
        }
        let mut instances = BTreeSet::new();
        for (counts, id) in ids {
            let response = world.answer(client, id).response();
            instances.extend(response.instances.iter().filter(|_| counts).map(Uuid::to_string));
        }
        let found = |rows: Vec<Value>| rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
        for limit in [1, 7, 100, 1_000] {
            let all = Query { kind: QueryKind::Instances.number(), limit: Some(limit), ..Query::default() };
            assert_eq!(found(walk(&mut world, client, &all)), instances);
            let tasks = walk(&mut world, client, &Query { kind: QueryKind::Tasks.number(), status: Some("ready"), ..all });
            assert_eq!(tasks.len(), instances.len());
        }
        let none = Query { kind: QueryKind::Tasks.number(), status: Some("completed"), ..Query::default() };
        assert_eq!(walk(&mut world, client, &none).len(), 0);
        let by_name = Query { kind: QueryKind::Instances.number(), name: Some("other"), ..Query::default() };
        assert_eq!(walk(&mut world, client, &by_name).len(), 0);
        let foreign = Query { cursor: Some("page-2"), ..by_name };
        assert_eq!(world.ask(client, &foreign).rejection().field.as_deref(), Some("cursor"));
    }
}

#[test]
fn what_is_not_there_is_not_found_with_a_reason() {
    for shards in [1, 3] {
        let (mut world, client) = serving(Setup::of(52, shards));
        let response = world.ask(client, &message("order", "{}")).response();
        let (at, slot) = (Timestamp::from_us(1), Slot::truncate(77));
        for (kind, id) in [
            (QueryKind::Message, MessageId::new(at, slot, 1).uuid()),
            (QueryKind::Instance, InstanceId::new(at, slot, 1).uuid()),
            (QueryKind::Task, TaskId::new(at, slot, 1).uuid()),
            (QueryKind::WhyTask, TaskId::new(at, slot, 1).uuid()),
        ] {
            let refused = world.query(client, kind, Some(id)).rejection();
            assert_eq!(refused.code, Code::NotFound);
            assert!(refused.reason.contains(&id.to_string()), "{}", refused.reason);
            assert_eq!(world.query(client, kind, None).code(), Code::BadArgument);
        }
        for (kind, id) in [(QueryKind::Message, response.message_id), (QueryKind::Instance, response.instances[0])] {
            let elsewhere = Query { kind: kind.number(), id: Some(id), namespace: Some("other"), ..Query::default() };
            assert_eq!(world.ask(client, &elsewhere).code(), Code::NotFound, "namespaces do not see each other");
        }
        for kind in [QueryKind::Rule, QueryKind::WorkflowDefinition] {
            assert_eq!(world.ask(client, &Query { kind: kind.number(), name: Some("none"), ..Query::default() }).code(), Code::NotFound);
            assert_eq!(world.query(client, kind, None).code(), Code::BadArgument);
        }
    }
}

#[test]
fn a_task_can_be_asked_why() {
    let (mut world, client) = serving(Setup::of(53, 3));
    let instance = world.ask(client, &message("order", "{}")).response().instances[0];
    let task: Uuid = world.look(client, QueryKind::Instance, Some(instance))["tasks"][0]["id"].as_str().unwrap().parse().unwrap();
    let why = |world: &mut World| world.look(client, QueryKind::WhyTask, Some(task))["blockers"][0]["kind"].as_str().unwrap().to_owned();
    assert_eq!(why(&mut world), "no_worker_offers_type");
    let worker = world.worker(1, &["job"], holding());
    world.until(5_000, "the task runs", |world| !world.workers[worker].running().is_empty());
    assert_eq!(why(&mut world), "assigned_to");
    assert_eq!(world.look(client, QueryKind::Task, Some(task))["worker"], world.workers[worker].id.to_string());
}

#[test]
fn the_cluster_tells_its_state() {
    for shards in [1, 3] {
        let (mut world, client) = serving(Setup::of(54, shards));
        let status = world.look(client, QueryKind::ClusterStatus, None);
        let groups: Vec<&str> = status["groups"].as_array().unwrap().iter().map(|group| group["group"].as_str().unwrap()).collect();
        assert_eq!(groups, ["meta", "work-1", "work-2", "work-3", "work-4"]);
        assert_eq!((&status["catalog_version"], &status["workers"]), (&1.into(), &0.into()));
        assert_eq!(status["leader"], world.nodes[0].id.to_string());
        assert_eq!(world.look(client, QueryKind::Nodes, None)["items"].as_array().unwrap().len(), 1);
        assert_eq!(world.look(client, QueryKind::Health, None)["status"], "DEGRADED", "no worker");
        world.worker(0, &["job"], diligent(1));
        world.run_ms(100);
        assert_eq!(world.look(client, QueryKind::Health, None)["status"], "UP");
        assert_eq!(world.look(client, QueryKind::ClusterStatus, None)["workers"], 1);
        let workers = world.look(client, QueryKind::Workers, None);
        assert_eq!((workers["items"].as_array().unwrap().len(), &workers["items"][0]["status"]), (1, &"up".into()));
    }
}

fn follow(world: &mut World, client: ClientId, instance: Uuid) -> u64 {
    world.send(client, &Subscribe { kind: SubscribeKind::Instance.number(), namespace: None, id: instance })
}

/// Kinds, in order; asserts that indexes never go back and that only the last event says so.
fn story(events: &[Said]) -> Vec<String> {
    let mut before = 0;
    let mut kinds = Vec::new();
    for (n, said) in events.iter().enumerate() {
        let Said::Event { index, kind, last, .. } = said else { panic!("{said:?}") };
        assert!(*index >= before && (!*last || n + 1 == events.len()));
        before = *index;
        kinds.push(kind.clone());
    }
    kinds
}

#[test]
fn a_follower_gets_the_history_then_what_happens_then_the_end() {
    for (seed, shards) in [(1, 1), (2, 3), (3, 3), (4, 3)] {
        let (mut world, client) = serving(Setup::of(seed, shards));
        let worker = world.worker(0, &["job"], holding());
        let instance = world.ask(client, &message("order", "{}")).response().instances[0];
        world.until(5_000, "the task runs", |world| !world.workers[worker].running().is_empty());
        let followers: Vec<(ClientId, u64)> = (0..shards)
            .map(|shard| {
                let follower = world.client(shard);
                (follower, follow(&mut world, follower, instance))
            })
            .collect();
        world.run_ms(20);
        let key = world.workers[worker].running()[0];
        world.finish(worker, key, Ending::Done(0, "{}".to_owned()));
        world.ended(client, instance, 5_000);
        world.run_ms(20);
        let late = world.client(shards - 1);
        let id = follow(&mut world, late, instance);
        world.run_ms(20);
        let whole = world.took_all(late, id);
        assert!(matches!(whole.last(), Some(Said::Event { last: true, .. })));
        let whole = story(&whole);
        assert_eq!(whole.last().map(String::as_str), Some("workflow.completed"));
        for (follower, id) in followers {
            let events = world.took_all(follower, id);
            assert!(matches!(events.last(), Some(Said::Event { last: true, .. })));
            assert_eq!(story(&events), whole, "no gap and no repeat between history and what happened since");
        }
    }
}

#[test]
fn followers_that_hang_up_are_forgotten() {
    let (mut world, client) = serving(Setup::of(5, 3));
    let instance = world.ask(client, &message("order", "{}")).response().instances[0];
    for n in 0..600 {
        let follower = world.client(n % 3);
        let id = follow(&mut world, follower, instance);
        world.run_ms(1);
        for said in world.took_all(follower, id) {
            assert!(matches!(said, Said::Event { .. }), "follower {n}: {said:?}");
        }
        world.close(follower);
        world.run_ms(1);
    }
    let none = InstanceId::new(Timestamp::from_us(1), Slot::truncate(3), 1).uuid();
    let id = follow(&mut world, client, none);
    assert_eq!(world.answer(client, id).code(), Code::NotFound);
}
