//! What the shards of a node know about a trial, as one document.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::trial::SAMPLES_MAX;

/// Most rules in one answer: those that differ first, then those that match.
const ROWS_MAX: usize = 1_000;

#[derive(Default)]
struct Row {
    active: (u64, u64),
    candidate: (u64, u64),
    /// Gained, lost, changed.
    differences: [u64; 3],
}

/// Merges the parts of all shards.
pub(super) fn finish(parts: Vec<Value>) -> Value {
    let catalog_version = parts.iter().filter_map(|part| part["catalog_version"].as_u64()).max();
    let Some(trial) = parts.iter().map(|part| &part["trial"]).find(|trial| trial.is_object()) else {
        return json!({ "trial": null, "catalog_version": catalog_version });
    };
    let of_trial: Vec<&Value> = parts.iter().filter(|part| part["trial"]["version"] == trial["version"]).collect();
    let sum = |side: &str, member: &str| of_trial.iter().filter_map(|part| part[side][member].as_u64()).sum::<u64>();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for part in &of_trial {
        for side in ["active", "candidate"] {
            for (id, counts) in part[side]["counts"]["rules"].as_object().into_iter().flatten() {
                let row = rows.entry(id).or_default();
                let of = if side == "active" { &mut row.active } else { &mut row.candidate };
                of.0 += counts[0].as_u64().unwrap_or(0);
                of.1 += counts[1].as_u64().unwrap_or(0);
            }
        }
        for (id, counts) in part["shadow"]["rules"].as_object().into_iter().flatten() {
            let row = rows.entry(id).or_default();
            row.differences.iter_mut().enumerate().for_each(|(at, sum)| *sum += counts[at].as_u64().unwrap_or(0));
        }
    }
    let side = |name: &str| {
        let (decisions, ns) = (sum(name, "decisions"), sum(name, "decisions_ns"));
        json!({ "decisions": decisions, "mean_ns": ns.checked_div(decisions) })
    };
    let (active, candidate) = (sum("active", "decisions"), sum("candidate", "decisions"));
    let mut rows: Vec<(&str, Row)> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse((row.differences.iter().sum::<u64>(), row.active.0 + row.candidate.0)));
    let rules_count = rows.len();
    rows.truncate(ROWS_MAX);
    let items: Vec<Value> = rows
        .into_iter()
        .map(|(rule, row)| {
            let [gained, lost, changed] = row.differences;
            json!({
                "rule": rule,
                "active": { "evaluated": active, "matched": row.active.0, "errors": row.active.1 },
                "candidate": { "evaluated": candidate, "matched": row.candidate.0, "errors": row.candidate.1 },
                "gained": gained, "lost": lost, "changed": changed,
            })
        })
        .collect();
    json!({
        "catalog_version": catalog_version, "trial": trial, "active": side("active"), "candidate": side("candidate"),
        "shadow": {
            "judged": sum("shadow", "judged"), "skipped": sum("shadow", "skipped"), "differing": sum("shadow", "differing"),
            "waiting": sum("shadow", "waiting"),
        },
        "rules_count": rules_count, "items": items,
    })
}

/// Merges the samples of all shards.
pub(super) fn finish_samples(parts: Vec<Value>) -> Value {
    let version = parts.iter().find_map(|part| part["trial"]["version"].as_u64());
    let samples = parts.iter().filter(|part| part["trial"]["version"].as_u64() == version);
    let items: Vec<&Value> = samples.flat_map(|part| part["samples"].as_array().into_iter().flatten()).take(SAMPLES_MAX).collect();
    json!({ "candidate_version": version, "items": items })
}
