//! Questions: reads that the shard of a connection puts to the shards that own the groups.

use std::sync::Arc;

use distric_exec::machine::InstanceFilter;
use distric_exec::machine::admission::GateKey;
use distric_model::{GroupId, InstanceId, MessageId, Namespace, TaskId};

use super::letters::{CatalogChangeRequest, ConnId, ShardIndex};
use super::refusal::Refusal;

/// A read of one shard's groups.
#[derive(Clone, Debug)]
pub enum Question {
    /// The record of an idempotency key, before any rule is evaluated.
    Recall {
        /// The home group.
        group: GroupId,
        /// The namespace.
        namespace: Namespace,
        /// The key.
        key: Arc<str>,
        /// The hash of what is sent now.
        payload_hash: u64,
    },
    /// One message.
    Message(Namespace, MessageId),
    /// One instance.
    Instance(Namespace, InstanceId),
    /// One task.
    Task(Namespace, TaskId),
    /// What a task waits for.
    WhyTask(Namespace, TaskId),
    /// What an instance waits for.
    WhyInstance(Namespace, InstanceId),
    /// What a key of starts holds, for the instance that waits for it.
    Gate(GateKey, InstanceId),
    /// A page of tasks.
    Tasks(PageRequest),
    /// A page of instances.
    Instances(PageRequest),
    /// A page of incidents.
    Incidents(PageRequest),
    /// One incident.
    Incident(Namespace, InstanceId),
    /// The schedules of this shard's groups.
    Schedules(Namespace),
    /// The workers, as this shard's groups see them.
    Workers,
    /// Rules, workflow definitions and history: the shard of group 0 answers.
    Catalog(CatalogQuestion),
    /// How often rules matched on this shard.
    RuleStatistics(Namespace),
    /// What this shard knows about the trial; or the differing messages that it kept.
    Trial {
        /// The differing messages.
        samples: bool,
    },
    /// This shard's part of the cluster's status.
    Status,
    /// Follow an instance from its beginning: events go to this connection of the asking shard.
    Follow {
        /// The namespace.
        namespace: Namespace,
        /// The instance.
        instance: InstanceId,
        /// The follower's shard.
        shard: ShardIndex,
        /// The follower's connection.
        conn: ConnId,
        /// The message id of the Subscribe frame, repeated on every event.
        message_id: u64,
    },
    /// Change the catalog: the shard of group 0 answers when every shard uses the new one.
    Change(Box<CatalogChangeRequest>),
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The namespace.
    pub namespace: Namespace,
    /// Only these states.
    pub status: Option<String>,
    /// Only this workflow.
    pub workflow: Option<String>,
    /// Ids after this one.
    pub after: Option<uuid::Uuid>,
    /// At most so many.
    pub limit: usize,
    /// What else: rule, message, key, code, task, time of creation.
    pub more: InstanceFilter,
}

/// A read of the catalog.
#[derive(Clone, Debug)]
pub enum CatalogQuestion {
    /// All rules of a namespace.
    Rules(Namespace),
    /// One rule.
    Rule(Namespace, String),
    /// All workflow definitions of a namespace.
    Workflows(Namespace),
    /// One workflow definition with its versions.
    Workflow(Namespace, String),
    /// What was changed, newest first.
    History {
        /// At most so many.
        limit: usize,
    },
    /// Everything that a namespace had at a version, as it can be applied again. In pages.
    Export {
        /// The namespace.
        namespace: Namespace,
        /// The version; the newest when absent.
        version: Option<u64>,
        /// Where the page before ended.
        after: Option<String>,
    },
}

/// One shard's part of a page.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// JSON documents with the ids they are ordered by, ascending.
    pub rows: Vec<(uuid::Uuid, Vec<u8>)>,
    /// Everything up to this id was looked at; `None`: everything there is.
    pub scanned_to: Option<uuid::Uuid>,
}

/// What a shard answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A JSON document, and the version or index it is of.
    Document(Vec<u8>, Option<u64>),
    /// A JSON document that goes on, the version it is of, and where it goes on.
    Part(Vec<u8>, u64, String),
    /// Rows of a page.
    Rows(Rows),
    /// No such thing, with the reason in words.
    Absent(String),
    /// The record of an idempotency key.
    Recalled(Option<Box<distric_exec::Reply>>),
    /// The follower is registered; events follow by themselves.
    Following,
    /// Refused, with the reason.
    Rejected(Box<Refusal>),
}
