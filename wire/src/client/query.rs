//! Questions that change nothing.

use uuid::Uuid;

use crate::code::numbered;
use crate::tlv::structs::tlv_struct;

tlv_struct! {
    /// A question. Answered by a [`QueryReply`] or a [`crate::client::Rejection`]. Which fields count depends on the kind.
    struct Query<'a> = 0x4003 {
        /// A [`QueryKind`].
        1 kind: required u16,
        /// Namespace; absent means `default`.
        2 namespace: optional &'a str,
        /// Which message, instance or task.
        3 id: optional Uuid,
        /// Which rule or workflow.
        4 name: optional &'a str,
        /// Only those in this state.
        5 status: optional &'a str,
        /// At most this many per page.
        6 limit: optional u32,
        /// Where to go on: the `next_cursor` of the page before.
        7 cursor: optional &'a str,
        /// Only this group.
        8 group: optional u32,
        /// As of this version of the catalog.
        9 version: optional u64,
        /// What else a list shall contain only: a JSON object.
        10 filter: optional &'a [u8],
    }
}

tlv_struct! {
    /// The answer to a [`Query`] or a [`crate::client::Command`].
    struct QueryReply<'a> = 0x400F {
        /// Content type of the body, `application/json`.
        1 content_type: required &'a str,
        /// One document.
        2 body: required &'a [u8],
        /// There is more; ask again with this cursor.
        3 next_cursor: optional &'a str,
        /// Version of what was asked for, as `if_match` takes it.
        4 version: optional u64,
    }
}

numbered! {
    /// What a [`Query`] asks for.
    QueryKind: u16 {
        /// One message by id: its envelope, what was decided on it, which instances it started.
        Message = 1 "message",
        /// One workflow instance by id, with its tasks.
        Instance = 2 "instance",
        /// One task by id, with its attempts.
        Task = 3 "task",
        /// Tasks, by status.
        Tasks = 4 "tasks",
        /// Workflow instances, by status and workflow name.
        Instances = 5 "instances",
        /// All rules, in priority order.
        Rules = 6 "rules",
        /// One rule by name.
        Rule = 7 "rule",
        /// All workflow definitions, newest versions.
        WorkflowDefinitions = 8 "workflow_definitions",
        /// One workflow definition by name.
        WorkflowDefinition = 9 "workflow_definition",
        /// The cluster: groups, their leaders, the meta leader.
        ClusterStatus = 10 "cluster_status",
        /// The nodes and their states.
        Nodes = 11 "nodes",
        /// The answering node's own checks.
        Health = 12 "health",
        /// Versions of the catalog, who applied them, when and why.
        CatalogHistory = 13 "catalog_history",
        /// Why a task runs where it runs, or does not run.
        WhyTask = 14 "why_task",
        /// The workers, their slots, labels and load.
        Workers = 15 "workers",
        /// Why an instance is where it is: its keys, its open tasks.
        WhyInstance = 16 "why_instance",
        /// Open incidents: instances that failed, by workflow and filter.
        Incidents = 17 "incidents",
        /// One incident by the id of its instance: reason, input, attempts.
        Incident = 18 "incident",
        /// The schedules by which workflows start, with their next runs.
        Schedules = 19 "schedules",
        /// All rules and workflows of a namespace, now or at a version, as they can be applied again.
        CatalogExport = 30 "catalog_export",
        /// How often rules matched on the answering node since it started.
        RuleStatistics = 31 "rule_statistics",
        /// The candidate beside the catalog, and what the answering node counted about both.
        Trial = 32 "trial",
        /// Messages about which the answering node's catalog and a shadow differed.
        TrialSamples = 33 "trial_samples",
    }
}
