//! Bodies: what a `for_each`, a `while` or a `sub_workflow` runs, and the configs of these types.
//!
//! A body is a list of tasks in the config (`tasks`), or another workflow by its id (`workflow`). Tasks of a body see what stands around it:
//! the workflow's input, the tasks upstream of the one that the body is of, and the names of the loop.

use std::sync::Arc;

use distric_rules::document::{Cursor, Members, NodeValue, Problems};
use distric_rules::duration::read_duration_ms;
use serde_json::Value;

use super::compile::bare;
use super::read::{Around, Draft, TaskSource, known_members, name, read_tasks};
use super::{Admission, Definition, TaskDefinition, graph};

/// Most items of one `for_each`.
pub const FOR_EACH_ITEMS_MAX: usize = 10_000;
/// Most items of one `for_each` that run at once.
pub const FOR_EACH_PARALLEL_MAX: u32 = 256;
/// Items of a `for_each` that run at once when it does not say.
pub const FOR_EACH_PARALLEL_DEFAULT: u32 = 16;
/// Most iterations of one `while`.
pub const WHILE_ITERATIONS_MAX: u32 = 10_000;
/// Most iterations of a `while` that does not say.
pub const WHILE_ITERATIONS_DEFAULT: u32 = 100;
/// How deep bodies may stand in bodies: reading, compiling and evaluating them recurse this deep at most.
pub const BODY_DEPTH_MAX: usize = 3;

/// What a task with a body runs.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a body always stands in a box of its task")]
pub enum Body {
    /// Tasks of its own. The definition has no id and no version; it fails and compensates as the one around it.
    Tasks(Definition),
    /// Another workflow, by its id.
    Workflow(Arc<str>),
}

/// What the failure of one item means for its `for_each`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemFailure {
    /// It fails at once: no item is begun any more, those that run are cancelled.
    #[default]
    Fail,
    /// All items are run, then it fails.
    Finish,
    /// All items are run, and it completes; the output of an item that failed is null.
    Ignore,
}

impl ItemFailure {
    /// Every policy, as it is written.
    pub const WORDS: [(&str, ItemFailure); 3] =
        [("fail", ItemFailure::Fail), ("finish", ItemFailure::Finish), ("ignore", ItemFailure::Ignore)];
}

const FOR_EACH_KEYS: [&str; 7] = ["items", "max_parallel", "on_item_failure", "item_timeout", "tasks", "workflow", "output"];
const WHILE_KEYS: [&str; 7] = ["initial", "condition", "max_iterations", "iteration_timeout", "tasks", "workflow", "output"];
const SUB_WORKFLOW_KEYS: [&str; 1] = ["workflow"];
/// Members of a config that are the body.
const BODY_MEMBERS: [&str; 3] = ["tasks", "workflow", "output"];

/// What a `for_each` calls its value and the value's number.
pub(crate) const FOR_EACH_NAMES: [&str; 2] = ["item", "index"];
/// What a `while` calls its value and the value's number.
pub(crate) const WHILE_NAMES: [&str; 2] = ["state", "iteration"];

/// The names that the expressions of a body see beside those around it.
pub(super) fn loop_names(task_type: &str) -> &'static [&'static str] {
    match task_type {
        "for_each" => &FOR_EACH_NAMES,
        "while" => &WHILE_NAMES,
        _ => &[],
    }
}

