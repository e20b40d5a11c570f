//! The shape of the language: keys, types and ranges, from a positioned tree to a definition.
//!
//! What needs more than one look (dependencies, references, configs) is checked elsewhere, with the places kept here.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::limits::{NAME_BYTES_MAX, WORKFLOW_TASKS_MAX};
use distric_model::namespace::is_identifier;
use distric_rules::RetryPolicy;
use distric_rules::document::{Cursor, Members, NodeValue, Problems, did_you_mean};
use distric_rules::duration::read_duration_ms;

use super::compile::bare;
use super::{
    BODY_TYPES, COMPENSATION_MACHINE_TYPES, Definition, Join, LABELS_MAX, MACHINE_TYPES, OnFailure, PRIORITY_MAX, Placement, RETRY_ON_MAX,
    Strategy, TaskDefinition, WORKFLOW_TIMEOUT_MS_DEFAULT, admission, body, config, graph, schedule,
};
use crate::resources;

/// A definition together with the places that its parts came from.
pub(super) struct Draft<'a> {
    pub definition: Definition,
    pub id: Option<Cursor<'a>>,
    pub on_failure: Option<Cursor<'a>>,
    /// What holds expressions of its admission.
    pub admission: Vec<Cursor<'a>>,
    pub output: Option<Cursor<'a>>,
    /// One for each task, at the same index.
    pub tasks: Vec<TaskSource<'a>>,
}

/// Where a task stands in the text.
pub(super) struct TaskSource<'a> {
    pub cursor: Cursor<'a>,
    pub members: Option<Members<'a>>,
    /// The entries of `depends_on` that are texts.
    pub depends_on: Vec<Cursor<'a>>,
    /// Where its compensation stands.
    pub compensate: Option<Box<TaskSource<'a>>>,
    /// The tasks of its body.
    pub body: Option<Box<Draft<'a>>>,
}

impl<'a> TaskSource<'a> {
    /// The member, or the task itself when it is not there: a place for a problem.
    pub fn member(&self, name: &str) -> Cursor<'a> {
        self.members.as_ref().and_then(|members| members.get(name)).unwrap_or_else(|| self.cursor.clone())
    }
}

const WORKFLOW_KEYS: [&str; 11] =
    ["id", "version", "description", "input_schema", "params_schema", "timeout", "on_failure", "output", "tasks", "schedule", "placement"];
const WORKFLOW_KEYS_UNSUPPORTED: [&str; 3] = ["output_schema", "ordering_key", "labels"];
const TASK_KEYS: [&str; 15] = [
    "id",
    "type",
    "config",
    "input",
    "depends_on",
    "join",
    "when",
    "timeout",
    "retry",
    "priority",
    "placement",
    "resources",
    "idempotency_key",
    "critical",
    "compensate",
];
const TASK_KEYS_UNSUPPORTED: [&str; 5] = ["for_each", "while", "debounce", "on_failure", "concurrency"];
const COMPENSATION_KEYS: [&str; 9] =
    ["type", "config", "input", "timeout", "retry", "priority", "placement", "resources", "idempotency_key"];
const PLACEMENT_KEYS: [&str; 5] = ["strategy", "labels", "where", "prefer", "affinity_key"];
const PLACEMENT_KEYS_UNSUPPORTED: [&str; 2] = ["affinity", "anti_affinity"];
const STRATEGIES_UNSUPPORTED: [&str; 1] = ["affinity"];
/// Members of a task that only mean something on a worker.
const WORKER_KEYS: [&str; 7] = ["input", "timeout", "retry", "priority", "placement", "resources", "idempotency_key"];
/// Those of them that a task with a body has as well.
const BODY_KEYS: [&str; 3] = ["input", "timeout", "retry"];

/// Errors of one text that get a suggestion; more come from a file of another kind, and a suggestion costs a look at every name.
const SUGGESTIONS_MAX: usize = 100;

/// Whether a further error should look for what its author meant.
pub(super) fn suggests(problems: &Problems) -> bool {
    problems.errors_count() < SUGGESTIONS_MAX
}

/// Says that a word of the language cannot be used yet.
pub(super) fn unsupported(what: &str) -> String {
    format!("{what} is not supported by this version")
}

