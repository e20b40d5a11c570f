//! How often rules matched on this shard: counted by place while a catalog is in use, by id beyond it.
//!
//! Counting a match costs one addition in an array. When another version of the catalog comes, what was counted is added up by id,
//! once, over the rules that matched. Every rule is judged on every message of its namespace, so the messages stand for evaluations.
//! What each rule costs is estimated on every [`WORK_EVERY`]th message; shares of costs are shares of those estimates.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::Namespace;
use distric_rules::{Catalog, Decision};
use serde_json::{Value, json};

/// Counters of one shard.
#[derive(Debug, Default)]
pub(super) struct RuleCounts {
    namespaces: BTreeMap<Namespace, Counts>,
}

/// One message in so many is decided with its costs counted by rule.
pub const WORK_EVERY: u64 = 64;
/// Rules of a shard that a scrape of its metrics hears of, the costliest first.
pub const RULES_TOLD_MAX: usize = 200;

/// What one rule did on a shard, for metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleStats {
    /// The namespace of its catalog.
    pub namespace: Namespace,
    /// Its id.
    pub rule: Arc<str>,
    /// Messages that it was judged on.
    pub evaluated_count: u64,
    /// Messages that it matched.
    pub matched_count: u64,
    /// Templates and expressions of it that had no value.
    pub errors_count: u64,
    /// What it cost the messages that were looked at for that, estimated, nanoseconds.
    pub work_ns: u64,
}

#[derive(Debug, Default)]
struct Counts {
    /// Messages that were judged.
    messages: u64,
    /// Estimated costs by place, under the version in use.
    work_by_place: Vec<u64>,
    /// The same by id, under the versions before.
    work_before: BTreeMap<Arc<str>, u64>,
    /// Matches by place, under the version in use.
    by_place: Vec<u64>,
    /// Matches by id, under the versions before.
    before: BTreeMap<Arc<str>, u64>,
    /// Templates and expressions without a value, by rule.
    errors: BTreeMap<Arc<str>, u64>,
}

impl RuleCounts {
    /// Counts one decision of the catalog in use.
    pub fn count(&mut self, namespace: &Namespace, decision: &Decision) {
        let counts = match self.namespaces.get_mut(namespace) {
            Some(counts) => counts,
            None => self.namespaces.entry(namespace.clone()).or_default(),
        };
        counts.messages += 1;
        for place in &decision.places {
            let place = *place as usize;
            if place >= counts.by_place.len() {
                counts.by_place.resize(place + 1, 0);
            }
            counts.by_place[place] += 1;
        }
        for note in &decision.notes {
            *counts.errors.entry(note.rule.clone()).or_default() += 1;
        }
    }

    /// Where the costs of the next message are to be added, by place; `None` when they are not counted for it.
    pub fn work(&mut self, namespace: &Namespace) -> Option<&mut Vec<u64>> {
        let is_due = self.namespaces.get(namespace).is_none_or(|counts| counts.messages.is_multiple_of(WORK_EVERY));
        is_due.then(|| &mut self.namespaces.entry(namespace.clone()).or_default().work_by_place)
    }

