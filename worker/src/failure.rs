//! Failures of the built-in tasks: stable codes, and whether another attempt may help.

use crate::TaskFailure;

/// The codes that built-in tasks fail with. Stable: retry policies (`retry_on`) name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The task's config is not what its type takes. Another attempt fails the same way.
    BadConfig,
    /// An expression did not parse, or failed on this input.
    ExpressionFailed,
    /// No connection to the host: refused, unknown name, or no trust in its certificate.
    ConnectFailed,
    /// The connection broke before the answer was whole.
    ConnectionLost,
    /// The answer did not come within the exchange's timeout.
    ExchangeTimeout,
    /// The answer's status is not an expected one.
    HttpStatus,
    /// More redirects than are followed.
    TooManyRedirects,
    /// The answer is not what its headers say.
    BadResponse,
    /// The answer or the output exceeds its limit.
    OutputTooLarge,
    /// The database refused the statement.
    SqlFailed,
    /// The database could not carry the statement out now: a deadlock, a serialization failure, a lack of resources.
    SqlPassing,
    /// The worker has no program of that name.
    UnknownProgram,
    /// The program ended with a code that is not expected.
    ExitStatus,
    /// The program was ended by a signal.
    ExitSignal,
    /// The worker could not prepare the request. Our environment, not the task.
    Internal,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::BadConfig,
        Self::ExpressionFailed,
        Self::ConnectFailed,
        Self::ConnectionLost,
        Self::ExchangeTimeout,
        Self::HttpStatus,
        Self::TooManyRedirects,
        Self::BadResponse,
        Self::OutputTooLarge,
        Self::SqlFailed,
        Self::SqlPassing,
        Self::UnknownProgram,
        Self::ExitStatus,
        Self::ExitSignal,
        Self::Internal,
    ];

    /// Its name in results, histories and retry policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadConfig => "bad_config",
            Self::ExpressionFailed => "expression_failed",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectionLost => "connection_lost",
            Self::ExchangeTimeout => "exchange_timeout",
            Self::HttpStatus => "http_status",
            Self::TooManyRedirects => "too_many_redirects",
            Self::BadResponse => "bad_response",
            Self::OutputTooLarge => "output_too_large",
            Self::SqlFailed => "sql_failed",
            Self::SqlPassing => "sql_passing",
            Self::UnknownProgram => "unknown_program",
            Self::ExitStatus => "exit_status",
            Self::ExitSignal => "exit_signal",
            Self::Internal => "internal",
        }
    }
}

/// A failure that every further attempt would meet again.
pub fn permanent(code: Code, message: impl Into<String>) -> TaskFailure {
    TaskFailure { code: code.name().to_owned(), message: message.into(), retryable: false, retry_after_ms: None }
}

/// A failure that may pass; `retry_after_ms` when the other side said how long to wait.
pub fn passing(code: Code, message: impl Into<String>, retry_after_ms: Option<u64>) -> TaskFailure {
    TaskFailure { code: code.name().to_owned(), message: message.into(), retryable: true, retry_after_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_in_snake_case() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
