//! `docs/protocol.md` says what the code does: tables of fields, codes and kinds, slots, and dumps of golden frames.
//!
//! `DISTRIC_WIRE_VECTORS=write` writes the dumps anew.

mod support {
    pub mod tools;
}

use std::collections::BTreeMap;
use std::fs;

use distric_model::Slot;
use distric_wire::client::{BatchItem, CommandKind, QueryKind, SubmitOutcome, SubscribeKind};
use distric_wire::task::{ResultOutcome, TaskRef, Verdict};
use distric_wire::tlv::{FieldSpec, Kind};
use distric_wire::{AnyMessage, Code, MAGIC};
use serde_json::Value;
use support::tools::{repository, rewrite, unhex};

const PAGE: &str = "docs/protocol.md";

fn page() -> String {
    fs::read_to_string(repository(PAGE)).expect("the page is committed")
}

/// Rows of the first table below `heading` (and before the next heading) whose head begins with `first_column`.
fn table(page: &str, heading: &str, first_column: &str) -> Vec<Vec<String>> {
    let from = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let section = &page[from + heading.len() + 2..];
    let section = &section[..section.find("\n#").unwrap_or(section.len())];
    let rows = section
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with(&format!("| {first_column} |")))
        .take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<String>> =
        rows.skip(2).map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!rows.is_empty(), "{heading}: no table {first_column:?}");
    rows
}

fn check_fields(heading: &str, rows: &[Vec<String>], fields: &[FieldSpec]) {
    let found: Vec<[&str; 4]> = rows.iter().map(|row| [row[0].as_str(), &row[1], row[2].trim_matches('`'), &row[3]]).collect();
    let tags: Vec<String> = fields.iter().map(|field| field.tag.to_string()).collect();
    let expected: Vec<[&str; 4]> = fields
        .iter()
        .zip(&tags)
        .map(|(field, tag)| [tag.as_str(), field.name, field.type_name, if field.required { "yes" } else { "no" }])
        .collect();
    assert_eq!(found, expected, "{heading}");
}

#[test]
fn every_message_has_its_table() {
    let page = page();
    let listed: BTreeMap<String, String> =
        table(&page, "## All messages", "type").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(listed.len(), AnyMessage::TABLE.len());
    for (message_type, name, fields) in AnyMessage::TABLE {
        let number = format!("0x{message_type:04X}");
        let heading = format!("### {name} — {number}");
        check_fields(&heading, &table(&page, &heading, "tag"), fields);
        assert!(listed[&number].starts_with(&format!("[{name}](")), "{number} {}", listed[&number]);
    }
}

/// The second table of fields in a section, that of a nested structure.
fn nested_table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let from = page.find(&format!("\n{heading}\n")).expect("the heading is there");
    let second = page[from..].find("fields").map(|at| from + at).expect("a sentence introduces the nested table");
    let rows = page[second..].lines().skip_while(|line| !line.starts_with("| tag |")).take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn nested_structures_have_their_tables() {
    let page = page();
    check_fields("BatchItem", &nested_table(&page, "### BatchResponse — 0x4007"), BatchItem::FIELDS);
    check_fields("TaskRef", &nested_table(&page, "### Reconcile — 0x3008"), TaskRef::FIELDS);
}

#[test]
fn numbers_and_names_are_those_of_the_code() {
    let page = page();
    let check = |heading: &str, first: &str, expected: Vec<(String, &str)>| {
        let rows = table(&page, heading, first);
        let found: Vec<(String, &str)> = rows.iter().map(|row| (row[0].clone(), row[1].as_str())).collect();
        assert_eq!(found, expected, "{heading}");
    };
    macro_rules! numbers {
        ($name:ident) => {
            $name::ALL.iter().map(|one| (one.number().to_string(), one.name())).collect()
        };
    }
    check("### Rejection — 0x400B", "code", numbers!(Code));
    check("### Query — 0x4003", "kind", numbers!(QueryKind));
    check("### Command — 0x400E", "kind", numbers!(CommandKind));
    check("### Subscribe — 0x400C", "kind", numbers!(SubscribeKind));
    check("### Response — 0x4002", "outcome", numbers!(SubmitOutcome));
    check("### TaskResult — 0x3002", "outcome", numbers!(ResultOutcome));
    check("### ResultAck — 0x3007", "verdict", numbers!(Verdict));
    let kinds: Vec<(String, &str)> =
        (0..=u8::MAX).filter_map(Kind::from_code).map(|kind| (format!("`{:#04x}`", kind.code()), kind.name())).collect();
    check("## Payload: TLV", "type byte", kinds);
    assert!(page.contains(&format!("`{MAGIC:#010x}`")));
}

#[test]
fn transient_codes_and_those_that_end_the_connection_are_listed() {
    let page = page();
    let section = |heading: &str| {
        let from = page.find(heading).unwrap();
        &page[from..from + page[from..].find("\n## ").unwrap_or(page.len() - from)]
    };
    let resend = section("- Codes after which the same request may be sent again");
    let resend = &resend[..resend.find("After any other code").unwrap()];
    let ends = section("The node closes the connection after");
    for code in Code::ALL {
        assert_eq!(resend.contains(&format!("`{code}`")), code.is_transient(), "{code} among those to be sent again");
        let ends = ends.split("and after a").next().unwrap();
        assert_eq!(ends.contains(&format!("`{code}`")), code.ends_connection(), "{code} among those that end the connection");
    }
}

#[test]
fn slots_are_those_of_the_code() {
    for row in table(&page(), "## Slots and ids", "namespace") {
        assert_eq!(Slot::of(&row[0], row[1].as_bytes()).number().to_string(), row[2], "{row:?}");
    }
}

/// Sixteen bytes a line: offset, hexadecimal, text.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let numbers: Vec<String> =
            chunk.chunks(8).map(|half| half.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")).collect();
        let text: String = chunk.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        out += &format!("{:08x}  {:<48}  |{text}|\n", line * 16, numbers.join("  "));
    }
    out
}

fn golden(file: &str, case: &str) -> Vec<u8> {
    let text = fs::read_to_string(repository("wire/vectors").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let file: Value = serde_json::from_str(&text).unwrap();
    let case = file["cases"].as_array().unwrap().iter().find(|one| one["name"] == case).unwrap_or_else(|| panic!("{file}: no case {case}"));
    unhex(case["frame"].as_str().unwrap())
}

#[test]
fn dumps_are_golden_frames() {
    const MARK: &str = "<!-- frame: ";
    const OPEN: &str = " -->\n```text\n";
    let page = page();
    let mut written = String::new();
    let mut rest = page.as_str();
    let mut count = 0;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        let (name, after) = after.split_once(OPEN).expect("a text block follows the mark");
        let (_, after) = after.split_once("```").expect("the block ends");
        let (file, case) = name.split_once(' ').expect("file and case");
        written += &format!("{before}{name}{OPEN}{}```", dump(&golden(file, case)));
        rest = after;
        count += 1;
    }
    written += rest;
    assert!(count >= 10, "{count} dumps");
    if rewrite() {
        fs::write(repository(PAGE), &written).unwrap();
    } else if written != page {
        let (line, (found, expected)) =
            page.lines().zip(written.lines()).enumerate().find(|(_, (found, expected))| found != expected).expect("they differ somewhere");
        panic!("{PAGE}:{}: {found:?} should be {expected:?}", line + 1);
    }
}
