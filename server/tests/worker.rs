//! Coordinator and worker as separate processes: the worker comes later, the coordinator goes and comes back.

mod support;

use std::time::Duration;

use distric_harness::{Node, free_address, http, wait_until};
use support::{RULES, WORKFLOWS, dir_with, program};

#[test]
fn a_worker_process_reconnects_to_a_coordinator_that_comes_back() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    // A fixed address, so that the worker finds the coordinator again.
    let wire = free_address();
    let start = || {
        let more = ["--rules".to_owned(), path("rules.yaml"), "--workflows".to_owned(), path("workflows.yaml")];
        Node::start_at(&program(), "coordinator", wire, &dir.path().join("data"), more)
    };
    let node = start();
    let first = send(&node);
    let mut worker = program().start(["--json", "worker", "--coordinators", &node.addr(), "--slots", "4"]);
    worker.wait_for_event("started", Duration::from_secs(10));
    completes(&node, &first);

    node.kill();
    let node = start();
    let second = send(&node);
    completes(&node, &second);

    worker.terminate();
    worker.wait().expect(0);
    node.stop().expect(0);
}

fn send(node: &Node) -> String {
    let reply = http(&node.http, "POST", "/api/v1/messages?event_type=greeting", &[], r#"{"name":"a"}"#);
    assert_eq!(reply.status, 202, "{}", reply.body);
    reply.json()["instances"][0].as_str().unwrap().to_owned()
}

fn completes(node: &Node, instance: &str) {
    wait_until("the workflow completes", Duration::from_secs(20), || {
        let view = http(&node.http, "GET", &format!("/api/v1/workflows/{instance}"), &[], "").json();
        (view["status"] == "completed").then_some(())
    });
}
