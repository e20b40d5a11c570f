//! door
use std::collections::BTreeSet;
use serde_json::Value;
use crate::document::Problem;
/// What a check may know about its surroundings.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckContext<'a> {
    /// The workflows that exist, when that is known.
    pub known_workflows: Option<&'a BTreeSet<String>>,
}
/// A checked text.
#[derive(Debug)]
pub struct Checked {
    /// The rule set, when there is no error.
    pub catalog: Option<RuleSet>,
    /// Everything found, in the order of the text.
    pub problems: Vec<Problem>,
}
/// Checked rules.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {}
/// One checked rule.
#[derive(Clone, Debug)]
pub struct Rule {}
#[allow(missing_docs, unused)]
impl Rule {
    pub fn id(&self) -> &str { "" }
    pub fn priority(&self) -> i64 { 0 }
    pub fn enabled(&self) -> bool { true }
    pub fn to_json(&self) -> Value { Value::Null }
}
/// Checks a catalog file: `rules:`, `lookups:`, `fail_fast:`, `keep_unmatched:`.
pub fn check(_source_name: &str, _text: &str, _context: &CheckContext<'_>) -> Checked { Checked { catalog: None, problems: vec![] } }
/// Checks the text of one rule (a map with `id`, ...), as the body of a request has it.
pub fn check_rule(_source_name: &str, _text: &str) -> Result<Rule, Vec<Problem>> { Err(vec![]) }
#[allow(missing_docs, unused)]
impl RuleSet {
    /// The rules by id.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> { std::iter::empty() }
    pub fn rule(&self, id: &str) -> Option<&Rule> { None }
    pub fn fail_fast(&self) -> bool { false }
    pub fn keep_unmatched(&self) -> bool { false }
    pub fn to_json(&self) -> Value { Value::Null }
    pub fn from_json(value: &Value) -> Result<Self, Vec<Problem>> { Err(vec![]) }
    /// Adds the rule or replaces the one with its id.
    pub fn with_rule(&self, rule: Rule, context: &CheckContext<'_>) -> Checked { Checked { catalog: None, problems: vec![] } }
    /// `None`: no rule has this id.
    pub fn without_rule(&self, id: &str) -> Option<Checked> { None }
}
