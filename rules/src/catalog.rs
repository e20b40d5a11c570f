//! door
use serde_json::Value;
use crate::decision::{Decision, Envelope, PayloadError};
use crate::document::Problem;
use crate::ruleset::RuleSet;
/// A compiled rule set.
#[derive(Debug)]
pub struct Catalog { version: u64, rules: RuleSet }
#[allow(missing_docs, unused)]
impl Catalog {
    pub fn compile(version: u64, rules: &RuleSet) -> Result<Self, Vec<Problem>> { Ok(Self { version, rules: rules.clone() }) }
    pub fn decide(&self, envelope: &Envelope<'_>, payload: &[u8]) -> Result<Decision, PayloadError> { Ok(Decision::default()) }
    pub fn decide_value(&self, envelope: &Envelope<'_>, payload: &Value) -> Decision { Decision::default() }
    pub fn explain(&self, envelope: &Envelope<'_>, payload: &Value, rule: Option<&str>) -> crate::explain::Explanation { crate::explain::Explanation::default() }
    pub fn version(&self) -> u64 { self.version }
    pub fn rules(&self) -> &RuleSet { &self.rules }
    pub fn keep_unmatched(&self) -> bool { self.rules.keep_unmatched() }
}