/// Reads one workflow. `None` when it is not even a map; else a definition as far as it could be read, and linked.
pub(super) fn read_workflow<'a>(cursor: &Cursor<'a>, problems: &mut Problems) -> Option<Draft<'a>> {
    let known: Vec<&str> = WORKFLOW_KEYS.into_iter().chain(admission::KEYS).collect();
    let members = known_members(cursor, problems, &known, &WORKFLOW_KEYS_UNSUPPORTED)?;
    let id = members.required(problems, "id");
    let timeout_ms = members.get("timeout").and_then(|timeout| read_duration_ms(&timeout, problems, 1));
    let version = members.get("version").and_then(|version| version.integer(problems, 1, i64::MAX));
    let mut expressions = Vec::new();
    let mut definition = Definition {
        id: id.as_ref().and_then(|id| name(id, problems)).unwrap_or_default(),
        version: version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0),
        description: members.get("description").and_then(|text| text.string(problems)).map(str::to_owned),
        input_schema: members.get("input_schema").map(|schema| schema.node.to_json()),
        params_schema: members.get("params_schema").map(|schema| schema.node.to_json()),
        timeout_ms: timeout_ms.unwrap_or(WORKFLOW_TIMEOUT_MS_DEFAULT),
        on_failure: OnFailure::Fail,
        handler: None,
        output: members.get("output").map(|output| output.node.to_json()),
        admission: admission::read(&members, &mut expressions, problems),
        schedules: members.get("schedule").map(|cursor| schedule::read(&cursor, problems)).unwrap_or_default(),
        tasks: Vec::new(),
        order: Vec::new(),
    };
    if let Some(on_failure) = members.get("on_failure") {
        read_on_failure(&on_failure, &mut definition, problems);
    }
    let tasks = members.required(problems, "tasks");
    let placement = members.get("placement").map(|cursor| read_placement(&cursor, problems));
    if let Some(key) = members.get("placement").and_then(|cursor| cursor.any_map(&mut Problems::new(""))?.get("affinity_key")) {
        expressions.push(key);
    }
    let around = Around { on_failure: definition.on_failure, placement: placement.as_ref() };
    let sources = tasks.map(|tasks| read_tasks(&tasks, &mut definition, around, 0, problems)).unwrap_or_default();
    let (on_failure, output) = (members.get("on_failure"), members.get("output"));
    if definition.tasks.len() <= WORKFLOW_TASKS_MAX && definition.tasks_count() > WORKFLOW_TASKS_MAX {
        let message = "the workflow and the bodies in it have more tasks than WORKFLOW_TASKS_MAX";
        cursor.error(problems, message, Some(&format!("at most {WORKFLOW_TASKS_MAX}")));
    }
    let mut draft = Draft { definition, id, on_failure, output, admission: expressions, tasks: sources };
    graph::link(&mut draft, problems);
    Some(draft)
}

/// What tasks have of the workflow around them.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub on_failure: OnFailure,
    /// Where those go that do not say.
    pub placement: Option<&'a Placement>,
}

/// Reads a list of tasks into a definition; `depth` says how many bodies it stands in.
pub(super) fn read_tasks<'a>(
    tasks: &Cursor<'a>,
    definition: &mut Definition,
    around: Around<'_>,
    depth: usize,
    problems: &mut Problems,
) -> Vec<TaskSource<'a>> {
    let listed = tasks.list(problems).unwrap_or_default();
    if matches!(&tasks.node.value, NodeValue::List(items) if items.is_empty()) {
        tasks.error(problems, if depth == 0 { "a workflow has at least one task" } else { "a body has at least one task" }, None);
    }
    let mut sources = Vec::new();
    for (index, task) in listed.into_iter().enumerate() {
        if index == WORKFLOW_TASKS_MAX {
            task.error(problems, "the workflow has more tasks than WORKFLOW_TASKS_MAX", Some(&format!("at most {WORKFLOW_TASKS_MAX}")));
            break;
        }
        let (mut task, source) = read_task(task, around, depth, problems);
        if let Some(placement) = around.placement {
            place_by_default(&mut task, &source, placement);
        }
        definition.tasks.push(task);
        sources.push(source);
    }
    sources
}

/// A task that says nothing of its placement has its workflow's.
fn place_by_default(task: &mut TaskDefinition, source: &TaskSource<'_>, placement: &Placement) {
    let says_it = |source: &TaskSource<'_>| source.members.as_ref().is_some_and(|members| members.get("placement").is_some());
    if !says_it(source) && !task.runs_in_machine() {
        task.placement = placement.clone();
    }
    if let (Some(compensation), Some(source)) = (&mut task.compensate, &source.compensate) {
        place_by_default(compensation, source, placement);
    }
}

/// A word, or `{ workflow: id }`.
fn read_on_failure(cursor: &Cursor<'_>, definition: &mut Definition, problems: &mut Problems) {
    if matches!(cursor.node.value, NodeValue::Map(_)) {
        let members = known_members(cursor, problems, &["workflow"], &[]);
        definition.handler = members.and_then(|members| members.required(problems, "workflow")).and_then(|id| name(&id, problems));
        return;
    }
    if let Some(outcome) = word_of(cursor, problems, &OnFailure::WORDS) {
        definition.on_failure = outcome;
    }
}

