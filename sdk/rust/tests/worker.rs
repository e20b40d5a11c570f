//! The worker against scripted coordinators: credit, results, reconciliation, cancellation, drain.

mod fake;

use std::time::Duration;

use distric_sdk::worker::{TaskFailure, WorkerBuilder, WorkerGauge, WorkerOptions};
use distric_sdk::{BackoffOptions, Code, Error};
use distric_wire::client::Rejection;
use distric_wire::task::{
    Assignment, Backlog, CancelTask, Credit, CreditReturned, Drain, Reconcile, ReconcileReply, ResultAck, Status, TaskRef, TaskResult,
    WorkerHello, WorkerWelcome,
};
use distric_wire::{Headers, Message, TaskRefs, U32s, U64s};
use fake::{Fake, Peer, Received, soon};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

struct Running {
    task: JoinHandle<Result<(), Error>>,
    shutdown: oneshot::Sender<()>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.send(()).unwrap();
        soon(self.task).await.unwrap().unwrap();
    }
}

fn options(slots: u32, prefetch: u32) -> WorkerOptions {
    let backoff = BackoffOptions { backoff_ms_min: 2, backoff_ms_max: 20 };
    WorkerOptions { slots, prefetch, backoff, generation: Some(3), heartbeat_ms: 50, drain_deadline_ms: 100, ..WorkerOptions::default() }
}

/// A worker with handlers for `echo`, `sleep`, `fail` and `panic`.
fn work(addresses: &[&Fake], options: WorkerOptions) -> Running {
    let (shutdown, signal) = oneshot::channel();
    let builder = WorkerBuilder::new(addresses.iter().map(|fake| fake.address()), options)
        .task("echo", async |context, input| Ok(json!({ "input": input, "config": context.config, "attempt": context.attempt })))
        .task("sleep", async |_, input: Value| {
            sleep(Duration::from_millis(input.as_u64().unwrap_or(60_000))).await;
            Ok(json!("slept"))
        })
        .task("fail", async |_, _| Err(TaskFailure::retryable("busy", "try later").after_ms(70)))
        .task("panic", async |_, _| panic!("the handler is broken"));
    let task = tokio::spawn(builder.run(async {
        let _ = signal.await;
    }));
    Running { task, shutdown }
}

/// Takes a session: its hello, and then these groups.
async fn session(fake: &Fake, groups: &[u32]) -> Peer {
    let mut peer = fake.accept().await;
    peer.recv_only::<WorkerHello>().await;
    peer.send(0, &WorkerWelcome { groups: U32s::of(groups), coordinators: Headers::EMPTY, terms: U64s::EMPTY }).await;
    peer
}

async fn credits(peer: &mut Peer, count: usize) -> Vec<(u32, i64)> {
    let mut credits = Vec::new();
    for _ in 0..count {
        let credit: Credit = peer.recv_only::<Credit>().await.decode();
        credits.push((credit.group, credit.amount));
    }
    credits
}

fn assignment(task: u128, task_type: &'static str, input: &'static str) -> Assignment<'static> {
    Assignment {
        group: 1,
        task_id: Uuid::from_u128(task),
        task_type,
        attempt: 1,
        fencing_token: 10,
        input: input.as_bytes(),
        config: br#"{"a":1}"#,
        ..Assignment::default()
    }
}

async fn result(peer: &mut Peer) -> Received {
    peer.recv_only::<TaskResult>().await
}

async fn ack(peer: &mut Peer, result: &TaskResult<'_>) {
    peer.send(0, &ResultAck { task_id: result.task_id, fencing_token: result.fencing_token, verdict: 1 }).await;
}

/// What a result says: outcome, code, whether its credit is renewed.
fn said<'a>(result: &TaskResult<'a>) -> (u8, Option<&'a str>, bool) {
    (result.outcome, result.error_code, result.renew_credit)
}

