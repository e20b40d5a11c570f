//! MessagePack: a payload token by token, and as the JSON text that says the same.
//!
//! What JSON can say is read: nil, booleans, numbers, texts, arrays, and maps whose keys are texts. Binary data and extension types have no
//! value that a condition could compare, and NaN and the infinities are no JSON numbers: they are refused with their place.
//! Every length is checked against the bytes that are left before anything is done with it.
//! Source: the MessagePack specification of 2017-08-09.

use distric_model::limits::NESTING_MAX;

use crate::decision::PayloadError;

/// One token. A list or map is followed by what is in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    Whole(i64),
    /// Too large for the one above, or written without a sign.
    Natural(u64),
    Number(f64),
    Text(&'a str),
    /// How many values follow.
    List(usize),
    /// How many pairs of key and value follow.
    Members(usize),
}

/// Reads tokens one after another.
pub(crate) struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// At the beginning of a payload.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The payload must be over here.
    pub fn end(&self) -> Result<(), PayloadError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(wrong(self.at, "nothing may follow the value")) }
    }

    /// The next token. Errors: the bytes end, or are nothing that JSON can say.
    #[inline]
    pub fn read(&mut self) -> Result<Token<'a>, PayloadError> {
        let at = self.at;
        let byte = *self.bytes.get(at).ok_or_else(|| wrong(at, "the payload ends where a value is expected"))?;
        self.at += 1;
        Ok(match byte {
            0x00..=0x7f => Token::Whole(i64::from(byte)),
            0x80..=0x8f => self.members(at, usize::from(byte & 0x0f))?,
            0x90..=0x9f => self.list(at, usize::from(byte & 0x0f))?,
            0xa0..=0xbf => self.text(at, usize::from(byte & 0x1f))?,
            0xc0 => Token::Null,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xca => number(at, f64::from(f32::from_be_bytes(self.take(at)?)))?,
            0xcb => number(at, f64::from_be_bytes(self.take(at)?))?,
            0xcc => Token::Natural(u64::from(u8::from_be_bytes(self.take(at)?))),
            0xcd => Token::Natural(u64::from(u16::from_be_bytes(self.take(at)?))),
            0xce => Token::Natural(u64::from(u32::from_be_bytes(self.take(at)?))),
            0xcf => Token::Natural(u64::from_be_bytes(self.take(at)?)),
            0xd0 => Token::Whole(i64::from(i8::from_be_bytes(self.take(at)?))),
            0xd1 => Token::Whole(i64::from(i16::from_be_bytes(self.take(at)?))),
            0xd2 => Token::Whole(i64::from(i32::from_be_bytes(self.take(at)?))),
            0xd3 => Token::Whole(i64::from_be_bytes(self.take(at)?)),
            0xd9 => {
                let length = u8::from_be_bytes(self.take(at)?);
                self.text(at, usize::from(length))?
            }
            0xda => {
                let length = u16::from_be_bytes(self.take(at)?);
                self.text(at, usize::from(length))?
            }
            0xdb => {
                let length = self.length(at)?;
                self.text(at, length)?
            }
            0xdc => {
                let count = u16::from_be_bytes(self.take(at)?);
                self.list(at, usize::from(count))?
            }
            0xdd => {
                let count = self.length(at)?;
                self.list(at, count)?
            }
            0xde => {
                let count = u16::from_be_bytes(self.take(at)?);
                self.members(at, usize::from(count))?
            }
            0xdf => {
                let count = self.length(at)?;
                self.members(at, count)?
            }
            0xe0..=0xff => Token::Whole(i64::from(byte as i8)),
            0xc1 => return Err(wrong(at, "byte 0xc1 begins no value")),
            0xc4..=0xc6 => return Err(wrong(at, "binary data has no value that rules can read; send a text")),
            0xc7..=0xc9 | 0xd4..=0xd8 => return Err(wrong(at, "extension types have no value that rules can read")),
        })
    }

    /// The name of a member.
    #[inline]
    pub fn name(&mut self) -> Result<&'a str, PayloadError> {
        let at = self.at;
        match self.read()? {
            Token::Text(name) => Ok(name),
            _ => Err(wrong(at, "the key of a map must be a text")),
        }
    }

    fn take<const N: usize>(&mut self, at: usize) -> Result<[u8; N], PayloadError> {
        let taken = self.bytes[self.at..].first_chunk::<N>().ok_or_else(|| wrong(at, "the payload ends within a value"))?;
        self.at += N;
        Ok(*taken)
    }

    fn length(&mut self, at: usize) -> Result<usize, PayloadError> {
        let length = u32::from_be_bytes(self.take(at)?);
        usize::try_from(length).map_err(|_| wrong(at, "the length cannot be counted here"))
    }

    #[inline]
    fn text(&mut self, at: usize, length: usize) -> Result<Token<'a>, PayloadError> {
        let rest = &self.bytes[self.at..];
        let Some(text) = rest.get(..length) else {
            return Err(wrong(at, &format!("a text of {length} bytes is announced, and {} are left", rest.len())));
        };
        let text = std::str::from_utf8(text).map_err(|error| wrong(self.at + error.valid_up_to(), "the text is not UTF-8 from here on"))?;
        self.at += length;
        Ok(Token::Text(text))
    }

    #[inline]
    fn list(&self, at: usize, count: usize) -> Result<Token<'a>, PayloadError> {
        self.has_room(at, count)?;
        Ok(Token::List(count))
    }

    #[inline]
    fn members(&self, at: usize, count: usize) -> Result<Token<'a>, PayloadError> {
        self.has_room(at, count.saturating_mul(2))?;
        Ok(Token::Members(count))
    }

    /// Every value has a byte.
    #[inline]
    fn has_room(&self, at: usize, values_count: usize) -> Result<(), PayloadError> {
        let left = self.bytes.len() - self.at;
        if values_count <= left {
            return Ok(());
        }
        Err(wrong(at, &format!("{values_count} values are announced, and {left} bytes are left")))
    }
}

