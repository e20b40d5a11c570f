//! `distric dev --nodes 3` from outside: a cluster that works, heals, is found again, and leaves nothing behind.

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use distric_harness::{Node, free_address, http, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use support::{RULES, WORKFLOWS, dir_with, program};
use tempfile::TempDir;

/// A cluster on ports in a row from this one.
fn start(dir: &TempDir, wire: SocketAddr) -> Node {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let catalog = ["--rules".to_owned(), path("rules.yaml"), "--workflows".to_owned(), path("workflows.yaml")];
    Node::start_at(&program(), "dev", wire, &dir.path().join("data"), ["--nodes".to_owned(), "3".to_owned()].into_iter().chain(catalog))
}

fn pid(node: &Value) -> Pid {
    node["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("a process id")
}

fn send(address: &str, event: &str) {
    program().run(["--json", "send", "--addr", address, "--timeout-ms", "20000", event, r#"{"name":"ada"}"#]).expect(0);
}

#[test]
fn three_nodes_work_heal_and_are_found_again() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    // For three nodes in a row.
    let wire = [free_address(), free_address(), free_address()][0];
    let mut cluster = start(&dir, wire);
    let nodes = cluster.ready["nodes"].as_array().unwrap().clone();
    assert_eq!(nodes.len(), 3);
    for node in &nodes {
        assert!(Path::new(node["data_dir"].as_str().unwrap()).starts_with(dir.path().join("data")));
        send(node["wire"].as_str().unwrap(), "greeting");
    }
    let all = cluster.ready["addr"].as_str().unwrap().to_owned();
    // Sealed with a key of its own, which only its owner may read.
    let keys = Path::new(cluster.ready["gossip_keys"].as_str().unwrap());
    assert_eq!(std::fs::metadata(keys).unwrap().permissions().mode() & 0o777, 0o600);
    for node in &nodes {
        let address = node["http"].as_str().unwrap().trim_start_matches("http://");
        let status = http(address, "GET", "/api/v1/cluster/status", &[], "").json();
        assert_eq!(status["gossip"]["sealed"], true, "{status:#}");
    }
    kill_process(pid(&nodes[1]), Signal::KILL).unwrap();
    send(&all, "greeting");
    let back = cluster.process.wait_for_event("node_back", Duration::from_secs(60));
    assert_eq!(back["node"], nodes[1]["name"]);
    send(nodes[1]["wire"].as_str().unwrap(), "greeting");
    let known = http(nodes[0]["http"].as_str().unwrap().trim_start_matches("http://"), "GET", "/api/v1/workflows", &[], "").json();
    cluster.stop().expect(0);

    // The same directory: the same cluster, at the same addresses, with everything in it.
    let again = start(&dir, wire);
    assert_eq!(again.ready["addr"].as_str(), Some(all.as_str()));
    let found = http(&again.http, "GET", "/api/v1/workflows", &[], "").json();
    let ids = |list: &Value| list["items"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert!(ids(&known).len() == 5 && ids(&known) == ids(&found), "{known:#}\n{found:#}");
    again.stop().expect(0);

    let wrong = program().run(["dev", "--nodes", "5", "--data-dir", dir.path().join("data").to_str().unwrap()]).expect(7);
    assert!(wrong.stderr.contains("holds a cluster of 3 nodes, not 5"), "{}", wrong.stderr);
}

#[test]
fn children_do_not_outlive_their_parent() {
    let dir = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
    let cluster = start(&dir, SocketAddr::from(([127, 0, 0, 1], 0)));
    let pids: Vec<Pid> = cluster.ready["nodes"].as_array().unwrap().iter().map(pid).collect();
    cluster.kill();
    wait_until("the children end", Duration::from_secs(30), || pids.iter().all(|pid| test_kill_process(*pid).is_err()).then_some(()));
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let refused = program().run(["dev", "--nodes", "2"]).expect(2);
    assert!(refused.stderr.contains("expected 1, 3 or 5"), "{}", refused.stderr);
    let advertised = program().run(["dev", "--nodes", "3", "--set", "wire.advertise=example.net:7400"]).expect(7);
    assert!(advertised.stderr.contains("the same for all 3 nodes"), "{}", advertised.stderr);
}
