//! Submit and its answer.

use uuid::Uuid;

use crate::code::numbered;
use crate::tlv::structs::tlv_struct;
use crate::tlv::views::{Headers, Strs, Uuids};

/// The content type of a payload that names none.
pub const CONTENT_TYPE_DEFAULT: &str = "application/json";

tlv_struct! {
    /// One message to be taken in. Answered by a [`Response`] or a [`crate::client::Rejection`].
    ///
    /// Idempotent by (namespace, idempotency key) within the dedupe window; without a key every Submit is a new message.
    struct Submit<'a> = 0x4001 {
        /// Namespace; absent means `default`.
        1 namespace: optional &'a str,
        /// A UUIDv7 of the client's; absent means that the server makes one.
        2 message_id: optional Uuid,
        /// Event type; absent means the payload's member `event_type`, if it has one.
        3 event_type: optional &'a str,
        /// Where the message comes from, in the client's words.
        4 source: optional &'a str,
        /// The client's time of the event, microseconds since the Unix epoch.
        5 timestamp_us: optional u64,
        /// String headers, for rules to look at.
        6 headers: default Headers<'a>,
        /// Content type of the payload; absent means [`CONTENT_TYPE_DEFAULT`].
        7 content_type: optional &'a str,
        /// The message itself.
        8 payload: required &'a [u8],
        /// Messages with one routing key keep their order of arrival.
        9 routing_key: optional &'a str,
        /// What makes a resend recognisable.
        10 idempotency_key: optional &'a str,
        /// W3C trace context.
        11 traceparent: optional &'a str,
        /// This was sent before under the same idempotency key.
        12 resend: default bool,
        /// All requests sent on this connection under frame message ids below this one were answered; their records may go early.
        13 acked_below: optional u64,
    }
}

tlv_struct! {
    /// The answer to an accepted [`Submit`]. Leaves only after what it says is durable.
    struct Response<'a> = 0x4002 {
        /// A [`SubmitOutcome`].
        1 outcome: required u8,
        /// The message's id.
        2 message_id: required Uuid,
        /// Catalog version that decided.
        3 catalog_version: required u64,
        /// Ids of the rules that matched, in priority order.
        4 rules: required Strs<'a>,
        /// Names of the workflows that were started, in step with `instances`.
        5 workflows: required Strs<'a>,
        /// Ids of the instances that were started.
        6 instances: required Uuids<'a>,
    }
}

numbered! {
    /// What became of an accepted Submit.
    SubmitOutcome: u8 {
        /// Taken in; the instances named were started.
        Accepted = 1 "accepted",
        /// Taken in before under this key; the first outcome is repeated and nothing new was started.
        Repeat = 2 "repeat",
        /// Taken in, no rule matched, nothing was started and nothing is kept.
        Unmatched = 3 "unmatched",
    }
}
