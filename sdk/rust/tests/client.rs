//! The client against a scripted server: what it sends, when it sends again, and what it makes of answers.

mod fake;

use std::time::Duration;

use distric_sdk::{Client, ClientOptions, Code, Command, CommandKind, Error, Outcome, Query, QueryKind, Submission};
use distric_wire::client::{
    self as wire, BatchOutcome, BatchResponse, Event, GoAway, Hello, Ping, Pong, QueryReply, Rejection, Response, Submit, SubmitBatch,
    Subscribe, Welcome,
};
use distric_wire::{Items, Strs, Uuids};
use fake::{Fake, Peer, response, soon, welcome};
use tokio::spawn;
use tokio::task::JoinHandle;
use uuid::Uuid;

async fn connected(fake: &Fake, options: ClientOptions, welcome: Welcome<'_>) -> (Client, Peer) {
    let (client, peer) = tokio::join!(Client::connect(options), fake.accept_with(welcome));
    (client.unwrap(), peer)
}

async fn pair() -> (Fake, Client, Peer) {
    let fake = Fake::start().await;
    let (client, peer) = connected(&fake, fake.options(), welcome()).await;
    (fake, client, peer)
}

fn submitting(client: &Client, submission: Submission) -> JoinHandle<Result<distric_sdk::Receipt, Error>> {
    let client = client.clone();
    spawn(async move { client.submit(submission).await })
}

fn rejection(code: Code, reason: &str) -> Rejection<'_> {
    Rejection::new(code, reason)
}

#[tokio::test]
async fn a_receipt_says_what_the_server_said() {
    let (_fake, client, mut peer) = pair().await;
    let message = Submission::new("{}").event_type("order.created").header("a", "b").routing_key("r").namespace("shop").timestamp_us(5);
    let submitted = submitting(&client, message);
    let received = peer.recv().await;
    let submit = received.submit();
    assert_eq!((submit.event_type, submit.namespace, submit.payload), (Some("order.created"), Some("shop"), b"{}".as_slice()));
    assert_eq!((submit.headers.find("a"), submit.routing_key, submit.timestamp_us, submit.resend), (Some("b"), Some("r"), Some(5), false));
    assert!(submit.idempotency_key.is_some_and(|key| key.len() > 16), "a random key was drawn");
    let ids = [Uuid::from_u128(3)];
    let answer = Response { rules: Strs::of(&["r1", "r2"]), workflows: Strs::of(&["w"]), instances: Uuids::of(&ids), ..response(2, 9) };
    peer.send(received.id(), &answer).await;
    let receipt = soon(submitted).await.unwrap().unwrap();
    assert!(receipt.is_repeat());
    assert_eq!((receipt.message_id, receipt.catalog_version), (Uuid::from_u128(7), 9));
    assert_eq!((receipt.rules, receipt.workflows, receipt.instances), (vec!["r1".into(), "r2".into()], vec!["w".into()], ids.to_vec()));
}

#[tokio::test]
async fn requests_are_pipelined_and_answers_may_come_in_any_order() {
    let (_fake, client, mut peer) = pair().await;
    let submits: Vec<_> = (0..50).map(|n| submitting(&client, Submission::new(n.to_string()))).collect();
    let mut received = Vec::new();
    for _ in 0..50 {
        received.push(peer.recv().await);
    }
    for one in received.iter().rev() {
        let number: u64 = std::str::from_utf8(one.submit().payload).unwrap().parse().unwrap();
        peer.accept_submit(one.id(), number).await;
    }
    for (number, submit) in submits.into_iter().enumerate() {
        assert_eq!(soon(submit).await.unwrap().unwrap().catalog_version, number as u64);
    }
}

#[tokio::test]
async fn the_number_of_requests_in_flight_never_exceeds_the_credit() {
    let fake = Fake::start().await;
    let (client, mut peer) = connected(&fake, fake.options(), Welcome { frames_in_flight_max: 3, ..welcome() }).await;
    let submits: Vec<_> = (0..10).map(|_| submitting(&client, Submission::new("1"))).collect();
    let mut in_flight = Vec::new();
    for _ in 0..3 {
        in_flight.push(peer.recv().await.id());
    }
    peer.assert_quiet(60).await;
    for _ in 3..10 {
        peer.accept_submit(in_flight.remove(0), 1).await;
        in_flight.push(peer.recv().await.id());
        assert_eq!(in_flight.len(), 3);
    }
    for id in in_flight {
        peer.accept_submit(id, 1).await;
    }
    for submit in submits {
        soon(submit).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_bytes_in_flight_never_exceed_the_credit() {
    let fake = Fake::start().await;
    let (client, mut peer) = connected(&fake, fake.options(), Welcome { bytes_in_flight_max: 2_500, ..welcome() }).await;
    let submits: Vec<_> = (0..3).map(|_| submitting(&client, Submission::new(vec![b'1'; 1_000]))).collect();
    let first = peer.recv().await.id();
    peer.recv().await;
    peer.assert_quiet(60).await;
    peer.accept_submit(first, 1).await;
    peer.recv().await;
    let error = client.submit(Submission::new(vec![b'1'; 3_000])).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit_name: "bytes_in_flight_max", limit_value: 2_500, .. }), "{error}");
    drop(submits);
}

