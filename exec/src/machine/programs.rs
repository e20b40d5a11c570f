//! Programs: the definitions of this group, compiled once, by namespace, workflow and version.
//!
//! A program is what the machine needs at every step: indexes instead of names, the class of each task, constant configs as text.
//! Invariant: a program that an instance uses is not forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::limits::{NAME_BYTES_MAX, WORKFLOW_TASKS_MAX};
use distric_model::namespace::is_identifier;
use distric_model::{Change, Namespace, Needs};
use distric_rules::Problem;
use distric_rules::expr::{Budget, Reference, Scope, Template};
use serde::Serialize;
use serde_json::Value;

use super::checkpoint::record::Tag;
use super::checkpoint::tracked::Tracked;
use super::effects::{Refusal, RefusalCode, Reply};
use super::placement::{ClassId, ClassKey, Demands, Queues};
use crate::command::{Define, Retry};
use crate::definition::{
    COMPENSATION_SUFFIX, Compiled, CompiledAdmission, CompiledBody, CompiledTask, Definition, Join, OnFailure, ScheduleDefinition, Schema,
    TaskDefinition, Wait, Work,
};
use crate::octets::Octets;

/// Most definitions that one group knows. Beyond it the oldest that no instance uses is forgotten; it can be defined again.
pub const PROGRAMS_MAX: usize = 4_096;

/// One definition, ready to run.
#[derive(Debug)]
pub(super) struct Program {
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: u64,
    /// The log index of its `Define`.
    pub defined_at: u64,
    pub timeout_ms: u64,
    /// Whether what completed is undone when it fails.
    pub compensates: bool,
    /// One for each task, in the order of the definition; behind them one for each compensation.
    pub steps: Vec<Step>,
    pub tasks: Vec<CompiledTask>,
    /// When its instances may begin.
    pub admission: CompiledAdmission,
    /// When it starts by itself.
    pub schedules: Vec<ScheduleDefinition>,
    /// What the expressions of the admission read.
    pub start_reads: Reads,
    /// What its input must look like.
    input_schema: Option<Arc<Schema>>,
    /// What the parameters must look like that a rule gives to it.
    params_schema: Option<Arc<Schema>>,
    /// What its instances return, and what that reads.
    pub output: Option<(Template, Reads)>,
    /// The workflow that is started when an instance has failed.
    pub handler: Option<Arc<str>>,
    /// Whether a task has a body.
    pub has_bodies: bool,
    /// Its number among the bodies of its definition; absent for the definition itself.
    pub body: Option<u16>,
    /// All bodies of a definition by number. A body has none: those in it are the definition's as well.
    bodies: Vec<Arc<Program>>,
    text: Octets,
}

/// What a task with a body runs.
#[derive(Debug)]
pub(super) enum Body {
    Tasks(Arc<Program>),
    /// A workflow by its id: which version, its instance has pinned.
    Workflow(Arc<str>),
}

/// What the machine needs to know of a task at every step.
#[derive(Debug)]
pub(super) struct Step {
    pub id: Arc<str>,
    pub task_type: Arc<str>,
    pub depends_on: Vec<u16>,
    pub dependents: Vec<u16>,
    pub join: Join,
    /// Runs even when the instance has failed: it joins by `all_done`, or follows a task that does.
    pub cleans_up: bool,
    pub is_control: bool,
    /// What it runs, when it has a body.
    pub body: Option<Body>,
    /// It has a body, or undoes what one ran.
    pub has_rounds: bool,
    /// The task that it undoes: it is a compensation.
    pub compensates: Option<u16>,
    /// Its place in an order in which each task comes after all that it depends on.
    pub rank: u16,
    pub is_critical: bool,
    /// What it takes of its worker's capacity.
    pub needs: Needs,
    pub class: ClassId,
    pub priority: i32,
    pub timeout_ms: u64,
    pub retry: Option<Retry>,
    /// The codes after which there is another attempt; none: all.
    pub retry_on: Vec<Arc<str>>,
    /// The config, when it holds no expression.
    pub constant_config: Option<Octets>,
    /// What the task's expressions read.
    pub reads: Reads,
}

/// What expressions read, so that only that is parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    pub input: bool,
    pub params: bool,
    pub message: bool,
    /// Differs from attempt to attempt.
    pub attempt: bool,
    /// Names of the loops around it.
    pub loops: bool,
    /// Tasks by index, ascending.
    pub tasks: BTreeSet<u16>,
    /// Tasks around the body that it stands in: how many bodies further out, from 0, and the index there.
    pub outer: BTreeSet<(u8, u16)>,
}

#[derive(Debug)]
struct Known {
    program: Arc<Program>,
    users_count: u64,
}

