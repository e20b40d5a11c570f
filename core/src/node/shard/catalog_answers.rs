//! What the catalog is answered with: rows of rules and workflows, lines of the history, outcomes of changes.

use std::sync::Arc;

use distric_wire::Code;
use serde_json::{Value, json};

use super::queries::document;
use crate::node::meta::{CatalogChange, RuleRecord, TrialRefusal, TrialState, WorkflowRecord};
use crate::node::question::Answer;
use crate::node::refusal::Refusal;

/// Rules that an answer names, of those that a change touches; all are counted.
const NAMES_MAX: usize = 1_000;
/// Rules that an answer names over all lines of the history.
pub(super) const HISTORY_NAMES_MAX: usize = 4_000;

/// What a change is answered with.
pub(super) fn applied_answer(change: &CatalogChange) -> Answer {
    let workflows: Vec<Value> = change.workflows_changed.iter().map(|(id, version)| json!({ "id": id, "version": version })).collect();
    let body = json!({
        "catalog_version": change.version, "rules_changed_count": change.rules_changed.len(), "rules_removed_count": change.rules_removed.len(),
        "rules_changed": named(&change.rules_changed), "rules_removed": named(&change.rules_removed),
        "workflows_changed": workflows, "workflows_removed": change.workflows_removed, "applied_at_us": change.applied_at_us,
    });
    document(&body, Some(change.version))
}

/// The first names of a list that may be as long as the catalog.
pub(crate) fn named(names: &[Arc<str>]) -> &[Arc<str>] {
    &names[..names.len().min(NAMES_MAX)]
}

/// A line of the history. Names are left out when the answer has enough of them; their counts stay.
pub(super) fn history_row(change: &CatalogChange, names_left: &mut usize) -> Value {
    let (changed, removed) = (change.rules_changed.len(), change.rules_removed.len());
    let mut short = change.clone();
    for names in [&mut short.rules_changed, &mut short.rules_removed] {
        names.truncate((*names_left).min(NAMES_MAX));
        *names_left -= names.len();
    }
    let mut row = serde_json::to_value(short).expect("a line is plain data with text keys");
    row["rules_changed_count"] = json!(changed);
    row["rules_removed_count"] = json!(removed);
    row
}

/// What a command about a trial is answered with.
pub(super) fn trial_answer(trial: &TrialState, catalog_version: u64) -> Answer {
    let body = json!({
        "catalog_version": catalog_version, "trial_version": trial.version, "mode": trial.mode.as_str(), "share": trial.share,
    });
    document(&body, Some(catalog_version))
}

/// Why a command about a trial was refused.
pub(super) fn trial_refusal(refusal: &TrialRefusal) -> Refusal {
    let code = if matches!(refusal, TrialRefusal::None { .. }) { Code::NotFound } else { Code::Conflict };
    Refusal::new(code, refusal.to_string())
}

/// The first problem in words, and how many more there are.
pub(super) fn all_problems(first: &str, problems: &Value) -> String {
    let rest = problems.as_array().map_or(0, |rows| rows.iter().filter(|row| row["severity"] == "error").count().saturating_sub(1));
    if rest == 0 { first.to_owned() } else { format!("{first} (and {rest} more)") }
}

/// One rule with its version and times.
pub(super) fn rule_row(rule: &RuleRecord) -> Value {
    let mut row: Value = serde_json::from_str(&rule.body).unwrap_or_default();
    if let Some(members) = row.as_object_mut() {
        members.insert("version".to_owned(), json!(rule.version));
        members.insert("created_at_us".to_owned(), json!(rule.created_at_us));
        members.insert("updated_at_us".to_owned(), json!(rule.updated_at_us));
    }
    row
}

/// One workflow definition with its versions and times.
pub(super) fn workflow_row(record: &WorkflowRecord) -> Value {
    let latest = record.latest();
    let version = &record.versions[&latest];
    let mut row: Value = serde_json::from_str(&version.body).unwrap_or_default();
    if let Some(members) = row.as_object_mut() {
        members.insert("version".to_owned(), json!(latest));
        members.insert("versions".to_owned(), json!(record.versions.keys().collect::<Vec<_>>()));
        members.insert("retired".to_owned(), json!(record.retired));
        members.insert("created_at_us".to_owned(), json!(record.versions.values().next().map(|first| first.created_at_us)));
        members.insert("updated_at_us".to_owned(), json!(version.created_at_us));
    }
    row
}
