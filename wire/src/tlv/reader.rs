//! Walks the fields of a payload.

use distric_model::limits::NESTING_MAX;

use super::{FIELD_HEADER_BYTES, Kind, Value};
use crate::error::{DecodeError, Problem};

/// The fields of a sequence of bytes, in order. Total: any bytes are legal to walk, and at most their length is looked at.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// One field, its value not yet looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The type byte, possibly one that this version does not know.
    pub kind: u8,
    /// The tag, or the position inside an array or a map.
    pub tag: u16,
    /// The value's bytes.
    pub value: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field, `None` at the end. Errors: [`Problem::Truncated`], with the tag where it could be read.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, (Option<u16>, Problem)> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some((head, after)) = self.rest.split_first_chunk::<FIELD_HEADER_BYTES>() else {
            return Err(short_header(self.rest));
        };
        let [kind, tag_high, tag_low, a, b, c, d] = *head;
        let tag = u16::from_be_bytes([tag_high, tag_low]);
        let length = u32::from_be_bytes([a, b, c, d]);
        let Some((value, rest)) = after.split_at_checked(length as usize) else {
            return Err((Some(tag), Problem::Truncated { needed: u64::from(length), left: after.len() as u64 }));
        };
        self.rest = rest;
        Ok(Some(Field { kind, tag, value }))
    }
}

/// The error for bytes that end inside a field's header.
#[cold]
fn short_header(rest: &[u8]) -> (Option<u16>, Problem) {
    let tag = if let [_, high, low, ..] = rest { Some(u16::from_be_bytes([*high, *low])) } else { None };
    (tag, Problem::Truncated { needed: FIELD_HEADER_BYTES as u64, left: rest.len() as u64 })
}

/// The fields of one message: as [`Fields`], with errors that name the message.
pub(crate) struct MessageFields<'a> {
    fields: Fields<'a>,
    message: &'static str,
}

impl<'a> MessageFields<'a> {
    pub(crate) const fn new(message: &'static str, payload: &'a [u8]) -> Self {
        Self { fields: Fields::new(payload), message }
    }

    #[inline]
    pub(crate) fn next_field(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        self.fields.next_field().map_err(|(tag, problem)| DecodeError { message: self.message, tag, field: "", problem })
    }

    /// Reads a field whose tag the message knows into `slot`. A type byte that no version of ours defined is skipped.
    #[inline]
    pub(crate) fn read_into<V: Value<'a>>(&self, field: Field<'a>, name: &'static str, slot: &mut Option<V>) -> Result<(), DecodeError> {
        if field.kind == V::KIND.code() && slot.is_none() {
            match V::read(field.value) {
                Ok(value) => {
                    *slot = Some(value);
                    return Ok(());
                }
                Err(problem) => return Err(DecodeError { message: self.message, tag: Some(field.tag), field: name, problem }),
            }
        }
        self.refuse_or_skip(field, name, V::KIND)
    }

    /// The rare ends of [`Self::read_into`].
    #[cold]
    fn refuse_or_skip(&self, field: Field<'a>, name: &'static str, expected: Kind) -> Result<(), DecodeError> {
        let problem = match Kind::from_code(field.kind) {
            None => return Ok(()),
            Some(found) if found == expected => Problem::Duplicate,
            Some(_) => Problem::WrongType { expected, found: field.kind },
        };
        Err(DecodeError { message: self.message, tag: Some(field.tag), field: name, problem })
    }

    /// Passes over a field whose tag the message does not know. Arrays and maps are walked to see that they end
    /// where they say and do not nest past the limit, so that whoever knows the tag may trust them.
    #[cold]
    pub(crate) fn skip(&self, field: Field<'a>) -> Result<(), DecodeError> {
        if field.kind == Kind::Array.code() || field.kind == Kind::Map.code() {
            check_nesting(field.value).map_err(|problem| DecodeError {
                message: self.message,
                tag: Some(field.tag),
                field: "",
                problem,
            })?;
        }
        Ok(())
    }

    /// The error for a required field that did not come.
    #[cold]
    pub(crate) fn missing(&self, tag: u16, field: &'static str) -> DecodeError {
        DecodeError { message: self.message, tag: Some(tag), field, problem: Problem::Missing }
    }
}

