//! The catalog as text: what is replicated. Every node compiles it for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::{Namespace, Timestamp};
use serde::{Deserialize, Serialize};

use super::past::{Past, Replaced};
use super::trial::Trial;
use super::{ApplyCatalog, CatalogChange, RulesChange, WorkflowsChange};

/// All namespaces under one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogSource {
    /// Grows by one per accepted change; 0 is the empty catalog.
    pub version: u64,
    /// Namespaces that ever had a catalog.
    pub namespaces: BTreeMap<Namespace, NamespaceSource>,
    /// What the last changes replaced.
    pub past: Past,
    /// The candidate beside it.
    pub trial: Option<Arc<Trial>>,
    /// The highest version that a candidate was given.
    pub reserved: u64,
    /// Grows with every change of what shards use, also of those that make no version.
    pub revision: u64,
}

/// One namespace's rules and workflows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSource {
    /// Catalog members besides `rules`: canonical JSON object.
    pub options: Arc<str>,
    /// Rules by id.
    pub rules: BTreeMap<Arc<str>, RuleRecord>,
    /// Workflows by id, retired ones included.
    pub workflows: BTreeMap<Arc<str>, WorkflowRecord>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// The catalog version of its last change.
    pub version: u64,
    /// When it first appeared, machine time.
    pub created_at_us: Timestamp,
    /// When it last changed, machine time.
    pub updated_at_us: Timestamp,
    /// Canonical JSON.
    pub body: Arc<str>,
}

/// One workflow with all its versions. Definitions are immutable by version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowRecord {
    /// Numbers 1, 2, …; never empty.
    pub versions: BTreeMap<u64, WorkflowVersion>,
    /// No longer started by name; instances and pinned rules keep their version.
    pub retired: bool,
}

/// One version of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowVersion {
    /// When it was applied, machine time.
    pub created_at_us: Timestamp,
    /// The catalog version that brought it.
    pub catalog_version: u64,
    /// Canonical JSON.
    pub body: Arc<str>,
}

impl Default for NamespaceSource {
    fn default() -> Self {
        Self { options: Arc::from("{}"), rules: BTreeMap::new(), workflows: BTreeMap::new() }
    }
}

impl WorkflowRecord {
    /// The newest version's number.
    pub fn latest(&self) -> u64 {
        *self.versions.keys().next_back().expect("a workflow record has at least one version")
    }
}

impl NamespaceSource {
    /// The rule set as one canonical JSON document: the options with `rules` added, in order of id.
    pub fn rules_document(&self) -> String {
        let options = self.options.trim();
        let options = options.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or("");
        let mut text = String::with_capacity(64 + self.rules.values().map(|rule| rule.body.len() + 1).sum::<usize>());
        text.push('{');
        text.push_str(options);
        text.push_str(if options.trim().is_empty() { "\"rules\":[" } else { ",\"rules\":[" });
        for (n, rule) in self.rules.values().enumerate() {
            if n > 0 {
                text.push(',');
            }
            text.push_str(&rule.body);
        }
        text.push_str("]}");
        text
    }
}

impl CatalogSource {
    /// Applies a change whose version was already compared. A change that changes nothing makes no version.
    ///
    /// Returns what it changed, and the versions of the changes that cannot be taken back any more.
    pub(crate) fn apply(&mut self, stamp: Timestamp, change: ApplyCatalog) -> (CatalogChange, Vec<u64>) {
        let version = self.next_version();
        let mut applied = CatalogChange {
            version,
            applied_at_us: stamp,
            namespace: change.namespace.clone(),
            author: change.author,
            reason: change.reason,
            rules_changed: Vec::new(),
            rules_removed: Vec::new(),
            workflows_changed: Vec::new(),
            workflows_removed: Vec::new(),
            trial: None,
        };
        let mut replaced = Replaced::nothing(version, change.namespace.clone(), self.version);
        let namespace = self.namespaces.entry(change.namespace.clone()).or_default();
        namespace.apply_rules(stamp, change.rules, &mut applied, &mut replaced);
        let in_service: BTreeSet<Arc<str>> =
            namespace.workflows.iter().filter(|(_, record)| !record.retired).map(|(id, _)| id.clone()).collect();
        namespace.apply_workflows(stamp, change.workflows, &mut applied);
        let touched = applied.workflows_changed.iter().map(|(id, _)| id).chain(&applied.workflows_removed);
        replaced.workflows = touched.map(|id| (id.clone(), in_service.contains(id))).collect();
        let changed = replaced.options.is_some() || !replaced.rules.is_empty() || !replaced.workflows.is_empty();
        if !changed {
            applied.version = self.version;
            return (applied, Vec::new());
        }
        self.version = version;
        self.revision += 1;
        if replaced.options.is_some() || !replaced.rules.is_empty() {
            self.outdate_trial(&change.namespace);
        }
        (applied, self.past.push(replaced))
    }

