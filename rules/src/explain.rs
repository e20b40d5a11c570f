//! Explanations: every condition with what it saw and what it came to.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::catalog::{Catalog, event_type};
use crate::condition::Condition;
use crate::decision::{Action, Note};
use crate::message::{Message, flatten};
use crate::rule::{Requires, Rule};
use crate::walk::{Rules, Walk};

/// Why a message matches what it matches. Serialises to JSON; prints for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The version of the catalog that decided.
    pub catalog_version: u64,
    /// The event type of the message.
    pub event_type: Option<Arc<str>>,
    /// Ids of all matching rules, in order.
    pub matched: Vec<Arc<str>>,
    /// The rules that were asked about, in the order of evaluation, disabled ones last.
    pub rules: Vec<RuleExplanation>,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleExplanation {
    /// Its id.
    pub id: Arc<str>,
    /// Its priority.
    pub priority: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// The outcome in a sentence.
    pub reason: String,
    /// Its condition on what it saw, also when it was not tried.
    pub condition: ConditionExplanation,
    /// The payload that it saw, when rules before it in its chain had changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saw: Option<Value>,
    /// What it starts, when it matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// Its templates and expressions without a value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its condition holds.
    Matched,
    /// Its condition does not hold.
    NotMatched,
    /// Not tried: rules that it comes after did not match.
    NotDue,
    /// Not tried: a rule before it stopped.
    Cut,
    /// Not tried: it is disabled.
    Disabled,
}

/// A condition with its outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ConditionExplanation {
    /// `all`, `any` or `not` over others.
    Group {
        /// `all`, `any` or `not`.
        group: &'static str,
        /// Whether it holds.
        holds: bool,
        /// What it is over.
        conditions: Vec<ConditionExplanation>,
    },
    /// A comparison.
    Comparison {
        /// The path as written.
        field: String,
        /// The operator's name.
        operator: &'static str,
        /// What was compared with.
        value: Value,
        /// The values at the path; none when the field is missing.
        saw: Vec<Value>,
        /// Whether it holds.
        holds: bool,
    },
}

impl ConditionExplanation {
    /// Whether the condition holds.
    pub fn holds(&self) -> bool {
        match self {
            Self::Group { holds, .. } | Self::Comparison { holds, .. } => *holds,
        }
    }

    fn of(condition: &Condition, message: &Message<'_>) -> Self {
        let each = |list: &[Condition]| list.iter().map(|condition| Self::of(condition, message)).collect::<Vec<_>>();
        match condition {
            Condition::All(list) => {
                let conditions = each(list);
                Self::Group { group: "all", holds: conditions.iter().all(Self::holds), conditions }
            }
            Condition::Any(list) => {
                let conditions = each(list);
                Self::Group { group: "any", holds: conditions.iter().any(Self::holds), conditions }
            }
            Condition::Not(inner) => {
                let inner = Self::of(inner, message);
                Self::Group { group: "not", holds: !inner.holds(), conditions: vec![inner] }
            }
            Condition::Compare(comparison) => {
                let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
                message.collect(&comparison.field, &mut nodes);
                nodes.iter().for_each(|node| flatten(*node, &mut leaves));
                Self::Comparison {
                    field: comparison.field.to_string(),
                    operator: comparison.operator.name(),
                    value: comparison.value.clone(),
                    saw: nodes.iter().map(|node| node.to_json()).collect(),
                    holds: comparison.predicate.holds(&nodes, &leaves),
                }
            }
        }
    }
}

