//! The canonical JSON of a definition: what the log and the catalog carry. It is the language itself, with everything written out.

use std::sync::Arc;

use distric_rules::RetryPolicy;
use distric_rules::document::{Cursor, Node, Problem, Problems};
use distric_rules::duration::duration_text;
use serde_json::{Map, Value, json};

use super::{Body, Definition, Join, OnFailure, Strategy, TaskDefinition, read, schedule};
use crate::resources::needs_json;

impl Definition {
    /// Its canonical JSON.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("id".into(), json!(self.id));
        if self.version > 0 {
            members.insert("version".into(), json!(self.version));
        }
        if let Some(description) = &self.description {
            members.insert("description".into(), json!(description));
        }
        for (name, schema) in [("input_schema", &self.input_schema), ("params_schema", &self.params_schema)] {
            if let Some(schema) = schema {
                members.insert(name.into(), schema.clone());
            }
        }
        members.insert("timeout".into(), json!(duration_text(self.timeout_ms)));
        if self.on_failure != OnFailure::Fail {
            members.insert("on_failure".into(), json!(word(&OnFailure::WORDS, self.on_failure)));
        }
        self.admission.to_json(&mut members);
        if !self.schedules.is_empty() {
            members.insert("schedule".into(), schedule::to_json(&self.schedules));
        }
        if let Some(handler) = &self.handler {
            members.insert("on_failure".into(), json!({ "workflow": handler }));
        }
        if let Some(output) = &self.output {
            members.insert("output".into(), output.clone());
        }
        members.insert("tasks".into(), self.tasks.iter().map(|task| self.task_json(task)).collect());
        Value::Object(members)
    }

    /// Reads canonical JSON back.
    ///
    /// Only its shape and graph are checked, so that a definition that an older version accepted stays readable:
    /// references, expressions and configs are the business of [`super::check_workflows`] and [`Definition::compile`].
    /// Errors: the problems, without line and column.
    pub fn from_json(value: &Value) -> Result<Self, Vec<Problem>> {
        let node = Node::from_json(value);
        let mut problems = Problems::new("definition");
        let draft = read::read_workflow(&Cursor::root(&node), &mut problems);
        match draft {
            Some(mut draft) if !problems.has_errors() => {
                draft.definition.settle_strategies(Strategy::LeastLoaded);
                Ok(draft.definition)
            }
            _ => Err(problems.into_sorted()),
        }
    }

    fn task_json(&self, task: &TaskDefinition) -> Value {
        let mut members = work_json(task);
        members.insert("id".into(), json!(task.id));
        if !task.depends_on.is_empty() {
            let names: Vec<&str> = task.depends_on.iter().map(|index| &*self.tasks[*index].id).collect();
            members.insert("depends_on".into(), json!(names));
        }
        if task.join != Join::All {
            members.insert("join".into(), json!(word(&Join::WORDS, task.join)));
        }
        if let Some(when) = &task.when {
            members.insert("when".into(), json!(when));
        }
        if !task.critical {
            members.insert("critical".into(), json!(false));
        }
        if let Some(compensation) = &task.compensate {
            members.insert("compensate".into(), Value::Object(work_json(compensation)));
        }
        Value::Object(members)
    }
}

/// What a task does, and how its attempts are made.
fn work_json(task: &TaskDefinition) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("type".into(), json!(task.task_type));
    if !task.config.is_null() {
        members.insert("config".into(), task.config.clone());
    }
    if let Some(body) = &task.body {
        members.insert("config".into(), with_body(task.config.clone(), body));
        if let Some(input) = &task.input {
            members.insert("input".into(), input.clone());
        }
        if task.timeout_ms > 0 {
            members.insert("timeout".into(), json!(duration_text(task.timeout_ms)));
        }
        if let Some(retry) = &task.retry {
            members.insert("retry".into(), retry_json(retry, &task.retry_on));
        }
    }
    if !task.runs_in_machine() {
        if let Some(input) = &task.input {
            members.insert("input".into(), input.clone());
        }
        members.insert("timeout".into(), json!(duration_text(task.timeout_ms)));
        if let Some(retry) = &task.retry {
            members.insert("retry".into(), retry_json(retry, &task.retry_on));
        }
        members.insert("priority".into(), json!(task.priority));
        let strategy = word(&Strategy::WORDS, task.placement.strategy);
        let mut placement = json!({ "strategy": strategy, "labels": task.placement.labels });
        let texts =
            [("where", &task.placement.condition), ("prefer", &task.placement.prefer), ("affinity_key", &task.placement.affinity_key)];
        for (name, text) in texts {
            if let Some(text) = text {
                placement[name] = json!(text);
            }
        }
        members.insert("placement".into(), placement);
        if !task.needs.is_none() {
            members.insert("resources".into(), needs_json(task.needs));
        }
        if let Some(key) = &task.idempotency_key {
            members.insert("idempotency_key".into(), json!(key));
        }
    }
    members
}

/// A retry policy, and the codes that it is for.
fn retry_json(retry: &RetryPolicy, codes: &[Arc<str>]) -> Value {
    let mut policy = retry.to_json();
    if !codes.is_empty() {
        policy["retry_on"] = json!(codes);
    }
    policy
}

/// The config of a task with its body in it, as it is written.
fn with_body(config: Value, body: &Body) -> Value {
    let mut members = match config {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    match body {
        Body::Workflow(id) => {
            members.insert("workflow".into(), json!(id));
        }
        Body::Tasks(definition) => {
            members.insert("tasks".into(), definition.tasks.iter().map(|task| definition.task_json(task)).collect());
            if let Some(output) = &definition.output {
                members.insert("output".into(), output.clone());
            }
        }
    }
    Value::Object(members)
}

fn word<T: PartialEq>(words: &[(&'static str, T)], wanted: T) -> &'static str {
    words.iter().find(|(_, value)| *value == wanted).map_or("", |(word, _)| word)
}
