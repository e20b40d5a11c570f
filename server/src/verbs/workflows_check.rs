//! `distric workflows check FILE…`.

use std::path::{Path, PathBuf};

use distric_exec::definition::{CheckedWorkflows, KnownTypes, check_workflows};

use super::rules_check::report;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::settings::{CATALOG_BYTES_MAX, read_text};

/// Checks workflow files and prints every problem with its place. Exit 1 when one of them is an error.
pub fn run(files: &[PathBuf], task_types: &[String], any_task_type: bool, output: Output) -> Result<Exit, Failure> {
    let known = KnownTypes { custom: task_types.iter().cloned().collect(), any_custom: any_task_type };
    let (mut problems, mut workflow_count, mut task_count) = (Vec::new(), 0, 0);
    for file in files {
        let checked = checked(file, &known)?;
        problems.extend(checked.problems);
        workflow_count += checked.definitions.len();
        task_count += checked.definitions.iter().map(|definition| definition.tasks.len()).sum::<usize>();
    }
    Ok(report(&problems, &format!("{workflow_count} workflows with {task_count} tasks"), files, output))
}

/// Reads and checks one file.
pub fn checked(file: &Path, known: &KnownTypes) -> Result<CheckedWorkflows, Failure> {
    let text = read_text(file, CATALOG_BYTES_MAX)?;
    Ok(check_workflows(&file.display().to_string(), &text, known))
}

/// The ids that a file defines, for rules that name them. Problems of the file are for `workflows check` to report.
pub fn ids(file: &Path) -> Result<Vec<String>, Failure> {
    let checked = checked(file, &KnownTypes::any())?;
    Ok(checked.definitions.iter().map(|definition| definition.id.to_string()).collect())
}
