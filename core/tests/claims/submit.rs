//! Submit: what an acknowledgement means, what a resend meets, where a message goes.

use distric_core::node::shard::Note;
use distric_model::{MessageId, Slot, Timestamp};
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, QueryKind, Submit};

use crate::world::said::Response;
use crate::world::{ClientId, RULES, Said, Setup, WORKFLOWS, World, keyed, message};

fn serving(setup: Setup) -> (World, ClientId) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    (world, client)
}

fn both() -> [Setup; 3] {
    [Setup::of(21, 1), Setup::of(22, 3), Setup { is_fifo: true, ..Setup::of(23, 3) }]
}

/// What must be the same for a resend.
fn core_of(response: &Response) -> (uuid::Uuid, u64, &[String], &[uuid::Uuid]) {
    (response.message_id, response.catalog_version, &response.rules, &response.instances)
}

#[test]
fn a_message_is_acknowledged_only_after_it_is_durable() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        world.ask(client, &message("order", "{}")).response();
        world.nodes[0].hold_flush = true;
        let id = world.send(client, &message("order", "{}"));
        world.settle();
        world.run_ms(50);
        assert_eq!(world.took(client, id), None);
        world.nodes[0].hold_flush = false;
        let response = world.answer(client, id).response();
        let durable = (1..=4).any(|group| world.machine(0, group).message(MessageId::from_uuid(response.message_id).unwrap()).is_some());
        assert!(durable);
    }
}

