//! A worker's introduction and its heartbeat.

use uuid::Uuid;

use crate::tlv::structs::tlv_struct;
use crate::tlv::views::{Headers, Strs, U32s, U64s};

tlv_struct! {
    /// What a worker is and can do. Sent once per connection, after the Welcome. Answered by a [`WorkerWelcome`].
    struct WorkerHello<'a> = 0x3004 {
        /// The worker, stable over its reconnects.
        1 worker_id: required Uuid,
        /// Greater at every start of the process; an older one is turned away.
        2 generation: required u64,
        /// Name for people.
        3 name: required &'a str,
        /// Tasks that it runs at once.
        4 slots: required u32,
        /// Tasks that it holds beyond those.
        5 prefetch: required u32,
        /// Task types that it runs.
        6 task_types: required Strs<'a>,
        /// What placement may ask for, such as zone to eu.
        7 labels: default Headers<'a>,
        /// Processors that it has for tasks, thousandths; absent means not limited.
        8 cpu_millis: optional u64,
        /// Memory that it has for tasks, MiB; absent means not limited.
        9 memory_mib: optional u64,
    }
}

tlv_struct! {
    /// The answer to a [`WorkerHello`]; sent again when leadership moves, or coordinators come or go.
    struct WorkerWelcome<'a> = 0x3005 {
        /// Groups whose leader answers on this connection.
        1 groups: required U32s<'a>,
        /// All coordinators of the cluster: node id to host:port. None: this node does not know them yet.
        2 coordinators: default Headers<'a>,
        /// The term of each group's leader, in the order of `groups`: of two coordinators that both name a group, the later term
        /// holds. None, or 0: not said, and the last word holds.
        3 terms: default U64s<'a>,
    }
}

tlv_struct! {
    /// A worker's heartbeat.
    struct Status = 0x3003 {
        /// Tasks that run.
        1 running: required u32,
        /// Tasks that wait in the worker.
        2 queued: required u32,
        /// Whether the worker takes no more.
        3 draining: required bool,
    }
}