/// Replicas agree on a program when they agree on its text.
impl Serialize for Known {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.program.text, self.users_count, self.program.defined_at).serialize(serializer)
    }
}

/// The definitions of a group.
#[derive(Debug, Default, Serialize)]
pub(super) struct Programs {
    table: BTreeMap<Namespace, BTreeMap<Arc<str>, BTreeMap<u64, Known>>>,
    count: usize,
    bytes: u64,
    /// The same, by the log index of their `Define`.
    #[serde(skip)]
    by_define: Tracked<u64, Arc<Program>>,
}

impl Programs {
    /// The program of a version.
    pub fn get(&self, namespace: &Namespace, workflow: &str, version: u64) -> Option<&Arc<Program>> {
        Some(&self.table.get(namespace)?.get(workflow)?.get(&version)?.program)
    }

    /// The program that the entry with this log index defined.
    pub fn defined_at(&self, index: u64) -> Option<&Arc<Program>> {
        self.by_define.get(&index)
    }

    /// Tells what changed since the last call.
    pub fn take_changes(&mut self, out: &mut Vec<Change>, value_of: impl Fn(&Program) -> Vec<u8>) {
        self.by_define.take_changes(out, |index| Tag::Program.numbered(*index), |_, program, _| value_of(program));
    }

    /// A checkpoint has all that is here.
    pub fn mark_stored(&mut self) {
        self.by_define.mark_stored();
    }

    /// What they are charged together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes a definition known.
    pub fn define(&mut self, define: Define, index: u64, queues: &mut Queues) -> Reply {
        if let Some(known) = self.get(&define.namespace, &define.workflow, define.version) {
            let is_same = known.text == define.body;
            let reason = format!("version {} of `{}` is defined with another body", define.version, define.workflow);
            return if is_same { Reply::Done } else { refused(RefusalCode::Conflict, reason) };
        }
        if self.count >= PROGRAMS_MAX && !self.forget_oldest_unused() {
            return refused(RefusalCode::StorageFull, format!("{PROGRAMS_MAX} workflow versions are in use"));
        }
        match Program::compile(&define, index, queues) {
            Ok(program) => {
                let program = Arc::new(program);
                self.bytes += program.bytes();
                self.by_define.insert(index, program.clone());
                let versions = self.table.entry(define.namespace).or_default().entry(define.workflow).or_default();
                versions.insert(define.version, Known { program, users_count: 0 });
                self.count += 1;
                Reply::Done
            }
            Err(reason) => refused(RefusalCode::BadDefinition, reason),
        }
    }

    /// One more instance uses a program.
    pub fn used(&mut self, program: &Program) {
        if let Some(known) = self.known(program) {
            known.users_count += 1;
        }
    }

    /// One instance fewer does.
    pub fn unused(&mut self, program: &Program) {
        if let Some(known) = self.known(program) {
            known.users_count -= 1;
        }
    }

    fn known(&mut self, program: &Program) -> Option<&mut Known> {
        self.table.get_mut(&program.namespace)?.get_mut(&program.workflow)?.get_mut(&program.version)
    }

    fn forget_oldest_unused(&mut self) -> bool {
        let all = self.table.values().flat_map(|workflows| workflows.values().flat_map(|versions| versions.values()));
        let Some(oldest) = all.filter(|known| known.users_count == 0).min_by_key(|known| known.program.defined_at) else { return false };
        let program = oldest.program.clone();
        self.bytes -= program.bytes();
        self.by_define.remove(&program.defined_at);
        let versions = self.table.get_mut(&program.namespace).and_then(|workflows| workflows.get_mut(&program.workflow));
        self.count -= usize::from(versions.is_some_and(|versions| versions.remove(&program.version).is_some()));
        true
    }
}

impl Program {
    /// Compiles the body of a `Define`. Errors: a sentence that says what is wrong with it.
    fn compile(define: &Define, defined_at: u64, queues: &mut Queues) -> Result<Self, String> {
        if !is_identifier(&define.workflow, NAME_BYTES_MAX) {
            return Err("the workflow's id is not of the form of a name".into());
        }
        let json = define.body.to_json().ok_or("the definition is not JSON")?;
        let definition = Definition::from_json(&json).map_err(|problems| first_problem(&problems))?;
        if definition.tasks.len() > WORKFLOW_TASKS_MAX {
            return Err(format!("{} tasks are more than {WORKFLOW_TASKS_MAX}", definition.tasks.len()));
        }
        let compiled = definition.with_compensations().compile().map_err(|error| error.to_string())?;
        let mut builder = Builder { define, defined_at, queues, bodies: Vec::new() };
        let program = builder.program(compiled, &[]);
        Ok(Self { bodies: builder.bodies, ..program })
    }

