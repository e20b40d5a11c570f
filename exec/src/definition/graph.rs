//! The graph of a workflow: names to indexes, an order, cycles named task by task, and who is upstream of whom.

use std::collections::{BTreeMap, BTreeSet};

use distric_rules::did_you_mean;
use distric_rules::document::Problems;

use super::Definition;
use super::read::{Draft, suggests};

/// Fills in `depends_on`, `dependents` and `order`. Problems: duplicate ids, unknown or repeated dependencies, cycles.
pub(super) fn link(draft: &mut Draft<'_>, problems: &mut Problems) {
    let mut index_of: BTreeMap<String, usize> = BTreeMap::new();
    for (index, task) in draft.definition.tasks.iter().enumerate() {
        if task.id.is_empty() {
            continue;
        }
        if let Some(first) = index_of.get(&*task.id) {
            let at = draft.tasks[*first].member("id").at();
            let message = format!("the task id `{}` is given twice, first at line {} column {}", task.id, at.line, at.column);
            draft.tasks[index].member("id").error(problems, message, None);
        } else {
            index_of.insert(task.id.to_string(), index);
        }
    }
    let ids: Vec<&str> = index_of.keys().map(String::as_str).collect();
    let mut edges: Vec<Vec<usize>> = Vec::with_capacity(draft.tasks.len());
    for source in &draft.tasks {
        let mut depends_on = Vec::new();
        let mut seen = BTreeSet::new();
        for name in &source.depends_on {
            let text = name.node.as_str().unwrap_or_default();
            match index_of.get(text) {
                Some(index) if seen.insert(*index) => depends_on.push(*index),
                Some(_) => name.error(problems, format!("`{text}` is listed twice"), None),
                None => {
                    let near = if suggests(problems) { did_you_mean(text, &ids) } else { None };
                    let message = match near {
                        Some(near) => format!("there is no task `{text}`, did you mean `{near}`?"),
                        None => format!("there is no task `{text}`"),
                    };
                    name.error(problems, message, None);
                }
            }
        }
        edges.push(depends_on);
    }
    let tasks = &mut draft.definition.tasks;
    for (index, depends_on) in edges.into_iter().enumerate() {
        for dependency in &depends_on {
            tasks[*dependency].dependents.push(index);
        }
        tasks[index].depends_on = depends_on;
    }
    draft.definition.order = order(&draft.definition);
    report_cycles(draft, problems);
}

/// All tasks that can be ordered, each after its dependencies; those on or behind a cycle are left out.
fn order(definition: &Definition) -> Vec<usize> {
    let mut waits_for: Vec<usize> = definition.tasks.iter().map(|task| task.depends_on.len()).collect();
    let mut free: BTreeSet<usize> = (0..waits_for.len()).filter(|index| waits_for[*index] == 0).collect();
    let mut order = Vec::with_capacity(waits_for.len());
    while let Some(index) = free.pop_first() {
        order.push(index);
        for dependent in &definition.tasks[index].dependents {
            waits_for[*dependent] -= 1;
            if waits_for[*dependent] == 0 {
                free.insert(*dependent);
            }
        }
    }
    order
}

/// Names cycles that share no task, each once, at the dependency that its first task has on the next.
fn report_cycles(draft: &Draft<'_>, problems: &mut Problems) {
    let tasks = &draft.definition.tasks;
    let mut is_done = vec![false; tasks.len()];
    draft.definition.order.iter().for_each(|index| is_done[*index] = true);
    for start in 0..tasks.len() {
        // Every task left out of the order has a dependency left out as well, so following one of them meets a cycle.
        let mut path: Vec<usize> = Vec::new();
        let mut at = start;
        while !is_done[at] {
            if let Some(first) = path.iter().position(|index| *index == at) {
                report_cycle(draft, &path[first..], problems);
                break;
            }
            path.push(at);
            match tasks[at].depends_on.iter().find(|index| !is_done[**index]) {
                Some(next) => at = *next,
                None => break,
            }
        }
        path.into_iter().for_each(|index| is_done[index] = true);
    }
}

fn report_cycle(draft: &Draft<'_>, cycle: &[usize], problems: &mut Problems) {
    let tasks = &draft.definition.tasks;
    let first = (0..cycle.len()).min_by_key(|position| cycle[*position]).unwrap_or(0);
    let ring: Vec<usize> = cycle[first..].iter().chain(&cycle[..first]).chain(&cycle[first..=first]).copied().collect();
    let names: Vec<&str> = ring.iter().map(|index| &*tasks[*index].id).collect();
    let source = &draft.tasks[ring[0]];
    let next = source.depends_on.iter().find(|name| name.node.as_str() == Some(names[1]));
    let place = next.cloned().unwrap_or_else(|| source.cursor.clone());
    place.error(problems, format!("the tasks wait for each other: {}", names.join(" -> ")), Some("dependencies without a cycle"));
}

/// For each task, the set of everything that it depends on, directly or not: one bit a pair.
pub(super) struct Upstream {
    words_per_task: usize,
    words: Vec<u64>,
}

impl Upstream {
    /// Tasks without a place in the order have nothing upstream.
    pub fn of(definition: &Definition) -> Self {
        let tasks_count = definition.tasks.len();
        let words_per_task = tasks_count.div_ceil(64);
        let mut upstream = Self { words_per_task, words: vec![0; words_per_task * tasks_count] };
        for task in &definition.order {
            for dependency in &definition.tasks[*task].depends_on {
                for word in 0..words_per_task {
                    upstream.words[task * words_per_task + word] |= upstream.words[dependency * words_per_task + word];
                }
                upstream.words[task * words_per_task + dependency / 64] |= 1 << (dependency % 64);
            }
        }
        upstream
    }

    /// Whether `task` depends on `other`, directly or not.
    pub fn is_upstream(&self, other: usize, task: usize) -> bool {
        self.words[task * self.words_per_task + other / 64] & (1 << (other % 64)) != 0
    }
}
