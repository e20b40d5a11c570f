//! How a run of the program ends: a code for scripts, words and a remedy for people.

use std::fmt;
use std::process::ExitCode;

use distric_sdk::Error;
use distric_wire::Code;
use serde_json::{Value, json};

/// The exit codes. `docs/cli.md` lists the same; a test holds the two equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything went as asked.
    Success,
    /// The work was done and its outcome is a failure: a workflow failed, a check found problems, the demo lost something.
    FailedOutcome,
    /// The command line itself is wrong.
    Usage,
    /// What was asked for does not exist.
    NotFound,
    /// It contradicts what is there: an idempotency key with another payload, a version that has moved on.
    Conflict,
    /// Not allowed.
    Forbidden,
    /// Nobody answered, or not in time.
    Unavailable,
    /// A configuration, catalog or message that was handed in is not valid.
    BadInput,
    /// The machine says no: a port in use, a directory that cannot be used, a full disk, a missing permission.
    Environment,
    /// A node stopped by itself.
    NodeFailed,
}

impl Exit {
    /// All of them, by code.
    pub const ALL: [Self; 10] = [
        Self::Success,
        Self::FailedOutcome,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::Forbidden,
        Self::Unavailable,
        Self::BadInput,
        Self::Environment,
        Self::NodeFailed,
    ];

    /// The number that the process returns.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::FailedOutcome => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Forbidden => 5,
            Self::Unavailable => 6,
            Self::BadInput => 7,
            Self::Environment => 8,
            Self::NodeFailed => 9,
        }
    }

    /// Its name in JSON and in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::FailedOutcome => "failed_outcome",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::BadInput => "bad_input",
            Self::Environment => "environment",
            Self::NodeFailed => "node_failed",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a verb did not succeed. Printed once, by `main`.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened, naming the thing.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// One line per finding, for checks that find several.
    pub findings: Vec<String>,
}

impl Failure {
    /// A failure with one sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), remedy: None, findings: Vec::new() }
    }

    /// The same with what to do about it.
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same with findings, one line each.
    pub fn with_findings(mut self, findings: impl IntoIterator<Item = impl ToString>) -> Self {
        self.findings = findings.into_iter().map(|finding| finding.to_string()).collect();
        self
    }

    /// A file or directory that could not be used.
    pub fn io(op: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let (exit, remedy) = match error.kind() {
            std::io::ErrorKind::NotFound => (Exit::BadInput, "check the path"),
            std::io::ErrorKind::PermissionDenied => (Exit::Environment, "give this user access, or choose another path"),
            std::io::ErrorKind::StorageFull => (Exit::Environment, "free some space, or choose another file system"),
            _ => (Exit::Environment, "see the system's message"),
        };
        Self::new(exit, format!("cannot {op} {}: {error}", path.display())).with_remedy(remedy)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({"error": {"code": self.exit.name(), "exit": self.exit.code(), "message": self.message, "remedy": self.remedy, "findings": self.findings}})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        write!(f, "distric: {}", self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  try: {remedy}"),
            None => Ok(()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::new(exit_of(&error), error.to_string());
        match &error {
            Error::Connection(_) | Error::Timeout { .. } => {
                failure.with_remedy("is a node running there? start one with `distric dev`, or name it with --addr HOST:PORT")
            }
            Error::OutcomeUnknown => failure.with_remedy("send it again with the same --idempotency-key"),
            _ => failure,
        }
    }
}

fn exit_of(error: &Error) -> Exit {
    let Error::Rejected(rejection) = error else {
        return match error {
            Error::TooLarge { .. } => Exit::BadInput,
            _ => Exit::Unavailable,
        };
    };
    match rejection.code {
        Code::NotFound | Code::UnknownWorkflow => Exit::NotFound,
        Code::Conflict | Code::IdempotencyConflict | Code::PreconditionFailed => Exit::Conflict,
        Code::Unauthenticated | Code::Forbidden => Exit::Forbidden,
        Code::BadFrame
        | Code::BadMessage
        | Code::TooLarge
        | Code::BadPayload
        | Code::SchemaViolation
        | Code::BadCatalog
        | Code::BadArgument => Exit::BadInput,
        Code::UnsupportedVersion | Code::NotHello | Code::UnknownKind | Code::Internal => Exit::FailedOutcome,
        _ => Exit::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_positions_and_documented() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).unwrap();
        for (position, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), position);
            let row = format!("| {} | `{}` |", exit.code(), exit.name());
            assert!(page.contains(&row), "docs/cli.md lacks {row}");
        }
    }
}
