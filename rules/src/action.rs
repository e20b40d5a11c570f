//! Actions: which workflow a rule starts, and how.

use std::sync::Arc;

use distric_model::limits::NAME_BYTES_MAX;
use distric_model::namespace::is_identifier;
use serde_json::{Map, Value, json};

use crate::document::{Cursor, NodeValue, Position, Problems};
use crate::duration::{duration_text, read_duration_ms};
use crate::expr::Template;
use crate::retry::RetryPolicy;
use crate::transform::compile_template;

/// Most actions of one rule.
pub const ACTIONS_MAX: usize = 256;
/// Largest limit under `concurrency`.
pub const CONCURRENCY_LIMIT_MAX: u32 = 1_000_000;

/// A start of a workflow as a rule asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub workflow: Arc<str>,
    /// Where the workflow is named.
    pub at: Position,
    /// `None`: the latest one.
    pub version: Option<u64>,
    /// Each parameter with its template, so that one without a value does not take the others with it.
    pub params: Vec<(String, Text)>,
    pub timeout_ms: Option<u64>,
    pub retry: Option<RetryPolicy>,
    pub ordering_key: Option<Text>,
    pub concurrency: Option<(Text, u32)>,
    pub delay_ms: u64,
}

/// A template with what it was written as.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub source: Value,
    pub template: Template,
}

impl Text {
    fn compile(at: &Cursor<'_>, problems: &mut Problems) -> Option<Self> {
        let source = at.node.to_json();
        let template = compile_template(&source, at, problems)?;
        Some(Self { source, template })
    }

    /// A key: a string, or a number or boolean, which counts as its text.
    fn compile_key(at: &Cursor<'_>, problems: &mut Problems) -> Option<Self> {
        if matches!(at.node.value, NodeValue::List(_) | NodeValue::Map(_)) {
            at.error(problems, format!("found {}", at.node.kind()), Some("a string such as ${user.id}"));
            return None;
        }
        Self::compile(at, problems)
    }
}

const KEYS: [&str; 8] = ["workflow", "version", "params", "timeout", "retry", "ordering_key", "concurrency", "delay"];

impl Start {
    /// Reads one action. Every problem is added; `None` when there was an error.
    pub fn parse(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Self> {
        let errors_before = problems.errors_count();
        let members = cursor.map(problems, &KEYS)?;
        let workflow_at = members.required(problems, "workflow");
        let workflow = workflow_at.as_ref().and_then(|at| parse_name(at, problems, "a workflow's id"));
        let version = members.get("version").and_then(|at| parse_version(&at, problems));
        let params = members.get("params").and_then(|at| {
            let params = at.any_map(problems)?;
            params.iter().map(|(key, at)| Some((key.text.clone(), Text::compile(&at, problems)?))).collect::<Option<Vec<_>>>()
        });
        let timeout_ms = members.get("timeout").and_then(|at| read_duration_ms(&at, problems, 1));
        let retry = members.get("retry").and_then(|at| RetryPolicy::parse(&at, problems, &[]));
        let ordering_key = members.get("ordering_key").and_then(|at| Text::compile_key(&at, problems));
        let concurrency = members.get("concurrency").and_then(|at| parse_concurrency(&at, problems));
        let delay_ms = members.get("delay").and_then(|at| read_duration_ms(&at, problems, 0)).unwrap_or(0);
        if problems.errors_count() > errors_before {
            return None;
        }
        let at = workflow_at?.at();
        Some(Self {
            workflow: workflow?.into(),
            at,
            version,
            params: params.unwrap_or_default(),
            timeout_ms,
            retry,
            ordering_key,
            concurrency,
            delay_ms,
        })
    }

    fn texts(&self) -> impl Iterator<Item = &Text> {
        let keys = self.ordering_key.iter().chain(self.concurrency.as_ref().map(|(key, _)| key));
        self.params.iter().map(|(_, text)| text).chain(keys)
    }

    /// Whether no part of it depends on the message.
    pub fn is_constant(&self) -> bool {
        self.texts().all(|text| text.template.is_constant())
    }

    /// Whether some template reads this name.
    pub fn reads(&self, name: &str) -> bool {
        self.texts().any(|text| text.template.references().iter().any(|path| path == name))
    }

    /// Canonical JSON; what is not set is left out.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("workflow".into(), json!(self.workflow));
        if let Some(version) = self.version {
            map.insert("version".into(), json!(version));
        }
        if !self.params.is_empty() {
            let params: Map<String, Value> = self.params.iter().map(|(key, text)| (key.clone(), text.source.clone())).collect();
            map.insert("params".into(), Value::Object(params));
        }
        if let Some(ms) = self.timeout_ms {
            map.insert("timeout".into(), json!(duration_text(ms)));
        }
        if let Some(retry) = &self.retry {
            map.insert("retry".into(), retry.to_json());
        }
        if let Some(key) = &self.ordering_key {
            map.insert("ordering_key".into(), key.source.clone());
        }
        if let Some((key, limit)) = &self.concurrency {
            map.insert("concurrency".into(), json!({ "key": key.source, "limit": limit }));
        }
        if self.delay_ms > 0 {
            map.insert("delay".into(), json!(duration_text(self.delay_ms)));
        }
        Value::Object(map)
    }
}

/// Reads the id of a rule, workflow or table.
pub(crate) fn parse_name(at: &Cursor<'_>, problems: &mut Problems, what: &str) -> Option<String> {
    let expected = format!("{what}: 1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 . _ -");
    let text = at.string_or(problems, &expected)?;
    if !is_identifier(text, NAME_BYTES_MAX) {
        at.error(problems, format!("{:?} is not an id", text.chars().take(NAME_BYTES_MAX).collect::<String>()), Some(&expected));
        return None;
    }
    Some(text.into())
}

fn parse_version(at: &Cursor<'_>, problems: &mut Problems) -> Option<u64> {
    match &at.node.value {
        NodeValue::String(text) if text == "latest" => None,
        NodeValue::Number(number) if number.as_u64().is_some_and(|version| version > 0) => number.as_u64(),
        _ => {
            at.error(problems, format!("found {}", at.node.to_json()), Some("`latest` or a version number from 1"));
            None
        }
    }
}

fn parse_concurrency(at: &Cursor<'_>, problems: &mut Problems) -> Option<(Text, u32)> {
    let members = at.map(problems, &["key", "limit"])?;
    let key = members.required(problems, "key").and_then(|at| Text::compile_key(&at, problems));
    let limit = members.required(problems, "limit").and_then(|at| at.integer(problems, 1, i64::from(CONCURRENCY_LIMIT_MAX)));
    Some((key?, limit? as u32))
}
