//! The workflow language: from text to checked definitions, and from definitions to what the machine runs.
//!
//! In: YAML or JSON text; canonical JSON of the log.  Out: [`Definition`]s, problems with line and column; [`Compiled`] definitions.
//! May touch: `model`, `rules` (documents, expressions, retry policies).  Never: clocks, sockets, files.
//! Invariant: what a definition says is either done or refused when it is checked; nothing is ignored.
//! Invariant: `from_json(to_json(d)) == d`.
//! Start reading at [`check_workflows`], then [`Definition::compile`]; the names that expressions see are in [`RunNames`].

mod admission;
mod aggregate;
mod body;
mod calls;
mod canonical;
mod check;
mod compile;
mod config;
mod graph;
mod names;
pub(crate) mod placement;
mod programs;
mod read;
mod references;
mod schedule;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::Needs;
use distric_rules::RetryPolicy;
use serde_json::Value;

pub use admission::{
    Admission, BATCH_ITEMS_MAX, CompiledAdmission, Fairness, GateDefinition, GateRule, HOLD_MS_MAX, START_LIMIT_MAX, WEIGHT_MAX, WhenFull,
};
pub use aggregate::{AGGREGATE_ITEMS_MAX, Aggregate, MEASURES_MAX};
pub use body::{
    Body, FOR_EACH_ITEMS_MAX, FOR_EACH_PARALLEL_DEFAULT, FOR_EACH_PARALLEL_MAX, ItemFailure, WHILE_ITERATIONS_DEFAULT, WHILE_ITERATIONS_MAX,
};
pub(crate) use body::{FOR_EACH_NAMES, WHILE_NAMES};
pub use calls::{CALL_DEPTH_MAX, CALLED_WORKFLOWS_MAX, CallProblem, check_calls, pins_of, place_of_call};
pub use check::{CheckedWorkflows, check_workflows};
pub use compile::{BranchCase, CompileError, Compiled, CompiledBody, CompiledTask, Wait, Work};
pub use names::{LoopNames, MessageNames, RunNames, TaskNames};
pub use schedule::{Cron, Missed, SCHEDULES_MAX, ScheduleDefinition};
pub use schema::{SCHEMA_BYTES_MAX, SCHEMA_NODES_MAX, SCHEMA_WORK_MAX, Schema};

/// Limit of a whole workflow that does not say, milliseconds.
pub const WORKFLOW_TIMEOUT_MS_DEFAULT: u64 = 60 * 60 * 1_000;
/// Limit of one attempt at a task that does not say, milliseconds, from its dispatch.
pub const TASK_TIMEOUT_MS_DEFAULT: u64 = 30 * 1_000;
/// Most workflows in one text.
pub const WORKFLOWS_MAX: usize = 10_000;
/// Greatest and, negated, least priority of a task.
pub const PRIORITY_MAX: i32 = 1_000;
/// Most codes that one task is tried again after.
pub const RETRY_ON_MAX: usize = 32;
/// Most labels that one task may ask for.
pub const LABELS_MAX: usize = 64;

/// One version of a workflow: a directed acyclic graph of tasks. Immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Its id, `[A-Za-z0-9._-]{1,128}`, unique within its namespace.
    pub id: Arc<str>,
    /// Its version; 0 until the catalog assigns one.
    pub version: u64,
    /// Free text for people.
    pub description: Option<String>,
    /// What its input must look like: a JSON Schema.
    pub input_schema: Option<Value>,
    /// What the parameters must look like that a rule gives to it: a JSON Schema.
    pub params_schema: Option<Value>,
    /// Limit of the whole workflow, milliseconds, when whoever starts it gives none.
    pub timeout_ms: u64,
    /// What happens when a critical task has failed for good.
    pub on_failure: OnFailure,
    /// When its instances may begin, and what share their tasks have.
    pub admission: Admission,
    /// When it starts by itself.
    pub schedules: Vec<ScheduleDefinition>,
    /// The workflow that is started when this one has failed or timed out.
    pub handler: Option<Arc<str>>,
    /// What it returns: a template over its tasks. Absent: see [`crate::machine`].
    pub output: Option<Value>,
    /// The tasks, in the order of the text. All indexes below point in here.
    pub tasks: Vec<TaskDefinition>,
    /// Indexes of all tasks, each after everything that it depends on; among those that are free, the first in the text first.
    pub order: Vec<usize>,
}

/// What happens when a critical task has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The workflow fails.
    #[default]
    Fail,
    /// What completed is compensated, the latest first; then the workflow fails.
    Compensate,
}

