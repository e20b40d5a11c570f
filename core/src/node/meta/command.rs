//! What the log of the meta partition carries.
//!
//! MessagePack with structures as arrays: a field added later goes to the end with `#[serde(default)]`, a variant added
//! later is refused by name by a version that does not know it.

use std::sync::Arc;

use distric_model::{ClusterId, Namespace, NodeId};
use serde::{Deserialize, Serialize};

use crate::node::peer::Member;

/// A change of the cluster's own state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MetaCommand {
    /// The first entry: mints the cluster. Later ones change nothing.
    Init(Init),
    /// One atomic change of one namespace's catalog.
    ApplyCatalog(Box<ApplyCatalog>),
    /// A coordinator joins the cluster, or its addresses have changed.
    PutMember(Box<Member>),
    /// A coordinator leaves the cluster for good: its id never comes back.
    RemoveMember(NodeId),
    /// Gossip is sealed with this key from now on.
    UseGossipKey(u16),
    /// The keys of gossip up to this one count no more.
    RetireGossipKeys(u16),
}

/// What `cluster init` decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// How many work groups to open; groups 1 to this number.
    pub work_groups: u32,
    /// The coordinators that vote, in every group.
    pub voters: Vec<NodeId>,
    /// Their records, as far as known.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// One atomic change, already checked by whoever proposed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyCatalog {
    /// Whose catalog.
    pub namespace: Namespace,
    /// What happens to the rules.
    pub rules: RulesChange,
    /// What happens to the workflow definitions.
    pub workflows: WorkflowsChange,
    /// Refused unless the catalog has this version.
    pub expected_version: Option<u64>,
    /// Who asked, in their own words.
    pub author: Option<Arc<str>>,
    /// Why, in their own words.
    pub reason: Option<Arc<str>>,
}

/// A change of rules. Bodies are canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RulesChange {
    /// None.
    Keep,
    /// The whole set: options (lookups, `fail_fast`, …) and every rule.
    Replace {
        /// Members of the catalog besides `rules`, a JSON object.
        options: Arc<str>,
        /// Rule id and body.
        rules: Vec<(Arc<str>, Arc<str>)>,
    },
    /// One rule, new or changed.
    Put {
        /// Its id.
        id: Arc<str>,
        /// Its body.
        body: Arc<str>,
    },
    /// One rule fewer.
    Remove {
        /// Its id.
        id: Arc<str>,
    },
}

/// A change of workflow definitions. Bodies are canonical JSON without a version; the catalog numbers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkflowsChange {
    /// None.
    Keep,
    /// The whole set; definitions that are not in it are retired (running instances keep theirs).
    Replace(Vec<(Arc<str>, Arc<str>)>),
    /// These, new or changed.
    Put(Vec<(Arc<str>, Arc<str>)>),
    /// One retired.
    Remove(Arc<str>),
}

/// The bytes are no meta command of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a command of the meta partition: {0}")]
pub struct MetaCommandError(String);

impl MetaCommand {
    /// The bytes for the log.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("a command of plain data always encodes")
    }

    /// A command from the log. Errors: see [`MetaCommandError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MetaCommandError> {
        rmp_serde::from_slice(bytes).map_err(|error| MetaCommandError(error.to_string()))
    }
}
