//! Prices: what a rule and a set of rules may cost at most, estimated before they are used.
//!
//! An estimate in nanoseconds of what rules cost that no index helps with, on a message whose every text has 256 bytes. A rule that has
//! an equality, a range, a network, or a text to look for among what must hold is found by it and costs next to nothing until it nearly matches;
//! one without is evaluated on every message. The figures are rounded up from measurements of single predicates (docs/rules.md, "What it
//! costs"); they are limits against catalogs that would hold up every message, and no forecast.
//! Regular expressions have a budget of memory too, since each is compiled whether a message needs it or not.

use std::collections::BTreeMap;

use crate::condition::{Comparison, Condition};
use crate::document::{Position, Problem, Problems, Severity};
use crate::pattern::Pattern;
use crate::predicate::Predicate;
use crate::rule::Rule;
use crate::ruleset::RuleSet;

/// Most comparisons in one rule.
pub const RULE_CONDITIONS_MAX: usize = 4_096;
/// Most comparisons in all rules of a set.
pub const CATALOG_CONDITIONS_MAX: usize = 4_000_000;
/// Most nanoseconds that one rule may be estimated to cost every message.
pub const RULE_NS_MAX: u64 = 100_000;
/// Most nanoseconds that all rules together may be estimated to cost every message.
pub const CATALOG_NS_MAX: u64 = 10_000_000;
/// Most bytes that the regular expressions of a set, disabled rules included, may take when compiled; the same text counts once.
pub const CATALOG_REGEX_BYTES_MAX: u64 = 1 << 30;
/// Rules that are estimated to cost every message more than this are worth a warning, nanoseconds.
const NOTABLE_NS: u64 = 100_000;
/// Length of the texts for which estimates are made, bytes.
const TEXT_BYTES: u64 = 256;

/// Alternatives of one rule that the index can hold apart; more of them are evaluated one after the other.
const ALTERNATIVES_MAX: usize = crate::index::ALTERNATIVES_MAX;

/// The estimate for one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Price {
    /// Comparisons.
    pub conditions_count: usize,
    /// What it costs a message that it has nothing to do with, nanoseconds.
    pub every_message_ns: u64,
    /// Whether there is a regular expression among its comparisons.
    pub has_regex: bool,
}

impl Price {
    /// Prices a condition, together with an equality of the event type or without.
    pub fn of(condition: &Condition, has_event_type: bool) -> Self {
        let (mut conditions_count, mut all_ns) = (0, 0);
        add(condition, &mut conditions_count, &mut all_ns);
        let is_found = has_event_type || has_handle(condition);
        let mut has_regex = false;
        each_regex(condition, &mut |_, _| has_regex = true);
        Self { conditions_count, every_message_ns: if is_found { 0 } else { all_ns }, has_regex }
    }
}

fn add(condition: &Condition, count: &mut usize, ns: &mut u64) {
    match condition {
        Condition::All(list) | Condition::Any(list) => list.iter().for_each(|inner| add(inner, count, ns)),
        Condition::Not(inner) => add(inner, count, ns),
        Condition::Compare(comparison) => {
            *count += 1;
            *ns += comparison_ns(&comparison.predicate);
        }
    }
}

/// What it costs to evaluate a comparison for the first time on a message, nanoseconds.
fn comparison_ns(predicate: &Predicate) -> u64 {
    match predicate {
        Predicate::Among(_) | Predicate::NotAmong(_) | Predicate::Within(_) | Predicate::Exists(_) => 5,
        // One pass over the text finds the literals of all rules.
        Predicate::Prefix(_) | Predicate::Suffix(_) | Predicate::Contains { .. } => 10,
        Predicate::Regex(pattern) if !pattern.literals().is_empty() => 20,
        Predicate::Wildcard(wildcard) if wildcard.literals().next().is_some() => 20,
        Predicate::Cidr(_) => 50,
        Predicate::Before(_) | Predicate::After(_) => 100,
        Predicate::Length(_) => TEXT_BYTES / 4,
        Predicate::Wildcard(_) => TEXT_BYTES / 2,
        // Of a text that is not ASCII, each character is mapped.
        Predicate::IgnoreCase(_) | Predicate::Regex(_) => 2 * TEXT_BYTES,
    }
}

