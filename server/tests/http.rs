//! The HTTP routes of a running node: each answers, and mistakes are problem documents.

mod support;

use distric_harness::{HttpReply, Node, http};
use serde_json::json;
use support::{RULES, WORKFLOWS, dir_with, program};

fn start(dir: &tempfile::TempDir) -> Node {
    let path = |name: &str| dir.path().join(name).display().to_string();
    Node::start(&program(), "dev", &dir.path().join("data"), ["--rules", &path("rules.yaml"), "--workflows", &path("workflows.yaml")])
}

#[track_caller]
fn problem(reply: &HttpReply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.body);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{}", reply.body);
    assert_eq!(reply.json()["code"], code, "{}", reply.body);
}

#[test]
fn every_route_answers() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let node = start(&dir);
    let get = |path: &str| http(&node.http, "GET", path, &[], "");

    let sent = http(&node.http, "POST", "/api/v1/messages?event_type=greeting", &[("Content-Type", "application/json")], r#"{"name":"a"}"#);
    assert_eq!(sent.status, 202, "{}", sent.body);
    let sent = sent.json();
    assert_eq!(sent["workflows_triggered"], json!(["greeting"]));
    let lines = "{\"event_type\":\"greeting\",\"name\":\"b\"}\n{\"event_type\":\"nothing\"}\n";
    let batch = http(&node.http, "POST", "/api/v1/messages:batch", &[("Content-Type", "application/x-ndjson")], lines);
    assert_eq!((batch.status, batch.json()["items"].as_array().map(Vec::len)), (200, Some(2)), "{}", batch.body);

    let instance = sent["instances"][0].as_str().unwrap();
    let view = get(&format!("/api/v1/workflows/{instance}")).json();
    let task = view["tasks"][0]["id"].as_str().unwrap().to_owned();
    for path in [
        &format!("/api/v1/messages/{}", sent["message_id"].as_str().unwrap()),
        &format!("/api/v1/tasks/{task}"),
        "/api/v1/tasks?status=completed",
        "/api/v1/rules",
        "/api/v1/rules/greet-everyone",
        "/api/v1/workflow-definitions",
        "/api/v1/workflow-definitions/greeting",
        "/api/v1/cluster/status",
        "/api/v1/cluster/nodes",
        "/health/live",
        "/health/ready",
    ] {
        let reply = get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json();
    }
    assert_eq!(get("/health/live").json()["status"], "UP");
    let metrics = get("/metrics");
    assert!(metrics.status == 200 && metrics.body.contains("distric_"), "{}", metrics.body);
}

#[test]
fn rules_are_changed_one_by_one() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let node = start(&dir);
    let call = |method: &str, path: &str, body: &str| http(&node.http, method, path, &[("Content-Type", "application/json")], body);
    let rule = r#"{"id":"extra","event_type":"extra","actions":[{"workflow":"greeting"}]}"#;
    assert_eq!(call("POST", "/api/v1/rules", rule).status, 201);
    assert_eq!(call("POST", "/api/v1/messages?event_type=extra", r#"{"name":"c"}"#).json()["workflows_triggered"], json!(["greeting"]));
    assert_eq!(call("PUT", "/api/v1/rules/extra", r#"{"id":"extra","event_type":"other"}"#).status, 200);
    assert_eq!(call("POST", "/api/v1/messages?event_type=extra", "{}").json()["workflows_triggered"], json!([]));
    assert!(matches!(call("DELETE", "/api/v1/rules/extra", "").status, 200 | 204));
    problem(&call("GET", "/api/v1/rules/extra", ""), 404, "not_found");
    problem(&call("POST", "/api/v1/rules", r#"{"id":"bad","actions":[{"workflow":"nobody_has_this"}]}"#), 422, "bad_catalog");
}

#[test]
fn mistakes_are_problem_documents() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let node = start(&dir);
    let json = [("Content-Type", "application/json")];
    let unknown = http(&node.http, "GET", "/api/v1/nothing", &[], "");
    assert_eq!((unknown.status, unknown.header("content-type")), (404, Some("application/problem+json")));
    let bad = http(&node.http, "POST", "/api/v1/messages", &json, "{not json");
    assert_eq!((bad.status, bad.header("content-type")), (400, Some("application/problem+json")), "{}", bad.body);
    let large = http(&node.http, "POST", "/api/v1/messages", &json, &format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20)));
    assert_eq!((large.status, large.header("content-type")), (413, Some("application/problem+json")), "{}", large.body);
    problem(&http(&node.http, "GET", "/api/v1/workflows/0190163d-8694-7f01-8000-000000000001", &[], ""), 404, "not_found");
    let key = [("Content-Type", "application/json"), ("Idempotency-Key", "one")];
    assert_eq!(http(&node.http, "POST", "/api/v1/messages?event_type=greeting", &key, r#"{"name":"a"}"#).status, 202);
    problem(&http(&node.http, "POST", "/api/v1/messages?event_type=greeting", &key, r#"{"name":"b"}"#), 422, "idempotency_conflict");
}
