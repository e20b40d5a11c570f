//! One replica of one Raft group, a pure machine.
//!
//! In: [`Input`]s with the time of their arrival.  Out: [`Outputs`], filled into a buffer of the caller.
//! May touch: `model`.  Never: sockets, files, clocks, threads, unseeded randomness, the meaning of a command.
//! Lives on: the raft core of a node; one value per group, one owner, no sharing.
//!
//! The disk is a peer. The machine hands out a [`Persist`] with a [`Ticket`] and goes on; what may not be said
//! before that write is durable stays inside the machine until [`Input::Persisted`] names the ticket. There is
//! nothing for the caller to order or to hold back: whatever is in [`Outputs`] may be done at once.
//!
//! Invariant: at most one leader per term.   Invariant: a committed entry never changes.
//! Invariant: a vote, a term and a match index leave this machine only after the write that they rest on.
//! Invariant: what is compacted away is applied and in a durable checkpoint.
//! Source: Ongaro & Ousterhout 2014 (figure 2, sections 5.2-5.4, 7); Ongaro 2014, sections 3.10, 4, 5, 6.4, 9.6 and 10.2.1.
//! Start reading at [`Raft::step`].
#![forbid(unsafe_code)]

mod door;
mod entry;
mod message;
mod position;

mod config;
mod membership;
mod quorum;
mod recovered;
mod snapshot;
mod status;

mod node;
mod role;

mod change;
mod election;
mod follower;
mod leader;
mod lease;
mod progress;
mod read;
mod transfer;

mod core;
mod durability;
mod log;
mod random;

pub use config::{Config, ConfigError};
pub use door::{
    Accepted, ChangeAnswer, ChangeRefusal, Input, Install, Load, Outputs, Persist, ReadId, ReadReady, ReadRefusal, ReadRefused, Refusal,
    Refused, RoleChange, RoleKind, TransferAnswer, TransferOutcome,
};
pub use entry::{Entry, EntryKind};
pub use membership::{Goal, Membership, MembershipError};
pub use message::{AppendOutcome, Body, Heartbeat, HeartbeatReply, Message};
pub use node::{Raft, StartError};
pub use position::{HardState, LogIndex, Position, Term, Ticket};
pub use recovered::{Recovered, RecoveredError, TermRun};
pub use snapshot::Snapshot;
pub use status::{PeerStatus, Stats, Status};
