//! Connections: greetings, limits, credit, refusals.

use distric_core::node::letters::ShardLetter;
use distric_wire::client::{Command, Hello, Ping, Pong, Query, QueryKind, Submit, SubmitBatch};
use distric_wire::{Code, Flags, Items};

use crate::world::node::{Actor, Letter};
use crate::world::{ClientId, RULES, Said, Setup, WORKFLOWS, World, diligent, hello, keyed, message};

/// A world with rules, and a client on its last shard.
fn serving(setup: Setup) -> (World, ClientId) {
    let last = setup.shards - 1;
    let mut world = World::new(setup);
    let client = world.client(last);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    (world, client)
}

#[test]
fn a_client_is_welcomed_and_served_on_any_shard() {
    for (seed, shards) in [(1, 1), (2, 3), (3, 3)] {
        let (mut world, client) = serving(Setup::of(seed, shards));
        assert_eq!(world.ask(client, &Ping { token: 5 }), Said::Pong(5));
        for shard in 0..shards {
            let other = world.client(shard);
            let response = world.ask(other, &message("order", r#"{"n":1}"#)).response();
            assert_eq!((response.outcome, response.catalog_version), (1, 1));
            assert_eq!((response.rules, response.workflows), (vec!["orders".to_owned()], vec!["ship".to_owned()]));
            assert_eq!(response.instances.len(), 1);
        }
    }
}

#[test]
fn strangers_say_hello_in_a_known_version_or_are_shown_the_door() {
    let mut world = World::new(Setup::of(1, 1));
    let stranger = world.stranger(0, 0);
    assert_eq!(world.ask(stranger, &Ping { token: 1 }).code(), Code::NotHello);
    let stranger_to_versions = world.stranger(0, 0);
    let future = Hello { version_min: 2, version_max: 9, ..hello() };
    assert_eq!(world.ask(stranger_to_versions, &future).code(), Code::UnsupportedVersion);
    let noise = world.stranger(0, 0);
    world.send_raw(noise, b"GET / HTTP/1.1\r\n\r\n".to_vec());
    world.settle();
    assert_eq!(world.took(noise, 0).expect("a last word").code(), Code::BadFrame);
    let large = world.stranger(0, 0);
    let frame = message("order", &"x".repeat(80 << 10)).payload.to_vec();
    let id = world.send(large, &Submit { payload: &frame, ..Submit::default() });
    world.settle();
    assert_eq!(world.took(large, id).expect("a last word").code(), Code::TooLarge);
    for gone in [stranger, stranger_to_versions, noise, large] {
        assert!(!world.clients[gone].is_open);
    }
    let friend = world.client(0);
    assert_eq!(world.ask(friend, &hello()).code(), Code::BadMessage, "once is enough");
    assert!(world.clients[friend].is_open);
}

#[test]
fn a_stranger_that_says_nothing_is_shown_out_and_a_client_is_not() {
    let mut world = World::new(Setup::of(4, 1));
    let (stranger, friend) = (world.stranger(0, 0), world.client(0));
    world.run_ms(9_000);
    assert!(world.clients[stranger].is_open, "ten seconds are granted");
    world.run_ms(3_000);
    assert!(!world.clients[stranger].is_open && world.clients[friend].is_open);
}

#[test]
fn what_is_no_request_is_refused_by_name_and_the_connection_lives_on() {
    let (mut world, client) = serving(Setup::of(1, 1));
    let mut unknown = Vec::new();
    distric_wire::encode(&Ping { token: 1 }, 70, 0, Flags::NONE, &mut unknown);
    let (frame, _) = distric_wire::parse(&unknown, distric_wire::FrameLimits::AUTHENTICATED).unwrap().unwrap();
    let mut header = distric_wire::Header { message_type: 0x4fff, ..frame.header };
    header.crc32 = header.crc32_of(frame.payload);
    unknown.splice(..distric_wire::HEADER_BYTES, header.to_bytes());
    world.send_raw(client, unknown);
    assert_eq!(world.answer(client, 70).code(), Code::UnknownKind);
    assert_eq!(world.ask(client, &Query { kind: 999, ..Query::default() }).code(), Code::UnknownKind);
    assert_eq!(world.ask(client, &Command { kind: 999, ..Command::default() }).code(), Code::UnknownKind);
    assert_eq!(world.ask(client, &Query { kind: QueryKind::Message.number(), ..Query::default() }).code(), Code::BadArgument);
    let bad_name = Submit { namespace: Some("Not A Name"), ..message("order", "{}") };
    assert_eq!(world.ask(client, &bad_name).rejection().field.as_deref(), Some("namespace"));
    let pong = world.send(client, &Pong { token: 3 });
    world.settle();
    assert_eq!(world.took(client, pong), None, "a pong is no request");
    assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 1);
}

#[test]
fn more_requests_than_granted_are_refused_and_answers_give_credit_back() {
    let (mut world, client) = serving(Setup { frames_in_flight_max: 4, ..Setup::of(5, 3) });
    for _ in 0..3 {
        world.nodes[0].hold_flush = true;
        let ids: Vec<u64> = (0..6).map(|_| world.send(client, &message("order", "{}"))).collect();
        world.settle();
        for id in &ids[4..] {
            let refused = world.took(client, *id).expect("refused at once").rejection();
            assert_eq!((refused.code, refused.limit), (Code::TooManyInFlight, Some(("frames_in_flight_max".to_owned(), 4))));
            assert!(refused.retry_after_ms.is_some());
        }
        assert!(ids[..4].iter().all(|id| world.took(client, *id).is_none()));
        world.nodes[0].hold_flush = false;
        for id in &ids[..4] {
            assert_eq!(world.answer(client, *id).response().outcome, 1);
        }
    }
}

#[test]
fn bytes_in_flight_are_bounded_but_one_message_always_passes() {
    let (mut world, client) = serving(Setup { bytes_in_flight_max: 1_000, ..Setup::of(5, 1) });
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(2_000));
    assert_eq!(world.ask(client, &message("order", &large)).response().outcome, 1);
    world.nodes[0].hold_flush = true;
    let first = world.send(client, &message("order", &large));
    let second = world.send(client, &message("order", "{}"));
    world.settle();
    let refused = world.took(client, second).expect("refused at once").rejection();
    assert_eq!((refused.code, refused.limit), (Code::TooManyInFlight, Some(("bytes_in_flight_max".to_owned(), 1_000))));
    world.nodes[0].hold_flush = false;
    assert_eq!(world.answer(client, first).response().outcome, 1);
    assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 1);
}

