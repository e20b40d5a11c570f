//! The door of an instance: the gates that it must pass before it begins, and what it has passed.
//!
//! Invariant: an instance that has ended has left every gate that it asked at.
//! Start reading at [`Machine::pass_door`], which `begin` asks.

use std::sync::Arc;

use distric_model::InstanceId;
use distric_model::limits::{INSTANCE_BYTES_MAX, KEY_BYTES_MAX};
use distric_rules::expr::{Budget, ExprError, Scope, Template};
use serde::{Deserialize, Serialize};

use super::{Ask, GateKey, Leave, Told, Word};
use crate::command::OutResult;
use crate::definition::{GateRule, RunNames, WEIGHT_MAX, WhenFull};
use crate::machine::effects::OutBody;
use crate::machine::instances::{Failure, Instance, TaskAt};
use crate::machine::queue::Flow;
use crate::machine::rendering::expression_failure;
use crate::machine::state::State;
use crate::machine::turn::Turn;
use crate::machine::{Errand, Machine};
use crate::octets::Octets;

/// The gates of one instance, in the order in which it passes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct Door {
    /// Which of its lives asks: answers to an earlier one do not count.
    pub round: u32,
    pub passes: Vec<Pass>,
}

/// One gate of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct Pass {
    pub gate: GateKey,
    pub rule: GateRule,
    pub step: PassStep,
}

/// How far an instance is with one gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) enum PassStep {
    /// It has not asked.
    Closed,
    /// It has asked.
    Asked,
    /// It was let in.
    Entered,
    /// It was let in, and has left.
    Left,
    /// It went away before it was let in.
    GivenUp,
}

/// The code of an instance whose input is not what its workflow takes.
const BAD_INPUT: &str = "bad_input";
/// What one gate of an instance is charged beside its texts.
const PASS_BYTES: u64 = 120;

impl Door {
    /// The gate that it waits at.
    pub fn current(&self) -> Option<(u8, &Pass)> {
        (0..).zip(&self.passes).find(|(_, pass)| !matches!(pass.step, PassStep::Entered | PassStep::Left))
    }

    fn bytes(&self) -> u64 {
        self.passes.iter().map(|pass| pass.gate.bytes() + PASS_BYTES).sum()
    }
}

impl Machine {
    /// Whether an instance may begin now: false while it waits, and when it ended instead.
    pub(in crate::machine) fn pass_door(&mut self, turn: &mut Turn<'_>, id: InstanceId) -> bool {
        let Some(instance) = self.instances.get(&id) else { return false };
        if instance.status == State::Queued {
            let is_open = instance.door.as_ref().is_none_or(|door| door.current().is_none());
            return is_open;
        }
        let door = takes_its_input(instance).and_then(|()| Ok((self.flow_of_key(instance)?, self.door_of(instance)?)));
        let door = door.map(|(flow, passes)| {
            self.set_flow(id, flow);
            passes
        });
        match door {
            Ok(passes) if passes.is_empty() => true,
            Ok(passes) => {
                self.wait_at(turn, id, passes, None);
                false
            }
            Err(failure) => {
                self.end_early(turn, id, State::Failed, failure);
                false
            }
        }
    }

