//! Requests that change something and are not messages.

use uuid::Uuid;

use crate::code::numbered;
use crate::tlv::structs::tlv_struct;

tlv_struct! {
    /// A change. Answered by a [`crate::client::QueryReply`] or a [`crate::client::Rejection`]. Which fields count depends on the kind.
    struct Command<'a> = 0x400E {
        /// A [`CommandKind`].
        1 kind: required u16,
        /// Namespace; absent means `default`.
        2 namespace: optional &'a str,
        /// Rule id, workflow id, task type, signal, group number or id of a key.
        3 name: optional &'a str,
        /// Which instance, worker or node.
        4 id: optional Uuid,
        /// Input, rules, workflows or payload.
        5 body: optional &'a [u8],
        /// Content type of the body: `application/json` (also when absent) or `application/yaml`.
        6 content_type: optional &'a str,
        /// What makes a resend recognisable.
        7 idempotency_key: optional &'a str,
        /// Refuse unless this is the current version.
        8 if_match: optional u64,
        /// Check and answer as if, but change nothing.
        9 dry_run: default bool,
        /// Who asks, for the audit log.
        10 author: optional &'a str,
        /// Why, for the audit log.
        11 reason: optional &'a str,
        /// W3C trace context.
        12 traceparent: optional &'a str,
        /// Which version of the catalog.
        13 version: optional u64,
        /// How long until a start begins, milliseconds.
        14 delay_ms: optional u64,
        /// When a start begins, microseconds since the epoch; one that has passed begins at once.
        15 start_at_us: optional u64,
    }
}

numbered! {
    /// What a [`Command`] does.
    CommandKind: u16 {
        /// Start the workflow `name` with `body` as its input.
        StartWorkflow = 1 "start_workflow",
        /// Start one task of type `name` with `body` as its input, in a workflow of its own.
        StartTask = 2 "start_task",
        /// Replace the whole rule set (and workflows, when the body has them), at once or not at all.
        ApplyCatalog = 3 "apply_catalog",
        /// Add or replace one rule.
        PutRule = 4 "put_rule",
        /// Remove one rule.
        DeleteRule = 5 "delete_rule",
        /// Add a version of one workflow.
        PutWorkflow = 6 "put_workflow",
        /// Remove one workflow; its running instances go on.
        DeleteWorkflow = 7 "delete_workflow",
        /// Cancel one instance.
        CancelInstance = 8 "cancel_instance",
        /// Give a worker no more tasks.
        DrainWorker = 9 "drain_worker",
        /// Give a worker tasks again.
        UndrainWorker = 10 "undrain_worker",
        /// Send the signal `name` to the instance `id`, or to whoever waits for the key in `body`.
        Signal = 11 "signal",
        /// Start nothing new in the instance `id`.
        PauseInstance = 12 "pause_instance",
        /// Let a paused instance go on.
        ResumeInstance = 13 "resume_instance",
        /// Take an instance that failed back to where it failed.
        RetryInstance = 14 "retry_instance",
        /// Remove a coordinator from the cluster for good.
        RemoveNode = 20 "remove_node",
        /// Move the lead of the group whose number is `name` to a coordinator.
        TransferLeader = 21 "transfer_leader",
        /// Seal gossip with the key whose id is `name`.
        UseGossipKey = 22 "use_gossip_key",
        /// Accept no key of gossip up to the id `name` any more.
        RetireGossipKeys = 23 "retire_gossip_keys",
        /// Make the catalog what it was at `version`, as a new version.
        RollbackCatalog = 30 "rollback_catalog",
        /// Let one rule take part again.
        EnableRule = 31 "enable_rule",
        /// Keep one rule and let it take no part.
        DisableRule = 32 "disable_rule",
        /// Put a candidate rule set beside the catalog, to judge what the catalog decides.
        StartShadow = 33 "start_shadow",
        /// Put a candidate rule set beside the catalog, to decide for a share of the messages.
        StartCanary = 34 "start_canary",
        /// Give the candidate another share.
        SetTrial = 35 "set_trial",
        /// Make the candidate the catalog, as a new version.
        PromoteTrial = 36 "promote_trial",
        /// Take the candidate away.
        EndTrial = 37 "end_trial",
        /// Stage a part of a body that does not fit in a frame, for a command on the same connection.
        StageBody = 38 "stage_body",
    }
}
