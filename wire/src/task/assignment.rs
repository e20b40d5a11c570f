//! A task goes out, its result comes back, the result is confirmed.

use uuid::Uuid;

use crate::code::numbered;
use crate::tlv::structs::tlv_struct;

tlv_struct! {
    /// Leader to worker: run this. Takes one credit of the group.
    struct Assignment<'a> = 0x3001 {
        /// Group that owns the task.
        1 group: required u32,
        /// The task, stable over attempts.
        2 task_id: required Uuid,
        /// Its workflow instance.
        3 instance_id: required Uuid,
        /// Its namespace.
        4 namespace: required &'a str,
        /// Its workflow.
        5 workflow: required &'a str,
        /// Version of the workflow.
        6 workflow_version: required u64,
        /// The task's id in the workflow.
        7 task: required &'a str,
        /// What to run.
        8 task_type: required &'a str,
        /// Which attempt, from 1.
        9 attempt: required u32,
        /// Goes back with the result; a result with an older one is turned away.
        10 fencing_token: required u64,
        /// Input, a JSON document.
        11 input: required &'a [u8],
        /// Configuration with its templates filled in, a JSON document.
        12 config: required &'a [u8],
        /// How long the attempt may take, milliseconds from dispatch.
        13 timeout_ms: required u64,
        /// Key for effects outside; the same for all attempts.
        14 idempotency_key: required &'a str,
        /// W3C trace context of the message.
        15 traceparent: optional &'a str,
        /// Processors that the task needs, thousandths; absent means none in particular.
        16 cpu_millis: optional u64,
        /// Memory that it needs, MiB; absent means none in particular.
        17 memory_mib: optional u64,
    }
}

tlv_struct! {
    /// Worker to leader: how an attempt ended. Kept by the worker and sent again until a [`ResultAck`] comes.
    struct TaskResult<'a> = 0x3002 {
        /// The assignment's group.
        1 group: required u32,
        /// The task.
        2 task_id: required Uuid,
        /// The attempt.
        3 attempt: required u32,
        /// The assignment's token.
        4 fencing_token: required u64,
        /// A [`ResultOutcome`].
        5 outcome: required u8,
        /// When completed: a JSON document; absent means null.
        6 output: optional &'a [u8],
        /// When failed: a stable code.
        7 error_code: optional &'a str,
        /// When failed or returned: the reason in words.
        8 error: optional &'a str,
        /// When failed: whether another attempt may help; absent means yes.
        9 retryable: optional bool,
        /// When failed: not before this long, milliseconds.
        10 retry_after_ms: optional u64,
        /// The credit that the assignment took is granted again.
        11 renew_credit: default bool,
        /// When returned for want of processors or memory: as in [`super::Credit`].
        12 elsewhere: optional u64,
        /// Processors that tasks of other groups take here, thousandths; absent means none.
        13 cpu_millis_elsewhere: optional u64,
        /// Memory that they take, MiB; absent means none.
        14 memory_mib_elsewhere: optional u64,
    }
}

tlv_struct! {
    /// Leader to worker: what became of a [`TaskResult`]. Only after commit.
    struct ResultAck = 0x3007 {
        /// The task.
        1 task_id: required Uuid,
        /// The result's token.
        2 fencing_token: required u64,
        /// A [`Verdict`].
        3 verdict: required u8,
    }
}

numbered! {
    /// How an attempt ended.
    ResultOutcome: u8 {
        /// It ran and has an output.
        Completed = 1 "completed",
        /// It ran and failed.
        Failed = 2 "failed",
        /// It was never started; costs no attempt.
        Returned = 3 "returned",
    }
}

numbered! {
    /// What became of a result.
    Verdict: u8 {
        /// It counts.
        Accepted = 1 "accepted",
        /// The task was given away since, or has its result; this one is dropped.
        Stale = 2 "stale",
        /// No such task.
        Unknown = 3 "unknown",
    }
}
