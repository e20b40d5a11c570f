//! The order of evaluation: rules after the rules that they come `after`; among those that are ready, priority, then id.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::rule::Rule;

/// Positions of the rules in the order of evaluation. Errors: every cycle found, as the ids along it.
///
/// Names that no rule has are passed over. Kahn's algorithm with a priority queue: O((n + edges) log n). Where no rule comes after another
/// one, priority and id are all there is; `rules` stand in the order of their ids.
pub(crate) fn evaluation_order(rules: &[&Rule]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    debug_assert!(rules.is_sorted_by_key(|rule| rule.id()), "a set gives its rules in the order of their ids");
    if rules.iter().all(|rule| rule.after.is_empty()) {
        let mut order: Vec<usize> = (0..rules.len()).collect();
        order.sort_by_key(|i| Reverse(rules[*i].priority));
        return Ok(order);
    }
    let by_id: BTreeMap<&str, usize> = rules.iter().enumerate().map(|(i, rule)| (rule.id(), i)).collect();
    let before: Vec<Vec<usize>> = rules.iter().map(|rule| predecessors(rule, &by_id)).collect();
    let mut later: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
    let mut open: Vec<usize> = before.iter().map(Vec::len).collect();
    for (i, predecessors) in before.iter().enumerate() {
        predecessors.iter().for_each(|p| later[*p].push(i));
    }
    let key = |i: usize| (Reverse(rules[i].priority), rules[i].id(), i);
    let mut ready: BTreeSet<_> = (0..rules.len()).filter(|i| open[*i] == 0).map(key).collect();
    let mut order = Vec::with_capacity(rules.len());
    while let Some((.., i)) = ready.pop_first() {
        order.push(i);
        for next in &later[i] {
            open[*next] -= 1;
            if open[*next] == 0 {
                ready.insert(key(*next));
            }
        }
    }
    if order.len() == rules.len() { Ok(order) } else { Err(cycles(&before, &open)) }
}

fn predecessors(rule: &Rule, by_id: &BTreeMap<&str, usize>) -> Vec<usize> {
    let mut found: Vec<usize> = rule.after.iter().filter_map(|(id, _)| by_id.get(&**id).copied()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Walks back from every rule that never became ready; a walk that meets itself has found a cycle.
fn cycles(before: &[Vec<usize>], open: &[usize]) -> Vec<Vec<usize>> {
    let mut walk_of = vec![usize::MAX; before.len()];
    let mut found = Vec::new();
    for start in (0..before.len()).filter(|i| open[*i] > 0) {
        let mut trail = Vec::new();
        let mut at = start;
        while walk_of[at] == usize::MAX {
            walk_of[at] = start;
            trail.push(at);
            at = *before[at].iter().find(|p| open[**p] > 0).expect("a rule that is not ready waits for another that is not");
        }
        if walk_of[at] == start {
            let from = trail.iter().position(|i| *i == at).unwrap_or(0);
            found.push(trail.split_off(from));
        }
    }
    found
}