#[tokio::test]
async fn a_worker_introduces_itself_splits_its_credit_and_reports_results() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(3, 2));
    let mut peer = fake.accept().await;
    let received = peer.recv().await;
    let hello: WorkerHello = received.decode();
    assert_eq!((hello.generation, hello.slots, hello.prefetch, hello.name), (3, 3, 2, "worker"));
    assert_eq!(hello.task_types.iter().collect::<Vec<_>>(), ["echo", "fail", "panic", "sleep"]);
    assert_eq!(hello.worker_id.get_version_num(), 7);
    peer.send(0, &WorkerWelcome { groups: U32s::of(&[1, 4]), coordinators: Headers::EMPTY, terms: U64s::EMPTY }).await;
    assert_eq!(credits(&mut peer, 2).await, [(1, 3), (4, 2)]);

    peer.send(0, &assignment(1, "echo", "[7]")).await;
    let received = result(&mut peer).await;
    let done: TaskResult = received.decode();
    assert_eq!((done.group, done.task_id, done.attempt, done.fencing_token), (1, Uuid::from_u128(1), 1, 10));
    assert_eq!(said(&done), (1, None, true));
    let output: Value = serde_json::from_slice(done.output.unwrap()).unwrap();
    assert_eq!(output, json!({ "input": [7], "config": { "a": 1 }, "attempt": 1 }));
    ack(&mut peer, &done).await;

    peer.send(0, &assignment(2, "fail", "null")).await;
    let received = result(&mut peer).await;
    let failed: TaskResult = received.decode();
    assert_eq!(
        (said(&failed), failed.error, failed.retryable, failed.retry_after_ms),
        ((2, Some("busy"), true), Some("try later"), Some(true), Some(70))
    );
    ack(&mut peer, &failed).await;
    running.stop().await;
}

#[tokio::test]
async fn a_panic_fails_its_attempt_and_the_worker_lives() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(1, 0));
    let mut peer = session(&fake, &[1]).await;
    for (task, task_type, expected) in
        [(1, "panic", (2, Some("panic"), true)), (2, "echo", (1, None, true)), (3, "unheard-of", (3, None, false))]
    {
        peer.send(0, &assignment(task, task_type, "1")).await;
        let received = result(&mut peer).await;
        let done: TaskResult = received.decode();
        assert_eq!(said(&done), expected);
        ack(&mut peer, &done).await;
    }
    running.stop().await;
}

/// What a worker says of others' tasks: number, and MiB.
fn elsewhere(received: &Received) -> (Option<u64>, Option<u64>) {
    match received.message_type() {
        Credit::TYPE => {
            let credit: Credit = received.decode();
            (credit.elsewhere, credit.memory_mib_elsewhere)
        }
        _ => {
            let result: TaskResult = received.decode();
            (result.elsewhere, result.memory_mib_elsewhere)
        }
    }
}

