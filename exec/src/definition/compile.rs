//! What the machine runs: a definition with its expressions parsed, once per `Define`.

use std::sync::Arc;

use distric_model::Timestamp;
use distric_rules::document::Node;
use distric_rules::expr::{Budget, Expr, ExprError, ExprErrorKind, Scope, Template};
use distric_rules::parse_duration_ms;
use serde_json::Value;

use super::{
    Aggregate, Body, CompiledAdmission, Definition, FOR_EACH_PARALLEL_DEFAULT, ItemFailure, Placement, Schema, TaskDefinition, UNDO_TYPE,
    WHILE_ITERATIONS_DEFAULT,
};

/// A definition and what it takes to run each of its tasks.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The definition.
    pub definition: Definition,
    /// One for each of its tasks, at the same index.
    pub tasks: Vec<CompiledTask>,
    /// When its instances may begin.
    pub admission: CompiledAdmission,
    /// What it returns.
    pub output: Option<Template>,
    /// What its input must look like.
    pub input_schema: Option<Arc<Schema>>,
    /// What the parameters must look like that a rule gives to it.
    pub params_schema: Option<Arc<Schema>>,
}

/// What a task with a body runs.
#[derive(Clone, Debug)]
pub enum CompiledBody {
    /// Tasks of its own.
    Tasks(Box<Compiled>),
    /// Another workflow, by its id.
    Workflow(Arc<str>),
}

/// The expressions of one task.
#[derive(Clone, Debug)]
pub struct CompiledTask {
    /// The condition.
    pub when: Option<Expr>,
    /// The input; absent: [`super::RunNames::default_input`].
    pub input: Option<Template>,
    /// The idempotency key; absent: the id of the task's instance.
    pub idempotency_key: Option<Template>,
    /// The key that its worker is chosen by.
    pub affinity_key: Option<Template>,
    /// What it does.
    pub work: Work,
    /// What it runs, when it has a body.
    pub body: Option<CompiledBody>,
}

/// What a task does.
#[derive(Clone, Debug)]
pub enum Work {
    /// Goes to a worker, with this config rendered.
    Worker {
        /// The config. That of a `transform` is constant: its expressions are evaluated by the worker, over the task's input.
        config: Template,
    },
    /// Completes, with output `null`, when its time has come.
    Wait(Wait),
    /// Completes with what a signal carries, or times out.
    WaitForSignal {
        /// The signal's name: text.
        name: Template,
        /// The key that it correlates by: text. Absent: signals to this instance.
        key: Option<Template>,
        /// How long it waits. Absent: as long as the instance may.
        timeout: Option<Wait>,
    },
    /// Completes at once with the output `{"branch": name}`: the first case whose condition holds, else the default, else null.
    Branch {
        /// The cases, in order.
        cases: Vec<BranchCase>,
        /// The name when no case holds.
        default: Option<String>,
    },
    /// Fails at once, and is not retried.
    Fail {
        /// The error code: text.
        code: Template,
        /// The error message: text.
        message: Template,
    },
    /// Sends a message back into the system and completes when that is on its way.
    Publish {
        /// The event type: text.
        event_type: Template,
        /// The payload.
        payload: Template,
        /// The routing key: text. Absent: the id of the task's instance.
        routing_key: Option<Template>,
        /// Headers: text each.
        headers: Vec<(String, Template)>,
    },
    /// Completes at once with numbers of a list.
    Aggregate {
        /// The list.
        items: Template,
        /// Which numbers.
        aggregate: Aggregate,
    },
    /// Runs its body once for each item; its output is the list of their outputs, in the order of the items.
    ForEach {
        /// The items: a list.
        items: Template,
        /// Most items that run at once.
        max_parallel: u32,
        /// What the failure of one item means.
        on_item_failure: ItemFailure,
        /// Limit of one item, milliseconds.
        item_timeout_ms: Option<u64>,
    },
    /// Runs its body as long as a condition holds; its output is the last state.
    While {
        /// The state before the first iteration.
        initial: Template,
        /// The condition, over the state.
        condition: Expr,
        /// Most iterations: when the condition still holds after so many, it fails.
        max_iterations: u32,
        /// Limit of one iteration, milliseconds.
        iteration_timeout_ms: Option<u64>,
    },
    /// Runs another workflow; its output is what that returns.
    SubWorkflow,
    /// Undoes what a task with a body ran.
    Undo,
}

/// One case of a branch.
#[derive(Clone, Debug)]
pub struct BranchCase {
    /// The condition.
    pub when: Expr,
    /// What the branch is called when it holds.
    pub name: String,
}

/// How long a `wait` waits.
#[derive(Clone, Debug)]
pub enum Wait {
    /// So many milliseconds.
    ForMs(u64),
    /// A template of a duration: seconds, or text such as `10s`.
    For(Template),
    /// A template of an instant: RFC 3339. One that has passed does not wait.
    Until(Template),
}

