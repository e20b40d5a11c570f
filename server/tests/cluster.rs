//! A real cluster: three coordinators and five workers as processes, one of which is killed in the middle of its tasks.

mod support;

use std::time::{Duration, Instant};

use distric_harness::{Node, Outside, Running, http, wait_until};
use support::{dir_with, keys_file, program};

/// Workflows under way when the worker dies.
const WORKFLOWS_COUNT: usize = 40;
/// How long the world outside takes for one effect.
const EFFECT: Duration = Duration::from_millis(300);
/// Longest wait for anything.
const WITHIN: Duration = Duration::from_secs(90);

const RULES: &str = "
rules:
  - id: pay
    event_type: payment
    actions: [{ workflow: payment }]
";

fn status(node: &Node) -> serde_json::Value {
    http(&node.http, "GET", "/api/v1/cluster/status", &[], "").json()
}

fn members(node: &Node, state: &str) -> usize {
    status(node)["gossip"][state].as_u64().unwrap_or(0) as usize
}

#[test]
fn a_worker_killed_in_mid_task_leaves_no_workflow_undone_and_no_effect_doubled() {
    let outside = Outside::start(EFFECT);
    let port = outside.port;
    let workflows = format!(
        "
workflows:
  - id: payment
    tasks:
      - id: debit
        type: http
        config: {{ method: POST, url: \"http://127.0.0.1:{port}/debit\", body: {{ n: 1 }} }}
      - id: credit
        type: http
        depends_on: [debit]
        config: {{ method: POST, url: \"http://127.0.0.1:{port}/credit\", body: {{ n: 2 }} }}
"
    );
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", &workflows)]);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let program = program();
    let sealed = format!("gossip.keys_file={}", keys_file(dir.path()).display());
    let first = Node::start(
        &program,
        "coordinator",
        &dir.path().join("one"),
        ["--name", "one", "--rules", &path("rules.yaml"), "--workflows", &path("workflows.yaml"), "--set", &sealed],
    );
    let join = status(&first)["members"][0]["peer_address"].as_str().unwrap().to_owned();
    let joins = |name| Node::start(&program, "coordinator", &dir.path().join(name), ["--name", name, "--join", &join, "--set", &sealed]);
    let more: Vec<Node> = ["two", "three"].map(joins).into();
    let nodes = [&first, &more[0], &more[1]];
    wait_until("three coordinators gossip", WITHIN, || nodes.iter().all(|node| members(node, "active") == 3).then_some(()));

    let addresses = nodes.map(Node::addr).join(",");
    let mut workers: Vec<Running> = (0..5)
        .map(|n| {
            program.start([
                "--json",
                "worker",
                "--coordinators",
                &addresses,
                "--name",
                &format!("worker-{n}"),
                "--slots",
                "4",
                "--set",
                "worker.prefetch=0",
                "--set",
                &sealed,
            ])
        })
        .collect();
    workers.iter_mut().for_each(|worker| drop(worker.wait_for_event("started", WITHIN)));
    wait_until("eight members gossip", WITHIN, || nodes.iter().all(|node| members(node, "active") == 8).then_some(()));

    let mut instances = Vec::new();
    for n in 0..WORKFLOWS_COUNT {
        let at = nodes[n % 3];
        let reply = http(&at.http, "POST", "/api/v1/messages?event_type=payment", &[], &format!("{{\"n\":{n}}}"));
        assert_eq!(reply.status, 202, "{}", reply.body);
        instances.push(reply.json()["instances"][0].as_str().unwrap().to_owned());
    }
    // In mid-task: something has been delivered, most has not.
    wait_until("effects happen", WITHIN, || (!outside.deliveries().is_empty()).then_some(()));
    let killed = Instant::now();
    workers[0].kill();
    wait_until("the death is known", WITHIN, || nodes.iter().all(|node| members(node, "failed") == 1).then_some(()));
    println!("known to all coordinators after {} ms", killed.elapsed().as_millis());
    for instance in &instances {
        wait_until("every workflow completes", WITHIN, || {
            let view = http(&first.http, "GET", &format!("/api/v1/workflows/{instance}"), &[], "").json();
            (view["status"] == "completed").then_some(())
        });
    }
    println!("all workflows completed {} ms after the kill", killed.elapsed().as_millis());
    // Attempts may deliver twice; the outside world knows them by their key, of which every task has one.
    let told = status(&first);
    assert!(
        told["gossip"]["sealed"] == true && told["gossip"]["refused"].as_object().is_some_and(|reasons| reasons.is_empty()),
        "{told:#}"
    );
    let books = outside.deliveries();
    assert_eq!(books.len(), 2 * WORKFLOWS_COUNT, "one key per task");
    println!("deliveries beyond one per key: {}", books.values().map(|count| count - 1).sum::<u32>());

    let mut gone = workers.remove(0);
    gone.kill();
    for worker in workers {
        worker.terminate();
        worker.wait().expect(0);
    }
    wait_until("who leaves is left", WITHIN, || (members(&first, "left") == 4).then_some(()));
    assert_eq!(members(&first, "failed"), 1);
    for node in more {
        node.stop();
    }
    first.stop();
}
