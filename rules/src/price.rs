//! Prices: what a rule and a set of rules may cost at most, estimated before they are used.
//!
//! An estimate in nanoseconds of what rules cost that no index helps with, on a message whose every text has 256 bytes. A rule that has
//! an equality, a range, a network, or a text to look for among what must hold is found by it and costs next to nothing until it nearly matches;
//! one without is evaluated on every message. The figures are rounded up from measurements of single predicates; they are limits against
//! catalogs that would hold up every message, and no forecast.

use crate::condition::{Comparison, Condition};
use crate::document::{Position, Problem, Problems, Severity};
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
}

impl Price {
    /// Prices a rule.
    pub fn of(rule: &Rule) -> Self {
        let (mut conditions_count, mut all_ns) = (0, 0);
        add(&rule.condition, &mut conditions_count, &mut all_ns);
        let is_found = rule.event_type.is_some() || has_handle(&rule.condition);
        Self { conditions_count, every_message_ns: if is_found { 0 } else { all_ns } }
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
        Predicate::IgnoreCase(_) | Predicate::Wildcard(_) => TEXT_BYTES / 2,
        Predicate::Regex(_) => 2 * TEXT_BYTES,
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
        let price = Price::of(rule);
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
    if every_message_ns > CATALOG_NS_MAX {
        let message =
            format!("the rules to which nothing leads that must hold may cost every message {} µs together", every_message_ns / 1_000);
        let expected = format!("at most CATALOG_NS_MAX ({} µs), or {HANDLES}", CATALOG_NS_MAX / 1_000);
        problems.error(Position::default(), "rules", message, Some(&expected));
    }
}

/// What a rule can be found by.
const HANDLES: &str = "an equality, a range, a network, or a text to look for that must hold";

/// Warns when many rules can only be evaluated one by one.
pub(crate) fn lint_prices(rules: &[&Rule], problems: &mut Problems) {
    let costly = rules.iter().map(|rule| (rule, Price::of(rule).every_message_ns)).filter(|(_, ns)| *ns > 0);
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
