//! What a worker decides about a plugin before it runs: limits, grants, and how far apart it must be kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use distric_model::limits::TASK_OUTPUT_BYTES_MAX;

/// How far a plugin is kept apart from its worker. Ordered: a later one includes the earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Not at all: it runs in the worker's own process.
    None,
    /// A process of its own: resource limits, clean environment, no privileges; it can neither crash nor stall the worker.
    #[default]
    Process,
    /// Also no system call beyond a short list: no processes, no sockets, no signals to others, no io_uring.
    Syscalls,
    /// Also no file beyond system libraries, itself, and what it is granted.
    Full,
}

impl Isolation {
    /// All of them, weakest first.
    pub const ALL: [Self; 4] = [Self::None, Self::Process, Self::Syscalls, Self::Full];

    /// Its name in settings, labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Process => "process",
            Self::Syscalls => "syscalls",
            Self::Full => "full",
        }
    }

    /// By its name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a plugin may use up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Address space of one process, bytes.
    pub memory_bytes: u64,
    /// Processor time of one attempt, seconds.
    pub cpu_s: u64,
    /// Open files of one process.
    pub files: u64,
    /// Largest file that it may write, bytes; without a grant to write it is zero whatever this says.
    pub file_bytes: u64,
    /// Largest output of one attempt, bytes.
    pub output_bytes: usize,
    /// Time of one attempt that has no limit of its own, milliseconds.
    pub timeout_ms: u64,
    /// Time until a new process is ready, milliseconds.
    pub start_timeout_ms: u64,
    /// Most processes, and so most attempts at once.
    pub processes: usize,
    /// Attempts after which a process is replaced, against leaks.
    pub calls_per_process: u64,
}

impl Default for Limits {
    /// 512 MiB, 60 s of processor and of time, 64 files, 64 MiB per file, the largest output that a task may have, four processes.
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            cpu_s: 60,
            files: 64,
            file_bytes: 64 << 20,
            output_bytes: TASK_OUTPUT_BYTES_MAX,
            timeout_ms: 60_000,
            start_timeout_ms: 10_000,
            processes: 4,
            calls_per_process: 1_000_000,
        }
    }
}

/// What a plugin may do beyond computing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Files and directories that it may read.
    pub read: Vec<PathBuf>,
    /// Files and directories that it may read and change.
    pub write: Vec<PathBuf>,
    /// Connections over IPv4 and IPv6.
    pub network: bool,
    /// Threads of its own; processes never.
    pub threads: bool,
    /// Secrets by name. They reach the plugin through its context alone.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("read", &self.read)
            .field("write", &self.write)
            .field("network", &self.network)
            .field("threads", &self.threads)
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// A plugin and everything that was decided about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The shared library.
    pub path: PathBuf,
    /// Its config, JSON, for `init`.
    pub config_json: String,
    /// What it may use up.
    pub limits: Limits,
    /// What it may do.
    pub grants: Grants,
    /// The weakest isolation with which it may run.
    pub isolation_required: Isolation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_named() {
        assert!(Isolation::ALL.is_sorted());
        assert!(Isolation::ALL.into_iter().all(|level| Isolation::of_name(level.name()) == Some(level)));
        assert_eq!(Isolation::of_name("strong"), None);
    }

    #[test]
    fn secrets_are_not_printed() {
        let grants = Grants { secrets: BTreeMap::from([("KEY".to_owned(), "hidden-value".to_owned())]), ..Grants::default() };
        let shown = format!("{grants:?}");
        assert!(shown.contains("KEY") && !shown.contains("hidden-value"));
    }
}