/// Checks that an array or map holds whole fields and at most [`NESTING_MAX`] containers inside each other, itself included.
///
/// Shape: one pass over the bytes with a fixed stack; no recursion, because the depth is the peer's to choose.
pub(crate) fn check_nesting(container: &[u8]) -> Result<(), Problem> {
    let mut open = [container; NESTING_MAX];
    let mut depth = 1;
    while depth > 0 {
        let mut fields = Fields::new(open[depth - 1]);
        let field = fields.next_field().map_err(|(_, problem)| problem)?;
        open[depth - 1] = fields.rest;
        match field {
            None => depth -= 1,
            Some(field) if field.kind == Kind::Array.code() || field.kind == Kind::Map.code() => {
                if depth == NESTING_MAX {
                    return Err(Problem::TooDeep { limit: NESTING_MAX });
                }
                open[depth] = field.value;
                depth += 1;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Declares fixed-size numbers.
macro_rules! number_value {
    ($($number:ty, $kind:ident, $name:literal;)+) => { $(
        impl<'a> Value<'a> for $number {
            const KIND: Kind = Kind::$kind;
            const TYPE_NAME: &'static str = $name;

            #[inline]
            fn read(value: &'a [u8]) -> Result<Self, Problem> {
                match value.try_into() {
                    Ok(bytes) => Ok(<$number>::from_be_bytes(bytes)),
                    Err(_) => Err(Problem::WrongLength { expected: size_of::<$number>(), found: value.len() }),
                }
            }

            #[inline]
            fn value_bytes(&self) -> usize {
                size_of::<$number>()
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )+ };
}

number_value! {
    u8, U8, "u8";
    u16, U16, "u16";
    u32, U32, "u32";
    u64, U64, "u64";
    i64, I64, "i64";
    f64, F64, "f64";
}

impl<'a> Value<'a> for bool {
    const KIND: Kind = Kind::Bool;
    const TYPE_NAME: &'static str = "bool";

    fn read(value: &'a [u8]) -> Result<Self, Problem> {
        match *value {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(Problem::InvalidBool { found }),
            _ => Err(Problem::WrongLength { expected: 1, found: value.len() }),
        }
    }

    fn value_bytes(&self) -> usize {
        1
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<'a> Value<'a> for uuid::Uuid {
    const KIND: Kind = Kind::Uuid;
    const TYPE_NAME: &'static str = "uuid";

    #[inline]
    fn read(value: &'a [u8]) -> Result<Self, Problem> {
        match value.try_into() {
            Ok(bytes) => Ok(Self::from_bytes(bytes)),
            Err(_) => Err(Problem::WrongLength { expected: 16, found: value.len() }),
        }
    }

    #[inline]
    fn value_bytes(&self) -> usize {
        16
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl<'a> Value<'a> for &'a str {
    const KIND: Kind = Kind::Str;
    const TYPE_NAME: &'static str = "str";

    #[inline]
    fn read(value: &'a [u8]) -> Result<Self, Problem> {
        std::str::from_utf8(value).map_err(|error| Problem::InvalidUtf8 { valid_up_to: error.valid_up_to() })
    }

    #[inline]
    fn value_bytes(&self) -> usize {
        self.len()
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl<'a> Value<'a> for &'a [u8] {
    const KIND: Kind = Kind::Bytes;
    const TYPE_NAME: &'static str = "bytes";

    #[inline]
    fn read(value: &'a [u8]) -> Result<Self, Problem> {
        Ok(value)
    }

    #[inline]
    fn value_bytes(&self) -> usize {
        self.len()
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}