#[tokio::test]
async fn after_a_lost_connection_requests_are_sent_again_with_the_same_key_and_marked() {
    let (fake, client, mut peer) = pair().await;
    let submits: Vec<_> = (0..3).map(|n| submitting(&client, Submission::new(n.to_string()))).collect();
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(peer.recv().await);
    }
    drop(peer);
    let mut peer = fake.accept().await;
    for sent in &first {
        let again = peer.recv().await;
        assert_eq!(
            (again.submit().payload, again.submit().idempotency_key),
            (sent.submit().payload, sent.submit().idempotency_key),
            "in their order"
        );
        assert!(again.submit().resend && !sent.submit().resend);
        peer.send(again.id(), &response(2, 1)).await;
    }
    for submit in submits {
        assert_eq!(soon(submit).await.unwrap().unwrap().outcome, Outcome::Repeat);
    }
}

#[tokio::test]
async fn refusals_that_pass_are_sent_again_and_their_wait_is_kept() {
    let (_fake, client, mut peer) = pair().await;
    let submitted = submitting(&client, Submission::new("1").idempotency_key("k"));
    for (code, wait_ms) in [(Code::OutcomeUnknown, None), (Code::Overloaded, Some(40)), (Code::Draining, None), (Code::Unavailable, None)] {
        let received = peer.recv().await;
        peer.send(received.id(), &Rejection { retry_after_ms: wait_ms, ..rejection(code, "later") }).await;
        if let Some(ms) = wait_ms {
            peer.assert_quiet(ms / 2).await;
        }
    }
    let last = peer.recv().await;
    assert_eq!((last.submit().idempotency_key, last.submit().resend), (Some("k"), true));
    peer.send(last.id(), &rejection(Code::OutcomeUnknown, "still")).await;
    let error = soon(submitted).await.unwrap().unwrap_err();
    assert_eq!(error.rejection().unwrap().code, Code::OutcomeUnknown, "five attempts are allowed");
}

#[tokio::test]
async fn a_refusal_for_good_is_told_with_all_its_fields() {
    let (_fake, client, mut peer) = pair().await;
    let submitted = submitting(&client, Submission::new("1"));
    let received = peer.recv().await;
    let refused = Rejection {
        limit_name: Some("payload_bytes_max"),
        limit_value: Some(10),
        field: Some("rules[0].id"),
        line: Some(3),
        column: Some(4),
        ..rejection(Code::BadPayload, "not JSON")
    };
    peer.send(received.id(), &refused).await;
    let error = soon(submitted).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "bad_payload: not JSON (at rules[0].id, line 3, column 4) (limit payload_bytes_max = 10)");
    let rejection = error.rejection().unwrap();
    assert_eq!((rejection.code, rejection.name.as_str(), rejection.limit_value), (Code::BadPayload, "bad_payload", Some(10)));
}

#[tokio::test]
async fn a_code_of_a_later_version_keeps_its_name() {
    let (_fake, client, mut peer) = pair().await;
    let submitted = submitting(&client, Submission::new("1"));
    let id = peer.recv().await.id();
    peer.send(id, &Rejection { code: 999, name: "too_early", reason: "?", ..Rejection::default() }).await;
    let error = soon(submitted).await.unwrap().unwrap_err();
    assert_eq!((error.rejection().unwrap().code, error.rejection().unwrap().name.as_str()), (Code::Internal, "too_early"));
}