/// A definition that this version cannot run. Definitions that were checked compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task `{task}`: {member}: {message}")]
pub struct CompileError {
    /// The task.
    pub task: String,
    /// Where in it.
    pub member: String,
    /// What is wrong.
    pub message: String,
}

impl Definition {
    /// Parses every expression and template. Errors: the first that this version cannot run.
    pub fn compile(&self) -> Result<Compiled, CompileError> {
        let tasks = self.tasks.iter().map(compile_task).collect::<Result<Vec<_>, _>>()?;
        let output = self.output.as_ref().map(Template::compile).transpose();
        let output = output.map_err(|error| CompileError { task: String::new(), member: "output".into(), message: error.message })?;
        let schema = |member: &str, schema: &Option<Value>| {
            let compiled = schema.as_ref().map(Schema::compile).transpose().map_err(|problem| CompileError {
                task: String::new(),
                member: format!("{member}{}", problem.pointer),
                message: problem.message,
            })?;
            Ok(compiled.map(Arc::new))
        };
        Ok(Compiled {
            admission: self.admission.compile()?,
            input_schema: schema("input_schema", &self.input_schema)?,
            params_schema: schema("params_schema", &self.params_schema)?,
            definition: self.clone(),
            tasks,
            output,
        })
    }
}

impl Wait {
    /// When the wait is over, for one that begins `now`. Errors: as [`Template::render`], and when the value is no duration or instant.
    pub fn due(&self, now: Timestamp, scope: &Scope<'_>, budget: &mut Budget) -> Result<Timestamp, ExprError> {
        match self {
            Wait::ForMs(ms) => Ok(now.plus_ms(*ms)),
            Wait::For(template) => {
                let value = template.render(scope, budget)?;
                let ms = parse_duration_ms(&Node::from_json(&value)).map_err(|message| wrong_value(format!("duration: {message}")))?;
                Ok(now.plus_ms(ms))
            }
            Wait::Until(template) => {
                let text = template.render_text(scope, budget)?;
                parse_instant(&text)
                    .map(|until| until.max(now))
                    .ok_or_else(|| wrong_value("until: the value is no RFC 3339 instant".into()))
            }
        }
    }
}

/// An RFC 3339 instant; one before 1970 counts as 1970. `None` when it is none.
pub(super) fn parse_instant(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_us(u64::try_from(instant.as_microsecond()).unwrap_or(0)))
}

fn wrong_value(message: String) -> ExprError {
    ExprError { message, line: 1, column: 1, kind: ExprErrorKind::Value }
}

/// A bare expression, or one inside `${...}`: people write both where an expression is meant.
pub(super) fn bare(text: &str) -> &str {
    // No expression starts with a dollar and a brace, so nothing else can be meant.
    text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or(text)
}

fn compile_task(task: &TaskDefinition) -> Result<CompiledTask, CompileError> {
    let parts = Parts { task };
    // The machine parses these once for all tasks that are placed alike.
    let Placement { condition, prefer, .. } = &task.placement;
    for (member, text) in [("placement.where", condition), ("placement.prefer", prefer)] {
        text.as_deref().map(|text| parts.expr(member, text)).transpose()?;
    }
    Ok(CompiledTask {
        when: task.when.as_deref().map(|text| parts.expr("when", text)).transpose()?,
        input: task.input.as_ref().map(|input| parts.template("input", input)).transpose()?,
        idempotency_key: task.idempotency_key.as_deref().map(|text| parts.text("idempotency_key", text)).transpose()?,
        affinity_key: task.placement.affinity_key.as_deref().map(|text| parts.text("placement.affinity_key", text)).transpose()?,
        work: parts.work()?,
        body: match task.body.as_deref() {
            None => None,
            Some(Body::Workflow(id)) => Some(CompiledBody::Workflow(id.clone())),
            Some(Body::Tasks(definition)) => {
                let within = |error: CompileError| parts.error("config.tasks", error.to_string());
                // What the tasks of a body run that completed is undone as well.
                Some(CompiledBody::Tasks(Box::new(definition.clone().with_compensations().compile().map_err(within)?)))
            }
        },
    })
}

struct Parts<'a> {
    task: &'a TaskDefinition,
}

