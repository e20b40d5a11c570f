//! Placement: which worker may run a task, and which of those should.
//!
//! `where` is a condition on what a worker says of itself when it opens its session, so that it holds or does not as long as the session
//! lasts; `prefer` is a number that also sees how busy the worker is at that moment.

use distric_rules::did_you_mean;
use distric_rules::document::{Cursor, Problems};

use super::references::{parse_bare, report_reference};

/// What `where` sees of a worker.
pub(crate) const WORKER_CONSTANTS: [&str; 7] = ["id", "name", "labels", "slots", "prefetch", "cpu", "memory"];
/// What `prefer` sees besides.
pub(crate) const WORKER_LOADS: [&str; 5] = ["granted", "in_use", "free", "cpu_free", "memory_free"];
/// What both call it.
pub(crate) const WORKER_NAME: &str = "worker";

/// Checks the expressions of a `placement` that was read.
pub(super) fn check(placement: &Cursor<'_>, problems: &mut Problems) {
    // Wrong shapes were reported when it was read.
    let Some(members) = placement.any_map(&mut Problems::new("")) else {
        return;
    };
    if let Some(condition) = members.get("where") {
        check_expression(&condition, "where", &WORKER_CONSTANTS, problems);
    }
    if let Some(number) = members.get("prefer") {
        let seen: Vec<&str> = WORKER_CONSTANTS.into_iter().chain(WORKER_LOADS).collect();
        check_expression(&number, "prefer", &seen, problems);
    }
}

fn check_expression(cursor: &Cursor<'_>, member: &str, seen: &[&str], problems: &mut Problems) {
    let Some((expr, columns)) = parse_bare(cursor, problems) else {
        return;
    };
    for reference in expr.paths() {
        let message = match (reference.path[0].as_str(), reference.path.get(1).map(String::as_str)) {
            (WORKER_NAME, None) => Some(format!("`{WORKER_NAME}` is followed by one of {}", seen.join(", "))),
            (WORKER_NAME, Some(field)) if seen.contains(&field) => None,
            (WORKER_NAME, Some(field)) if WORKER_LOADS.contains(&field) => {
                Some(format!("`{member}` does not see `{field}`, which changes while a task waits; `prefer` does"))
            }
            (WORKER_NAME, Some(field)) => Some(match did_you_mean(field, seen) {
                Some(near) => format!("a worker has no `{field}`, did you mean `{near}`?"),
                None => format!("a worker has no `{field}`, only {}", seen.join(", ")),
            }),
            (other, _) => Some(format!("there is no `{other}` here: `{member}` sees `{WORKER_NAME}` alone")),
        };
        if let Some(message) = message {
            report_reference(cursor, columns, &reference, message, None, problems);
        }
    }
}
