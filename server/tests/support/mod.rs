//! What the black-box tests share: the binary, a small catalog, directories.
#![allow(dead_code, reason = "each test binary uses its part")]

use distric_harness::Program;
use tempfile::TempDir;

/// The binary under test.
pub fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_distric"))
}

/// Rules that start one workflow each.
pub const RULES: &str = r#"
rules:
  - id: greet-everyone
    event_type: greeting
    actions: [{ workflow: greeting }]
  - id: doomed
    event_type: doom
    actions: [{ workflow: doom }]
"#;

/// A workflow that completes and one that fails.
pub const WORKFLOWS: &str = r#"
workflows:
  - id: greeting
    tasks:
      - id: greet
        type: transform
        input: { name: "${input.name}" }
        config: { set: { text: "'hello, ' + name" } }
      - id: note
        type: log
        depends_on: [greet]
        config: { level: debug, message: "${tasks.greet.output.text}" }
  - id: doom
    tasks:
      - id: give_up
        type: fail
        config: { code: no_good, message: this never works }
"#;

/// A temporary directory with these files in it.
pub fn dir_with(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("a file can be written there");
    }
    dir
}

/// Makes a data directory look as if a later version of the program had written it.
pub fn make_newer(data: &std::path::Path) {
    let file = data.join("node.json");
    let text = std::fs::read_to_string(&file).expect("a data directory says its version");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    record["format"] = serde_json::json!(1_000_000);
    std::fs::write(&file, record.to_string()).expect("it can be written");
}