/// Runs the walk, then looks at each rule again with all its conditions.
pub(crate) fn explain(catalog: &Catalog, rules: &Rules<'_>, message: Message<'_>, only: Option<&str>) -> Explanation {
    let mut walk = Walk::run(rules, message);
    let wanted = |rule: &Rule| only.is_none_or(|id| id == rule.id());
    let mut explained = Vec::new();
    for (compiled, place) in rules.program.rules.iter().zip(0..).filter(|(compiled, _)| wanted(&compiled.rule)) {
        let rule = &*compiled.rule;
        let saw = walk.derive_view(compiled, message.payload);
        let view = Message { payload: saw.as_ref().unwrap_or(message.payload), ..message };
        let condition = ConditionExplanation::of(&rule.full_condition(), &view);
        let (outcome, reason) = match walk.cut_by {
            _ if walk.has_matched(place) => (Outcome::Matched, "its conditions hold".to_string()),
            Some(cut) if cut < place => {
                (Outcome::Cut, format!("`{}` matched before it and stopped", rules.program.rules[cut as usize].rule.id))
            }
            _ if !walk.is_due(compiled) => (Outcome::NotDue, not_due(rule, &walk, &compiled.after)),
            _ => (Outcome::NotMatched, "its conditions do not hold".to_string()),
        };
        let actions = walk.actions.iter().filter(|action| action.rule == rule.id).cloned().collect();
        let notes = walk.notes.iter().filter(|note| note.rule == rule.id).cloned().collect();
        explained.push(RuleExplanation { id: rule.id.clone(), priority: rule.priority, outcome, reason, condition, saw, actions, notes });
    }
    for rule in catalog.rules().iter().filter(|rule| !rule.enabled && wanted(rule)) {
        explained.push(RuleExplanation {
            id: rule.id.clone(),
            priority: rule.priority,
            outcome: Outcome::Disabled,
            reason: "it is disabled".into(),
            condition: ConditionExplanation::of(&rule.full_condition(), &message),
            saw: None,
            actions: Vec::new(),
            notes: Vec::new(),
        });
    }
    Explanation {
        catalog_version: catalog.version(),
        event_type: event_type(message.envelope, message.payload),
        matched: walk.matched.iter().map(|place| rules.program.rules[*place as usize].rule.id.clone()).collect(),
        rules: explained,
    }
}

fn not_due(rule: &Rule, walk: &Walk<'_>, after: &[Option<u32>]) -> String {
    let missing = rule.after.iter().zip(after).filter(|(_, place)| !place.is_some_and(|place| walk.has_matched(place)));
    let names: Vec<String> = missing.map(|((id, _), _)| format!("`{id}`")).collect();
    match rule.requires {
        Requires::All => format!("it comes after {}, which did not match", names.join(", ")),
        Requires::Any => format!("it comes after any of {}, and none of them matched", names.join(", ")),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event_type = self.event_type.as_deref().unwrap_or("none");
        writeln!(f, "catalog version {}, event type {event_type}, {} of the rules match", self.catalog_version, self.matched.len())?;
        self.rules.iter().try_for_each(|rule| write!(f, "\n{rule}"))
    }
}

impl fmt::Display for RuleExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Matched => "matches",
            Outcome::NotMatched => "does not match",
            Outcome::NotDue | Outcome::Cut | Outcome::Disabled => "was not tried",
        };
        writeln!(f, "{} (priority {}) {outcome}: {}", self.id, self.priority, self.reason)?;
        write_condition(f, &self.condition, 1)?;
        if let Some(saw) = &self.saw {
            writeln!(f, "  saw {saw}")?;
        }
        for action in &self.actions {
            let version = action.version.map_or("latest".to_string(), |version| version.to_string());
            writeln!(f, "  starts {} ({version}) with {}", action.workflow, action.params)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  no value for {}: {}", note.path, note.message))
    }
}

fn write_condition(f: &mut fmt::Formatter<'_>, condition: &ConditionExplanation, depth: usize) -> fmt::Result {
    let mark = if condition.holds() { "yes" } else { "no " };
    let indent = "  ".repeat(depth);
    match condition {
        ConditionExplanation::Group { group, conditions, .. } => {
            let empty = if conditions.is_empty() { " (of nothing)" } else { "" };
            writeln!(f, "{indent}{mark} {group}{empty}")?;
            conditions.iter().try_for_each(|condition| write_condition(f, condition, depth + 1))
        }
        ConditionExplanation::Comparison { field, operator, value, saw, .. } => {
            write!(f, "{indent}{mark} {field} {operator} {value}, ")?;
            match saw.as_slice() {
                [] => writeln!(f, "the field is missing"),
                saw => writeln!(f, "saw {}", saw.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")),
            }
        }
    }
}
