//! The names that expressions see at run time, in one place.
//!
//! | name | what it is |
//! |---|---|
//! | `input` | the payload of the triggering message after the rules' transforms; the input of a start without a message |
//! | `params` | the parameters of the rule's action; an empty map without any |
//! | `message` | the envelope: `id`, `event_type`, `source`, `headers`, `timestamp` (RFC 3339, as text); null without a message |
//! | `tasks.<id>` | every task upstream: `output` (null until it completed), `status`, `error` (null, or `code` and `message`) |
//! | `instance.id`, `workflow.id`, `workflow.version`, `task.id` | where the expression runs |
//! | `item`, `index` | inside a `for_each`: the item, and its place from 0 |
//! | `state`, `iteration` | inside a `while`: what the iteration before returned, and the number of this one from 0 |
//! | `attempt` | the attempt, from 1; not in `when` and `idempotency_key`, which are the same for all attempts |
//!
//! A name or member that has no value is null, so that `default(message.source, 'unknown')` works.

use std::collections::BTreeMap;

use distric_rules::expr::{Binding, Scope};
use serde_json::{Map, Value, json};

/// The names at the root, for checks and messages.
pub(super) const ROOTS: [&str; 8] = ["input", "params", "message", "tasks", "instance", "workflow", "task", "attempt"];
/// The members of `message`.
pub(super) const MESSAGE_MEMBERS: [&str; 5] = ["id", "event_type", "source", "headers", "timestamp"];
/// The members of `tasks.<id>`.
pub(super) const TASK_MEMBERS: [&str; 3] = ["output", "status", "error"];

/// What an expression of one task sees. Everything is borrowed from the instance.
#[derive(Clone, Debug)]
pub struct RunNames<'a> {
    /// `input`.
    pub input: &'a Value,
    /// `params`.
    pub params: &'a Value,
    /// `message`.
    pub message: Option<MessageNames<'a>>,
    /// `tasks`: every task upstream of the one that runs, by id.
    pub tasks: Vec<(&'a str, TaskNames<'a>)>,
    /// `instance.id`.
    pub instance_id: &'a str,
    /// `workflow.id`.
    pub workflow_id: &'a str,
    /// `workflow.version`.
    pub workflow_version: u64,
    /// `task.id`: the id of the task within the workflow.
    pub task_id: &'a str,
    /// `attempt`, from 1.
    pub attempt: u32,
    /// The loops around it, the innermost first.
    pub loops: Vec<LoopNames<'a>>,
}

/// One round of a loop.
#[derive(Clone, Copy, Debug)]
pub struct LoopNames<'a> {
    /// What its value is called, `item` or `state`.
    pub value_name: &'a str,
    /// The value.
    pub value: &'a Value,
    /// What its number is called, `index` or `iteration`.
    pub number_name: &'a str,
    /// The number, from 0.
    pub number: u64,
}

/// The envelope of the message that started the instance.
#[derive(Clone, Debug)]
pub struct MessageNames<'a> {
    /// `message.id`.
    pub id: &'a str,
    /// `message.event_type`.
    pub event_type: Option<&'a str>,
    /// `message.source`.
    pub source: Option<&'a str>,
    /// `message.headers`; of two with one name, the last.
    pub headers: &'a [(String, String)],
    /// `message.timestamp`: the sender's time, RFC 3339.
    pub timestamp: Option<&'a str>,
}

/// What is known of a task upstream.
#[derive(Clone, Copy, Debug)]
pub struct TaskNames<'a> {
    /// `output`, once it completed.
    pub output: Option<&'a Value>,
    /// `status`: `pending`, `running`, `completed`, `failed`, `timed_out`, `cancelled`, `skipped`, `compensating`
    /// or `compensated`.
    pub status: &'a str,
    /// `error`: code and message, once it failed.
    pub error: Option<(&'a str, &'a str)>,
}

impl<'a> RunNames<'a> {
    /// The names as a scope.
    pub fn scope(&self) -> Scope<'a> {
        let mut scope = Scope::new().with("input", self.input).with("params", self.params);
        scope.bind("message", self.message.as_ref().map_or(Binding::Null, MessageNames::binding));
        scope.bind("tasks", Binding::Record(self.tasks.iter().map(|(id, task)| (*id, task.binding())).collect()));
        scope.bind("instance", record([("id", Binding::Text(self.instance_id))]));
        let version = Binding::Integer(self.workflow_version);
        scope.bind("workflow", record([("id", Binding::Text(self.workflow_id)), ("version", version)]));
        scope.bind("task", record([("id", Binding::Text(self.task_id))]));
        scope.bind("attempt", Binding::Integer(u64::from(self.attempt)));
        // The innermost comes last, and hides one around it that is of its kind.
        for round in self.loops.iter().rev() {
            scope.bind(round.value_name, Binding::Value(round.value));
            scope.bind(round.number_name, Binding::Integer(round.number));
        }
        scope
    }

    /// The input of a task that has no `input`: `input`, `params`, the names of the loops around it, and under `tasks` the `output` and `status` of the tasks that
    /// it depends on directly.
    pub fn default_input(&self, depends_on: &[&str]) -> Value {
        let tasks: Map<String, Value> = self
            .tasks
            .iter()
            .filter(|(id, _)| depends_on.contains(id))
            .map(|(id, task)| ((*id).to_owned(), json!({ "output": task.output, "status": task.status })))
            .collect();
        let mut input = json!({ "input": self.input, "params": self.params, "tasks": tasks });
        for round in self.loops.iter().rev() {
            input[round.value_name] = round.value.clone();
            input[round.number_name] = json!(round.number);
        }
        input
    }
}

impl<'a> MessageNames<'a> {
    fn binding(&self) -> Binding<'a> {
        let headers: BTreeMap<&str, Binding<'_>> = self.headers.iter().map(|(name, value)| (name.as_str(), Binding::Text(value))).collect();
        record([
            ("id", Binding::Text(self.id)),
            ("event_type", text_or_null(self.event_type)),
            ("source", text_or_null(self.source)),
            ("headers", Binding::Record(headers)),
            ("timestamp", text_or_null(self.timestamp)),
        ])
    }
}

impl<'a> TaskNames<'a> {
    fn binding(&self) -> Binding<'a> {
        let error = self
            .error
            .map_or(Binding::Null, |(code, message)| record([("code", Binding::Text(code)), ("message", Binding::Text(message))]));
        record([("output", self.output.map_or(Binding::Null, Binding::Value)), ("status", Binding::Text(self.status)), ("error", error)])
    }
}

fn record<'a, const N: usize>(members: [(&'a str, Binding<'a>); N]) -> Binding<'a> {
    Binding::Record(BTreeMap::from(members))
}

fn text_or_null(text: Option<&str>) -> Binding<'_> {
    text.map_or(Binding::Null, Binding::Text)
}
