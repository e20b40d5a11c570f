//! Workers: their sessions, the credit they lease to this group, and the leases of tasks on that credit.
//!
//! A credit is one task slot (or one place of prefetch) that the worker lends to this group. An attempt uses one credit from
//! dispatch until the worker reports on it, even when the attempt was timed out or cancelled meanwhile: the slot is busy as long
//! as the worker says nothing. The report either leaves the credit with the group (`renew`) or takes it back.
//! Invariant: `in_use <= granted`, and no grant takes `granted` above `slots + prefetch`.
//! Invariant: `in_use` equals the leases of the worker.
//! Invariant: `held` equals what the tasks of those leases need; what the worker said of others is beside it. See [`distric_model::resources`].
//! Invariant: a token has at most one lease.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use distric_model::{Capacity, Change, Elsewhere, Needs, Timestamp, WorkerId};
use distric_rules::expr::{Binding, Scope};
use serde::{Deserialize, Serialize};

use super::checkpoint::tracked::Tracked;
use super::instances::TaskAt;
use super::views::WorkerView;
use crate::command::WorkerUp;
use crate::definition::placement::WORKER_NAME;

/// Most workers that one group knows, those that are down included.
pub const WORKERS_MAX: usize = 16_384;
/// Most credit that one worker leases to one group.
pub const CREDIT_PER_WORKER_MAX: u32 = 16_384;
/// Most task types that one worker offers; more are cut off.
pub const WORKER_TASK_TYPES_MAX: usize = 1_024;
/// Most labels of one worker; more are cut off.
pub const WORKER_LABELS_MAX: usize = 64;

/// A worker as this group knows it.
#[derive(Debug, Serialize)]
pub(super) struct Worker {
    pub generation: u64,
    pub is_up: bool,
    pub is_draining: bool,
    pub name: Arc<str>,
    pub slots: u32,
    pub prefetch: u32,
    pub task_types: BTreeSet<Arc<str>>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    pub granted: u32,
    pub in_use: u32,
    /// When the session opened, or ended.
    pub since: Timestamp,
    pub tokens: BTreeSet<u64>,
    /// How busy its computer is, 0 to [`super::busy::BUSY_LEVEL_MAX`].
    pub busy: u8,
    /// What it has for tasks, of all groups together.
    pub capacity: Capacity,
    /// What this group's tasks take of that.
    pub held: Needs,
    /// What tasks of other groups take of it, as far as the worker has said.
    pub elsewhere: Elsewhere,
    /// Its key in `by_load`, when it has free credit.
    pub load: Option<u64>,
}

impl Worker {
    /// One that has not said anything.
    fn unknown(generation: u64, now: Timestamp) -> Self {
        Self {
            generation,
            is_up: false,
            is_draining: false,
            name: Arc::from(""),
            slots: 0,
            prefetch: 0,
            task_types: BTreeSet::new(),
            labels: BTreeMap::new(),
            granted: 0,
            in_use: 0,
            since: now,
            tokens: BTreeSet::new(),
            busy: 0,
            capacity: Capacity::default(),
            held: Needs::default(),
            elsewhere: Elsewhere::default(),
            load: None,
        }
    }

