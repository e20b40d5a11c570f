//! Families: instances that other instances run, from their creation to the retirement of all.
//!
//! A child lives in the group of its parent, under the same slot: it begins, ends and is cancelled in the very entries that say so, and its
//! expressions may read what its parent holds. A parent does not end before its children; children go into retention after it.
//! Bounds: tasks of a whole family, bytes of its ended members, depth of calls. Start reading at [`Machine::begin_round`].

use std::sync::Arc;

use distric_model::InstanceId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::instances::{Failure, Instance, Origin, TaskAt};
use super::loops::{REPLACED, RoundKey};
use super::programs::{Body, Program};
use super::state::State;
use super::turn::Turn;
use super::{Errand, Machine};
use crate::command::PinList;
use crate::definition::{CALL_DEPTH_MAX, Work};
use crate::octets::Octets;

/// Most tasks of an instance and all that it runs together.
pub const FAMILY_TASKS_MAX: u64 = 100_000;
/// Most bytes that the ended members of one family may hold before it begins no more.
pub const FAMILY_BYTES_MAX: u64 = 256 << 20;
/// What a child is charged beside what every instance is: its place in its family.
const CHILD_BYTES: u64 = 200;

/// Versions of the workflows that an instance may come to call, by id.
pub(super) type Pins = Arc<[(Arc<str>, u64)]>;

/// What ties an instance to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Family {
    /// The round that it is.
    pub parent: Option<RoundKey>,
    /// The instance whose failure it handles.
    pub cause: Option<InstanceId>,
    /// The instance that handles its failure.
    pub handler: Option<InstanceId>,
    /// The instance above all; absent for that one itself.
    pub root: Option<InstanceId>,
    /// Calls and failures between it and an instance that somebody started.
    pub depth: u8,
    pub pins: Pins,
    /// Its parent had it stopped.
    pub is_stopped: bool,
    /// Of a root: tasks of its family, and bytes of those that have ended.
    pub tasks_count: u64,
    pub ended_bytes: u64,
    /// Of a child: how many of those bytes are its own.
    pub counted_bytes: u64,
}

impl Family {
    /// That of an instance that somebody started.
    pub fn of_root(pins: Pins) -> Self {
        Self {
            parent: None,
            cause: None,
            handler: None,
            root: None,
            depth: 0,
            pins,
            is_stopped: false,
            tasks_count: 0,
            ended_bytes: 0,
            counted_bytes: 0,
        }
    }

    /// The family of a start with these pins; most have none, and no family.
    pub fn of_start(pins: PinList) -> Option<Box<Self>> {
        (!pins.is_empty()).then(|| Box::new(Self::of_root(Arc::from(pins))))
    }
}

impl Instance {
    /// The round that it is, when another instance runs it.
    pub fn parent(&self) -> Option<RoundKey> {
        self.origin.family.as_ref()?.parent
    }

    /// The version of a workflow that it calls.
    fn pinned(&self, workflow: &str) -> Option<u64> {
        let pins = &self.origin.family.as_ref()?.pins;
        pins.iter().find(|(pinned, _)| &**pinned == workflow).map(|(_, version)| *version)
    }
}

impl Machine {
    /// Begins a round of a task with a body: with a new instance, or with the one that was there before and takes the same input.
    /// Errors: why it cannot be begun, ever.
    pub(super) fn begin_round(&mut self, turn: &mut Turn<'_>, at: TaskAt, place: u32, payload: Octets) -> Result<(), Failure> {
        let Some((instance, run)) = self.instances.get(&at.instance).zip(self.loops.run(at)) else { return Ok(()) };
        let (program, is_call) = self.body_of(instance, at.index)?;
        let key = RoundKey { task: at, life: run.life, place };
        let is_automatic = instance.tasks[usize::from(at.index)].attempt > 1;
        if let Some((id, child)) = self.loops.round(key).and_then(|id| Some((id, self.instances.get(&id)?))) {
            if child.program.is_same(&program) && child.origin.payload == payload {
                if child.status == State::Completed {
                    self.note_completed(at, id);
                    return Ok(());
                }
                let has_ended = child.status.is_end();
                // Noted first: one in which nothing is left to do ends as it begins again.
                self.note_begun(at, place, id);
                if has_ended {
                    self.rerun(turn, id, is_automatic);
                }
                return Ok(());
            }
            self.replace_round(key, id);
        }
        self.check_family(at.instance, &program, is_call)?;
        let id = self.create_child(turn, key, program, is_call, payload);
        self.loops.set_round(key, id);
        self.note_begun(at, place, id);
        Ok(())
    }

    /// What a task with a body runs, and whether that is another workflow. Errors: its definition is not here.
    fn body_of(&self, instance: &Instance, index: u16) -> Result<(Arc<Program>, bool), Failure> {
        match &instance.program.steps[usize::from(index)].body {
            Some(Body::Tasks(program)) => Ok((program.clone(), false)),
            Some(Body::Workflow(workflow)) => {
                let version = instance.pinned(workflow);
                let program = version.and_then(|version| self.programs.get(&instance.program.namespace, workflow, version));
                let absent =
                    || Failure::new("unknown_workflow", &format!("there was no workflow `{workflow}` when the instance was started"));
                program.cloned().map(|program| (program, true)).ok_or_else(absent)
            }
            None => Err(Failure::new("internal", "the task has no body")),
        }
    }