#[test]
fn a_rate_limit_refuses_with_the_time_to_wait() {
    let mut world = World::new(Setup { requests_per_second: Some(10), ..Setup::of(5, 1) });
    let client = world.client(0);
    let health = Query { kind: QueryKind::Health.number(), ..Query::default() };
    let answers: Vec<Said> = (0..12).map(|_| world.ask(client, &health)).collect();
    let refused: Vec<_> =
        answers.into_iter().filter_map(|said| if let Said::Rejection(refused) = said { Some(refused) } else { None }).collect();
    assert_eq!(refused.len(), 2, "a burst of one second passes");
    assert_eq!((refused[0].code, &refused[0].limit), (Code::RateLimited, &Some(("requests_per_second".to_owned(), 10))));
    world.run_ms(refused[1].retry_after_ms.expect("a time to wait"));
    world.ask(client, &health).reply();
    assert_eq!(world.ask(client, &health).code(), Code::RateLimited);
}

#[test]
fn a_draining_node_finishes_what_it_has_and_refuses_the_rest() {
    for shards in [1, 3] {
        let (mut world, client) = serving(Setup::of(9, shards));
        world.worker(0, &["job"], diligent(5));
        world.ask(client, &message("order", "{}")).response();
        world.run_ms(500);
        world.nodes[0].hold_flush = true;
        let in_flight = world.send(client, &message("order", "{}"));
        world.settle();
        for shard in 0..shards {
            world.nodes[0].lanes.push(Actor::Compiler, Actor::Shard(shard), 1, Letter::Shard(ShardLetter::Drain));
        }
        world.settle();
        assert_eq!(world.took(client, 0), Some(Said::GoAway));
        let refused = world.ask(client, &message("order", "{}")).rejection();
        assert_eq!(refused.code, Code::Draining);
        assert!(refused.retry_after_ms.is_some());
        world.nodes[0].hold_flush = false;
        assert_eq!(world.answer(client, in_flight).response().outcome, 1);
        world.look(client, QueryKind::ClusterStatus, None);
        world.until(100, "a drained node is idle at once", |world| world.nodes[0].is_idle());
    }
}

