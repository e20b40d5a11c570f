//! The meta partition's machine: the cluster's identity, its partition map, and the catalog with its history.
//!
//! In: committed [`MetaCommand`]s with the leader's stamp.  Out: a [`MetaReply`] each.
//! May touch: `model`.  Never: sockets, clocks, the compiled form of anything.
//! Lives on: the shard that owns group 0.
//! Invariant: the catalog's version grows by one per accepted change and never goes back.
//! Invariant: every version from [`CatalogSource::oldest`] on can be seen as it was.
//! Invariant: a workflow definition that once had a number keeps it, whatever happens later.

mod catalog_source;
mod checkpoint;
mod command;
mod gossip_keys;
mod past;
mod trial;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use distric_model::{Namespace, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

use super::peer::Member;

pub use catalog_source::{CatalogSource, NamespaceSource, RuleRecord, WorkflowRecord, WorkflowVersion};
pub use command::{ApplyCatalog, Init, META_COMMAND_BYTES_MAX, MetaCommand, MetaCommandError, RulesChange, WorkflowsChange};
pub use gossip_keys::{GossipKeys, KeyRefusal};
pub use past::{PAST_BYTES_MAX, PAST_CHANGES_MAX, Past, Replaced};
pub use trial::{SHARE_WHOLE, StartTrial, Trial, TrialLine, TrialMode, TrialName, TrialRefusal, TrialState};

/// Changes kept in the catalog's history; older ones are forgotten.
pub const CATALOG_HISTORY_MAX: usize = 1_000;
/// Most coordinators of a cluster: more make every commit slower and no cluster safer.
pub const COORDINATORS_MAX: usize = 9;

/// The state of group 0.
#[derive(Debug, Default)]
pub struct Meta {
    cluster: Option<Init>,
    catalog: Arc<CatalogSource>,
    history: VecDeque<CatalogChange>,
    members: BTreeMap<NodeId, Member>,
    /// Who left; none of them comes back.
    removed: BTreeSet<NodeId>,
    gossip_keys: GossipKeys,
    /// The last stamp applied.
    now: Timestamp,
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
    /// The version is a candidate's, and the catalog stayed as it was.
    #[serde(default)]
    pub trial: Option<TrialLine>,
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
    /// A trial began, changed or ended.
    Trial(TrialState),
    /// Nothing changed.
    TrialRefused(TrialRefusal),
    /// The member is known as it says, by this command or an earlier one.
    MemberPut,
    /// The node is no member, by this command or an earlier one.
    MemberRemoved,
    /// Nothing changed.
    MemberRefused(MemberRefusal),
    /// The keys of gossip that count, by this command or an earlier one.
    GossipKeys(GossipKeys),
    /// Nothing changed.
    GossipKeysRefused(KeyRefusal),
}

/// Why the members were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberRefusal {
    /// A node that was removed does not come back under its id.
    #[error("this node was removed from the cluster; give it an empty data directory, which makes it another node")]
    Removed,
    /// The cluster would have no coordinator.
    #[error("the last coordinator cannot be removed")]
    Last,
    /// Nobody knows it.
    #[error("no coordinator has this id")]
    Unknown,
    /// The cluster has as many as it may.
    #[error("a cluster has at most {COORDINATORS_MAX} coordinators")]
    TooMany,
}

impl Meta {
    /// Applies one committed command.
    pub fn apply(&mut self, stamp: Timestamp, command: MetaCommand) -> MetaReply {
        self.now = self.now.max(stamp);
        match command {
            MetaCommand::Init(init) => {
                if self.cluster.is_none() {
                    self.members = init.members.iter().map(|member| (member.node, member.clone())).collect();
                    self.cluster = Some(init);
                }
                MetaReply::Initialised
            }
            MetaCommand::PutMember(member) => self.put_member(*member),
            MetaCommand::RemoveMember(node) => self.remove_member(node),
            MetaCommand::UseGossipKey(id) => self.use_gossip_key(id),
            MetaCommand::RetireGossipKeys(upto) => self.retire_gossip_keys(upto),
            MetaCommand::ApplyCatalog(change) => self.apply_catalog(stamp, *change),
            MetaCommand::StartTrial(start) => self.start_trial(stamp, *start),
            MetaCommand::SetTrial(name, share) => self.set_trial(&name, share),
            MetaCommand::EndTrial(name) => self.end_trial(stamp, &name, None),
        }
    }

    fn put_member(&mut self, member: Member) -> MetaReply {
        if self.removed.contains(&member.node) {
            return MetaReply::MemberRefused(MemberRefusal::Removed);
        }
        let voters = self.voters();
        if !voters.contains(&member.node) && voters.len() >= COORDINATORS_MAX {
            return MetaReply::MemberRefused(MemberRefusal::TooMany);
        }
        self.members.insert(member.node, member);
        MetaReply::MemberPut
    }

    fn remove_member(&mut self, node: NodeId) -> MetaReply {
        if self.removed.contains(&node) {
            return MetaReply::MemberRemoved;
        }
        let voters = self.voters();
        if !voters.contains(&node) {
            return MetaReply::MemberRefused(MemberRefusal::Unknown);
        }
        if voters.len() == 1 {
            return MetaReply::MemberRefused(MemberRefusal::Last);
        }
        self.members.remove(&node);
        self.removed.insert(node);
        MetaReply::MemberRemoved
    }

    /// Machine time: the latest stamp applied.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Who shall vote in every group: the founders and those who joined, without those who left. Ascending.
    pub fn voters(&self) -> Vec<NodeId> {
        let founders = self.cluster.iter().flat_map(|init| init.voters.iter().copied());
        let all: BTreeSet<NodeId> = founders.chain(self.members.keys().copied()).collect();
        all.difference(&self.removed).copied().collect()
    }

    /// The members' records, in order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member's record.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// Whether a node has left for good.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    fn apply_catalog(&mut self, stamp: Timestamp, mut change: ApplyCatalog) -> MetaReply {
        let actual = self.catalog.version;
        if let Some(expected) = change.expected_version.filter(|expected| *expected != actual) {
            return MetaReply::VersionConflict { expected, actual };
        }
        let promoted = match self.catalog.put_promoted(&mut change) {
            Ok(promoted) => promoted,
            Err(refusal) => return MetaReply::TrialRefused(refusal),
        };
        let (applied, not_kept) = Arc::make_mut(&mut self.catalog).apply(stamp, change);
        if applied.version > actual {
            self.note_in_history(applied.clone(), &not_kept);
        } else {
            // Also a change that made no version: it may have made a namespace.
            self.dirty.note(&applied, None, &not_kept);
        }
        if let Some(name) = promoted {
            self.end_trial(stamp, &name, Some(applied.version));
        }
        MetaReply::Applied(applied)
    }

    fn note_in_history(&mut self, line: CatalogChange, not_kept: &[u64]) {
        self.history.push_back(line.clone());
        let mut forgotten = None;
        if self.history.len() > CATALOG_HISTORY_MAX {
            forgotten = self.history.pop_front().map(|change| change.version);
        }
        if line.trial.is_none() {
            self.dirty.note(&line, forgotten, not_kept);
        } else {
            self.dirty.note_version(line.version, forgotten, not_kept);
        }
        if self.catalog.trial.as_ref().is_some_and(|trial| trial.is_outdated) {
            self.dirty.note_trial(None);
        }
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
