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

pub use document::{Problem, Problems, Severity, did_you_mean};
pub use duration::parse_duration_ms;
pub use retry::RetryPolicy;
