//! What goes wrong on the way up: each with its own words, its remedy, and its exit code; and nothing is changed.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use distric_harness::{Finished, Node, SmallDisk};
use support::{RULES, WORKFLOWS, dir_with, program};

fn dev(dir: &tempfile::TempDir, more: &[&str]) -> Finished {
    let data = dir.path().join("data").display().to_string();
    let mut arguments = vec!["dev", "--data-dir", &data, "--wire-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
    arguments.extend(more);
    program().run(arguments)
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = dir_with(&[]);
    for key in ["wire.bind", "http.bind"] {
        let text = dev(&dir, &["--set", &format!("{key}={address}")]).expect(8).stderr;
        assert!(text.contains(&address) && text.contains("in use"), "{key}: {text}");
    }
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused() {
    let dir = dir_with(&[]);
    let data = dir.path().join("data");
    Node::start(&program(), "dev", &data, ["--no-worker"]).stop().expect(0);
    support::make_newer(&data);
    let text = dev(&dir, &[]).expect(8).stderr;
    assert!(text.contains("newer") && text.contains(&data.display().to_string()), "{text}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = dir_with(&[("file", "")]);
    let file = dir.path().join("file").display().to_string();
    let text = program()
        .run(["dev", "--wire-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--data-dir", &format!("{file}/below")])
        .expect(8)
        .stderr;
    assert!(text.contains(&file), "{text}");
    if rustix::process::geteuid().is_root() {
        // Permissions do not hold for root: nothing to see.
        return;
    }
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    let data = locked.join("data").display().to_string();
    let text = program().run(["dev", "--wire-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--data-dir", &data]).expect(8).stderr;
    assert!(text.contains("ermission") && text.contains("locked"), "{text}");
}

#[test]
fn two_processes_cannot_share_a_directory() {
    let dir = dir_with(&[]);
    let node = Node::start(&program(), "dev", &dir.path().join("data"), ["--no-worker"]);
    let text = dev(&dir, &[]).expect(8).stderr;
    assert!(text.contains("another process"), "{text}");
    node.stop().expect(0);
}

#[test]
fn bad_catalog_files_start_nothing() {
    let cyclic = "workflows:\n  - id: w\n    tasks:\n      - { id: a, type: log, depends_on: [a], config: { message: x } }\n";
    let dir = dir_with(&[
        ("rules.yaml", "rules:\n  - id: a\n    actoins: []\n"),
        ("cyclic.yaml", cyclic),
        ("good.yaml", RULES),
        ("workflows.yaml", WORKFLOWS),
    ]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let text = dev(&dir, &["--rules", &path("rules.yaml")]).expect(7).stderr;
    assert!(text.contains("rules.yaml:3:") && text.contains("actions") && text.contains("nothing was started"), "{text}");
    let text = dev(&dir, &["--workflows", &path("cyclic.yaml")]).expect(7).stderr;
    assert!(text.contains("cyclic.yaml:"), "{text}");
    let text = dev(&dir, &["--rules", &path("missing.yaml")]).expect(7).stderr;
    assert!(text.contains("missing.yaml"), "{text}");
    assert!(!dir.path().join("data").exists(), "a refused start left a directory behind");
    // A rule that names a workflow which nobody has.
    let text = dev(&dir, &["--rules", &path("good.yaml")]).expect(7).stderr;
    assert!(text.contains("greeting"), "{text}");
}

#[test]
fn a_reachable_listener_is_refused_without_so_many_words() {
    let dir = dir_with(&[]);
    let text = dev(&dir, &["--set", "wire.bind=0.0.0.0:0"]).expect(7).stderr;
    assert!(text.contains("--insecure-bind"), "{text}");
    let text = dev(&dir, &["--set", "nmoe=1"]).expect(7).stderr;
    assert!(text.contains("unknown key"), "{text}");
    let text = program().run(["coordinator"]).expect(7).stderr;
    assert!(text.contains("--data-dir"), "{text}");
}

#[test]
fn a_full_disk_stops_the_node_in_so_many_words_and_loses_nothing() {
    let home = dir_with(&[]);
    let disk = match SmallDisk::mount(&home.path().join("small"), 40) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("!!! SKIPPED: full disk: no small file system can be had here: {reason}"),
    };
    let files = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let data = disk.path().join("data");
    let catalog = ["--rules".to_owned(), path("rules.yaml"), "--workflows".to_owned(), path("workflows.yaml"), "--no-worker".to_owned()];
    let node = Node::start(&program(), "dev", &data, catalog);
    let load = ["bench", "ingest", "--addr", &node.addr(), "--event-type", "greeting", "--payload-bytes", "4000", "--warm-up-ms", "0"];
    let load = load.into_iter().chain(["--duration-ms", "8000"]);
    let _ = program().run(load);
    let text = node.process.wait().expect(9).stderr;
    assert!(text.contains("No space left on device") && text.contains("free some space"), "{text}");
    disk.resize(400);
    let node = Node::start(&program(), "dev", &data, ["--no-worker"]);
    program().run(["send", "--addr", &node.addr(), "--no-follow", "greeting", r#"{"name":"ada"}"#]).expect(0);
    node.stop().expect(0);
}
