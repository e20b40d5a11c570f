//! What can be wrong with bytes from outside.
//!
//! Two fates. A [`FrameError`] means that the stream itself cannot be trusted any more: answer once, close.
//! A [`DecodeError`] means that one frame's payload is wrong: answer, and go on with the next frame.

use crate::client::Rejection;
use crate::code::Code;
use crate::header::{MAGIC, VERSION_1};
use crate::tlv::Kind;

/// The bytes are not a frame that this side accepts. Ends the connection, never the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The stream does not begin with "DIST"; the peer speaks another protocol or lost its place.
    #[error("frame begins with {found:#010x}, not with {MAGIC:#010x} (\"DIST\"); missing bytes are shown as zero")]
    WrongMagic {
        /// The bytes that came, as a big-endian number; those not yet received are zero.
        found: u32,
    },
    /// A version that this side does not speak.
    #[error("frame is of protocol version {version}; this side speaks {VERSION_1}")]
    UnknownVersion {
        /// The header's version.
        version: u16,
        /// The header's message id, at the place where version 1 has it.
        message_id: u64,
    },
    /// The peer announced more than this side accepts. Found before anything was buffered or allocated for it.
    #[error("frame of {payload_bytes} payload bytes exceeds frame_bytes_max, {limit}")]
    TooLarge {
        /// What the header announces.
        payload_bytes: u32,
        /// The limit in force on this connection.
        limit: u32,
        /// The header's message id.
        message_id: u64,
    },
    /// The reserved flag 0x0002 is set.
    #[error("frame has the reserved flag 0x0002 (encrypted) set; transport security is TLS")]
    Encrypted {
        /// The header's message id.
        message_id: u64,
    },
    /// Header or payload were damaged on the way, or the sender computes another CRC.
    #[error("frame carries CRC-32 {found:#010x}, its bytes give {computed:#010x}")]
    WrongCrc {
        /// What the header carries.
        found: u32,
        /// What header and payload give.
        computed: u32,
        /// The header's message id; as doubtful as the rest of the frame.
        message_id: u64,
    },
}

impl FrameError {
    /// The message id to answer under, where the header could be read.
    pub const fn message_id(&self) -> Option<u64> {
        match self {
            Self::WrongMagic { .. } => None,
            Self::UnknownVersion { message_id, .. }
            | Self::TooLarge { message_id, .. }
            | Self::Encrypted { message_id }
            | Self::WrongCrc { message_id, .. } => Some(*message_id),
        }
    }

    /// The code of the rejection that answers it.
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownVersion { .. } => Code::UnsupportedVersion,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::WrongMagic { .. } | Self::Encrypted { .. } | Self::WrongCrc { .. } => Code::BadFrame,
        }
    }

    /// The limit that was hit and its value, if it was one.
    pub fn limit(&self) -> Option<(&'static str, u64)> {
        match self {
            Self::TooLarge { limit, .. } => Some(("frame_bytes_max", u64::from(*limit))),
            _ => None,
        }
    }

    /// The rejection that answers it; `reason` is the error in words (`&error.to_string()`).
    pub fn rejection<'a>(&self, reason: &'a str) -> Rejection<'a> {
        Rejection::new(self.code(), reason).limited(self.limit())
    }
}