#[tokio::test]
async fn the_leader_that_a_refusal_names_is_followed_and_used_from_then_on() {
    let (_fake, client, mut peer) = pair().await;
    let leader = Fake::start().await;
    let leader_address = leader.address();
    let submitted = submitting(&client, Submission::new("1").idempotency_key("k"));
    let received = peer.recv().await;
    peer.send(received.id(), &Rejection { leader_address: Some(&leader_address), ..rejection(Code::WrongLeader, "not here") }).await;
    let mut at_leader = leader.accept().await;
    let again = at_leader.recv().await;
    assert_eq!(again.submit().idempotency_key, Some("k"));
    at_leader.accept_submit(again.id(), 1).await;
    soon(submitted).await.unwrap().unwrap();
    let next = submitting(&client, Submission::new("2"));
    let id = at_leader.recv().await.id();
    at_leader.accept_submit(id, 1).await;
    soon(next).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_is_split_and_its_refused_messages_are_sent_again() {
    let fake = Fake::start().await;
    let (client, mut peer) = connected(&fake, fake.options(), Welcome { frame_bytes_max: 1_000, ..welcome() }).await;
    let payloads = [300, 300, 300, 5_000, 300];
    let batch: Vec<_> =
        payloads.iter().enumerate().map(|(n, size)| Submission::new(vec![b'1'; *size]).idempotency_key(format!("k{n}"))).collect();
    let batched = spawn({
        let client = client.clone();
        async move { client.submit_batch(batch).await }
    });
    let mut seen = Vec::new();
    let mut refused_once = false;
    while seen.len() < 5 {
        let received = peer.recv().await;
        let batch: SubmitBatch = received.decode();
        let mut outcomes = Vec::new();
        for item in batch.messages {
            let submit = Submit::decode(item).unwrap();
            let key = submit.idempotency_key.unwrap().to_owned();
            let refuse = key == "k1" && !refused_once;
            refused_once |= refuse;
            seen.push((key, submit.resend));
            outcomes.push(
                if refuse { BatchOutcome::Rejection(rejection(Code::Overloaded, "full")) } else { BatchOutcome::Response(response(1, 1)) }
                    .to_item(),
            );
        }
        peer.send(received.id(), &BatchResponse { items: Items::of_owned(&outcomes) }).await;
    }
    seen.sort();
    let expected = [("k0", false), ("k1", false), ("k1", true), ("k2", false), ("k4", false)].map(|(key, resend)| (key.to_owned(), resend));
    assert_eq!(seen, expected);
    let outcomes = soon(batched).await.unwrap().unwrap();
    let codes: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map_err(|r| r.code).map(|r| r.outcome)).collect();
    let accepted = Ok(Outcome::Accepted);
    assert_eq!(codes, [accepted, accepted, accepted, Err(Code::TooLarge), accepted]);
}

