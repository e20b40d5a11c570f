//! Calls: which workflows a workflow runs, and what follows for all of them together.
//!
//! Names of workflows are constant, so the whole graph of calls is known when the catalog is applied: every name exists, nothing calls itself
//! however indirectly, and the longest chain is bounded. A start pins the version of everything that it may come to call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_rules::document::{Node, NodeValue, Position, Problems, parse_documents};
use serde_json::Value;

use super::check::workflows_of;
use crate::command::PinList;

/// Most workflows that one may call, directly or not.
pub const CALLED_WORKFLOWS_MAX: usize = 32;
/// Longest chain of calls: an instance has at most so many above it.
pub const CALL_DEPTH_MAX: usize = 8;

/// What is wrong with the calls of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallProblem {
    /// The workflow whose definition says so.
    pub workflow: Arc<str>,
    /// Where in it: the path of the member that names the other workflow.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// It names a workflow that is not among those that were given.
    pub is_unknown: bool,
}

/// One call: the path of the member that says so, and the workflow that it names.
type Call = (String, Arc<str>);

/// The calls in the canonical JSON of a definition: of its tasks, of the bodies in them, and of its `on_failure`.
fn calls_of(definition: &Value) -> Vec<Call> {
    let mut calls = Vec::new();
    if let Some(handler) = definition["on_failure"]["workflow"].as_str() {
        calls.push(("on_failure.workflow".to_owned(), Arc::from(handler)));
    }
    // Bodies stand in bodies; the list takes the place of a recursion.
    let mut lists: Vec<(String, &Value)> = vec![("tasks".to_owned(), &definition["tasks"])];
    while let Some((path, tasks)) = lists.pop() {
        for (index, task) in tasks.as_array().into_iter().flatten().enumerate() {
            if !task["type"].as_str().is_some_and(|name| super::BODY_TYPES.contains(&name)) {
                continue;
            }
            let config = format!("{path}[{index}].config");
            if let Some(workflow) = task["config"]["workflow"].as_str() {
                calls.push((format!("{config}.workflow"), Arc::from(workflow)));
            }
            lists.push((format!("{config}.tasks"), &task["config"]["tasks"]));
        }
    }
    calls
}

/// The calls in a body's text. Most workflows call nothing, and are not parsed for it.
fn calls_in(body: &str) -> Vec<Call> {
    if !body.contains("\"workflow\"") {
        return Vec::new();
    }
    serde_json::from_str(body).map(|definition| calls_of(&definition)).unwrap_or_default()
}

/// Everything that is wrong with the calls between the workflows of a namespace, given by id with their canonical JSON.
///
/// Shape: linear in all bodies and calls.
pub fn check_calls<'a>(workflows: impl IntoIterator<Item = (&'a Arc<str>, &'a str)>) -> Vec<CallProblem> {
    let graph: BTreeMap<&Arc<str>, Vec<Call>> = workflows.into_iter().map(|(id, body)| (id, calls_in(body))).collect();
    let mut problems = Vec::new();
    // The longest chain of calls below each workflow that was looked at.
    let mut depths: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for start in graph.keys() {
        let mut chain: Vec<(&Arc<str>, usize)> = vec![(start, 0)];
        while let Some((workflow, next)) = chain.last().copied() {
            let Some((path, called)) = graph.get(workflow).and_then(|calls| calls.get(next)) else {
                let below = graph.get(workflow).into_iter().flatten().filter_map(|(_, called)| depths.get(called)).max();
                depths.insert(workflow, below.map_or(0, |depth| depth + 1));
                chain.pop();
                continue;
            };
            if let Some(top) = chain.last_mut() {
                top.1 += 1;
            }
            let problem = |message: String, is_unknown| CallProblem { workflow: workflow.clone(), path: path.clone(), message, is_unknown };
            let Some((called, _)) = graph.get_key_value(called) else {
                problems.push(problem(format!("there is no workflow `{called}`"), true));
                continue;
            };
            if let Some(first) = chain.iter().position(|(on_chain, _)| on_chain == called) {
                let names: Vec<&str> = chain[first..].iter().map(|(id, _)| &***id).chain([&***called]).collect();
                problems.push(problem(format!("the workflows call each other: {}", names.join(" -> ")), false));
            } else if !depths.contains_key(called) {
                chain.push((called, 0));
            }
        }
    }
    for (workflow, calls) in &graph {
        let Some((path, _)) = calls.first() else { continue };
        let depth = depths.get(workflow).copied().unwrap_or(0);
        if depth > CALL_DEPTH_MAX {
            let message = format!("the calls go {depth} deep, deeper than CALL_DEPTH_MAX, {CALL_DEPTH_MAX}");
            problems.push(CallProblem { workflow: (*workflow).clone(), path: path.clone(), message, is_unknown: false });
        }
        let count = reached(workflow, |id| graph.get(id).into_iter().flatten().map(|(_, called)| called.clone()).collect()).len();
        if count > CALLED_WORKFLOWS_MAX {
            let message = format!("it calls {count} workflows, directly or not, more than CALLED_WORKFLOWS_MAX, {CALLED_WORKFLOWS_MAX}");
            problems.push(CallProblem { workflow: (*workflow).clone(), path: path.clone(), message, is_unknown: false });
        }
    }
    problems
}

