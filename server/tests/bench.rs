//! `distric bench workflows` against a real node: every instance that it counts did complete, and what it parks stays open.

mod support;

use distric_harness::{Node, http};
use support::program;

#[test]
fn workflows_are_measured_from_end_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&program(), "coordinator", &dir.path().join("data"), ["--set", "cpu.pin=false"]);
    let pid = node.process.pid().to_string();
    let flush_dir = dir.path().display().to_string();
    let bench = |more: &[&str]| {
        let mut arguments = vec!["--json", "bench", "workflows", "--addr"];
        let addr = node.addr();
        arguments.push(&addr);
        arguments.extend(["--server-pid", &pid, "--warm-up-ms", "100", "--duration-ms", "1500"]);
        arguments.extend(more);
        program().run(arguments).expect(0).json_lines().remove(0)
    };
    let report = bench(&["--steps", "2", "--in-flight", "8", "--workers", "3", "--flush-dir", &flush_dir]);
    assert!(report["completed"].as_u64().unwrap() > 0 && report["failed"] == 0, "{report}");
    assert!(report["hand_over_us"]["count"].as_u64().unwrap() > 0, "{report}");
    assert!(report["flush_us"].as_u64().unwrap() > 0 && report["memory"]["connected"].as_u64().unwrap() > 0, "{report}");
    let report = bench(&["--park", "40", "--in-flight", "4"]);
    assert_eq!((&report["parked"], &report["completed"]), (&40.into(), &0.into()), "{report}");
    let open = http(&node.http, "GET", "/api/v1/workflows?status=running&limit=500", &[], "").json();
    assert_eq!(open["items"].as_array().map(Vec::len), Some(40), "all that it measured have ended, all that it parked wait");
    assert!(
        std::fs::read_dir(dir.path()).unwrap().flatten().all(|entry| entry.file_name() != "distric-bench-flush"),
        "it leaves nothing behind"
    );

    let addr = node.addr();
    let said = program().run(["bench", "workflows", "--addr", &addr, "--steps", "0"]).expect(2);
    assert!(said.stderr.contains("steps must be 1 to 100"), "{}", said.stderr);
    node.stop().expect(0);
}