#[tokio::test]
async fn queries_and_commands_carry_their_fields_and_starts_get_a_key() {
    let fake = Fake::start().await;
    let (client, mut peer) = connected(&fake, fake.options().namespace("shop"), welcome()).await;
    let asked = spawn({
        let client = client.clone();
        async move { client.query(Query::new(QueryKind::Tasks).status("running").limit(5).cursor("c")).await }
    });
    let received = peer.recv().await;
    let query: wire::Query = received.decode();
    assert_eq!(
        (query.kind, query.namespace, query.status, query.limit, query.cursor),
        (4, Some("shop"), Some("running"), Some(5), Some("c"))
    );
    peer.send(received.id(), &QueryReply { content_type: "application/json", body: b"[1]", next_cursor: Some("d"), version: Some(3) })
        .await;
    let reply = soon(asked).await.unwrap().unwrap();
    assert_eq!((reply.json().unwrap(), reply.next_cursor.as_deref(), reply.version), (serde_json::json!([1]), Some("d"), Some(3)));

    let started = spawn({
        let client = client.clone();
        async move { client.command(Command::start_workflow("w", "{}")).await }
    });
    let received = peer.recv().await;
    let command: wire::Command = received.decode();
    assert_eq!((command.kind, command.name, command.body), (1, Some("w"), Some(b"{}".as_slice())));
    assert!(command.idempotency_key.is_some());
    drop(peer);
    let mut peer = fake.accept().await;
    let again = peer.recv().await;
    assert_eq!(again.decode::<wire::Command>().idempotency_key, command.idempotency_key, "a start is sent again under its key");
    peer.send(again.id(), &QueryReply { content_type: "application/json", body: b"{}", ..QueryReply::default() }).await;
    soon(started).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_command_that_must_not_be_sent_twice_is_not() {
    let (fake, client, mut peer) = pair().await;
    let deleted = spawn({
        let client = client.clone();
        async move { client.command(Command::new(CommandKind::DeleteRule).name("r")).await }
    });
    peer.recv().await;
    drop(peer);
    assert!(matches!(soon(deleted).await.unwrap(), Err(Error::OutcomeUnknown)));
    let mut peer = fake.accept().await;
    peer.assert_quiet(50).await;
}

#[tokio::test]
async fn a_stream_tells_every_event_once_over_a_reconnect() {
    let (fake, client, mut peer) = pair().await;
    let instance = Uuid::from_u128(5);
    let mut stream = client.subscribe_instance(instance).await.unwrap();
    let received = peer.recv().await;
    assert_eq!(received.decode::<Subscribe>().id, instance);
    let event = |index, kind, last| Event { index, kind, at_us: 1, body: b"{}", last };
    peer.send(received.id(), &event(4, "a", false)).await;
    peer.send(received.id(), &event(4, "b", false)).await;
    let mut kinds = Vec::new();
    for _ in 0..2 {
        kinds.push(soon(stream.next()).await.unwrap().unwrap().kind);
    }
    drop(peer);
    let script = spawn(async move {
        let mut peer = fake.accept().await;
        let id = peer.recv_only::<Subscribe>().await.id();
        for (index, kind, last) in [(4, "a", false), (4, "b", false), (4, "c", false), (9, "d", true)] {
            peer.send(id, &event(index, kind, last)).await;
        }
        peer
    });
    while let Some(event) = soon(stream.next()).await {
        kinds.push(event.unwrap().kind);
    }
    assert_eq!(kinds, ["a", "b", "c", "d"]);
    script.await.unwrap();
}

#[tokio::test]
async fn a_stream_of_nothing_says_so_and_ends() {
    let (_fake, client, mut peer) = pair().await;
    let mut stream = client.subscribe_instance(Uuid::from_u128(5)).await.unwrap();
    let id = peer.recv().await.id();
    peer.send(id, &rejection(Code::NotFound, "no such instance")).await;
    assert_eq!(soon(stream.next()).await.unwrap().unwrap_err().rejection().unwrap().code, Code::NotFound);
    assert!(soon(stream.next()).await.is_none());
}

#[tokio::test]
async fn a_server_that_goes_away_answers_what_it_has_and_gets_nothing_new() {
    let (fake, client, mut peer) = pair().await;
    let first = submitting(&client, Submission::new("1"));
    let received = peer.recv().await;
    peer.send(0, &GoAway { reason: "restart", grace_ms: 5_000 }).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = submitting(&client, Submission::new("2"));
    peer.assert_quiet(50).await;
    peer.accept_submit(received.id(), 1).await;
    soon(first).await.unwrap().unwrap();
    let mut peer = fake.accept().await;
    let received = peer.recv().await;
    assert!(!received.submit().resend, "it was never sent before");
    peer.accept_submit(received.id(), 1).await;
    soon(second).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_server_is_asked_for_a_sign_of_life_and_then_left() {
    let fake = Fake::start().await;
    let (_client, mut peer) = connected(&fake, ClientOptions { keepalive_ms: 60, ..fake.options() }, welcome()).await;
    let ping = peer.recv().await;
    peer.send(ping.id(), &Pong { token: ping.decode::<Ping>().token }).await;
    peer.recv_only::<Ping>().await;
    fake.accept().await;
}

#[tokio::test]
async fn pings_are_answered_both_ways() {
    let (_fake, client, mut peer) = pair().await;
    peer.send(77, &Ping { token: 5 }).await;
    let pong = peer.recv().await;
    assert_eq!((pong.id(), pong.decode::<Pong>().token), (77, 5));
    let pinged = spawn(async move { client.ping().await });
    let ping = peer.recv().await;
    peer.send(ping.id(), &Pong { token: 0 }).await;
    soon(pinged).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_without_an_answer_times_out() {
    let fake = Fake::start().await;
    let (client, _peer) = connected(&fake, fake.options().request_timeout_ms(50), welcome()).await;
    let error = client.submit(Submission::new("1")).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after_ms: 50, connection: None }), "{error}");
}

#[tokio::test]
async fn a_refused_hello_is_told_by_connect() {
    let fake = Fake::start().await;
    let script = async {
        let mut peer = fake.accept_silent().await;
        let hello = peer.recv().await;
        assert_eq!(hello.decode::<Hello>().api_key, Some("wrong"));
        peer.send(hello.id(), &rejection(Code::Unauthenticated, "unknown key")).await;
    };
    let (client, ()) = tokio::join!(Client::connect(fake.options().api_key("wrong")), script);
    assert_eq!(client.unwrap_err().rejection().unwrap().code, Code::Unauthenticated);
}

#[tokio::test]
async fn the_connection_closes_with_the_last_handle() {
    let (_fake, client, mut peer) = pair().await;
    let other = client.clone();
    drop(client);
    peer.assert_quiet(20).await;
    drop(other);
    assert!(peer.try_recv().await.is_none());
}

#[tokio::test]
async fn large_messages_are_compressed_when_that_was_agreed() {
    let fake = Fake::start().await;
    let (client, mut peer) = connected(&fake, fake.options(), Welcome { features: wire::FEATURE_LZ4, ..welcome() }).await;
    let payload = vec![b'x'; 20_000];
    let submitted = submitting(&client, Submission::new(payload.clone()));
    let received = peer.recv().await;
    assert!(received.header.payload_bytes < 2_000, "{} bytes were sent", received.header.payload_bytes);
    assert_eq!(received.submit().payload, payload);
    peer.accept_submit(received.id(), 1).await;
    soon(submitted).await.unwrap().unwrap();
}