/// Reads the body of a task out of its config. Returns the places of its tasks, when it has tasks of its own.
pub(super) fn read<'a>(
    members: &Members<'a>,
    task: &mut TaskDefinition,
    around: Around<'_>,
    depth: usize,
    problems: &mut Problems,
) -> Option<Box<Draft<'a>>> {
    let config = members.required(problems, "config")?;
    let known: &[&str] = match &*task.task_type {
        "for_each" => &FOR_EACH_KEYS,
        "while" => &WHILE_KEYS,
        _ => &SUB_WORKFLOW_KEYS,
    };
    let config = known_members(&config, problems, known, &[])?;
    if let Some(written) = task.config.as_object_mut() {
        BODY_MEMBERS.iter().for_each(|member| drop(written.remove(*member)));
        if let Some(Value::String(condition)) = written.get_mut("condition") {
            *condition = bare(condition).to_owned();
        }
    }
    if task.config.as_object().is_some_and(serde_json::Map::is_empty) {
        task.config = Value::Null;
    }
    let (tasks, workflow, output) = (config.get("tasks"), config.get("workflow"), config.get("output"));
    match (tasks, workflow) {
        (Some(_), Some(workflow)) => {
            workflow.error(problems, "a body is `tasks` or a `workflow`, not both", None);
            None
        }
        (None, None) => {
            let expected = if known.contains(&"tasks") { "`tasks`, or the id of a `workflow`" } else { "the id of a `workflow`" };
            problems.error(config.at(), config.path(), format!("the {} does not say what it runs", task.task_type), Some(expected));
            None
        }
        (None, Some(workflow)) => {
            if let Some(output) = output {
                output.error(problems, "the output is that of the workflow: only `tasks` have an `output` here", None);
            }
            task.body = name(&workflow, problems).map(|id| Box::new(Body::Workflow(id)));
            None
        }
        (Some(tasks), None) => {
            if let Some(input) = members.get("input") {
                input.error(problems, "`input` means nothing for `tasks`: they see the names around them", None);
            }
            if depth == BODY_DEPTH_MAX {
                tasks.error(problems, format!("bodies stand in bodies deeper than BODY_DEPTH_MAX, {BODY_DEPTH_MAX}"), None);
                return None;
            }
            let mut definition = Definition {
                id: Arc::default(),
                version: 0,
                description: None,
                input_schema: None,
                params_schema: None,
                timeout_ms: 0,
                on_failure: around.on_failure,
                admission: Admission::default(),
                schedules: Vec::new(),
                handler: None,
                output: output.as_ref().map(|output| output.node.to_json()),
                tasks: Vec::new(),
                order: Vec::new(),
            };
            let sources = read_tasks(&tasks, &mut definition, around, depth + 1, problems);
            let mut draft = Draft { definition, id: None, on_failure: None, output, admission: Vec::new(), tasks: sources };
            graph::link(&mut draft, problems);
            task.body = Some(Box::new(Body::Tasks(draft.definition.clone())));
            Some(Box::new(draft))
        }
    }
}

/// Checks the rest of the config.
pub(super) fn check(task_type: &str, source: &TaskSource<'_>, problems: &mut Problems) {
    // What is no map, or has unknown members, was reported when the body was read.
    let mut shapes = Problems::new("");
    let Some(config) = source.members.as_ref().and_then(|members| members.get("config")).and_then(|config| config.any_map(&mut shapes))
    else {
        return;
    };
    match task_type {
        "for_each" => {
            if let Some(items) = config.required(problems, "items") {
                check_items(&items, problems);
            }
            if let Some(parallel) = config.get("max_parallel") {
                parallel.integer(problems, 1, i64::from(FOR_EACH_PARALLEL_MAX));
            }
            if let Some(policy) = config.get("on_item_failure") {
                policy.word(problems, &ItemFailure::WORDS.map(|(word, _)| word));
            }
        }
        "while" => {
            if let Some(condition) = config.required(problems, "condition") {
                condition.string_or(problems, "an expression over `state`");
            }
            if let Some(iterations) = config.get("max_iterations") {
                iterations.integer(problems, 1, i64::from(WHILE_ITERATIONS_MAX));
            }
        }
        _ => {}
    }
    if let Some(timeout) = config.get("item_timeout").or_else(|| config.get("iteration_timeout")) {
        read_duration_ms(&timeout, problems, 1);
    }
}

/// Checks what gives the items of a loop or of an `aggregate`, at most so many.
pub(super) fn check_items(items: &Cursor<'_>, problems: &mut Problems) {
    const EXPECTED: &str = "a list, or ${an expression} that gives one";
    match &items.node.value {
        NodeValue::List(list) if list.len() > FOR_EACH_ITEMS_MAX => {
            items.error(problems, format!("{} items are more than FOR_EACH_ITEMS_MAX, {FOR_EACH_ITEMS_MAX}", list.len()), None);
        }
        NodeValue::List(_) => {}
        NodeValue::String(text) if bare(text).len() < text.len() => {}
        _ => items.error(problems, format!("the items are {}", items.node.kind()), Some(EXPECTED)),
    }
}