/// Whether the index can find the rule by something that must hold.
fn has_handle(condition: &Condition) -> bool {
    match condition {
        Condition::All(list) => list.iter().any(has_handle),
        Condition::Any(list) => list.len() <= ALTERNATIVES_MAX && list.iter().all(has_handle),
        Condition::Not(_) => false,
        Condition::Compare(comparison) => is_handle(comparison),
    }
}

fn is_handle(comparison: &Comparison) -> bool {
    match &comparison.predicate {
        Predicate::Among(_) | Predicate::Within(_) | Predicate::Cidr(_) => true,
        Predicate::Prefix(text) | Predicate::Suffix(text) | Predicate::Contains { text: Some(text), .. } => !text.is_empty(),
        Predicate::Regex(pattern) => !pattern.literals().is_empty(),
        Predicate::Wildcard(wildcard) => wildcard.literals().next().is_some(),
        _ => false,
    }
}

/// Adds an error for every rule that is too expensive, and one when all of them together are.
pub(crate) fn check_prices(set: &RuleSet, problems: &mut Problems) {
    let (mut conditions_count, mut every_message_ns) = (0, 0_u64);
    for rule in set.iter().filter(|rule| rule.enabled) {
        let price = rule.price;
        conditions_count += price.conditions_count;
        every_message_ns = every_message_ns.saturating_add(price.every_message_ns);
        if price.conditions_count > RULE_CONDITIONS_MAX {
            let message = format!("the rule has {} comparisons", price.conditions_count);
            let expected = format!("at most RULE_CONDITIONS_MAX ({RULE_CONDITIONS_MAX})");
            problems.push(rule.error(rule.condition_at, "conditions", message, Some(&expected)));
        }
        if price.every_message_ns > RULE_NS_MAX {
            let message =
                format!("this may cost every message {} µs, since nothing that must hold leads to it", price.every_message_ns / 1_000);
            let expected = format!("at most RULE_NS_MAX ({} µs), or {HANDLES}", RULE_NS_MAX / 1_000);
            problems.push(rule.error(rule.condition_at, "conditions", message, Some(&expected)));
        }
    }
    if conditions_count > CATALOG_CONDITIONS_MAX {
        let message = format!("the rules have {conditions_count} comparisons together");
        let expected = format!("at most CATALOG_CONDITIONS_MAX ({CATALOG_CONDITIONS_MAX})");
        problems.error(Position::default(), "rules", message, Some(&expected));
    }
    check_regexes(set, CATALOG_REGEX_BYTES_MAX, problems);
    if every_message_ns > CATALOG_NS_MAX {
        let message =
            format!("the rules to which nothing leads that must hold may cost every message {} µs together", every_message_ns / 1_000);
        let expected = format!("at most CATALOG_NS_MAX ({} µs), or {HANDLES}", CATALOG_NS_MAX / 1_000);
        problems.error(Position::default(), "rules", message, Some(&expected));
    }
}

/// Bytes that the regular expressions of a set take when compiled, and the rule with the largest one.
fn regex_bytes(set: &RuleSet) -> (u64, Option<&Rule>) {
    let mut by_text: BTreeMap<String, u64> = BTreeMap::new();
    let mut largest: Option<(u64, &Rule)> = None;
    for rule in set.iter().filter(|rule| rule.price.has_regex) {
        let mut note = |comparison: &Comparison, pattern: &Pattern| {
            let bytes = pattern.program_bytes();
            by_text.insert(comparison.value.to_string(), bytes);
            if largest.is_none_or(|(most, _)| bytes > most) {
                largest = Some((bytes, rule));
            }
        };
        each_regex(&rule.condition, &mut note);
    }
    (by_text.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)), largest.map(|(_, rule)| rule))
}

