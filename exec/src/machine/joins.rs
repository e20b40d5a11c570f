//! Joins: whether a task runs, by the ends of what it depends on.

use super::instances::Instance;
use super::state::State;
use crate::definition::Join;

/// What a task's dependencies say about it.
pub(super) enum Readiness {
    Waits,
    Runs,
    Skipped(&'static str),
}

/// Whether a task runs, by its join over the ends of its dependencies.
///
/// `all` and `any`: a task whose dependencies were all skipped is skipped as well; for `all`, some that were skipped do not matter.
pub(super) fn readiness(instance: &Instance, index: u16) -> Readiness {
    let step = &instance.program.steps[usize::from(index)];
    if step.depends_on.is_empty() {
        return Readiness::Runs;
    }
    let status = |dependency: &u16| instance.tasks[usize::from(*dependency)].status;
    if step.join == Join::Any && step.depends_on.iter().any(|dependency| status(dependency) == State::Completed) {
        return Readiness::Runs;
    }
    if instance.tasks[usize::from(index)].waiting_count > 0 {
        return Readiness::Waits;
    }
    match step.join {
        Join::AllDone => Readiness::Runs,
        Join::All | Join::Any if step.depends_on.iter().all(|dependency| status(dependency) == State::Skipped) => {
            Readiness::Skipped("all it depends on was skipped")
        }
        Join::Any => Readiness::Skipped("nothing it depends on completed"),
        Join::All if step.depends_on.iter().all(|dependency| matches!(status(dependency), State::Completed | State::Skipped)) => {
            Readiness::Runs
        }
        Join::All => Readiness::Skipped("not all it depends on completed"),
    }
}
