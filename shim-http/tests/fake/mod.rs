//! A node made of a script: real frames over a real socket, and answers from a function.

// Each test file uses its part of it.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};

use distric_sdk::{Client, ClientOptions};
use distric_wire::client::{BatchItem, BatchResponse, CommandKind, Pong, QueryKind, QueryReply, Rejection, Response, Submit, Welcome};
use distric_wire::{AnyMessage, Code, Flags, FrameLimits, Items, Strs, Uuids, encode, parse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// The id that the fake node gives to every message and instance.
pub const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// A message as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub namespace: Option<String>,
    pub event_type: Option<String>,
    pub source: Option<String>,
    pub routing_key: Option<String>,
    pub idempotency_key: Option<String>,
    pub traceparent: Option<String>,
    pub headers: Vec<(String, String)>,
    pub content_type: Option<String>,
    pub payload: String,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Message(Sent),
    Batch(Vec<Sent>),
    Query {
        kind: QueryKind,
        id: Option<Uuid>,
        name: Option<String>,
        status: Option<String>,
        limit: Option<u32>,
        cursor: Option<String>,
    },
    Command {
        kind: CommandKind,
        namespace: Option<String>,
        name: Option<String>,
        id: Option<Uuid>,
        body: Option<String>,
        content_type: Option<String>,
        idempotency_key: Option<String>,
        if_match: Option<u64>,
        dry_run: bool,
        author: Option<String>,
        reason: Option<String>,
    },
}

/// What the script answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A receipt with this outcome and these workflows.
    Receipt(u8, &'static [&'static str]),
    /// One outcome per message of a batch.
    Batch(Vec<Answer>),
    /// A document with version and next cursor.
    Document(String, Option<u64>, Option<&'static str>),
    Refusal(Box<Rejection<'static>>),
    /// No answer at all.
    Silence,
}

impl Answer {
    pub fn document(text: &str) -> Self {
        Self::Document(text.to_owned(), None, None)
    }

    pub fn refusal(code: Code, reason: &'static str) -> Self {
        Self::Refusal(Box::new(Rejection::new(code, reason)))
    }
}

/// The fake node and a client connected to it.
pub struct Fake {
    pub client: Client,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub async fn answering(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, record) = (Arc::new(script), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&script), Arc::clone(&record)));
            }
        });
        let mut options = ClientOptions::new([address]).request_timeout_ms(2_000);
        options.retry.attempts_max = 1;
        Self { client: Client::connect(options).await.unwrap(), asked }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only message so far.
    pub fn message(&self) -> Sent {
        match self.asked().as_slice() {
            [Asked::Message(message)] => message.clone(),
            other => panic!("expected one message, got {other:?}"),
        }
    }
}

