//! The matcher agrees with a naive reference on drawn rules and messages: see `fixtures/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use distric_rules::{Catalog, CheckContext, Envelope, RuleSet, Severity, check};
use serde_json::Value;

const MIXES: [&str; 4] = ["simple", "mixed", "regex", "nested"];
const SEEDS: [u32; 2] = [7, 42];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn checked(path: &Path) -> RuleSet {
    let checked = check(&path.to_string_lossy(), &read(path), &CheckContext::default());
    let errors: Vec<String> = checked.problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect();
    checked.catalog.unwrap_or_else(|| panic!("{errors:#?}"))
}

/// Compares every message; returns how many matches there were.
fn compare(rules: &RuleSet, folder: &Path) -> usize {
    let catalog = Catalog::compile(1, rules).expect("a checked set compiles");
    let (messages, expected) = (read(&folder.join("messages.jsonl")), read(&folder.join("expected.jsonl")));
    assert_eq!(messages.lines().count(), expected.lines().count());
    let mut matches_count = 0;
    for (i, (message, line)) in messages.lines().zip(expected.lines()).enumerate() {
        let expected: Value = serde_json::from_str(line).unwrap();
        let decision = catalog.decide(&Envelope::default(), message.as_bytes()).unwrap();
        assert_eq!(serde_json::json!(decision.rules), expected["ids"], "{} message {i}: {message}", folder.display());
        matches_count += decision.rules.len();
    }
    matches_count
}

#[test]
fn every_mix_gets_the_answers_of_the_reference() {
    for mix in MIXES {
        for seed in SEEDS {
            let folder = fixture(&format!("{mix}-{seed}"));
            let matches_count = compare(&checked(&folder.join("rules.json")), &folder);
            assert!(matches_count > 0, "{mix}-{seed} has no match at all");
        }
    }
}

#[test]
fn yaml_and_canonical_json_mean_the_same() {
    let folder = fixture("mixed-7");
    let (json, yaml) = (checked(&folder.join("rules.json")), checked(&folder.join("rules.yaml")));
    assert_eq!(json.to_json(), yaml.to_json());
    compare(&yaml, &folder);
    for mix in MIXES {
        let folder = fixture(&format!("{mix}-42"));
        let rules = checked(&folder.join("rules.json"));
        let canonical = rules.to_json();
        let back = RuleSet::from_json(&canonical).expect("canonical JSON is a catalog");
        assert_eq!(back.to_json(), canonical);
        compare(&back, &folder);
        let text = serde_json::to_string_pretty(&canonical).unwrap();
        assert_eq!(check("export.json", &text, &CheckContext::default()).catalog.expect("its text is one too").to_json(), canonical);
    }
}

#[test]
fn explanations_come_to_the_same_decision() {
    for mix in MIXES {
        let folder = fixture(&format!("{mix}-7"));
        let catalog = Catalog::compile(1, &checked(&folder.join("rules.json"))).unwrap();
        for message in read(&folder.join("messages.jsonl")).lines().step_by(10) {
            let payload: Value = serde_json::from_str(message).unwrap();
            let decision = catalog.decide_value(&Envelope::default(), &payload);
            let explanation = catalog.explain(&Envelope::default(), &payload, None);
            assert_eq!(explanation.matched, decision.rules);
            for rule in &explanation.rules {
                assert_eq!(rule.condition.holds(), decision.rules.contains(&rule.id), "{}", rule.id);
            }
        }
    }
}

/// Compares workloads that are not part of the repository: `DISTRIC_RULES_WORKLOADS=folder:folder`.
#[test]
fn further_workloads_agree() {
    for folder in std::env::var("DISTRIC_RULES_WORKLOADS").unwrap_or_default().split(':').filter(|folder| !folder.is_empty()) {
        let started = std::time::Instant::now();
        let rules = checked(&Path::new(folder).join("rules.json"));
        let matches_count = compare(&rules, Path::new(folder));
        println!("{folder}: {matches_count} matches agree, {:?}", started.elapsed());
    }
}
