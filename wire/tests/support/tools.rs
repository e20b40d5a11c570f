//! A second codec, written from the tables of `docs/protocol.md` and sharing no code with the crate's own:
//! fields as JSON to payload bytes and back, driven by a message's list of fields.
#![allow(dead_code, reason = "each test file uses the part that it needs")]

use std::path::PathBuf;

use distric_wire::tlv::FieldSpec;
use distric_wire::{AnyMessage, FrameLimits};
use serde_json::{Map, Value, json};

/// Limits for frames of every size that the tests make.
pub const LIMITS: FrameLimits = FrameLimits::AUTHENTICATED;

/// A file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Whether vectors and dumps are to be written instead of compared.
pub fn rewrite() -> bool {
    std::env::var_os("DISTRIC_WIRE_VECTORS").is_some_and(|value| value == "write")
}

/// Lower-case hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal text.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "hexadecimal text has an even length: {text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits")).collect()
}

/// A message's name and table.
pub fn table_of(message_type: u16) -> (&'static str, &'static [FieldSpec]) {
    let (_, name, fields) =
        AnyMessage::TABLE.iter().find(|(number, ..)| *number == message_type).unwrap_or_else(|| panic!("no message {message_type:#06x}"));
    (name, fields)
}

/// Type byte of a type name such as `array<str>`.
pub fn type_code(type_name: &str) -> u8 {
    match type_name.split('<').next().expect("split gives at least one part") {
        "u8" => 0x01,
        "u16" => 0x02,
        "u32" => 0x03,
        "u64" => 0x04,
        "i64" => 0x05,
        "f64" => 0x06,
        "bool" => 0x07,
        "uuid" => 0x08,
        "str" => 0x10,
        "bytes" => 0x11,
        "array" => 0x20,
        "map" => 0x21,
        other => panic!("no type {other}"),
    }
}

/// One field.
pub fn field(code: u8, tag: u16, value: &[u8]) -> Vec<u8> {
    let mut out = vec![code];
    out.extend(tag.to_be_bytes());
    out.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    out.extend(value);
    out
}

/// The payload of `[{"tag", "type", "value"}, …]`.
pub fn payload_of(fields: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for one in fields.as_array().expect("fields are a list") {
        let type_name = one["type"].as_str().unwrap();
        let tag = u16::try_from(one["tag"].as_u64().unwrap()).unwrap();
        out.extend(field(type_code(type_name), tag, &value_of(type_name, &one["value"])));
    }
    out
}

fn value_of(type_name: &str, value: &Value) -> Vec<u8> {
    let text = || value.as_str().unwrap_or_else(|| panic!("{type_name} is text in JSON, got {value}"));
    match type_name {
        "u8" => vec![u8::try_from(value.as_u64().unwrap()).unwrap()],
        "u16" => u16::try_from(value.as_u64().unwrap()).unwrap().to_be_bytes().to_vec(),
        "u32" => u32::try_from(value.as_u64().unwrap()).unwrap().to_be_bytes().to_vec(),
        "u64" => text().parse::<u64>().unwrap().to_be_bytes().to_vec(),
        "i64" => text().parse::<i64>().unwrap().to_be_bytes().to_vec(),
        "bool" => vec![u8::from(value.as_bool().unwrap())],
        "uuid" => unhex(&text().replace('-', "")),
        "str" => text().as_bytes().to_vec(),
        "bytes" => unhex(text()),
        "map<str,str>" => value
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|pair| [&pair[0], &pair[1]])
            .enumerate()
            .flat_map(|(at, text)| field(0x10, at as u16, text.as_str().unwrap().as_bytes()))
            .collect(),
        array => {
            let item = array.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')).unwrap_or_else(|| panic!("no type {array}"));
            let items = value.as_array().unwrap().iter().enumerate();
            items.flat_map(|(at, one)| field(type_code(item), at as u16, &value_of(item, one))).collect()
        }
    }
}

/// The fields of a payload as `[{"tag", "name", "type", "value"}, …]`, in the order of the bytes.
pub fn fields_of(table: &[FieldSpec], payload: &[u8]) -> Value {
    let fields = split(payload).into_iter().map(|(code, tag, value)| {
        let spec = table.iter().find(|spec| spec.tag == tag).unwrap_or_else(|| panic!("no tag {tag}"));
        assert_eq!(code, type_code(spec.type_name), "tag {tag}");
        let mut one = Map::new();
        one.insert("tag".into(), json!(tag));
        one.insert("name".into(), json!(spec.name));
        one.insert("type".into(), json!(spec.type_name));
        one.insert("value".into(), json_of(spec.type_name, value));
        Value::Object(one)
    });
    Value::Array(fields.collect())
}

/// Splits bytes into (type, tag, value).
pub fn split(mut bytes: &[u8]) -> Vec<(u8, u16, &[u8])> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[3..7].try_into().unwrap()) as usize;
        out.push((bytes[0], u16::from_be_bytes([bytes[1], bytes[2]]), &bytes[7..7 + length]));
        bytes = &bytes[7 + length..];
    }
    out
}

fn json_of(type_name: &str, value: &[u8]) -> Value {
    let text = |bytes: &[u8]| Value::String(String::from_utf8(bytes.to_vec()).unwrap());
    match type_name {
        "u8" => json!(value[0]),
        "u16" => json!(u16::from_be_bytes(value.try_into().unwrap())),
        "u32" => json!(u32::from_be_bytes(value.try_into().unwrap())),
        "u64" => json!(u64::from_be_bytes(value.try_into().unwrap()).to_string()),
        "i64" => json!(i64::from_be_bytes(value.try_into().unwrap()).to_string()),
        "bool" => json!(value[0] == 1),
        "uuid" => {
            let digits = hex(value);
            json!(format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]))
        }
        "str" => text(value),
        "bytes" => json!(hex(value)),
        "map<str,str>" => {
            let texts: Vec<Value> = split(value).into_iter().map(|(_, _, one)| text(one)).collect();
            json!(texts.chunks(2).collect::<Vec<_>>())
        }
        array => {
            let item = array.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')).unwrap_or_else(|| panic!("no type {array}"));
            Value::Array(split(value).into_iter().map(|(_, _, one)| json_of(item, one)).collect())
        }
    }
}