    /// The canonical JSON of its definition.
    pub fn text(&self) -> &Octets {
        &self.text
    }

    /// Whether it takes this input, and these parameters. Errors: what does not fit.
    pub fn takes(&self, input: &Octets, params: &Octets) -> Result<(), String> {
        let judged = |schema: &Option<Arc<Schema>>, name: &str, document: &Octets, absent: Value| match schema {
            Some(schema) => schema.judge(name, document, absent),
            None => Ok(()),
        };
        judged(&self.input_schema, "input", input, Value::Null)?;
        judged(&self.params_schema, "params", params, Value::Object(serde_json::Map::new()))
    }

    /// One of its bodies.
    pub fn body_numbered(&self, number: u16) -> Option<&Arc<Program>> {
        self.bodies.get(usize::from(number))
    }

    /// Whether both are the same program: of one version, and the same body of it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.defined_at == other.defined_at && self.body == other.body
    }

    /// What it is charged.
    fn bytes(&self) -> u64 {
        self.text.len() as u64 * BYTES_PER_BODY_BYTE
    }
}

/// A definition on its way to a program, with its bodies as they are done.
struct Builder<'a> {
    define: &'a Define,
    defined_at: u64,
    queues: &'a mut Queues,
    bodies: Vec<Arc<Program>>,
}

impl Builder<'_> {
    /// The program of a definition, or of a body in the tasks of `around`, the nearest first. Recurses as deep as bodies may stand in bodies.
    fn program(&mut self, compiled: Compiled, around: &[&Definition]) -> Program {
        let Compiled { definition, tasks, output, admission, input_schema, params_schema } = compiled;
        let cleans_up = cleaning_tasks(&definition);
        let scopes: Vec<&Definition> = [&definition].into_iter().chain(around.iter().copied()).collect();
        let mut steps = Vec::with_capacity(tasks.len());
        for (index, (task, compiled)) in definition.tasks.iter().zip(&tasks).enumerate() {
            let body = match &compiled.body {
                None => None,
                Some(CompiledBody::Workflow(id)) => Some(Body::Workflow(id.clone())),
                Some(CompiledBody::Tasks(inner)) => {
                    let program = self.program((**inner).clone(), &scopes);
                    // Those in it have their numbers by now.
                    let program = Arc::new(Program { body: Some(self.bodies.len() as u16), ..program });
                    self.bodies.push(program.clone());
                    Some(Body::Tasks(program))
                }
            };
            steps.push(Step { body, ..Step::new(&scopes, task, compiled, cleans_up[index], self.queues) });
        }
        (0..).zip(&definition.order).for_each(|(rank, index)| steps[*index].rank = rank);
        let output = output.map(|output| {
            let mut reads = Reads::default();
            output.paths().iter().for_each(|reference| reads.note(&scopes, reference));
            (output, reads)
        });
        Program {
            namespace: self.define.namespace.clone(),
            workflow: self.define.workflow.clone(),
            version: self.define.version,
            defined_at: self.defined_at,
            timeout_ms: definition.timeout_ms,
            compensates: definition.on_failure == OnFailure::Compensate,
            handler: definition.handler.clone(),
            has_bodies: steps.iter().any(|step| step.has_rounds),
            steps,
            tasks,
            input_schema,
            params_schema,
            output,
            start_reads: Reads::of_start(&scopes, &admission),
            admission,
            schedules: definition.schedules.clone(),
            body: None,
            bodies: Vec::new(),
            text: self.define.body.clone(),
        }
    }
}

impl Step {
    fn new(scopes: &[&Definition], task: &TaskDefinition, compiled: &CompiledTask, cleans_up: bool, queues: &mut Queues) -> Self {
        let labels = task.placement.labels.iter().map(|(name, value)| (Arc::from(&**name), Arc::from(&**value))).collect();
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        let demands = Demands { condition: text(&task.placement.condition), prefer: text(&task.placement.prefer), needs: task.needs };
        let key = ClassKey {
            task_type: task.task_type.clone(),
            labels,
            choice: task.placement.strategy.into(),
            demands: (demands != Demands::default()).then(|| Box::new(demands)),
        };
        let is_control = !matches!(compiled.work, Work::Worker { .. });
        Self {
            id: task.id.clone(),
            task_type: task.task_type.clone(),
            depends_on: task.depends_on.iter().map(|index| *index as u16).collect(),
            dependents: task.dependents.iter().map(|index| *index as u16).collect(),
            join: task.join,
            cleans_up,
            is_control,
            body: None,
            has_rounds: compiled.body.is_some() || matches!(compiled.work, Work::Undo),
            compensates: if task.id.ends_with(COMPENSATION_SUFFIX) { task.depends_on.first().map(|index| *index as u16) } else { None },
            rank: 0,
            is_critical: task.critical,
            needs: task.needs,
            class: queues.class(key),
            priority: task.priority,
            timeout_ms: task.timeout_ms,
            retry: task.retry.map(Retry::from),
            retry_on: task.retry_on.clone(),
            constant_config: match &compiled.work {
                Work::Worker { config } if config.is_constant() => {
                    config.render(&Scope::new(), &mut Budget::default()).ok().as_ref().map(Octets::from)
                }
                _ => None,
            },
            reads: Reads::of(scopes, compiled),
        }
    }
}

