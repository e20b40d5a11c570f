//! The verbs that need no node: what they print and what they return.

mod support;

use serde_json::{Value, json};
use support::{RULES, WORKFLOWS, dir_with, program};

fn run(arguments: &[&str]) -> distric_harness::Finished {
    program().run(arguments)
}

#[test]
fn rules_check_reports_positions_and_exits_1() {
    let bad = "rules:\n  - id: a\n    conditions:\n      - { field: x, operator: greater_then, value: 3 }\n";
    let dir = dir_with(&[("good.yaml", RULES), ("bad.yaml", bad), ("workflows.yaml", WORKFLOWS)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    run(&["rules", "check", &path("good.yaml")]).expect(0);
    run(&["rules", "check", &path("good.yaml"), "--workflows", &path("workflows.yaml")]).expect(0);
    let text = run(&["rules", "check", &path("bad.yaml")]).expect(1).stdout;
    assert!(text.contains("bad.yaml:4:") && text.contains("greater_than"), "{text}");
    let report = run(&["--json", "rules", "check", &path("bad.yaml")]).expect(1).json_lines().remove(0);
    assert_eq!((&report["valid"], &report["problems"][0]["line"]), (&json!(false), &json!(4)));
    // A workflow that the given files do not define is a mistake of the rules.
    let other = "workflows:\n  - id: other\n    tasks: [{ id: a, type: log, config: { message: x } }]\n";
    std::fs::write(dir.path().join("other.yaml"), other).unwrap();
    let text = run(&["rules", "check", &path("good.yaml"), "--workflows", &path("other.yaml")]).expect(1).stdout;
    assert!(text.contains("greeting"), "{text}");
    run(&["rules", "check", &path("missing.yaml")]).expect(7);
}

#[test]
fn workflows_check_names_cycles_and_unknown_types() {
    let cyclic = "workflows:\n  - id: w\n    tasks:\n      - { id: a, type: log, depends_on: [b], config: { message: x } }\n      - { id: b, type: log, depends_on: [a], config: { message: x } }\n";
    let unknown = "workflows:\n  - id: w\n    tasks:\n      - { id: a, type: ml_inference }\n";
    let dir = dir_with(&[("good.yaml", WORKFLOWS), ("cyclic.yaml", cyclic), ("unknown.yaml", unknown)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    run(&["workflows", "check", &path("good.yaml")]).expect(0);
    let text = run(&["workflows", "check", &path("cyclic.yaml")]).expect(1).stdout;
    assert!(text.contains("cyclic.yaml:") && text.contains('a') && text.contains('b'), "{text}");
    let text = run(&["workflows", "check", &path("unknown.yaml")]).expect(1).stdout;
    assert!(text.contains("unknown.yaml:4:") && text.contains("ml_inference"), "{text}");
    run(&["workflows", "check", &path("unknown.yaml"), "--task-type", "ml_inference"]).expect(0);
}

#[test]
fn the_example_is_valid() {
    let example = |name: &str| format!("{}/../examples/payments/{name}", env!("CARGO_MANIFEST_DIR"));
    run(&["workflows", "check", &example("workflows.yaml")]).expect(0);
    run(&["rules", "check", &example("rules.yaml"), "--workflows", &example("workflows.yaml")]).expect(0);
}

#[test]
fn rules_match_prints_a_line_per_message_and_a_summary() {
    let messages = "{\"event_type\":\"greeting\"}\n{\"event_type\":\"nothing\"}\nnot json\n{\"event_type\":\"doom\"}\n";
    let dir = dir_with(&[("rules.yaml", RULES), ("messages.jsonl", messages)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let run = run(&["--json", "rules", "match", "--rules", &path("rules.yaml"), "--messages", &path("messages.jsonl")]).expect(0);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(
        (lines[0], lines[1], lines[3]),
        (r#"{"i":0,"ids":["greet-everyone"]}"#, r#"{"i":1,"ids":[]}"#, r#"{"i":3,"ids":["doomed"]}"#)
    );
    let error: Value = serde_json::from_str(lines[2]).unwrap();
    assert!(error["i"] == 2 && error["error"].is_string());
    let summary: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["messages"], &summary["matched"], &summary["errors"]), (&json!(4), &json!(2), &json!(1)));
}

#[test]
fn rules_explain_shows_what_each_condition_saw() {
    let dir = dir_with(&[("rules.yaml", RULES), ("message.json", r#"{"event_type":"greeting"}"#)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let arguments = ["rules", "explain", "--rules", &path("rules.yaml"), "--message", &path("message.json")];
    let text = run(&arguments).expect(0).stdout;
    assert!(text.contains("greet-everyone") && text.contains("greeting"), "{text}");
    let mut one = arguments.to_vec();
    one.extend(["--rule", "greet-everyon"]);
    let failure = run(&one).expect(3).stderr;
    assert!(failure.contains("did you mean `greet-everyone`?"), "{failure}");
}

#[test]
fn configuration_is_checked_and_printed_with_origins() {
    let dir = dir_with(&[("good.yaml", "worker:\n  slots: 3\n"), ("bad.yaml", "worker:\n  slotz: 3\n")]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    run(&["config", "check", &path("good.yaml")]).expect(0);
    let text = run(&["config", "check", &path("bad.yaml")]).expect(7).stderr;
    assert!(text.contains("bad.yaml:2:3: worker.slotz: unknown key") && text.contains("`slots`"), "{text}");
    let text = run(&["config", "print", "--show-origin", "--config", &path("good.yaml"), "--shards", "2"]).expect(0).stdout;
    assert!(text.contains("slots: 3") && text.contains("good.yaml:2:3") && text.contains("flag --shards"), "{text}");
    let mut command = program().command(["--json", "config", "print", "--show-origin"]);
    command.env("DISTRIC_WORKER__SLOTS", "9");
    let printed = distric_harness::Running::start(command).wait().expect(0).json_lines().remove(0);
    assert_eq!(printed["worker.slots"], json!({"origin": "environment DISTRIC_WORKER__SLOTS", "value": 9}));
    let mut command = program().command(["config", "check"]);
    command.env("DISTRIC_WORKER__SLOTZ", "9");
    let text = distric_harness::Running::start(command).wait().expect(7).stderr;
    assert!(text.contains("DISTRIC_WORKER__SLOTZ") && text.contains("`DISTRIC_WORKER__SLOTS`"), "{text}");
}

#[test]
fn usage_mistakes_are_exit_code_2_and_help_is_0() {
    run(&["--help"]).expect(0);
    run(&["version"]).expect(0);
    run(&["--json", "version"]).expect(0).json_lines();
    run(&["frobnicate"]).expect(2);
    run(&["send"]).expect(2);
    run(&["dev", "--set", "no-equals-sign"]).expect(2);
    run(&["tune", "plan"]).expect(0);
    assert!(run(&["completions", "bash"]).expect(0).stdout.contains("distric"));
    let failure = run(&["--json", "send", "--addr", "127.0.0.1:1", "--timeout-ms", "500", "x", "{}"]).expect(6);
    let failure: Value = serde_json::from_str(failure.stderr.trim()).unwrap();
    assert_eq!(failure["error"]["code"], "unavailable");
    run(&["send", "x", "{not json"]).expect(7);
}
