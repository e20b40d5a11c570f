//! Commands: what a client asks to be changed or started, from the frame to whoever does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use distric_exec::command::{Cancel, Define, Operate, Operation, Signal};
use distric_exec::definition::{KnownTypes, check_workflows};
use distric_exec::{Command as ExecCommand, Octets};
use distric_model::{GroupId, InstanceId, Namespace, Slot, WorkerId};
use distric_rules::document::Node;
use distric_rules::parse_duration_ms;
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::connections::ReplyTo;
use super::proposals::{Proposal, Waiting};
use super::submit::{Begin, fnv};
use super::{Shard, ShardOutputs};
use crate::node::letters::{CatalogChangeRequest, Class, RequestedChange, ShardLetter, SourceText};
use crate::node::machine_clock::Now;
use crate::node::meta::{SHARE_WHOLE, TrialMode};
use crate::node::question::Question;
use crate::node::refusal::Refusal;

/// The latest that a start may begin, milliseconds from now.
pub const START_DELAY_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1_000;

impl Shard {
    /// A Command frame.
    pub(super) fn on_command(&mut self, now: Now, command: &Command<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        let admitted = self.admit(2).and_then(|()| Self::namespace_of(command.namespace));
        let namespace = match admitted {
            Ok(namespace) => namespace,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        let staged = match self.staged_body(command, to) {
            Ok(staged) => staged,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        let command = &Command { body: staged.as_deref().or(command.body), ..*command };
        let asked = match CommandKind::from_number(command.kind) {
            None => Err(Refusal::new(Code::UnknownKind, format!("command kind {} is not known here", command.kind)).field("kind")),
            Some(CommandKind::StartWorkflow) => match started(command).and_then(|start| Ok((start, delay_of(now, command)?))) {
                Ok(((workflow, version), delay_ms)) => {
                    let begin = Begin {
                        namespace,
                        workflow,
                        version,
                        input: command.body.unwrap_or_default(),
                        idempotency_key: command.idempotency_key,
                        traceparent: command.traceparent,
                        delay_ms,
                        definition: None,
                    };
                    return self.begin(now, &begin, to, out);
                }
                Err(refusal) => Err(refusal),
            },
            Some(CommandKind::CancelInstance) => match instance_of(command) {
                Ok(instance) => {
                    let reason = command.reason.unwrap_or("cancelled by a client").to_owned();
                    let group = self.group_of_instance(instance);
                    let cancel = ExecCommand::Cancel(Cancel { namespace, instance, reason });
                    let bytes = Bytes::from(cancel.encode());
                    let proposal =
                        Proposal { waiting: Waiting::Command(to), group, command: bytes, namespace: None, definition: None, redefined: 0 };
                    self.propose(now, proposal, out);
                    return;
                }
                Err(refusal) => Err(refusal),
            },
            Some(kind @ (CommandKind::PauseInstance | CommandKind::ResumeInstance | CommandKind::RetryInstance)) => {
                match instance_of(command).and_then(|instance| Ok((instance, self.operation_of(kind, command, &namespace)?))) {
                    Ok((instance, operation)) => {
                        let group = self.group_of_instance(instance);
                        let reason = command.reason.unwrap_or("asked by a client").to_owned();
                        let operate = Operate { namespace: namespace.clone(), instance, operation, reason };
                        let bytes = Bytes::from(ExecCommand::Operate(Box::new(operate)).encode());
                        let (waiting, namespace) = (Waiting::Command(to), Some(namespace));
                        self.propose(now, Proposal { waiting, group, command: bytes, namespace, definition: None, redefined: 0 }, out);
                        return;
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Some(CommandKind::Signal) => match signal_of(command, &namespace) {
                Ok(signal) => {
                    let group = match (signal.instance, &signal.key) {
                        (Some(instance), _) => self.group_of_instance(instance),
                        (None, key) => {
                            let key = key.as_deref().unwrap_or_default();
                            self.group_of_slot(Slot::of(namespace.as_str(), key.as_bytes()))
                        }
                    };
                    let bytes = Bytes::from(ExecCommand::Signal(Box::new(signal)).encode());
                    let proposal =
                        Proposal { waiting: Waiting::Command(to), group, command: bytes, namespace: None, definition: None, redefined: 0 };
                    self.propose(now, proposal, out);
                    return;
                }
                Err(refusal) => Err(refusal),
            },
            Some(kind @ (CommandKind::DrainWorker | CommandKind::UndrainWorker)) => match worker_of(command) {
                Ok(worker) if self.workers.find(worker).is_some() => {
                    let drain = kind == CommandKind::DrainWorker;
                    self.to_all_shards(Class::Request, out, || ShardLetter::WorkerDrain { worker, drain });
                    return self.document(now, to, &json!({ "worker": worker, "draining": drain }), None, out);
                }
                Ok(worker) => Err(Refusal::new(Code::NotFound, format!("no worker {worker} is connected"))),
                Err(refusal) => Err(refusal),
            },
            Some(kind @ (CommandKind::RemoveNode | CommandKind::TransferLeader)) => {
                return self.on_member_command(now, kind, command, to, out);
            }
            Some(kind @ (CommandKind::UseGossipKey | CommandKind::RetireGossipKeys)) => {
                return self.on_key_command(now, kind, command, to, out);
            }
            Some(CommandKind::StageBody) => return self.on_stage(now, command, to, out),
            Some(CommandKind::StartTask) => return self.start_task(now, namespace, command, to, out),
            Some(kind) => change_of(kind, command).map(|change| CatalogChangeRequest {
                namespace,
                change,
                if_match: command.if_match,
                dry_run: command.dry_run,
                author: command.author.map(Arc::from),
                reason: command.reason.map(Arc::from),
            }),
        };
        match asked {
            Ok(request) => self.ask_one(now, GroupId::META, Question::Change(Box::new(request)), to, out),
            Err(refusal) => self.refuse(now, to, refusal, out),
        }
    }

    /// One task without a workflow of the catalog: a workflow of one task, made here and defined where it runs.
    fn start_task(&mut self, now: Now, namespace: Namespace, command: &Command<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        match single_task(command) {
            Ok((workflow, definition, input)) => {
                let define =
                    Define { namespace: namespace.clone(), workflow: workflow.clone(), version: 1, body: Octets::from(&definition) };
                let begin = Begin {
                    namespace,
                    workflow: &workflow,
                    version: Some(1),
                    input: input.as_bytes(),
                    idempotency_key: command.idempotency_key,
                    traceparent: command.traceparent,
                    delay_ms: 0,
                    definition: Some(ExecCommand::Define(define)),
                };
                self.begin(now, &begin, to, out);
            }
            Err(refusal) => self.refuse(now, to, refusal, out),
        }
    }

    /// What an operator does; for a retry `{"from": …, "input": …, "calls": {workflow: version or null for the latest}}`, all optional.
    fn operation_of(&self, kind: CommandKind, command: &Command<'_>, namespace: &Namespace) -> Result<Operation, Refusal> {
        match kind {
            CommandKind::PauseInstance => Ok(Operation::Pause),
            CommandKind::ResumeInstance => Ok(Operation::Resume),
            _ => {
                let body: RetryBody<'_> = serde_json::from_slice(command.body.unwrap_or(b"{}"))
                    .map_err(|error| Refusal::new(Code::BadPayload, format!("the body is no retry: {error}")).field("body"))?;
                let input = body.input.map(|input| Octets::from(input.get()));
                let pins = body.calls.into_iter().map(|(workflow, version)| match self.catalog.resolve(namespace, &workflow, version) {
                    Some(version) => Ok((Arc::from(workflow), version)),
                    None => {
                        let reason = format!("calls: there is no such version of the workflow `{workflow}` in service");
                        Err(Refusal::new(Code::UnknownWorkflow, reason).field("body"))
                    }
                });
                let pins = pins.collect::<Result<_, _>>()?;
                Ok(Operation::Retry { from: body.from.map(Arc::from), input, version: command.if_match, pins })
            }
        }
    }
}

fn change_of(kind: CommandKind, command: &Command<'_>) -> Result<RequestedChange, Refusal> {
    let text = |name: &str| -> Result<SourceText, Refusal> {
        let body = command.body.ok_or_else(|| Refusal::new(Code::BadArgument, "this command needs a body").field("body"))?;
        let text = std::str::from_utf8(body)
            .map_err(|error| Refusal::new(Code::BadArgument, format!("the body is not UTF-8: {error}")).field("body"))?;
        Ok(SourceText { name: name.to_owned(), text: text.to_owned() })
    };
    let needed_name =
        || command.name.map(str::to_owned).ok_or_else(|| Refusal::new(Code::BadArgument, "this command needs a name").field("name"));
    Ok(match kind {
        CommandKind::ApplyCatalog => whole_sets(&text("body")?.text)?,
        CommandKind::PutRule => RequestedChange::PutRule { id: command.name.map(str::to_owned), body: text("rule")? },
        CommandKind::DeleteRule => RequestedChange::DeleteRule { id: needed_name()? },
        CommandKind::EnableRule => RequestedChange::SwitchRule { id: needed_name()?, enabled: true },
        CommandKind::DisableRule => RequestedChange::SwitchRule { id: needed_name()?, enabled: false },
        CommandKind::RollbackCatalog => {
            let version = command.version.ok_or_else(|| Refusal::new(Code::BadArgument, "a rollback needs a version").field("version"))?;
            RequestedChange::Rollback { version }
        }
        CommandKind::StartShadow => trial_of(TrialMode::Shadow, &text("body")?.text)?,
        CommandKind::StartCanary => trial_of(TrialMode::Canary, &text("body")?.text)?,
        CommandKind::SetTrial => {
            let body: TrialBody = body_of(&text("body")?.text)?;
            let share = body.share.ok_or_else(|| Refusal::new(Code::BadArgument, "`share` is missing").field("body"))?;
            RequestedChange::SetTrial { version: command.version, share: share_of(share)? }
        }
        CommandKind::PromoteTrial => RequestedChange::PromoteTrial { version: command.version },
        CommandKind::EndTrial => RequestedChange::EndTrial { version: command.version },
        CommandKind::PutWorkflow => RequestedChange::PutWorkflow { id: command.name.map(str::to_owned), body: text("workflow")? },
        CommandKind::DeleteWorkflow => RequestedChange::DeleteWorkflow { id: needed_name()? },
        other => return Err(Refusal::new(Code::UnknownKind, format!("{other} changes no catalog")).field("kind")),
    })
}

/// `{"rules": {"name", "text"}, "share": HUNDREDTHS}`.
fn trial_of(mode: TrialMode, body: &str) -> Result<RequestedChange, Refusal> {
    let body: TrialBody = body_of(body)?;
    if body.workflows.is_some() {
        let reason = "a candidate has rules only: apply the workflows that they start first";
        return Err(Refusal::new(Code::BadArgument, reason).field("body"));
    }
    let rules = body.rules.ok_or_else(|| Refusal::new(Code::BadArgument, "`rules` is missing").field("body"))?;
    let rules = SourceText { name: rules.name.unwrap_or_else(|| "rules".to_owned()), text: rules.text };
    Ok(RequestedChange::StartTrial { mode, share: share_of(body.share.unwrap_or(SHARE_WHOLE))?, rules })
}

fn share_of(share: u32) -> Result<u32, Refusal> {
    if (1..=SHARE_WHOLE).contains(&share) {
        return Ok(share);
    }
    let reason = format!("`share` is {share}, not 1 to {SHARE_WHOLE} hundredths of a percent");
    Err(Refusal::new(Code::BadArgument, reason).field("body"))
}

fn body_of<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(body)
        .map_err(|error| Refusal::new(Code::BadArgument, format!("the body is not as expected: {error}")).field("body"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialBody {
    rules: Option<NamedText>,
    workflows: Option<Value>,
    share: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedText {
    name: Option<String>,
    text: String,
}

/// `{"rules": {"name", "text"} | null, "workflows": {"name", "text"} | null}`.
fn whole_sets(body: &str) -> Result<RequestedChange, Refusal> {
    let bad = |reason: String| Refusal::new(Code::BadArgument, reason).field("body");
    let body: Value = serde_json::from_str(body).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    let part = |key: &str| -> Result<Option<SourceText>, Refusal> {
        match body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(source)) => {
                let text = source.get("text").and_then(Value::as_str).ok_or_else(|| bad(format!("`{key}.text` must be a string")))?;
                let name = source.get("name").and_then(Value::as_str).unwrap_or(key);
                Ok(Some(SourceText { name: name.to_owned(), text: text.to_owned() }))
            }
            Some(_) => Err(bad(format!("`{key}` must be an object with `name` and `text`"))),
        }
    };
    let (rules, workflows) = (part("rules")?, part("workflows")?);
    if rules.is_none() && workflows.is_none() {
        return Err(bad("neither `rules` nor `workflows` is given".to_owned()));
    }
    Ok(RequestedChange::Apply { rules, workflows })
}

fn started<'a>(command: &Command<'a>) -> Result<(&'a str, Option<u64>), Refusal> {
    let name =
        command.name.ok_or_else(|| Refusal::new(Code::BadArgument, "start_workflow needs the workflow as its name").field("name"))?;
    if let Some(body) = command.body
        && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(body)
    {
        return Err(Refusal::new(Code::BadPayload, format!("the input is not JSON: {error}")).field("body"));
    }
    Ok((name, command.if_match))
}

/// How long until a start begins, milliseconds. Errors: both ways of saying it, or longer than [`START_DELAY_MS_MAX`].
fn delay_of(now: Now, command: &Command<'_>) -> Result<u64, Refusal> {
    let delay_ms = match (command.delay_ms, command.start_at_us) {
        (Some(_), Some(_)) => {
            return Err(Refusal::new(Code::BadArgument, "a start has `delay_ms` or `start_at_us`, not both").field("start_at_us"));
        }
        (Some(delay_ms), None) => delay_ms,
        (None, Some(at_us)) => at_us.saturating_sub(now.wall.as_us()).div_ceil(1_000),
        (None, None) => 0,
    };
    if delay_ms > START_DELAY_MS_MAX {
        let refusal = Refusal::new(Code::BadArgument, "the start is too far away");
        return Err(refusal.limit("start_delay_ms_max", START_DELAY_MS_MAX).field("delay_ms"));
    }
    Ok(delay_ms)
}

/// `{"config": …, "input": …}` for a task type: the id, definition and input of a workflow of that one task. The id names the
/// configuration too, since a definition is immutable by id and version.
fn single_task(command: &Command<'_>) -> Result<(Arc<str>, Value, String), Refusal> {
    let bad = |reason: String| Refusal::new(Code::BadArgument, reason);
    let task_type = command.name.ok_or_else(|| bad("start_task needs the task type as its name".to_owned()).field("name"))?;
    let body: Value = match command.body {
        None => Value::Null,
        Some(body) => serde_json::from_slice(body)
            .map_err(|error| Refusal::new(Code::BadPayload, format!("the body is not JSON: {error}")).field("body"))?,
    };
    let config = body.get("config").cloned().unwrap_or_default();
    let mut task = json!({ "id": "task", "type": task_type, "input": "${input}" });
    if !config.is_null() {
        task["config"] = config;
    }
    let workflow: Arc<str> = Arc::from(format!("task.{task_type}.{:016x}", fnv(&[task.to_string().as_bytes()])));
    let text = json!({ "workflow": { "id": &*workflow, "tasks": [task] } }).to_string();
    let checked = check_workflows("task", &text, &KnownTypes::any());
    match (checked.is_ok(), checked.definitions.into_iter().next()) {
        (true, Some(definition)) => {
            let input = body.get("input").cloned().unwrap_or_default().to_string();
            Ok((workflow, definition.to_json(), input))
        }
        _ => {
            let reasons: Vec<String> = checked.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
            Err(bad(reasons.join("; ")).field("body"))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody<'a> {
    from: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    /// Other versions of the workflows that it calls.
    #[serde(default)]
    calls: BTreeMap<String, Option<u64>>,
}

/// `{"key": …, "payload": …, "ttl": …}`, and the instance when there is no key.
fn signal_of(command: &Command<'_>, namespace: &Namespace) -> Result<Signal, Refusal> {
    let bad = |reason: String, field: &'static str| Refusal::new(Code::BadArgument, reason).field(field);
    let name = command.name.ok_or_else(|| bad("signal needs the signal's name".to_owned(), "name"))?;
    let bytes = command.body.unwrap_or(b"{}");
    let body: SignalBody<'_> = serde_json::from_slice(bytes)
        .map_err(|error| Refusal::new(Code::BadPayload, format!("the body is no signal: {error}")).field("body"))?;
    let instance = command.id.map(|_| instance_of(command)).transpose()?;
    if instance.is_some() == body.key.is_some() {
        return Err(bad("a signal has a key in its body or an instance as its id, and not both".to_owned(), "body"));
    }
    let ttl_ms = body.ttl.map(|ttl| parse_duration_ms(&Node::from_json(&ttl))).transpose();
    let payload = body.payload.map_or("", RawValue::get);
    Ok(Signal {
        namespace: namespace.clone(),
        name: Arc::from(name),
        payload_hash: fnv(&[name.as_bytes(), bytes]),
        key: body.key.map(Arc::from),
        instance,
        payload: Octets::from(payload),
        ttl_ms: ttl_ms.map_err(|reason| bad(format!("ttl: {reason}"), "body"))?,
        idempotency_key: command.idempotency_key.map(Arc::from),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalBody<'a> {
    key: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    ttl: Option<Value>,
}

fn instance_of(command: &Command<'_>) -> Result<InstanceId, Refusal> {
    let id = command.id.ok_or_else(|| Refusal::new(Code::BadArgument, "this command needs the instance's id").field("id"))?;
    InstanceId::from_uuid(id).map_err(|error| Refusal::new(Code::BadArgument, error.to_string()).field("id"))
}

fn worker_of(command: &Command<'_>) -> Result<WorkerId, Refusal> {
    let id = command.id.ok_or_else(|| Refusal::new(Code::BadArgument, "this command needs the worker's id").field("id"))?;
    WorkerId::from_uuid(id).map_err(|error| Refusal::new(Code::BadArgument, error.to_string()).field("id"))
}
