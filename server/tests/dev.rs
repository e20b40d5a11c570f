//! `distric dev` from outside: it becomes ready, does the main job, survives a kill, ends when told to.

mod support;

use std::time::Duration;

use distric_harness::{Node, http, wait_until};
use serde_json::{Value, json};
use support::{RULES, WORKFLOWS, dir_with, program};

#[test]
fn a_message_becomes_a_workflow_becomes_a_result() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let node = start(&dir);
    let sent = program().run(["--json", "send", "--addr", &node.addr(), "greeting", r#"{"name":"ada"}"#]).expect(0);
    let lines = sent.json_lines();
    assert_eq!(lines[0]["event"], "accepted");
    assert_eq!(lines[0]["rules"], json!(["greet-everyone"]));
    let ended = lines.last().unwrap();
    assert_eq!((&ended["event"], &ended["status"]), (&json!("ended"), &json!("completed")), "{lines:#?}");

    let instance = lines[0]["instances"][0].as_str().unwrap();
    let view = http(&node.http, "GET", &format!("/api/v1/workflows/{instance}"), &[], "").json();
    let task = view["tasks"].as_array().unwrap().iter().find(|task| task["task"] == "greet").unwrap();
    assert_eq!(task["output"], json!({"text": "hello, ada"}), "{view:#}");
    node.stop().expect(0);
}

#[test]
fn a_workflow_that_fails_is_exit_code_1() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let node = start(&dir);
    let sent = program().run(["--json", "send", "--addr", &node.addr(), "doom", "{}"]).expect(1);
    let ended = sent.json_lines().pop().unwrap();
    assert_eq!(ended["status"], "failed");
    assert!(ended["error"].as_str().unwrap().contains("no_good"), "{ended}");
    let text = program().run(["send", "--addr", &node.addr(), "doom", "{}"]).expect(1).stdout;
    assert!(text.contains("rule doomed") && text.contains("failed"), "{text}");
    let run = program().run(["--json", "run", "greeting", "--addr", &node.addr(), "--input", r#"{"name":"bob"}"#]).expect(0);
    assert_eq!(run.json_lines().pop().unwrap()["status"], "completed");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let mut known = Vec::new();
    for round in 0..3 {
        let node = start(&dir);
        for id in &known {
            let reply = http(&node.http, "GET", &format!("/api/v1/messages/{id}"), &[], "");
            assert_eq!(reply.status, 200, "round {round}: {id} is lost: {}", reply.body);
        }
        for i in 0..20 {
            let key = format!("{round}-{i}");
            let reply = http(&node.http, "POST", "/api/v1/messages?event_type=greeting", &[("Idempotency-Key", &key)], r#"{"name":"x"}"#);
            assert_eq!(reply.status, 202, "{}", reply.body);
            known.push(reply.json()["message_id"].as_str().unwrap().to_owned());
        }
        node.kill();
    }
    let node = start(&dir);
    for id in &known {
        let view = http(&node.http, "GET", &format!("/api/v1/messages/{id}"), &[], "").json();
        let instance = view["instances"][0]["id"].as_str().unwrap().to_owned();
        wait_until("the workflow ends after the restart", Duration::from_secs(20), || {
            let view = http(&node.http, "GET", &format!("/api/v1/workflows/{instance}"), &[], "").json();
            (view["status"] == "completed").then_some(())
        });
    }
    let again = http(&node.http, "POST", "/api/v1/messages?event_type=greeting", &[("Idempotency-Key", "0-0")], r#"{"name":"x"}"#).json();
    assert_eq!((again["status"].as_str(), again["message_id"].as_str()), (Some("repeat"), Some(known[0].as_str())));
}

#[test]
fn it_is_ready_soon_and_ends_when_told_to() {
    let dir = dir_with(&[]);
    let node = start(&dir);
    assert!(node.ready_after < Duration::from_secs(5), "ready after {:?}", node.ready_after);
    let finished = node.stop().expect(0);
    for line in finished.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for member in ["ts", "level", "component", "msg", "node"] {
            assert!(line[member].is_string(), "{member} is missing: {line}");
        }
    }
    // The same directory again, at once: nothing was left locked.
    start(&dir).stop().expect(0);
}

#[test]
fn a_temporary_directory_is_removed_at_the_end() {
    let home = tempfile::tempdir().unwrap();
    let mut command = program().command(["--json", "dev", "--wire-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"]);
    command.env("TMPDIR", home.path());
    let mut process = distric_harness::Running::start(command);
    let ready = process.wait_for_event("ready", distric_harness::process::READY_WITHIN);
    let dir = std::path::PathBuf::from(ready["data_dir"].as_str().unwrap());
    assert!(ready["temporary"] == true && dir.starts_with(home.path()) && dir.exists());
    process.terminate();
    process.wait().expect(0);
    assert!(!dir.exists());
}

fn start(dir: &tempfile::TempDir) -> Node {
    let mut more = Vec::new();
    for (flag, file) in [("--rules", "rules.yaml"), ("--workflows", "workflows.yaml")] {
        let path = dir.path().join(file);
        if path.exists() {
            more.extend([flag.to_owned(), path.display().to_string()]);
        }
    }
    Node::start(&program(), "dev", &dir.path().join("data"), more)
}

#[test]
fn it_does_the_same_where_io_uring_is_refused() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    for shards in ["1", "2"] {
        let more = ["--rules".to_owned(), path("rules.yaml"), "--workflows".to_owned(), path("workflows.yaml")];
        let driver = ["--set".to_owned(), "io.driver=epoll".to_owned(), "--shards".to_owned(), shards.to_owned()];
        let node = Node::start(&program(), "dev", &dir.path().join(shards), more.into_iter().chain(driver));
        program().run(["send", "--addr", &node.addr(), "greeting", r#"{"name":"ada"}"#]).expect(0);
        node.stop().expect(0);
    }
}