fn read_task<'a>(cursor: Cursor<'a>, around: Around<'_>, depth: usize, problems: &mut Problems) -> (TaskDefinition, TaskSource<'a>) {
    let mut task = TaskDefinition::blank();
    let Some(members) = known_members(&cursor, problems, &TASK_KEYS, &TASK_KEYS_UNSUPPORTED) else {
        return (task, TaskSource { cursor, members: None, depends_on: Vec::new(), compensate: None, body: None });
    };
    if let Some(id) = members.required(problems, "id").and_then(|id| name(&id, problems)) {
        task.id = id;
    }
    read_work(&members, &mut task, problems);
    let body = if task.has_body() { body::read(&members, &mut task, around, depth, problems) } else { None };
    if let Some(join) = members.get("join") {
        task.join = word_of(&join, problems, &Join::WORDS).unwrap_or_default();
    }
    task.when = members.get("when").and_then(|when| read_condition(&when, problems));
    if let Some(critical) = members.get("critical") {
        task.critical = critical.bool(problems).unwrap_or(true);
    }
    let compensate = members.get("compensate").map(|cursor| {
        let (compensation, source) = read_compensation(cursor, problems);
        task.compensate = Some(Box::new(compensation));
        Box::new(source)
    });
    let depends_on = members.get("depends_on").map(|names| read_names(&names, problems)).unwrap_or_default();
    (task, TaskSource { cursor, members: Some(members), depends_on, compensate, body })
}

fn read_compensation<'a>(cursor: Cursor<'a>, problems: &mut Problems) -> (TaskDefinition, TaskSource<'a>) {
    let mut task = TaskDefinition::blank();
    let members = known_members(&cursor, problems, &COMPENSATION_KEYS, &[]);
    if let Some(members) = &members {
        read_work(members, &mut task, problems);
        if MACHINE_TYPES.contains(&&*task.task_type) && !COMPENSATION_MACHINE_TYPES.contains(&&*task.task_type) {
            let place = members.get("type").unwrap_or_else(|| cursor.clone());
            place.error(problems, format!("a `{}` undoes nothing", task.task_type), Some("a type that does something"));
        }
    }
    (task, TaskSource { cursor, members, depends_on: Vec::new(), compensate: None, body: None })
}

/// What a task does, and how its attempts are made.
fn read_work(members: &Members<'_>, task: &mut TaskDefinition, problems: &mut Problems) {
    if let Some(task_type) = members.required(problems, "type").and_then(|task_type| name(&task_type, problems)) {
        task.task_type = task_type;
    }
    if let Some(config) = members.get("config") {
        task.config = config::canonical(&task.task_type, config.node.to_json());
    }
    task.input = members.get("input").map(|input| input.node.to_json());
    let has_body = BODY_TYPES.contains(&&*task.task_type);
    if has_body {
        task.timeout_ms = 0;
    }
    if let Some(timeout) = members.get("timeout") {
        task.timeout_ms = read_duration_ms(&timeout, problems, 1).unwrap_or(task.timeout_ms);
    }
    if let Some(retry) = members.get("retry") {
        task.retry = RetryPolicy::parse(&retry, problems, &["retry_on"]);
        let shapes = &mut Problems::new("");
        if let Some(codes) = retry.any_map(shapes).and_then(|members| members.get("retry_on")) {
            task.retry_on = read_codes(&codes, problems);
        }
    }
    if let Some(priority) = members.get("priority") {
        let max = i64::from(PRIORITY_MAX);
        task.priority = priority.integer(problems, -max, max).and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0);
    }
    if let Some(placement) = members.get("placement") {
        task.placement = read_placement(&placement, problems);
    }
    if let Some(resources) = members.get("resources") {
        task.needs = resources::read(&resources, problems);
    }
    task.idempotency_key = members.get("idempotency_key").and_then(|key| key.string(problems)).map(str::to_owned);
    if MACHINE_TYPES.contains(&&*task.task_type) {
        let means_nothing = |key: &str| WORKER_KEYS.contains(&key) && !(has_body && BODY_KEYS.contains(&key));
        for (key, member) in members.iter().filter(|(key, _)| means_nothing(&key.text)) {
            let message = format!("`{}` means nothing for a `{}`, which runs without a worker", key.text, task.task_type);
            problems.error(key.at, &member.path, message, None);
        }
    }
}

/// The codes of failures after which there is another attempt.
fn read_codes(cursor: &Cursor<'_>, problems: &mut Problems) -> Vec<Arc<str>> {
    let listed = cursor.list(problems).unwrap_or_default();
    if matches!(cursor.node.value, NodeValue::List(_)) && !(1..=RETRY_ON_MAX).contains(&listed.len()) {
        cursor.error(problems, format!("{} codes are not 1 to {RETRY_ON_MAX}", listed.len()), None);
    }
    listed.iter().filter_map(|code| name(code, problems)).collect()
}