#[test]
fn killed_before_the_flush_it_is_never_acknowledged_and_killed_after_it_is_there() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        let kept = world.ask(client, &keyed("order", r#"{"n":1}"#, "kept")).response();
        world.nodes[0].hold_flush = true;
        let lost = world.send(client, &keyed("order", r#"{"n":2}"#, "lost"));
        world.settle();
        world.restart(0);
        assert_eq!(world.took(client, lost), None);
        let client = world.client(0);
        let view = world.look(client, QueryKind::Message, Some(kept.message_id));
        assert_eq!((&view["payload"]["n"], &view["instances"][0]["id"]), (&1.into(), &kept.instances[0].to_string().into()));
        assert_eq!(world.look(client, QueryKind::Instance, Some(kept.instances[0]))["status"], "running");
        let again = world.ask(client, &Submit { resend: true, ..keyed("order", r#"{"n":1}"#, "kept") }).response();
        assert_eq!((again.outcome, core_of(&again)), (2, core_of(&kept)));
        let sent_again = world.ask(client, &Submit { resend: true, ..keyed("order", r#"{"n":2}"#, "lost") }).response();
        assert_eq!(sent_again.outcome, 1, "what was lost comes in as new");
        assert_eq!(world.count(|stats| stats.instances_started_count), 2);
    }
}

#[test]
fn a_repeat_has_the_same_ids_whether_it_says_so_or_not() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        let first = world.ask(client, &keyed("order", r#"{"n":1}"#, "key")).response();
        assert_eq!(first.outcome, 1);
        for resend in [false, true] {
            let repeat = world.ask(client, &Submit { resend, ..keyed("order", r#"{"n":1}"#, "key") }).response();
            assert_eq!((repeat.outcome, core_of(&repeat)), (2, core_of(&first)));
            for other in [keyed("order", r#"{"n":2}"#, "key"), keyed("refund", r#"{"n":1}"#, "key")] {
                assert_eq!(world.ask(client, &Submit { resend, ..other }).code(), Code::IdempotencyConflict);
            }
        }
        let elsewhere = Submit { namespace: Some("other"), ..keyed("order", r#"{"n":2}"#, "key") };
        assert_eq!(world.ask(client, &elsewhere).response().outcome, 1, "keys of namespaces do not meet");
        assert_eq!(world.count(|stats| stats.instances_started_count), 1);
    }
}

#[test]
fn a_resend_meets_its_record_before_rules_that_have_changed_since() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        let first = world.ask(client, &keyed("order", r#"{"n":1}"#, "key")).response();
        world.apply(client, Some("rules: []"), None);
        for resend in [false, true] {
            let repeat = world.ask(client, &Submit { resend, ..keyed("order", r#"{"n":1}"#, "key") }).response();
            assert_eq!((repeat.outcome, core_of(&repeat)), (2, core_of(&first)));
        }
        world.restart(0);
        let client = world.client(0);
        let repeat = world.ask(client, &Submit { resend: true, ..keyed("order", r#"{"n":1}"#, "key") }).response();
        assert_eq!((repeat.outcome, core_of(&repeat)), (2, core_of(&first)));
    }
}

#[test]
fn an_unmatched_message_is_answered_at_once_and_costs_no_entry() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        world.settle();
        let before = world.logged_all();
        world.nodes[0].hold_flush = true;
        let response = world.ask(client, &message("nothing", "{}")).response();
        assert_eq!((response.outcome, response.catalog_version), (3, 1));
        assert!(response.instances.is_empty() && response.workflows.is_empty() && response.rules.is_empty());
        world.nodes[0].hold_flush = false;
        world.run_ms(100);
        assert_eq!(world.logged_all(), before);
        assert_eq!(world.query(client, QueryKind::Message, Some(response.message_id)).code(), Code::NotFound);
    }
}

#[test]
fn unmatched_messages_are_kept_when_the_catalog_says_so() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        world.apply(client, Some(&format!("keep_unmatched: true\n{RULES}")), None);
        let response = world.ask(client, &message("nothing", r#"{"n":9}"#)).response();
        assert_eq!((response.outcome, response.workflows.len()), (1, 0));
        world.restart(0);
        let client = world.client(0);
        assert_eq!(world.look(client, QueryKind::Message, Some(response.message_id))["payload"]["n"], 9);
    }
}

#[test]
fn an_id_given_by_the_sender_lies_in_its_slot_or_is_refused() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        let home = Slot::of("default", b"key");
        let elsewhere = Slot::truncate(home.number().wrapping_add(1));
        let id = |slot, rand| Some(MessageId::new(Timestamp::from_us(crate::world::START_US), slot, rand).uuid());
        let foreign = Submit { message_id: id(elsewhere, 1), ..keyed("order", "{}", "key") };
        let refused = world.ask(client, &foreign).rejection();
        assert_eq!((refused.code, refused.field.as_deref()), (Code::BadArgument, Some("message_id")));
        let at_home = Submit { message_id: id(home, 2), ..keyed("order", "{}", "key") };
        assert_eq!(Some(world.ask(client, &at_home).response().message_id), at_home.message_id);
        let free = Submit { message_id: id(elsewhere, 3), ..message("order", "{}") };
        let response = world.ask(client, &free).response();
        assert_eq!((response.outcome, Some(response.message_id)), (1, free.message_id));
        assert_eq!(world.ask(client, &free).response().outcome, 2, "an id is a key as well");
        assert_eq!(world.ask(client, &Submit { payload: b"[]", ..free }).code(), Code::IdempotencyConflict);
        let v4 = Submit { message_id: Some(uuid::Uuid::from_u128(0x1234_4000_8000_0000)), ..message("order", "{}") };
        assert_eq!(world.ask(client, &v4).code(), Code::BadArgument);
    }
}

#[test]
fn what_breaks_a_limit_is_refused_with_field_and_limit() {
    let (mut world, client) = serving(Setup::of(2, 1));
    let long = "x".repeat(300);
    let pairs: Vec<(String, String)> = (0..64).map(|n| (format!("h{n}"), "v".to_owned())).collect();
    let ok = Submit { headers: distric_wire::Headers::of_owned(&pairs), ..message("order", "{}") };
    assert_eq!(world.ask(client, &ok).response().outcome, 1);
    for (submit, code, field) in [
        (keyed("order", "{}", ""), Code::BadArgument, "idempotency_key"),
        (keyed("order", "{}", &long), Code::TooLarge, "idempotency_key"),
        (Submit { routing_key: Some(&long), ..message("order", "{}") }, Code::TooLarge, "routing_key"),
        (Submit { source: Some(&long), ..message("order", "{}") }, Code::TooLarge, "source"),
        (Submit { content_type: Some("text/plain"), ..message("order", "{}") }, Code::BadPayload, "content_type"),
        (message("order", "nonsense"), Code::BadPayload, "payload"),
    ] {
        let refused = world.ask(client, &submit).rejection();
        assert_eq!((refused.code, refused.field.as_deref()), (code, Some(field)), "{}", refused.reason);
    }
    let cloud = Submit { content_type: Some("application/cloudevents+json; charset=utf-8"), ..message("order", "{}") };
    assert_eq!(world.ask(client, &cloud).response().outcome, 1);
}

#[test]
fn what_is_sent_as_messagepack_is_decided_and_kept_as_its_json() {
    let (mut world, client) = serving(Setup::of(27, 1));
    let packed = |payload| Submit { content_type: Some("application/msgpack"), payload, ..message("order", "") };
    // {"n": 7, "who": "é"}
    let response = world.ask(client, &packed(b"\x82\xa1n\x07\xa3who\xa2\xc3\xa9")).response();
    assert_eq!((response.outcome, response.instances.len()), (1, 1));
    let view = world.look(client, QueryKind::Message, Some(response.message_id));
    assert_eq!(view["payload"], serde_json::json!({ "n": 7, "who": "é" }));
    for (payload, part) in
        [(&b"\x81\xa1n"[..], "at byte 3"), (b"\x81\xa1n\xc4\x00", "binary"), (b"{\"n\":7}", "at byte 1: nothing may follow")]
    {
        let refused = world.ask(client, &packed(payload)).rejection();
        assert_eq!((refused.code, refused.field.as_deref()), (Code::BadPayload, Some("payload")));
        assert!(refused.reason.contains(part), "{}", refused.reason);
    }
    // Control characters take six bytes in JSON and one here.
    let mut large = vec![0x81, 0xa1, b'n', 0xdb, 0, 4, 0, 0];
    large.resize(large.len() + (4 << 16), 1);
    let refused = world.ask(client, &packed(&large)).rejection();
    assert_eq!((refused.code, refused.field.as_deref()), (Code::TooLarge, Some("payload")), "{}", refused.reason);
}

#[test]
fn a_fate_that_is_unknown_is_called_unknown_and_the_resend_learns_it() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        // Its group knows the workflow already: one entry decides.
        let other = Submit { routing_key: Some("slow"), ..message("order", "{}") };
        world.ask(client, &other).response();
        world.nodes[0].hold_flush = true;
        let id = world.send(client, &keyed("order", "{}", "slow"));
        world.settle();
        world.run_ms(10_100);
        assert_eq!(world.took(client, id).expect("patience has an end").code(), Code::OutcomeUnknown);
        world.nodes[0].hold_flush = false;
        world.run_ms(100);
        let response = world.ask(client, &Submit { resend: true, ..keyed("order", "{}", "slow") }).response();
        assert_eq!(response.outcome, 2, "it was in all the time");
        assert_eq!(world.count(|stats| stats.instances_started_count), 2);
    }
}

#[test]
fn starts_without_a_rule_are_kept_once_per_key() {
    for setup in both() {
        let (mut world, client) = serving(setup);
        let start = Command {
            kind: CommandKind::StartWorkflow.number(),
            name: Some("ship"),
            body: Some(br#"{"n":1}"#),
            idempotency_key: Some("start"),
            ..Command::default()
        };
        let first = world.ask(client, &start).reply().body;
        let again = world.ask(client, &start).reply().body;
        assert_eq!((&first["repeat"], &again["repeat"], &first["instance"]), (&false.into(), &true.into(), &again["instance"]));
        assert_eq!(world.ask(client, &Command { body: Some(b"{}"), ..start }).code(), Code::IdempotencyConflict);
        assert_eq!(world.ask(client, &Command { name: Some("none"), ..start }).code(), Code::UnknownWorkflow);
        assert_eq!(world.ask(client, &Command { body: Some(b"{"), ..start }).code(), Code::BadPayload);
        let instance = first["instance"].as_str().unwrap().parse().unwrap();
        let cancel =
            Command { kind: CommandKind::CancelInstance.number(), id: Some(instance), reason: Some("enough"), ..Command::default() };
        assert_eq!(world.ask(client, &Command { namespace: Some("other"), ..cancel }).code(), Code::NotFound);
        world.ask(client, &cancel).reply();
        assert_eq!(world.look(client, QueryKind::Instance, Some(instance))["status"], "cancelled");
        assert_eq!(world.ask(client, &cancel).code(), Code::Conflict);
    }
}

#[test]
fn a_flood_beyond_the_log_is_refused_as_overload_and_the_rest_is_served() {
    let (mut world, client) =
        serving(Setup { frames_in_flight_max: 1_000, bytes_in_flight_max: 1 << 40, work_groups: 1, ..Setup::of(3, 1) });
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000_000));
    world.nodes[0].hold_flush = true;
    let ids: Vec<u64> = (0..80).map(|_| world.send(client, &message("order", &large))).collect();
    world.settle();
    world.nodes[0].hold_flush = false;
    let answers: Vec<Said> = ids.into_iter().map(|id| world.answer(client, id)).collect();
    let refused = answers.iter().filter(|said| matches!(said, Said::Rejection(refused) if refused.code == Code::Overloaded)).count();
    let accepted = answers.iter().filter(|said| matches!(said, Said::Response(response) if response.outcome == 1)).count();
    assert_eq!(refused + accepted, 80);
    assert!(refused > 0 && accepted >= 60, "{accepted} accepted, {refused} refused");
    assert_eq!(world.count(|stats| stats.instances_started_count), accepted as u64);
}

#[test]
fn a_message_of_which_the_rules_make_more_than_a_log_takes_is_refused_for_good() {
    let actions = r#"{ workflow: ship, params: { all: "${blob}" } }"#;
    let rules = format!("rules:\n  - id: orders\n    event_type: order\n    actions: [{}]\n", [actions; 8].join(", "));
    let mut world = World::new(Setup { bytes_in_flight_max: 1 << 24, ..Setup::of(77, 1) });
    let client = world.client(0);
    world.apply(client, Some(&rules), Some(WORKFLOWS));
    let payload = format!(r#"{{"blob":"{}"}}"#, "x".repeat(900_000));
    let Said::Rejection(refused) = world.ask(client, &message("order", &payload)) else { panic!("eight copies of it fit in no entry") };
    assert_eq!((refused.code, refused.retry_after_ms), (Code::TooLarge, None), "coming back would not help: {refused:?}");
    assert_eq!(refused.limit.map(|(name, _)| name).as_deref(), Some("command_bytes_max"));
    assert!(world.nodes[0].notes.iter().any(|note| matches!(note, Note::CommandTooLarge { .. })));
    // The group goes on.
    let payload = format!(r#"{{"blob":"{}"}}"#, "x".repeat(90_000));
    assert_eq!(world.ask(client, &message("order", &payload)).response().instances.len(), 8);
}