    /// Whether a family may grow. Errors: which bound it would exceed.
    fn check_family(&mut self, parent: InstanceId, program: &Program, is_call: bool) -> Result<(), Failure> {
        let depth = self.instances.get(&parent).and_then(|parent| parent.origin.family.as_ref()).map_or(0, |family| family.depth);
        if is_call && usize::from(depth) >= CALL_DEPTH_MAX {
            return Err(Failure::new("calls_too_deep", &format!("workflows call each other more than {CALL_DEPTH_MAX} deep")));
        }
        let Some(family) = self.root_family(parent) else { return Ok(()) };
        let tasks_count = family.tasks_count + program.steps.len() as u64;
        if tasks_count > FAMILY_TASKS_MAX {
            return Err(Failure::new("too_many_tasks", &format!("it and all that it runs would have more than {FAMILY_TASKS_MAX} tasks")));
        }
        if family.ended_bytes > FAMILY_BYTES_MAX {
            return Err(Failure::new("family_too_large", &format!("what it has run holds more than {FAMILY_BYTES_MAX} bytes")));
        }
        family.tasks_count = tasks_count;
        Ok(())
    }

    /// The account of a whole family, with its root; made when there is none.
    fn root_family(&mut self, of: InstanceId) -> Option<&mut Family> {
        let root = self.instances.get(&of)?.origin.family.as_ref().and_then(|family| family.root).unwrap_or(of);
        let root = self.instances.get_mut(&root)?;
        Some(root.origin.family.get_or_insert_with(|| Box::new(Family::of_root(Arc::from([])))))
    }

    fn create_child(&mut self, turn: &mut Turn<'_>, key: RoundKey, program: Arc<Program>, is_call: bool, payload: Octets) -> InstanceId {
        let parent = self.instances.get(&key.task.instance).expect("a round is begun by an instance that is there");
        let timeout_ms = match &parent.program.tasks[usize::from(key.task.index)].work {
            Work::ForEach { item_timeout_ms, .. } => *item_timeout_ms,
            Work::While { iteration_timeout_ms, .. } => *iteration_timeout_ms,
            _ => None,
        };
        let flow = if is_call { None } else { parent.flow.clone() };
        let family = parent.origin.family.as_ref();
        let pins = family.map_or_else(|| Arc::from([]), |family| family.pins.clone());
        let origin = Origin {
            message: None,
            rule: None,
            payload,
            is_payload_changed: false,
            params: Octets::default(),
            timeout_ms,
            retry: if is_call { None } else { parent.origin.retry.clone() },
            traceparent: parent.origin.traceparent.clone(),
            hops: parent.origin.hops,
            admission: None,
            family: Some(Box::new(Family {
                parent: Some(key),
                root: Some(family.and_then(|family| family.root).unwrap_or(key.task.instance)),
                depth: family.map_or(0, |family| family.depth) + u8::from(is_call),
                ..Family::of_root(pins)
            })),
        };
        let id = self.create_instance(turn, key.task.instance.slot(), program, origin, 0);
        // The tasks of a body take their turns under the key of what is around it.
        self.with_instance(id, |child| {
            child.bytes += CHILD_BYTES + flow.as_ref().map_or(0, |flow| flow.key.len() as u64);
            child.flow = flow;
        });
        id
    }

    /// Another instance takes the place of one that has ended: that one stays with its family.
    fn replace_round(&mut self, key: RoundKey, id: InstanceId) {
        let Some(run) = self.loops.run_mut(key.task) else { return };
        run.replaced_count += 1;
        let aside = RoundKey { life: REPLACED, place: run.replaced_count, ..key };
        self.loops.set_round(aside, id);
        if let Some(family) = self.instances.get_mut(&id).and_then(|child| child.origin.family.as_mut()) {
            family.parent = Some(aside);
        }
    }

    /// A child has ended: its parent's task goes on.
    pub(super) fn child_ended(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(child) = self.instances.get_mut(&id) else { return };
        let (bytes, status) = (child.bytes, child.status);
        let Some(family) = child.origin.family.as_mut() else { return };
        let Some(key) = family.parent else { return };
        let counted = std::mem::replace(&mut family.counted_bytes, bytes);
        if let Some(root) = self.root_family(id) {
            root.ended_bytes = root.ended_bytes.saturating_sub(counted).saturating_add(bytes);
        }
        match self.undo_of(key.task).filter(|_| self.is_undone_now(key.task)) {
            Some(undo) => self.round_undone(undo, key, id),
            None if status == State::Completed => self.round_completed(turn, key, id),
            None => self.round_failed(turn, key, id),
        }
    }