    /// An instance is taken back to where it failed: it asks again at the gates that hold, then goes on.
    pub(in crate::machine) fn begin_again(&mut self, turn: &mut Turn<'_>, id: InstanceId, reason: Arc<str>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let passes = takes_its_input(instance).and_then(|()| self.door_of(instance)).map(|mut passes| {
            passes.retain(|pass| pass.rule.holds());
            passes
        });
        match passes {
            Ok(passes) if passes.is_empty() => self.go_on(turn, id, Some(reason)),
            Ok(passes) => self.wait_at(turn, id, passes, Some(reason)),
            Err(failure) => {
                self.wait_at(turn, id, Vec::new(), Some(reason));
                self.end_early(turn, id, State::Failed, failure);
            }
        }
    }

    fn wait_at(&mut self, turn: &mut Turn<'_>, id: InstanceId, passes: Vec<Pass>, reason: Option<Arc<str>>) {
        self.with_instance(id, |instance| {
            let old = instance.door.take();
            let door = Door { round: old.as_ref().map_or(0, |old| old.round + 1), passes };
            instance.bytes = instance.bytes + door.bytes() - old.map_or(0, |old| old.bytes());
            instance.door = Some(Box::new(door));
            let from = std::mem::replace(&mut instance.status, State::Queued);
            instance.record(turn, None, from, State::Queued, reason);
        });
        self.ask_next(turn, id);
    }

    /// Asks at the next gate, or lets the instance begin.
    fn ask_next(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Some(door) = &instance.door else { return };
        let Some((place, pass)) = door.current() else { return self.errands.push_back(Errand::Begin(id)) };
        let input = match pass.rule {
            GateRule::Batch { .. } => instance.origin.payload.clone(),
            _ => Octets::default(),
        };
        let ask = Ask {
            gate: pass.gate.clone(),
            rule: pass.rule,
            instance: id,
            place,
            round: door.round,
            after: self.outbox.last_at(&pass.gate),
            input,
        };
        self.send_out(turn, ask.gate.slot(), OutBody::Ask(Box::new(ask)), None);
        self.set_step(id, place, PassStep::Asked);
    }

    fn set_step(&mut self, id: InstanceId, place: u8, step: PassStep) {
        let pass = self.instances.get_mut(&id).and_then(|instance| instance.door.as_mut()?.passes.get_mut(usize::from(place)));
        if let Some(pass) = pass {
            pass.step = step;
        }
    }

    /// A gate has something to say to an instance of this group.
    pub(in crate::machine) fn told(&mut self, turn: &mut Turn<'_>, told: Told) -> OutResult {
        let Told { instance: id, place, round, word, .. } = told;
        let is_entry = word.is_entry();
        let is_meant = self.instances.get(&id).and_then(|instance| instance.door.as_ref()).is_some_and(|door| door.round == round);
        let step = self.step_of(id, place).filter(|_| is_meant);
        match (word, step) {
            (Word::Enter, Some(PassStep::Asked)) => self.enter(turn, id, place),
            (Word::EnterWith(input), Some(PassStep::Asked)) => {
                self.replace_input(id, input);
                self.enter(turn, id, place);
            }
            (Word::Skip { code, reason }, Some(PassStep::Asked)) => {
                self.set_step(id, place, PassStep::GivenUp);
                self.end_early(turn, id, State::Skipped, Failure::new(&code, &reason));
            }
            (Word::Fail { code, reason }, Some(PassStep::Asked)) => {
                self.set_step(id, place, PassStep::GivenUp);
                self.end_early(turn, id, State::Failed, Failure::new(&code, &reason));
            }
            (Word::End { code, reason }, Some(PassStep::Asked | PassStep::Entered)) => {
                self.end_early(turn, id, State::Cancelled, Failure::new(&code, &reason));
            }
            // Whoever is turned away and has gone already needs no answer.
            _ if is_entry => return not_there(),
            _ => {}
        }
        OutResult::Done
    }

    /// The answer to a word that came before: whether it was taken.
    pub(in crate::machine) fn seen_told(&self, told: &Told) -> OutResult {
        let door = self.instances.get(&told.instance).and_then(|instance| instance.door.as_ref());
        let Some(door) = door.filter(|_| told.word.is_entry()) else { return OutResult::Done };
        let step = door.passes.get(usize::from(told.place)).map(|pass| pass.step);
        if door.round == told.round && step == Some(PassStep::GivenUp) { not_there() } else { OutResult::Done }
    }

    fn step_of(&self, id: InstanceId, place: u8) -> Option<PassStep> {
        Some(self.instances.get(&id)?.door.as_ref()?.passes.get(usize::from(place))?.step)
    }

    fn enter(&mut self, turn: &mut Turn<'_>, id: InstanceId, place: u8) {
        self.set_step(id, place, PassStep::Entered);
        self.ask_next(turn, id);
    }

    /// The inputs of a batch take the place of the instance's own.
    fn replace_input(&mut self, id: InstanceId, input: Octets) {
        self.with_instance(id, |instance| {
            let origin = &mut instance.origin;
            // The payload of a message is charged to the message.
            let charged = if origin.message.is_none() || origin.is_payload_changed { origin.payload.len() as u64 } else { 0 };
            instance.bytes = instance.bytes + input.len() as u64 - charged;
            origin.payload = input;
            origin.is_payload_changed = origin.message.is_some();
        });
    }

    /// An instance has ended: it leaves every gate that it asked at.
    pub(in crate::machine) fn leave_gates(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(door) = self.instances.get(&id).and_then(|instance| instance.door.as_ref()) else { return };
        let round = door.round;
        let left = (0_u8..).zip(&door.passes).filter_map(|(place, pass)| match pass.step {
            PassStep::Asked => Some((place, pass.gate.clone(), PassStep::GivenUp)),
            PassStep::Entered if pass.rule.holds() => Some((place, pass.gate.clone(), PassStep::Left)),
            _ => None,
        });
        for (place, gate, step) in left.collect::<Vec<_>>() {
            let leave = Leave { after: self.outbox.last_at(&gate), gate, instance: id, round };
            self.send_out(turn, leave.gate.slot(), OutBody::Leave(Box::new(leave)), None);
            self.set_step(id, place, step);
        }
    }

    /// An instance whose tasks were there before it waited goes on with them.
    pub(in crate::machine) fn go_on(&mut self, turn: &mut Turn<'_>, id: InstanceId, reason: Option<Arc<str>>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let timeout_ms = instance.origin.timeout_ms.unwrap_or(instance.program.timeout_ms);
        let timer = self.set_limit(turn, id, timeout_ms);
        self.with_instance(id, |instance| {
            instance.timer = timer;
            let from = std::mem::replace(&mut instance.status, State::Running);
            instance.record(turn, None, from, State::Running, reason);
        });
        self.consider_pending(id);
        self.end_if_all_tasks_have(turn, id);
    }

    /// The gates of an instance. Errors: the failure of the instance, when a key has no value.
    fn door_of(&self, instance: &Instance) -> Result<Vec<Pass>, Failure> {
        let (program, origin) = (&instance.program, &instance.origin);
        let (namespace, workflow) = (&program.namespace, &program.workflow);
        let pass = |rule: GateRule, key: Arc<str>, scope: String| Pass {
            gate: GateKey { namespace: namespace.clone(), key, scope: Arc::from(scope) },
            rule,
            step: PassStep::Closed,
        };
        let mut passes = Vec::new();
        if let Some(admission) = &origin.admission {
            if let Some(key) = &admission.ordering_key {
                passes.push(pass(GateRule::Order, checked_key("ordering_key", key.to_string())?, GateRule::Order.name().into()));
            }
            if let Some((key, limit)) = &admission.concurrency {
                let rule = GateRule::Concurrency { limit: (*limit).max(1), when_full: WhenFull::Queue };
                passes.push(pass(rule, checked_key("concurrency.key", key.to_string())?, format!("rule.{}", rule.name())));
            }
        }
        if !program.admission.gates.is_empty() {
            self.with_start_scope(instance, |scope| {
                let budget = &mut Budget::default();
                for (rule, key) in &program.admission.gates {
                    let key = key_of(workflow, rule.name(), key.as_ref(), scope, budget)?;
                    passes.push(pass(*rule, key, format!("{}:{workflow}", rule.name())));
                }
                Ok(())
            })?;
        }
        passes.sort_by_key(|pass| pass.rule);
        Ok(passes)
    }

    /// The key that the tasks of an instance take turns under. Errors: the failure of the instance.
    fn flow_of_key(&self, instance: &Instance) -> Result<Option<Box<Flow>>, Failure> {
        let Some((key, weight)) = &instance.program.admission.fairness else { return Ok(None) };
        self.with_start_scope(instance, |scope| {
            let budget = &mut Budget::default();
            let failure = |member: &'static str| move |error: ExprError| expression_failure(member, &error);
            let key = checked_key("fairness.key", key.render_text(scope, budget).map_err(failure("fairness.key"))?)?;
            let weight = weight.render(scope, budget).map_err(failure("fairness.weight"))?;
            match weight.as_u64().and_then(|weight| u32::try_from(weight).ok()).filter(|weight| (1..=WEIGHT_MAX).contains(weight)) {
                Some(weight) => Ok(Some(Box::new(Flow { key, weight }))),
                None => {
                    let message = format!("fairness.weight: {weight} is no whole number from 1 to {WEIGHT_MAX}");
                    Err(Failure::new("expression_error", &message))
                }
            }
        })
    }

    fn set_flow(&mut self, id: InstanceId, flow: Option<Box<Flow>>) {
        if flow.is_some() {
            self.with_instance(id, |instance| {
                instance.bytes += flow.as_ref().map_or(0, |flow| flow.key.len() as u64);
                instance.flow = flow;
            });
        }
    }

    /// Calls `evaluate` with the names that are there before an instance begins. Errors: those of `evaluate`, and an input that is not JSON.
    fn with_start_scope<T>(&self, instance: &Instance, evaluate: impl FnOnce(&Scope<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let program = &*instance.program;
        let origin = self.origin_names(instance, &program.start_reads)?;
        let names = RunNames {
            input: &origin.input,
            params: &origin.params,
            message: origin.message(),
            tasks: Vec::new(),
            instance_id: &instance.id.to_string(),
            workflow_id: &program.workflow,
            workflow_version: program.version,
            task_id: "",
            attempt: 0,
            loops: Vec::new(),
        };
        evaluate(&names.scope())
    }

    /// Considers what has not begun and does not undo.
    pub(in crate::machine) fn consider_pending(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        let pending = (0..instance.tasks.len() as u16).filter(|index| {
            instance.tasks[usize::from(*index)].status == State::Pending
                && instance.program.steps[usize::from(*index)].compensates.is_none()
        });
        self.errands.extend(pending.map(|index| Errand::Consider(TaskAt { instance: id, index })));
    }
}

