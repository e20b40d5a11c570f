//! SIGKILL at drawn moments, of workers, of plugin processes and of coordinators, over two hundred workflows: each completes, with each effect
//! once and its history whole and the same on every node.
//!
//! `KILLS_SEED=7` draws other moments; a seed's kills are always the same, what is under way at that moment is not.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use distric_harness::{Node, Outside, Running, free_address, http, wait_until};
use distric_sdk::{Client, ClientOptions, Submission};
use serde_json::{Value, json};
use support::{Draw, compile, dir_with, program, runtime};

const NODES: usize = 3;
const WORKERS: usize = 3;
const WORKFLOWS_COUNT: usize = 200;
const KILLS: u64 = 24;
/// How long the world outside takes for one effect.
const EFFECT: Duration = Duration::from_millis(30);
/// Longest wait for anything.
const WITHIN: Duration = Duration::from_secs(120);

const RULES: &str = "
rules:
  - id: pay
    event_type: payment
    actions: [{ workflow: payment }]
";

/// Three coordinators and their workers, each of which can be killed and started again.
struct Fleet {
    home: tempfile::TempDir,
    peers: Vec<SocketAddr>,
    wires: Vec<SocketAddr>,
    nodes: Vec<Option<Node>>,
    workers: Vec<Running>,
}

impl Fleet {
    fn start(workflows: &str) -> Self {
        let home = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", workflows)]);
        let plugins = home.path().join("plugins");
        std::fs::create_dir(&plugins).expect("a directory can be made there");
        compile("examples/c/hello.c", &plugins);
        let peers: Vec<SocketAddr> = (0..NODES).map(|_| free_address()).collect();
        let wires: Vec<SocketAddr> = (0..NODES).map(|_| free_address()).collect();
        let mut fleet = Self { home, peers, wires, nodes: (0..NODES).map(|_| None).collect(), workers: Vec::new() };
        (0..NODES).for_each(|position| fleet.begin_node(position, true));
        fleet.workers = (0..WORKERS).map(|position| fleet.new_worker(position)).collect();
        fleet
    }

    fn begin_node(&mut self, position: usize, for_the_first_time: bool) {
        let path = |name: &str| self.home.path().join(name).display().to_string();
        let mut more = vec!["--name".to_owned(), format!("n{position}"), "--peer-bind".to_owned(), self.peers[position].to_string()];
        more.extend(["--shards", "1", "--partitions", "2", "--set", "cpu.pin=false"].map(str::to_owned));
        if position == 0 && for_the_first_time {
            more.extend(["--rules".to_owned(), path("rules.yaml"), "--workflows".to_owned(), path("workflows.yaml")]);
        } else if for_the_first_time {
            more.extend(["--join".to_owned(), self.peers[0].to_string()]);
        }
        let dir = self.home.path().join(format!("n{position}"));
        self.nodes[position] = Some(Node::start_at(&program(), "coordinator", self.wires[position], &dir, more));
    }

    fn new_worker(&self, position: usize) -> Running {
        let addresses = self.addresses().join(",");
        let plugins = self.home.path().join("plugins").display().to_string();
        let name = format!("w{position}");
        let arguments = ["--json", "worker", "--coordinators", &addresses, "--name", &name, "--slots", "4", "--plugins", &plugins];
        let mut worker = program().start(arguments);
        worker.wait_for_event("started", WITHIN);
        worker
    }

    fn addresses(&self) -> Vec<String> {
        self.wires.iter().map(SocketAddr::to_string).collect()
    }

    fn node(&self, position: usize) -> &Node {
        self.nodes[position].as_ref().expect("between two kills every node runs")
    }

