//! `distric rules check|lint FILE…`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use distric_rules::{Catalog, CheckContext, Problem, Severity, check};
use serde_json::json;

use super::workflows_check;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint, write_line};
use crate::settings::{CATALOG_BYTES_MAX, read_text};

/// What makes a check fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severe {
    /// Errors alone.
    Errors,
    /// Warnings as well.
    Warnings,
}

/// Checks rule files and prints every problem with its place. Exit 1 when one of them is severe.
pub fn run(files: &[PathBuf], workflows: &[PathBuf], severe: Severe, output: Output) -> Result<Exit, Failure> {
    let known = if workflows.is_empty() { None } else { Some(workflow_ids(workflows)?) };
    let mut problems = Vec::new();
    let mut rule_count = 0;
    for file in files {
        let text = read_text(file, CATALOG_BYTES_MAX)?;
        let name = file.display().to_string();
        let checked = check(&name, &text, &CheckContext { known_workflows: known.as_ref(), ..CheckContext::default() });
        problems.extend(checked.problems);
        if let Some(rules) = checked.catalog {
            rule_count += rules.iter().count();
            // What only the compiler finds (a pattern too large, for example) is a finding as well.
            if let Err(found) = Catalog::compile(1, &rules) {
                problems.extend(found);
            }
        }
    }
    let exit = report(&problems, &format!("{rule_count} rule{}", if rule_count == 1 { "" } else { "s" }), files, output);
    Ok(if severe == Severe::Warnings && !problems.is_empty() { Exit::FailedOutcome } else { exit })
}

fn workflow_ids(files: &[PathBuf]) -> Result<BTreeSet<String>, Failure> {
    let mut ids = BTreeSet::new();
    for file in files {
        ids.extend(workflows_check::ids(file)?);
    }
    Ok(ids)
}

/// Prints problems the same way for every language of the project.
pub fn report(problems: &[Problem], what: &str, files: &[PathBuf], output: Output) -> Exit {
    let error_count = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warning_count = problems.len() - error_count;
    if !output.json {
        for problem in problems {
            let line = problem.to_string();
            write_line(&if problem.severity == Severity::Error { output.paint(Paint::Bad, &line) } else { line });
        }
        let verdict = if error_count == 0 { output.paint(Paint::Good, "ok") } else { output.paint(Paint::Bad, "not valid") };
        write_line(&format!("{verdict}: {what}, {error_count} errors, {warning_count} warnings"));
    }
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    output
        .json(&json!({"files": files, "valid": error_count == 0, "errors": error_count, "warnings": warning_count, "problems": problems}));
    if error_count == 0 { Exit::Success } else { Exit::FailedOutcome }
}
