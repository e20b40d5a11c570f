//! The rules oracle: drawn rules and messages, and an evaluator so plain that it can be read against the language's definition.
//!
//! In: a seed.  Out: rules and messages as text; for each message the ids that must match; a difference, when there is one.
//! May touch: `rules`.  Never: clocks, unseeded draws; the evaluator itself knows nothing of `rules` but the JSON of its documents.
//! Invariant: [`Oracle`] shares no code with the index: own paths, own predicates, an NFA simulation for regular expressions.
//! Start reading at [`oracle`], then [`diff::run_seed`].

pub mod diff;
pub mod draw;
pub mod metamorphic;
pub mod odd;
pub mod oracle;
pub mod predicates;
pub mod words;
pub mod workload;

pub use oracle::Oracle;
pub use workload::{Mix, Workload};
