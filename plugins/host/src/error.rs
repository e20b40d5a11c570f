//! What can go wrong around a plugin, apart from what it says itself.

use std::path::PathBuf;

use crate::spec::Isolation;

/// A file is not a plugin that this host can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The system's loader refused it.
    #[error("{path}: not a shared library that can be loaded here: {reason}", path = path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// It does not export what a plugin exports.
    #[error("{path}: exports no `distric_plugin_v1`: {reason}", path = path.display())]
    NoSymbol {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// Another version of the interface.
    #[error("built for version {found} of the plugin interface, this host has version {expected}: build it with this host's header")]
    Version {
        /// What it says.
        found: u32,
        /// What is expected.
        expected: u32,
    },
    /// Its table is smaller than the version's.
    #[error("says that its table has {found} bytes, version 1 has {expected}: set `.size = sizeof(distric_plugin)`")]
    Size {
        /// What it says.
        found: u32,
        /// What is expected at least.
        expected: u32,
    },
    /// A required function is missing.
    #[error("`{member}` is null, and it is required")]
    MissingMember {
        /// Its name in the header.
        member: &'static str,
    },
    /// A name that cannot be a type of task.
    #[error("get_name gave {name:?}: expected 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 _ . -", NAME_BYTES_MAX = distric_plugins_abi::NAME_BYTES_MAX)]
    Name {
        /// What it gave, printable.
        name: String,
    },
    /// Its own start failed.
    #[error("init returned {returned}: it does not accept its config")]
    Init {
        /// The number.
        returned: i32,
    },
}

/// A plugin could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The file is not a usable plugin; it was looked at inside the sandbox.
    #[error("{reason}{tail}", tail = quoted(tail))]
    Refused {
        /// Why, as a sentence.
        reason: String,
        /// What it wrote last.
        tail: String,
    },
    /// The child ended before it was ready.
    #[error("the plugin's process {reason} while it started{tail}", tail = quoted(tail))]
    Died {
        /// How it ended.
        reason: String,
        /// What it wrote last.
        tail: String,
    },
    /// The child was not ready in time.
    #[error("the plugin was not ready within {within_ms} ms{tail}", tail = quoted(tail))]
    Slow {
        /// The limit, milliseconds.
        within_ms: u64,
        /// What it wrote last.
        tail: String,
    },
    /// The sandbox is weaker than what the spec requires.
    #[error("isolation {required} is required, this machine gives {reached}: {lacks}")]
    Isolation {
        /// What the spec wants.
        required: Isolation,
        /// What there is.
        reached: Isolation,
        /// What is missing.
        lacks: String,
    },
    /// Another name than the first process of this plugin gave.
    #[error("the file changed while the worker ran: it calls itself {now:?}, and was {before:?}")]
    Renamed {
        /// What it was.
        before: String,
        /// What it is.
        now: String,
    },
    /// The system refused to start a process.
    #[error("cannot start a process for the plugin: {reason}")]
    Spawn {
        /// The system's words.
        reason: String,
    },
}

/// An attempt has no outcome of the plugin's own. The process that ran it is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The process ended in the middle.
    #[error("the plugin's process {reason}{tail}", tail = quoted(tail))]
    Crashed {
        /// How it ended.
        reason: String,
        /// What it wrote last.
        tail: String,
    },
    /// It did not return in time.
    #[error("the plugin did not return within {within_ms} ms and was killed{tail}", tail = quoted(tail))]
    TimedOut {
        /// The limit, milliseconds.
        within_ms: u64,
        /// What it wrote last.
        tail: String,
    },
    /// What came from its process is not what a host's child says.
    #[error("the plugin's process sent bytes that are no answer: {reason}{tail}", tail = quoted(tail))]
    Garbled {
        /// What was wrong.
        reason: String,
        /// What it wrote last.
        tail: String,
    },
    /// There is no process for it.
    #[error("{0}")]
    NotStarted(#[from] StartError),
}

impl CallError {
    /// A short stable name, for results and `retry_on`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Crashed { .. } => "plugin_crashed",
            Self::TimedOut { .. } => "plugin_timeout",
            Self::Garbled { .. } => "plugin_garbled",
            Self::NotStarted(_) => "plugin_not_started",
        }
    }
}

fn quoted(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("; it wrote last: {tail}") }
}