    /// What rules did, the costliest and then the most matched ones, at most [`RULES_TOLD_MAX`] of a namespace; and what all of them cost
    /// and matched together.
    pub fn told<'c>(&self, rules_of: impl Fn(&Namespace) -> Option<&'c Catalog>) -> (Vec<RuleStats>, u64, u64) {
        let (mut told, mut work_sum, mut matched_sum) = (Vec::new(), 0, 0);
        for (namespace, counts) in &self.namespaces {
            let mut rows: Vec<(Arc<str>, [u64; 3])> = counts.rows(rules_of(namespace)).into_iter().collect();
            work_sum += rows.iter().map(|(_, row)| row[WORK]).sum::<u64>();
            matched_sum += rows.iter().map(|(_, row)| row[MATCHED]).sum::<u64>();
            costliest(&mut rows, RULES_TOLD_MAX);
            told.extend(rows.into_iter().map(|(rule, row)| RuleStats {
                namespace: namespace.clone(),
                rule,
                evaluated_count: counts.messages,
                matched_count: row[MATCHED],
                errors_count: row[ERRORS],
                work_ns: row[WORK],
            }));
        }
        (told, work_sum, matched_sum)
    }

    /// Another version of a namespace's rules comes: adds up what was counted under the one that goes. Rules that are gone are
    /// forgotten.
    pub fn turn(&mut self, namespace: &Namespace, old: Option<&Catalog>, new: Option<&Catalog>) {
        let Some(counts) = self.namespaces.get_mut(namespace) else { return };
        let Some(new) = new else {
            self.namespaces.remove(namespace);
            return;
        };
        for (by_place, before) in [(&mut counts.by_place, &mut counts.before), (&mut counts.work_by_place, &mut counts.work_before)] {
            for (place, count) in by_place.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                if let Some(id) = old.and_then(|old| old.id_at(place as u32)) {
                    *before.entry(id.clone()).or_default() += *count;
                }
                *count = 0;
            }
        }
        let is_there = |id: &Arc<str>| new.rules().rule(id).is_some();
        counts.before.retain(|id, _| is_there(id));
        counts.work_before.retain(|id, _| is_there(id));
        counts.errors.retain(|id, _| is_there(id));
    }

    /// What was counted for a namespace, rules with nothing to tell left out.
    pub fn view(&self, namespace: &Namespace, rules: Option<&Catalog>) -> Value {
        let Some(counts) = self.namespaces.get(namespace) else { return json!({ "messages": 0, "rules": {} }) };
        let (mut rows, mut only_cost): (Vec<_>, Vec<_>) =
            counts.rows(rules).into_iter().partition(|(_, row)| row[MATCHED] > 0 || row[ERRORS] > 0);
        // Most rules of a large catalog were looked at now and then; the costliest of those are enough.
        costliest(&mut only_cost, ROWS_MAX);
        rows.extend(only_cost);
        let rows: serde_json::Map<String, Value> = rows.into_iter().map(|(id, row)| (id.to_string(), json!(row))).collect();
        json!({ "messages": counts.messages, "rules": rows })
    }
}

/// Positions in a row.
const MATCHED: usize = 0;
const ERRORS: usize = 1;
const WORK: usize = 2;

impl Counts {
    /// By id: matches, errors, estimated cost.
    fn rows(&self, rules: Option<&Catalog>) -> BTreeMap<Arc<str>, [u64; 3]> {
        let mut rows: BTreeMap<Arc<str>, [u64; 3]> = BTreeMap::new();
        for (at, before, by_place) in [(MATCHED, &self.before, &self.by_place), (WORK, &self.work_before, &self.work_by_place)] {
            for (id, count) in before {
                rows.entry(id.clone()).or_default()[at] += count;
            }
            for (place, count) in by_place.iter().enumerate().filter(|(_, count)| **count > 0) {
                if let Some(id) = rules.and_then(|rules| rules.id_at(place as u32)) {
                    rows.entry(id.clone()).or_default()[at] += count;
                }
            }
        }
        for (id, errors) in &self.errors {
            rows.entry(id.clone()).or_default()[ERRORS] += errors;
        }
        rows
    }
}

/// Keeps the costliest rows, of equally costly ones those with most matches.
fn costliest<Id: Ord>(rows: &mut Vec<(Id, [u64; 3])>, count_max: usize) {
    rows.sort_unstable_by(|(a, x), (b, y)| (y[WORK], y[MATCHED]).cmp(&(x[WORK], x[MATCHED])).then_with(|| a.cmp(b)));
    rows.truncate(count_max);
}

/// Most rules in one answer.
const ROWS_MAX: usize = 1_000;

/// The shards' counters as one document: the costliest rules first, then those with most matches.
pub(super) fn finish(parts: Vec<Value>) -> Value {
    let mut messages = 0;
    let mut sums: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for part in &parts {
        messages += part["messages"].as_u64().unwrap_or(0);
        for (id, counts) in part["rules"].as_object().into_iter().flatten() {
            let sum = sums.entry(id.clone()).or_default();
            for (at, sum) in sum.iter_mut().enumerate() {
                *sum += counts[at].as_u64().unwrap_or(0);
            }
        }
    }
    let matched_count = sums.values().filter(|row| row[MATCHED] > 0).count();
    let work_ns: u64 = sums.values().map(|row| row[WORK]).sum();
    let mut rows: Vec<(String, [u64; 3])> = sums.into_iter().collect();
    costliest(&mut rows, ROWS_MAX);
    let share = |row: &[u64; 3]| if work_ns == 0 { Value::Null } else { json!(cost_share(row[WORK], work_ns)) };
    let items: Vec<Value> = rows
        .into_iter()
        .map(|(id, row)| {
            json!({ "rule": id, "evaluated": messages, "matched": row[MATCHED], "errors": row[ERRORS], "cost_share": share(&row) })
        })
        .collect();
    json!({ "messages": messages, "rules_matched_count": matched_count, "items": items })
}

