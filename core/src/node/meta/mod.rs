//! The meta partition's machine: the cluster's identity, its partition map, and the catalog with its history.
//!
//! In: committed [`MetaCommand`]s with the leader's stamp.  Out: a [`MetaReply`] each.
//! May touch: `model`.  Never: sockets, clocks, the compiled form of anything.
//! Lives on: the shard that owns group 0.
//! Invariant: the catalog's version grows by one per accepted change and never goes back.
//! Invariant: a workflow definition that once had a number keeps it, whatever happens later.

mod catalog_source;
mod checkpoint;
mod command;

use std::collections::VecDeque;
use std::sync::Arc;

use distric_model::{Namespace, Timestamp};
use serde::{Deserialize, Serialize};

pub use catalog_source::{CatalogSource, NamespaceSource, RuleRecord, WorkflowRecord, WorkflowVersion};
pub use command::{ApplyCatalog, Init, MetaCommand, MetaCommandError, RulesChange, WorkflowsChange};

/// Changes kept in the catalog's history; older ones are forgotten.
pub const CATALOG_HISTORY_MAX: usize = 1_000;

/// The state of group 0.
#[derive(Debug, Default)]
pub struct Meta {
    cluster: Option<Init>,
    catalog: Arc<CatalogSource>,
    history: VecDeque<CatalogChange>,
    dirty: checkpoint::Dirty,
}

/// One line of the catalog's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogChange {
    /// The version that the change made.
    pub version: u64,
    /// When, by machine time.
    pub applied_at_us: Timestamp,
    /// Whose catalog.
    pub namespace: Namespace,
    /// Who asked.
    pub author: Option<Arc<str>>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// Ids of rules that were added or changed.
    pub rules_changed: Vec<Arc<str>>,
    /// Ids of rules that are gone.
    pub rules_removed: Vec<Arc<str>>,
    /// Workflows that got a new version: id and number.
    pub workflows_changed: Vec<(Arc<str>, u64)>,
    /// Workflows that were retired.
    pub workflows_removed: Vec<Arc<str>>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaReply {
    /// The cluster exists: by this command or an earlier one.
    Initialised,
    /// The catalog has a new version, or the command changed nothing and it has the old one.
    Applied(CatalogChange),
    /// Someone else was faster; nothing changed.
    VersionConflict {
        /// The version that the change was made for.
        expected: u64,
        /// The version that the catalog has.
        actual: u64,
    },
}

impl Meta {
    /// Applies one committed command.
    pub fn apply(&mut self, stamp: Timestamp, command: MetaCommand) -> MetaReply {
        match command {
            MetaCommand::Init(init) => {
                self.cluster.get_or_insert(init);
                MetaReply::Initialised
            }
            MetaCommand::ApplyCatalog(change) => self.apply_catalog(stamp, *change),
        }
    }

    fn apply_catalog(&mut self, stamp: Timestamp, change: ApplyCatalog) -> MetaReply {
        let actual = self.catalog.version;
        if let Some(expected) = change.expected_version.filter(|expected| *expected != actual) {
            return MetaReply::VersionConflict { expected, actual };
        }
        let applied = Arc::make_mut(&mut self.catalog).apply(stamp, change);
        let mut forgotten = None;
        if applied.version > actual {
            self.history.push_back(applied.clone());
            if self.history.len() > CATALOG_HISTORY_MAX {
                forgotten = self.history.pop_front().map(|change| change.version);
            }
        }
        // Also a change that made no version: it may have made a namespace.
        self.dirty.note(&applied, forgotten);
        MetaReply::Applied(applied)
    }

    /// What `Init` decided; `None` before it was applied.
    pub fn cluster(&self) -> Option<&Init> {
        self.cluster.as_ref()
    }

    /// The catalog as it stands; a shared snapshot.
    pub fn catalog(&self) -> Arc<CatalogSource> {
        self.catalog.clone()
    }

    /// Changes, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &CatalogChange> {
        self.history.iter()
    }
}

#[cfg(test)]
mod tests;
