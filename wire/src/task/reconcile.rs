//! After a change of leader or a lost connection: who still holds what.

use uuid::Uuid;

use crate::error::Problem;
use crate::tlv::structs::tlv_struct;
use crate::tlv::views::TaskRefs;
use crate::tlv::{Kind, Value};

tlv_struct! {
    /// Leader to worker: these tasks are assigned to you. The worker resends the results of finished ones, is silent
    /// about running ones, and names the others in a [`ReconcileReply`].
    struct Reconcile<'a> = 0x3008 {
        /// Which group.
        1 group: required u32,
        /// Each the payload of a [`TaskRef`].
        2 tasks: required TaskRefs<'a>,
    }
}

tlv_struct! {
    /// Worker to leader: of the tasks of a [`Reconcile`], these are unknown here and may be dispatched again.
    struct ReconcileReply<'a> = 0x300A {
        /// Which group.
        1 group: required u32,
        /// Each the payload of a [`TaskRef`].
        2 unknown: required TaskRefs<'a>,
    }
}

tlv_struct! {
    /// One assigned task.
    struct TaskRef {
        /// The task.
        1 task_id: required Uuid,
        /// The assignment's token.
        2 fencing_token: required u64,
    }
}

impl<'a> Value<'a> for TaskRef {
    const KIND: Kind = Kind::Bytes;
    const TYPE_NAME: &'static str = "bytes";

    fn read(value: &'a [u8]) -> Result<Self, Problem> {
        Self::decode(value).map_err(|error| error.problem)
    }

    fn value_bytes(&self) -> usize {
        self.payload_bytes()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.encode_payload(out);
    }
}
