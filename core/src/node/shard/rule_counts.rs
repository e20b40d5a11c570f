//! How often rules matched on this shard: counted by place while a catalog is in use, by id beyond it.
//!
//! Counting a match costs one addition in an array. When another version of the catalog comes, what was counted is added up by id,
//! once, over the rules that matched. Every rule is judged on every message of its namespace, so the messages stand for evaluations.

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

#[derive(Debug, Default)]
struct Counts {
    /// Messages that were judged.
    messages: u64,
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

    /// Another version of a namespace's rules comes: adds up what was counted under the one that goes. Rules that are gone are
    /// forgotten.
    pub fn turn(&mut self, namespace: &Namespace, old: Option<&Catalog>, new: Option<&Catalog>) {
        let Some(counts) = self.namespaces.get_mut(namespace) else { return };
        let Some(new) = new else {
            self.namespaces.remove(namespace);
            return;
        };
        for (place, count) in counts.by_place.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            if let Some(id) = old.and_then(|old| old.id_at(place as u32)) {
                *counts.before.entry(id.clone()).or_default() += *count;
            }
            *count = 0;
        }
        let is_there = |id: &Arc<str>| new.rules().rule(id).is_some();
        counts.before.retain(|id, _| is_there(id));
        counts.errors.retain(|id, _| is_there(id));
    }

    /// What was counted for a namespace, rules that never matched left out.
    pub fn view(&self, namespace: &Namespace, rules: Option<&Catalog>) -> Value {
        let Some(counts) = self.namespaces.get(namespace) else { return json!({ "messages": 0, "rules": {} }) };
        let mut rows: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
        for (id, matched) in &counts.before {
            rows.entry(id.clone()).or_default().0 += matched;
        }
        for (place, matched) in counts.by_place.iter().enumerate().filter(|(_, matched)| **matched > 0) {
            if let Some(id) = rules.and_then(|rules| rules.id_at(place as u32)) {
                rows.entry(id.clone()).or_default().0 += matched;
            }
        }
        for (id, errors) in &counts.errors {
            rows.entry(id.clone()).or_default().1 += errors;
        }
        let rows: serde_json::Map<String, Value> =
            rows.into_iter().map(|(id, (matched, errors))| (id.to_string(), json!([matched, errors]))).collect();
        json!({ "messages": counts.messages, "rules": rows })
    }
}

/// Most rules in one answer.
const ROWS_MAX: usize = 1_000;

/// The shards' counters as one document: most matches first.
pub(super) fn finish(parts: Vec<Value>) -> Value {
    let mut messages = 0;
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for part in &parts {
        messages += part["messages"].as_u64().unwrap_or(0);
        for (id, counts) in part["rules"].as_object().into_iter().flatten() {
            let sum = sums.entry(id.clone()).or_default();
            sum.0 += counts[0].as_u64().unwrap_or(0);
            sum.1 += counts[1].as_u64().unwrap_or(0);
        }
    }
    let rules_count = sums.len();
    let mut rows: Vec<(String, (u64, u64))> = sums.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    rows.truncate(ROWS_MAX);
    let items: Vec<Value> = rows
        .into_iter()
        .map(|(id, (matched, errors))| json!({ "rule": id, "evaluated": messages, "matched": matched, "errors": errors }))
        .collect();
    json!({ "messages": messages, "rules_matched_count": rules_count, "items": items })
}
