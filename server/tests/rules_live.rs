//! Rules of a running node, from the command line: plan, apply, history, rollback, switch, export, watch, why.

mod support;

use std::time::{Duration, Instant};

use distric_harness::{Finished, Node};
use serde_json::{Value, json};
use support::{RULES, WORKFLOWS, dir_with, program};
use tempfile::TempDir;

/// How long a watch may take to see a change, on a machine that is busy with other tests.
const WATCHED_WITHIN: Duration = Duration::from_secs(60);

/// A node whose rules and workflows are files in a directory.
fn node_with_the_small_catalog() -> (TempDir, Node) {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let data = dir.path().join("data");
    let node = Node::start(&program(), "dev", &data, ["--rules", &path("rules.yaml"), "--workflows", &path("workflows.yaml")]);
    (dir, node)
}

/// Runs a verb against the node at this address, with output for programs.
fn run_at(addr: &str, arguments: &[&str], exit: i32) -> Finished {
    program().run([&["--json"], arguments, &["--addr", addr]].concat()).expect(exit)
}

#[test]
fn the_catalog_goes_through_its_life() {
    let (dir, node) = node_with_the_small_catalog();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let addr = node.addr();
    let run = |arguments: &[&str], exit: i32| run_at(&addr, arguments, exit);
    let first = |arguments: &[&str], exit: i32| -> Value { run(arguments, exit).json_lines().remove(0) };

    assert!(first(&["rules", "diff", &path("rules.yaml")], 0)["added"].as_array().unwrap().is_empty());
    let more = format!("{RULES}  - id: late\n    event_type: greeting\n    priority: -5\n");
    std::fs::write(dir.path().join("more.yaml"), &more).unwrap();
    assert_eq!(first(&["rules", "diff", &path("more.yaml")], 1)["added"], json!(["late"]));
    assert_eq!(first(&["rules", "apply", &path("more.yaml"), "--dry-run"], 0)["rules_changed"], json!(["late"]));
    let applied = first(&["rules", "apply", &path("more.yaml"), "--author", "ann", "--reason", "one more"], 0);
    assert_eq!(applied["catalog_version"], 2);
    let bad = more.replace("priority: -5", "priority: low");
    std::fs::write(dir.path().join("bad.yaml"), bad).unwrap();
    let refused = run(&["rules", "apply", &path("bad.yaml")], 7).stderr;
    assert!(refused.contains("bad.yaml"), "{refused}");
    let history = first(&["rules", "history"], 0);
    assert_eq!((&history["items"][0]["author"], &history["items"][0]["reason"]), (&json!("ann"), &json!("one more")));

    let sent = first(&["send", "greeting", "{\"name\":\"x\"}"], 0);
    assert_eq!(sent["rules"], json!(["greet-everyone", "late"]));
    let message = sent["message_id"].as_str().unwrap().to_owned();
    assert_eq!(first(&["rules", "disable", "late"], 0)["catalog_version"], 3);
    // The message is explained by the version that decided, not by what holds now.
    let why = first(&["rules", "why", &message, "--rule", "late"], 0);
    assert_eq!((&why["catalog_version"], &why["rules"][0]["outcome"]), (&json!(2), &json!("matched")));
    let why = first(&["rules", "why", &message, "--rule", "late", "--version", "3"], 0);
    assert_eq!(why["rules"][0]["outcome"], "disabled");
    // The history of the node is what a candidate is tried on.
    let backtest = first(&["rules", "backtest", "--rules", &path("rules.yaml"), "--version", "2"], 1);
    assert_eq!((&backtest["messages"], &backtest["rules"][0]), (&json!(1), &json!({"rule": "late", "gained": 0, "lost": 1})));

    let top = first(&["rules", "top"], 0);
    let matched: Vec<&Value> = top["items"].as_array().unwrap().iter().filter(|item| item["matched"] == 1).collect();
    assert_eq!((&top["messages"], matched.len()), (&json!(1), 2), "{top}");
    // The first message of a shard is one of those whose costs are counted.
    assert!(matched.iter().all(|item| item["cost_share"].as_f64().is_some_and(|share| share > 0.0)), "{top}");
    assert_eq!(first(&["rules", "rollback", "1"], 0)["catalog_version"], 4);
    run(&["rules", "rollback", "99"], 3);
    let exported: Value = serde_json::from_str(&run(&["rules", "export", "--version", "2"], 0).stdout).unwrap();
    assert_eq!(exported["rules"].as_array().unwrap().len(), 3);
    std::fs::write(dir.path().join("exported.json"), exported.to_string()).unwrap();
    assert_eq!(first(&["rules", "diff", &path("more.yaml"), &path("exported.json")], 0)["changed"], json!([]));
    assert_eq!(first(&["rules", "list"], 0)["rules"].as_array().unwrap().len(), 2);
    run(&["rules", "apply", &path("more.yaml"), "--if-match", "1"], 4);

    // A directory is watched: what is good is applied, what is not leaves the catalog as it was.
    let watched = dir_with(&[("rules.yaml", RULES)]);
    let mut command = program().command(["--json", "rules", "watch", "--addr", &addr]);
    command.arg(watched.path());
    let watch = distric_harness::Running::start(command);
    let version_is = |version: u64| {
        let deadline = Instant::now() + WATCHED_WITHIN;
        while first(&["rules", "list"], 0)["catalog_version"] != version {
            assert!(Instant::now() < deadline, "the catalog did not reach version {version}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    std::fs::write(watched.path().join("more.yaml"), "rules:\n  - { id: watched, event_type: greeting }\n").unwrap();
    version_is(5);
    std::fs::write(watched.path().join("more.yaml"), "rules:\n  - { id: watched, event_typ: greeting }\n").unwrap();
    std::fs::write(watched.path().join("more.yaml"), "rules:\n  - { id: seen, event_type: greeting }\n").unwrap();
    version_is(6);
    let list = first(&["rules", "list"], 0);
    assert!(list["rules"].as_array().unwrap().iter().any(|rule| rule["id"] == "seen"), "{list}");
    drop(watch);
    node.stop().expect(0);
}

/// How long a node may take to read its files again, on a machine that is busy with other tests.
const RELOADED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_candidate_is_tried_promoted_and_explained_from_the_command_line() {
    let (dir, node) = node_with_the_small_catalog();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let addr = node.addr();
    let run = |arguments: &[&str], exit: i32| run_at(&addr, arguments, exit);
    let first = |arguments: &[&str], exit: i32| -> Value { run(arguments, exit).json_lines().remove(0) };
    std::fs::write(dir.path().join("candidate.yaml"), format!("{RULES}  - {{ id: late, event_type: greeting, priority: -5 }}\n")).unwrap();

    run(&["rules", "shadow", "status"], 3);
    run(&["rules", "shadow", "start", &path("workflows.yaml")], 7);
    assert_eq!(first(&["rules", "shadow", "start", &path("candidate.yaml"), "--dry-run"], 0)["rules_changed"], json!(["late"]));
    assert_eq!(first(&["rules", "shadow", "start", &path("candidate.yaml")], 0)["trial_version"], 2);
    run(&["rules", "canary", "start", &path("candidate.yaml"), "--percent", "5"], 4);
    run(&["rules", "canary", "abort"], 4);
    let sent = first(&["send", "greeting", "{\"name\":\"x\"}"], 0);
    assert_eq!((&sent["rules"], &sent["catalog_version"]), (&json!(["greet-everyone"]), &json!(1)));
    let deadline = Instant::now() + WATCHED_WITHIN;
    let status = loop {
        let status = first(&["rules", "shadow", "status"], 0);
        if status["shadow"]["judged"] == 1 || Instant::now() > deadline {
            break status;
        }
    };
    assert_eq!(
        (&status["shadow"]["differing"], &status["items"][0]["rule"], &status["items"][0]["gained"]),
        (&json!(1), &json!("late"), &json!(1))
    );
    let diff = first(&["rules", "shadow", "diff"], 1);
    assert_eq!((&diff["items"][0]["message_id"], &diff["items"][0]["gained"]), (&sent["message_id"], &json!(["late"])));
    assert!(program().run(["rules", "shadow", "status", "--addr", &addr]).expect(0).stdout.contains("late"));
    assert_eq!(first(&["rules", "shadow", "stop"], 0)["share"], 0);

    assert_eq!(first(&["rules", "canary", "start", &path("candidate.yaml"), "--percent", "0.01"], 0)["trial_version"], 3);
    assert_eq!(first(&["rules", "canary", "set", "--percent", "100"], 0)["share"], 10_000);
    let sent = first(&["send", "greeting", "{\"name\":\"y\"}"], 0);
    assert_eq!((&sent["rules"], &sent["catalog_version"]), (&json!(["greet-everyone", "late"]), &json!(3)));
    let message = sent["message_id"].as_str().unwrap().to_owned();
    let status = first(&["rules", "canary", "status"], 0);
    assert_eq!(
        (&status["candidate"]["decisions"], &status["active"]["decisions"], &status["not_reached"]),
        (&json!(1), &json!(0), &json!([]))
    );
    assert_eq!(first(&["rules", "canary", "promote"], 0)["catalog_version"], 4);
    // The version that decided was a candidate's, and is known after its trial.
    let why = first(&["rules", "why", &message, "--rule", "late"], 0);
    assert_eq!((&why["catalog_version"], &why["rules"][0]["outcome"]), (&json!(3), &json!("matched")));

    // The files are still those without the rule: the signal makes them the catalog, and what is wrong changes nothing.
    let version_is = |version: u64| {
        let deadline = Instant::now() + RELOADED_WITHIN;
        while first(&["rules", "list"], 0)["catalog_version"] != version {
            assert!(Instant::now() < deadline, "the catalog did not reach version {version}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    node.hang_up();
    version_is(5);
    assert_eq!(first(&["rules", "history"], 0)["items"][0]["reason"], "files read again after SIGHUP");
    std::fs::write(dir.path().join("rules.yaml"), RULES.replace("event_type: doom", "event_typ: doom")).unwrap();
    node.hang_up();
    let deadline = Instant::now() + RELOADED_WITHIN;
    while !node.process.stderr().contains("are not applied") {
        assert!(Instant::now() < deadline, "the log does not say that the files are refused");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::write(dir.path().join("rules.yaml"), format!("{RULES}  - {{ id: again, event_type: greeting }}\n")).unwrap();
    node.hang_up();
    version_is(6);
    assert_eq!(first(&["rules", "list"], 0)["rules"].as_array().unwrap().len(), 3);
    node.stop().expect(0);
}

#[test]
fn ten_thousand_rules_are_applied_with_default_limits() {
    let dir = dir_with(&[("few.yaml", "rules: []\n")]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let node = Node::start(&program(), "dev", &dir.path().join("data"), ["--no-worker"]);
    let addr = node.addr();
    let run = |arguments: &[&str]| program().run([&["--json"], arguments, &["--addr", &addr, "--timeout-ms", "60000"]].concat()).expect(0);
    let rules: Vec<Value> = (0..10_000)
        .map(|n| {
            json!({
                "id": format!("rule-{n}"), "description": "one of ten thousand, each with words of its own that take some room in a frame",
                "event_type": format!("event-{}", n % 100),
                "conditions": [{ "field": "amount", "operator": "greater_than", "value": n }, { "field": "user.country", "operator": "in", "value": ["DE", "FR"] }],
            })
        })
        .collect();
    let text = json!({ "rules": rules }).to_string();
    assert!(text.len() > 2 << 20, "{} bytes are more than a frame takes", text.len());
    std::fs::write(dir.path().join("many.json"), text).unwrap();
    let applied = run(&["rules", "apply", &path("many.json")]).json_lines().remove(0);
    assert_eq!((&applied["catalog_version"], &applied["rules_changed_count"]), (&json!(1), &json!(10_000)));
    assert_eq!(applied["rules_changed"].as_array().unwrap().len(), 1_000, "some are named");
    let sent = run(&["send", "event-7", "{\"amount\": 300, \"user\": {\"country\": \"DE\"}}"]).json_lines().remove(0);
    assert_eq!(sent["rules"], json!(["rule-107", "rule-207", "rule-7"]));
    assert_eq!(run(&["rules", "history"]).json_lines().remove(0)["items"][0]["rules_changed_count"], 10_000);
    node.stop().expect(0);
}