/// One frame's payload is not the message that its type says. The connection may go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}: {problem}", Site { tag: *tag, field })]
pub struct DecodeError {
    /// Name of the message, such as `Submit`.
    pub message: &'static str,
    /// Tag of the field; `None` when the payload as a whole is meant.
    pub tag: Option<u16>,
    /// Name of the field; empty when the tag is unknown here.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field or a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes end inside a field.
    #[error("ends early: {needed} bytes announced, {left} left")]
    Truncated {
        /// Bytes that the field header or its length announces.
        needed: u64,
        /// Bytes that are there.
        left: u64,
    },
    /// A field of another type than the message's table says.
    #[error("is of type {found:#04x}, expected {expected}")]
    WrongType {
        /// What the table says.
        expected: Kind,
        /// The type byte that came.
        found: u8,
    },
    /// A fixed-size value of another size.
    #[error("is {found} bytes long, expected {expected}")]
    WrongLength {
        /// Bytes of a value of this type.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// A bool that is neither 0 nor 1.
    #[error("is {found:#04x}, expected 0x00 (false) or 0x01 (true)")]
    InvalidBool {
        /// The byte that came.
        found: u8,
    },
    /// A string that is not UTF-8.
    #[error("is not UTF-8 after byte {valid_up_to}")]
    InvalidUtf8 {
        /// Bytes before the first wrong one.
        valid_up_to: usize,
    },
    /// The tag came twice.
    #[error("is given more than once")]
    Duplicate,
    /// A required field did not come.
    #[error("is required, but missing")]
    Missing,
    /// An element's tag is not its position.
    #[error("has an element with tag {found} at position {position}")]
    WrongPosition {
        /// Where the element stands, from 0.
        position: usize,
        /// Its tag.
        found: u16,
    },
    /// A map with a key and no value.
    #[error("ends with a key without a value")]
    KeyWithoutValue,
    /// A map with the same key twice.
    #[error("has the key at position {position} twice")]
    DuplicateKey {
        /// Position of the second one among the keys, from 0.
        position: usize,
    },
    /// More elements than allowed.
    #[error("has more elements than {limit_name}, {limit}")]
    TooMany {
        /// Name of the limit.
        limit_name: &'static str,
        /// Its value.
        limit: usize,
    },
    /// Arrays or maps inside each other beyond the limit.
    #[error("nests deeper than nesting_max, {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The compressed flag is set, but the payload is not one LZ4 frame of the form that the protocol asks for.
    #[error("is not one whole LZ4 frame with a content size: {what}")]
    BadCompression {
        /// Which part is wrong.
        what: &'static str,
    },
    /// The compressed payload says that it becomes larger than this side accepts.
    #[error("decompresses to {content_bytes} bytes, more than frame_bytes_max, {limit}")]
    DecompressedTooLarge {
        /// What the LZ4 frame announces.
        content_bytes: u64,
        /// The limit in force on this connection.
        limit: u32,
    },
}

impl DecodeError {
    pub(crate) const fn whole(message: &'static str, problem: Problem) -> Self {
        Self { message, tag: None, field: "", problem }
    }

    /// The code of the rejection that answers it.
    pub const fn code(&self) -> Code {
        match self.problem {
            Problem::TooMany { .. } | Problem::DecompressedTooLarge { .. } => Code::TooLarge,
            _ => Code::BadMessage,
        }
    }

    /// The limit that was hit and its value, if it was one.
    pub const fn limit(&self) -> Option<(&'static str, u64)> {
        match self.problem {
            Problem::TooMany { limit_name, limit } => Some((limit_name, limit as u64)),
            Problem::TooDeep { limit } => Some(("nesting_max", limit as u64)),
            Problem::DecompressedTooLarge { limit, .. } => Some(("frame_bytes_max", limit as u64)),
            _ => None,
        }
    }

    /// The rejection that answers it; `reason` is the error in words (`&error.to_string()`).
    pub fn rejection<'a>(&self, reason: &'a str) -> Rejection<'a> {
        let field = if self.field.is_empty() { None } else { Some(self.field) };
        Rejection { field, ..Rejection::new(self.code(), reason).limited(self.limit()) }
    }
}

/// Prints " field 8 (payload)", " field 8" or nothing.
struct Site<'a> {
    tag: Option<u16>,
    field: &'a str,
}

impl std::fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.tag, self.field) {
            (None, _) => Ok(()),
            (Some(tag), "") => write!(f, " field {tag}"),
            (Some(tag), name) => write!(f, " field {tag} ({name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_message_and_tag() {
        let error = DecodeError { message: "Submit", tag: Some(8), field: "payload", problem: Problem::Missing };
        assert_eq!(error.to_string(), "Submit field 8 (payload): is required, but missing");
        assert_eq!(
            DecodeError::whole("Submit", Problem::Truncated { needed: 7, left: 1 }).to_string(),
            "Submit: ends early: 7 bytes announced, 1 left"
        );
        let reason = error.to_string();
        let rejection = error.rejection(&reason);
        assert_eq!((rejection.code, rejection.name, rejection.field), (2, "bad_message", Some("payload")));
    }

    #[test]
    fn a_limit_that_was_hit_is_named_in_the_rejection() {
        let error = FrameError::TooLarge { payload_bytes: 9, limit: 8, message_id: 5 };
        let reason = error.to_string();
        let rejection = error.rejection(&reason);
        assert_eq!((rejection.name, rejection.limit_name, rejection.limit_value), ("too_large", Some("frame_bytes_max"), Some(8)));
        assert_eq!(error.message_id(), Some(5));
    }
}