    /// One kill. Returns whose.
    fn kill(&mut self, draw: &mut Draw) -> &'static str {
        match draw.below(3) {
            0 => {
                let position = draw.below(NODES as u64) as usize;
                self.nodes[position].take().expect("it runs").kill();
                sleep(Duration::from_millis(draw.below(400)));
                self.begin_node(position, false);
                "coordinator"
            }
            1 => {
                let position = draw.below(WORKERS as u64) as usize;
                self.workers[position].kill();
                sleep(Duration::from_millis(draw.below(400)));
                self.workers[position] = self.new_worker(position);
                "worker"
            }
            _ => {
                let position = draw.below(WORKERS as u64) as usize;
                let children = children_of(self.workers[position].pid());
                // None for the moment in which another one is being started.
                if let Some(child) = children.first() {
                    kill_hard(*child);
                }
                "plugin"
            }
        }
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

fn kill_hard(pid: u32) {
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    status.expect("there is a program `kill`");
}

/// Submits all messages, spread over the time of the kills. Returns the instances.
async fn offer(addresses: Vec<String>) -> Vec<String> {
    let options = ClientOptions::new(addresses).name("kills").request_timeout_ms(10_000);
    let client = Client::connect(options).await.expect("a node answers");
    let mut instances = Vec::new();
    for n in 0..WORKFLOWS_COUNT {
        let key = format!("payment-{n}");
        let began = Instant::now();
        let receipt = loop {
            let message = Submission::json(&json!({ "name": key })).event_type("payment").idempotency_key(&key);
            match client.submit(message).await {
                Ok(receipt) => break receipt,
                Err(error) => assert!(began.elapsed() < WITHIN, "{key} is not taken: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(receipt.instances.len(), 1, "{key} started {:?}", receipt.instances);
        instances.push(receipt.instances[0].to_string());
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    instances
}

fn view(node: &Node, instance: &str) -> Value {
    http(&node.http, "GET", &format!("/api/v1/workflows/{instance}"), &[], "").json()
}

/// The transitions of each task (and of the instance, under no name) follow on each other, from the first state to `completed`.
fn check_history(view: &Value) {
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    let mut completions: BTreeMap<String, u32> = BTreeMap::new();
    for entry in view["history"].as_array().unwrap_or_else(|| panic!("no history in {view}")) {
        let task = entry["task"].as_str().unwrap_or_default().to_owned();
        let (from, to) = (entry["from"].as_str().unwrap_or_default(), entry["to"].as_str().unwrap_or_default());
        let before = states.insert(task.clone(), to.to_owned());
        let first = if task.is_empty() { "scheduled" } else { "pending" };
        assert_eq!(before.as_deref().unwrap_or(first), from, "a transition is missing before {entry} in {view}");
        *completions.entry(task).or_default() += u32::from(to == "completed");
    }
    let expected = ["", "credit", "debit", "greet"].map(|task| (task.to_owned(), 1));
    assert_eq!(completions, BTreeMap::from(expected), "{view}");
}

#[test]
fn kills_at_any_moment_leave_each_effect_once_and_each_history_whole() {
    let outside = Outside::start(EFFECT);
    let port = outside.port;
    let retry = "retry: { max_attempts: 50, initial_backoff: 50ms, max_backoff: 500ms }";
    let workflows = format!(
        "
workflows:
  - id: payment
    tasks:
      - id: greet
        type: hello
        input: {{ name: \"${{input.name}}\" }}
        {retry}
      - id: debit
        type: http
        depends_on: [greet]
        config: {{ method: POST, url: \"http://127.0.0.1:{port}/debit\", body: {{ n: 1 }} }}
        {retry}
      - id: credit
        type: http
        depends_on: [debit]
        config: {{ method: POST, url: \"http://127.0.0.1:{port}/credit\", body: {{ n: 2 }} }}
        {retry}
"
    );
    let mut fleet = Fleet::start(&workflows);
    let addresses = fleet.addresses();
    let offered = thread::spawn(move || runtime().block_on(offer(addresses)));
    let mut draw = Draw(std::env::var("KILLS_SEED").map_or(1, |seed| seed.parse().expect("KILLS_SEED is a number")));
    let mut killed: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..KILLS {
        sleep(Duration::from_millis(draw.below(500)));
        *killed.entry(fleet.kill(&mut draw)).or_default() += 1;
    }
    assert_eq!(killed.len(), 3, "each kind of kill happens: {killed:?}");
    let instances = offered.join().expect("every message is taken");

    for instance in &instances {
        let first = wait_until(&format!("{instance} completes"), WITHIN, || {
            let view = view(fleet.node(0), instance);
            assert_ne!(view["status"], "failed", "{view}");
            Some(view).filter(|view| view["status"] == "completed")
        });
        check_history(&first);
        for position in 1..NODES {
            let other = wait_until("another node knows it, too", WITHIN, || {
                Some(view(fleet.node(position), instance)).filter(|view| view["status"] == "completed")
            });
            assert_eq!(other["history"], first["history"], "{instance} has another history on node {position}");
        }
    }
    let books = outside.deliveries();
    assert_eq!(books.len(), 2 * WORKFLOWS_COUNT, "one key per task");
    let again: u32 = books.values().map(|count| count - 1).sum();
    println!("killed {killed:?}; deliveries beyond one per key: {again}");
    stop(fleet);
}

fn stop(fleet: Fleet) {
    for worker in fleet.workers {
        worker.terminate();
        worker.wait().expect(0);
    }
    fleet.nodes.into_iter().flatten().for_each(|node| drop(node.stop()));
}
