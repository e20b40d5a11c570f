//! Plugins through the whole system: a directory becomes task types, an attack costs its attempt, a missing plugin waits for a worker that has it.

mod support;

use std::time::Duration;

use distric_harness::{Node, wait_until};
use serde_json::{Value, json};
use support::{begin, compile, dir_with, program, view, worker};

const WORKFLOWS: &str = r#"
workflows:
  - id: welcome
    tasks:
      - id: greet
        type: hello
        input: { name: "${input.name}" }
      - id: shout
        type: transform
        depends_on: [greet]
        input: { text: "${tasks.greet.output.greeting}" }
        config: { set: { text: "text + '!'" } }
  - id: fall
    tasks:
      - id: crash
        type: attacker
        config: { do: crash }
  - id: spin
    tasks:
      - id: loop
        type: attacker
        timeout: 2s
        config: { do: loop }
"#;

/// What every workflow here is given.
fn ada() -> Value {
    json!({ "name": "Ada" })
}

fn ends(node: &Node, instance: &str, status: &str) -> Value {
    wait_until(&format!("the workflow becomes {status}"), Duration::from_secs(60), || {
        Some(view(node, instance)).filter(|view| view["status"] == status)
    })
}

#[test]
fn plugins_of_a_directory_are_task_types_and_attacks_cost_their_attempt_alone() {
    let dir = dir_with(&[("workflows.yaml", WORKFLOWS)]);
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    compile("examples/c/hello.c", &plugins);
    compile("host/tests/plugins/attacker.c", &plugins);
    std::fs::write(plugins.join("attacker.yaml"), "limits: { processes: 2 }\n").unwrap();
    let workflows = dir.path().join("workflows.yaml").display().to_string();
    let node = Node::start(&program(), "coordinator", &dir.path().join("data"), ["--workflows".to_owned(), workflows]);

    // No worker has the plugin: the task waits.
    let mut without = worker(&node, "--plugins", None);
    without.wait_for_event("started", Duration::from_secs(20));
    let early = begin(&node, "welcome", &ada());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(view(&node, &early)["status"], "running", "{}", view(&node, &early));

    // One that has it takes it.
    let mut with = worker(&node, "--plugins", Some(&plugins));
    let started = with.wait_for_event("started", Duration::from_secs(30));
    let offered: Vec<&str> = started["plugins"].as_array().unwrap().iter().map(|plugin| plugin["name"].as_str().unwrap()).collect();
    assert_eq!(offered, ["attacker", "hello"]);
    ends(&node, &early, "completed");
    let view = ends(&node, &begin(&node, "welcome", &ada()), "completed");
    assert!(view.to_string().contains("Hello, Ada!!"), "{view}");

    // Attacks fail with their reason, and the worker greets on.
    let fallen = ends(&node, &begin(&node, "fall", &ada()), "failed").to_string();
    assert!(fallen.contains("plugin_crashed") && fallen.contains("SIGSEGV") && fallen.contains("about to fall"), "{fallen}");
    let spun = ends(&node, &begin(&node, "spin", &ada()), "failed").to_string();
    // The plugin's host, the worker's session and the coordinator count the same two seconds; whoever is first says so.
    let by_host = spun.contains("plugin_timeout") && spun.contains("round and round");
    assert!(by_host || spun.contains("timed_out") || spun.contains("not done within 2000 ms"), "{spun}");
    ends(&node, &begin(&node, "welcome", &ada()), "completed");

    without.terminate();
    without.wait().expect(0);
    with.terminate();
    with.wait().expect(0);
    node.stop().expect(0);
}

#[test]
fn a_worker_killed_in_the_middle_leaves_no_plugin_process_behind() {
    let dir = dir_with(&[("workflows.yaml", WORKFLOWS)]);
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    compile("host/tests/plugins/attacker.c", &plugins);
    let workflows = dir.path().join("workflows.yaml").display().to_string();
    let node = Node::start(&program(), "coordinator", &dir.path().join("data"), ["--workflows".to_owned(), workflows]);
    let mut worker = worker(&node, "--plugins", Some(&plugins));
    worker.wait_for_event("started", Duration::from_secs(30));
    let children = children_of(worker.pid());
    assert!(!children.is_empty(), "the plugin has a process");
    begin(&node, "spin", &ada());
    worker.kill();
    wait_until("the plugin's processes are gone", Duration::from_secs(20), || children.iter().all(|pid| !is_alive(*pid)).then_some(()));
    node.stop().expect(0);
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
        .collect()
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn plugin_check_tells_the_usable_from_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    compile("examples/c/hello.c", dir.path());
    let hello = dir.path().join("hello.so").display().to_string();
    let checked = program().run(["--json", "plugin", "check", &hello, "--input", r#"{"name":"Ada"}"#]).expect(0);
    let lines = checked.json_lines();
    assert_eq!((&lines[0]["name"], &lines[0]["status"]), (&"hello".into(), &"usable".into()));
    assert_eq!(lines[1]["output"]["greeting"], "Hello, Ada!");
    let failed = program().run(["--json", "plugin", "check", &hello, "--input", "{}"]).expect(1);
    assert_eq!(failed.json_lines()[1]["code"], "bad_input");

    let text = dir.path().join("text.so");
    std::fs::write(&text, "hello").unwrap();
    let said = program().run(["plugin", "check", &text.display().to_string()]).expect(7);
    assert!(said.stderr.contains("not a shared library"), "{}", said.stderr);
    program().run(["plugin", "check", "/no/such.so"]).expect(7);
    std::fs::write(dir.path().join("hello.yaml"), "grant: {}\n").unwrap();
    let said = program().run(["plugin", "check", &hello]).expect(7);
    assert!(said.stderr.contains("hello.yaml:1:1") && said.stderr.contains("did you mean `grants`"), "{}", said.stderr);
    program().run(["plugin-host"]).expect(2);
}

#[test]
fn a_trusted_plugin_runs_inside_only_where_the_worker_admits_it() {
    let dir = tempfile::tempdir().unwrap();
    compile("examples/c/hello.c", dir.path());
    std::fs::write(dir.path().join("hello.yaml"), "in_process: true\n").unwrap();
    let hello = dir.path().join("hello.so").display().to_string();
    let said = program().run(["plugin", "check", &hello]).expect(8);
    assert!(said.stderr.contains("isolation process is required"), "{}", said.stderr);
    let inside = program().run(["--json", "plugin", "check", &hello, "--isolation", "none", "--input", r#"{"name":"Ada"}"#]).expect(0);
    assert_eq!(inside.json_lines()[0]["isolation"], "none");
    assert_eq!(inside.json_lines()[1]["output"]["greeting"], "Hello, Ada!");
}
