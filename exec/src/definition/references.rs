//! Expressions against the workflow around them: each is parsed, and every name it reads must be there when it runs.

use std::collections::BTreeSet;

use distric_rules::did_you_mean;
use distric_rules::document::{Cursor, NodeValue, Problems};
use distric_rules::expr::{Expr, ExprError, Reference, Template};

use super::Definition;
use super::compile::bare;
use super::graph::Upstream;
use super::names::{MESSAGE_MEMBERS, ROOTS, TASK_MEMBERS};

/// Where an expression stands, which decides what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Evaluated before the instance begins.
    BeforeStart,
    /// Evaluated once for all attempts.
    BeforeAttempts,
    /// Evaluated for an attempt.
    Attempt,
}

/// Checks the expressions of one task, or of what is evaluated when all have ended.
#[derive(Clone)]
pub(super) struct References<'a> {
    pub definition: &'a Definition,
    /// What is upstream of what; absent when the graph itself has problems.
    pub upstream: Option<&'a Upstream>,
    /// The task; absent for the output, which sees all tasks.
    pub index: Option<usize>,
    /// What the task sees that this graph is the body of.
    pub outer: Option<&'a References<'a>>,
    /// The names of the loops around it.
    pub loop_names: Vec<&'static str>,
    /// Whether the task itself has run: what undoes it sees its output.
    pub sees_own: bool,
    /// Whether an unknown task id gets a suggestion.
    pub suggests: bool,
}

impl References<'_> {
    /// A bare expression.
    pub fn expression(&self, cursor: &Cursor<'_>, place: Place, problems: &mut Problems) {
        let Some((expr, columns)) = parse_bare(cursor, problems) else {
            return;
        };
        self.check(expr.paths(), columns, cursor, place, problems);
    }

    /// A tree with templates in its strings.
    pub fn template(&self, cursor: &Cursor<'_>, place: Place, problems: &mut Problems) {
        match &cursor.node.value {
            NodeValue::String(text) => match Template::compile_text(text) {
                Ok(template) => self.check(template.paths(), 0, cursor, place, problems),
                Err(error) => report(cursor, 0, &error, problems),
            },
            NodeValue::List(_) => {
                let items = cursor.list(problems).unwrap_or_default();
                items.iter().for_each(|item| self.template(item, place, problems));
            }
            NodeValue::Map(_) => {
                let Some(members) = cursor.any_map(problems) else {
                    return;
                };
                for (key, member) in members.iter() {
                    if key.text.contains("${") {
                        problems.error(key.at, &member.path, "a key cannot hold an expression", None);
                    }
                    self.template(&member, place, problems);
                }
            }
            _ => {}
        }
    }

    /// An expression of a `transform`, which sees the members of the task's input. `input` is the task's `input`, when it has one.
    pub fn transform(&self, cursor: &Cursor<'_>, input: Option<&Cursor<'_>>, problems: &mut Problems) {
        let Some((expr, columns)) = parse_bare(cursor, problems) else {
            return;
        };
        let Some(input) = input else {
            return self.check_default_input(expr.paths(), columns, cursor, problems);
        };
        let NodeValue::Map(members) = &input.node.value else {
            // An input that is one expression has members that are only known at run time.
            return;
        };
        let names: Vec<&str> = members.iter().map(|(key, _)| key.text.as_str()).chain(["input"]).collect();
        for reference in expr.paths() {
            if !names.contains(&reference.path[0].as_str()) {
                let message = with_suggestion(format!("the task's input has no `{}`", reference.path[0]), &reference.path[0], &names);
                report_reference(cursor, columns, &reference, message, Some(&names), problems);
            }
        }
    }

    /// Without an `input`, a transform sees what `RunNames::default_input` holds.
    fn check_default_input(&self, references: Vec<Reference>, columns: u32, cursor: &Cursor<'_>, problems: &mut Problems) {
        const NAMES: [&str; 3] = ["input", "params", "tasks"];
        let names: Vec<&str> = NAMES.into_iter().chain(self.loop_names.iter().copied()).collect();
        let own: Vec<usize> = self.index.into_iter().collect();
        let depends_on = match self.index {
            Some(index) if !self.sees_own => &self.definition.tasks[index].depends_on[..],
            _ => &own[..],
        };
        for reference in references {
            let root = reference.path[0].as_str();
            let direct = |index: usize| depends_on.contains(&index);
            let message = if !names.contains(&root) {
                Some(with_suggestion(format!("the task's input has no `{root}`"), root, &names))
            } else if root == "tasks" {
                self.task_message(&reference).or_else(|| {
                    let id = &reference.path[1];
                    let is_direct = self.definition.task_index(id).is_some_and(direct);
                    let is_there = !matches!(reference.path.get(2).map(String::as_str), Some("error"));
                    (!is_direct || !is_there).then(|| {
                        format!(
                            "`{}` is not in the task's input: without `input` it holds output and status of direct dependencies",
                            path(&reference)
                        )
                    })
                })
            } else {
                None
            };
            if let Some(message) = message {
                let expected = (!names.contains(&root)).then_some(&names[..]);
                report_reference(cursor, columns, &reference, message, expected, problems);
            }
        }
    }

    fn check(&self, references: Vec<Reference>, columns: u32, cursor: &Cursor<'_>, place: Place, problems: &mut Problems) {
        let mut reported = BTreeSet::new();
        let roots: Vec<&str> = ROOTS.into_iter().chain(self.loop_names.iter().copied()).collect();
        for reference in references {
            if let Some(message) = self.message(&reference, place)
                && reported.insert(message.clone())
            {
                let expected = (!roots.contains(&reference.path[0].as_str())).then_some(&roots[..]);
                report_reference(cursor, columns, &reference, message, expected, problems);
            }
        }
    }

    /// What is wrong with a name; `None` when it will be there.
    fn message(&self, reference: &Reference, place: Place) -> Option<String> {
        let root = reference.path[0].as_str();
        let members: &[&str] = match root {
            "input" | "params" => return None,
            "tasks" | "task" | "attempt" if place == Place::BeforeStart => {
                return Some(format!("`{root}` cannot be used here: this is evaluated before the workflow begins"));
            }
            name if self.loop_names.contains(&name) => return None,
            name @ ("item" | "index" | "state" | "iteration") => {
                let kind = if matches!(name, "item" | "index") { "for_each" } else { "while" };
                return Some(format!("`{name}` is only there inside a `{kind}`"));
            }
            "attempt" if place == Place::BeforeAttempts => {
                return Some("`attempt` cannot be used here: this is evaluated once for all attempts".into());
            }
            "attempt" => return None,
            "tasks" => return self.task_message(reference),
            "message" => &MESSAGE_MEMBERS,
            "instance" | "task" => &["id"],
            "workflow" => &["id", "version"],
            _ => {
                let names: Vec<&str> = ROOTS.into_iter().chain(self.loop_names.iter().copied()).collect();
                return Some(with_suggestion(format!("there is no `{root}` here"), root, &names));
            }
        };
        let member = reference.path.get(1)?;
        let is_member = members.contains(&member.as_str());
        (!is_member).then(|| with_suggestion(format!("`{root}` has no `{member}`, only {}", members.join(", ")), member, members))
    }

    /// Whether this graph, or one around it, has a task with this id.
    pub fn knows(&self, id: &str) -> bool {
        self.definition.task_index(id).is_some() || self.outer.is_some_and(|outer| outer.knows(id))
    }

    /// What is wrong with a name that starts with `tasks`.
    fn task_message(&self, reference: &Reference) -> Option<String> {
        let Some(id) = reference.path.get(1) else {
            return Some("`tasks` is followed by the id of a task, as in tasks.check.output".into());
        };
        let tasks = &self.definition.tasks;
        let Some(index) = self.definition.task_index(id) else {
            if let Some(outer) = self.outer.filter(|outer| outer.knows(id)) {
                return outer.task_message(reference);
            }
            let longer = tasks.iter().find(|task| task.id.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with(['-', '.'])));
            if let Some(longer) = longer {
                return Some(format!("there is no task `{id}`; `{0}` is written tasks[\"{0}\"]", longer.id));
            }
            if !self.suggests {
                return Some(format!("there is no task `{id}`"));
            }
            let ids: Vec<&str> = tasks.iter().map(|task| &*task.id).collect();
            return Some(with_suggestion(format!("there is no task `{id}`"), id, &ids));
        };
        if let Some(own) = self.index {
            if index == own && !self.sees_own {
                return Some(format!("`{id}` is this task, which has not run yet"));
            }
            if index != own && self.upstream.is_some_and(|upstream| !upstream.is_upstream(index, own)) {
                return Some(format!("`{}` does not depend on `{id}`, so `{id}` may not have run", tasks[own].id));
            }
        }
        let member = reference.path.get(2)?;
        if !TASK_MEMBERS.contains(&member.as_str()) {
            let message = format!("a task has no `{member}`, only {}", TASK_MEMBERS.join(", "));
            return Some(with_suggestion(message, member, &TASK_MEMBERS));
        }
        let is_branch = &*tasks[index].task_type == "branch" && member == "output";
        if is_branch && reference.path.get(3).map(String::as_str) != Some("branch") {
            return Some(format!("the output of a branch is a map: {}.branch is the name", path_of(&reference.path[..3])));
        }
        None
    }
}

