//! Programs and scripts through the whole system: the examples, a worker without them, ends that fail, and a worker that dies in the middle.

mod support;

use std::path::Path;
use std::time::Duration;

use distric_harness::{Node, http, wait_until};
use serde_json::{Value, json};
use support::{begin, dir_with, output_of, program, root, view, worker};

const PROGRAMS: &str = "
programs:
  cat: { path: /bin/cat, limits: { processes: 1 } }
  sleep: { path: /bin/sleep }
shell: {}
";

const WORKFLOWS: &str = r#"
workflows:
  - id: echo
    tasks:
      - id: show
        type: exec
        input: { name: "${input.name}", list: [1, 2.5, null] }
        config: { program: cat }
  - id: refused
    tasks:
      - id: look
        type: shell
        config: { script: 'echo looking >&2; cat /etc/shadow && exit 0; exit 3', permanent_exit: [3] }
        retry: 3
  - id: again
    tasks:
      - id: second
        type: shell
        retry: { max_attempts: 3, initial_backoff: 50ms }
        config:
          env: { WHO: "$(id); ${input.name}" }
          script: '[ "$DISTRIC_ATTEMPT" = 2 ] || exit 5; printf %s "$WHO $DISTRIC_TASK"; [ -n "$DISTRIC_IDEMPOTENCY_KEY" ]'
  - id: unknown
    tasks:
      - { id: run, type: exec, config: { program: no-such }, retry: 3 }
  - id: spin
    tasks:
      - id: sleep
        type: shell
        timeout: 1s
        config: { script: 'trap "" TERM; echo begun >&2; while :; do sleep 0.05; done' }
  - id: linger
    tasks:
      - { id: sleep, type: exec, timeout: 5m, config: { program: sleep, args: ['300'] } }
"#;

fn node(dir: &Path, workflows: &Path) -> Node {
    Node::start(&program(), "coordinator", &dir.join("data"), ["--workflows".to_owned(), workflows.display().to_string()])
}

fn ends(node: &Node, instance: &str, status: &str) -> Value {
    wait_until(&format!("the workflow becomes {status}"), Duration::from_secs(60), || {
        let view = view(node, instance);
        let is_over = ["completed", "failed"].iter().any(|end| view["status"] == *end);
        assert!(!is_over || view["status"] == status, "{view}");
        is_over.then_some(view)
    })
}

#[test]
fn the_examples_do_what_they_say() {
    let examples = root().join("examples/programs");
    let cases = [
        ("exec.yaml", "fingerprint", json!({"order": "o-17"})),
        ("shell.yaml", "count", json!({"word": "tea", "text": "tea for two and two for tea"})),
    ];
    for (file, workflow, input) in cases {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path(), &examples.join(file));
        let mut worker = worker(&node, "--programs", Some(&examples.join("programs.yaml")));
        let started = worker.wait_for_event("started", Duration::from_secs(30));
        assert_eq!(started["programs"][0]["name"], "fingerprint");
        assert!(started["shell"].is_string(), "{started}");
        let view = ends(&node, &begin(&node, workflow, &input), "completed");
        if workflow == "count" {
            assert_eq!(output_of(&view, "words"), &json!({"found": 2}));
            assert_eq!(output_of(&view, "often")["logged"], true);
        } else {
            // What `printf '{"order":"o-17"}' | sha256sum --tag` prints.
            let printed = output_of(&view, "hash")["stdout"].as_str().unwrap_or_else(|| panic!("{view}"));
            assert!(printed.starts_with("SHA256 (-) = ") && printed.trim_end().len() == "SHA256 (-) = ".len() + 64, "{printed}");
        }
        worker.terminate();
        worker.wait().expect(0);
        node.stop().expect(0);
    }
}

