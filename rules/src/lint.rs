//! Checks over a whole rule set: references and cycles (errors), and what its author hardly means (warnings).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::condition::{Comparison, Condition};
use crate::conflict::{never_holds, undecided_order};
use crate::document::{Problems, did_you_mean};
use crate::order::evaluation_order;
use crate::path::Path;
use crate::predicate::{Interval, Leaf, Predicate, Scalars};
use crate::price::{check_prices, lint_prices};
use crate::rule::{Requires, Rule};
use crate::ruleset::{CheckContext, RuleSet};
use crate::transform::unknown_table;

/// Most rules with transforms that one rule may come after, directly or through others.
pub const TRANSFORMING_ANCESTORS_MAX: usize = 1_024;

/// Adds an error for every name that nothing has, for every cycle of rules, and for what costs too much. `declared` are further ids that count as rules.
pub(crate) fn check_references(set: &RuleSet, declared: &BTreeSet<&str>, context: &CheckContext<'_>, problems: &mut Problems) {
    let tables: Vec<&str> = set.lookups().keys().map(String::as_str).collect();
    for rule in set.iter() {
        for (i, (id, at)) in rule.after.iter().enumerate() {
            let part = format!("after[{i}]");
            match set.rule(id) {
                Some(_) if **id == *rule.id => {
                    problems.push(rule.error(*at, &part, format!("`{id}` comes after itself"), Some("another rule")))
                }
                Some(other) if !other.enabled && rule.requires == Requires::All => {
                    problems.push(rule.warning(*at, &part, format!("`{id}` is disabled, so this rule can never match")));
                }
                Some(_) => {}
                None if declared.contains(&**id) => {}
                None => {
                    let ids: Vec<&str> = set.iter().map(Rule::id).collect();
                    let near = did_you_mean(id, &ids).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                    problems.push(rule.error(*at, &part, format!("unknown rule `{id}`{near}"), Some("the id of a rule in this catalog")));
                }
            }
        }
        for (i, start) in rule.starts.iter().enumerate() {
            if let Some(known) = context.known_workflows.filter(|known| !known.contains(&*start.workflow)) {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                let near = did_you_mean(&start.workflow, &names).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                let message = format!("unknown workflow `{}`{near}", start.workflow);
                problems.push(rule.error(start.at, &format!("actions[{i}].workflow"), message, Some("a workflow that exists")));
            }
        }
        for (i, table) in rule.transforms.iter().enumerate().filter_map(|(i, transform)| Some((i, transform.table()?))) {
            // A rule that was read together with its tables has been checked, with a better place.
            if rule.path.is_empty() && !set.lookups().contains_key(table) {
                unknown_table(table, rule.at, &format!("transform[{i}].in"), &tables, problems);
            }
        }
    }
    check_cycles(set, problems);
    check_prices(set, problems);
}

fn check_cycles(set: &RuleSet, problems: &mut Problems) {
    if set.iter().all(|rule| rule.after.is_empty()) {
        return;
    }
    let rules: Vec<&Rule> = set.iter().collect();
    let Err(cycles) = evaluation_order(&rules) else { return };
    for cycle in cycles.iter().filter(|cycle| cycle.len() > 1) {
        let first = rules[cycle[0]];
        let names: Vec<&str> = cycle.iter().chain(&cycle[..1]).map(|i| rules[*i].id()).collect();
        let at = first.after.first().map_or(first.at, |(_, at)| *at);
        problems.push(first.error(at, "after", format!("these rules wait for each other: {}", names.join(" after ")), Some("no cycle")));
    }
}

/// Adds a warning for every rule that can never match, is never reached, is written twice, or meets another one undecided, and one for
/// what can only be evaluated rule by rule.
pub(crate) fn lint(set: &RuleSet, problems: &mut Problems) {
    let rules: Vec<&Rule> = set.iter().filter(|rule| rule.enabled).collect();
    for rule in &rules {
        if let Some(message) = never_holds(&rule.full_condition(), &[]) {
            problems.push(rule.warning(rule.condition_at, "conditions", message));
        }
    }
    duplicates(&rules, problems);
    undecided_order(&rules, set.fail_fast(), problems);
    lint_prices(&rules, problems);
    let Ok(order) = evaluation_order(&rules) else { return };
    let mut stopping: Vec<(&Rule, Vec<String>)> = Vec::new();
    for rule in order.into_iter().map(|i| rules[i]) {
        if !stopping.is_empty() {
            let conjuncts = conjunct_keys(rule);
            let covers = |(_, keys): &&(&Rule, Vec<String>)| {
                keys.is_empty() || (rule.after.is_empty() && keys.iter().all(|key| conjuncts.contains(key)))
            };
            if let Some((stop, _)) = stopping.iter().find(covers) {
                problems.push(rule.warning(
                    rule.at,
                    "",
                    format!("`{}` is never reached: whenever it would match, `{}` has matched before and stopped", rule.id, stop.id),
                ));
            }
        }
        let stops = rule.stop || (set.fail_fast() && !rule.starts.is_empty());
        if stops && rule.after.is_empty() && is_conjunction(&rule.condition) {
            stopping.push((rule, conjunct_keys(rule).into_iter().collect()));
        }
    }
}

