//! Credits: leases on a worker's slots, granted to leaders.
//!
//! Invariant, kept by the worker: over all groups, credit granted and not returned never exceeds slots + prefetch.

use crate::tlv::structs::tlv_struct;

tlv_struct! {
    /// Worker to leader: more room, or less.
    struct Credit = 0x3006 {
        /// Which group's leader.
        1 group: required u32,
        /// Assignments granted when positive, asked back when negative.
        2 amount: required i64,
        /// Says that the next two fields hold. Grows with everything that the worker's process says of this; an older word does not count.
        3 elsewhere: optional u64,
        /// Processors that tasks of other groups take here, thousandths; absent means none.
        4 cpu_millis_elsewhere: optional u64,
        /// Memory that they take, MiB; absent means none.
        5 memory_mib_elsewhere: optional u64,
    }
}

tlv_struct! {
    /// Leader to worker: credit that was asked back and is not in use.
    struct CreditReturned = 0x300D {
        /// Which group's leader.
        1 group: required u32,
        /// How much.
        2 amount: required u32,
    }
}

tlv_struct! {
    /// Leader to worker: how much work waits there, so that credit goes where it is needed.
    struct Backlog = 0x3009 {
        /// Which group's leader.
        1 group: required u32,
        /// Tasks that are ready and have no worker.
        2 ready: required u32,
    }
}
