//! Type, tag, length, value: how a payload is made of fields.
//!
//! In: bytes.  Out: fields and lazy views, borrowed from them; nothing is allocated on the way in.
//! Invariant: a view over wire bytes was checked whole when it was made, so iterating it cannot fail.
//! Start reading at [`reader::Fields`]; messages are declared with the macro in `structs.rs`.

pub mod reader;
pub(crate) mod structs;
pub mod views;
pub(crate) mod writer;

use crate::error::Problem;

/// Bytes before a field's value: type (1), tag (2), length (4).
pub const FIELD_HEADER_BYTES: usize = 7;
/// Most elements of an array; their tags are positions of 16 bits.
pub const ARRAY_ITEMS_MAX: usize = 65_535;

/// The types of TLV values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One byte.
    U8 = 0x01,
    /// Two bytes, big-endian.
    U16 = 0x02,
    /// Four bytes, big-endian.
    U32 = 0x03,
    /// Eight bytes, big-endian.
    U64 = 0x04,
    /// Eight bytes, two's complement, big-endian.
    I64 = 0x05,
    /// Eight bytes, IEEE 754 binary64, big-endian.
    F64 = 0x06,
    /// One byte, 0 or 1.
    Bool = 0x07,
    /// Sixteen bytes in network order.
    Uuid = 0x08,
    /// UTF-8 without a terminator.
    Str = 0x10,
    /// Raw bytes.
    Bytes = 0x11,
    /// Fields whose tags are their positions.
    Array = 0x20,
    /// Fields in turn key, value, key, value; their tags are their positions.
    Map = 0x21,
}

impl Kind {
    /// The kind with this type byte, or `None` when this version knows none.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x01 => Self::U8,
            0x02 => Self::U16,
            0x03 => Self::U32,
            0x04 => Self::U64,
            0x05 => Self::I64,
            0x06 => Self::F64,
            0x07 => Self::Bool,
            0x08 => Self::Uuid,
            0x10 => Self::Str,
            0x11 => Self::Bytes,
            0x20 => Self::Array,
            0x21 => Self::Map,
            _ => return None,
        })
    }

    /// The type byte.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The name that `docs/protocol.md` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
            Self::Bool => "bool",
            Self::Uuid => "uuid",
            Self::Str => "str",
            Self::Bytes => "bytes",
            Self::Array => "array",
            Self::Map => "map",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:#04x})", self.name(), self.code())
    }
}

/// One line of a message's table: what the protocol says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// Its tag, unique in the message and never reused.
    pub tag: u16,
    /// Its name.
    pub name: &'static str,
    /// Its type in words, such as `u64` or `map<str,str>`.
    pub type_name: &'static str,
    /// Whether a message without it is refused.
    pub required: bool,
}

/// What a field can hold. Reading borrows from the frame; writing appends.
pub(crate) trait Value<'a>: Sized {
    /// The type byte in the field's header.
    const KIND: Kind;
    /// The type in words.
    const TYPE_NAME: &'static str;

    /// Checks and takes a value of the right kind.
    fn read(value: &'a [u8]) -> Result<Self, Problem>;
    /// Bytes that [`Value::write`] appends.
    fn value_bytes(&self) -> usize;
    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);
}
