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

mod action;
mod catalog;
mod compile;
mod condition;
mod conflict;
mod decision;
mod equal_comparisons;
mod explain;
mod hands;
mod index;
mod layers;
mod lint;
mod message;
mod operator;
mod order;
mod packed;
mod path;
mod pattern;
mod payload;
mod predicate;
mod price;
mod rule;
mod ruleset;
mod transform;
mod walk;

pub use action::{ACTIONS_MAX, CONCURRENCY_LIMIT_MAX};
pub use catalog::Catalog;
pub use decision::{Action, Decision, Envelope, Note, PayloadError, PayloadFormat};
pub use document::{Problem, Problems, Severity, did_you_mean};
pub use duration::parse_duration_ms;
pub use explain::{ConditionExplanation, Explanation, Outcome, RuleExplanation};
pub use hands::{Alone, Hands};
pub use layers::CHANGED_MAX;
pub use lint::TRANSFORMING_ANCESTORS_MAX;
pub use pattern::{REGEX_BYTES_MAX, REGEX_PROGRAM_BYTES_MAX};
pub use price::{CATALOG_CONDITIONS_MAX, CATALOG_NS_MAX, CATALOG_REGEX_BYTES_MAX, RULE_CONDITIONS_MAX, RULE_NS_MAX};
pub use retry::RetryPolicy;
pub use rule::{AFTER_MAX, PRIORITY_MAX, Rule};
pub use ruleset::{CheckContext, Checked, RuleSet, check, check_rule, check_with};
pub use transform::{DERIVED_VALUES_MAX, TRANSFORMS_MAX};