/// The part that a rule has of all estimated costs, 0 to 1, to a millionth.
pub fn cost_share(work_ns: u64, sum_ns: u64) -> f64 {
    (work_ns as f64 / sum_ns.max(1) as f64 * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use distric_rules::{Envelope, RuleSet};

    use super::*;

    fn catalog(version: u64, ids: &[&str]) -> Catalog {
        let rule = |id: &&str| json!({ "id": id, "conditions": [{ "field": "note", "op": "regex", "value": "[ab][cd]" }] });
        let rules: Vec<Value> = ids.iter().map(rule).collect();
        Catalog::compile(version, &RuleSet::from_json(&json!({ "rules": rules })).unwrap()).unwrap()
    }

    fn judge(counts: &mut RuleCounts, catalog: &Catalog, times: u64) {
        let namespace = Namespace::default();
        for _ in 0..times {
            let payload = br#"{"note": "xbcx"}"#;
            let decision = match counts.work(&namespace) {
                Some(work) => catalog.decide_counted(&Envelope::default(), payload, work).unwrap(),
                None => catalog.decide(&Envelope::default(), payload).unwrap(),
            };
            counts.count(&namespace, &decision);
        }
    }

    #[test]
    fn shares_add_up_to_one_and_outlive_a_change_of_the_catalog() {
        let (old, new, namespace) = (catalog(1, &["a", "b", "gone"]), catalog(2, &["a", "b"]), Namespace::default());
        let mut counts = RuleCounts::default();
        judge(&mut counts, &old, WORK_EVERY + 1);
        counts.turn(&namespace, Some(&old), Some(&new));
        judge(&mut counts, &new, WORK_EVERY);
        let view = finish(vec![counts.view(&namespace, Some(&new)), json!({ "messages": 1, "rules": { "b": [1, 1, 0] } })]);
        assert_eq!((&view["messages"], &view["rules_matched_count"]), (&json!(2 * WORK_EVERY + 2), &json!(2)));
        let items = view["items"].as_array().unwrap();
        let shares: f64 = items.iter().map(|item| item["cost_share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-5, "{view}");
        let b = items.iter().find(|item| item["rule"] == "b").unwrap();
        assert_eq!((&b["matched"], &b["errors"]), (&json!(2 * WORK_EVERY + 2), &json!(1)));
        let (told, work_ns, matched) = counts.told(|_| Some(&new));
        assert_eq!(told.iter().map(|row| row.work_ns).sum::<u64>(), work_ns);
        assert_eq!((told.len(), matched, told[0].evaluated_count), (2, 4 * WORK_EVERY + 2, 2 * WORK_EVERY + 1));
    }

    #[test]
    fn what_is_told_is_bounded_and_the_costliest_comes_first() {
        let ids: Vec<String> = (0..RULES_TOLD_MAX + 50).map(|i| format!("r{i:03}")).collect();
        let catalog = catalog(1, &ids.iter().map(String::as_str).collect::<Vec<_>>());
        let mut counts = RuleCounts::default();
        judge(&mut counts, &catalog, 1);
        // The first one answers the question that all of them ask.
        let (told, ..) = counts.told(|_| Some(&catalog));
        assert_eq!((told.len(), &*told[0].rule), (RULES_TOLD_MAX, "r000"));
        assert!(told.windows(2).all(|pair| pair[0].work_ns >= pair[1].work_ns));
    }

    #[test]
    fn before_anything_was_looked_at_there_is_no_share() {
        let view = finish(vec![json!({ "messages": 3, "rules": { "a": [3, 0, 0] } })]);
        assert_eq!((&view["items"][0]["matched"], &view["items"][0]["cost_share"]), (&json!(3), &Value::Null));
    }
}