    /// Has an open child end before its time.
    pub(super) fn stop_child(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(child) = self.instances.get(&id) else { return };
        let Some(key) = child.parent().filter(|_| !child.status.is_end()) else { return };
        let parent = self.instances.get(&key.task.instance);
        let is_cut = parent.is_none_or(|parent| parent.verdict == Some(State::Cancelled) || parent.status == State::Compensating);
        if child.status == State::Compensating && !is_cut {
            return;
        }
        // What completed in it is undone as well, unless its parent is cancelled.
        let verdict = if child.program.compensates && !is_cut { State::Failed } else { State::Cancelled };
        let stopped = [Some(key.task), self.undo_of(key.task)].into_iter().flatten().find_map(|at| self.loops.run(at)?.stop.as_ref());
        let reason = stopped.map_or_else(|| Arc::from("its parent does not wait for it"), |stop| stop.failure.message.clone());
        if let Some(family) = self.instances.get_mut(&id).and_then(|child| child.origin.family.as_mut()) {
            family.is_stopped = true;
        }
        self.end_early(turn, id, verdict, Failure::new("cancelled", &reason));
    }

    /// Starts the workflow that handles the failure of an instance that has just ended.
    pub(super) fn start_handler(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Some(handler) = instance.program.handler.clone() else { return };
        let family = instance.origin.family.as_deref();
        let depth = family.map_or(0, |family| family.depth);
        if family.is_some_and(|family| family.is_stopped) {
            return;
        }
        let version = instance.pinned(&handler);
        let program = version.and_then(|version| self.programs.get(&instance.program.namespace, &handler, version)).cloned();
        let program = match program {
            Some(program) if usize::from(depth) < CALL_DEPTH_MAX => program,
            _ => {
                let why = format!("; the workflow `{handler}` that handles its failure could not be started");
                self.with_instance(id, |instance| {
                    let failure = instance.failure.take().unwrap_or_else(|| Failure::new("failed", "no reason was given"));
                    instance.failure = Some(Failure::new(&failure.code, &format!("{}{why}", failure.message)));
                });
                return;
            }
        };
        let origin = Origin {
            message: None,
            rule: None,
            payload: failure_report(instance),
            is_payload_changed: false,
            params: Octets::default(),
            timeout_ms: None,
            retry: None,
            traceparent: instance.origin.traceparent.clone(),
            hops: instance.origin.hops,
            admission: None,
            family: Some(Box::new(Family {
                cause: Some(id),
                depth: depth + 1,
                ..Family::of_root(family.map_or_else(|| Arc::from([]), |family| family.pins.clone()))
            })),
        };
        let handler = self.create_instance(turn, id.slot(), program, origin, 0);
        if let Some(family) = self.instances.get_mut(&id).and_then(|instance| instance.origin.family.as_mut()) {
            family.handler = Some(handler);
        }
    }

    /// The whole family has ended: its members go into retention behind the root, as many as the entry allows.
    pub(super) fn retire(&mut self, turn: &mut Turn<'_>, parent: InstanceId, mut after: Option<RoundKey>) {
        // Taken back meanwhile: its next end retires them.
        if self.instances.get(&parent).is_some_and(|parent| !parent.status.is_end()) {
            return;
        }
        while let Some((key, id)) = self.loops.round_after(parent, after) {
            if turn.is_spent() {
                return self.errands.push_back(Errand::Retire { parent, after });
            }
            turn.transitions += 1;
            after = Some(key);
            let Some(child) = self.instances.get(&id) else { continue };
            let has_children = child.program.has_bodies;
            self.retention.instance_ended(child.ended_at.unwrap_or(turn.now), id);
            if has_children {
                self.errands.push_back(Errand::Retire { parent: id, after: None });
            }
        }
        // What is too much now goes with this entry's sweep, or the next.
        self.is_tick_unfinished |= self.retention.finished_count() > self.settings.history_instances_max;
    }

    /// Counts an instance as a user of the programs that it pins, or as none any more.
    pub(super) fn use_pins(&mut self, namespace: &distric_model::Namespace, family: Option<&Family>, is_used: bool) {
        for (workflow, version) in family.into_iter().flat_map(|family| family.pins.iter()) {
            if let Some(program) = self.programs.get(namespace, workflow, *version).cloned() {
                if is_used { self.programs.used(&program) } else { self.programs.unused(&program) }
            }
        }
    }
}

/// What a workflow that handles a failure gets as its input.
fn failure_report(instance: &Instance) -> Octets {
    let error = instance.failure.as_ref().map(|failure| json!({ "code": &*failure.code, "message": &*failure.message }));
    let around = json!({
        "instance": instance.id.to_string(), "workflow": &*instance.program.workflow, "version": instance.program.version,
        "status": instance.status.as_str(), "error": error,
    });
    // The input is JSON that was checked, and may be long: it is put in as text.
    let mut text = around.to_string().into_bytes();
    text.pop();
    text.extend_from_slice(b",\"input\":");
    text.extend_from_slice(if instance.origin.payload.is_empty() { b"null" } else { &instance.origin.payload });
    text.push(b'}');
    Octets::from(text)
}
