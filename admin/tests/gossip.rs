//! `distric-admin members` and `distric-admin gossip keys` against real processes: keys change under three coordinators and a worker; and
//! coordinators that have all moved find each other by gossip.

use std::path::{Path, PathBuf};
use std::time::Duration;

use distric_harness::{Finished, Node, Program, Running, free_address, http, wait_until};
use serde_json::Value;

/// Longest wait for anything.
const WITHIN: Duration = Duration::from_secs(90);

/// The binaries lie beside each other; the tests of the workspace build both.
fn server() -> Program {
    let path: PathBuf = Path::new(env!("CARGO_BIN_EXE_distric-admin")).with_file_name("distric");
    assert!(path.exists(), "{} is not built: cargo build --bin distric", path.display());
    Program::new(path)
}

fn admin(arguments: &[&str]) -> Finished {
    Program::new(env!("CARGO_BIN_EXE_distric-admin")).run(["--json"].into_iter().chain(arguments.iter().copied()))
}

fn coordinator(name: &str, dir: &Path, join: Option<&Node>, settings: &[String]) -> Node {
    let mut more = ["--name", name, "--shards", "1", "--partitions", "1", "--set", "cpu.pin=false"].map(str::to_owned).to_vec();
    if let Some(seed) = join {
        more.extend(["--join".to_owned(), seed.ready["peer"].as_str().expect("it says where").to_owned()]);
    }
    more.extend(settings.iter().flat_map(|pair| ["--set".to_owned(), pair.clone()]));
    Node::start(&server(), "coordinator", &dir.join(name), more)
}

fn gossip(node: &Node) -> Value {
    http(&node.http, "GET", "/api/v1/cluster/status", &[], "").json()["gossip"].take()
}

fn sealing(node: &Node) -> Vec<u64> {
    let members = gossip(node)["members"].as_array().cloned().unwrap_or_default();
    members.iter().filter(|member| member["state"] == "active").filter_map(|member| member["keys"]["sealing"].as_u64()).collect()
}

#[test]
fn keys_are_rotated_under_a_running_cluster_and_its_worker() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let path = file.to_str().unwrap();
    assert_eq!(admin(&["gossip", "keys", "add", path]).expect(0).json_lines()[0]["id"], 1);
    let sealed = [format!("gossip.keys_file={path}")];
    let alpha = coordinator("alpha", dir.path(), None, &sealed);
    let nodes = [coordinator("beta", dir.path(), Some(&alpha), &sealed), coordinator("gamma", dir.path(), Some(&alpha), &sealed), alpha];
    let addr = nodes.each_ref().map(Node::addr).join(",");
    let mut worker: Running = server().start(["--json", "worker", "--coordinators", &addr, "--name", "w", "--set", &sealed[0]]);
    worker.wait_for_event("started", WITHIN);
    wait_until("four members, all sealed with key 1", WITHIN, || nodes.iter().all(|node| sealing(node) == [1; 4]).then_some(()));

    // Add: a new key in the file, which everybody takes up.
    let refused = admin(&["gossip", "keys", "use", "2", "--addr", &addr]).expect(4);
    assert!(refused.stderr.contains("not every live member holds key 2"), "{}", refused.stderr);
    assert_eq!(admin(&["gossip", "keys", "add", path]).expect(0).json_lines()[0]["id"], 2);
    let keys = || admin(&["gossip", "keys", "list", "--addr", &addr]).expect(0).json_lines().remove(0)["keys"].as_array().unwrap().clone();
    let held = || keys().iter().any(|key| key["id"] == 2 && key["held_by"] == 4 && key["state"] == "held");
    wait_until("key 2 is everywhere", WITHIN, || held().then_some(()));

    // Use.
    let refused = admin(&["gossip", "keys", "retire", "1", "--addr", &addr]).expect(4);
    assert!(refused.stderr.contains("still seal with key 1"), "{}", refused.stderr);
    admin(&["gossip", "keys", "use", "2", "--addr", &addr]).expect(0);
    wait_until("all seal with key 2, the worker too", WITHIN, || nodes.iter().all(|node| sealing(node) == [2; 4]).then_some(()));

    // Retire. Nobody was suspected, nothing refused.
    assert!(admin(&["gossip", "keys", "retire", "2", "--addr", &addr, "--force"]).expect(4).stderr.contains("cannot be retired"));
    admin(&["gossip", "keys", "retire", "1", "--addr", &addr]).expect(0);
    let all = || nodes.iter().all(|node| gossip(node)["members"].as_array().unwrap().iter().all(|member| member["keys"]["floor"] == 2));
    wait_until("key 1 counts nowhere", WITHIN, || all().then_some(()));
    for node in &nodes {
        let told = gossip(node);
        assert!(told["active"] == 4 && told["refused"].as_object().is_some_and(|reasons| reasons.is_empty()), "{told:#}");
        assert!(!node.process.stderr().contains("node_failed"), "{}", node.process.stderr());
    }

    // A worker that comes later holds both, and is told which one counts. One without a key takes no part.
    let mut late: Running = server().start(["--json", "worker", "--coordinators", &addr, "--name", "late", "--set", &sealed[0]]);
    late.wait_for_event("started", WITHIN);
    wait_until("the latecomer is heard", WITHIN, || nodes.iter().all(|node| sealing(node) == [2; 5]).then_some(()));
    let mut keyless: Running = server().start(["--json", "worker", "--coordinators", &addr, "--name", "keyless"]);
    keyless.wait_for_event("started", WITHIN);
    wait_until("it says so", WITHIN, || keyless.stderr().contains("gossip_keys_differ").then_some(()));

    let members = wait_until("the worker tells its load", WITHIN, || {
        let view = admin(&["members", "--addr", &addr]).expect(0).json_lines().remove(0);
        let has_told = |member: &Value| member["name"] == "late" && member["load"]["memory_permille"].as_u64() > Some(0);
        view["members"].as_array().unwrap().iter().any(has_told).then_some(view)
    });
    let row = members["members"].as_array().unwrap().iter().find(|member| member["name"] == "late").unwrap().clone();
    assert!(row["role"] == "worker" && row["state"] == "active" && row["version"] == env!("CARGO_PKG_VERSION"), "{row:#}");
    assert!(members["sealed"] == true && members["verdict"] == "none");
    let status = admin(&["cluster", "status", "--addr", &addr]).expect(0).json_lines().remove(0);
    assert!(
        status["gossip_sealed"] == true && status["nodes"].as_array().unwrap().iter().all(|node| node["verdict"] == "none"),
        "{status:#}"
    );
    [worker, late, keyless].iter_mut().for_each(Running::kill);
}