/// The parsed expression, and the columns before it in its text.
pub(super) fn parse_bare(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<(Expr, u32)> {
    let text = cursor.node.as_str()?;
    let expression = bare(text);
    let columns = if expression.len() == text.len() { 0 } else { text.find("${").map_or(0, |at| text[..at].chars().count() as u32 + 2) };
    match Expr::parse(expression) {
        Ok(expr) => Some((expr, columns)),
        Err(error) => {
            report(cursor, columns, &error, problems);
            None
        }
    }
}

fn with_suggestion(message: String, given: &str, options: &[&str]) -> String {
    match did_you_mean(given, options) {
        Some(near) => format!("{message}, did you mean `{near}`?"),
        None => message,
    }
}

fn path(reference: &Reference) -> String {
    path_of(&reference.path)
}

fn path_of(path: &[String]) -> String {
    path.join(".")
}

fn report(cursor: &Cursor<'_>, columns: u32, error: &ExprError, problems: &mut Problems) {
    cursor.error(problems, format!("{}, at {}", error.message, spot(error.line, error.column, columns)), None);
}

pub(super) fn report_reference(
    cursor: &Cursor<'_>,
    columns: u32,
    reference: &Reference,
    message: String,
    expected: Option<&[&str]>,
    problems: &mut Problems,
) {
    let expected = expected.map(|names| format!("one of {}", names.join(", ")));
    cursor.error(problems, format!("{message}, at {}", spot(reference.line, reference.column, columns)), expected.as_deref());
}

/// Where in the text of the scalar.
fn spot(line: u32, column: u32, columns: u32) -> String {
    match line {
        1 => format!("column {} of the text", column + columns),
        _ => format!("line {line}, column {column} of the text"),
    }
}
