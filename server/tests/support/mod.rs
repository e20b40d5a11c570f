//! What the black-box tests share: the binary, a small catalog, directories.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use distric_harness::{Node, Program, Running, http};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The binary under test.
pub fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_distric"))
}

/// SplitMix64: what is drawn from a seed is always the same.
pub struct Draw(pub u64);

impl Draw {
    /// Below this bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// A runtime of this thread.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// A worker process of this node, with `flag PATH` where a path is given.
pub fn worker(node: &Node, flag: &str, path: Option<&Path>) -> Running {
    let mut arguments = vec!["--json".to_owned(), "worker".to_owned(), "--coordinators".to_owned(), node.addr()];
    if let Some(path) = path {
        arguments.extend([flag.to_owned(), path.display().to_string()]);
    }
    program().start(arguments)
}

/// Starts a workflow over HTTP; the id of its instance.
pub fn begin(node: &Node, workflow: &str, input: &Value) -> String {
    let body = json!({ "workflow": workflow, "input": input }).to_string();
    let reply = http(&node.http, "POST", "/api/v1/workflows", &[("content-type", "application/json")], &body);
    assert!((200..300).contains(&reply.status), "{} {}", reply.status, reply.body);
    reply.json()["instance"].as_str().unwrap_or_else(|| panic!("{}", reply.body)).to_owned()
}

/// An instance as it is told over HTTP.
pub fn view(node: &Node, instance: &str) -> Value {
    http(&node.http, "GET", &format!("/api/v1/workflows/{instance}"), &[], "").json()
}

/// What a task of such a view has returned.
pub fn output_of<'a>(view: &'a Value, task: &str) -> &'a Value {
    let tasks = view["tasks"].as_array().unwrap_or_else(|| panic!("{view}"));
    &tasks.iter().find(|one| one["task"] == task).unwrap_or_else(|| panic!("no {task} in {view}"))["output"]
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// Compiles a plugin, named by its path below `plugins/`, into a directory.
pub fn compile(path: &str, into: &Path) {
    let source = root().join("plugins").join(path);
    let library = into.join(source.file_stem().expect("a source file has a name")).with_extension("so");
    let status = Command::new("cc")
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-I"])
        .arg(root().join("plugins/abi/include"))
        .arg("-o")
        .arg(library)
        .arg(source)
        .status()
        .expect("a C compiler is installed");
    assert!(status.success(), "{path} does not compile");
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

/// Makes a data directory look as if a later version of the program had written it: the format's number in the header page of each segment of
/// the log is raised, and the page's checksum made anew.
pub fn make_newer(data: &std::path::Path) {
    let mut changed = 0;
    for entry in std::fs::read_dir(data.join("log-segment")).expect("the log has a directory").flatten() {
        let mut bytes = std::fs::read(entry.path()).expect("it can be read");
        if bytes.starts_with(b"DISTRLOG") {
            bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[..12]);
            crc.update(&bytes[16..4_096]);
            bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
            std::fs::write(entry.path(), bytes).expect("it can be written");
            changed += 1;
        }
    }
    assert!(changed > 0, "no segment was found");
}

/// A file with one key of gossip, as `distric-admin gossip keys add` makes them.
pub fn keys_file(dir: &std::path::Path) -> std::path::PathBuf {
    let path = dir.join("gossip-keys");
    distric_server::cluster::keys::add(&path, 0).expect("a key can be made");
    path
}