#[test]
fn coordinators_that_have_all_moved_find_each_other_by_gossip() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["alpha", "beta", "gamma"];
    let settings: Vec<[String; 1]> = names.iter().map(|_| [format!("gossip.bind={}", free_address())]).collect();
    let mut nodes = vec![coordinator(names[0], dir.path(), None, &settings[0])];
    for n in 1..3 {
        nodes.push(coordinator(names[n], dir.path(), Some(&nodes[0]), &settings[n]));
    }
    let addr = |nodes: &[Node]| nodes.iter().map(Node::addr).collect::<Vec<_>>().join(",");
    admin(&["cluster", "join", "--wait", "3", "--addr", &addr(&nodes)]).expect(0);
    wait_until("all gossip", WITHIN, || nodes.iter().all(|node| gossip(node)["active"] == 3).then_some(()));
    let ports = |nodes: &[Node]| nodes.iter().map(|node| node.ready["peer"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let before = ports(&nodes);
    let ended: Vec<Finished> = nodes.into_iter().map(Node::stop).collect();
    ended.into_iter().for_each(|ended| drop(ended.expect(0)));

    // Every one comes back at another port for the others: what each remembers of them is wrong, and no majority is there to be asked.
    let starts: Vec<_> = (0..3)
        .map(|n| {
            let (dir, name, settings) = (dir.path().to_owned(), names[n], settings[n].clone());
            std::thread::spawn(move || coordinator(name, &dir, None, &settings))
        })
        .collect();
    let nodes: Vec<Node> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    let after = ports(&nodes);
    assert!(after.iter().all(|port| !before.contains(port)), "{before:?} {after:?}");
    admin(&["cluster", "join", "--wait", "3", "--addr", &addr(&nodes)]).expect(0);
    assert!(nodes.iter().any(|node| node.process.stderr().contains("peer_found")), "gossip had nothing to tell");
    let reply = http(&nodes[0].http, "POST", "/api/v1/messages?event_type=x", &[("Idempotency-Key", "k")], "{}");
    assert_eq!(reply.status, 202, "{}", reply.body);
}
