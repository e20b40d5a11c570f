//! The reference of all keys: as rows, and as the page `docs/config.md` that is generated from them.

use std::fmt::Write as _;

use super::raw::RawConfig;
use super::table::{COMMAND_VARIABLES, Fallback, KEYS};
use super::value::expected;

/// One row of the reference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyRow {
    /// Dotted name.
    pub key: &'static str,
    /// What a value may be, with bounds.
    pub kind: String,
    /// What holds when nothing is written.
    pub default: String,
    /// The environment variable.
    pub variable: String,
    /// Meaning.
    pub doc: &'static str,
}

/// All keys in the order of the table.
pub fn describe() -> Vec<KeyRow> {
    KEYS.iter()
        .map(|key| KeyRow {
            key: key.name,
            kind: expected(key.kind),
            default: match key.fallback {
                Fallback::Value("") => "none".to_owned(),
                Fallback::Value(text) => format!("`{text}`"),
                Fallback::Unset(meaning) => format!("not set: {meaning}"),
            },
            variable: key.variable(),
            doc: key.doc,
        })
        .collect()
}

/// What holds for every key, with its origin: `(key, value as JSON, origin)`; keys without a value are null.
pub fn effective(raw: &RawConfig) -> Vec<(&'static str, serde_json::Value, String)> {
    KEYS.iter()
        .map(|key| match raw.written(key.name) {
            Some(written) => (key.name, written.value.to_json(), written.origin.to_string()),
            None => (key.name, serde_json::Value::Null, "default".to_owned()),
        })
        .collect()
}

/// The configuration as a file that can be read again; with `origins`, a comment behind each value.
pub fn to_yaml(raw: &RawConfig, origins: bool) -> String {
    let mut out = String::new();
    let mut section_open = "";
    for (name, value, origin) in effective(raw) {
        let (section, member) = name.split_once('.').unwrap_or(("", name));
        if section != section_open && !section.is_empty() {
            let _ = writeln!(out, "{section}:");
        }
        section_open = section;
        let indent = if section.is_empty() { "" } else { "  " };
        // JSON scalars, lists and maps are YAML flow style, and null would be an error: an unset key is a comment.
        let comment = if origins { format!("  # {origin}") } else { String::new() };
        let _ = if value.is_null() {
            writeln!(out, "{indent}# {member}: not set")
        } else {
            writeln!(out, "{indent}{member}: {value}{comment}")
        };
    }
    out
}

/// The page `docs/config.md`.
pub fn reference_markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("| key | value | default | environment | meaning |\n|---|---|---|---|---|\n");
    for row in describe() {
        let _ = writeln!(out, "| `{}` | {} | {} | `{}` | {} |", row.key, row.kind.replace('|', "\\|"), row.default, row.variable, row.doc);
    }
    out.push_str("\n## Variables of the command line\n\n| variable | meaning |\n|---|---|\n");
    for (name, meaning) in COMMAND_VARIABLES {
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

One value can be written in four places; the later one wins: built-in default, configuration file (`--config FILE` or
`DISTRIC_CONFIG`), environment variable, flag. `distric config print --show-origin` says for each value where it came from,
`distric config check FILE` checks a file without starting anything.

The file is YAML (or JSON); a dotted key is a member of a section:

```yaml
node:
  name: alpha
  data_dir: /var/lib/distric
wire:
  bind: 127.0.0.1:7400
```

Every key can be given as a flag, `--set wire.bind=127.0.0.1:7500`; the usual ones have flags of their own (`docs/cli.md`).
A key that does not exist, a variable that begins with `DISTRIC_` and is not listed here, a value out of its range, and values
that contradict each other are errors that name file, line and column, variable, or flag. Nothing starts until they are mended.

Bytes may be written with `KiB`, `MiB`, `GiB`, milliseconds with `ms`, `s`, `m`, `h`; a bare number is bytes or milliseconds.

A listener that other machines can reach is refused unless `insecure_bind` (`--insecure-bind`) accepts it, because clients are
not authenticated yet.

## Keys

This table is generated from the program; a test holds the two equal.

";
