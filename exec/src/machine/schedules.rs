//! Schedules: workflows that start by themselves.
//!
//! A workflow's schedules live in one group, that of [`schedule_slot`], whose leader sees to it that they are those of its catalog. Their runs are timers of
//! the replicated machine: a run is one instance, made in the entry of its tick, so it happens once whoever leads.
//! Invariant: the program of a schedule is not forgotten. Start reading at [`Machine::apply_schedule`].

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::{Change, Namespace, Slot, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Machine;
use super::checkpoint::record::encode;
use super::checkpoint::tracked::Tracked;
use super::families::Family;
use super::instances::Origin;
use super::scopes::rfc3339;
use super::timers::{Timer, TimerKey};
use super::turn::Turn;
use super::views::ScheduleView;
use crate::command;
use crate::definition::{CALLED_WORKFLOWS_MAX, Missed, ScheduleDefinition};
use crate::octets::Octets;

/// How late a run may begin and still count as on time, milliseconds.
pub const SCHEDULE_GRACE_MS: u64 = 60_000;
/// Most missed runs that are made up for at once.
pub const SCHEDULE_RUNS_MADE_UP_MAX: usize = 100;

/// The home of a workflow's schedules.
pub fn schedule_slot(namespace: &Namespace, workflow: &str) -> Slot {
    Slot::of(namespace.as_str(), format!("schedule:{workflow}").as_bytes())
}

/// One schedule of a workflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Schedule {
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: u64,
    /// Which of the version's schedules.
    pub place: u16,
    pub next_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub timer: Option<TimerKey>,
    pub runs_count: u64,
    pub missed_count: u64,
    #[serde(default)]
    pub pins: command::PinList,
}

/// The schedules of a group, numbered as they came.
#[derive(Debug, Default, Serialize)]
pub(super) struct Schedules {
    table: Tracked<u64, Schedule>,
    #[serde(skip)]
    by_workflow: BTreeMap<(Namespace, Arc<str>), Vec<u64>>,
}

impl Schedules {
    /// The schedules of a checkpoint.
    pub fn restored(records: BTreeMap<u64, Schedule>) -> Self {
        let mut schedules = Self::default();
        records.into_iter().for_each(|(number, schedule)| schedules.add(number, schedule));
        schedules.table.mark_stored();
        schedules
    }

    /// Tells what changed since the last call.
    pub fn take_changes(&mut self, out: &mut Vec<Change>, key: impl Fn(&u64) -> Vec<u8>) {
        self.table.take_changes(out, key, |_, schedule, _| encode(schedule));
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    fn add(&mut self, number: u64, schedule: Schedule) {
        self.by_workflow.entry((schedule.namespace.clone(), schedule.workflow.clone())).or_default().push(number);
        self.table.insert(number, schedule);
    }

    /// Takes out all schedules of a workflow.
    fn take(&mut self, namespace: &Namespace, workflow: &Arc<str>) -> Vec<Schedule> {
        let numbers = self.by_workflow.remove(&(namespace.clone(), workflow.clone())).unwrap_or_default();
        numbers.iter().filter_map(|number| self.table.remove(number)).collect()
    }
}

impl Machine {
    /// The workflows that are scheduled here, each with the version by which it is, and those of what it may come to call.
    pub fn scheduled(&self) -> BTreeMap<(Namespace, Arc<str>), (u64, command::PinList)> {
        let of = |one: &Schedule| ((one.namespace.clone(), one.workflow.clone()), (one.version, one.pins.clone()));
        self.schedules.table.values().map(of).collect()
    }

    /// The schedules of a namespace.
    pub fn schedules_view(&self, namespace: &Namespace) -> Vec<ScheduleView> {
        let own = self.schedules.table.values().filter(|one| one.namespace == *namespace);
        let view = |one: &Schedule| {
            let ScheduleDefinition { cron, missed, .. } = self.definition_of(one)?;
            Some(ScheduleView {
                namespace: one.namespace.clone(),
                workflow: one.workflow.clone(),
                version: one.version,
                cron: Arc::from(cron.text()),
                offset: cron.offset(),
                missed: missed.word(),
                next_at_us: one.next_at.map(Timestamp::as_us),
                last_at_us: one.last_at.map(Timestamp::as_us),
                runs_count: one.runs_count,
                missed_count: one.missed_count,
            })
        };
        own.filter_map(view).collect()
    }

    fn definition_of(&self, schedule: &Schedule) -> Option<ScheduleDefinition> {
        let program = self.programs.get(&schedule.namespace, &schedule.workflow, schedule.version)?;
        program.schedules.get(usize::from(schedule.place)).cloned()
    }