/// What a rule's action asks for of the instance that it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct ActionAdmission {
    pub ordering_key: Option<Arc<str>>,
    pub concurrency: Option<(Arc<str>, u32)>,
}

impl ActionAdmission {
    /// `None` when it asks for nothing.
    pub fn of(ordering_key: Option<&Arc<str>>, concurrency: Option<&(Arc<str>, u32)>) -> Option<Box<Self>> {
        let asks = ordering_key.is_some() || concurrency.is_some();
        asks.then(|| Box::new(Self { ordering_key: ordering_key.cloned(), concurrency: concurrency.cloned() }))
    }
}

fn key_of(workflow: &Arc<str>, member: &str, key: Option<&Template>, scope: &Scope<'_>, budget: &mut Budget) -> Result<Arc<str>, Failure> {
    let Some(key) = key else { return Ok(workflow.clone()) };
    let member = format!("{member}.key");
    let text = key.render_text(scope, budget).map_err(|error| expression_failure(&member, &error))?;
    checked_key(&member, text)
}

fn checked_key(member: &str, text: String) -> Result<Arc<str>, Failure> {
    if (1..=KEY_BYTES_MAX).contains(&text.len()) {
        return Ok(Arc::from(text));
    }
    let message = format!("{member}: a key of {} bytes is not within 1 and {KEY_BYTES_MAX}", text.len());
    Err(Failure::new("expression_error", &message))
}

fn not_there() -> OutResult {
    OutResult::Refused { code: "not_waiting".into(), reason: "the instance does not wait there any more".into() }
}

const _: () = assert!(super::BATCH_BYTES_MAX < INSTANCE_BYTES_MAX, "an instance can hold a batch");

/// Whether the input of an instance is what its workflow's schema asks for. That of a batch is a list of inputs, each of which was judged.
fn takes_its_input(instance: &Instance) -> Result<(), Failure> {
    let is_batch = instance.door.iter().any(|door| door.passes.iter().any(|pass| matches!(pass.rule, GateRule::Batch { .. })));
    if is_batch {
        return Ok(());
    }
    let origin = &instance.origin;
    instance.program.takes(&origin.payload, &origin.params).map_err(|reason| Failure::new(BAD_INPUT, &reason))
}
