//! Appends fields to a payload.

use super::{FIELD_HEADER_BYTES, Kind, Value};

/// Appends one field.
#[inline]
pub(crate) fn put<'a, V: Value<'a>>(out: &mut Vec<u8>, tag: u16, value: &V) {
    let bytes = value.value_bytes();
    put_header(out, V::KIND, tag, bytes);
    value.write(out);
}

/// Bytes of one field with this value.
#[inline]
pub(crate) fn field_bytes<'a, V: Value<'a>>(value: &V) -> usize {
    FIELD_HEADER_BYTES + value.value_bytes()
}

/// Appends a field's type, tag and length.
#[inline]
fn put_header(out: &mut Vec<u8>, kind: Kind, tag: u16, bytes: usize) {
    let length = u32::try_from(bytes).expect("a value is far below 4 GiB: frames are capped at FRAME_BYTES_HARD_CAP");
    let [tag_high, tag_low] = tag.to_be_bytes();
    let [a, b, c, d] = length.to_be_bytes();
    out.extend_from_slice(&[kind.code(), tag_high, tag_low, a, b, c, d]);
}

/// The tag of the element at this position. A list beyond [`super::ARRAY_ITEMS_MAX`] wraps, and is refused by its reader.
#[inline]
pub(crate) const fn position_tag(position: usize) -> u16 {
    (position & 0xffff) as u16
}