#[test]
fn programs_run_where_they_are_allowed_and_fail_with_their_reason() {
    let dir = dir_with(&[("workflows.yaml", WORKFLOWS), ("programs.yaml", PROGRAMS)]);
    let node = node(dir.path(), &dir.path().join("workflows.yaml"));

    // No worker has programs: the task waits, and says what for.
    let mut without = worker(&node, "--programs", None);
    let started = without.wait_for_event("started", Duration::from_secs(20));
    assert_eq!((&started["programs"], &started["shell"]), (&json!([]), &Value::Null));
    let early = begin(&node, "echo", &json!({"name": "Ada"}));
    wait_until("why names the type", Duration::from_secs(20), || {
        let why = http(&node.http, "GET", &format!("/api/v1/workflows/{early}/why"), &[], "").json().to_string();
        (why.contains("no_worker") || why.contains("no worker")).then_some(()).filter(|()| why.contains("exec"))
    });

    let mut with = worker(&node, "--programs", Some(&dir.path().join("programs.yaml")));
    with.wait_for_event("started", Duration::from_secs(30));
    let view = ends(&node, &early, "completed");
    assert_eq!(output_of(&view, "show"), &json!({"name": "Ada", "list": [1, 2.5, null]}));

    // Data in the environment stays data, and the second attempt knows that it is the second.
    let view = ends(&node, &begin(&node, "again", &json!({"name": "`id`"})), "completed");
    assert_eq!(output_of(&view, "second"), &json!({"stdout": "$(id); `id` second"}));

    let refused = ends(&node, &begin(&node, "refused", &json!({})), "failed").to_string();
    assert!(refused.contains("exit_status") && refused.contains("exit code 3") && refused.contains("looking"), "{refused}");
    let unknown = ends(&node, &begin(&node, "unknown", &json!({})), "failed").to_string();
    assert!(unknown.contains("unknown_program") && unknown.contains("only cat, sleep"), "{unknown}");
    let spun = ends(&node, &begin(&node, "spin", &json!({})), "failed").to_string();
    // The program's host, the worker's session and the coordinator count the same second; whoever is first says so.
    let by_host = spun.contains("program_timeout") && spun.contains("begun");
    assert!(by_host || spun.contains("timed_out") || spun.contains("not done within 1000 ms"), "{spun}");
    ends(&node, &begin(&node, "echo", &json!({"name": "Ada"})), "completed");

    without.terminate();
    without.wait().expect(0);
    with.terminate();
    with.wait().expect(0);
    node.stop().expect(0);
}

#[test]
fn a_worker_killed_in_the_middle_leaves_no_program_behind() {
    let dir = dir_with(&[("workflows.yaml", WORKFLOWS), ("programs.yaml", PROGRAMS)]);
    let node = node(dir.path(), &dir.path().join("workflows.yaml"));
    let mut worker = worker(&node, "--programs", Some(&dir.path().join("programs.yaml")));
    worker.wait_for_event("started", Duration::from_secs(30));
    begin(&node, "linger", &json!({}));
    let running = wait_until("the program runs", Duration::from_secs(30), || {
        let supervisors = children_of(worker.pid());
        supervisors.iter().flat_map(|pid| children_of(*pid)).find(|pid| is_called(*pid, "sleep"))
    });
    worker.kill();
    wait_until("the program is gone", Duration::from_secs(20), || (!is_called(running, "sleep")).then_some(()));
    node.stop().expect(0);
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
        .collect()
}

fn is_called(pid: u32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(&format!("({name})")) && !stat.contains(") Z "))
}

#[test]
fn settings_that_are_wrong_are_told_before_anything_starts() {
    let wrong = "programs: { a: { path: bin/cat, limit: {} } }\nshel: {}\n";
    let dir = dir_with(&[("wrong.yaml", wrong), ("gone.yaml", "programs: { a: { path: /no/such } }\n")]);
    let run = |file: &str| {
        let path = dir.path().join(file).display().to_string();
        program().run(["worker", "--coordinators", "127.0.0.1:1", "--programs", &path])
    };
    let said = run("wrong.yaml").expect(7);
    for part in ["wrong.yaml:1:24", "bin/cat is not absolute", "did you mean `limits`", "wrong.yaml:2:1", "did you mean `shell`"] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    assert!(run("gone.yaml").expect(7).stderr.contains("/no/such is no file"));
    assert!(run("none.yaml").expect(7).stderr.contains("cannot read"));
}
