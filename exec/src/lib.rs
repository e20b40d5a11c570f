//! Workflow definitions and the replicated machine.
//!
//! In: committed [`Command`]s of one work group, each with its log index, the leader's time stamp and random draw.
//! Out: [`Effect`]s.  May touch: `model`, `rules` (expressions).  Never: terms, sockets, files, clocks, threads.
//! Lives on: the shard that owns the group; one owner, no sharing.
//! Invariant: the same commands give the same state, byte for byte, on every replica.
//! Start reading at [`Machine::apply`].

pub mod command;
pub mod definition;
pub mod machine;
pub mod octets;
mod resources;

pub use command::Command;
pub use machine::{
    Assignment, CHECKPOINT_FORMAT, Context, DefaultStrategy, Effect, Event, InResult, Machine, Out, OutBody, Published, Refusal,
    RefusalCode, Reply, RestoreError, Sent, Settings, Stats, Verdict,
};
pub use octets::Octets;