fn each_regex(condition: &Condition, note: &mut impl FnMut(&Comparison, &Pattern)) {
    match condition {
        Condition::All(list) | Condition::Any(list) => list.iter().for_each(|inner| each_regex(inner, note)),
        Condition::Not(inner) => each_regex(inner, note),
        Condition::Compare(comparison) => {
            if let Predicate::Regex(pattern) = &comparison.predicate {
                note(comparison, pattern);
            }
        }
    }
}

fn check_regexes(set: &RuleSet, bytes_max: u64, problems: &mut Problems) {
    let (bytes, largest) = regex_bytes(set);
    if let Some(rule) = largest.filter(|_| bytes > bytes_max) {
        let message = format!(
            "the regular expressions of all rules take {} KiB when compiled; a rule with the largest one is `{}`",
            bytes >> 10,
            rule.id
        );
        let expected = format!("at most CATALOG_REGEX_BYTES_MAX ({} KiB)", bytes_max >> 10);
        problems.push(rule.error(rule.condition_at, "conditions", message, Some(&expected)));
    }
}

/// What a rule can be found by.
const HANDLES: &str = "an equality, a range, a network, or a text to look for that must hold";

/// Warns when many rules can only be evaluated one by one.
pub(crate) fn lint_prices(rules: &[&Rule], problems: &mut Problems) {
    let costly = rules.iter().map(|rule| (rule, rule.price.every_message_ns)).filter(|(_, ns)| *ns > 0);
    let (count, total_ns) = costly.clone().fold((0, 0_u64), |(count, sum), (_, ns)| (count + 1, sum.saturating_add(ns)));
    let Some((worst, worst_ns)) = costly.max_by_key(|(rule, ns)| (*ns, std::cmp::Reverse(&rule.id))) else { return };
    if total_ns > NOTABLE_NS {
        let message = format!(
            "{count} rules may cost every message {} µs together, since nothing that must hold leads to them; most of it `{}` with {} ns",
            total_ns / 1_000,
            worst.id,
            worst_ns
        );
        problems.push(Problem { severity: Severity::Warning, ..worst.error(worst.condition_at, "conditions", message, Some(HANDLES)) });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(patterns: &[&str]) -> RuleSet {
        let leaf = |pattern: &&str| json!({ "not": { "field": "a", "op": "regex", "value": pattern } });
        let rules: Vec<Value> =
            (0..).zip(patterns).map(|(i, pattern): (u32, _)| json!({ "id": format!("r{i}"), "conditions": [leaf(pattern)] })).collect();
        RuleSet::from_json(&json!({ "rules": rules })).unwrap()
    }

    #[test]
    fn a_text_counts_once_and_what_is_above_the_budget_is_refused_with_the_largest() {
        let (one, _) = regex_bytes(&set(&["a{50}b"]));
        assert!(one > 500, "{one}");
        assert_eq!(regex_bytes(&set(&["a{50}b", "a{50}b"])).0, one);
        let both = set(&["a{50}b", "a{500}b"]);
        let (sum, largest) = regex_bytes(&both);
        assert!(sum > 5 * one, "{sum}");
        assert_eq!(largest.map(|rule| &*rule.id), Some("r1"));
        let refused = |bytes_max: u64| {
            let mut problems = Problems::new("rules.yaml");
            check_regexes(&both, bytes_max, &mut problems);
            problems.into_sorted()
        };
        assert!(refused(sum).is_empty());
        let found = refused(sum - 1);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Error));
        assert!(found[0].message.contains("a rule with the largest one is `r1`"), "{}", found[0]);
        assert!(refused(0).len() == 1 && regex_bytes(&set(&[])).0 == 0);
    }
}
