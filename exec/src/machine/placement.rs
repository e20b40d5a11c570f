//! Placement: which worker gets which task. A pure function of the replicated state.
//!
//! Tasks that any of the same workers could take form a class: one task type, one set of labels, the same needs, one way to choose. A class
//! has a queue ([`super::queue`]). Invariant: a class that has a waiting task has no eligible worker with free credit and room for
//! it, unless work for the worker is still on the agenda; so a task that becomes ready behind others needs no search.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use distric_model::{Change, Needs, WorkerId};
use distric_rules::expr::{Budget, Expr, ExprError};
use serde::{Deserialize, Serialize};

use super::instances::TaskAt;
use super::queue::{FlowName, QueueKey, ReadyQueue, Turns};
use super::settings::DefaultStrategy;
use super::workers::{Worker, Workers};
use crate::definition::Strategy;

/// How a class chooses among its eligible workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Choice {
    /// As the settings say at that moment.
    Cluster,
    /// One after another, by id.
    RoundRobin,
    /// The least share of credit in use first, then by id.
    LeastLoaded,
    /// Two are drawn, the less loaded of them is taken.
    PowerOfTwo,
    /// The greatest value of an expression first, then the least loaded.
    Custom,
    /// One is drawn.
    Random,
    /// The one that ran what the task depends on, then the least loaded.
    Locality,
}

impl Choice {
    /// What it is where the settings say `placement`.
    pub fn or(self, placement: DefaultStrategy) -> Self {
        match (self, placement) {
            (Self::Cluster, DefaultStrategy::LeastLoaded) => Self::LeastLoaded,
            (Self::Cluster, DefaultStrategy::RoundRobin) => Self::RoundRobin,
            (Self::Cluster, DefaultStrategy::PowerOfTwo) => Self::PowerOfTwo,
            (Self::Cluster, DefaultStrategy::Random) => Self::Random,
            (Self::Cluster, DefaultStrategy::Locality) => Self::Locality,
            (own, _) => own,
        }
    }
}

impl From<Strategy> for Choice {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::RoundRobin => Self::RoundRobin,
            Strategy::Unsaid | Strategy::LeastLoaded => Self::LeastLoaded,
            Strategy::Cluster => Self::Cluster,
            Strategy::Random => Self::Random,
            Strategy::Locality => Self::Locality,
            Strategy::PowerOfTwo => Self::PowerOfTwo,
            Strategy::Custom => Self::Custom,
        }
    }
}

/// Most points of the ring that are looked at for one task.
pub const RING_STEPS_MAX: usize = 256;

/// Most workers that an expression is asked about for one task: the least loaded of those that may run it.
pub const PREFERRED_MAX: usize = 256;
/// What an expression about one worker may cost.
const BUDGET: Budget = Budget { steps: 1_000, bytes: 16 << 10 };

/// What few classes ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Demands {
    /// An expression about a worker, as it is written: holds for those that may.
    pub condition: Option<Arc<str>>,
    /// The same: greater for those that should.
    pub prefer: Option<Arc<str>>,
    /// What each of its tasks takes of a worker's capacity.
    #[serde(default, skip_serializing_if = "Needs::is_none")]
    pub needs: Needs,
}

/// What makes tasks interchangeable for placement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ClassKey {
    pub task_type: Arc<str>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    pub choice: Choice,
    /// Later members go in there: only the last field of a record may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demands: Option<Box<Demands>>,
}

impl ClassKey {
    /// What each task of the class takes of a worker's capacity.
    pub fn needs(&self) -> Needs {
        self.demands.as_deref().map(|demands| demands.needs).unwrap_or_default()
    }
}

/// A class by its number. Classes are numbered in the order of the definitions that brought them and are never removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct ClassId(u32);

#[derive(Debug, Serialize)]
struct Class {
    key: ClassKey,
    /// Those of its key, parsed. One that does not parse holds for no worker; none of a definition that was accepted is such.
    #[serde(skip)]
    condition: Option<Result<Expr, ExprError>>,
    #[serde(skip)]
    prefer: Option<Expr>,
    queue: ReadyQueue,
    /// The worker that got the last task.
    last: Option<WorkerId>,
}

impl Class {
    fn new(key: ClassKey) -> Self {
        let text = |of: fn(&Demands) -> &Option<Arc<str>>| key.demands.as_deref().and_then(|texts| of(texts).as_deref());
        let condition = text(|texts| &texts.condition).map(Expr::parse);
        let prefer = text(|texts| &texts.prefer).and_then(|text| Expr::parse(text).ok());
        Self { key, condition, prefer, queue: ReadyQueue::default(), last: None }
    }

    /// Whether a worker may run its tasks. That depends only on what the worker said when it opened its session.
    fn accepts(&self, id: WorkerId, worker: &Worker) -> bool {
        worker.offers(&self.key.task_type, &self.key.labels) && self.is_met_by(id, worker)
    }