    /// Whether it may run such a task at all.
    pub fn offers(&self, task_type: &Arc<str>, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        self.is_up && self.task_types.contains(task_type) && labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// Calls `evaluate` with the names that expressions about this worker see.
    pub fn with_scope<T>(&self, id: WorkerId, evaluate: impl FnOnce(&Scope<'_>) -> T) -> T {
        let id = id.to_string();
        let labels = self.labels.iter().map(|(name, value)| (&**name, Binding::Text(value))).collect();
        let number = |value: u32| Binding::Integer(u64::from(value));
        let room = self.room();
        let mut names = BTreeMap::from([
            ("id", Binding::Text(&id)),
            ("name", Binding::Text(&self.name)),
            ("labels", Binding::Record(labels)),
            ("slots", number(self.slots)),
            ("prefetch", number(self.prefetch)),
            ("granted", number(self.granted)),
            ("in_use", number(self.in_use)),
            ("free", number(self.free())),
        ]);
        // What a worker does not limit, it does not have: `has(worker.memory)` asks.
        let limits = [
            ("cpu", self.capacity.cpu_millis),
            ("memory", self.capacity.memory_mib),
            ("cpu_free", room.cpu_millis),
            ("memory_free", room.memory_mib),
        ];
        names.extend(limits.into_iter().filter_map(|(name, value)| Some((name, Binding::Integer(value?)))));
        let mut scope = Scope::new();
        scope.bind(WORKER_NAME, Binding::Record(names));
        evaluate(&scope)
    }

    fn free(&self) -> u32 {
        self.granted - self.in_use
    }

    /// What is free of its capacity, as far as this group knows.
    pub fn room(&self) -> Capacity {
        self.capacity.without(self.held.plus(self.elsewhere.taken))
    }

    fn credit_max(&self) -> u32 {
        self.slots.saturating_add(self.prefetch).min(CREDIT_PER_WORKER_MAX)
    }
}

/// One attempt on one credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub worker: WorkerId,
    pub task: TaskAt,
    /// Nobody waits for the attempt's result any more.
    pub is_cancelled: bool,
    /// What the attempt takes of the worker's capacity.
    #[serde(default, skip_serializing_if = "Needs::is_none")]
    pub needs: Needs,
}

/// How many points of the ring a worker has: more make the shares of keys more even.
const RING_POINTS: u8 = 16;

/// A place on the ring: FNV-1a, then the finisher of `MurmurHash3`, so that near ids lie far apart.
pub(super) fn ring_place(bytes: &[u8], number: u8) -> u64 {
    let mut fnv = super::digest::Fnv::default();
    fnv.update(bytes);
    fnv.update(&[number]);
    let mut place = fnv.finish();
    place = (place ^ (place >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    place = (place ^ (place >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    place ^ (place >> 33)
}

/// All workers of a group.
#[derive(Debug, Default, Serialize)]
pub(super) struct Workers {
    table: Tracked<WorkerId, Worker>,
    leases: Tracked<u64, Lease>,
    /// Workers that may get a task now.
    free: BTreeSet<WorkerId>,
    /// The same, by [`Worker::weight_ppm`].
    by_load: BTreeSet<(u64, WorkerId)>,
    /// The workers that are up, each at [`RING_POINTS`] points: where keys find their worker (Karger et al. 1997).
    #[serde(skip)]
    ring: BTreeSet<(u64, WorkerId)>,
    tokens_count: u64,
    up_count: usize,
}

impl Workers {
    /// Workers and leases from their records, after so many tokens. Errors: the token of a lease that its worker cannot have.
    pub fn restored(table: BTreeMap<WorkerId, Worker>, leases: BTreeMap<u64, Lease>, tokens_count: u64) -> Result<Self, u64> {
        let mut workers = Self { table: Tracked::restored(table), tokens_count, ..Self::default() };
        for (token, lease) in &leases {
            let worker = workers.table.get_mut_derived(&lease.worker).filter(|worker| worker.in_use < worker.granted).ok_or(*token)?;
            worker.in_use += 1;
            worker.held = worker.held.plus(lease.needs);
            worker.tokens.insert(*token);
        }
        workers.leases = Tracked::restored(leases);
        workers.up_count = workers.table.values().filter(|worker| worker.is_up).count();
        let ids: Vec<WorkerId> = workers.table.iter().map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| workers.reindex(id));
        workers.table.mark_stored();
        Ok(workers)
    }

    /// How many tokens were ever given out.
    pub fn tokens_count(&self) -> u64 {
        self.tokens_count
    }

    /// Tells what changed since the last call.
    pub fn take_changes(
        &mut self,
        out: &mut Vec<Change>,
        worker_key: impl Fn(&WorkerId) -> Vec<u8>,
        worker_value: impl Fn(&Worker) -> Vec<u8>,
        lease_key: impl Fn(&u64) -> Vec<u8>,
        lease_value: impl Fn(&Lease) -> Vec<u8>,
    ) {
        self.table.take_changes(out, worker_key, |_, worker, _| worker_value(worker));
        self.leases.take_changes(out, lease_key, |_, lease, _| lease_value(lease));
    }

    pub fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.table.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Worker> {
        self.table.get_mut(&worker)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        self.table.iter()
    }

    /// Workers with free credit within bounds, by id.
    pub fn free(&self, from: Bound<WorkerId>, upto: Bound<WorkerId>) -> impl Iterator<Item = WorkerId> {
        self.free.range((from, upto)).copied()
    }

    /// Workers with free credit, least loaded first.
    pub fn free_by_load(&self) -> impl Iterator<Item = WorkerId> {
        self.by_load.iter().map(|(_, worker)| *worker)
    }

    /// The workers that are up, from a place on the ring on, once around.
    pub fn on_ring(&self, place: u64) -> impl Iterator<Item = WorkerId> {
        let from = (place, WorkerId::new(Timestamp::default(), distric_model::Slot::truncate(0), 0));
        self.ring.range(from..).chain(self.ring.range(..from)).map(|(_, worker)| *worker)
    }

    /// Whether the worker may get a task now.
    pub fn has_free_credit(&self, worker: WorkerId) -> bool {
        self.free.contains(&worker)
    }

    /// Opens a session. Free credit of an earlier session lapses: the worker grants it anew.
    ///
    /// Returns the leases that are lost, those of an earlier generation; or `None` when the session is of an old generation or
    /// there is no room for another worker.
    pub fn open(&mut self, up: &WorkerUp, now: Timestamp) -> Option<Vec<(u64, Lease)>> {
        let known_generation = self.table.get(&up.worker).map(|worker| worker.generation);
        if known_generation.is_some_and(|known| up.generation < known) || (known_generation.is_none() && !self.make_room()) {
            return None;
        }
        let is_new_process = known_generation.is_none_or(|known| up.generation > known);
        let lost = if is_new_process { self.end_leases(up.worker) } else { Vec::new() };
        if known_generation.is_none() {
            self.table.insert(up.worker, Worker::unknown(up.generation, now));
        }
        let worker = self.table.get_mut(&up.worker)?;
        // A drain outlives reconnects, not the process: a worker that drained to restart comes back to work.
        worker.is_draining &= !is_new_process;
        if is_new_process {
            worker.busy = 0;
            worker.elsewhere = Elsewhere::default();
        }
        self.up_count += usize::from(!worker.is_up);
        worker.is_up = true;
        worker.generation = up.generation;
        worker.since = now;
        worker.name = super::history::reason(&up.name);
        worker.slots = up.slots;
        worker.prefetch = up.prefetch;
        worker.task_types = up.task_types.iter().take(WORKER_TASK_TYPES_MAX).cloned().collect();
        worker.labels = up.labels.iter().take(WORKER_LABELS_MAX).cloned().collect();
        worker.capacity = up.capacity.bounded();
        worker.granted = worker.in_use;
        self.reindex(up.worker);
        Some(lost)
    }

    /// Ends the process of a generation. Returns the leases that are lost, or `None` when that generation is not up.
    pub fn close(&mut self, worker: WorkerId, generation: u64, now: Timestamp) -> Option<Vec<(u64, Lease)>> {
        let known = self.table.get_mut(&worker)?;
        if !known.is_up || known.generation != generation {
            return None;
        }
        known.is_up = false;
        known.since = now;
        self.up_count -= 1;
        let lost = self.end_leases(worker);
        if let Some(known) = self.table.get_mut(&worker) {
            known.granted = 0;
        }
        self.reindex(worker);
        Some(lost)
    }

    /// Grants credit (positive) or gives free credit back (negative).
    ///
    /// Returns how much was given back; `None` when the session is not the present one. What exceeds slots and prefetch is not taken.
    pub fn change_credit(&mut self, worker: WorkerId, generation: u64, amount: i64) -> Option<u32> {
        let known = self.table.get_mut(&worker)?;
        if !known.is_up || known.generation != generation {
            return None;
        }
        let asked = u32::try_from(amount.unsigned_abs()).unwrap_or(u32::MAX);
        let returned = if amount < 0 { asked.min(known.free()) } else { 0 };
        if amount < 0 {
            known.granted -= returned;
        } else {
            known.granted = known.granted.saturating_add(asked).min(known.credit_max()).max(known.in_use);
        }
        self.reindex(worker);
        Some(returned)
    }

    /// Sets the drain state. Returns whether it changed.
    pub fn drain(&mut self, worker: WorkerId, drain: bool) -> bool {
        let Some(known) = self.table.get_mut(&worker) else { return false };
        let changed = known.is_draining != drain;
        known.is_draining = drain;
        self.reindex(worker);
        changed
    }

    /// The worker says what tasks of other groups take there. Returns whether that leaves more room than before.
    pub fn tell_elsewhere(&mut self, worker: WorkerId, elsewhere: Elsewhere) -> bool {
        let Some(known) = self.table.get_mut(&worker).filter(|known| known.elsewhere.number < elsewhere.number) else { return false };
        let before = known.elsewhere.taken;
        known.elsewhere = Elsewhere { taken: elsewhere.taken.bounded(), ..elsewhere };
        let after = known.elsewhere.taken;
        self.reindex(worker);
        after.is_less_somewhere(before)
    }

    /// Puts a task on a free credit of the worker. Returns the fencing token, greater than all before.
    pub fn lease(&mut self, worker: WorkerId, task: TaskAt, needs: Needs) -> u64 {
        let known = self.table.get_mut(&worker).expect("placement chooses known workers only");
        assert!(known.in_use < known.granted, "{} credits are in use of {}", known.in_use, known.granted);
        self.tokens_count += 1;
        known.in_use += 1;
        known.held = known.held.plus(needs);
        known.tokens.insert(self.tokens_count);
        self.leases.insert(self.tokens_count, Lease { worker, task, is_cancelled: false, needs });
        self.reindex(worker);
        self.tokens_count
    }

    /// The lease of a token.
    pub fn lease_of(&self, token: u64) -> Option<&Lease> {
        self.leases.get(&token)
    }

    /// Nobody waits for this attempt any more. Returns its worker, when it has one.
    pub fn cancel(&mut self, token: u64) -> Option<WorkerId> {
        let lease = self.leases.get_mut(&token)?;
        lease.is_cancelled = true;
        Some(lease.worker)
    }

    /// The worker reported on the attempt: its credit is free again (`renew`) or the worker's own.
    pub fn release(&mut self, token: u64, renew: bool) -> Option<Lease> {
        let lease = self.leases.remove(&token)?;
        let known = self.table.get_mut(&lease.worker).expect("a lease ends no later than its worker's record");
        known.tokens.remove(&token);
        known.in_use -= 1;
        known.held = known.held.minus(lease.needs);
        known.granted -= u32::from(!renew);
        // A session with fewer slots than the one before cannot renew what it never granted.
        known.granted = known.granted.min(known.credit_max().max(known.in_use));
        self.reindex(lease.worker);
        Some(lease)
    }

    /// The attempts on a worker's credit, by token.
    pub fn leases_on(&self, worker: WorkerId) -> impl Iterator<Item = (u64, &Lease)> {
        let tokens = self.table.get(&worker).map(|worker| &worker.tokens);
        tokens.into_iter().flatten().filter_map(|token| Some((*token, self.leases.get(token)?)))
    }

    pub fn leases_count(&self) -> usize {
        self.leases.len()
    }

    pub fn up_count(&self) -> usize {
        self.up_count
    }

    pub fn views(&self) -> Vec<WorkerView> {
        let view = |(id, worker): (&WorkerId, &Worker)| WorkerView {
            id: *id,
            name: worker.name.clone(),
            generation: worker.generation,
            status: match (worker.is_up, worker.is_draining) {
                (false, _) => "down",
                (true, true) => "draining",
                (true, false) => "up",
            },
            slots: worker.slots,
            prefetch: worker.prefetch,
            computer_busy: worker.busy,
            credit_granted: worker.granted,
            credit_in_use: worker.in_use,
            task_types: worker.task_types.iter().cloned().collect(),
            labels: worker.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            capacity: worker.capacity,
            held: worker.held,
            elsewhere: worker.elsewhere.taken,
        };
        self.table.iter().map(view).collect()
    }

    fn end_leases(&mut self, worker: WorkerId) -> Vec<(u64, Lease)> {
        let Some(known) = self.table.get_mut(&worker) else { return Vec::new() };
        known.in_use = 0;
        known.held = Needs::default();
        let tokens = std::mem::take(&mut known.tokens);
        tokens.into_iter().filter_map(|token| Some((token, self.leases.remove(&token)?))).collect()
    }

    /// Makes room for one more worker by forgetting the one that is down the longest.
    fn make_room(&mut self) -> bool {
        if self.table.len() < WORKERS_MAX {
            return true;
        }
        let down = self.table.iter().filter(|(_, worker)| !worker.is_up);
        let longest = down.min_by_key(|(id, worker)| (worker.since, **id)).map(|(id, _)| *id);
        longest.is_some_and(|id| self.table.remove(&id).is_some())
    }

    /// Brings the two indexes of workers with free credit up to date with one worker.
    pub(super) fn reindex(&mut self, id: WorkerId) {
        let Some(worker) = self.table.get_mut(&id) else { return };
        let points = (0..RING_POINTS).map(|number| (ring_place(&id.to_bytes(), number), id));
        if worker.is_up && !self.ring.contains(&(ring_place(&id.to_bytes(), 0), id)) {
            self.ring.extend(points);
        } else if !worker.is_up {
            points.for_each(|point| _ = self.ring.remove(&point));
        }
        let may_get_tasks = worker.is_up && !worker.is_draining && worker.free() > 0;
        // Millionths: whole numbers, so that all replicas round alike.
        let load = may_get_tasks.then(|| worker.weight_ppm());
        if let Some(old) = std::mem::replace(&mut worker.load, load) {
            self.by_load.remove(&(old, id));
        }
        match load {
            Some(load) => {
                self.by_load.insert((load, id));
                self.free.insert(id);
            }
            None => {
                self.free.remove(&id);
            }
        }
    }
}