/// Where a call stands in the text of its workflow: the member that a [`CallProblem`] names.
pub fn place_of_call(text: &str, workflow: &str, path: &str) -> Option<Position> {
    let documents = parse_documents("", text).ok()?;
    let mut ignored = Problems::new("");
    let workflows: Vec<_> = documents.iter().flat_map(|document| workflows_of(document, &mut ignored)).collect();
    let mut node = workflows.iter().find(|cursor| cursor.node.get("id").and_then(Node::as_str) == Some(workflow))?.node;
    for step in path.split('.') {
        let (name, index) = match step.split_once('[') {
            Some((name, index)) => (name, Some(index.trim_end_matches(']').parse::<usize>().ok()?)),
            None => (step, None),
        };
        node = node.get(name)?;
        if let Some(index) = index {
            let NodeValue::List(items) = &node.value else { return None };
            node = items.get(index)?;
        }
    }
    Some(node.at)
}

/// What is called from `start`, directly or not, at most one more than may be.
fn reached(start: &Arc<str>, calls_of: impl Fn(&Arc<str>) -> Vec<Arc<str>>) -> BTreeSet<Arc<str>> {
    let mut found = BTreeSet::new();
    let mut open = vec![start.clone()];
    while let Some(workflow) = open.pop() {
        for called in calls_of(&workflow) {
            if found.len() <= CALLED_WORKFLOWS_MAX && found.insert(called.clone()) {
                open.push(called);
            }
        }
    }
    found
}

/// The workflows that a start may come to call, with the versions that it pins: `latest` says the version of an id and its canonical JSON.
///
/// A workflow that is not there is left out: the call of it fails. Shape: parses the bodies that call something.
pub fn pins_of<'a>(body: &str, latest: impl Fn(&str) -> Option<(u64, &'a str)>) -> PinList {
    let mut pins: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    let mut open: Vec<Arc<str>> = calls_in(body).into_iter().map(|(_, called)| called).collect();
    while let Some(called) = open.pop() {
        if pins.len() == CALLED_WORKFLOWS_MAX || pins.contains_key(&called) {
            continue;
        }
        if let Some((version, body)) = latest(&called) {
            pins.insert(called, version);
            open.extend(calls_in(body).into_iter().map(|(_, called)| called));
        }
    }
    pins.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calling(workflows: &[&str]) -> String {
        let tasks: Vec<Value> =
            workflows.iter().map(|id| json!({ "id": id, "type": "sub_workflow", "config": { "workflow": id } })).collect();
        json!({ "id": "w", "tasks": tasks }).to_string()
    }

    fn problems(workflows: &[(&str, String)]) -> Vec<String> {
        let ids: Vec<(Arc<str>, &str)> = workflows.iter().map(|(id, body)| (Arc::from(*id), body.as_str())).collect();
        let found = check_calls(ids.iter().map(|(id, body)| (id, *body)));
        found.iter().map(|problem| format!("{}: {}: {}", problem.workflow, problem.path, problem.message)).collect()
    }

    #[test]
    fn calls_that_hold_are_fine_also_when_two_ways_meet() {
        assert_eq!(problems(&[("a", calling(&["b", "c"])), ("b", calling(&["d"])), ("c", calling(&["d"])), ("d", calling(&[]))]), [""; 0]);
    }

    #[test]
    fn unknown_workflows_and_circles_are_named_once() {
        assert_eq!(
            problems(&[("a", calling(&["b", "gone"])), ("b", calling(&["c"])), ("c", calling(&["a"]))]),
            [
                "c: tasks[0].config.workflow: the workflows call each other: a -> b -> c -> a",
                "a: tasks[1].config.workflow: there is no workflow `gone`",
            ]
        );
        let own = json!({ "id": "h", "on_failure": { "workflow": "h" }, "tasks": [] }).to_string();
        assert_eq!(problems(&[("h", own)]), ["h: on_failure.workflow: the workflows call each other: h -> h"]);
    }

    #[test]
    fn chains_and_counts_are_bounded() {
        let chain: Vec<(String, String)> =
            (0..10).map(|n| (format!("w{n}"), if n == 9 { calling(&[]) } else { calling(&[&format!("w{}", n + 1)]) })).collect();
        let chain: Vec<(&str, String)> = chain.iter().map(|(id, body)| (id.as_str(), body.clone())).collect();
        assert_eq!(problems(&chain), ["w0: tasks[0].config.workflow: the calls go 9 deep, deeper than CALL_DEPTH_MAX, 8"]);
        let names: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut wide: Vec<(&str, String)> = names.iter().map(|name| (*name, calling(&[]))).collect();
        wide.push(("z", calling(&names)));
        assert_eq!(problems(&wide).len(), 1);
    }

    #[test]
    fn a_start_pins_what_it_may_come_to_call() {
        let inner = json!({ "id": "i", "on_failure": { "workflow": "help" }, "tasks": [] }).to_string();
        let nested = json!({ "id": "a", "tasks": [{ "id": "e", "type": "for_each", "config": { "items": [], "tasks": [
            { "id": "s", "type": "sub_workflow", "config": { "workflow": "i" } }] } }] })
        .to_string();
        let latest = |id: &str| match id {
            "i" => Some((4, inner.as_str())),
            "help" => Some((7, "{}")),
            _ => None,
        };
        assert_eq!(pins_of(&nested, latest), [(Arc::from("help"), 7), (Arc::from("i"), 4)]);
        assert_eq!(pins_of(&calling(&["gone"]), latest), []);
    }
}