    /// Whether a worker has room for one more of its tasks now.
    fn fits(&self, worker: &Worker) -> bool {
        worker.room().fits(self.key.needs())
    }

    fn is_met_by(&self, id: WorkerId, worker: &Worker) -> bool {
        match &self.condition {
            None => true,
            Some(Err(_)) => false,
            // A label that the worker has not makes no match, and so does every other error.
            Some(Ok(condition)) => worker.with_scope(id, |scope| condition.evaluate_bool(scope, &mut { BUDGET })).unwrap_or(false),
        }
    }

    /// How much a worker is wanted; least when the expression gives no number.
    fn value_of(&self, id: WorkerId, worker: &Worker) -> f64 {
        let value = self.prefer.as_ref().and_then(|prefer| worker.with_scope(id, |scope| prefer.evaluate(scope, &mut { BUDGET })).ok());
        value.and_then(|value| value.as_f64()).unwrap_or(f64::NEG_INFINITY)
    }
}

/// What one task wants of its place beside what its class does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// How to choose: that of its class, with what the settings say.
    pub choice: Choice,
    /// The worker of what it depends on.
    pub near: Option<WorkerId>,
    /// The place of its key on the ring of workers.
    pub affinity: Option<u64>,
    /// The worker that it does not go to.
    pub avoided: Option<WorkerId>,
}

/// The ready tasks that have no worker.
#[derive(Debug, Default, Serialize)]
pub(super) struct Queues {
    classes: Vec<Class>,
    by_key: BTreeMap<ClassKey, ClassId>,
    /// Classes with a task in their queue.
    waiting: BTreeSet<ClassId>,
    ready_count: usize,
    arrivals_count: u64,
    /// Classes that are new or placed a task since the last checkpoint.
    #[serde(skip)]
    changed: BTreeSet<ClassId>,
}

