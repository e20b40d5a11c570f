//! Streams: one request, many answers.

use uuid::Uuid;

use crate::code::numbered;
use crate::tlv::structs::tlv_struct;

tlv_struct! {
    /// Asks for a stream of [`Event`]s, which carry this frame's message id; the one with `last` ends it.
    /// Refused with a [`crate::client::Rejection`].
    struct Subscribe<'a> = 0x400C {
        /// A [`SubscribeKind`].
        1 kind: required u16,
        /// Namespace; absent means `default`.
        2 namespace: optional &'a str,
        /// Whose events.
        3 id: required Uuid,
    }
}

tlv_struct! {
    /// One event of a stream.
    struct Event<'a> = 0x400D {
        /// Where it stands in the log of its group; ascending in a stream.
        1 index: required u64,
        /// What happened, such as `task.completed`.
        2 kind: required &'a str,
        /// Machine time, microseconds since the Unix epoch.
        3 at_us: required u64,
        /// A JSON document.
        4 body: required &'a [u8],
        /// Nothing follows.
        5 last: default bool,
    }
}

numbered! {
    /// What a [`Subscribe`] follows.
    SubscribeKind: u16 {
        /// One workflow instance, from where it stands to its end.
        Instance = 1 "instance",
    }
}
