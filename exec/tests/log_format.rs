//! The form of commands in the log is for ever: what an older version wrote is read by every newer one.

mod support;

use std::sync::Arc;

use distric_exec::command::*;
use distric_exec::definition::{GateRule, WhenFull};
use distric_exec::machine::SignalKey;
use distric_exec::machine::admission::{Ask, GateKey, Leave, Told, Word};
use distric_exec::{Octets, OutBody, Sent, Settings};
use distric_model::{Capacity, Elsewhere, GroupId, InstanceId, MessageId, Namespace, Needs, Slot, TaskId, Timestamp};
use support::{namespace, worker};

/// One of each, all fields told apart.
fn one_of_each() -> Vec<Command> {
    let at = Timestamp::from_us(1_700_000_000_000_000);
    let slot = Slot::truncate(0x123);
    let retry = Retry { max_attempts: 4, initial_backoff_ms: 100, multiplier_permille: 1_500, max_backoff_ms: 9_000, jitter_permille: 50 };
    let ingest = Ingest {
        namespace: Namespace::new("team-a").unwrap(),
        message_id: MessageId::new(at, slot, 1),
        event_type: Some(Arc::from("payment")),
        source: None,
        timestamp_us: Some(5),
        headers: vec![("a".into(), "b".into())],
        content_type: Some("application/json".into()),
        payload: Octets::from("{\"amount\":1}"),
        derived: Some(Octets::from("{\"amount\":2}")),
        routing_key: Some("r".into()),
        idempotency_key: Some(Arc::from("k")),
        payload_hash: u64::MAX,
        traceparent: Some(Arc::from("00-1-2-01")),
        received_us: 6,
        catalog_version: 7,
        rules: vec![Arc::from("r1"), Arc::from("r2")],
        actions: vec![StartAction {
            rule: Arc::from("r1"),
            workflow: Arc::from("w"),
            version: 3,
            params: Octets::from("{}"),
            timeout_ms: Some(8),
            retry: Some(retry),
            delay_ms: 9,
            ordering_key: Some(Arc::from("o")),
            concurrency: Some((Arc::from("c"), 2)),
            pins: Vec::new(),
        }],
        hops: 3,
    };
    let start = Start {
        namespace: namespace(),
        slot,
        workflow: Arc::from("w"),
        version: 3,
        input: Octets::from("[1]"),
        idempotency_key: None,
        payload_hash: 1,
        timeout_ms: None,
        retry: None,
        delay_ms: 0,
        traceparent: None,
        received_us: 2,
        pins: Vec::new(),
    };
    let elsewhere = Some(Elsewhere { number: 4, taken: Needs { cpu_millis: 250, memory_mib: 512 } });
    let pins = || vec![(Arc::from("a"), 4), (Arc::from("b"), 5)];
    let done = |outcome| {
        let task = TaskId::new(at, slot, 2);
        Command::TaskDone(Box::new(TaskDone { task, attempt: 2, fencing_token: 17, outcome, renew_credit: true, elsewhere: None }))
    };
    let instance = InstanceId::new(at, slot, 3);
    let task = TaskId::new(at, slot, 2);
    let key = SignalKey { namespace: namespace(), key: Arc::from("k"), name: Arc::from("n") };
    let operate = |operation| Command::Operate(Box::new(Operate { namespace: namespace(), instance, operation, reason: "r".into() }));
    let gate = GateKey { namespace: namespace(), key: Arc::from("k"), scope: Arc::from("concurrency:w") };
    let told = |word| Told { gate: gate.clone(), instance, place: 1, round: 2, word };
    let relay = |body| Command::Relay(Box::new(Relay { from: GroupId(4), seq: 5, body, floor: 0 }));
    vec![
        Command::Define(Define { namespace: namespace(), workflow: Arc::from("w"), version: 3, body: Octets::from("{\"id\":\"w\"}") }),
        Command::Ingest(Box::new(ingest.clone())),
        Command::Start(Box::new(start.clone())),
        done(TaskOutcome::Completed { output: Octets::from("null") }),
        done(TaskOutcome::Failed { code: "c".into(), error: "e".into(), retryable: true, retry_after_ms: Some(4) }),
        done(TaskOutcome::Returned { reason: "full".into() }),
        Command::WorkerUp(Box::new(support::session(1, 2, 3, &["job"], &[("zone", "eu")]))),
        Command::WorkerCredit(WorkerCredit { worker: worker(1), generation: 2, amount: -5, elsewhere: None }),
        Command::WorkerDown(WorkerDown { worker: worker(1), generation: 2 }),
        Command::WorkerDrain(WorkerDrain { worker: worker(1), drain: true }),
        Command::Tick,
        Command::Continue,
        Command::In(Box::new(In { from: GroupId(4), seq: 5, body: ingest.clone(), floor: 0 })),
        Command::OutAck(OutAck {
            seq: 5,
            result: OutResult::Accepted { message_id: MessageId::new(at, slot, 1), instances: vec![(Arc::from("w"), instance)] },
        }),
        Command::OutAck(OutAck { seq: 6, result: OutResult::Refused { code: "c".into(), reason: "r".into() } }),
        Command::Cancel(Cancel { namespace: namespace(), instance, reason: "why".into() }),
        Command::RaiseVersion(2),
        Command::Configure(Settings::default()),
        Command::Noop,
        Command::Signal(Box::new(Signal {
            namespace: namespace(),
            name: Arc::from("n"),
            key: Some(Arc::from("k")),
            instance: Some(instance),
            payload: Octets::from("1"),
            ttl_ms: Some(2),
            idempotency_key: Some(Arc::from("i")),
            payload_hash: 3,
        })),
        relay(OutBody::Await { key: key.clone(), task, round: 1 }),
        relay(OutBody::StopAwaiting { task, round: 1 }),
        relay(OutBody::Deliver { task, signal: Box::new(Sent { key, payload: Octets::from("1"), expires_at: at }) }),
        Command::OutAck(OutAck { seq: 7, result: OutResult::Done }),
        operate(Operation::Pause),
        operate(Operation::Resume),
        operate(Operation::Retry { from: Some(Arc::from("a")), input: Some(Octets::from("1")), version: Some(2), pins: Vec::new() }),
        relay(OutBody::Ask(Box::new(Ask {
            gate: gate.clone(),
            rule: GateRule::Rate { limit: 1, per_ms: 2, burst: 3, when_full: WhenFull::DropNewest },
            instance,
            place: 1,
            round: 2,
            after: 3,
            input: Octets::from("[1]"),
        }))),
        relay(OutBody::Leave(Box::new(Leave { gate: gate.clone(), instance, round: 2, after: 3 }))),
        relay(OutBody::Told(Box::new(told(Word::Enter)))),
        relay(OutBody::Told(Box::new(told(Word::EnterWith(Octets::from("[1]")))))),
        relay(OutBody::Told(Box::new(told(Word::Skip { code: Arc::from("c"), reason: Arc::from("r") })))),
        Command::Schedule(Schedule { namespace: namespace(), workflow: Arc::from("w"), version: Some(3), pins: Vec::new() }),
        // Those that pin what they may come to call.
        Command::Ingest(Box::new(Ingest {
            actions: ingest.actions.iter().map(|action| StartAction { pins: pins(), ..action.clone() }).collect(),
            ..ingest.clone()
        })),
        Command::Start(Box::new(Start { pins: pins(), ..start.clone() })),
        operate(Operation::Retry { from: None, input: None, version: Some(2), pins: pins() }),
        Command::Schedule(Schedule { namespace: namespace(), workflow: Arc::from("w"), version: Some(3), pins: pins() }),
        Command::WorkerLoad(WorkerLoad { worker: worker(1), generation: 2, level: 1 }),
        Command::WorkerUp(Box::new(WorkerUp {
            capacity: Capacity { cpu_millis: Some(1_500), memory_mib: None },
            ..support::session(1, 2, 3, &["job"], &[])
        })),
        Command::WorkerCredit(WorkerCredit { worker: worker(1), generation: 2, amount: 0, elsewhere }),
        Command::TaskDone(Box::new(TaskDone {
            task,
            attempt: 2,
            fencing_token: 17,
            outcome: TaskOutcome::Returned { reason: "full".into() },
            renew_credit: false,
            elsewhere,
        })),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap()).collect()
}

