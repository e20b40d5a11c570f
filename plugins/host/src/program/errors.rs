//! What can go wrong around a program, apart from how it ends by itself.

use crate::spec::Isolation;

/// A program could not be started, or did not end by itself. Nothing of it is alive any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The system refused to start a process.
    #[error("cannot start a process for the program: {reason}")]
    Spawn {
        /// The system's words.
        reason: String,
    },
    /// The file cannot be run.
    #[error("{reason}")]
    Refused {
        /// Why, as a sentence.
        reason: String,
    },
    /// Its process ended before it was shut in.
    #[error("the program's process {reason} while it started{tail}", tail = quoted(tail))]
    Died {
        /// How it ended.
        reason: String,
        /// What it wrote last.
        tail: String,
    },
    /// Its process was not shut in in time.
    #[error("the program was not ready within {within_ms} ms{tail}", tail = quoted(tail))]
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
    /// It did not end in time.
    #[error("the program did not end within {within_ms} ms and was killed{tail}", tail = quoted(tail))]
    TimedOut {
        /// The limit, milliseconds.
        within_ms: u64,
        /// What it wrote last.
        tail: String,
    },
    /// It wrote too much to stdout.
    #[error("the program wrote more than {bytes_max} bytes to stdout and was killed{tail}", tail = quoted(tail))]
    OutputTooLarge {
        /// The limit, bytes.
        bytes_max: usize,
        /// What it wrote last to stderr.
        tail: String,
    },
    /// It started too many processes.
    #[error("the program had more than {processes_max} processes and was killed{tail}", tail = quoted(tail))]
    TooManyProcesses {
        /// The limit.
        processes_max: usize,
        /// What it wrote last.
        tail: String,
    },
    /// Nobody can say how it ended.
    #[error("the program {reason}{tail}", tail = quoted(tail))]
    Lost {
        /// What happened instead.
        reason: String,
        /// What it wrote last.
        tail: String,
    },
}

impl ProgramError {
    /// A short stable name, for results and `retry_on`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Spawn { .. } | Self::Refused { .. } | Self::Died { .. } | Self::Slow { .. } | Self::Isolation { .. } => {
                "program_not_started"
            }
            Self::TimedOut { .. } => "program_timeout",
            Self::OutputTooLarge { .. } => "output_too_large",
            Self::TooManyProcesses { .. } => "too_many_processes",
            Self::Lost { .. } => "program_lost",
        }
    }

    /// Whether another attempt may end otherwise.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::OutputTooLarge { .. } | Self::TooManyProcesses { .. })
    }
}

fn quoted(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("; it wrote last: {tail}") }
}
