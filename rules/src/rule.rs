//! One rule: as written, checked.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::action::{ACTIONS_MAX, Start, parse_name};
use crate::condition::{Comparison, Condition};
use crate::document::{Cursor, Position, Problem, Problems};
use crate::path::Path;
use crate::price::Price;
use crate::transform::{TRANSFORMS_MAX, Transform};

/// Largest priority, and the smallest with a minus sign.
pub const PRIORITY_MAX: i64 = 1_000_000_000;
/// Most rules that one rule may come after.
pub const AFTER_MAX: usize = 256;

/// How many of the rules it comes after must have matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Requires {
    #[default]
    All,
    Any,
}

/// One checked rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) description: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) priority: i64,
    pub(crate) event_type: Option<String>,
    pub(crate) condition: Condition,
    /// Where the conditions begin; where the rule begins when it has none.
    pub(crate) condition_at: Position,
    pub(crate) transforms: Vec<Transform>,
    pub(crate) after: Vec<(Arc<str>, Position)>,
    pub(crate) requires: Requires,
    pub(crate) stop: bool,
    pub(crate) starts: Vec<Start>,
    /// The name of the text that it comes from.
    pub(crate) source: Arc<str>,
    /// Where it begins there.
    pub(crate) at: Position,
    /// `rules[3]`; empty when the rule was a document of its own.
    pub(crate) path: String,
    /// What it costs, as far as it alone decides that.
    pub(crate) price: Price,
}

const KEYS: [&str; 13] = [
    "id",
    "description",
    "enabled",
    "priority",
    "event_type",
    "conditions",
    "when",
    "transform",
    "after",
    "requires",
    "on_match",
    "actions",
    "version",
];

impl Rule {
    /// Its id, unique in its rule set.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What its author says about it.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Whether it takes part.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Higher ones are tried first.
    pub fn priority(&self) -> i64 {
        self.priority
    }

    /// The workflows that it may start, in the order of its actions.
    pub fn workflows(&self) -> impl Iterator<Item = &str> {
        self.starts.iter().map(|start| &*start.workflow)
    }

    /// Reads one rule. Every problem is added; `None` when there was an error.
    pub(crate) fn parse(cursor: &Cursor<'_>, problems: &mut Problems, tables: Option<&[&str]>) -> Option<Self> {
        let errors_before = problems.errors_count();
        let members = cursor.map(problems, &KEYS)?;
        let id = members.required(problems, "id").and_then(|at| parse_name(&at, problems, "a rule's id"));
        let description = members.get("description").and_then(|at| at.string(problems)).map(String::from);
        let enabled = members.get("enabled").and_then(|at| at.bool(problems)).unwrap_or(true);
        let priority = members.get("priority").and_then(|at| at.integer(problems, -PRIORITY_MAX, PRIORITY_MAX)).unwrap_or(0);
        let event_type = members.get("event_type").and_then(|at| at.string(problems)).map(String::from);
        let conditions = members.alias(problems, &["conditions", "when"]);
        let condition_at = conditions.as_ref().map_or(cursor.at(), Cursor::at);
        let condition = match &conditions {
            Some(at) if !at.node.is_null() => Condition::parse(at, problems),
            _ => Some(Condition::always()),
        };
        let transforms =
            parse_items(members.get("transform"), problems, TRANSFORMS_MAX, |at, problems| Transform::parse(at, problems, tables));
        let after = parse_items(members.get("after"), problems, AFTER_MAX, |at, problems| {
            let name = parse_name(at, problems, "a rule's id")?;
            Some((Arc::from(name), at.at()))
        });
        let requires = match members.get("requires").and_then(|at| at.word(problems, &["all", "any"])) {
            Some(1) => Requires::Any,
            _ => Requires::All,
        };
        let stop = members.get("on_match").and_then(|at| at.word(problems, &["continue", "stop"])) == Some(1);
        let starts = parse_items(members.get("actions"), problems, ACTIONS_MAX, Start::parse);
        if let Some(at) = members.get("version") {
            at.warning(problems, "`version` is given by the catalog; the one written here is not used", None);
        }
        if problems.errors_count() > errors_before {
            return None;
        }
        let condition = condition?;
        let price = Price::of(&condition, event_type.is_some());
        Some(Self {
            id: id?.into(),
            description,
            enabled,
            priority,
            event_type,
            condition,
            condition_at,
            transforms: transforms?,
            after: after?,
            requires,
            stop,
            starts: starts?,
            source: problems.file().into(),
            at: cursor.at(),
            path: cursor.path.clone(),
            price,
        })
    }

    /// Canonical JSON; what has its default is left out.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.id));
        if let Some(description) = &self.description {
            map.insert("description".into(), json!(description));
        }
        if !self.enabled {
            map.insert("enabled".into(), json!(false));
        }
        if self.priority != 0 {
            map.insert("priority".into(), json!(self.priority));
        }
        if let Some(event_type) = &self.event_type {
            map.insert("event_type".into(), json!(event_type));
        }
        map.insert("conditions".into(), self.condition.to_json());
        if !self.transforms.is_empty() {
            map.insert("transform".into(), self.transforms.iter().map(Transform::to_json).collect());
        }
        if !self.after.is_empty() {
            map.insert("after".into(), self.after.iter().map(|(id, _)| json!(id)).collect());
        }
        if self.requires == Requires::Any {
            map.insert("requires".into(), json!("any"));
        }
        if self.stop {
            map.insert("on_match".into(), json!("stop"));
        }
        if !self.starts.is_empty() {
            map.insert("actions".into(), self.starts.iter().map(Start::to_json).collect());
        }
        Value::Object(map)
    }

    /// The whole condition: the event type, then the conditions.
    pub(crate) fn full_condition(&self) -> Condition {
        match &self.event_type {
            Some(event_type) => {
                Condition::All(vec![Condition::Compare(Arc::new(Comparison::event_type_equals(event_type))), self.condition.clone()])
            }
            None => self.condition.clone(),
        }
    }

    /// Whether an expression of the rule reads `$timestamp`, or a transform copies it.
    pub(crate) fn reads_timestamp(&self) -> bool {
        self.transforms.iter().any(|transform| transform.reads(&Path::Timestamp))
            || self.starts.iter().any(|start| start.reads("$timestamp"))
    }

    /// An error at a part of the rule.
    pub(crate) fn error(&self, at: Position, part: &str, message: impl Into<String>, expected: Option<&str>) -> Problem {
        Problem::error(&self.source, at, &self.part(part), message, expected.map(Into::into))
    }

    /// A warning at a part of the rule.
    pub(crate) fn warning(&self, at: Position, part: &str, message: impl Into<String>) -> Problem {
        Problem::warning(&self.source, at, &self.part(part), message, None)
    }

    fn part(&self, part: &str) -> String {
        match (self.path.is_empty(), part.is_empty()) {
            (true, _) => part.into(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{part}", self.path),
        }
    }
}

/// Reads a list whose items are all read before one failure counts; an absent list is empty.
fn parse_items<T>(
    at: Option<Cursor<'_>>,
    problems: &mut Problems,
    items_max: usize,
    parse: impl Fn(&Cursor<'_>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(at) = at else { return Some(Vec::new()) };
    let items = at.list(problems)?;
    if items.len() > items_max {
        at.error(problems, format!("found a list of {}", items.len()), Some(&format!("at most {items_max} items")));
        return None;
    }
    let parsed: Vec<Option<T>> = items.iter().map(|item| parse(item, problems)).collect();
    parsed.into_iter().collect()
}
