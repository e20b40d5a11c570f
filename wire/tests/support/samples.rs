//! One full and one minimal message of every type, as the golden vectors show them.
#![allow(dead_code, reason = "each test file uses the part that it needs")]

use distric_wire::client::{
    BatchOutcome, BatchResponse, Command, CommandKind, Event, FEATURE_LZ4, GoAway, Hello, Ping, Pong, Query, QueryKind, QueryReply,
    Rejection, Response, Submit, SubmitBatch, SubmitOutcome, Subscribe, SubscribeKind, Welcome,
};
use distric_wire::task::{
    Assignment, Backlog, CancelTask, Credit, CreditReturned, Drain, Reconcile, ReconcileReply, ResultAck, ResultOutcome, Status, TaskRef,
    TaskResult, Verdict, WorkerHello, WorkerWelcome,
};
use distric_wire::{AnyMessage, Code, Flags, Headers, Items, Message, Strs, TaskRefs, U32s, U64s, Uuids, encode, encode_compressed};
use uuid::Uuid;

/// 2023-11-14T22:13:20Z.
pub const AT_US: u64 = 1_700_000_000_000_000;
const MESSAGE: Uuid = Uuid::from_u128(0x018b_cfe5_6800_7a5c_8000_0000_0000_0001);
const INSTANCE: Uuid = Uuid::from_u128(0x018b_cfe5_6801_7a5c_8000_0000_0000_0002);
const TASK: Uuid = Uuid::from_u128(0x018b_cfe5_6802_7a5c_8000_0000_0000_0003);
const WORKER: Uuid = Uuid::from_u128(0x018b_cfe5_6803_7000_8000_0000_0000_0004);
const NODE: Uuid = Uuid::from_u128(0x018b_cfe5_6804_7000_8000_0000_0000_0005);
const CLUSTER: Uuid = Uuid::from_u128(0x018b_cfe5_6805_7000_8000_0000_0000_0006);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const ORDER: &[u8] = br#"{"order_id":"o-1","total":129.5,"currency":"EUR"}"#;

/// One golden frame.
pub struct Sample {
    /// Type of the message.
    pub message_type: u16,
    /// Name of the case in its file.
    pub case: &'static str,
    /// The whole frame.
    pub frame: Vec<u8>,
}

