//! What came over the wire, owned.

use distric_wire::client::BatchOutcome;
use distric_wire::{AnyMessage, Code, Frame, FrameLimits};
use serde_json::Value;
use uuid::Uuid;

/// One message from a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Response(Response),
    Rejection(Rejection),
    Reply(Reply),
    Batch(Vec<Said>),
    Event {
        index: u64,
        kind: String,
        body: Value,
        last: bool,
    },
    Welcome {
        shard: u16,
        frames_in_flight_max: u32,
    },
    Pong(u64),
    GoAway,
    /// Groups, and the term of each.
    WorkerWelcome(Vec<(u32, u64)>),
    Assignment(Box<Assigned>),
    ResultAck {
        task: Uuid,
        token: u64,
        verdict: u8,
    },
    Reconcile {
        group: u32,
        tasks: Vec<(Uuid, u64)>,
    },
    CancelTask {
        task: Uuid,
        token: u64,
    },
    Backlog {
        group: u32,
        ready: u32,
    },
    CreditReturned {
        group: u32,
        amount: u32,
    },
    Drain(bool),
    /// The connection is gone; whatever was asked has no answer.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub outcome: u8,
    pub message_id: Uuid,
    pub catalog_version: u64,
    pub rules: Vec<String>,
    pub workflows: Vec<String>,
    pub instances: Vec<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub reason: String,
    pub limit: Option<(String, u64)>,
    pub retry_after_ms: Option<u64>,
    pub field: Option<String>,
    pub at: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub body: Value,
    pub next_cursor: Option<String>,
    pub version: Option<u64>,
}

/// An attempt as its worker gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    pub group: u32,
    pub task_id: Uuid,
    pub instance_id: Uuid,
    pub workflow: String,
    pub workflow_version: u64,
    pub task: String,
    pub task_type: String,
    pub attempt: u32,
    pub token: u64,
    pub input: Value,
    pub config: Value,
    pub idempotency_key: String,
}

impl Said {
    /// Reads one frame. Panics on what no node may send.
    pub fn read(frame: &Frame<'_>) -> Self {
        let mut scratch = Vec::new();
        let payload = frame.decompressed(&mut scratch, FrameLimits::AUTHENTICATED).expect("a node compresses well");
        let message = AnyMessage::decode(frame.header.message_type, payload).expect("a node encodes well").expect("of a known type");
        let json = |bytes: &[u8]| if bytes.is_empty() { Value::Null } else { serde_json::from_slice(bytes).expect("JSON") };
        match message {
            AnyMessage::Response(response) => Self::Response(response_of(&response)),
            AnyMessage::Rejection(rejection) => Self::Rejection(rejection_of(&rejection)),
            AnyMessage::QueryReply(reply) => {
                Self::Reply(Reply { body: json(reply.body), next_cursor: reply.next_cursor.map(str::to_owned), version: reply.version })
            }
            AnyMessage::BatchResponse(batch) => Self::Batch(
                batch
                    .items
                    .iter()
                    .map(|item| match BatchOutcome::decode(item).expect("an outcome") {
                        BatchOutcome::Response(response) => Self::Response(response_of(&response)),
                        BatchOutcome::Rejection(rejection) => Self::Rejection(rejection_of(&rejection)),
                    })
                    .collect(),
            ),
            AnyMessage::Event(event) => {
                Self::Event { index: event.index, kind: event.kind.to_owned(), body: json(event.body), last: event.last }
            }
            AnyMessage::Welcome(welcome) => {
                Self::Welcome { shard: welcome.shard_index, frames_in_flight_max: welcome.frames_in_flight_max }
            }
            AnyMessage::Pong(pong) => Self::Pong(pong.token),
            AnyMessage::GoAway(_) => Self::GoAway,
            AnyMessage::WorkerWelcome(welcome) => Self::WorkerWelcome(welcome.groups.iter().zip(welcome.terms.iter()).collect()),
            AnyMessage::Assignment(assignment) => Self::Assignment(Box::new(Assigned {
                group: assignment.group,
                task_id: assignment.task_id,
                instance_id: assignment.instance_id,
                workflow: assignment.workflow.to_owned(),
                workflow_version: assignment.workflow_version,
                task: assignment.task.to_owned(),
                task_type: assignment.task_type.to_owned(),
                attempt: assignment.attempt,
                token: assignment.fencing_token,
                input: json(assignment.input),
                config: json(assignment.config),
                idempotency_key: assignment.idempotency_key.to_owned(),
            })),
            AnyMessage::ResultAck(ack) => Self::ResultAck { task: ack.task_id, token: ack.fencing_token, verdict: ack.verdict },
            AnyMessage::Reconcile(reconcile) => Self::Reconcile {
                group: reconcile.group,
                tasks: reconcile.tasks.iter().map(|task| (task.task_id, task.fencing_token)).collect(),
            },
            AnyMessage::CancelTask(cancel) => Self::CancelTask { task: cancel.task_id, token: cancel.fencing_token },
            AnyMessage::Backlog(backlog) => Self::Backlog { group: backlog.group, ready: backlog.ready },
            AnyMessage::CreditReturned(credit) => Self::CreditReturned { group: credit.group, amount: credit.amount },
            AnyMessage::Drain(drain) => Self::Drain(drain.drain),
            other => panic!("a node does not send {other:?}"),
        }
    }

    /// A Response, or a panic that shows what came instead.
    #[track_caller]
    pub fn response(self) -> Response {
        match self {
            Self::Response(response) => response,
            other => panic!("expected a Response, got {other:?}"),
        }
    }

    /// A Rejection, or a panic that shows what came instead.
    #[track_caller]
    pub fn rejection(self) -> Rejection {
        match self {
            Self::Rejection(rejection) => rejection,
            other => panic!("expected a Rejection, got {other:?}"),
        }
    }

    /// A QueryReply, or a panic that shows what came instead.
    #[track_caller]
    pub fn reply(self) -> Reply {
        match self {
            Self::Reply(reply) => reply,
            other => panic!("expected a QueryReply, got {other:?}"),
        }
    }

    /// The code of a Rejection.
    #[track_caller]
    pub fn code(self) -> Code {
        self.rejection().code
    }
}

fn response_of(response: &distric_wire::client::Response<'_>) -> Response {
    Response {
        outcome: response.outcome,
        message_id: response.message_id,
        catalog_version: response.catalog_version,
        rules: response.rules.iter().map(str::to_owned).collect(),
        workflows: response.workflows.iter().map(str::to_owned).collect(),
        instances: response.instances.iter().collect(),
    }
}

fn rejection_of(rejection: &distric_wire::client::Rejection<'_>) -> Rejection {
    let code = rejection.known_code().expect("a known code");
    assert_eq!(code.name(), rejection.name, "number and name agree");
    Rejection {
        code,
        reason: rejection.reason.to_owned(),
        limit: rejection.limit_name.map(|name| (name.to_owned(), rejection.limit_value.unwrap_or(0))),
        retry_after_ms: rejection.retry_after_ms,
        field: rejection.field.map(str::to_owned),
        at: rejection.line.map(|line| (line, rejection.column.unwrap_or(0))),
    }
}