impl OnFailure {
    /// Every outcome that is one word, as it is written.
    pub const WORDS: [(&str, OnFailure); 2] = [("fail", OnFailure::Fail), ("compensate", OnFailure::Compensate)];
}

/// One task of a workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDefinition {
    /// Its id, `[A-Za-z0-9._-]{1,128}`, unique within the workflow.
    pub id: Arc<str>,
    /// What it does: a built-in type, or a name that workers offer.
    pub task_type: Arc<str>,
    /// Its settings: a JSON tree with `${expression}` in its strings, by the rules of its type. `null` when none are given.
    pub config: Value,
    /// What it works on: a template. Absent: see [`RunNames::default_input`].
    pub input: Option<Value>,
    /// The tasks that it waits for, without repetition, in the order of the text.
    pub depends_on: Vec<usize>,
    /// The tasks that wait for it, ascending.
    pub dependents: Vec<usize>,
    /// Which outcomes of those it waits for let it run.
    pub join: Join,
    /// A condition: when it is false, the task is skipped, and so is what depends only on it.
    pub when: Option<String>,
    /// Limit of one attempt, milliseconds; 0 for none. Of no meaning for types that run in the machine, except those with a body.
    pub timeout_ms: u64,
    /// Its retries; absent: those of whoever starts the workflow, else none.
    pub retry: Option<RetryPolicy>,
    /// The codes of failures after which it is tried again; none: after every failure that is not final by itself.
    pub retry_on: Vec<Arc<str>>,
    /// Greater is dispatched earlier, `-PRIORITY_MAX..=PRIORITY_MAX`.
    pub priority: i32,
    /// Which worker may and should run it.
    pub placement: Placement,
    /// What it takes of its worker's capacity.
    pub needs: Needs,
    /// The outward idempotency key: a template of text. Absent: the id of the task's instance.
    pub idempotency_key: Option<String>,
    /// Whether its failure fails the workflow.
    pub critical: bool,
    /// What undoes it, once it has completed and the workflow fails after all. Has no id, no dependencies and no condition of its own.
    pub compensate: Option<Box<TaskDefinition>>,
    /// What it runs, when it is a `for_each`, a `while` or a `sub_workflow`.
    pub body: Option<Box<Body>>,
}

/// When a task may run, given the outcomes of what it depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// When all have completed.
    #[default]
    All,
    /// When the first has completed.
    Any,
    /// When all have ended, however.
    AllDone,
}

impl Join {
    /// Every join, as it is written.
    pub const WORDS: [(&str, Join); 3] = [("all", Join::All), ("any", Join::Any), ("all_done", Join::AllDone)];
}

/// Which worker may and should run a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// How to choose among the workers that may.
    pub strategy: Strategy,
    /// Labels that a worker must have, with these values.
    pub labels: BTreeMap<String, String>,
    /// A condition that a worker must fulfil, over what it says of itself: `worker.labels.zone in ['eu', 'us']`.
    pub condition: Option<String>,
    /// Of the workers that may, the one with the greatest value of this, over what it says of itself and how busy it is.
    pub prefer: Option<String>,
    /// A template of text: tasks with one key go to one worker, as long as it has room.
    pub affinity_key: Option<String>,
}

/// How to choose among the workers that may run a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Nothing was said. In a text that means [`Self::Cluster`], in canonical JSON [`Self::LeastLoaded`]: that was written before there was a
    /// choice, and what was accepted then goes on as it did.
    #[default]
    Unsaid,
    /// What the cluster's settings say.
    Cluster,
    /// The one with the most free credit.
    LeastLoaded,
    /// The next in turn.
    RoundRobin,
    /// Of two that are drawn, the one with the more free credit.
    PowerOfTwo,
    /// One that is drawn.
    Random,
    /// The one that ran what the task depends on, as long as it has room; else the least loaded.
    Locality,
    /// The one that [`Placement::prefer`] gives the greatest value; of equals, the least loaded.
    Custom,
}

impl Strategy {
    /// Every strategy, as it is written.
    pub const WORDS: [(&str, Strategy); 7] = [
        ("least_loaded", Strategy::LeastLoaded),
        ("round_robin", Strategy::RoundRobin),
        ("power_of_two", Strategy::PowerOfTwo),
        ("random", Strategy::Random),
        ("locality", Strategy::Locality),
        ("custom", Strategy::Custom),
        ("cluster", Strategy::Cluster),
    ];
}

/// The task types that run inside the machine, without a worker.
pub const MACHINE_TYPES: [&str; 9] =
    ["wait", "wait_for_signal", "branch", "fail", "publish", "aggregate", "for_each", "while", "sub_workflow"];
