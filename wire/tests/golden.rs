//! The golden vectors: `wire/vectors/*.json`, one file per message, frames and what is in them.
//!
//! Every client library tests against them. `DISTRIC_WIRE_VECTORS=write cargo test -p distric-wire` writes them anew;
//! a change of an existing frame is a change of the protocol.

mod support {
    pub mod malformed;
    pub mod samples;
    pub mod tools;
    pub use tools::*;
}

use std::collections::BTreeMap;
use std::fs;

use distric_wire::{AnyMessage, Flags, parse};
use serde_json::{Value, json};
use support::malformed::{malformed, refusal};
use support::samples::{Sample, encode_any, samples};
use support::{LIMITS, fields_of, hex, payload_of, repository, rewrite, table_of, unhex};

const FOLDER: &str = "wire/vectors";

/// `SubmitBatch` to `submit_batch.json`.
fn file_name(message: &str) -> String {
    let mut name = String::new();
    for letter in message.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name + ".json"
}

/// What a vector file says of one sample.
fn case_of(sample: &Sample) -> Value {
    let (frame, consumed) = parse(&sample.frame, LIMITS).unwrap().expect("a sample is a whole frame");
    assert_eq!(consumed, sample.frame.len());
    let mut scratch = Vec::new();
    let payload = frame.decompressed(&mut scratch, LIMITS).unwrap();
    let (_, table) = table_of(sample.message_type);
    json!({
        "name": sample.case,
        "frame": hex(&sample.frame),
        "header": {
            "version": frame.header.version,
            "message_type": frame.header.message_type,
            "flags": frame.header.flags.bits(),
            "payload_bytes": frame.header.payload_bytes,
            "message_id": frame.header.message_id.to_string(),
            "timestamp_us": frame.header.timestamp_us.to_string(),
            "crc32": frame.header.crc32,
        },
        "fields": fields_of(table, payload),
    })
}

/// All vector files, by name, as the code would write them.
fn files() -> BTreeMap<String, Value> {
    let mut files = BTreeMap::new();
    for sample in samples() {
        let (name, _) = table_of(sample.message_type);
        let file = files
            .entry(file_name(name))
            .or_insert_with(|| json!({ "message": name, "type": format!("{:#06x}", sample.message_type), "cases": [] }));
        file["cases"].as_array_mut().unwrap().push(case_of(&sample));
    }
    files
}

/// What `malformed.json` says: frames to be refused, with code and words, under which message id, and whether the connection ends.
fn malformed_file() -> Value {
    let cases = malformed().into_iter().map(|case| {
        let (code, words, message_id, ends) = refusal(&case.frame).unwrap_or_else(|| panic!("{} was accepted", case.name));
        json!({
            "name": case.name,
            "frame": hex(&case.frame),
            "code": code.number(),
            "code_name": code.name(),
            "error": words,
            "message_id": message_id.map(|id| id.to_string()),
            "ends_connection": ends,
        })
    });
    json!({ "cases": cases.collect::<Vec<_>>() })
}

/// JSON with one line per field, so that a difference between versions is readable.
fn printed(file: &Value) -> String {
    let mut out = String::from("{\n");
    for name in ["message", "type"] {
        if file[name].is_string() {
            out += &format!("  \"{name}\": {},\n", file[name]);
        }
    }
    out += "  \"cases\": [\n";
    let cases = file["cases"].as_array().expect("a vector file has cases");
    for (at, case) in cases.iter().enumerate() {
        let mut members: Vec<String> = Vec::new();
        for (name, value) in case.as_object().expect("a case is an object") {
            if name != "fields" {
                members.push(format!("      \"{name}\": {value}"));
            }
        }
        if let Some(fields) = case["fields"].as_array() {
            let lines: Vec<String> = fields.iter().map(|field| format!("        {field}")).collect();
            members.push(format!("      \"fields\": [\n{}\n      ]", lines.join(",\n")));
        }
        out += &format!("    {{\n{}\n    }}{}\n", members.join(",\n"), if at + 1 < cases.len() { "," } else { "" });
    }
    out + "  ]\n}\n"
}

fn committed(name: &str) -> Value {
    let path = repository(FOLDER).join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_code_writes_the_committed_frames() {
    let files = files();
    if rewrite() {
        for (name, file) in &files {
            fs::write(repository(FOLDER).join(name), printed(file)).unwrap();
        }
    }
    for (name, file) in files {
        assert_eq!(serde_json::from_str::<Value>(&printed(&file)).unwrap(), file, "what is printed is what is meant");
        let committed = committed(&name);
        assert_eq!((&file["message"], &file["type"]), (&committed["message"], &committed["type"]), "{name}");
        let (ours, theirs) = (file["cases"].as_array().unwrap(), committed["cases"].as_array().unwrap());
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            // Another LZ4 encoder may choose other bytes for the same content; only reading them is golden.
            if ours["name"] != "compressed" {
                assert_eq!(ours, theirs, "{name}");
            }
        }
    }
}

#[test]
fn malformed_frames_are_refused_as_committed() {
    let file = malformed_file();
    if rewrite() {
        fs::write(repository(FOLDER).join("malformed.json"), printed(&file)).unwrap();
    }
    assert_eq!(file, committed("malformed.json"));
}

#[test]
fn the_code_reads_the_committed_frames_and_a_second_codec_agrees() {
    let mut seen = Vec::new();
    for entry in fs::read_dir(repository(FOLDER)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "malformed.json" {
            continue;
        }
        let file = committed(&name);
        for case in file["cases"].as_array().unwrap() {
            let bytes = unhex(case["frame"].as_str().unwrap());
            let (frame, consumed) = parse(&bytes, LIMITS).unwrap().expect("a vector is a whole frame");
            assert_eq!(consumed, bytes.len(), "{name}");
            let header = &case["header"];
            assert_eq!(header["message_type"], frame.header.message_type, "{name}");
            assert_eq!(header["flags"], frame.header.flags.bits(), "{name}");
            assert_eq!(header["message_id"], frame.header.message_id.to_string(), "{name}");
            assert_eq!(header["timestamp_us"], frame.header.timestamp_us.to_string(), "{name}");
            assert_eq!(header["crc32"], frame.header.crc32, "{name}");
            seen.push(frame.header.message_type);

            // Fields to bytes by the tables, bytes to fields by the tables, and both by the code.
            let mut scratch = Vec::new();
            let payload = frame.decompressed(&mut scratch, LIMITS).unwrap();
            let (message_name, table) = table_of(frame.header.message_type);
            assert_eq!(file["message"], message_name, "{name}");
            assert_eq!(fields_of(table, payload), case["fields"], "{name}");
            assert_eq!(hex(&payload_of(&case["fields"])), hex(payload), "{name}");
            let message = AnyMessage::decode(frame.header.message_type, payload).unwrap().expect("a vector's type is known");
            let mut again = Vec::new();
            message.encode_payload(&mut again);
            assert_eq!(hex(&again), hex(payload), "{name}");
            assert_eq!(message.payload_bytes(), payload.len(), "{name}");
            if !frame.header.flags.contains(Flags::COMPRESSED) {
                let mut again = Vec::new();
                encode_any(&message, frame.header.message_id, frame.header.flags, &mut again);
                assert_eq!(hex(&again), hex(&bytes), "{name}");
            }
        }
    }
    for (message_type, name, _) in AnyMessage::TABLE {
        assert!(seen.contains(message_type), "{name} has no vector");
    }
}
