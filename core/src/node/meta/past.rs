//! Versions that were: what each change replaced, so that the catalog can be seen, exported and restored as it was.
//!
//! A change leaves behind what it replaced and not the whole catalog: one rule of ten thousand costs one rule. To see version `v`, the
//! changes after it are taken back, newest first. Workflow versions are immutable and carry their catalog version, so of them only
//! whether they were in service must be kept.

use std::collections::VecDeque;
use std::sync::Arc;

use distric_model::Namespace;
use serde::{Deserialize, Serialize};

use super::catalog_source::{CatalogSource, NamespaceSource, RuleRecord};

/// Changes that can be taken back; what was before them is forgotten.
pub const PAST_CHANGES_MAX: usize = 256;
/// Bytes of replaced rules that are kept, over all changes. A single change may be larger; then only it is kept.
pub const PAST_BYTES_MAX: usize = 64 << 20;

/// What one change replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The version that the change made.
    pub version: u64,
    /// Whose catalog.
    pub namespace: Namespace,
    /// The options before, when they changed.
    pub options: Option<Arc<str>>,
    /// The rules before, `None` for those that were new.
    pub rules: Vec<(Arc<str>, Option<RuleRecord>)>,
    /// Whether the workflows that changed were in service before.
    pub workflows: Vec<(Arc<str>, bool)>,
    /// The version is a candidate's beside the catalog: this is not what it replaced but what it has in other ways.
    #[serde(default)]
    pub is_branch: bool,
    /// The catalog's version before; absent in what older programs wrote, where it was one less.
    #[serde(default)]
    pub before: Option<u64>,
}

impl Replaced {
    pub(super) fn nothing(version: u64, namespace: Namespace, before: u64) -> Self {
        let (rules, workflows) = (Vec::new(), Vec::new());
        Self { version, namespace, options: None, rules, workflows, is_branch: false, before: Some(before) }
    }

    fn before(&self) -> u64 {
        self.before.unwrap_or_else(|| self.version.saturating_sub(1))
    }

    /// Bytes that it holds, names and bodies.
    fn bytes(&self) -> usize {
        let rules = self.rules.iter().map(|(id, rule)| id.len() + rule.as_ref().map_or(0, |rule| rule.body.len()));
        let workflows = self.workflows.iter().map(|(id, _)| id.len());
        self.options.as_ref().map_or(0, |options| options.len()) + rules.chain(workflows).sum::<usize>()
    }

    /// Takes the change back; of a candidate's, makes what it has.
    fn undo(&self, source: &mut NamespaceSource) {
        if let Some(options) = &self.options {
            source.options = options.clone();
        }
        for (id, before) in &self.rules {
            match before {
                Some(rule) => source.rules.insert(id.clone(), rule.clone()),
                None => source.rules.remove(id),
            };
        }
        for (id, in_service) in &self.workflows {
            if let Some(record) = source.workflows.get_mut(id) {
                record.retired = !in_service;
            }
        }
    }
}

/// The changes that can be taken back, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    changes: VecDeque<Arc<Replaced>>,
    bytes: usize,
}

impl Past {
    /// Adds a change; returns the versions of those that are forgotten for it.
    pub(super) fn push(&mut self, replaced: Replaced) -> Vec<u64> {
        self.bytes += replaced.bytes();
        self.changes.push_back(Arc::new(replaced));
        let mut forgotten = Vec::new();
        while self.changes.len() > PAST_CHANGES_MAX || (self.bytes > PAST_BYTES_MAX && self.changes.len() > 1) {
            let oldest = self.changes.pop_front().expect("it has more than one");
            self.bytes -= oldest.bytes();
            forgotten.push(oldest.version);
        }
        forgotten
    }

    /// All of them, oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Replaced>> {
        self.changes.iter()
    }

    /// What the change to this version replaced.
    pub(super) fn of(&self, version: u64) -> Option<&Arc<Replaced>> {
        let place = self.changes.binary_search_by_key(&version, |replaced| replaced.version).ok()?;
        self.changes.get(place)
    }
}

impl CatalogSource {
    /// The oldest version that can still be seen; 0 is the empty catalog.
    pub fn oldest(&self) -> u64 {
        self.past.changes.front().map_or(self.version, |replaced| replaced.before())
    }

    /// Whether a version can be seen: the catalog's, one before it, or a candidate's.
    pub fn knows(&self, version: u64) -> bool {
        let is_trial = self.trial.as_ref().is_some_and(|trial| trial.version == version);
        is_trial || version == self.version || version == self.oldest() || self.past.of(version).is_some()
    }

    /// A namespace as it was at a version, or as a candidate of that version has it: empty where it did not exist yet. `None` when the
    /// version is not kept, or never was.
    pub fn namespace_at(&self, namespace: &Namespace, version: u64) -> Option<NamespaceSource> {
        if !self.knows(version) {
            return None;
        }
        if let Some(trial) = self.trial.as_ref().filter(|trial| trial.version == version && trial.namespace == *namespace) {
            return Some(trial.source(self.namespaces.get(namespace)));
        }
        let mut source = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let later = self.past.changes.iter().rev().take_while(|replaced| replaced.version > version);
        for replaced in later.filter(|replaced| replaced.namespace == *namespace && !replaced.is_branch) {
            replaced.undo(&mut source);
        }
        if let Some(branch) = self.past.of(version).filter(|branch| branch.is_branch && branch.namespace == *namespace) {
            branch.undo(&mut source);
        }
        for record in source.workflows.values_mut() {
            record.versions.retain(|_, body| body.catalog_version <= version);
        }
        source.workflows.retain(|_, record| !record.versions.is_empty());
        Some(source)
    }
}
