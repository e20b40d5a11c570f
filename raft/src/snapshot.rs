//! Snapshots as the log sees them: a position up to which the state machine's state stands for the entries, and who was
//! a member there. The bytes of the state are the driver's matter.

use serde::{Deserialize, Serialize};

use crate::membership::Membership;
use crate::position::Position;

/// What a snapshot of the state machine contains, for the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry in it. Everything up to there is applied, and committed.
    pub position: Position,
    /// The members in force at that entry, a joint configuration included (Ongaro 2014, section 5.1).
    pub membership: Membership,
}
