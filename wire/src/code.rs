//! The numbers with names: reply codes, kinds and outcomes.
//!
//! On the wire they are plain integers, so that a reader of today passes a number of tomorrow on; here they are enums.

/// Declares an enum whose variants have a stable number and a stable snake_case name.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident: $repr:ty { $( $(#[$doc:meta])* $variant:ident = $number:literal $text:literal ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($repr)]
        pub enum $name {
            $( $(#[$doc])* $variant = $number, )+
        }

        impl $name {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number on the wire.
            pub const fn number(self) -> $repr {
                self as $repr
            }

            /// The one with this number, or `None` when this version knows none.
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$variant), )+
                    _ => None,
                }
            }

            /// Its stable snake_case name.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }

            /// The one with this name, or `None`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( $text => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// Why something was refused; the `code` and `name` of a [`crate::client::Rejection`].
    Code: u16 {
        /// Wrong magic, CRC or flags. The connection ends.
        BadFrame = 1 "bad_frame",
        /// The payload is not the message that its type says.
        BadMessage = 2 "bad_message",
        /// No protocol version is spoken by both sides. The connection ends.
        UnsupportedVersion = 3 "unsupported_version",
        /// The first frame of a connection was not a Hello. The connection ends.
        NotHello = 4 "not_hello",
        /// The credentials are missing or wrong. The connection ends.
        Unauthenticated = 5 "unauthenticated",
        /// The credentials do not allow this.
        Forbidden = 6 "forbidden",
        /// Beyond a size or count limit; the limit is named.
        TooLarge = 7 "too_large",
        /// More requests or bytes in flight than the Welcome granted.
        TooManyInFlight = 8 "too_many_in_flight",
        /// The client's own rate limit. Waiting helps.
        RateLimited = 9 "rate_limited",
        /// The node has more work than it can hold. Waiting helps.
        Overloaded = 10 "overloaded",
        /// The message's payload is not what its content type says.
        BadPayload = 11 "bad_payload",
        /// The payload breaks the schema of its event type.
        SchemaViolation = 12 "schema_violation",
        /// A message type, query kind or command kind that the node does not know.
        UnknownKind = 13 "unknown_kind",
        /// Nothing has this id or name.
        NotFound = 14 "not_found",
        /// The thing exists already or is in another state.
        Conflict = 15 "conflict",
        /// The idempotency key was used with another payload.
        IdempotencyConflict = 16 "idempotency_conflict",
        /// `if_match` is not the current version.
        PreconditionFailed = 17 "precondition_failed",
        /// Another node leads; its address is given where it is known.
        WrongLeader = 18 "wrong_leader",
        /// The node cannot know whether it was done: send it again with the same idempotency key.
        OutcomeUnknown = 19 "outcome_unknown",
        /// No leader or no quorum at present. Waiting helps.
        Unavailable = 20 "unavailable",
        /// The node is about to stop; use another one.
        Draining = 21 "draining",
        /// The rules or workflows given do not pass their check.
        BadCatalog = 22 "bad_catalog",
        /// No workflow has this name or version.
        UnknownWorkflow = 23 "unknown_workflow",
        /// The dedupe window is full; new keys wait, old ones are never forgotten early.
        DedupeFull = 24 "dedupe_full",
        /// The state or the disk is full.
        StorageFull = 25 "storage_full",
        /// The node's own mistake.
        Internal = 26 "internal",
        /// A field has the right type and a value that makes no sense.
        BadArgument = 27 "bad_argument",
    }
}

impl Code {
    /// Whether the same request may succeed later on the same or another node without being changed.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::TooManyInFlight
                | Self::RateLimited
                | Self::Overloaded
                | Self::WrongLeader
                | Self::OutcomeUnknown
                | Self::Unavailable
                | Self::Draining
                | Self::DedupeFull
                | Self::StorageFull
        )
    }

    /// Whether the sender of this rejection closes the connection after it.
    pub const fn ends_connection(self) -> bool {
        matches!(self, Self::BadFrame | Self::UnsupportedVersion | Self::NotHello | Self::Unauthenticated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.number()), index + 1, "codes are dense and in order");
            assert_eq!(Code::from_number(code.number()), Some(*code));
            assert_eq!(Code::from_name(code.name()), Some(*code));
        }
        assert_eq!(Code::from_number(0), None);
        assert_eq!(Code::from_number(28), None);
    }
}
