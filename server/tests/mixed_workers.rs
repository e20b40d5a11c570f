//! One workflow over three kinds of worker: a plugin, Python and Rust; and a worker in Python that dies in the middle.
//! Without python3 this says so and passes: the runner skips the Python client's own tests for the same reason.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use distric_harness::{Node, Running, free_address, wait_until};
use distric_sdk::worker::{WorkerBuilder, WorkerOptions};
use serde_json::{Value, json};
use support::{begin, compile, dir_with, output_of, program, root, view};

/// Stands in for a crowd of workers that come and go: its tasks take as long as their input says.
const SLEEPER: &str = r#"
import sys, time
sys.path.insert(0, sys.argv[2])
from distric.worker import Worker
worker = Worker(sys.argv[1], name="sleeper", slots=2, prefetch=2)

@worker.task("sleep")
def sleep(context, seconds):
    time.sleep(seconds)
    return {"attempt": context.attempt}

print('{"event":"started"}', flush=True)
worker.run()
print('{"event":"ended"}', flush=True)
"#;

const SLEEP: &str = r#"
workflow:
  id: sleep
  tasks:
    - id: nap
      type: sleep
      input: 1.5
      timeout: 20s
"#;

fn python(script: &Path, arguments: &[&str]) -> Running {
    let mut command = Command::new("python3");
    command.arg(script).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(command)
}

fn has_python() -> bool {
    let found = Command::new("python3")
        .args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"])
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: no python3 of version 3.9 or later");
    }
    found
}

fn completes(node: &Node, instance: &str) -> Value {
    wait_until("the workflow completes", Duration::from_secs(60), || {
        let view = view(node, instance);
        assert_ne!(view["status"], "failed", "{view}");
        Some(view).filter(|view| view["status"] == "completed")
    })
}

#[test]
fn a_workflow_mixes_plugins_python_and_rust() {
    if !has_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    compile("examples/c/hello.c", &plugins);
    let workflows = root().join("examples/workers/workflows.yaml").display().to_string();
    let node = Node::start(&program(), "coordinator", &dir.path().join("data"), ["--workflows".to_owned(), workflows]);
    let mut built_in = program().start(["--json", "worker", "--coordinators", &node.addr(), "--plugins", &plugins.display().to_string()]);
    built_in.wait_for_event("started", Duration::from_secs(30));
    let scorer = python(&root().join("examples/workers/scorer.py"), &[&node.addr()]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let address = node.addr();
    let rust = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let receipt =
            async |_, input: Value| Ok(json!({ "line": format!("{} ({})", input["text"].as_str().unwrap_or("?"), input["score"]) }));
        let worker = WorkerBuilder::new([address], WorkerOptions::default()).task("receipt", receipt);
        runtime.block_on(worker.run(async { drop(stopped.await) })).unwrap();
    });

    let seen = completes(&node, &begin(&node, "greeted_payment", &json!({ "name": "Ada", "amount": 9_000, "usual": 120 })));
    assert_eq!(output_of(&seen, "receipt")["line"], "Hello, Ada! (0.852)", "{seen}");
    let seen = completes(&node, &begin(&node, "scored_payment", &json!({ "amount": 100, "usual": 120 })));
    assert_eq!(seen["tasks"][1]["status"], "skipped", "{seen}");

    scorer.terminate();
    scorer.wait().expect(0);
    stop.send(()).unwrap();
    rust.join().unwrap();
    built_in.terminate();
    built_in.wait().expect(0);
    node.stop().expect(0);
}

#[test]
fn tasks_of_a_python_worker_that_is_killed_go_to_another_and_a_coordinator_that_comes_back_finds_its_worker() {
    if !has_python() {
        return;
    }
    let dir = dir_with(&[("workflows.yaml", SLEEP), ("sleeper.py", SLEEPER)]);
    let path = |name: &str| dir.path().join(name);
    let sdk = root().join("sdk/python").display().to_string();
    let workflows = ["--workflows".to_owned(), path("workflows.yaml").display().to_string()];
    let wire = free_address();
    let node = Node::start_at(&program(), "coordinator", wire, &path("data"), &workflows);
    let address = node.addr();
    let start = || {
        let mut worker = python(&path("sleeper.py"), &[&address, &sdk]);
        worker.wait_for_event("started", Duration::from_secs(20));
        worker
    };
    let mut first = start();
    let instances: Vec<String> = (0..2).map(|_| begin(&node, "sleep", &Value::Null)).collect();
    let assigned = |instance: &String| view(&node, instance)["tasks"][0]["status"] == "assigned";
    wait_until("both run", Duration::from_secs(20), || instances.iter().all(assigned).then_some(()));
    first.kill();
    let second = start();
    for instance in &instances {
        let seen = completes(&node, instance);
        assert_eq!(output_of(&seen, "nap")["attempt"], 2, "{seen}");
    }

    // The coordinator dies while a task runs: the worker keeps it and reports it to the one that comes back.
    let last = begin(&node, "sleep", &Value::Null);
    wait_until("it runs", Duration::from_secs(20), || (view(&node, &last)["tasks"][0]["status"] == "assigned").then_some(()));
    node.kill();
    let node = Node::start_at(&program(), "coordinator", wire, &path("data"), &workflows);
    let seen = completes(&node, &last);
    assert_eq!(output_of(&seen, "nap")["attempt"], 1, "it ran once: {seen}");
    second.terminate();
    second.wait().expect(0);
    node.stop().expect(0);
}