impl Queues {
    /// The class of this kind, made when it is new.
    pub fn class(&mut self, key: ClassKey) -> ClassId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id = ClassId(u32::try_from(self.classes.len()).expect("classes come from tasks of definitions, far fewer than 2^32"));
        self.classes.push(Class::new(key.clone()));
        self.by_key.insert(key, id);
        self.changed.insert(id);
        id
    }

    /// The next arrival number.
    pub fn arrive(&mut self) -> u64 {
        self.arrivals_count += 1;
        self.arrivals_count
    }

    /// Whether a task of the class waits.
    pub fn is_waiting(&self, class: ClassId) -> bool {
        self.waiting.contains(&class)
    }

    /// Puts a task in its queue.
    pub fn push(&mut self, class: ClassId, key: QueueKey, task: TaskAt, flow: FlowName) {
        self.waiting.insert(class);
        self.ready_count += usize::from(self.entry(class).queue.insert(key, task, flow));
    }

    /// The turn of a task that comes to the queue of its class now.
    pub fn turn_of(&self, class: ClassId, priority: i32, flow: &FlowName, weight: u32, returns: bool) -> u64 {
        self.classes[class.0 as usize].queue.turn_of(priority, flow, weight, returns)
    }

    /// Takes a task out of its queue; nothing when it is not in it.
    pub fn remove(&mut self, class: ClassId, key: QueueKey) {
        let queue = &mut self.entry(class).queue;
        let removed = queue.remove(key);
        if queue.is_empty() {
            self.waiting.remove(&class);
        }
        if removed == Some(true) {
            self.changed.insert(class);
        }
        self.ready_count -= usize::from(removed.is_some());
    }

    /// The worker for the next task of a class, or `None` when no eligible one has free credit and room.
    ///
    /// `wish` is what the task itself wants; `draw` gives random numbers when they are needed.
    /// Shape: walks workers with free credit until one is eligible; on the ring at most [`RING_STEPS_MAX`] of its points.
    pub fn choose(&self, class: ClassId, workers: &Workers, wish: Wish, mut draw: impl FnMut() -> u64) -> Option<WorkerId> {
        let class = &self.classes[class.0 as usize];
        let is_eligible = |id: &WorkerId| {
            Some(*id) != wish.avoided && workers.get(*id).is_some_and(|worker| class.fits(worker) && class.accepts(*id, worker))
        };
        let may_have = |worker: &WorkerId| workers.has_free_credit(*worker) && is_eligible(worker);
        let sticky = wish.affinity.and_then(|place| workers.on_ring(place).take(RING_STEPS_MAX).find(may_have));
        let mut pick = || workers.on_ring(draw()).take(RING_STEPS_MAX).find(may_have);
        match wish.choice {
            _ if sticky.is_some() => sticky,
            Choice::Random => pick().or_else(|| workers.free_by_load().find(is_eligible)),
            Choice::Locality => wish.near.filter(may_have).or_else(|| workers.free_by_load().find(is_eligible)),
            Choice::Cluster | Choice::LeastLoaded => workers.free_by_load().find(is_eligible),
            Choice::Custom => {
                let asked = workers.free_by_load().filter(is_eligible).take(PREFERRED_MAX);
                let valued = asked.filter_map(|id| Some((class.value_of(id, workers.get(id)?), id)));
                // The first of equals is the least loaded.
                let best = valued.reduce(|best, next| if next.0 > best.0 { next } else { best });
                best.map(|(_, id)| id)
            }
            Choice::PowerOfTwo => {
                let picked = [pick(), pick()];
                let least =
                    picked.into_iter().flatten().min_by_key(|worker| (workers.get(*worker).and_then(|worker| worker.load), *worker));
                least.or_else(|| workers.free_by_load().find(is_eligible))
            }
            Choice::RoundRobin => match class.last {
                None => workers.free(Bound::Unbounded, Bound::Unbounded).find(is_eligible),
                Some(last) => workers
                    .free(Bound::Excluded(last), Bound::Unbounded)
                    .find(is_eligible)
                    .or_else(|| workers.free(Bound::Unbounded, Bound::Included(last)).find(is_eligible)),
            },
        }
    }

    /// Takes out the task that a worker with free credit takes next, of those that it is eligible for: of the greatest priority, unless
    /// a lesser one was passed over too often; then by turn, or between classes by arrival.
    ///
    /// Shape: O(classes with a waiting task), each O(log n).
    pub fn take_for(&mut self, worker: WorkerId, workers: &Workers) -> Option<TaskAt> {
        let (id, worker) = (worker, workers.get(worker)?);
        let eligible = self.waiting.iter().copied().filter(|class| {
            let class = &self.classes[class.0 as usize];
            class.fits(worker) && class.accepts(id, worker)
        });
        let eligible: Vec<ClassId> = eligible.collect();
        let heads = eligible.iter().filter_map(|id| {
            let queue = &self.classes[id.0 as usize].queue;
            let key = queue.next()?;
            // Overdue classes first, of them the one that has waited the longest.
            let rank = if queue.is_overdue() { (0, Reverse(0), queue.oldest()?.1) } else { (1, key.0, key.2) };
            Some((rank, *id, key))
        });
        let (_, class, key) = heads.min()?;
        let task = self.entry(class).queue.serve(key)?;
        self.ready_count -= 1;
        if self.entry(class).queue.is_empty() {
            self.waiting.remove(&class);
        }
        for id in eligible {
            if self.entry(id).queue.passed(key.0) {
                self.changed.insert(id);
            }
        }
        Some(task)
    }

    /// Notes who got the last task of a class.
    pub fn placed(&mut self, class: ClassId, worker: WorkerId) {
        self.entry(class).last = Some(worker);
        self.changed.insert(class);
    }

    /// Tasks in queues.
    pub fn ready_count(&self) -> usize {
        self.ready_count
    }

    /// Whether a worker fulfils the condition of a class.
    pub fn is_met_by(&self, class: ClassId, id: WorkerId, worker: &Worker) -> bool {
        self.classes[class.0 as usize].is_met_by(id, worker)
    }

    /// What a class asks for.
    pub fn key(&self, class: ClassId) -> &ClassKey {
        &self.classes[class.0 as usize].key
    }

    /// Tasks of the class before this place. O(n) in the queue: for people who ask why.
    pub fn ahead_count(&self, class: ClassId, key: QueueKey) -> usize {
        self.classes[class.0 as usize].queue.ahead_count(key)
    }

    /// How many classes there are.
    pub fn classes_count(&self) -> usize {
        self.classes.len()
    }

    /// How many tasks ever arrived.
    pub fn arrivals_count(&self) -> u64 {
        self.arrivals_count
    }

    /// Tells what changed since the last call: number, key and last worker of each class that did. Queues are not told.
    pub fn take_changes(&mut self, out: &mut Vec<Change>, change_of: impl Fn(u32, &ClassKey, Option<WorkerId>, Turns) -> Change) {
        for id in std::mem::take(&mut self.changed) {
            let class = &self.classes[id.0 as usize];
            out.push(change_of(id.0, &class.key, class.last, class.queue.turns()));
        }
    }

    /// Puts a class back, its queue empty. False when it is not the next one.
    pub fn restore_class(&mut self, number: u32, key: ClassKey, last: Option<WorkerId>, turns: &Turns) -> bool {
        if number as usize != self.classes.len() || self.by_key.contains_key(&key) {
            return false;
        }
        let id = self.class(key);
        self.entry(id).last = last;
        self.entry(id).queue.restore(turns);
        true
    }

    /// Goes on counting arrivals after so many.
    pub fn restore_arrivals(&mut self, arrivals_count: u64) {
        self.arrivals_count = arrivals_count;
    }

    /// A checkpoint has all that is here.
    pub fn mark_stored(&mut self) {
        self.changed.clear();
    }

    fn entry(&mut self, class: ClassId) -> &mut Class {
        &mut self.classes[class.0 as usize]
    }
}
