//! Conflicts: rules that can never match, and rules that meet without anybody having said which comes first.

use std::collections::BTreeMap;

use crate::condition::{Comparison, Condition};
use crate::document::Problems;
use crate::lint::contradiction;
use crate::path::{Path, dotted};
use crate::predicate::{Leaf, Predicate};
use crate::rule::Rule;

/// Most pairs of rules that are compared with each other.
const PAIRS_MAX: usize = 1 << 16;
/// Most alternatives of one OR that are looked at; with more of them, one is taken to be possible.
const ALTERNATIVES_MAX: usize = 64;

/// Why no message can fulfil a condition, as far as comparisons of one field show it. `outer` must hold as well.
pub(crate) fn never_holds(condition: &Condition, outer: &[&Comparison]) -> Option<String> {
    let mut together = condition.conjuncts();
    let own_count = together.len();
    together.extend_from_slice(outer);
    if own_count > 0
        && let Some(message) = contradiction(&together)
    {
        return Some(message);
    }
    let mut lists = Vec::new();
    collect_alternatives(condition, &mut lists);
    lists.into_iter().find_map(|list| {
        if list.is_empty() {
            return Some("an empty `any` never holds".into());
        }
        if list.len() > ALTERNATIVES_MAX {
            return None;
        }
        let reasons: Option<Vec<String>> = list.iter().map(|alternative| never_holds(alternative, &together)).collect();
        let reasons = reasons?;
        let never = reasons.iter().all(|reason| reason.ends_with("never holds"));
        let end = if never { "this never holds" } else { "this holds for lists only, if at all" };
        Some(format!("every alternative of an `any` contradicts what must hold beside it: {end}"))
    })
}

/// The ORs that must hold: those reached through ANDs only.
fn collect_alternatives<'c>(condition: &'c Condition, lists: &mut Vec<&'c [Condition]>) {
    match condition {
        Condition::All(list) => list.iter().for_each(|inner| collect_alternatives(inner, lists)),
        Condition::Any(list) => lists.push(list),
        Condition::Not(_) | Condition::Compare(_) => {}
    }
}

/// Warns about rules of one priority that may match together when it matters which is first: when one of them stops, or when both
/// write one field. Between them only their ids decide.
pub(crate) fn undecided_order(rules: &[&Rule], fail_fast: bool, problems: &mut Problems) {
    let stops = |rule: &Rule| rule.stop || (fail_fast && !rule.starts.is_empty());
    let mut by_priority: BTreeMap<i64, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        by_priority.entry(rule.priority).or_default().push(rule);
    }
    let mut pairs_count = 0;
    for list in by_priority.values() {
        let acting: Vec<&&Rule> = list.iter().filter(|rule| stops(rule) || !rule.transforms.is_empty()).collect();
        for first in acting {
            let reason = list.iter().find_map(|second| {
                // A pair is looked at once, from the one that stops; of two that act alike from the one with the lesser id.
                let is_first = first.id < second.id || (stops(first) && !stops(second));
                if std::ptr::eq(*first, *second) || !is_first || pairs_count >= PAIRS_MAX {
                    return None;
                }
                pairs_count += 1;
                let ordered = |a: &Rule, b: &Rule| a.after.iter().any(|(id, _)| *id == b.id);
                let field = first.transforms.iter().find(|a| second.transforms.iter().any(|b| a.writes() == b.writes()));
                let matters = stops(first) || stops(second) || field.is_some();
                if !matters || ordered(first, second) || ordered(second, first) || exclude(first, second) {
                    return None;
                }
                let what = match field {
                    _ if stops(first) && stops(second) => "both stop".to_string(),
                    _ if stops(first) => format!("`{}` stops", first.id),
                    _ if stops(second) => format!("`{}` stops", second.id),
                    Some(transform) => format!("both write `{}`", dotted(transform.writes())),
                    None => return None,
                };
                Some(format!(
                    "`{}` and `{}` may match together and {what}; at equal priority only their ids say which is first",
                    first.id, second.id
                ))
            });
            if let Some(message) = reason {
                problems.push(first.warning(first.at, "priority", message));
            }
        }
    }
    if pairs_count >= PAIRS_MAX {
        let message = format!("not all pairs of rules at equal priority were compared, only PAIRS_MAX ({PAIRS_MAX})");
        problems.warning(crate::document::Position::default(), "rules", message, None);
    }
}

/// Whether no single value of some field fulfils what both demand of it. Lists, of which each may take another element, are left aside.
fn exclude(first: &Rule, second: &Rule) -> bool {
    if let (Some(a), Some(b)) = (&first.event_type, &second.event_type)
        && a != b
    {
        return true;
    }
    let (a, b) = (first.full_condition(), second.full_condition());
    let mut of_first: BTreeMap<&Path, Vec<&Predicate>> = BTreeMap::new();
    for comparison in a.conjuncts() {
        of_first.entry(field_of(comparison)).or_default().push(&comparison.predicate);
    }
    b.conjuncts().into_iter().any(|comparison| {
        let others = of_first.get(field_of(comparison)).map(Vec::as_slice).unwrap_or_default();
        others.iter().any(|other| differ(other, &comparison.predicate) || differ(&comparison.predicate, other))
    })
}

/// `event_type` and `$event_type` mean the same in all but odd messages.
fn field_of(comparison: &Comparison) -> &Path {
    match &comparison.field {
        Path::Payload(segments) if matches!(segments.as_slice(), [only] if only == "event_type") => &Path::EventType,
        field => field,
    }
}

/// Whether no single value fulfils both.
fn differ(a: &Predicate, b: &Predicate) -> bool {
    match (a, b) {
        (Predicate::Among(a), Predicate::Among(b)) => !a.iter().any(|leaf| b.contains(leaf)),
        (Predicate::Among(a), Predicate::NotAmong(b)) => a.iter().all(|leaf| b.contains(leaf)),
        (Predicate::Among(a), Predicate::Within(interval)) => !a.iter().any(|leaf| matches!(leaf, Leaf::Number(n) if interval.contains(n))),
        (Predicate::Within(a), Predicate::Within(b)) => a.and(b).is_empty(),
        (Predicate::Exists(false), other) => !matches!(other, Predicate::Exists(false)),
        _ => false,
    }
}
