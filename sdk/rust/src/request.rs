//! Questions and commands: everything that is not a message.

use bytes::Bytes;
use distric_wire::client::{self as wire, CommandKind, QueryKind, QueryReply};
use uuid::Uuid;

/// A question. Build it with [`Query::new`] and the setters that its kind needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What is asked.
    pub kind: QueryKind,
    /// Namespace; the client's default when `None`.
    pub namespace: Option<String>,
    /// Id of the thing asked about.
    pub id: Option<Uuid>,
    /// Name of the thing asked about.
    pub name: Option<String>,
    /// Only things in this state.
    pub status: Option<String>,
    /// Most items in the answer.
    pub limit: Option<u32>,
    /// Where the last answer ended: its `next_cursor`.
    pub cursor: Option<String>,
    /// Only this group.
    pub group: Option<u32>,
    /// As of this version of the catalog.
    pub version: Option<u64>,
    /// What else a list shall contain only: a JSON object.
    pub filter: Option<Bytes>,
}

impl Query {
    /// A question of this kind.
    pub fn new(kind: QueryKind) -> Self {
        Self {
            kind,
            namespace: None,
            id: None,
            name: None,
            status: None,
            limit: None,
            cursor: None,
            group: None,
            version: None,
            filter: None,
        }
    }

    /// Sets the namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets the id of the thing asked about.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the name of the thing asked about.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Asks only for things in this state.
    pub fn status(mut self, status: impl Into<String>) -> Self {
        self.status = Some(status.into());
        self
    }

    /// Sets the most items in the answer.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Goes on where the last answer ended.
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// Asks one group only.
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Asks about this version of the catalog.
    pub fn version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    pub(crate) fn wire(&self) -> wire::Query<'_> {
        wire::Query {
            kind: self.kind.number(),
            namespace: self.namespace.as_deref(),
            id: self.id,
            name: self.name.as_deref(),
            status: self.status.as_deref(),
            limit: self.limit,
            cursor: self.cursor.as_deref(),
            group: self.group,
            version: self.version,
            filter: self.filter.as_deref(),
        }
    }
}

/// A command. Build it with [`Command::new`] and the setters that its kind needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What is to be done.
    pub kind: CommandKind,
    /// Namespace; the client's default when `None`.
    pub namespace: Option<String>,
    /// Id of a rule or workflow, or a task type.
    pub name: Option<String>,
    /// Id of an instance or worker.
    pub id: Option<Uuid>,
    /// Document or input.
    pub body: Option<Bytes>,
    /// Content type of the body.
    pub content_type: Option<String>,
    /// Two starts with one key take effect once. Starts without one get a random one.
    pub idempotency_key: Option<String>,
    /// Only if this is the current version.
    pub if_match: Option<u64>,
    /// Check only; change nothing.
    pub dry_run: bool,
    /// Who wants it, for the audit log.
    pub author: Option<String>,
    /// Why, for the audit log.
    pub reason: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Which version of the catalog.
    pub version: Option<u64>,
    /// How long until a start begins, milliseconds.
    pub delay_ms: Option<u64>,
    /// When a start begins, microseconds since the epoch.
    pub start_at_us: Option<u64>,
}

impl Command {
    /// A command of this kind.
    pub fn new(kind: CommandKind) -> Self {
        Self {
            kind,
            namespace: None,
            name: None,
            id: None,
            body: None,
            content_type: None,
            idempotency_key: None,
            if_match: None,
            dry_run: false,
            author: None,
            reason: None,
            traceparent: None,
            version: None,
            delay_ms: None,
            start_at_us: None,
        }
    }

    /// Starts a workflow with this input, a JSON document.
    pub fn start_workflow(workflow: impl Into<String>, input: impl Into<Bytes>) -> Self {
        Self::new(CommandKind::StartWorkflow).name(workflow).body(input)
    }

    /// Starts one task of this type with this input, a JSON document.
    pub fn start_task(task_type: impl Into<String>, input: impl Into<Bytes>) -> Self {
        Self::new(CommandKind::StartTask).name(task_type).body(input)
    }

    /// Sends a signal by key: to the task that waits for this name and key, or the next that does. The body is a JSON document with `key`,
    /// and if wanted `payload` and `ttl`. Without `key`, [`Self::id`] says which instance.
    pub fn signal(name: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(CommandKind::Signal).name(name).body(body)
    }

    /// Sets the namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets the id of a rule or workflow, or the task type.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the id of an instance or worker.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the document or input.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the content type of the body.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Sets the idempotency key: two starts with one key take effect once.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Acts only if this is the current version.
    pub fn if_match(mut self, version: u64) -> Self {
        self.if_match = Some(version);
        self
    }

    /// Checks only; changes nothing.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Sets who wants it.
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
        self
    }

    /// Sets why.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Sets the W3C trace context.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Sets the version of the catalog.
    pub fn version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// Whether it makes something new each time it is applied, unless an idempotency key says that it is the same.
    pub(crate) fn is_start(&self) -> bool {
        matches!(self.kind, CommandKind::StartWorkflow | CommandKind::StartTask | CommandKind::Signal)
    }

    /// Whether sending it twice has the effect and the answer of sending it once.
    ///
    /// Not so for a deletion or the beginning and end of a trial (the second answer is a refusal) and with `if_match` (the second one is `precondition_failed`).
    pub(crate) fn is_resend_safe(&self) -> bool {
        let once = matches!(
            self.kind,
            CommandKind::DeleteRule
                | CommandKind::DeleteWorkflow
                | CommandKind::StartShadow
                | CommandKind::StartCanary
                | CommandKind::PromoteTrial
                | CommandKind::EndTrial
        );
        self.dry_run || self.idempotency_key.is_some() || !(self.is_start() || once || self.if_match.is_some())
    }

    pub(crate) fn wire(&self) -> wire::Command<'_> {
        wire::Command {
            kind: self.kind.number(),
            namespace: self.namespace.as_deref(),
            name: self.name.as_deref(),
            id: self.id,
            body: self.body.as_deref(),
            content_type: self.content_type.as_deref(),
            idempotency_key: self.idempotency_key.as_deref(),
            if_match: self.if_match,
            dry_run: self.dry_run,
            author: self.author.as_deref(),
            reason: self.reason.as_deref(),
            traceparent: self.traceparent.as_deref(),
            version: self.version,
            delay_ms: self.delay_ms,
            start_at_us: self.start_at_us,
        }
    }
}

/// The answer to a [`Query`] or [`Command`]: a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Content type of the body, usually `application/json`.
    pub content_type: String,
    /// The document.
    pub body: Bytes,
    /// Where to go on, when there is more.
    pub next_cursor: Option<String>,
    /// Version of the thing, to be given as `if_match`.
    pub version: Option<u64>,
}

impl Reply {
    /// The body as JSON. Errors: when it is not.
    pub fn json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    pub(crate) fn of_wire(wire: &QueryReply<'_>) -> Self {
        Self {
            content_type: wire.content_type.to_owned(),
            body: Bytes::copy_from_slice(wire.body),
            next_cursor: wire.next_cursor.map(str::to_owned),
            version: wire.version,
        }
    }
}