/// A condition as its bare text. `true` and `false` may be written as they are.
fn read_condition(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    match cursor.node.value {
        NodeValue::Bool(value) => Some(value.to_string()),
        _ => cursor.string_or(problems, "an expression").map(|text| bare(text).to_owned()),
    }
}

/// A list of names, or one name.
fn read_names<'a>(cursor: &Cursor<'a>, problems: &mut Problems) -> Vec<Cursor<'a>> {
    if cursor.node.as_str().is_some() {
        return vec![cursor.clone()];
    }
    let items = cursor.list(problems).unwrap_or_default();
    items.into_iter().filter(|item| item.string_or(problems, "the id of a task").is_some()).collect()
}

fn read_placement(cursor: &Cursor<'_>, problems: &mut Problems) -> Placement {
    let mut placement = Placement::default();
    let Some(members) = known_members(cursor, problems, &PLACEMENT_KEYS, &PLACEMENT_KEYS_UNSUPPORTED) else {
        return placement;
    };
    if let Some(strategy) = members.get("strategy") {
        match strategy.node.as_str() {
            Some(word) if STRATEGIES_UNSUPPORTED.contains(&word) => {
                let expected = Strategy::WORDS.map(|(word, _)| word).join(" or ");
                strategy.error(problems, unsupported(&format!("the strategy `{word}`")), Some(&expected));
            }
            _ => placement.strategy = word_of(&strategy, problems, &Strategy::WORDS).unwrap_or_default(),
        }
    }
    placement.condition = members.get("where").and_then(|condition| read_condition(&condition, problems));
    placement.prefer =
        members.get("prefer").and_then(|number| number.string_or(problems, "an expression")).map(|text| bare(text).to_owned());
    match (members.get("strategy"), members.get("prefer")) {
        (Some(strategy), None) if placement.strategy == Strategy::Custom => {
            strategy.error(problems, "the strategy `custom` chooses by `prefer`, which is missing", None);
        }
        (Some(_), Some(prefer)) if placement.strategy != Strategy::Custom => {
            prefer.error(problems, "`prefer` is the strategy `custom`, but another one is asked for", None);
        }
        (None, Some(_)) => placement.strategy = Strategy::Custom,
        _ => {}
    }
    placement.affinity_key = members.get("affinity_key").and_then(|key| key.string(problems)).map(str::to_owned);
    if let Some(labels) = members.get("labels").and_then(|labels| labels.any_map(problems)) {
        placement.labels = read_labels(&labels, problems);
    }
    placement
}

fn read_labels(labels: &Members<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    for (index, (key, label)) in labels.iter().enumerate() {
        if index == LABELS_MAX {
            problems.error(key.at, &label.path, "the task asks for more labels than LABELS_MAX", Some(&format!("at most {LABELS_MAX}")));
            break;
        }
        if let Some(value) = label.string_or(problems, "a string") {
            read.insert(key.text.clone(), value.to_owned());
        }
    }
    read
}

/// A name that a user chooses.
pub(super) fn name(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Arc<str>> {
    let text = cursor.string_or(problems, "a name")?;
    if is_identifier(text, NAME_BYTES_MAX) {
        return Some(Arc::from(text));
    }
    let expected = format!("1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 . _ -");
    cursor.error(problems, "not a name", Some(&expected));
    None
}

pub(super) fn word_of<T: Copy>(cursor: &Cursor<'_>, problems: &mut Problems, words: &[(&str, T)]) -> Option<T> {
    let texts: Vec<&str> = words.iter().map(|(text, _)| *text).collect();
    cursor.word(problems, &texts).map(|index| words[index].1)
}

/// The members of a map. A key of `later` is an error that says so; any other unknown key is one with a suggestion.
pub(super) fn known_members<'a>(cursor: &Cursor<'a>, problems: &mut Problems, known: &[&str], later: &[&str]) -> Option<Members<'a>> {
    let members = cursor.any_map(problems)?;
    for (key, member) in members.iter() {
        let text = key.text.as_str();
        if known.contains(&text) {
            continue;
        }
        let (message, expected) = if later.contains(&text) {
            (unsupported(&format!("`{text}`")), None)
        } else {
            let message = match did_you_mean(text, known) {
                Some(near) => format!("unknown key `{text}`, did you mean `{near}`?"),
                None => format!("unknown key `{text}`"),
            };
            (message, Some(format!("one of {}", known.join(", "))))
        };
        problems.error(key.at, &member.path, message, expected.as_deref());
    }
    Some(members)
}
