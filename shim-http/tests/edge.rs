//! The HTTP edge before a fake node: what a request becomes on the wire, and what an answer becomes in HTTP.

mod fake;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use distric_sdk::Client;
use distric_shim_http::{ShimLimits, ShimState, router};
use distric_wire::Code;
use distric_wire::client::{CommandKind, QueryKind};
use fake::{Answer, Asked, Fake, ID, Sent};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

fn state(client: Client) -> ShimState {
    ShimState { client, metrics: Arc::new(|| "# EOF\n".to_owned()), version: "1.2.3", limits: ShimLimits::default() }
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends `METHOD path` with header lines and a body.
async fn ask(fake: &Fake, line: &str, headers: &[(&str, &str)], body: &str) -> Got {
    ask_with(state(fake.client.clone()), line, headers, body).await
}

async fn ask_with(state: ShimState, line: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router(state).oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Got { status: head.status, headers: head.headers, body }
}

/// Checks that the answer is a problem document with this status and code, and returns it.
#[track_caller]
fn problem(got: &Got, status: u16, code: &str) -> Value {
    assert_eq!(got.status.as_u16(), status, "{}", got.body);
    assert_eq!(got.headers["content-type"], "application/problem+json");
    let document = got.json();
    assert_eq!(document["code"], code, "{document}");
    assert_eq!(document["status"], status);
    assert_eq!(document["type"], format!("urn:distric:problem:{code}"));
    assert_eq!(document["request_id"].as_str().unwrap(), got.headers["x-request-id"]);
    assert!(document["title"].is_string() && document["detail"].is_string() && document["instance"].is_string());
    document
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_message_is_submitted_with_its_envelope_in_headers() {
    let fake = Fake::answering(|_| Answer::Receipt(1, &["fraud_detection"])).await;
    let headers = [
        JSON,
        ("x-distric-source", "shop"),
        ("x-distric-routing-key", "user-1"),
        ("x-distric-namespace", "eu"),
        ("x-distric-header-tier", "gold"),
        ("idempotency-key", "order-17"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-request-id", "req-1"),
    ];
    let got = ask(&fake, "POST /api/v1/messages?event_type=payment_received", &headers, r#"{ "amount": 1.50 }"#).await;
    assert_eq!(got.status, StatusCode::ACCEPTED);
    let expected = json!({"message_id": ID, "status": "accepted", "workflows_triggered": ["fraud_detection"], "instances": [ID], "catalog_version": 3});
    assert_eq!(got.json(), expected);
    assert_eq!(got.headers["location"], format!("/api/v1/messages/{ID}"));
    assert_eq!(got.headers["x-request-id"], "req-1");
    let expected = Sent {
        namespace: Some("eu".to_owned()),
        event_type: Some("payment_received".to_owned()),
        source: Some("shop".to_owned()),
        routing_key: Some("user-1".to_owned()),
        idempotency_key: Some("order-17".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        headers: vec![("tier".to_owned(), "gold".to_owned())],
        content_type: None,
        payload: r#"{ "amount": 1.50 }"#.to_owned(),
    };
    assert_eq!(fake.message(), expected);
}

#[tokio::test]
async fn a_message_is_submitted_with_its_envelope_around_it() {
    let fake = Fake::answering(|_| Answer::Receipt(2, &[])).await;
    let body = r#"{"event_type": "paid", "idempotency_key": "k", "payload": {"n":1}, "headers": {"a": "b"}}"#;
    let got = ask(&fake, "POST /api/v1/messages", &[("content-type", "application/vnd.distric.message+json")], body).await;
    assert_eq!((got.status, got.json()["status"].clone()), (StatusCode::ACCEPTED, json!("repeat")));
    let sent = fake.message();
    assert_eq!(
        (sent.event_type.as_deref(), sent.idempotency_key.as_deref(), sent.payload.as_str()),
        (Some("paid"), Some("k"), "{\"n\":1}")
    );
}

#[tokio::test]
async fn messagepack_goes_to_the_node_as_it_is() {
    let fake = Fake::answering(|_| Answer::Receipt(1, &[])).await;
    for name in ["application/msgpack", "application/x-msgpack"] {
        // The node checks it, and not the edge.
        let got = ask(&fake, "POST /api/v1/messages?event_type=paid", &[("content-type", name)], "\u{1}\u{7}").await;
        assert_eq!(got.status, StatusCode::ACCEPTED);
        let Some(Asked::Message(sent)) = fake.asked().pop() else { panic!("no message") };
        assert_eq!((sent.content_type.as_deref(), sent.payload.as_str()), (Some("application/msgpack"), "\u{1}\u{7}"));
    }
    problem(
        &ask(&fake, "POST /api/v1/messages:batch", &[("content-type", "application/msgpack")], "x").await,
        415,
        "unsupported_media_type",
    );
}

#[tokio::test]
async fn an_unmatched_message_is_accepted_with_nothing_started() {
    let fake = Fake::answering(|_| Answer::Receipt(3, &[])).await;
    let got = ask(&fake, "POST /api/v1/messages", &[], "{}").await;
    assert_eq!(got.status, StatusCode::ACCEPTED);
    assert_eq!((&got.json()["status"], &got.json()["workflows_triggered"]), (&json!("accepted"), &json!([])));
}

#[tokio::test]
async fn bad_messages_never_reach_the_node() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let post = "POST /api/v1/messages";
    let document = problem(&ask(&fake, post, &[JSON], "{\"a\": 1,\n oops}").await, 400, "bad_payload");
    assert_eq!((&document["errors"][0]["line"], &document["errors"][0]["offset"]), (&json!(2), &json!(10)));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    problem(&ask(&fake, post, &form, "{}").await, 415, "unsupported_media_type");
    let long = "k".repeat(257);
    let document = problem(&ask(&fake, post, &[JSON, ("idempotency-key", &long)], "{}").await, 400, "bad_argument");
    assert_eq!(document["errors"][0]["limit"], json!({"name": "idempotency-key_bytes_max", "value": 256}));
    problem(&ask(&fake, post, &[JSON, ("x-distric-namespace", "a b")], "{}").await, 400, "bad_argument");
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let document = problem(&ask(&fake, post, &[JSON], &large).await, 413, "too_large");
    assert_eq!(document["errors"][0]["limit"], json!({"name": "message_bytes_max", "value": 1 << 20}));
    problem(&ask(&fake, "POST /api/v1/messages?evnt_type=a", &[JSON], "{}").await, 400, "bad_argument");
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn a_batch_has_one_outcome_per_message() {
    let script = |asked: &Asked| match asked {
        Asked::Batch(messages) => {
            let answer = |message: &Sent| match message.payload.as_str() {
                "3" => Answer::refusal(Code::SchemaViolation, "amount is missing"),
                _ => Answer::Receipt(1, &["w"]),
            };
            Answer::Batch(messages.iter().map(answer).collect())
        }
        _ => Answer::Silence,
    };
    let fake = Fake::answering(script).await;
    let lines = "{\"n\":1}\n{oops\n{\"event_type\":\"paid\",\"payload\":3}\n4\n";
    let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "batch-9")];
    let got = ask(&fake, "POST /api/v1/messages:batch", &headers, lines).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.body);
    let document = got.json();
    assert_eq!((&document["accepted"], &document["refused"]), (&json!(2), &json!(2)));
    let statuses: Vec<_> = document["items"].as_array().unwrap().iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 400, 422, 202]);
    assert_eq!(document["items"][0]["receipt"]["message_id"], ID);
    assert_eq!(document["items"][1]["problem"]["code"], "bad_payload");
    assert_eq!(document["items"][2]["problem"]["detail"], "amount is missing");
    let Asked::Batch(sent) = &fake.asked()[0] else { panic!("no batch") };
    let keys: Vec<_> = sent.iter().map(|message| message.idempotency_key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["batch-9-0", "batch-9-2", "batch-9-3"]);
    assert_eq!(sent[1].event_type.as_deref(), Some("paid"));
}

