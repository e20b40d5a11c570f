//! A trial: a candidate rule set beside the catalog, judged on live messages before it becomes the catalog.
//!
//! In: committed commands.  Out: the trial in force, and refusals.
//! May touch: `model`.  Never: the compiled form of anything.
//! Lives on: the shard that owns group 0.
//! Invariant: at most one trial at a time in the whole cluster.
//! Invariant: a candidate has a version of its own, which no catalog ever has; what it said stays known in [`Past`](super::Past), so a
//! decision that names it can be explained after the trial has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use distric_model::{Namespace, Timestamp};
use serde::{Deserialize, Serialize};

use super::catalog_source::{CatalogSource, NamespaceSource, RuleRecord};
use super::past::Replaced;
use super::{ApplyCatalog, CatalogChange, Meta, MetaReply, RulesChange};

/// The whole of a share: shares are counted in hundredths of a percent.
pub const SHARE_WHOLE: u32 = 10_000;

/// What a candidate is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrialMode {
    /// It judges messages that the catalog decides; nothing follows from what it says.
    Shadow,
    /// It decides for its share of the messages.
    Canary,
}

/// The candidate and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The version that its decisions name.
    pub version: u64,
    /// Whose rules it may replace.
    pub namespace: Namespace,
    /// The catalog that it was made beside.
    pub base_version: u64,
    /// What it is there for.
    pub mode: TrialMode,
    /// For which share of the messages, in hundredths of a percent, 1 to [`SHARE_WHOLE`].
    pub share: u32,
    /// When it began, machine time.
    pub started_at_us: Timestamp,
    /// Who asked.
    pub author: Option<Arc<str>>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// Catalog members besides `rules`: canonical JSON object.
    pub options: Arc<str>,
    /// Its rules by id.
    pub rules: BTreeMap<Arc<str>, RuleRecord>,
    /// The namespace's rules have changed since it began: it cannot be promoted any more.
    pub is_outdated: bool,
}

/// Begins a trial. Already checked by whoever proposed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTrial {
    /// Whose rules.
    pub namespace: Namespace,
    /// What it is there for.
    pub mode: TrialMode,
    /// Hundredths of a percent.
    pub share: u32,
    /// Catalog members besides `rules`, a JSON object.
    pub options: Arc<str>,
    /// Rule id and body.
    pub rules: Vec<(Arc<str>, Arc<str>)>,
    /// Refused unless the catalog has this version.
    pub expected_version: u64,
    /// Who asked.
    pub author: Option<Arc<str>>,
    /// Why.
    pub reason: Option<Arc<str>>,
}

/// A trial as a command names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialName {
    /// Whose rules.
    pub namespace: Namespace,
    /// Which one; whichever runs when absent.
    pub version: Option<u64>,
}

/// How a trial stands or has ended, for the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialLine {
    /// What it was there for.
    pub mode: TrialMode,
    /// The last share, hundredths of a percent.
    pub share: u32,
    /// When it ended, machine time; absent while it runs.
    pub ended_at_us: Option<Timestamp>,
    /// The version of the catalog that it became.
    pub promoted_as: Option<u64>,
}

/// What a command about a trial came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialState {
    /// The candidate's version.
    pub version: u64,
    /// The share that holds now; 0 when the trial has ended.
    pub share: u32,
    /// What it is or was there for.
    pub mode: TrialMode,
}

/// Why a trial was not begun, changed or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialRefusal {
    /// One at a time.
    #[error("a trial runs already: {mode} of candidate version {version} in namespace {namespace}; end or promote it first")]
    Runs {
        /// Its candidate.
        version: u64,
        /// Its namespace.
        namespace: Namespace,
        /// What it is there for.
        mode: TrialMode,
    },
    /// There is none, or another one.
    #[error("no such trial runs in namespace {namespace}")]
    None {
        /// Where it was looked for.
        namespace: Namespace,
    },
    /// Its base is gone.
    #[error(
        "the rules have changed since candidate version {version} was made beside version {base_version}: start it anew, or apply its files"
    )]
    Outdated {
        /// The candidate.
        version: u64,
        /// The catalog that it was made beside.
        base_version: u64,
    },
}

impl TrialMode {
    /// Its name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for TrialMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Trial {
    /// The candidate as the source of its namespace, beside the workflows that are in service now.
    pub fn source(&self, now: Option<&NamespaceSource>) -> NamespaceSource {
        let workflows = now.map(|source| source.workflows.clone()).unwrap_or_default();
        NamespaceSource { options: self.options.clone(), rules: self.rules.clone(), workflows }
    }
}

impl CatalogSource {
    /// The trial that a command names. Errors: there is none such.
    pub fn trial_named(&self, name: &TrialName) -> Result<&Arc<Trial>, TrialRefusal> {
        let fits = |trial: &&Arc<Trial>| trial.namespace == name.namespace && name.version.is_none_or(|version| version == trial.version);
        self.trial.as_ref().filter(fits).ok_or_else(|| TrialRefusal::None { namespace: name.namespace.clone() })
    }

    /// Whether another trial may begin. Errors: one runs.
    pub fn may_start_trial(&self) -> Result<(), TrialRefusal> {
        match &self.trial {
            None => Ok(()),
            Some(trial) => Err(TrialRefusal::Runs { version: trial.version, namespace: trial.namespace.clone(), mode: trial.mode }),
        }
    }

