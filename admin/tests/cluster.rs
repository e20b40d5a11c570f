//! `distric-admin cluster` against real coordinators: from one node to three, a dead one replaced, leads moved, one by one restarted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use distric_harness::{Finished, Node, Program, http, wait_until};
use serde_json::Value;

/// The binaries lie beside each other; the tests of the workspace build both.
fn server() -> Program {
    let path: PathBuf = Path::new(env!("CARGO_BIN_EXE_distric-admin")).with_file_name("distric");
    assert!(path.exists(), "{} is not built: cargo build --bin distric", path.display());
    Program::new(path)
}

fn admin(addr: &str, arguments: &[&str]) -> Finished {
    let program = Program::new(env!("CARGO_BIN_EXE_distric-admin"));
    program.run(["--json", "cluster"].into_iter().chain(arguments.iter().copied()).chain(["--addr", addr]))
}

fn coordinator(name: &str, dir: &Path, join: Option<&Node>) -> Node {
    let mut more = ["--name", name, "--shards", "1", "--partitions", "3", "--set", "cpu.pin=false"].map(str::to_owned).to_vec();
    if let Some(seed) = join {
        more.extend(["--join".to_owned(), seed.ready["peer"].as_str().expect("it says where").to_owned()]);
    }
    Node::start(&server(), "coordinator", &dir.join(name), more)
}

fn status(addr: &str) -> Value {
    admin(addr, &["status"]).json_lines().remove(0)
}

fn leader_of(status: &Value, group: u64) -> String {
    let row = status["groups"].as_array().unwrap().iter().find(|row| row["group"] == group).expect("the group is there");
    let node = status["nodes"].as_array().unwrap().iter().find(|node| node["id"] == row["leader"]);
    node.map(|node| node["name"].as_str().unwrap().to_owned()).unwrap_or_default()
}

fn submit(node: &Node, key: &str) -> String {
    let reply = wait_until("a message is taken", Duration::from_secs(30), || {
        let reply = http(&node.http, "POST", "/api/v1/messages?event_type=x", &[("Idempotency-Key", key)], "{}");
        (reply.status == 202).then_some(reply)
    });
    reply.json()["message_id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_cluster_grows_loses_one_and_is_whole_again() {
    let dir = tempfile::tempdir().unwrap();
    let alpha = coordinator("alpha", dir.path(), None);
    let mut ids = vec![submit(&alpha, "k0")];
    let invitation = admin(&alpha.addr(), &["join"]).expect(0).json_lines().remove(0);
    assert!(invitation["command"].as_str().unwrap().contains(alpha.ready["peer"].as_str().unwrap()), "{invitation}");
    let beta = coordinator("beta", dir.path(), Some(&alpha));
    admin(&alpha.addr(), &["join", "--wait", "2"]).expect(0);
    let gamma = coordinator("gamma", dir.path(), Some(&beta));
    admin(&alpha.addr(), &["join", "--wait", "3"]).expect(0);
    let all = [&alpha, &beta, &gamma].map(Node::addr).join(",");

    // Any node shows the same picture; names that nobody has are refused.
    for node in [&alpha, &gamma] {
        let status = status(&node.addr());
        assert_eq!((status["nodes"].as_array().unwrap().len(), status["groups"].as_array().unwrap().len()), (3, 4), "{status:#}");
        assert!(status["nodes"].as_array().unwrap().iter().all(|node| node["reachable"] == true), "{status:#}");
    }
    assert!(admin(&all, &["transfer-leader", "1", "delta"]).expect(3).stderr.contains("no coordinator is called `delta`"));
    assert!(admin(&all, &["transfer-leader", "9", "beta"]).expect(3).stderr.contains("the groups are 0 to 3"));
    admin(&all, &["transfer-leader", "1", "gamma"]).expect(0);
    assert_eq!(leader_of(&status(&alpha.addr()), 1), "gamma");

    // All leads on one node, and spread again.
    for group in ["0", "1", "2", "3"] {
        admin(&all, &["transfer-leader", group, "beta"]).expect(0);
    }
    admin(&all, &["rebalance"]).expect(0);
    let spread = status(&alpha.addr());
    assert!(spread["nodes"].as_array().unwrap().iter().all(|node| (1..=2).contains(&node["leads"].as_u64().unwrap())), "{spread:#}");

    // One dies for good. Without it another could not be spared; it is replaced.
    ids.push(submit(&gamma, "k1"));
    let wire = beta.addr();
    beta.kill();
    let two = [&alpha, &gamma].map(Node::addr).join(",");
    ids.push(submit(&alpha, "k2"));
    let seen = status(&two);
    let lost = seen["nodes"].as_array().unwrap().iter().find(|node| node["wire"] == wire.as_str()).unwrap();
    assert_eq!(lost["reachable"], false, "{seen:#}");
    assert!(admin(&two, &["remove", "gamma"]).expect(4).stderr.contains("no majority"));
    admin(&two, &["remove", "beta"]).expect(0);
    let delta = coordinator("delta", dir.path(), Some(&gamma));
    admin(&two, &["join", "--wait", "3"]).expect(0);

    // One by one: each comes back as what it was, elsewhere even, and has everything.
    let mut nodes = vec![alpha, gamma, delta];
    for position in 0..nodes.len() {
        let name = nodes[position].ready["node"].as_str().unwrap().to_owned();
        nodes.remove(position).stop().expect(0);
        nodes.insert(position, coordinator(&name, dir.path(), None));
        let others: Vec<String> = nodes.iter().map(Node::addr).collect();
        admin(&others.join(","), &["join", "--wait", "3"]).expect(0);
        ids.push(submit(&nodes[position], &format!("restart-{position}")));
    }
    for (node, id) in nodes.iter().flat_map(|node| ids.iter().map(move |id| (node, id))) {
        let reply = http(&node.http, "GET", &format!("/api/v1/messages/{id}"), &[], "");
        assert_eq!(reply.status, 200, "{id} on {}: {}", node.ready["node"], reply.body);
    }

    // A removed node's directory is of no use any more.
    let end = nodes.pop().unwrap();
    admin(&nodes[0].addr(), &["remove", end.ready["node"].as_str().unwrap()]).expect(0);
    submit(&nodes[0], "after");
}

#[test]
fn nobody_there_is_said() {
    let refused = admin("127.0.0.1:1", &["status", "--timeout-ms", "500"]).expect(6);
    assert!(refused.stderr.contains("127.0.0.1:1"), "{}", refused.stderr);
}