#[tokio::test]
async fn what_exceeds_its_memory_is_returned_with_the_reason_and_the_group_hears_when_others_take_less() {
    let fake = Fake::start().await;
    let running = work(&[&fake], WorkerOptions { memory_mib: Some(4_096), cpu_millis: Some(1_000), ..options(8, 0) });
    let mut peer = fake.accept().await;
    let hello = peer.recv_only::<WorkerHello>().await;
    assert_eq!((hello.decode::<WorkerHello>().cpu_millis, hello.decode::<WorkerHello>().memory_mib), (Some(1_000), Some(4_096)));
    peer.send(0, &WorkerWelcome { groups: U32s::of(&[1, 2]), coordinators: Headers::EMPTY, terms: U64s::EMPTY }).await;
    assert_eq!(credits(&mut peer, 2).await, [(1, 4), (2, 4)]);

    let of_1 = Assignment { memory_mib: Some(3_072), ..assignment(1, "sleep", "150") };
    peer.send(0, &of_1).await;
    let of_2 = Assignment { group: 2, memory_mib: Some(2_048), ..assignment(2, "echo", "1") };
    peer.send(0, &of_2).await;
    let received = result(&mut peer).await;
    let refused: TaskResult = received.decode();
    assert_eq!((refused.group, said(&refused)), (2, (3, None, false)));
    assert_eq!(refused.error, Some("it needs 2048 MiB memory, 1024 of 4096 is free"));
    assert_eq!(elsewhere(&received), (Some(1), Some(3_072)));
    ack(&mut peer, &refused).await;
    // The credit of what was returned is leased again, and the slot of it was never used.
    assert_eq!(credits(&mut peer, 1).await, [(2, 1)]);

    // One that needs less fits beside it; what needs nothing always does.
    peer.send(0, &Assignment { group: 2, memory_mib: Some(1_024), cpu_millis: Some(1_000), ..assignment(3, "echo", "1") }).await;
    let received = result(&mut peer).await;
    assert_eq!((received.decode::<TaskResult>().task_id, said(&received.decode())), (Uuid::from_u128(3), (1, None, true)));
    ack(&mut peer, &received.decode()).await;

    // The one of group 1 ends: group 2 hears of the room.
    let received = result(&mut peer).await;
    assert_eq!(received.decode::<TaskResult>().task_id, Uuid::from_u128(1));
    let told = peer.recv_only::<Credit>().await;
    assert_eq!((told.decode::<Credit>().group, told.decode::<Credit>().amount, elsewhere(&told)), (2, 0, (Some(2), Some(0))));
    ack(&mut peer, &received.decode()).await;
    peer.send(0, &Assignment { fencing_token: 11, ..of_2 }).await;
    let received = result(&mut peer).await;
    assert_eq!((received.decode::<TaskResult>().task_id, said(&received.decode())), (Uuid::from_u128(2), (1, None, true)));
    ack(&mut peer, &received.decode()).await;
    drop(peer);

    // In a new session the group hears it once more: it may never have come.
    let mut peer = session(&fake, &[2]).await;
    loop {
        let told = peer.recv_only::<Credit>().await;
        if elsewhere(&told) == (Some(3), Some(0)) {
            break;
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn slots_bound_what_runs_and_the_rest_waits_here() {
    let fake = Fake::start().await;
    let gauge = WorkerGauge::default();
    let running = work(&[&fake], WorkerOptions { gauge: Some(gauge.clone()), ..options(1, 1) });
    let mut peer = session(&fake, &[1]).await;
    peer.send(0, &assignment(1, "sleep", "60")).await;
    peer.send(0, &assignment(2, "echo", "1")).await;
    loop {
        let status: Status = peer.recv_only::<Status>().await.decode();
        if status.running == 1 {
            assert_eq!((status.queued, status.draining), (1, false));
            assert_eq!((gauge.running(), gauge.queued()), (1, 1));
            break;
        }
    }
    let first = result(&mut peer).await;
    assert_eq!(first.decode::<TaskResult>().task_id, Uuid::from_u128(1));
    let second = result(&mut peer).await;
    assert_eq!(second.decode::<TaskResult>().task_id, Uuid::from_u128(2));
    for received in [first, second] {
        ack(&mut peer, &received.decode()).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_stopped() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(1, 0));
    let mut peer = session(&fake, &[1]).await;
    peer.send(0, &Assignment { timeout_ms: 20, ..assignment(1, "sleep", "null") }).await;
    let received = result(&mut peer).await;
    let failed: TaskResult = received.decode();
    assert_eq!((said(&failed), failed.retryable), ((2, Some("timeout"), true), Some(true)));
    ack(&mut peer, &failed).await;
    running.stop().await;
}

#[tokio::test]
async fn a_cancelled_attempt_is_stopped_and_reported() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(1, 1));
    let mut peer = session(&fake, &[1]).await;
    peer.send(0, &assignment(1, "sleep", "null")).await;
    peer.send(0, &assignment(2, "sleep", "null")).await;
    for (task, expected) in [(2, (3, None, false)), (1, (2, Some("cancelled"), true))] {
        peer.send(0, &CancelTask { task_id: Uuid::from_u128(task), fencing_token: 10 }).await;
        let received = result(&mut peer).await;
        assert_eq!(said(&received.decode()), expected);
        ack(&mut peer, &received.decode()).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn credit_moves_to_the_leader_that_has_work() {
    let (one, two) = (Fake::start().await, Fake::start().await);
    let running = work(&[&one, &two], options(2, 2));
    let mut first = session(&one, &[1]).await;
    assert_eq!(credits(&mut first, 1).await, [(1, 4)]);
    let mut second = session(&two, &[2]).await;
    second.send(0, &Backlog { group: 2, ready: 2 }).await;
    assert_eq!(credits(&mut first, 1).await, [(1, -2)]);
    first.send(0, &CreditReturned { group: 1, amount: 2 }).await;
    assert_eq!(credits(&mut second, 1).await, [(2, 2)]);
    running.stop().await;
}

#[tokio::test]
async fn a_result_is_sent_again_on_the_next_session_until_it_is_confirmed() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(2, 0));
    let mut peer = session(&fake, &[1]).await;
    assert_eq!(credits(&mut peer, 1).await, [(1, 2)]);
    peer.send(0, &assignment(1, "echo", "1")).await;
    result(&mut peer).await;
    drop(peer);

    let mut peer = fake.accept().await;
    let hello = peer.recv_only::<WorkerHello>().await;
    assert_eq!(hello.decode::<WorkerHello>().generation, 3, "the same process");
    peer.send(0, &WorkerWelcome { groups: U32s::of(&[1]), coordinators: Headers::EMPTY, terms: U64s::EMPTY }).await;
    assert_eq!(credits(&mut peer, 1).await, [(1, 1)], "the credit of the unconfirmed result is not granted yet");
    let tasks = [(1, 10), (1, 9), (5, 10)].map(|(task, fencing_token)| TaskRef { task_id: Uuid::from_u128(task), fencing_token });
    peer.send(0, &Reconcile { group: 1, tasks: TaskRefs::of(&tasks) }).await;
    let received = result(&mut peer).await;
    let again: TaskResult = received.decode();
    assert_eq!((again.task_id, said(&again)), (Uuid::from_u128(1), (1, None, false)));
    let reply = peer.recv_only::<ReconcileReply>().await;
    assert_eq!(reply.decode::<ReconcileReply>().unknown.iter().collect::<Vec<_>>(), tasks[1..]);
    ack(&mut peer, &again).await;
    assert_eq!(credits(&mut peer, 1).await, [(1, 1)]);
    running.stop().await;
}

#[tokio::test]
async fn a_running_task_needs_no_word_and_survives_the_reconnect() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(1, 0));
    let mut peer = session(&fake, &[1]).await;
    peer.send(0, &assignment(1, "sleep", "150")).await;
    peer.recv_only::<Status>().await;
    drop(peer);
    let mut peer = session(&fake, &[1]).await;
    let tasks = [TaskRef { task_id: Uuid::from_u128(1), fencing_token: 10 }];
    peer.send(0, &Reconcile { group: 1, tasks: TaskRefs::of(&tasks) }).await;
    let reply = peer.recv_only::<ReconcileReply>().await;
    assert!(reply.decode::<ReconcileReply>().unknown.is_empty());
    let received = result(&mut peer).await;
    assert_eq!(said(&received.decode()), (1, None, false), "its credit is granted anew when it is confirmed");
    ack(&mut peer, &received.decode()).await;
    assert_eq!(credits(&mut peer, 1).await, [(1, 1)]);
    running.stop().await;
}

