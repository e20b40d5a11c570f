//! Frames that every reader must refuse, and how.
#![allow(dead_code, reason = "each test file uses the part that it needs")]

use distric_wire::client::{Ping, Submit};
use distric_wire::{AnyMessage, Code, Flags, HEADER_BYTES, Headers, Items, encode, parse};

use super::LIMITS;
use super::samples::AT_US;
use super::tools::field;

/// One bad frame.
pub struct Malformed {
    /// Name of the case.
    pub name: &'static str,
    /// The bytes.
    pub frame: Vec<u8>,
}

/// How the crate refuses a frame: code, error in words, message id where it is readable, whether the connection ends.
pub fn refusal(bytes: &[u8]) -> Option<(Code, String, Option<u64>, bool)> {
    let (frame, _) = match parse(bytes, LIMITS) {
        Ok(whole) => whole?,
        Err(error) => return Some((error.code(), error.to_string(), error.message_id(), true)),
    };
    let id = Some(frame.header.message_id);
    let mut scratch = Vec::new();
    let payload = match frame.decompressed(&mut scratch, LIMITS) {
        Ok(payload) => payload,
        Err(error) => return Some((error.code(), error.to_string(), id, false)),
    };
    let error = AnyMessage::decode(frame.header.message_type, payload).err()?;
    Some((error.code(), error.to_string(), id, false))
}

/// A Submit frame with this payload and a right CRC.
pub fn sealed(message_type: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = b"DIST".to_vec();
    frame.extend(1_u16.to_be_bytes());
    frame.extend(message_type.to_be_bytes());
    frame.extend(flags.to_be_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(7_u64.to_be_bytes());
    frame.extend(AT_US.to_be_bytes());
    let mut whole = frame.clone();
    whole.extend([0; 4]);
    whole.extend(payload);
    frame.extend(crc32fast::hash(&whole).to_be_bytes());
    frame.extend(payload);
    frame
}

/// A Submit with these fields after its payload field.
pub fn submit_with(fields: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = field(0x11, 8, b"{}");
    fields.iter().for_each(|one| payload.extend(one));
    sealed(0x4001, 0, &payload)
}

/// Arrays inside each other, `depth` of them.
pub fn nested(depth: usize) -> Vec<u8> {
    (1..depth).fold(field(0x20, 0, b""), |inner, _| field(0x20, 0, &inner))
}

/// All bad frames.
pub fn malformed() -> Vec<Malformed> {
    let mut good = Vec::new();
    encode(&Submit { payload: b"{\"total\":12}", ..Submit::default() }, 7, AT_US, Flags::NONE, &mut good);
    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let mut ping = Vec::new();
    encode(&Ping { token: 1 }, 7, AT_US, Flags::NONE, &mut ping);
    let headers: Vec<(String, String)> = (0..65).map(|at| (format!("h{at}"), String::new())).collect();
    let mut too_many_headers = Vec::new();
    encode(&Submit { headers: Headers::of_owned(&headers), ..Submit::default() }, 7, AT_US, Flags::NONE, &mut too_many_headers);
    let messages = vec![Vec::new(); 1025];
    let mut too_many_messages = Vec::new();
    let batch = distric_wire::client::SubmitBatch { messages: Items::of_owned(&messages) };
    encode(&batch, 7, AT_US, Flags::NONE, &mut too_many_messages);
    let key = field(0x10, 0, b"k");
    let value = field(0x10, 1, b"v");
    let again = [field(0x10, 2, b"k"), field(0x10, 3, b"w")].concat();
    let bomb = {
        let mut bytes = 0x184D_2204_u32.to_le_bytes().to_vec();
        bytes.extend([0x68, 0x40]);
        bytes.extend((1_u64 << 40).to_le_bytes());
        bytes.extend([0; 5]);
        bytes
    };
    let payload = field(0x11, 8, b"{}");
    let cases = [
        ("wrong_magic", changed(0, b"HTTP")),
        ("unknown_version", changed(4, &[0, 9])),
        ("oversized_length", changed(10, &u32::MAX.to_be_bytes())),
        ("encrypted_flag", changed(8, &[0, 2])),
        ("wrong_crc", changed(30, &[0, 0, 0, 0])),
        ("damaged_payload", changed(HEADER_BYTES + 8, b"?")),
        ("truncated_field_header", sealed(0x4001, 0, &[&payload[..], &[0x10, 0, 1]].concat())),
        ("truncated_value", sealed(0x4001, 0, &payload[..payload.len() - 1])),
        ("length_past_the_end", submit_with(&[[&[0x10, 0, 1][..], &u32::MAX.to_be_bytes()].concat()])),
        ("missing_required", sealed(0x4001, 0, &[])),
        ("wrong_type", submit_with(&[field(0x11, 1, b"shop")])),
        ("wrong_length", submit_with(&[field(0x04, 5, &[0; 7])])),
        ("duplicate_tag", submit_with(&[field(0x10, 1, b"a"), field(0x10, 1, b"a")])),
        ("invalid_utf8", submit_with(&[field(0x10, 1, &[b'a', 0xff])])),
        ("invalid_bool", submit_with(&[field(0x07, 12, &[2])])),
        ("map_key_without_value", submit_with(&[field(0x21, 6, &key)])),
        ("map_key_twice", submit_with(&[field(0x21, 6, &[&key[..], &value, &again].concat())])),
        ("map_value_not_a_string", submit_with(&[field(0x21, 6, &[&key[..], &field(0x01, 1, &[1])].concat())])),
        ("wrong_position", submit_with(&[field(0x21, 6, &[&field(0x10, 3, b"k")[..], &value].concat())])),
        ("too_many_headers", too_many_headers),
        ("too_many_messages", too_many_messages),
        ("nested_too_deep", submit_with(&[field(0x20, 999, &nested(32))])),
        ("nested_in_a_known_field", submit_with(&[field(0x20, 6, &nested(40))])),
        ("broken_inside_an_unknown_array", submit_with(&[field(0x20, 999, &[0x01])])),
        ("compressed_bomb", sealed(0x4001, 1, &bomb)),
        ("not_compressed", sealed(0x4001, 1, &payload)),
        ("empty_ping", sealed(0x4008, 0, &[])),
    ];
    cases.into_iter().map(|(name, frame)| Malformed { name, frame }).collect()
}