    /// Puts the candidate's rules in the place of a promotion. Returns which trial it ends. Errors: it cannot be promoted.
    pub(crate) fn put_promoted(&self, change: &mut ApplyCatalog) -> Result<Option<TrialName>, TrialRefusal> {
        let RulesChange::Promote { version } = change.rules else { return Ok(None) };
        let name = TrialName { namespace: change.namespace.clone(), version: Some(version) };
        let trial = self.trial_named(&name)?;
        if trial.is_outdated {
            return Err(TrialRefusal::Outdated { version, base_version: trial.base_version });
        }
        let rules = trial.rules.iter().map(|(id, rule)| (id.clone(), rule.body.clone())).collect();
        change.rules = RulesChange::Replace { options: trial.options.clone(), rules };
        Ok(Some(name))
    }

    /// Begins a trial: the candidate gets a version, and what it differs in is kept. Returns the line for the history, and the
    /// versions that cannot be seen any more.
    pub(crate) fn start_trial(&mut self, stamp: Timestamp, start: StartTrial) -> (CatalogChange, Vec<u64>) {
        let version = self.next_version();
        let before = self.namespaces.get(&start.namespace).cloned().unwrap_or_default();
        let mut branch = Replaced::nothing(version, start.namespace.clone(), self.version);
        branch.is_branch = true;
        let mut rules = BTreeMap::new();
        for (id, body) in start.rules {
            let record = match before.rules.get(&id) {
                Some(same) if same.body == body => same.clone(),
                known => {
                    let created_at_us = known.map_or(stamp, |known| known.created_at_us);
                    let record = RuleRecord { version, created_at_us, updated_at_us: stamp, body };
                    branch.rules.push((id.clone(), Some(record.clone())));
                    record
                }
            };
            rules.insert(id, record);
        }
        let rules_changed = branch.rules.iter().map(|(id, _)| id.clone()).collect();
        let rules_removed: Vec<Arc<str>> = before.rules.keys().filter(|id| !rules.contains_key(*id)).cloned().collect();
        branch.rules.extend(rules_removed.iter().map(|id| (id.clone(), None)));
        branch.options = (before.options != start.options).then(|| start.options.clone());
        let line = CatalogChange {
            version,
            applied_at_us: stamp,
            namespace: start.namespace.clone(),
            author: start.author.clone(),
            reason: start.reason.clone(),
            rules_changed,
            rules_removed,
            workflows_changed: Vec::new(),
            workflows_removed: Vec::new(),
            trial: Some(TrialLine { mode: start.mode, share: start.share, ended_at_us: None, promoted_as: None }),
        };
        self.trial = Some(Arc::new(Trial {
            version,
            namespace: start.namespace,
            base_version: self.version,
            mode: start.mode,
            share: start.share,
            started_at_us: stamp,
            author: start.author,
            reason: start.reason,
            options: start.options,
            rules,
            is_outdated: false,
        }));
        self.reserved = version;
        self.revision += 1;
        (line, self.past.push(branch))
    }

    /// Notes that the rules of a namespace have changed under the trial.
    pub(super) fn outdate_trial(&mut self, namespace: &Namespace) {
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.namespace == *namespace && !trial.is_outdated) {
            Arc::make_mut(trial).is_outdated = true;
        }
    }
}

impl Meta {
    pub(super) fn start_trial(&mut self, stamp: Timestamp, start: StartTrial) -> MetaReply {
        let actual = self.catalog.version;
        if start.expected_version != actual {
            return MetaReply::VersionConflict { expected: start.expected_version, actual };
        }
        if let Err(refusal) = self.catalog.may_start_trial() {
            return MetaReply::TrialRefused(refusal);
        }
        let (mode, share) = (start.mode, start.share);
        let (line, not_kept) = Arc::make_mut(&mut self.catalog).start_trial(stamp, start);
        let version = line.version;
        self.note_in_history(line, &not_kept);
        self.dirty_trial();
        MetaReply::Trial(TrialState { version, share, mode })
    }

    pub(super) fn set_trial(&mut self, name: &TrialName, share: u32) -> MetaReply {
        let trial = match self.catalog.trial_named(name) {
            Ok(trial) => trial.clone(),
            Err(refusal) => return MetaReply::TrialRefused(refusal),
        };
        let share = share.clamp(1, SHARE_WHOLE);
        let catalog = Arc::make_mut(&mut self.catalog);
        catalog.trial = Some(Arc::new(Trial { share, ..(*trial).clone() }));
        catalog.revision += 1;
        self.update_line(trial.version, |line| line.share = share);
        self.dirty.note_trial(None);
        MetaReply::Trial(TrialState { version: trial.version, share, mode: trial.mode })
    }

    pub(super) fn end_trial(&mut self, stamp: Timestamp, name: &TrialName, promoted_as: Option<u64>) -> MetaReply {
        let trial = match self.catalog.trial_named(name) {
            Ok(trial) => trial.clone(),
            Err(refusal) => return MetaReply::TrialRefused(refusal),
        };
        self.dirty_trial();
        let catalog = Arc::make_mut(&mut self.catalog);
        catalog.trial = None;
        catalog.revision += 1;
        self.update_line(trial.version, |line| {
            line.ended_at_us = Some(stamp);
            line.promoted_as = promoted_as;
        });
        MetaReply::Trial(TrialState { version: trial.version, share: 0, mode: trial.mode })
    }

    /// Changes the line of a trial in the history, if that still has it.
    fn update_line(&mut self, version: u64, update: impl FnOnce(&mut TrialLine)) {
        let place = self.history.binary_search_by_key(&version, |change| change.version).ok();
        if let Some(line) = place.and_then(|place| self.history.get_mut(place)?.trial.as_mut()) {
            update(line);
            self.dirty.note_history(version);
        }
    }

    /// The whole trial is to be written, or to be removed.
    fn dirty_trial(&mut self) {
        if let Some(trial) = &self.catalog.trial {
            self.dirty.note_trial(Some(trial));
        }
    }
}