#[tokio::test]
async fn a_result_without_reconciliation_is_sent_again_all_the_same() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(1, 0));
    let mut peer = session(&fake, &[1]).await;
    peer.send(0, &assignment(1, "echo", "1")).await;
    result(&mut peer).await;
    drop(peer);
    let mut peer = session(&fake, &[1]).await;
    let received = result(&mut peer).await;
    ack(&mut peer, &received.decode()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_drained_worker_returns_what_waits_and_takes_nothing_until_it_is_undrained() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(1, 1));
    let mut peer = session(&fake, &[1]).await;
    assert_eq!(credits(&mut peer, 1).await, [(1, 2)]);
    peer.send(0, &assignment(1, "sleep", "80")).await;
    peer.send(0, &assignment(2, "echo", "1")).await;
    peer.send(0, &Drain { drain: true }).await;
    for (task, expected) in [(2, (3, None, false)), (1, (1, None, false))] {
        let received = result(&mut peer).await;
        assert_eq!((received.decode::<TaskResult>().task_id, said(&received.decode())), (Uuid::from_u128(task), expected));
        ack(&mut peer, &received.decode()).await;
    }
    peer.send(0, &assignment(3, "echo", "1")).await;
    let received = result(&mut peer).await;
    assert_eq!(said(&received.decode()), (3, None, false));
    ack(&mut peer, &received.decode()).await;
    assert!(peer.recv_only::<Status>().await.decode::<Status>().draining);
    peer.send(0, &Drain { drain: false }).await;
    assert_eq!(credits(&mut peer, 1).await, [(1, 2)]);
    running.stop().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_running_tasks_up_to_its_deadline() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(2, 1));
    let mut peer = session(&fake, &[1]).await;
    peer.send(0, &assignment(1, "sleep", "40")).await;
    peer.send(0, &assignment(2, "sleep", "null")).await;
    peer.send(0, &assignment(3, "echo", "1")).await;
    while peer.recv_only::<Status>().await.decode::<Status>().running < 2 {}
    let script = async {
        let mut said_by = Vec::new();
        while let Some(received) = peer.try_recv().await {
            if received.message_type() == TaskResult::TYPE {
                let result: TaskResult = received.decode();
                said_by.push((result.task_id.as_u128(), result.outcome, result.error_code.map(str::to_owned)));
                ack(&mut peer, &result).await;
            }
        }
        said_by
    };
    let ((), said_by) = tokio::join!(running.stop(), script);
    assert_eq!(said_by, [(3, 3, None), (1, 1, None), (2, 2, Some("worker_stopped".to_owned()))]);
}

