//! Checking a text of workflows before it is accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_rules::did_you_mean;
use distric_rules::document::{Cursor, Document, NodeValue, Position, Problem, Problems, parse_documents};

use super::calls::{check_calls, place_of_call};
use super::graph::Upstream;
use super::read::{Draft, TaskSource, read_workflow, suggests};
use super::references::{Place, References};
use super::{
    Body, Definition, KnownTypes, MACHINE_TYPES, OnFailure, Strategy, TaskDefinition, WORKER_TYPES, WORKFLOWS_MAX, admission, body, config,
    placement, schema,
};

/// What came of a text of workflows.
#[derive(Clone, Debug, Default)]
pub struct CheckedWorkflows {
    /// The workflows without errors, in the order of the text. To be used only when [`Self::is_ok`].
    pub definitions: Vec<Definition>,
    /// Everything that is wrong, in the order of the text.
    pub problems: Vec<Problem>,
}

impl CheckedWorkflows {
    /// Whether nothing is wrong but what is only worth a warning.
    pub fn is_ok(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != distric_rules::Severity::Error)
    }
}

/// Checks a text that holds `workflow:` (one), `workflows:` (a list), or one workflow as it is; a YAML text may hold several such documents.
///
/// Every problem has line, column and path. Whoever applies the text does so only when there is no error in it.
pub fn check_workflows(source_name: &str, text: &str, known_types: &KnownTypes) -> CheckedWorkflows {
    let documents = match parse_documents(source_name, text) {
        Ok(documents) => documents,
        Err(problem) => return CheckedWorkflows { definitions: Vec::new(), problems: vec![problem] },
    };
    let mut problems = Problems::new(source_name);
    if documents.is_empty() {
        problems.error(Position { line: 1, column: 1 }, "", "there is no workflow in this text", Some(EXPECTED_ROOT));
    }
    let mut definitions = Vec::new();
    let mut first_at: BTreeMap<String, Position> = BTreeMap::new();
    for cursor in documents.iter().flat_map(|document| workflows_of(document, &mut problems)).collect::<Vec<_>>() {
        let errors_before = problems.errors_count();
        if definitions.len() == WORKFLOWS_MAX {
            cursor.error(&mut problems, "the text has more workflows than WORKFLOWS_MAX", Some(&format!("at most {WORKFLOWS_MAX}")));
            break;
        }
        let Some(mut draft) = read_workflow(&cursor, &mut problems) else {
            continue;
        };
        draft.definition.settle_strategies(Strategy::Cluster);
        let members = cursor.any_map(&mut Problems::new(""));
        let member = |name: &str| members.as_ref().and_then(|members| members.get(name));
        if let Some(shared) = member("placement") {
            placement::check(&shared, &mut problems);
        }
        for written in ["input_schema", "params_schema"].into_iter().filter_map(member) {
            schema::check(&written, &mut problems);
        }
        if let Some(id) = draft.id.as_ref().filter(|_| !draft.definition.id.is_empty()) {
            match first_at.get(&*draft.definition.id) {
                Some(first) => {
                    let message = format!(
                        "the workflow `{}` is given twice, first at line {} column {}",
                        draft.definition.id, first.line, first.column
                    );
                    id.error(&mut problems, message, None);
                }
                None => {
                    first_at.insert(draft.definition.id.to_string(), id.at());
                }
            }
        }
        check_graph(&draft, None, known_types, &mut problems);
        check_compensations(&draft, &mut problems);
        let (definition, suggests) = (&draft.definition, suggests(&problems));
        let before = References { definition, upstream: None, index: None, outer: None, loop_names: Vec::new(), sees_own: false, suggests };
        admission::check(&draft.admission, &before, &mut problems);
        if problems.errors_count() == errors_before {
            definitions.push(draft.definition);
        }
    }
    if check_circles(text, &definitions, &mut problems) {
        definitions.clear();
    }
    CheckedWorkflows { definitions, problems: problems.into_sorted() }
}

/// Workflows of the text that call each other: false when there are none. Whether all that is called is there is known only where the others are.
fn check_circles(text: &str, definitions: &[Definition], problems: &mut Problems) -> bool {
    let errors_before = problems.errors_count();
    let calling: Vec<(&Arc<str>, String)> =
        definitions.iter().map(|definition| (&definition.id, definition.to_json().to_string())).collect();
    for found in check_calls(calling.iter().map(|(id, body)| (*id, body.as_str()))) {
        if !found.is_unknown {
            let at = place_of_call(text, &found.workflow, &found.path).unwrap_or_default();
            problems.error(at, &found.path, found.message, None);
        }
    }
    problems.errors_count() > errors_before
}