impl Reads {
    fn of_start(scopes: &[&Definition], admission: &CompiledAdmission) -> Self {
        let mut reads = Self::default();
        let keys = admission.gates.iter().filter_map(|(_, key)| key.as_ref());
        let fairness = admission.fairness.iter().flat_map(|(key, weight)| [key, weight]);
        let references = keys.chain(fairness).flat_map(|template| template.paths());
        references.for_each(|reference| reads.note(scopes, &reference));
        reads
    }

    fn of(scopes: &[&Definition], task: &CompiledTask) -> Self {
        let mut reads = Self::default();
        let mut note = |references: Vec<Reference>| references.iter().for_each(|reference| reads.note(scopes, reference));
        task.when.iter().for_each(|when| note(when.paths()));
        task.input.iter().chain(&task.idempotency_key).chain(&task.affinity_key).for_each(|template| note(template.paths()));
        match &task.work {
            Work::Worker { config } => note(config.paths()),
            Work::Wait(Wait::For(template) | Wait::Until(template)) => note(template.paths()),
            Work::Wait(Wait::ForMs(_)) => {}
            Work::WaitForSignal { name, key, timeout } => {
                let timeout = timeout.iter().filter_map(|timeout| match timeout {
                    Wait::For(template) | Wait::Until(template) => Some(template),
                    Wait::ForMs(_) => None,
                });
                [name].into_iter().chain(key).chain(timeout).for_each(|template| note(template.paths()));
            }
            Work::Branch { cases, .. } => cases.iter().for_each(|case| note(case.when.paths())),
            Work::Fail { code, message } => [code, message].into_iter().for_each(|template| note(template.paths())),
            Work::Publish { event_type, payload, routing_key, headers } => {
                let headers = headers.iter().map(|(_, template)| template);
                [event_type, payload].into_iter().chain(routing_key).chain(headers).for_each(|template| note(template.paths()));
            }
            Work::ForEach { items, .. } | Work::Aggregate { items, .. } => note(items.paths()),
            Work::While { initial, condition, .. } => {
                note(initial.paths());
                note(condition.paths());
            }
            Work::SubWorkflow | Work::Undo => {}
        }
        reads
    }

    fn note(&mut self, scopes: &[&Definition], reference: &Reference) {
        match reference.path.first().map(String::as_str) {
            Some("input") => self.input = true,
            Some("params") => self.params = true,
            Some("message") => self.message = true,
            Some("attempt") => self.attempt = true,
            Some("item" | "index" | "state" | "iteration") => self.loops = true,
            Some("tasks") => match reference.path.get(1) {
                Some(id) => {
                    let found = scopes.iter().enumerate().find_map(|(level, scope)| Some((level, scope.task_index(id)?)));
                    match found {
                        Some((0, index)) => drop(self.tasks.insert(index as u16)),
                        Some((level, index)) => drop(self.outer.insert((level as u8 - 1, index as u16))),
                        None => {}
                    }
                }
                None => self.tasks.extend(0..scopes.first().map_or(0, |scope| scope.tasks.len()) as u16),
            },
            _ => {}
        }
    }
}

/// Which tasks run although the instance has failed.
fn cleaning_tasks(definition: &Definition) -> Vec<bool> {
    let mut cleans_up = vec![false; definition.tasks.len()];
    for index in &definition.order {
        let task = &definition.tasks[*index];
        let follows = task.depends_on.iter().any(|dependency| cleans_up[*dependency]);
        cleans_up[*index] = follows || (task.join == Join::AllDone && !task.depends_on.is_empty());
    }
    cleans_up
}

fn first_problem(problems: &[Problem]) -> String {
    problems.first().map_or_else(|| "the definition is not one".to_owned(), ToString::to_string)
}

fn refused(code: RefusalCode, reason: String) -> Reply {
    Reply::Refused(Refusal { code, reason, limit: None, retry_after_ms: None })
}

/// A body's text, its parsed expressions and indexes together, by estimate.
const BYTES_PER_BODY_BYTE: u64 = 4;

/// The value `{}`, for what has no members.
pub(super) fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}
