//! What the log of the meta partition carries.
//!
//! MessagePack with structures as arrays: a field added later goes to the end with `#[serde(default)]`, a variant added
//! later is refused by name by a version that does not know it.

use std::sync::Arc;

use distric_model::{ClusterId, Namespace, NodeId};
use serde::{Deserialize, Serialize};

use super::trial::{StartTrial, TrialName};
use crate::node::peer::Member;

/// A larger command is compressed for the log, bytes.
pub const PACK_ABOVE_BYTES: usize = 64 << 10;
/// What a command of the log may become when it is unpacked, bytes.
pub const UNPACKED_BYTES_MAX: u32 = 128 << 20;
/// Largest command as it goes to the log, bytes: what raft takes, less the envelope around it.
pub const META_COMMAND_BYTES_MAX: usize = (4 << 20) - 1_024;

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
    /// A candidate is put beside the catalog.
    StartTrial(Box<StartTrial>),
    /// The candidate is there for another share of the messages, in hundredths of a percent.
    SetTrial(TrialName, u32),
    /// The candidate is taken away.
    EndTrial(TrialName),
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
    /// The whole set becomes the candidate that is on trial, and the trial ends.
    Promote {
        /// The candidate.
        version: u64,
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
    /// The bytes for the log: one LZ4 frame when there are many, since catalogs are texts that repeat themselves.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = rmp_serde::to_vec(self).expect("a command of plain data always encodes");
        if bytes.len() <= PACK_ABOVE_BYTES {
            return bytes;
        }
        let mut packed = Vec::with_capacity(bytes.len() / 4);
        distric_wire::pack(&bytes, &mut packed);
        packed
    }

    /// A command from the log. Errors: see [`MetaCommandError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MetaCommandError> {
        // No command begins as an LZ4 frame does: it is a map or a text, and the frame's first byte is a number.
        if distric_wire::is_packed(bytes) {
            let unpacked = distric_wire::unpack(bytes, UNPACKED_BYTES_MAX).map_err(MetaCommandError)?;
            return rmp_serde::from_slice(&unpacked).map_err(|error| MetaCommandError(error.to_string()));
        }
        rmp_serde::from_slice(bytes).map_err(|error| MetaCommandError(error.to_string()))
    }
}