/// One line per command: its name and its bytes. Written once by version 1 of the format; lines are added, never changed.
const GOLDEN: &str = include_str!("fixtures/commands_v1.txt");

#[test]
fn entries_of_version_1_decode_and_are_still_written_alike() {
    let lines: Vec<(&str, &str)> = GOLDEN.lines().filter_map(|line| line.split_once(' ')).collect();
    let expected = one_of_each();
    let written: String = expected.iter().map(|command| format!("{} {}\n", command.kind(), hex(&command.encode()))).collect();
    assert_eq!(lines.len(), expected.len(), "the fixture should be:\n{written}");
    for ((kind, bytes), command) in lines.iter().zip(&expected) {
        assert_eq!(*kind, command.kind());
        assert_eq!(Command::decode(&from_hex(bytes)).unwrap(), *command);
        assert_eq!(hex(&command.encode()), *bytes, "{kind} is written in another form");
    }
}

#[test]
fn fields_that_came_later_have_defaults() {
    // The Ingest of a version that knew no `hops`: one field fewer at the end.
    let message = one_of_each().into_iter().find(|command| command.kind() == "ingest").unwrap();
    let Command::Ingest(ingest) = &message else { panic!() };
    let mut bytes = message.encode();
    // One pair, the text of 6 bytes, then an array of 18.
    assert_eq!((bytes[0], &bytes[1..8], &bytes[8..11]), (0x81, &b"\xa6Ingest"[..], &[0xdc, 0, 18][..]));
    bytes[10] = 17;
    assert_eq!(bytes.pop(), Some(3), "hops is the last field");
    let older = Ingest { hops: 0, ..(**ingest).clone() };
    assert_eq!(Command::decode(&bytes).unwrap(), Command::Ingest(Box::new(older)));
}

#[test]
fn payloads_are_carried_as_bytes() {
    let payload = "\u{ff}".repeat(500);
    let define = Define { namespace: namespace(), workflow: Arc::from("w"), version: 1, body: Octets::from(payload.as_bytes()) };
    assert!(Command::Define(define).encode().len() < payload.len() + 40);
}

#[test]
fn what_is_no_command_is_an_error_with_its_length() {
    for bytes in [&b""[..], b"\xc1", b"\x81\xa5Later\xc0", b"\xa4Tick\x00\x00", &[0x91; 600], b"\x81\xa6Ingest\xdf\xff\xff\xff\xff"] {
        match Command::decode(bytes) {
            Err(error) => assert_eq!(error.entry_bytes, bytes.len()),
            Ok(command) => assert_eq!(command, Command::Tick, "trailing bytes are tolerated, nothing else"),
        }
    }
}