#[tokio::test]
async fn a_worker_that_is_refused_for_good_ends_with_the_reason() {
    let fake = Fake::start().await;
    let running = work(&[&fake], options(1, 0));
    let mut peer = fake.accept().await;
    let hello = peer.recv_only::<WorkerHello>().await;
    peer.send(hello.id(), &Rejection::new(Code::Conflict, "a newer generation of this worker is here")).await;
    let error = soon(running.task).await.unwrap().unwrap_err();
    assert_eq!(error.rejection().unwrap().code, Code::Conflict);
}

#[tokio::test]
async fn one_address_leads_to_all_coordinators_and_each_has_one_session() {
    let (first, second) = (Fake::start().await, Fake::start().await);
    let running = work(&[&first], options(2, 0));
    let mut one = session(&first, &[1]).await;
    let (a, b) = (first.node_id().to_string(), second.node_id().to_string());
    let (at_first, at_second) = (first.address(), second.address());
    // The first one has two names: it is reached under one of them already.
    let both = [(a.as_str(), "localhost:1"), (b.as_str(), at_second.as_str())];
    one.send(0, &WorkerWelcome { groups: U32s::of(&[1]), coordinators: Headers::of(&both), terms: U64s::EMPTY }).await;
    let mut two = session(&second, &[2]).await;
    two.send(0, &Assignment { group: 2, ..assignment(7, "echo", "1") }).await;
    assert_eq!(result(&mut two).await.decode::<TaskResult>().task_id, Uuid::from_u128(7));

    // The second one leaves: nobody knocks there any more. Then it is back.
    let alone = [(a.as_str(), at_first.as_str())];
    one.send(0, &WorkerWelcome { groups: U32s::of(&[1]), coordinators: Headers::of(&alone), terms: U64s::EMPTY }).await;
    // An answer in the same order: the welcome has been taken before the connection breaks.
    one.send(0, &assignment(8, "echo", "1")).await;
    result(&mut one).await;
    drop(two);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), second.accept_silent()).await.is_err(),
        "a coordinator that left is left alone"
    );
    one.send(0, &WorkerWelcome { groups: U32s::of(&[1]), coordinators: Headers::of(&both), terms: U64s::EMPTY }).await;
    session(&second, &[2]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_former_leader_that_still_names_a_group_does_not_take_it_from_its_successor() {
    let (former, present) = (Fake::start().await, Fake::start().await);
    let running = work(&[&former, &present], options(2, 0));
    let welcome = |groups, terms| WorkerWelcome { groups: U32s::of(groups), coordinators: Headers::EMPTY, terms: U64s::of(terms) };
    let mut old = session(&former, &[]).await;
    let mut new = session(&present, &[]).await;
    old.send(0, &welcome(&[1, 2], &[5, 5])).await;
    credits(&mut old, 2).await;
    new.send(0, &welcome(&[1, 2], &[6, 6])).await;
    credits(&mut new, 2).await;
    // It stood still, and learns of its successor group by group.
    old.send(0, &welcome(&[2], &[5])).await;
    old.send(0, &welcome(&[], &[])).await;
    // An answer in the same order: both have been taken before the work comes.
    old.send(0, &Reconcile { group: 9, tasks: TaskRefs::EMPTY }).await;
    old.recv_only::<ReconcileReply>().await;
    new.send(0, &Assignment { group: 2, ..assignment(7, "echo", "1") }).await;
    assert_eq!(result(&mut new).await.decode::<TaskResult>().task_id, Uuid::from_u128(7), "its result goes to the present leader");
    running.stop().await;
}
