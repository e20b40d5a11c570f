//! What a database refused, as failures of the task: what happened, where in the query, and whether another attempt may help.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{ErrorPosition, SqlState};

use super::DEDUPE_TABLE;
use crate::TaskFailure;
use crate::failure::{self, Code};

/// A statement failed; `part` says which: `query` or `dedupe`.
pub(super) fn failed(part: &str, error: &Error) -> TaskFailure {
    let Some(db) = error.as_db_error() else {
        return if error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()) {
            failure::passing(Code::ConnectionLost, text_of(error), None)
        } else {
            // A value that does not fit its parameter, or a column that cannot be read.
            failure::permanent(Code::BadConfig, text_of(error))
        };
    };
    if part == "dedupe" && *db.code() == SqlState::UNDEFINED_TABLE {
        return failure::permanent(
            Code::BadConfig,
            format!("config.dedupe: the database has no table for it; make it with: {DEDUPE_TABLE}"),
        );
    }
    let at = match db.position() {
        Some(ErrorPosition::Original(at)) => format!(" at character {at} of the query"),
        _ => String::new(),
    };
    let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let message = format!("{} {}{at}{detail}", db.code().code(), db.message());
    match db.code().code() {
        // Connection, resources, operator intervention, transaction rollback, lock not available: the next attempt may find it otherwise.
        code if matches!(&code[..2], "08" | "40" | "53" | "57" | "58") || code == "55P03" => {
            failure::passing(Code::SqlPassing, message, None)
        }
        _ => failure::permanent(Code::SqlFailed, message),
    }
}

/// The connection did not do what every connection does.
pub(super) fn lost(error: Error) -> TaskFailure {
    if error.as_db_error().is_some() { failed("query", &error) } else { failure::passing(Code::ConnectionLost, text_of(&error), None) }
}

/// No connection came about.
pub(super) fn unreached(name: &str, error: &PoolError) -> TaskFailure {
    let reason = match error {
        PoolError::Backend(error) => text_of(error),
        other => other.to_string(),
    };
    failure::passing(Code::ConnectFailed, format!("database `{name}`: {reason}"), None)
}

/// The words of an error and of what caused it.
pub(super) fn text_of(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