impl Parts<'_> {
    fn work(&self) -> Result<Work, CompileError> {
        Ok(match &*self.task.task_type {
            "wait" => Work::Wait(self.wait()?),
            "wait_for_signal" => Work::WaitForSignal {
                name: self.required("name")?,
                key: self.member("key")?,
                timeout: match self.member("timeout")? {
                    Some(_) => Some(self.duration("timeout")?),
                    None => None,
                },
            },
            "branch" => self.branch()?,
            "fail" => Work::Fail {
                code: self.member("code")?.unwrap_or_else(|| Template::constant(Value::from(FAIL_CODE_DEFAULT))),
                message: self.required("message")?,
            },
            "publish" => Work::Publish {
                event_type: self.required("event_type")?,
                payload: self.required("payload")?,
                routing_key: self.member("routing_key")?,
                headers: self.headers()?,
            },
            "aggregate" => Work::Aggregate {
                items: self.required("items")?,
                aggregate: Aggregate::read(&self.task.config)
                    .map_err(|(member, message)| self.error(&format!("config.{member}"), message))?,
            },
            "for_each" => Work::ForEach {
                items: self.required("items")?,
                max_parallel: self.number("max_parallel").unwrap_or(FOR_EACH_PARALLEL_DEFAULT).max(1),
                on_item_failure: self.item_failure()?,
                item_timeout_ms: self.limit("item_timeout")?,
            },
            "while" => Work::While {
                initial: self.member("initial")?.unwrap_or_else(|| Template::constant(Value::Null)),
                condition: match self.config("condition") {
                    Value::String(text) => self.expr("config.condition", &text)?,
                    Value::Bool(value) => self.expr("config.condition", if value { "true" } else { "false" })?,
                    _ => return Err(self.error("config.condition", "is missing".into())),
                },
                max_iterations: self.number("max_iterations").unwrap_or(WHILE_ITERATIONS_DEFAULT),
                iteration_timeout_ms: self.limit("iteration_timeout")?,
            },
            "sub_workflow" => Work::SubWorkflow,
            UNDO_TYPE => Work::Undo,
            "transform" => Work::Worker { config: Template::constant(self.task.config.clone()) },
            _ => Work::Worker { config: self.template("config", &self.task.config)? },
        })
    }

    fn wait(&self) -> Result<Wait, CompileError> {
        if let Some(until) = self.member("until")? {
            return Ok(Wait::Until(until));
        }
        self.duration("duration")
    }

    fn duration(&self, name: &str) -> Result<Wait, CompileError> {
        let template = self.required(name)?;
        if !template.is_constant() {
            return Ok(Wait::For(template));
        }
        parse_duration_ms(&Node::from_json(&self.config(name)))
            .map(Wait::ForMs)
            .map_err(|message| self.error(&format!("config.{name}"), message))
    }

    fn branch(&self) -> Result<Work, CompileError> {
        let mut cases = Vec::new();
        for (index, case) in self.config("cases").as_array().into_iter().flatten().enumerate() {
            let member = |name: &str| format!("config.cases[{index}].{name}");
            let text = |name: &str| match case.get(name).and_then(Value::as_str) {
                Some(text) => Ok(text),
                None => Err(self.error(&member(name), "is missing".into())),
            };
            cases.push(BranchCase { when: self.expr(&member("when"), text("when")?)?, name: text("name")?.to_owned() });
        }
        Ok(Work::Branch { cases, default: self.config("default").as_str().map(str::to_owned) })
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.config(name).as_u64().and_then(|number| u32::try_from(number).ok())
    }

    fn item_failure(&self) -> Result<ItemFailure, CompileError> {
        let Value::String(word) = self.config("on_item_failure") else { return Ok(ItemFailure::default()) };
        let known = ItemFailure::WORDS.into_iter().find(|(known, _)| *known == word);
        known.map(|(_, policy)| policy).ok_or_else(|| self.error("config.on_item_failure", format!("there is no policy `{word}`")))
    }

    /// A constant duration, when there is one.
    fn limit(&self, name: &str) -> Result<Option<u64>, CompileError> {
        match self.config(name) {
            Value::Null => Ok(None),
            value => {
                let ms = parse_duration_ms(&Node::from_json(&value));
                ms.map(Some).map_err(|message| self.error(&format!("config.{name}"), message))
            }
        }
    }

    fn headers(&self) -> Result<Vec<(String, Template)>, CompileError> {
        let Value::Object(headers) = self.config("headers") else {
            return Ok(Vec::new());
        };
        let template = |name: &str, value: &Value| self.template(&format!("config.headers.{name}"), value);
        headers.into_iter().map(|(name, value)| template(&name, &value).map(|template| (name, template))).collect()
    }

    fn config(&self, name: &str) -> Value {
        self.task.config.get(name).cloned().unwrap_or_default()
    }

    fn member(&self, name: &str) -> Result<Option<Template>, CompileError> {
        match self.config(name) {
            Value::Null => Ok(None),
            value => self.template(&format!("config.{name}"), &value).map(Some),
        }
    }

    fn required(&self, name: &str) -> Result<Template, CompileError> {
        self.member(name)?.ok_or_else(|| self.error(&format!("config.{name}"), "is missing".into()))
    }

    fn expr(&self, member: &str, text: &str) -> Result<Expr, CompileError> {
        Expr::parse(bare(text)).map_err(|error| self.error(member, error.message))
    }

    fn text(&self, member: &str, text: &str) -> Result<Template, CompileError> {
        Template::compile_text(text).map_err(|error| self.error(member, error.message))
    }

    fn template(&self, member: &str, value: &Value) -> Result<Template, CompileError> {
        Template::compile(value).map_err(|error| self.error(member, error.message))
    }

    fn error(&self, member: &str, message: String) -> CompileError {
        CompileError { task: self.task.id.to_string(), member: member.to_owned(), message }
    }
}

/// The code of a `fail` that names none.
pub(super) const FAIL_CODE_DEFAULT: &str = "failed";
