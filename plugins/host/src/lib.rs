//! Running task plugins and programs, each apart from the worker and from every other.
//!
//! In: a [`Spec`] per plugin (file, config, limits, grants) and a [`Call`] per attempt; a [`ProgramSpec`] per program and a [`Run`] per attempt.
//! Out: the attempt's output, or a [`CallError`] or [`ProgramError`] that says what the guest did wrong, with the last lines that it wrote.
//! May touch: `model`, `plugins/abi`; child processes, their sockets and pipes.  Never: the network, other files than the guest's.
//! Lives on: any tokio runtime; children are started by a thread of their own ([`Keeper`]).
//! Invariant: foreign code runs in the worker's process only where the spec says so in as many words.
//! Invariant: a child that has misbehaved once is never used again.
//! Start reading at [`Pool::execute`], then `child`, then `sandbox`; for programs at [`Program::run`].

mod call;
pub mod child;
mod error;
mod in_process;
mod keeper;
mod load_unsafe;
mod pool;
mod process;
mod program;
mod sandbox;
mod spec;
mod syscalls;
mod tail;
mod voice;
mod wire;

pub use call::{Call, Failed, LogLevel, Outcome, Sink};
pub use error::{CallError, LoadError, StartError};
pub use in_process::InProcess;
pub use keeper::Keeper;
pub use load_unsafe::Loaded;
pub use pool::Pool;
pub use program::{ARGUMENT_BYTES_MAX, ARGUMENTS_BYTES_MAX, Finished, Program, ProgramError, ProgramSpec, Run};
pub use spec::{Grants, Isolation, Limits, Spec};

/// Who a plugin says it is, and how it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name: the type of the tasks that it runs.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// How far it is kept apart.
    pub isolation: Isolation,
}