    /// The version that the next change makes.
    pub(super) fn next_version(&self) -> u64 {
        self.version.max(self.reserved) + 1
    }
}

impl NamespaceSource {
    fn apply_rules(&mut self, stamp: Timestamp, change: RulesChange, applied: &mut CatalogChange, replaced: &mut Replaced) {
        match change {
            // What is promoted was put in its place as a whole set before.
            RulesChange::Keep | RulesChange::Promote { .. } => {}
            RulesChange::Put { id, body } => self.put_rule(stamp, id, body, applied, replaced),
            RulesChange::Remove { id } => self.remove_rule(id, applied, replaced),
            RulesChange::Replace { options, rules } => {
                let kept: BTreeSet<Arc<str>> = rules.iter().map(|(id, _)| id.clone()).collect();
                let gone: Vec<Arc<str>> = self.rules.keys().filter(|id| !kept.contains(*id)).cloned().collect();
                for id in gone {
                    self.remove_rule(id, applied, replaced);
                }
                for (id, body) in rules {
                    self.put_rule(stamp, id, body, applied, replaced);
                }
                if self.options != options {
                    replaced.options = Some(std::mem::replace(&mut self.options, options));
                }
            }
        }
    }

    fn remove_rule(&mut self, id: Arc<str>, applied: &mut CatalogChange, replaced: &mut Replaced) {
        if let Some(before) = self.rules.remove(&id) {
            replaced.rules.push((id.clone(), Some(before)));
            applied.rules_removed.push(id);
        }
    }

    fn put_rule(&mut self, stamp: Timestamp, id: Arc<str>, body: Arc<str>, applied: &mut CatalogChange, replaced: &mut Replaced) {
        let before = self.rules.get(&id);
        if before.is_some_and(|before| before.body == body) {
            return;
        }
        let created_at_us = before.map_or(stamp, |before| before.created_at_us);
        let record = RuleRecord { version: applied.version, created_at_us, updated_at_us: stamp, body };
        let before = self.rules.insert(id.clone(), record);
        replaced.rules.push((id.clone(), before));
        applied.rules_changed.push(id);
    }

    fn apply_workflows(&mut self, stamp: Timestamp, change: WorkflowsChange, applied: &mut CatalogChange) {
        match change {
            WorkflowsChange::Keep => {}
            WorkflowsChange::Put(workflows) => {
                for (id, body) in workflows {
                    self.put_workflow(stamp, id, body, applied);
                }
            }
            WorkflowsChange::Remove(id) => self.retire(&id, applied),
            WorkflowsChange::Replace(workflows) => {
                let kept: BTreeSet<&Arc<str>> = workflows.iter().map(|(id, _)| id).collect();
                let gone: Vec<Arc<str>> = self.workflows.keys().filter(|id| !kept.contains(id)).cloned().collect();
                for id in gone {
                    self.retire(&id, applied);
                }
                for (id, body) in workflows {
                    self.put_workflow(stamp, id, body, applied);
                }
            }
        }
    }

    fn retire(&mut self, id: &Arc<str>, applied: &mut CatalogChange) {
        if let Some(record) = self.workflows.get_mut(id).filter(|record| !record.retired) {
            record.retired = true;
            applied.workflows_removed.push(id.clone());
        }
    }

    fn put_workflow(&mut self, stamp: Timestamp, id: Arc<str>, body: Arc<str>, applied: &mut CatalogChange) {
        let catalog_version = applied.version;
        let record = self.workflows.entry(id.clone()).or_insert_with(|| WorkflowRecord { versions: BTreeMap::new(), retired: false });
        let latest = record.versions.last_key_value().map(|(number, version)| (*number, version.body == body));
        match latest {
            Some((number, true)) if record.retired => {
                record.retired = false;
                applied.workflows_changed.push((id, number));
            }
            Some((_, true)) => {}
            _ => {
                let number = latest.map_or(1, |(number, _)| number + 1);
                record.retired = false;
                record.versions.insert(number, WorkflowVersion { created_at_us: stamp, catalog_version, body });
                applied.workflows_changed.push((id, number));
            }
        }
    }
}