#[tokio::test]
async fn lists_take_filters_and_pass_the_cursor_on() {
    let fake = Fake::answering(|_| Answer::Document(r#"{"tasks":[{"ready_at_us":0}]}"#.to_owned(), None, Some("next"))).await;
    let got = ask(&fake, "GET /api/v1/tasks?status=failed&limit=5&cursor=here", &[], "").await;
    assert_eq!(got.json(), json!({"tasks": [{"ready_at": "1970-01-01T00:00:00.000000Z"}], "next_cursor": "next"}));
    let some = |text: &str| Some(text.to_owned());
    let expected =
        Asked::Query { kind: QueryKind::Tasks, id: None, name: None, status: some("failed"), limit: Some(5), cursor: some("here") };
    assert_eq!(fake.asked(), [expected]);
    problem(&ask(&fake, "GET /api/v1/tasks?limit=0", &[], "").await, 400, "bad_argument");
}

#[tokio::test]
async fn every_question_has_its_route() {
    let fake = Fake::answering(|_| Answer::document(r#"{"status":"UP"}"#)).await;
    let id: uuid::Uuid = ID.parse().unwrap();
    let by_id = |kind| (kind, Some(id), None);
    let by_name = |kind| (kind, None, Some("r-1".to_owned()));
    for (path, (kind, id, name)) in [
        (format!("/api/v1/messages/{ID}"), by_id(QueryKind::Message)),
        (format!("/api/v1/workflows/{ID}"), by_id(QueryKind::Instance)),
        (format!("/api/v1/tasks/{ID}"), by_id(QueryKind::Task)),
        (format!("/api/v1/tasks/{ID}/why"), by_id(QueryKind::WhyTask)),
        (format!("/api/v1/workflows/{ID}/why"), by_id(QueryKind::WhyInstance)),
        ("/api/v1/incidents?workflow=r-1".to_owned(), by_name(QueryKind::Incidents)),
        (format!("/api/v1/incidents/{ID}"), by_id(QueryKind::Incident)),
        ("/api/v1/schedules".to_owned(), (QueryKind::Schedules, None, None)),
        ("/api/v1/workflows?workflow=r-1".to_owned(), by_name(QueryKind::Instances)),
        ("/api/v1/rules/r-1".to_owned(), by_name(QueryKind::Rule)),
        ("/api/v1/rules".to_owned(), (QueryKind::Rules, None, None)),
        ("/api/v1/workflow-definitions/r-1".to_owned(), by_name(QueryKind::WorkflowDefinition)),
        ("/api/v1/workflow-definitions".to_owned(), (QueryKind::WorkflowDefinitions, None, None)),
        ("/api/v1/catalog/history".to_owned(), (QueryKind::CatalogHistory, None, None)),
        ("/api/v1/trial".to_owned(), (QueryKind::Trial, None, None)),
        ("/api/v1/trial/samples".to_owned(), (QueryKind::TrialSamples, None, None)),
        ("/api/v1/cluster/status".to_owned(), (QueryKind::ClusterStatus, None, None)),
        ("/api/v1/cluster/nodes".to_owned(), (QueryKind::Nodes, None, None)),
        ("/api/v1/workers".to_owned(), (QueryKind::Workers, None, None)),
        ("/health/ready".to_owned(), (QueryKind::Health, None, None)),
    ] {
        let got = ask(&fake, &format!("GET {path}"), &[], "").await;
        assert_eq!(got.status, StatusCode::OK, "{path}: {}", got.body);
        let expected = Asked::Query { kind, id, name, status: None, limit: None, cursor: None };
        assert_eq!(fake.asked().last(), Some(&expected), "{path}");
    }
    problem(&ask(&fake, "GET /api/v1/tasks/17", &[], "").await, 400, "bad_argument");
    problem(&ask(&fake, "GET /api/v1/rules/a%2Fb", &[], "").await, 400, "bad_argument");
}

#[tokio::test]
async fn a_change_carries_its_condition_and_its_reason() {
    let fake = Fake::answering(|_| Answer::Document("{}".to_owned(), Some(8), None)).await;
    let yaml = "rules:\n  - id: r-1\n";
    let headers = [("content-type", "text/yaml"), ("if-match", "\"7\""), ("x-distric-author", "ann"), ("x-distric-reason", "test")];
    let got = ask(&fake, "PUT /api/v1/rules/r-1?dry_run=true", &headers, yaml).await;
    assert_eq!((got.status, got.headers["etag"].to_str().unwrap()), (StatusCode::OK, "\"8\""));
    let some = |text: &str| Some(text.to_owned());
    let expected = Asked::Command {
        kind: CommandKind::PutRule,
        namespace: None,
        name: some("r-1"),
        id: None,
        body: some(yaml),
        content_type: some("application/yaml"),
        idempotency_key: None,
        if_match: Some(7),
        dry_run: true,
        author: some("ann"),
        reason: some("test"),
    };
    assert_eq!(fake.asked(), [expected]);
}

#[tokio::test]
async fn every_command_has_its_route() {
    let fake = Fake::answering(|_| Answer::document("{}")).await;
    for (line, body, status, expected) in [
        ("POST /api/v1/rules".to_owned(), "{}", 201, (CommandKind::PutRule, None)),
        ("DELETE /api/v1/rules/r-1".to_owned(), "", 200, (CommandKind::DeleteRule, Some("r-1"))),
        ("POST /api/v1/workflow-definitions".to_owned(), "{}", 201, (CommandKind::PutWorkflow, None)),
        ("PUT /api/v1/workflow-definitions/w-1".to_owned(), "{}", 200, (CommandKind::PutWorkflow, Some("w-1"))),
        ("DELETE /api/v1/workflow-definitions/w-1".to_owned(), "", 200, (CommandKind::DeleteWorkflow, Some("w-1"))),
        ("POST /api/v1/catalog".to_owned(), r#"{"rules": "rules: []"}"#, 200, (CommandKind::ApplyCatalog, None)),
        ("POST /api/v1/trial/shadow".to_owned(), r#"{"rules": "rules: []"}"#, 201, (CommandKind::StartShadow, None)),
        ("POST /api/v1/trial/canary".to_owned(), r#"{"rules": "rules: []", "percent": 5}"#, 201, (CommandKind::StartCanary, None)),
        ("PUT /api/v1/trial?version=9".to_owned(), r#"{"percent": 25}"#, 200, (CommandKind::SetTrial, None)),
        ("POST /api/v1/trial/promote".to_owned(), "", 200, (CommandKind::PromoteTrial, None)),
        ("DELETE /api/v1/trial".to_owned(), "", 200, (CommandKind::EndTrial, None)),
        (format!("POST /api/v1/workflows/{ID}/cancel"), r#"{"reason": "test"}"#, 200, (CommandKind::CancelInstance, None)),
        (format!("POST /api/v1/workflows/{ID}/cancel"), "", 200, (CommandKind::CancelInstance, None)),
        (format!("POST /api/v1/workflows/{ID}/pause"), r#"{"reason": "test"}"#, 200, (CommandKind::PauseInstance, None)),
        (format!("POST /api/v1/workflows/{ID}/resume"), "", 200, (CommandKind::ResumeInstance, None)),
        (
            format!("POST /api/v1/workflows/{ID}/retry"),
            r#"{"from": "a", "input": [1], "version": 2, "calls": {"b": 3, "c": null}}"#,
            200,
            (CommandKind::RetryInstance, None),
        ),
        (format!("POST /api/v1/workflows/{ID}/signals/paid"), "", 202, (CommandKind::Signal, Some("paid"))),
        ("POST /api/v1/signals/paid".to_owned(), r#"{"key": "o-1", "payload": 5}"#, 202, (CommandKind::Signal, Some("paid"))),
        ("POST /api/v1/workflows".to_owned(), r#"{"workflow": "w-1", "version": 2}"#, 202, (CommandKind::StartWorkflow, Some("w-1"))),
    ] {
        let got = ask(&fake, &line, &[JSON], body).await;
        assert_eq!(got.status.as_u16(), status, "{line}: {}", got.body);
        let Some(Asked::Command { kind, name, .. }) = fake.asked().last().cloned() else { panic!("{line} is no command") };
        assert_eq!((kind, name.as_deref()), expected, "{line}");
    }
    problem(&ask(&fake, "POST /api/v1/trial/canary", &[JSON], r#"{"rules": "rules: []"}"#).await, 400, "bad_argument");
    problem(&ask(&fake, "POST /api/v1/trial/mirror", &[JSON], r#"{"rules": "rules: []"}"#).await, 400, "bad_argument");
    problem(&ask(&fake, "POST /api/v1/workflows", &[JSON], r#"{"workflow": "a b"}"#).await, 400, "bad_argument");
    problem(&ask(&fake, "POST /api/v1/workflows", &[JSON], r#"{"workflw": "a"}"#).await, 400, "bad_payload");
    problem(&ask(&fake, "PUT /api/v1/rules/r-1", &[JSON, ("if-match", "latest")], "{}").await, 400, "bad_argument");
}

#[tokio::test]
async fn incidents_are_resolved_by_query_after_a_look() {
    const OTHER: &str = "0190163d-8694-739b-aea5-966c26f8ad92";
    let script = |asked: &Asked| match asked {
        Asked::Query { .. } => {
            let row =
                |id: &str| json!({"instance": id, "workflow": "w-1", "task": "pay", "error": {"code": "timed_out", "message": "late"}});
            Answer::Document(json!([row(ID), row(OTHER)]).to_string(), None, Some("c-2"))
        }
        Asked::Command { id, .. } if id.map(|id| id.to_string()).as_deref() == Some(OTHER) => Answer::refusal(Code::Conflict, "it runs"),
        _ => Answer::document("{}"),
    };
    let fake = Fake::answering(script).await;
    let path = "POST /api/v1/incidents:resolve?workflow=w-1&code=timed_out";
    let preview: Value = serde_json::from_str(&ask(&fake, &format!("{path}&dry_run=true"), &[], "").await.body).unwrap();
    assert_eq!((&preview["dry_run"], &preview["retried"], &preview["next_cursor"]), (&json!(true), &json!(0), &json!("c-2")));
    let error = json!({"code": "timed_out", "message": "late"});
    let item = json!({"instance": ID, "workflow": "w-1", "task": "pay", "error": error, "outcome": "would_retry"});
    assert_eq!(preview["items"][0], item);
    assert!(fake.asked().iter().all(|asked| matches!(asked, Asked::Query { .. })), "a look changes nothing");
    let query =
        Asked::Query { kind: QueryKind::Incidents, id: None, name: Some("w-1".to_owned()), status: None, limit: Some(100), cursor: None };
    assert_eq!(fake.asked(), [query]);

    let headers = [JSON, ("idempotency-key", "k-1")];
    let got = ask(&fake, &format!("{path}&limit=2"), &headers, r#"{"version": 3, "reason": "mended"}"#).await;
    let done: Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!((&done["dry_run"], &done["retried"], &done["refused"]), (&json!(false), &json!(1), &json!(1)));
    assert_eq!((&done["items"][0]["outcome"], &done["items"][1]["outcome"]), (&json!("retried"), &json!("refused")));
    assert_eq!((&done["items"][1]["problem"]["code"], &done["items"][0]["problem"]), (&json!("conflict"), &Value::Null));
    let commands: Vec<Asked> = fake.asked().into_iter().filter(|asked| matches!(asked, Asked::Command { .. })).collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let Asked::Command { kind, if_match, idempotency_key, reason, dry_run, .. } = command else { continue };
        assert_eq!((kind, if_match, idempotency_key, dry_run), (CommandKind::RetryInstance, Some(3), None, false));
        assert_eq!(reason.as_deref(), Some("mended"));
    }
    problem(&ask(&fake, "POST /api/v1/incidents:resolve?dry_run=true", &[], "").await, 400, "bad_argument");
    problem(&ask(&fake, "POST /api/v1/incidents:resolve?workflw=a", &[], "").await, 400, "bad_argument");
}

#[tokio::test]
async fn what_the_caller_has_already_is_not_sent_again() {
    let fake = Fake::answering(|_| Answer::Document("{}".to_owned(), Some(8), None)).await;
    let got = ask(&fake, "GET /api/v1/rules", &[("if-none-match", "\"8\"")], "").await;
    assert_eq!((got.status, got.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(ask(&fake, "GET /api/v1/rules", &[("if-none-match", "\"7\"")], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_refusal_of_the_node_is_a_problem_with_its_place() {
    let script = |asked: &Asked| match asked {
        Asked::Command { .. } => {
            let mut rejection = distric_wire::client::Rejection::new(Code::BadCatalog, "unknown operator equls");
            (rejection.field, rejection.line, rejection.column) = (Some("rules[0].conditions[0].operator"), Some(4), Some(9));
            Answer::Refusal(Box::new(rejection))
        }
        Asked::Query { .. } => Answer::refusal(Code::NotFound, "no such task"),
        _ => {
            let mut rejection = distric_wire::client::Rejection::new(Code::RateLimited, "slow down");
            rejection.retry_after_ms = Some(1_200);
            Answer::Refusal(Box::new(rejection))
        }
    };
    let fake = Fake::answering(script).await;
    let document = problem(&ask(&fake, "POST /api/v1/rules", &[JSON], "{}").await, 422, "bad_catalog");
    let expected = json!({"message": "unknown operator equls", "field": "rules[0].conditions[0].operator", "line": 4, "column": 9});
    assert_eq!(document["errors"], json!([expected]));
    let document = problem(&ask(&fake, &format!("GET /api/v1/tasks/{ID}"), &[], "").await, 404, "not_found");
    assert_eq!(document["instance"], format!("/api/v1/tasks/{ID}"));
    let got = ask(&fake, "POST /api/v1/messages", &[JSON], "{}").await;
    problem(&got, 429, "rate_limited");
    assert_eq!(got.headers["retry-after"], "2");
}

#[tokio::test]
async fn what_no_route_takes_is_a_problem_too() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    problem(&ask(&fake, "GET /api/v2/messages", &[], "").await, 404, "unknown_route");
    let got = ask(&fake, "PATCH /api/v1/rules/r-1", &[], "").await;
    problem(&got, 405, "method_not_allowed");
    let mut allowed: Vec<_> = got.headers["allow"].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"]);
    problem(&ask(&fake, "GET /api/v1/rules/%ff", &[], "").await, 400, "bad_argument");
}

#[tokio::test]
async fn pages_of_other_sites_cannot_change_anything() {
    let fake = Fake::answering(|_| Answer::Receipt(1, &[])).await;
    for origin in ["http://evil.example", "null", "http://127.0.0.1:9999"] {
        let headers = [JSON, ("host", "127.0.0.1:8080"), ("origin", origin)];
        problem(&ask(&fake, "POST /api/v1/messages", &headers, "{}").await, 403, "cross_origin");
    }
    assert!(fake.asked().is_empty());
    let headers = [JSON, ("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")];
    assert_eq!(ask(&fake, "POST /api/v1/messages", &headers, "{}").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn health_says_down_when_the_node_is_silent_and_live_all_the_same() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let mut silent = state(fake.client.clone());
    silent.limits.health_timeout_ms = 30;
    let got = ask_with(silent, "GET /health/ready", &[], "").await;
    assert_eq!((got.status, got.json()["status"].clone()), (StatusCode::SERVICE_UNAVAILABLE, json!("DOWN")));
    assert_eq!(got.headers["content-type"], "application/json");
    assert!(got.json()["checks"]["node"]["reason"].as_str().unwrap().contains("30 ms"));
    let got = ask(&fake, "GET /health/live", &[], "").await;
    assert_eq!((got.status, got.json()), (StatusCode::OK, json!({"status": "UP", "version": "1.2.3"})));

    for (report, status) in [("UP", 200), ("DEGRADED", 200), ("DOWN", 503)] {
        let fake = Fake::answering(move |_| Answer::document(&format!(r#"{{"status":"{report}","checks":{{}}}}"#))).await;
        let got = ask(&fake, "GET /health/ready", &[], "").await;
        assert_eq!((got.status.as_u16(), got.json()["status"].clone()), (status, json!(report)));
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_back_but_watchers_are_not() {
    let fake = Fake::answering(|_| Answer::Receipt(1, &[])).await;
    let mut full = state(fake.client.clone());
    full.limits.requests_in_flight_max = 0;
    let got = ask_with(full.clone(), "POST /api/v1/messages", &[JSON], "{}").await;
    problem(&got, 503, "overloaded");
    assert_eq!(got.headers["retry-after"], "1");
    let got = ask_with(full.clone(), "GET /metrics", &[], "").await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    full.metrics = Arc::new(|| "a_total 1\n".to_owned());
    assert_eq!(ask_with(full, "GET /metrics", &[], "").await.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test]
async fn a_silent_node_leaves_the_outcome_unknown() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let got = ask(&fake, "POST /api/v1/messages", &[JSON], "{}").await;
    let document = problem(&got, 504, "outcome_unknown");
    assert!(document["detail"].as_str().unwrap().contains("same Idempotency-Key"));
}
