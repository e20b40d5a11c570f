//! Leader to worker: stop taking tasks, stop running one.

use uuid::Uuid;

use crate::tlv::structs::tlv_struct;

tlv_struct! {
    /// Take no more tasks, or take them again.
    struct Drain = 0x300B {
        /// True to drain, false to undo it.
        1 drain: required bool,
    }
}

tlv_struct! {
    /// Stop this attempt; its result will not count.
    struct CancelTask = 0x300C {
        /// The task.
        1 task_id: required Uuid,
        /// The assignment's token.
        2 fencing_token: required u64,
    }
}
