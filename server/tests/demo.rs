//! The demo on a part of the stream: it ends well, and says so to scripts.

mod support;

use support::program;

#[test]
fn a_short_demo_loses_and_doubles_nothing() {
    let report = program().run(["--json", "demo", "--events", "1000"]).expect(0).json_lines().pop().unwrap();
    assert_eq!(report["ok"], true, "{report:#}");
    assert!(report["acknowledged_before_kill"].as_u64() >= Some(500), "{report:#}");
    assert_eq!(report["accepted"], report["present_on_every_node"], "{report:#}");
    assert!(report["fail_over_ms"].as_u64() > Some(0), "{report:#}");
    assert!(report["retries"].as_u64() > Some(0) && report["distinct_effects"].as_u64() > Some(50), "{report:#}");
}