const EXPECTED_ROOT: &str = "`workflow:` or `workflows:`";

/// The workflows of one document.
pub(super) fn workflows_of<'a>(document: &'a Document, problems: &mut Problems) -> Vec<Cursor<'a>> {
    let root = Cursor::root(&document.root);
    if !matches!(root.node.value, NodeValue::Map(_)) {
        root.error(problems, format!("found {}", root.node.kind()), Some(EXPECTED_ROOT));
        return Vec::new();
    }
    let is_bare = root.node.get("tasks").is_some() && root.node.get("workflow").is_none() && root.node.get("workflows").is_none();
    if is_bare {
        return vec![root];
    }
    let Some(members) = root.map(problems, &["workflow", "workflows"]) else {
        return Vec::new();
    };
    let mut found: Vec<Cursor<'a>> = members.get("workflow").into_iter().collect();
    match members.get("workflows") {
        Some(list) => found.extend(list.list(problems).unwrap_or_default()),
        None if found.is_empty() => root.error(problems, "there is no workflow in this document", Some(EXPECTED_ROOT)),
        None => {}
    }
    found
}

/// Checks the tasks of a workflow, or of a body that stands where `around` says. Recurses as deep as bodies may stand in bodies.
fn check_graph(draft: &Draft<'_>, around: Option<&References<'_>>, known_types: &KnownTypes, problems: &mut Problems) {
    let definition = &draft.definition;
    // With tasks that are not linked (a cycle, an unknown name), what is upstream is not known: those references are not judged.
    let upstream = Upstream::of(definition);
    let is_linked = definition.order.len() == definition.tasks.len()
        && draft.tasks.iter().zip(&definition.tasks).all(|(source, task)| source.depends_on.len() == task.depends_on.len());
    let names = around.map_or_else(Vec::new, |around| around.loop_names.clone());
    for (index, (task, source)) in definition.tasks.iter().zip(&draft.tasks).enumerate() {
        check_type(task, source, known_types, problems);
        if let Some(members) = &source.members {
            config::check(&task.task_type, members, problems);
        }
        let upstream = is_linked.then_some(&upstream);
        let (index, loop_names, suggests) = (Some(index), names.clone(), suggests(problems));
        let references = References { definition, upstream, index, outer: around, loop_names, sees_own: false, suggests };
        if around.is_some_and(|around| around.knows(&task.id)) {
            source.member("id").error(problems, format!("the task id `{}` is given outside this body as well", task.id), None);
        }
        if task.has_body() {
            check_body(task, source, &references, known_types, problems);
        } else {
            check_expressions(task, source, &references, problems);
        }
        if let (Some(compensation), Some(source)) = (&task.compensate, &source.compensate) {
            check_type(compensation, source, known_types, problems);
            if let Some(members) = &source.members {
                config::check(&compensation.task_type, members, problems);
            }
            check_expressions(compensation, source, &References { sees_own: true, ..references }, problems);
        }
    }
    if let Some(output) = &draft.output {
        let suggests = suggests(problems);
        let after_all = References { definition, upstream: None, index: None, outer: around, loop_names: names, sees_own: false, suggests };
        after_all.template(output, Place::BeforeAttempts, problems);
    }
}

/// A task with a body: its own expressions see what every task sees, those for each round the names of the loop as well.
fn check_body(
    task: &TaskDefinition,
    source: &TaskSource<'_>,
    references: &References<'_>,
    known_types: &KnownTypes,
    problems: &mut Problems,
) {
    let Some(members) = &source.members else {
        return;
    };
    if let Some(when) = members.get("when") {
        references.expression(&when, Place::BeforeAttempts, problems);
    }
    body::check(&task.task_type, source, problems);
    let mut inner = references.clone();
    inner.loop_names.extend(body::loop_names(&task.task_type));
    let mut shapes = Problems::new("");
    let config = members.get("config").and_then(|config| config.any_map(&mut shapes));
    let member = |name: &str| config.as_ref().and_then(|config| config.get(name));
    for outside in [member("items"), member("initial")].into_iter().flatten() {
        references.template(&outside, Place::Attempt, problems);
    }
    if let Some(condition) = member("condition") {
        inner.expression(&condition, Place::Attempt, problems);
    }
    if let Some(input) = members.get("input") {
        inner.template(&input, Place::Attempt, problems);
    }
    if let Some(body) = &source.body {
        check_graph(body, Some(&inner), known_types, problems);
    }
}

