//! What it costs to check and compile a catalog, and a change of one.

use std::time::Instant;

use distric_oracle::{Mix, Workload};
use distric_rules::{Alone, CHANGED_MAX, Catalog, CheckContext, Rule, RuleSet, check, check_rule, check_with};

use crate::hands::Two;
use crate::measure::{cpu_ns, process_cpu_ns};

/// How often each is measured; the median counts.
const ROUNDS: usize = 7;
/// A catalog of more rules is measured so often.
const LARGE: (usize, usize) = (50_000, 3);

/// Prints a line for each.
pub fn measure(mix: Mix, rules_count: usize) {
    let rounds = if rules_count > LARGE.0 { LARGE.1 } else { ROUNDS };
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
    row(rounds, "check the text", || drop(check("rules.json", &text, &context)));
    row(rounds, "check the text, errors only", || drop(check("rules.json", &text, &CheckContext { errors_only: true, ..context })));
    row(rounds, "the same, two threads", || drop(check_with(&Two, "rules.json", &text, &CheckContext { errors_only: true, ..context })));
    let texts: Vec<&str> = bodies.iter().map(String::as_str).collect();
    row(rounds, "read rules as a node does", || drop(RuleSet::from_parts(&Alone, "{}", &texts)));
    row(rounds, "the same, two threads", || drop(RuleSet::from_parts(&Two, "{}", &texts)));
    row(rounds, "read the canonical form", || drop(RuleSet::from_json(&json)));
    row(rounds, "read its text rule by rule", || bodies.iter().for_each(|body| drop(check_rule("catalog", body))));
    row(rounds, "compile", || drop(Catalog::compile(1, &set)));
    row(rounds, "compile, two threads", || drop(Catalog::compile_with(&Two, 1, &set)));
    row(rounds, "check a change of one rule", || drop(with(1)));
    row(rounds, "compile a change of one rule", || drop(catalog.recompile(2, &one)));
    row(rounds, &format!("check a change of {CHANGED_MAX}"), || drop(with(CHANGED_MAX)));
    row(rounds, &format!("compile a change of {CHANGED_MAX}"), || drop(catalog.recompile(2, &many)));
}

/// *this thread*: its own share of the processor time, which is what the work takes when the other thread has a core to itself.
fn row(rounds: usize, what: &str, mut work: impl FnMut()) {
    let mut measured: Vec<(u64, u64, u64)> = (0..rounds)
        .map(|_| {
            let (own, began, started) = (cpu_ns(), process_cpu_ns(), Instant::now());
            work();
            (process_cpu_ns() - began, cpu_ns() - own, started.elapsed().as_nanos() as u64)
        })
        .collect();
    measured.sort_unstable();
    let (cpu, own, wall) = measured[measured.len() / 2];
    let [cpu, own, wall] = [cpu, own, wall].map(|ns| ns as f64 / 1e6);
    println!("{what:<32} {wall:>9.1} ms  cpu {cpu:>9.1} ms  this thread {own:>9.1} ms");
}