/// Those of them that run instances of their own.
pub const BODY_TYPES: [&str; 3] = ["for_each", "while", "sub_workflow"];
/// The type of the compensation that the machine itself makes for a task with a body. No type of a user is called so.
pub const UNDO_TYPE: &str = ":undo";
/// The task types of the machine that mean something as a compensation.
const COMPENSATION_MACHINE_TYPES: [&str; 1] = ["publish"];
/// What follows a task's id in the id of its compensation. No id of a user holds it.
pub const COMPENSATION_SUFFIX: &str = ":compensate";
/// The task types built into workers; `sql`, `exec` and `shell` are offered by those whose configuration has a database, has programs, allows it.
pub const WORKER_TYPES: [&str; 7] = ["transform", "log", "http", "webhook", "sql", "exec", "shell"];

/// The task types, beside the built-in ones, that a workflow may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownTypes {
    /// Names that workers offer.
    pub custom: BTreeSet<String>,
    /// Whether every other name is taken for one that some worker will offer.
    pub any_custom: bool,
}

impl KnownTypes {
    /// The built-in types only.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// Built-in types, and any other name that is no word of the language.
    pub fn any() -> Self {
        Self { custom: BTreeSet::new(), any_custom: true }
    }
}

impl TaskDefinition {
    /// One with nothing said.
    fn blank() -> Self {
        Self {
            id: Arc::default(),
            task_type: Arc::default(),
            config: Value::Null,
            input: None,
            depends_on: Vec::new(),
            dependents: Vec::new(),
            join: Join::All,
            when: None,
            timeout_ms: TASK_TIMEOUT_MS_DEFAULT,
            retry: None,
            retry_on: Vec::new(),
            priority: 0,
            placement: Placement::default(),
            needs: Needs::default(),
            idempotency_key: None,
            critical: true,
            compensate: None,
            body: None,
        }
    }

    fn settle_strategy(&mut self, unsaid: Strategy) {
        if self.placement.strategy == Strategy::Unsaid && !self.runs_in_machine() {
            self.placement.strategy = unsaid;
        }
        if let Some(compensation) = &mut self.compensate {
            compensation.settle_strategy(unsaid);
        }
    }

    /// Whether it runs inside the machine, without a worker.
    pub fn runs_in_machine(&self) -> bool {
        MACHINE_TYPES.contains(&&*self.task_type) || &*self.task_type == UNDO_TYPE
    }

    /// Whether it runs instances of its own.
    pub fn has_body(&self) -> bool {
        BODY_TYPES.contains(&&*self.task_type)
    }
}

impl Definition {
    /// The definition with its compensations as tasks of their own behind all others, in the order of the tasks that they undo. Each
    /// depends on its task, and no task knows of it: it runs only when the machine says so. A task with a body that says nothing is
    /// undone by undoing what it ran.
    pub fn with_compensations(mut self) -> Self {
        for index in 0..self.tasks.len() {
            let task = &mut self.tasks[index];
            let undoes_body = self.on_failure == OnFailure::Compensate && task.body.is_some();
            let undo = || Box::new(TaskDefinition { task_type: Arc::from(UNDO_TYPE), ..TaskDefinition::blank() });
            let compensation = task.compensate.take().or_else(|| undoes_body.then(undo));
            if let Some(compensation) = compensation {
                let id = Arc::from(format!("{}{COMPENSATION_SUFFIX}", task.id));
                self.tasks.push(TaskDefinition { id, depends_on: vec![index], critical: false, ..*compensation });
            }
        }
        self
    }

    /// Says what it means that a task on a worker says nothing of its strategy.
    fn settle_strategies(&mut self, unsaid: Strategy) {
        for task in &mut self.tasks {
            task.settle_strategy(unsaid);
            if let Some(Body::Tasks(body)) = task.body.as_deref_mut() {
                body.settle_strategies(unsaid);
            }
        }
    }

    /// All its tasks, those of bodies included.
    pub fn tasks_count(&self) -> usize {
        let inner = self.tasks.iter().filter_map(|task| match task.body.as_deref() {
            Some(Body::Tasks(body)) => Some(body.tasks_count()),
            _ => None,
        });
        self.tasks.len() + inner.sum::<usize>()
    }

    /// The index of the task with this id.
    pub fn task_index(&self, id: &str) -> Option<usize> {
        self.tasks.iter().position(|task| &*task.id == id)
    }
}

#[cfg(test)]
mod tests;