#[test]
fn a_batch_is_answered_item_by_item() {
    for shards in [1, 3] {
        let (mut world, client) = serving(Setup::of(4, shards));
        let payloads = [
            item(&message("order", r#"{"n":1}"#)),
            item(&message("nothing", "{}")),
            item(&message("order", "{broken")),
            vec![0xff, 0xff, 0xff],
            item(&keyed("order", r#"{"n":2}"#, "k1")),
            item(&keyed("order", r#"{"n":2}"#, "k1")),
            item(&keyed("order", r#"{"n":3}"#, "k1")),
            item(&Submit { resend: true, ..keyed("order", r#"{"n":4}"#, "k2") }),
        ];
        let items: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let Said::Batch(answers) = world.ask(client, &SubmitBatch { messages: Items::of(&items) }) else { panic!("no batch") };
        let short: Vec<String> = answers.iter().map(short).collect();
        assert_eq!(short, ["1", "3", "bad_payload", "bad_message", "1", "2", "idempotency_conflict", "1"]);
        let (Said::Response(first), Said::Response(again)) = (&answers[4], &answers[5]) else { panic!() };
        assert_eq!((first.message_id, &first.instances), (again.message_id, &again.instances));
        assert_eq!(world.ask(client, &SubmitBatch::default()).code(), Code::BadArgument);
    }
}

fn item(submit: &Submit<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    submit.encode_payload(&mut bytes);
    bytes
}

fn short(said: &Said) -> String {
    match said {
        Said::Response(response) => response.outcome.to_string(),
        Said::Rejection(rejection) => rejection.code.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn credit_never_leaks() {
    let max = 8;
    let (mut world, client) = serving(Setup { frames_in_flight_max: max, bytes_in_flight_max: 64 << 10, ..Setup::of(11, 3) });
    let mut waiting: Vec<u64> = Vec::new();
    for n in 0..4_000_u64 {
        let payload = format!(r#"{{"n":{n}}}"#);
        let (key, other) = (format!("k{}", n % 97), item(&message("order", &payload)));
        let id = match world.draw(10) {
            0 => world.send(client, &message("nothing", &payload)),
            1 => world.send(client, &message("order", "{broken")),
            2 => world.send(client, &Submit { resend: true, ..keyed("order", r#"{"n":0}"#, &key) }),
            3 => world.send(client, &keyed("order", &payload, &key)),
            4 => world.send(client, &Query { kind: QueryKind::Tasks.number(), limit: Some(3), ..Query::default() }),
            5 => world.send(client, &Query { kind: 500, ..Query::default() }),
            6 => world.send(client, &Command { kind: 1, name: Some("missing"), ..Command::default() }),
            7 => world.send(client, &SubmitBatch { messages: Items::of(&[&other, b"\xff", &other]) }),
            8 => world.send(client, &Query { kind: QueryKind::ClusterStatus.number(), ..Query::default() }),
            _ => world.send(client, &message("order", &payload)),
        };
        waiting.push(id);
        if waiting.len() == max as usize {
            for id in waiting.drain(..) {
                match world.answer(client, id) {
                    Said::Rejection(refused) => assert_ne!(refused.code, Code::TooManyInFlight, "request {n}"),
                    Said::Gone => panic!("the connection was closed"),
                    _ => {}
                }
            }
        }
    }
    for id in waiting {
        world.answer(client, id);
    }
    assert!(world.clients[client].got.is_empty(), "every request has one answer: {:?}", world.clients[client].got);
    world.nodes[0].hold_flush = true;
    let ids: Vec<u64> = (0..=max).map(|_| world.send(client, &message("order", "{}"))).collect();
    world.settle();
    let refused: Vec<u64> = ids.iter().copied().filter(|id| world.took(client, *id).is_some()).collect();
    assert_eq!(refused, ids[max as usize..], "the whole credit is there, and no more");
}