    /// A workflow is scheduled by a version of its definition from now on, or not at all.
    pub(super) fn apply_schedule(&mut self, turn: &mut Turn<'_>, asked: &command::Schedule) {
        let command::Schedule { namespace, workflow, version, pins } = asked;
        let program = version.map(|version| self.programs.get(namespace, workflow, version).cloned());
        let are_known = pins.len() <= CALLED_WORKFLOWS_MAX && self.check_pins(namespace, pins).is_ok();
        let Some(program) = program.map_or(Some(None), |known| known.map(Some)).filter(|_| are_known) else {
            // The leader proposes it again behind its definition.
            self.stats.commands_ignored_count += 1;
            return;
        };
        let known = self.schedules.by_workflow.get(&(namespace.clone(), workflow.clone())).and_then(|numbers| numbers.first());
        if version.is_some()
            && known
                .and_then(|number| self.schedules.table.get(number))
                .is_some_and(|known| Some(known.version) == *version && known.pins == *pins)
        {
            return;
        }
        for old in self.schedules.take(namespace, workflow) {
            self.timers.remove(old.timer);
            self.use_pins(namespace, Family::of_start(old.pins).as_deref(), false);
            if let Some(program) = self.programs.get(namespace, workflow, old.version).cloned() {
                self.programs.unused(&program);
            }
        }
        let Some(program) = program else { return };
        for (place, schedule) in (0..).zip(&program.schedules) {
            let number = turn.mint(1);
            let next_at = schedule.cron.next_after(turn.now);
            let timer = next_at.map(|due| self.timers.set(due, Timer::Schedule(number)));
            let (namespace, workflow, version) = (namespace.clone(), workflow.clone(), program.version);
            let new = Schedule {
                namespace,
                workflow,
                version,
                place,
                next_at,
                last_at: None,
                timer,
                runs_count: 0,
                missed_count: 0,
                pins: pins.clone(),
            };
            self.schedules.add(number, new);
            self.programs.used(&program);
            self.use_pins(&program.namespace, Family::of_start(pins.clone()).as_deref(), true);
        }
    }

    /// A run is due: it begins, and those that were missed as the schedule says.
    pub(super) fn schedule_due(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(schedule) = self.schedules.table.get(&number).cloned() else { return };
        let Some(definition) = self.definition_of(&schedule) else { return };
        let Some(program) = self.programs.get(&schedule.namespace, &schedule.workflow, schedule.version).cloned() else { return };
        // What was due until now: a group without a leader for a day may have missed many.
        let mut due = Vec::new();
        let mut next_at = schedule.next_at;
        let mut passed_count = 0_u64;
        while let Some(at) = next_at.filter(|at| *at <= turn.now) {
            passed_count += 1;
            due.push(at);
            if due.len() > SCHEDULE_RUNS_MADE_UP_MAX {
                due.remove(0);
            }
            next_at = if passed_count < RUNS_COUNTED_MAX { definition.cron.next_after(at) } else { definition.cron.next_after(turn.now) };
        }
        let is_late = |at: &Timestamp| at.plus_ms(SCHEDULE_GRACE_MS) < turn.now;
        match definition.missed {
            Missed::All => {}
            Missed::Once => drop(due.drain(..due.len().saturating_sub(1))),
            Missed::Skip => due.retain(|at| !is_late(at)),
        }
        let slot = schedule_slot(&schedule.namespace, &schedule.workflow);
        for at in &due {
            turn.transitions += 1;
            let origin = Origin {
                message: None,
                rule: None,
                admission: None,
                payload: input_of(&definition.input, *at),
                is_payload_changed: false,
                params: Octets::default(),
                timeout_ms: None,
                retry: None,
                traceparent: None,
                hops: 0,
                family: Family::of_start(schedule.pins.clone()),
            };
            self.create_instance(turn, slot, program.clone(), origin, 0);
        }
        let timer = next_at.map(|due| self.timers.set(due, Timer::Schedule(number)));
        if let Some(schedule) = self.schedules.table.get_mut(&number) {
            schedule.timer = timer;
            schedule.next_at = next_at;
            schedule.last_at = due.last().copied().or(schedule.last_at);
            schedule.runs_count += due.len() as u64;
            schedule.missed_count += passed_count - due.len() as u64;
        }
    }
}

/// Most runs that are counted one by one when they were missed.
const RUNS_COUNTED_MAX: u64 = 10_000;

/// The input of a run: that of the schedule, and when the run was due.
fn input_of(input: &Value, at: Timestamp) -> Octets {
    let mut input = if input.is_object() { input.clone() } else { json!({}) };
    if input.get("scheduled_at").is_none() {
        input["scheduled_at"] = json!(rfc3339(at.as_us()));
    }
    Octets::from(&input)
}
