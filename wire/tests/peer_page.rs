//! `docs/peer-protocol.md` names every message between coordinators and its fields, as the code has them.
//!
//! `BLESS=1` writes the tables anew.

use std::fmt::Write;
use std::path::PathBuf;

use distric_wire::PeerMessage;

const HEADING: &str = "## Messages\n";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/peer-protocol.md")
}

fn tables() -> String {
    let mut text = String::new();
    for (message_type, name, fields) in PeerMessage::TABLE {
        let _ = write!(text, "\n### {name} — 0x{message_type:04X}\n\n| tag | name | type | required |\n|---|---|---|---|\n");
        for field in *fields {
            let kind = field.type_name;
            let kind = if kind.contains('<') { format!("`{kind}`") } else { kind.to_owned() };
            let _ = writeln!(text, "| {} | {} | {kind} | {} |", field.tag, field.name, if field.required { "yes" } else { "no" });
        }
    }
    text
}

#[test]
fn the_page_has_every_message_as_it_is() {
    let page = std::fs::read_to_string(path()).expect("the page is committed");
    let (head, rest) = page.split_once(HEADING).expect("the page has its heading");
    let found = rest.lines().filter(|line| line.starts_with("### ") || line.starts_with("| ") || line.starts_with("|---"));
    let expected = tables();
    if found.collect::<Vec<_>>() == expected.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>() {
        return;
    }
    assert!(std::env::var_os("BLESS").is_some(), "docs/peer-protocol.md is stale; run with BLESS=1");
    std::fs::write(path(), format!("{head}{HEADING}{expected}")).expect("the page can be written");
}