/// Compensations without a workflow that asks for them, and the other way round.
fn check_compensations(draft: &Draft<'_>, problems: &mut Problems) {
    let mut sources = Vec::new();
    // A workflow that is called has compensations of its own, or has not: that is known when it is called.
    let mut calls = false;
    let mut graphs = vec![draft];
    while let Some(graph) = graphs.pop() {
        sources.extend(graph.tasks.iter().filter_map(|source| source.compensate.as_ref()));
        graphs.extend(graph.tasks.iter().filter_map(|source| source.body.as_deref()));
        calls |= graph.definition.tasks.iter().any(|task| matches!(task.body.as_deref(), Some(Body::Workflow(_))));
    }
    match draft.definition.on_failure {
        OnFailure::Compensate if sources.is_empty() && !calls => {
            if let Some(place) = &draft.on_failure {
                place.error(problems, "no task has a `compensate`", Some("at least one task that says how it is undone"));
            }
        }
        OnFailure::Compensate => {}
        OnFailure::Fail => {
            for source in sources {
                let message = "the compensation never runs: the workflow has no `on_failure: compensate`";
                source.cursor.error(problems, message, None);
            }
        }
    }
}

fn check_type(task: &TaskDefinition, source: &TaskSource<'_>, known_types: &KnownTypes, problems: &mut Problems) {
    let name = &*task.task_type;
    if name.is_empty() || MACHINE_TYPES.contains(&name) || WORKER_TYPES.contains(&name) || known_types.custom.contains(name) {
        return;
    }
    let place = source.member("type");
    if known_types.any_custom {
        return;
    }
    let custom = known_types.custom.iter().map(String::as_str);
    let known: Vec<&str> = WORKER_TYPES.into_iter().chain(MACHINE_TYPES).chain(custom).collect();
    let message = match did_you_mean(name, &known) {
        Some(near) => format!("there is no task type `{name}`, did you mean `{near}`?"),
        None => format!("there is no task type `{name}`"),
    };
    let listed = known.len().min(TYPES_LISTED_MAX);
    place.error(problems, message, Some(&format!("one of {}", known[..listed].join(", "))));
}

/// Most task types that a message lists.
const TYPES_LISTED_MAX: usize = 32;

fn check_expressions(task: &TaskDefinition, source: &TaskSource<'_>, references: &References<'_>, problems: &mut Problems) {
    let Some(members) = &source.members else {
        return;
    };
    if let Some(when) = members.get("when") {
        references.expression(&when, Place::BeforeAttempts, problems);
    }
    if let Some(key) = members.get("idempotency_key") {
        references.template(&key, Place::BeforeAttempts, problems);
    }
    let own = members.get("placement");
    if let Some(own) = &own {
        placement::check(own, problems);
    }
    let own = own.and_then(|placement| placement.any_map(&mut Problems::new("")));
    if let Some(key) = own.and_then(|placement| placement.get("affinity_key")) {
        references.template(&key, Place::BeforeAttempts, problems);
    }
    let input = members.get("input");
    if let Some(input) = &input {
        references.template(input, Place::Attempt, problems);
    }
    let Some(config) = members.get("config") else {
        return;
    };
    match &*task.task_type {
        "transform" => {
            // Wrong shapes were reported with the config.
            let mut shapes = Problems::new("");
            let Some(config) = config.any_map(&mut shapes) else {
                return;
            };
            if let Some(expr) = config.get("expr") {
                references.transform(&expr, input.as_ref(), problems);
            }
            if let Some(set) = config.get("set").and_then(|set| set.any_map(&mut shapes)) {
                set.iter().for_each(|(_, value)| references.transform(&value, input.as_ref(), problems));
            }
        }
        "branch" => {
            let mut shapes = Problems::new("");
            let cases = config.any_map(&mut shapes).and_then(|config| config.get("cases"));
            for case in cases.and_then(|cases| cases.list(&mut shapes)).unwrap_or_default() {
                if let Some(when) = case.any_map(&mut shapes).and_then(|case| case.get("when")) {
                    references.expression(&when, Place::Attempt, problems);
                }
            }
        }
        _ => references.template(&config, Place::Attempt, problems),
    }
}