/// Whether the condition is nothing but comparisons under ANDs.
fn is_conjunction(condition: &Condition) -> bool {
    match condition {
        Condition::All(list) => list.iter().all(is_conjunction),
        Condition::Compare(_) => true,
        Condition::Any(_) | Condition::Not(_) => false,
    }
}

/// The comparisons under the ANDs of a rule as texts, to compare rules with each other.
fn conjunct_keys(rule: &Rule) -> BTreeSet<String> {
    let condition = rule.full_condition();
    condition.conjuncts().into_iter().map(|c| format!("{}\u{0}{}\u{0}{}", c.field, c.operator.name(), c.value)).collect()
}

fn duplicates(rules: &[&Rule], problems: &mut Problems) {
    let mut seen: BTreeMap<String, &Rule> = BTreeMap::new();
    for rule in rules {
        let mut json = rule.to_json();
        if let Value::Object(map) = &mut json {
            ["id", "description", "priority"].into_iter().for_each(|key| {
                map.remove(key);
            });
        }
        if let Some(first) = seen.insert(json.to_string(), rule) {
            problems.push(rule.warning(rule.at, "", format!("`{}` says the same as `{}`", rule.id, first.id)));
        }
    }
}

/// What the comparisons under the ANDs demand of one field.
#[derive(Default)]
struct Demand<'a> {
    interval: Option<Interval>,
    intervals_count: usize,
    among: Vec<&'a Comparison>,
    not_among: Vec<&'a Scalars>,
    needs_value: Option<&'a Comparison>,
    absent: bool,
}

/// Why no message can fulfil the comparisons that must all hold, as far as comparisons of one field show it.
///
/// Positive comparisons may be fulfilled by different elements of a list, so two of them only exclude each other in a single value.
pub(crate) fn contradiction(conjuncts: &[&Comparison]) -> Option<String> {
    let mut demands: BTreeMap<&Path, Demand<'_>> = BTreeMap::new();
    for comparison in conjuncts.iter().copied() {
        let demand = demands.entry(&comparison.field).or_default();
        match &comparison.predicate {
            Predicate::Exists(exists) => demand.absent |= !exists,
            Predicate::NotAmong(set) => demand.not_among.push(set),
            Predicate::Among(_) => demand.among.push(comparison),
            Predicate::Within(interval) => {
                demand.interval = Some(demand.interval.map_or(*interval, |other| other.and(interval)));
                demand.intervals_count += 1;
            }
            _ => {}
        }
        if !matches!(comparison.predicate, Predicate::Exists(_)) {
            demand.needs_value.get_or_insert(comparison);
        }
    }
    demands.into_iter().find_map(|(field, demand)| demand.contradiction(field))
}

impl Demand<'_> {
    fn contradiction(&self, field: &Path) -> Option<String> {
        if let Some(comparison) = self.needs_value.filter(|_| self.absent) {
            return Some(format!("`{field}` must be missing and must fulfil `{}`: this never holds", comparison.operator.name()));
        }
        let values: Vec<&Value> = self.among.first().map(|comparison| listed(&comparison.value)).unwrap_or_default();
        let possible = |value: &Value| {
            let Some(leaf) = Leaf::of(value) else { return false };
            let among = self.among.iter().all(|comparison| matches!(&comparison.predicate, Predicate::Among(set) if set.contains(leaf)));
            among && self.interval.is_none_or(|interval| matches!(leaf, Leaf::Number(n) if interval.contains(n)))
        };
        let excluded = |value: &Value| Leaf::of(value).is_some_and(|leaf| self.not_among.iter().any(|set| set.contains(leaf)));
        if !values.is_empty() && values.iter().all(|value| excluded(value)) {
            return Some(format!("`{field}` must equal and must not equal the same value: this never holds"));
        }
        // One comparison alone that nothing fulfils was pointed at when it was read.
        if self.intervals_count + self.among.len() < 2 {
            return None;
        }
        let empty_interval = self.interval.is_some_and(|interval| interval.is_empty());
        if empty_interval || (!self.among.is_empty() && !values.iter().any(|value| possible(value))) {
            return Some(format!("no single value of `{field}` fulfils all comparisons of it: this holds for lists only, if at all"));
        }
        None
    }
}

/// The values of `equals` or `in`.
fn listed(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}
