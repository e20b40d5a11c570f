//! What it costs to check and compile a catalog, and a change of one.

use std::time::Instant;

use distric_oracle::{Mix, Workload};
use distric_rules::{CHANGED_MAX, Catalog, CheckContext, Rule, RuleSet, check, check_rule};

use crate::measure::cpu_ns;

/// How often each is measured; the median counts.
const ROUNDS: usize = 7;

/// Prints a line for each.
pub fn measure(mix: Mix, rules_count: usize) {
    let drawn = Workload::drawn(mix, rules_count, 1, 42);
    let others = Workload::drawn(mix, CHANGED_MAX, 1, 43);
    let text = drawn.rules_document();
    let context = CheckContext::default();
    let set = check("rules.json", &text, &context).catalog.expect("the rules are right");
    let json = set.to_json();
    let bodies: Vec<String> = set.iter().map(|rule| rule.to_json().to_string()).collect();
    let catalog = Catalog::compile(1, &set).expect("and compile");
    let new: Vec<Rule> = others.rules.iter().map(|rule| check_rule("new", &rule.to_string()).expect("the rules are right")).collect();
    let with = |count: usize| set.patched(new[..count].to_vec(), [], &context).catalog.expect("the rules are right");
    let (one, many) = (with(1), with(CHANGED_MAX));
    row("check the text", || drop(check("rules.json", &text, &context)));
    row("read the canonical form", || drop(RuleSet::from_json(&json)));
    row("read its text rule by rule", || bodies.iter().for_each(|body| drop(check_rule("catalog", body))));
    row("compile", || drop(Catalog::compile(1, &set)));
    row("check a change of one rule", || drop(with(1)));
    row("compile a change of one rule", || drop(catalog.recompile(2, &one)));
    row(&format!("check a change of {CHANGED_MAX}"), || drop(with(CHANGED_MAX)));
    row(&format!("compile a change of {CHANGED_MAX}"), || drop(catalog.recompile(2, &many)));
}

fn row(what: &str, mut work: impl FnMut()) {
    let mut rounds: Vec<(u64, u64)> = (0..ROUNDS)
        .map(|_| {
            let (began, started) = (cpu_ns(), Instant::now());
            work();
            (started.elapsed().as_nanos() as u64, cpu_ns() - began)
        })
        .collect();
    rounds.sort_unstable();
    let (wall, cpu) = rounds[ROUNDS / 2];
    println!("{what:<32} {:>9.1} ms  cpu {:>9.1} ms", wall as f64 / 1e6, cpu as f64 / 1e6);
}