/// Calls `visit` with every sample message, in the order of the vectors: type by type, `full` before `minimal`.
pub fn each_message(mut visit: impl FnMut(&'static str, AnyMessage<'_>)) {
    let mut both = |full: AnyMessage<'_>, minimal: AnyMessage<'_>| {
        visit("full", full);
        visit("minimal", minimal);
    };
    let submit = Submit {
        namespace: Some("shop"),
        message_id: Some(MESSAGE),
        event_type: Some("order.created"),
        source: Some("checkout"),
        timestamp_us: Some(AT_US - 250_000),
        headers: Headers::of(&[("region", "eu"), ("tier", "gold")]),
        content_type: Some("application/json"),
        payload: ORDER,
        routing_key: Some("customer-7"),
        idempotency_key: Some("order-o-1"),
        traceparent: Some(TRACE),
        resend: true,
        acked_below: Some(AT_US - 60_000_000),
    };
    let small = Submit { event_type: Some("order.created"), payload: br#"{"total":12}"#, ..Submit::default() };
    both(submit.into(), Submit { payload: b"{}", ..Submit::default() }.into());
    let response = Response {
        outcome: SubmitOutcome::Accepted.number(),
        message_id: MESSAGE,
        catalog_version: 12,
        rules: Strs::of(&["large_orders", "all_orders"]),
        workflows: Strs::of(&["fulfil_order"]),
        instances: Uuids::of(&[INSTANCE]),
    };
    let unmatched =
        Response { outcome: SubmitOutcome::Unmatched.number(), message_id: MESSAGE, catalog_version: 12, ..Response::default() };
    both(response.into(), unmatched.into());
    both(
        Query {
            kind: QueryKind::Tasks.number(),
            namespace: Some("shop"),
            id: Some(INSTANCE),
            name: Some("charge_card"),
            status: Some("failed"),
            limit: Some(50),
            cursor: Some("eyJnMSI6NDJ9"),
            group: Some(1),
            version: Some(12),
            filter: Some(br#"{"rule":"large_orders"}"#),
        }
        .into(),
        Query { kind: QueryKind::Message.number(), id: Some(MESSAGE), ..Query::default() }.into(),
    );
    both(
        Hello {
            version_min: 1,
            version_max: 1,
            client_name: "orders-service",
            client_version: "2.3.1",
            api_key: Some("example-key"),
            features: Some(FEATURE_LZ4),
        }
        .into(),
        Hello { version_min: 1, version_max: 1, client_name: "nc", client_version: "0", api_key: None, features: None }.into(),
    );
    let welcome = Welcome {
        version: 1,
        node_id: NODE,
        cluster_id: CLUSTER,
        role: "coordinator",
        shard_index: 1,
        shard_count: 4,
        partition_map_version: 3,
        frame_bytes_max: 1 << 20,
        frames_in_flight_max: 1024,
        bytes_in_flight_max: 16 << 20,
        server_time_us: AT_US,
        features: FEATURE_LZ4,
        server_version: "0.1.0",
    };
    both(welcome.into(), Welcome { role: "", server_version: "", features: 0, ..welcome }.into());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    small.encode_payload(&mut first);
    Submit { idempotency_key: Some("k-2"), ..small }.encode_payload(&mut second);
    both(SubmitBatch { messages: Items::of(&[&first, &second]) }.into(), SubmitBatch { messages: Items::EMPTY }.into());
    let rejection = Rejection {
        limit_name: Some("client_messages_per_second"),
        limit_value: Some(5_000),
        retry_after_ms: Some(120),
        ..Rejection::new(Code::RateLimited, "client orders-service sends more than 5000 messages/s")
    };
    let items = [BatchOutcome::Response(response).to_item(), BatchOutcome::Rejection(rejection).to_item()];
    both(BatchResponse { items: Items::of_owned(&items) }.into(), BatchResponse { items: Items::EMPTY }.into());
    both(Ping { token: 0x0102_0304_0506_0708 }.into(), Ping { token: 0 }.into());
    both(Pong { token: 0x0102_0304_0506_0708 }.into(), Pong { token: 0 }.into());
    both(GoAway { reason: "the node is about to restart", grace_ms: 10_000 }.into(), GoAway { reason: "", grace_ms: 0 }.into());
    both(
        Rejection {
            limit_name: Some("frame_bytes_max"),
            limit_value: Some(1 << 20),
            retry_after_ms: Some(50),
            leader_address: Some("10.0.0.2:7400"),
            field: Some("rules[3].conditions[0].operator"),
            line: Some(17),
            column: Some(9),
            ..Rejection::new(Code::WrongLeader, "every field at once, as no real rejection has them")
        }
        .into(),
        Rejection::new(Code::NotFound, "no message 018bcfe5-6800-7a5c-8000-000000000001").into(),
    );
    both(
        Subscribe { kind: SubscribeKind::Instance.number(), namespace: Some("shop"), id: INSTANCE }.into(),
        Subscribe { kind: SubscribeKind::Instance.number(), namespace: None, id: INSTANCE }.into(),
    );
    both(
        Event { index: 4711, kind: "workflow.completed", at_us: AT_US, body: br#"{"state":"completed"}"#, last: true }.into(),
        Event { index: 1, kind: "task.ready", at_us: AT_US, body: b"{}", last: false }.into(),
    );
    both(
        Command {
            kind: CommandKind::PutRule.number(),
            namespace: Some("shop"),
            name: Some("large_orders"),
            id: Some(WORKER),
            body: Some(b"rules: []\n"),
            content_type: Some("application/yaml"),
            idempotency_key: Some("apply-77"),
            if_match: Some(12),
            dry_run: true,
            author: Some("ada"),
            reason: Some("raise the threshold"),
            traceparent: Some(TRACE),
            version: Some(12),
            delay_ms: Some(1_500),
            start_at_us: Some(AT_US),
        }
        .into(),
        Command { kind: CommandKind::CancelInstance.number(), id: Some(INSTANCE), ..Command::default() }.into(),
    );
    both(
        QueryReply { content_type: "application/json", body: br#"{"rules":[]}"#, next_cursor: Some("eyJnMSI6NDN9"), version: Some(12) }
            .into(),
        QueryReply { content_type: "application/json", body: b"null", next_cursor: None, version: None }.into(),
    );
    let assignment = Assignment {
        group: 1,
        task_id: TASK,
        instance_id: INSTANCE,
        namespace: "shop",
        workflow: "fulfil_order",
        workflow_version: 12,
        task: "charge",
        task_type: "charge_card",
        attempt: 1,
        fencing_token: 99,
        input: ORDER,
        config: br#"{"retries":2}"#,
        timeout_ms: 30_000,
        idempotency_key: "018bcfe5-6802-7a5c-8000-000000000003",
        traceparent: Some(TRACE),
        cpu_millis: Some(500),
        memory_mib: Some(4_096),
    };
    let plain = Assignment { traceparent: None, input: b"null", config: b"null", cpu_millis: None, memory_mib: None, ..assignment };
    both(assignment.into(), plain.into());
    both(
        TaskResult {
            group: 1,
            task_id: TASK,
            attempt: 2,
            fencing_token: 100,
            outcome: ResultOutcome::Failed.number(),
            output: Some(b"null"),
            error_code: Some("card_declined"),
            error: Some("the bank said no"),
            retryable: Some(false),
            retry_after_ms: Some(1_500),
            renew_credit: true,
            elsewhere: Some(7),
            cpu_millis_elsewhere: Some(250),
            memory_mib_elsewhere: Some(2_048),
        }
        .into(),
        TaskResult {
            group: 1,
            task_id: TASK,
            attempt: 1,
            fencing_token: 99,
            outcome: ResultOutcome::Completed.number(),
            ..TaskResult::default()
        }
        .into(),
    );
    both(Status { running: 3, queued: 2, draining: true }.into(), Status { running: 0, queued: 0, draining: false }.into());
    let hello = WorkerHello {
        worker_id: WORKER,
        generation: 2,
        name: "worker-a",
        slots: 8,
        prefetch: 4,
        task_types: Strs::of(&["transform", "http"]),
        labels: Headers::of(&[("zone", "eu")]),
        cpu_millis: Some(8_000),
        memory_mib: Some(16_384),
    };
    let plain = WorkerHello { task_types: Strs::EMPTY, labels: Headers::EMPTY, cpu_millis: None, memory_mib: None, ..hello };
    both(hello.into(), plain.into());
    const COORDINATORS: [(&str, &str); 2] =
        [("0195d8b5-0000-7000-8000-000000000001", "127.0.0.1:7400"), ("0195d8b5-0000-7000-8000-000000000002", "127.0.0.1:7402")];
    both(
        WorkerWelcome { groups: U32s::of(&[1, 2, 3]), coordinators: Headers::of(&COORDINATORS), terms: U64s::of(&[7, 9, 7]) }.into(),
        WorkerWelcome { groups: U32s::EMPTY, coordinators: Headers::EMPTY, terms: U64s::EMPTY }.into(),
    );
    let told = Credit { group: 1, amount: -3, elsewhere: Some(7), cpu_millis_elsewhere: Some(250), memory_mib_elsewhere: Some(2_048) };
    both(told.into(), Credit { group: 1, amount: 12, ..Credit::default() }.into());
    both(
        ResultAck { task_id: TASK, fencing_token: 99, verdict: Verdict::Stale.number() }.into(),
        ResultAck { task_id: TASK, fencing_token: 99, verdict: Verdict::Accepted.number() }.into(),
    );
    let refs = [TaskRef { task_id: TASK, fencing_token: 99 }, TaskRef { task_id: INSTANCE, fencing_token: 100 }];
    both(Reconcile { group: 1, tasks: TaskRefs::of(&refs) }.into(), Reconcile { group: 1, tasks: TaskRefs::EMPTY }.into());
    both(Backlog { group: 1, ready: 250 }.into(), Backlog { group: 1, ready: 0 }.into());
    both(
        ReconcileReply { group: 1, unknown: TaskRefs::of(&refs[..1]) }.into(),
        ReconcileReply { group: 1, unknown: TaskRefs::EMPTY }.into(),
    );
    both(Drain { drain: true }.into(), Drain { drain: false }.into());
    both(CancelTask { task_id: TASK, fencing_token: 99 }.into(), CancelTask { task_id: Uuid::nil(), fencing_token: 0 }.into());
    both(CreditReturned { group: 1, amount: 3 }.into(), CreditReturned { group: 1, amount: 0 }.into());
}

/// The frames of all samples, message ids counting up from 1, and one compressed Submit.
pub fn samples() -> Vec<Sample> {
    let mut out = Vec::new();
    each_message(|case, message| {
        let mut frame = Vec::new();
        let flags = if message.message_type() == Ping::TYPE && case == "full" { Flags::URGENT } else { Flags::NONE };
        encode_any(&message, out.len() as u64 + 1, flags, &mut frame);
        out.push(Sample { message_type: message.message_type(), case, frame });
    });
    let payload = format!("{{\"text\":\"{}\"}}", "all work and no play makes jack a dull boy ".repeat(120));
    let mut frame = Vec::new();
    let submit = Submit { event_type: Some("text.written"), payload: payload.as_bytes(), ..Submit::default() };
    encode_compressed(&submit, out.len() as u64 + 1, AT_US, Flags::NONE, &mut frame);
    out.push(Sample { message_type: Submit::TYPE, case: "compressed", frame });
    out
}

/// Appends a frame of a message whose type is known at run time only.
pub fn encode_any(message: &AnyMessage<'_>, message_id: u64, flags: Flags, out: &mut Vec<u8>) {
    macro_rules! one_of {
        ($($variant:ident),+) => {
            match message {
                $( AnyMessage::$variant(message) => encode(message, message_id, AT_US, flags, out), )+
            }
        };
    }
    one_of!(
        Submit,
        Response,
        Query,
        Hello,
        Welcome,
        SubmitBatch,
        BatchResponse,
        Ping,
        Pong,
        GoAway,
        Rejection,
        Subscribe,
        Event,
        Command,
        QueryReply,
        Assignment,
        TaskResult,
        Status,
        WorkerHello,
        WorkerWelcome,
        Credit,
        ResultAck,
        Reconcile,
        Backlog,
        ReconcileReply,
        Drain,
        CancelTask,
        CreditReturned
    );
}