async fn connection(mut stream: TcpStream, script: Arc<impl Fn(&Asked) -> Answer>, record: Arc<Mutex<Vec<Asked>>>) {
    let mut bytes = Vec::new();
    loop {
        while let Some((consumed, answer)) = answer_first(&bytes, &*script, &record) {
            bytes.drain(..consumed);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// The answer to the first whole frame, and that frame's length.
fn answer_first(bytes: &[u8], script: &impl Fn(&Asked) -> Answer, record: &Mutex<Vec<Asked>>) -> Option<(usize, Vec<u8>)> {
    let limits = FrameLimits { frame_bytes_max: 16 << 20 };
    let (frame, consumed) = parse(bytes, limits).unwrap()?;
    let mut scratch = Vec::new();
    let payload = frame.decompressed(&mut scratch, limits).unwrap();
    let id = frame.header.message_id;
    let mut out = Vec::new();
    let asked = match AnyMessage::decode(frame.header.message_type, payload).unwrap() {
        Some(AnyMessage::Hello(_)) => {
            encode(&welcome(), id, 0, Flags::NONE, &mut out);
            return Some((consumed, out));
        }
        Some(AnyMessage::Ping(ping)) => {
            encode(&Pong { token: ping.token }, id, 0, Flags::NONE, &mut out);
            return Some((consumed, out));
        }
        Some(AnyMessage::Submit(submit)) => Asked::Message(sent(&submit)),
        Some(AnyMessage::SubmitBatch(batch)) => {
            Asked::Batch(batch.messages.iter().map(|item| sent(&Submit::decode(item).unwrap())).collect())
        }
        Some(AnyMessage::Query(query)) => Asked::Query {
            kind: QueryKind::from_number(query.kind).unwrap(),
            id: query.id,
            name: query.name.map(str::to_owned),
            status: query.status.map(str::to_owned),
            limit: query.limit,
            cursor: query.cursor.map(str::to_owned),
        },
        Some(AnyMessage::Command(command)) => Asked::Command {
            kind: CommandKind::from_number(command.kind).unwrap(),
            namespace: command.namespace.map(str::to_owned),
            name: command.name.map(str::to_owned),
            id: command.id,
            body: command.body.map(|body| String::from_utf8(body.to_vec()).unwrap()),
            content_type: command.content_type.map(str::to_owned),
            idempotency_key: command.idempotency_key.map(str::to_owned),
            if_match: command.if_match,
            dry_run: command.dry_run,
            author: command.author.map(str::to_owned),
            reason: command.reason.map(str::to_owned),
        },
        other => panic!("the shim sent {other:?}"),
    };
    record.lock().unwrap().push(asked.clone());
    reply(script(&asked), id, &mut out);
    Some((consumed, out))
}

fn sent(submit: &Submit<'_>) -> Sent {
    Sent {
        namespace: submit.namespace.map(str::to_owned),
        event_type: submit.event_type.map(str::to_owned),
        source: submit.source.map(str::to_owned),
        routing_key: submit.routing_key.map(str::to_owned),
        idempotency_key: submit.idempotency_key.map(str::to_owned),
        traceparent: submit.traceparent.map(str::to_owned),
        headers: submit.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        content_type: submit.content_type.map(str::to_owned),
        payload: String::from_utf8(submit.payload.to_vec()).unwrap(),
    }
}

fn reply(answer: Answer, id: u64, out: &mut Vec<u8>) {
    match answer {
        Answer::Receipt(outcome, workflows) => with_receipt(outcome, workflows, |receipt| encode(receipt, id, 0, Flags::NONE, out)),
        Answer::Document(body, version, next_cursor) => {
            let reply = QueryReply { content_type: "application/json", body: body.as_bytes(), next_cursor, version };
            encode(&reply, id, 0, Flags::NONE, out);
        }
        Answer::Refusal(rejection) => encode(&*rejection, id, 0, Flags::NONE, out),
        Answer::Batch(answers) => {
            let items: Vec<Vec<u8>> = answers.into_iter().map(batch_item).collect();
            let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
            encode(&BatchResponse { items: Items::of(&items) }, id, 0, Flags::NONE, out);
        }
        Answer::Silence => {}
    }
}

fn batch_item(answer: Answer) -> Vec<u8> {
    let (mut inner, mut item) = (Vec::new(), Vec::new());
    match answer {
        Answer::Receipt(outcome, workflows) => {
            with_receipt(outcome, workflows, |receipt| receipt.encode_payload(&mut inner));
            BatchItem { response: Some(&inner), rejection: None }.encode_payload(&mut item);
        }
        Answer::Refusal(rejection) => {
            rejection.encode_payload(&mut inner);
            BatchItem { response: None, rejection: Some(&inner) }.encode_payload(&mut item);
        }
        other => panic!("{other:?} is no outcome of a message"),
    }
    item
}

fn with_receipt(outcome: u8, workflows: &[&str], then: impl FnOnce(&Response<'_>)) {
    let id: Uuid = ID.parse().unwrap();
    let instances = vec![id; workflows.len()];
    then(&Response {
        outcome,
        message_id: id,
        catalog_version: 3,
        rules: Strs::EMPTY,
        workflows: Strs::of(workflows),
        instances: Uuids::of(&instances),
    });
}

fn welcome() -> Welcome<'static> {
    Welcome {
        version: 1,
        node_id: ID.parse().unwrap(),
        cluster_id: ID.parse().unwrap(),
        role: "coordinator",
        shard_index: 0,
        shard_count: 1,
        partition_map_version: 1,
        frame_bytes_max: 1 << 20,
        frames_in_flight_max: 64,
        bytes_in_flight_max: 16 << 20,
        server_time_us: 0,
        features: 0,
        server_version: "0",
    }
}
