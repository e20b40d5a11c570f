//! The rule language: parse, check, match, explain.
//!
//! In: text of rules, then messages.  Out: problems with their places; a [`Catalog`]; for each message a [`Decision`].
//! May touch: `model`.  Never: the log, sockets, clocks, threads, random numbers, iteration over hash maps.
//! Invariant: the same catalog and the same message give the same decision, on every machine.
//! Start reading at [`document`], then [`check`], then [`Catalog::decide`].

pub mod document;
pub mod duration;
pub mod expr;
pub mod retry;

mod catalog;
mod decision;
mod explain;
mod ruleset;

pub use catalog::Catalog;
pub use decision::{Action, Decision, Envelope, Note, PayloadError};
pub use document::{Problem, Problems, Severity, did_you_mean};
pub use duration::parse_duration_ms;
pub use explain::Explanation;
pub use retry::RetryPolicy;
pub use ruleset::{CheckContext, Checked, Rule, RuleSet, check, check_rule};