#[inline]
fn number<'a>(at: usize, number: f64) -> Result<Token<'a>, PayloadError> {
    if number.is_finite() { Ok(Token::Number(number)) } else { Err(wrong(at, &format!("{number} is no number that JSON can say"))) }
}

#[cold]
fn wrong(offset: usize, message: &str) -> PayloadError {
    PayloadError::NotMessagePack { offset, message: message.to_owned() }
}

/// Writes the payload as JSON text. Members stay in their order, those with one name included.
///
/// Errors: it is not MessagePack, says what JSON cannot, or nests too deep.
pub(crate) fn write_json(payload: &[u8], out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let mut tokens = Tokens::new(payload);
    write_value(&mut tokens, NESTING_MAX, out)?;
    tokens.end()
}

fn write_value(tokens: &mut Tokens<'_>, levels: usize, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    match tokens.read()? {
        Token::Null => out.extend_from_slice(b"null"),
        Token::Bool(true) => out.extend_from_slice(b"true"),
        Token::Bool(false) => out.extend_from_slice(b"false"),
        Token::Whole(number) => write_scalar(&number, out),
        Token::Natural(number) => write_scalar(&number, out),
        Token::Number(number) => write_scalar(&number, out),
        Token::Text(text) => write_scalar(text, out),
        Token::List(count) => {
            let levels = deeper(levels)?;
            out.push(b'[');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                write_value(tokens, levels, out)?;
            }
            out.push(b']');
        }
        Token::Members(count) => {
            let levels = deeper(levels)?;
            out.push(b'{');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                write_scalar(tokens.name()?, out);
                out.push(b':');
                write_value(tokens, levels, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_scalar<T: serde::Serialize + ?Sized>(scalar: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("a finite number or a text is JSON, and a vector takes all bytes");
}

fn deeper(levels: usize) -> Result<usize, PayloadError> {
    levels.checked_sub(1).ok_or(PayloadError::TooDeep { limit: NESTING_MAX })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json(payload: &[u8]) -> Result<String, PayloadError> {
        let mut out = Vec::new();
        write_json(payload, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_format_of_the_specification_is_json_or_refused_with_its_byte() {
        for (payload, expected) in [
            (&[0x00][..], "0"),
            (&[0x7f], "127"),
            (&[0xe0], "-32"),
            (&[0xcc, 200], "200"),
            (&[0xcd, 1, 0], "256"),
            (&[0xce, 0, 1, 0, 0], "65536"),
            (&[0xcf, 255, 255, 255, 255, 255, 255, 255, 255], "18446744073709551615"),
            (&[0xd0, 0x80], "-128"),
            (&[0xd1, 0xff, 0], "-256"),
            (&[0xd2, 0x80, 0, 0, 0], "-2147483648"),
            (&[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0], "-9223372036854775808"),
            (&[0xca, 0x3f, 0x80, 0, 0], "1.0"),
            (&[0xcb, 0x3f, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a], "0.1"),
            (&[0xc0], "null"),
            (&[0xc2], "false"),
            (&[0xc3], "true"),
            (&[0xa2, b'"', b'\n'], r#""\"\n""#),
            (&[0xd9, 1, b'a'], r#""a""#),
            (&[0xda, 0, 1, b'a'], r#""a""#),
            (&[0xdb, 0, 0, 0, 1, b'a'], r#""a""#),
            (&[0x92, 1, 0x90], "[1,[]]"),
            (&[0xdc, 0, 1, 1], "[1]"),
            (&[0xdd, 0, 0, 0, 1, 1], "[1]"),
            (&[0x82, 0xa1, b'a', 1, 0xa1, b'a', 0x80], r#"{"a":1,"a":{}}"#),
            (&[0xde, 0, 1, 0xa1, b'a', 1], r#"{"a":1}"#),
            (&[0xdf, 0, 0, 0, 1, 0xa1, b'a', 1], r#"{"a":1}"#),
        ] {
            assert_eq!(json(payload).as_deref(), Ok(expected), "{payload:x?}");
        }
        for (payload, offset, part) in [
            (&[][..], 0, "ends"),
            (&[0xc1], 0, "0xc1"),
            (&[0x91, 0xc4, 0], 1, "binary"),
            (&[0x91, 0xc7, 0, 0], 1, "extension"),
            (&[0xd4, 0, 0], 0, "extension"),
            (&[0x92, 1], 0, "2 values are announced, and 1 bytes"),
            (&[0xdd, 255, 255, 255, 255], 0, "4294967295 values"),
            (&[0xdf, 255, 255, 255, 255], 0, "values are announced"),
            (&[0xdb, 255, 255, 255, 255], 0, "a text of 4294967295 bytes"),
            (&[0x91, 0xcd, 1], 1, "within"),
            (&[0x81, 1, 1], 1, "key"),
            (&[0x91, 0xa2, b'a', 0xff], 3, "UTF-8"),
            (&[0x91, 0xca, 0x7f, 0x80, 0, 0], 1, "inf"),
            (&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], 0, "NaN"),
            (&[1, 2], 1, "follow"),
        ] {
            match json(payload) {
                Err(PayloadError::NotMessagePack { offset: found, message }) => {
                    assert_eq!(found, offset, "{payload:x?}: {message}");
                    assert!(message.contains(part), "{payload:x?}: {message}");
                }
                other => panic!("{payload:x?}: {other:?}"),
            }
        }
    }

    #[test]
    fn depth_is_bounded_as_it_is_for_json() {
        let deep = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
        assert!(json(&deep(NESTING_MAX)).is_ok());
        for levels in [NESTING_MAX + 1, 100_000] {
            assert_eq!(json(&deep(levels)), Err(PayloadError::TooDeep { limit: NESTING_MAX }));
        }
    }

    #[test]
    fn what_another_writer_has_packed_is_the_same_document() {
        let document =
            json!({ "a": [1, -1, 1.5, u64::MAX, i64::MIN, -0.0, 1e300], "b": { "c": null, "d": [true, false] }, "é": "\u{1f600}\\" });
        let packed = rmp_serde::to_vec_named(&document).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&packed).unwrap()).unwrap(), document);
    }
}
