//! Admission: which instances may begin, by key: concurrency, order, rate, debounce, batches.
//!
//! A key has a home, the group of its slot, because instances of one key live in many groups and a limit is meant for the cluster.
//! There a *gate* keeps who waits and who is inside. An instance asks at one gate after another and begins when all let it in; asking,
//! letting in and leaving travel as outbox records.
//! Invariant: no more instances are inside a gate than its limit. Invariant: those of one group are let in in the order in which
//! they asked. Invariant: gates are passed in one order for all, so that instances that hold one and wait for another form no circle.
//! Start reading at `door`, the instance's side, then `keeper`, the key's.

pub(in crate::machine) mod door;
pub(in crate::machine) mod gates;
mod keeper;
mod view;

use std::sync::Arc;

use distric_model::{InstanceId, Namespace, Slot};
use serde::{Deserialize, Serialize};

use crate::definition::GateRule;
use crate::octets::Octets;

/// Most starts that wait at one gate. One more fails, as an incident.
pub const STARTS_PER_KEY_MAX: usize = 10_000;
/// Most gates that one group keeps. A start at one more fails.
pub const GATES_MAX: usize = 1_000_000;
/// Most bytes of inputs in one batch; a batch that would hold more begins before that.
pub const BATCH_BYTES_MAX: usize = distric_model::limits::MESSAGE_BYTES_MAX;

/// Which gate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GateKey {
    /// Whose it is.
    pub namespace: Namespace,
    /// The key.
    pub key: Arc<str>,
    /// What the key belongs to: the rule's name, and the workflow when it is the workflow's own.
    pub scope: Arc<str>,
}

impl GateKey {
    /// The slot of its home.
    pub fn slot(&self) -> Slot {
        Slot::of(self.namespace.as_str(), self.key.as_bytes())
    }

    /// What it is charged.
    fn bytes(&self) -> u64 {
        (self.key.len() + self.scope.len()) as u64
    }
}

/// An instance asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Where.
    pub gate: GateKey,
    /// By what rule: the latest one that is told counts.
    pub rule: GateRule,
    /// The instance.
    pub instance: InstanceId,
    /// Which of its gates.
    pub place: u8,
    /// Which of its lives: one more each time that an operator has it done anew.
    pub round: u32,
    /// The record of the same outbox and gate that must be applied first; 0 when there is none.
    pub after: u64,
    /// Its input, for a batch: JSON text.
    pub input: Octets,
}

/// An instance does not wait, or is not inside, any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Where.
    pub gate: GateKey,
    /// The instance.
    pub instance: InstanceId,
    /// Which of its lives, or an earlier one.
    pub round: u32,
    /// As in [`Ask`].
    pub after: u64,
}

/// What a gate tells an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which gate.
    pub gate: GateKey,
    /// The instance.
    pub instance: InstanceId,
    /// Which of its gates that is.
    pub place: u8,
    /// Which of its lives.
    pub round: u32,
    /// What.
    pub word: Word,
}

impl Word {
    /// Whether it lets an instance in.
    pub(in crate::machine) fn is_entry(&self) -> bool {
        matches!(self, Self::Enter | Self::EnterWith(_))
    }
}

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Come in.
    Enter,
    /// Come in, with this input: a JSON list of the inputs of a batch.
    EnterWith(Octets),
    /// Never begin; nothing is wrong.
    Skip {
        /// A short stable name.
        code: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// Never begin: there is no room.
    Fail {
        /// A short stable name.
        code: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// End, although it has begun.
    End {
        /// A short stable name.
        code: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
}
