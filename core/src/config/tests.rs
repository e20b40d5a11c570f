//! Claims about the four layers, the bounds, and the page made from the table.

use super::check::{Loaded, Sources, load};
use super::raw::RawConfig;
use super::reference::{describe, reference_markdown, to_yaml};
use super::table::KEYS;
use super::*;

fn check(file: Option<&str>, environment: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Result<Loaded, Vec<String>> {
    load(&Sources {
        file: file.map(|text| ("distric.yaml".to_owned(), text.to_owned())),
        environment: environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        flags: flags.iter().map(|(key, flag, text)| ((*key).to_owned(), (*flag).to_owned(), (*text).to_owned())).collect(),
    })
    .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn problem(file: Option<&str>, environment: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> String {
    let problems = check(file, environment, flags).expect_err("a problem was expected");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn every_default_fits_its_own_bounds_and_the_whole_is_valid() {
    let loaded = check(None, &[], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.config.wire.bind.to_string(), "127.0.0.1:7400");
    assert_eq!(loaded.config.exec.dedupe_window_ms, distric_model::limits::DEDUPE_WINDOW_MS);
    assert_eq!(loaded.config.exec.history_retention_ms, distric_model::limits::HISTORY_RETENTION_MS);
    assert_eq!(loaded.config.limits.frame_bytes_max, distric_model::limits::FRAME_BYTES_MAX);
    assert_eq!(loaded.config.node.data_dir, None);
}

#[test]
fn a_later_layer_wins_and_the_origin_says_which() {
    let file = "node:\n  name: from-file\nlimits:\n  frame_bytes_max: 2MiB\nworker:\n  slots: 3\n";
    let environment = [("DISTRIC_NODE__NAME", "from-env"), ("DISTRIC_WORKER__SLOTS", "5"), ("PATH", "/bin"), ("DISTRIC_CONFIG", "x")];
    let flags = [("worker.slots", "--slots", "7")];
    let Loaded { config, raw } = check(Some(file), &environment, &flags).unwrap();
    assert_eq!((config.node.name.as_str(), config.worker.slots, config.limits.frame_bytes_max), ("from-env", 7, 2 << 20));
    assert_eq!(raw.origin("node.name").to_string(), "environment DISTRIC_NODE__NAME");
    assert_eq!(raw.origin("worker.slots").to_string(), "flag --slots");
    assert_eq!(raw.origin("limits.frame_bytes_max").to_string(), "distric.yaml:4:3");
    assert_eq!(raw.origin("wire.bind").to_string(), "default");
}

#[test]
fn unknown_names_are_errors_with_a_guess() {
    let text = problem(Some("node:\n  nmae: a\n"), &[], &[]);
    assert!(text.starts_with("distric.yaml:2:3: node.nmae: unknown key") && text.contains("did you mean `name`?"), "{text}");
    let text = problem(Some("wired:\n  bind: 127.0.0.1:1\n"), &[], &[]);
    assert!(text.starts_with("distric.yaml:1:1: wired: unknown key") && text.contains("`wire`"), "{text}");
    let text = problem(None, &[("DISTRIC_NODE__NAM", "a")], &[]);
    assert!(text.contains("environment DISTRIC_NODE__NAM: unknown variable") && text.contains("`DISTRIC_NODE__NAME`"), "{text}");
    let text = problem(None, &[], &[("wire.bnd", "--set wire.bnd", "x")]);
    assert!(text.contains("flag --set wire.bnd") && text.contains("`wire.bind`"), "{text}");
}

#[test]
fn bad_values_name_their_origin_and_what_would_be_right() {
    let text = problem(Some("worker:\n  slots: 0\n"), &[], &[]);
    assert_eq!(text, "distric.yaml:2:10: worker.slots: 0 is out of range (1 to 4096)");
    let text = problem(None, &[("DISTRIC_SHARDS", "many")], &[]);
    assert_eq!(text, "environment DISTRIC_SHARDS: shards: \"many\" is not a whole number (auto, or 1 to 64)");
    let text = problem(Some("io:\n  driver: epol\n"), &[], &[]);
    assert!(text.contains("did you mean `epoll`?"), "{text}");
    let text = problem(Some("http: on\n"), &[], &[]);
    assert!(text.contains("a section must be a map"), "{text}");
    let text = problem(Some("wire:\n  bind: 7400\n"), &[], &[]);
    assert!(text.contains("a number does not fit here (IP:port)"), "{text}");
    let text = problem(Some("wire:\n  bind:\n"), &[], &[]);
    assert!(text.contains("no value is written"), "{text}");
    assert!(check(Some("a: [1\n"), &[], &[]).is_err());
}

#[test]
fn a_reachable_listener_needs_so_many_words() {
    let text = problem(Some("wire:\n  bind: 0.0.0.0:7400\n"), &[], &[]);
    assert!(text.contains("--insecure-bind") && text.starts_with("distric.yaml:2:3"), "{text}");
    assert!(check(Some("wire:\n  bind: 0.0.0.0:7400\n"), &[], &[("insecure_bind", "--insecure-bind", "true")]).is_ok());
    assert!(check(Some("http:\n  bind: 0.0.0.0:8080\n  enabled: false\n"), &[], &[]).is_ok(), "a listener that is off reaches nobody");
}

#[test]
fn contradictions_are_refused() {
    assert!(problem(Some("raft:\n  heartbeat_ms: 200\n"), &[], &[]).contains("3 heartbeats"));
    assert!(problem(Some("raft:\n  election_timeout_ms_max: 300\n"), &[], &[]).contains("not above"));
    assert!(problem(Some("http:\n  bind: 127.0.0.1:7400\n"), &[], &[]).contains("also wire.bind"));
    assert!(problem(Some("limits:\n  bytes_in_flight_max: 8KiB\n"), &[], &[]).contains("less than one frame"));
    assert!(problem(Some("storage:\n  map_bytes_max: 1MiB\n"), &[], &[]).contains("map_bytes_initial"));
}

#[test]
fn all_problems_are_reported_at_once() {
    let problems = check(Some("a: 1\nworker:\n  slots: x\n"), &[("DISTRIC_B", "1")], &[("shards", "--shards", "0")]).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn what_is_printed_can_be_read_again() {
    let flags = [
        ("worker.labels", "--labels", "zone=eu,tier=1"),
        ("worker.coordinators", "--coordinators", "a:1,b:2"),
        ("shards", "--shards", "2"),
    ];
    let first = check(None, &[], &flags).unwrap();
    let again = check(Some(&to_yaml(&first.raw, true)), &[], &[]).unwrap();
    assert_eq!(first.config, again.config);
    assert_eq!(again.config.worker.labels.get("tier").map(String::as_str), Some("1"));
}

#[test]
fn units_may_be_written() {
    let loaded = check(Some("exec:\n  dedupe_window_ms: 90s\n  history_retention_ms: 2h\n  state_bytes_max: 2GiB\n"), &[], &[]).unwrap();
    let exec = loaded.config.exec;
    assert_eq!((exec.dedupe_window_ms, exec.history_retention_ms, exec.state_bytes_max), (90_000, 7_200_000, 2 << 30));
    assert!(problem(Some("exec:\n  dedupe_window_ms: 90KiB\n"), &[], &[]).contains("not a whole number"));
}

#[test]
fn names_in_the_table_are_unique_and_sections_are_contiguous() {
    let mut seen: Vec<&str> = Vec::new();
    for key in KEYS {
        let section = key.name.split('.').next().unwrap();
        if seen.last() != Some(&section) {
            assert!(!seen.contains(&section), "{section} is split");
            seen.push(section);
        }
    }
    let mut names: Vec<_> = describe().into_iter().map(|row| row.key).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KEYS.len());
    assert_eq!(RawConfig::default().origin("node.name").to_string(), "default");
}

/// `BLESS=1 cargo test -p distric-core config` writes the page.
#[test]
fn the_page_is_generated_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
    let page = reference_markdown();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap_or_default() == page, "docs/config.md is stale; run with BLESS=1");
}
