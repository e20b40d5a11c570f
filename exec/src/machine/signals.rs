//! Signals: what tasks of type `wait_for_signal` wait for, by name and key.
//!
//! A signal goes to the task that has waited for it the longest; without one it is kept for its time, so that it may come before
//! its task waits. A key has a home group, by its slot, where the signals and the waiting tasks of all groups meet: waiting and delivery
//! travel as outbox records. Without a key a task waits for signals to its own instance, which never leave its group.
//! Invariant: a signal completes at most one task. One whose task has ended on the way comes back, and waits for the next.
//! Invariant: for one key there are waiting tasks or kept signals, never both.
//! Source: Zeebe's message correlation (subscriptions at the partition of the correlation key). Start reading at [`Machine::signal`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::limits::{INSTANCE_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, TASK_OUTPUT_BYTES_MAX};
use distric_model::{Change, InstanceId, Namespace, Slot, TaskId, Timestamp};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Machine;
use super::checkpoint::record::encode;
use super::checkpoint::tracked::Tracked;
use super::dedupe::{Key, Outcome};
use super::effects::{Effect, OutBody, Refusal, RefusalCode, Reply};
use super::instances::{Failure, TaskAt};
use super::state::State;
use super::turn::Turn;
use crate::command::{OutResult, Signal};
use crate::definition::Work;
use crate::octets::Octets;

/// How long a signal is kept that does not say, milliseconds.
pub const SIGNAL_TTL_MS_DEFAULT: u64 = 24 * 60 * 60 * 1_000;
/// The longest that a signal is kept, milliseconds.
pub const SIGNAL_TTL_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Most signals that are kept under one name and key.
pub const SIGNALS_PER_KEY_MAX: usize = 1_024;
/// What a kept signal is charged beside its content.
const SIGNAL_BYTES_AROUND: u64 = 240;
/// When a key that is full may be asked again, milliseconds.
const SIGNALS_FULL_RETRY_MS: u64 = 1_000;

/// Where signals and waiting tasks meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SignalKey {
    /// Whose signal it is.
    pub namespace: Namespace,
    /// The key; the id of an instance for signals without one.
    pub key: Arc<str>,
    /// The signal's name.
    pub name: Arc<str>,
}

/// A task that waits, here or in another group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Waiter {
    pub key: Arc<SignalKey>,
    pub task: TaskId,
    /// Which of its lives: records of an earlier one may come late.
    pub round: u32,
}

/// A signal that nobody waits for yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub key: Arc<SignalKey>,
    pub payload: Octets,
    pub expires_at: Timestamp,
}

impl Kept {
    fn bytes(&self) -> u64 {
        (self.payload.len() + self.key.name.len() + self.key.key.len()) as u64 + SIGNAL_BYTES_AROUND
    }
}

/// The signals and waiting tasks of a group, both numbered in the order in which they came.
#[derive(Debug, Default, Serialize)]
pub(super) struct Signals {
    waiters: Tracked<u64, Waiter>,
    kept: Tracked<u64, Kept>,
    #[serde(skip)]
    waiting: ByKey,
    #[serde(skip)]
    waiter_of: BTreeMap<TaskId, u64>,
    #[serde(skip)]
    keeping: ByKey,
    #[serde(skip)]
    by_expiry: BTreeSet<(Timestamp, u64)>,
}

impl Signals {
    /// The signals of a checkpoint.
    pub fn restored(waiters: BTreeMap<u64, Waiter>, kept: BTreeMap<u64, Kept>) -> Self {
        let mut signals = Self::default();
        waiters.into_iter().for_each(|(number, waiter)| signals.wait(number, waiter));
        kept.into_iter().for_each(|(number, kept)| signals.keep(number, kept));
        signals.waiters.mark_stored();
        signals.kept.mark_stored();
        signals
    }

    /// Tells what changed since the last call.
    pub fn take_changes(&mut self, out: &mut Vec<Change>, waiter_key: impl Fn(&u64) -> Vec<u8>, kept_key: impl Fn(&u64) -> Vec<u8>) {
        self.waiters.take_changes(out, waiter_key, |_, waiter, _| encode(waiter));
        self.kept.take_changes(out, kept_key, |_, kept, _| encode(kept));
    }

    fn wait(&mut self, number: u64, waiter: Waiter) {
        let known = self.waiter_of.get(&waiter.task).and_then(|number| self.waiters.get(number));
        if known.is_some_and(|known| known.round > waiter.round) {
            return;
        }
        self.forget_waiter(waiter.task, waiter.round);
        self.waiting.insert(&waiter.key, number);
        self.waiter_of.insert(waiter.task, number);
        self.waiters.insert(number, waiter);
    }

    /// Takes out the task that has waited the longest.
    fn next_waiter(&mut self, key: &Arc<SignalKey>) -> Option<TaskId> {
        let number = self.waiting.first(key)?;
        let task = self.waiters.get(&number)?.task;
        self.forget_waiter(task, u32::MAX);
        Some(task)
    }

    /// Forgets a task that waits in this round or an earlier one.
    fn forget_waiter(&mut self, task: TaskId, round: u32) {
        let Some(number) = self.waiter_of.get(&task).copied() else { return };
        if self.waiters.get(&number).is_some_and(|waiter| waiter.round > round) {
            return;
        }
        self.waiter_of.remove(&task);
        let Some(waiter) = self.waiters.remove(&number) else { return };
        self.waiting.remove(&waiter.key, number);
    }

    fn keep(&mut self, number: u64, kept: Kept) {
        self.keeping.insert(&kept.key, number);
        self.by_expiry.insert((kept.expires_at, number));
        self.kept.insert(number, kept);
    }

    fn forget_kept(&mut self, number: u64) -> Option<Kept> {
        let kept = self.kept.remove(&number)?;
        self.by_expiry.remove(&(kept.expires_at, number));
        self.keeping.remove(&kept.key, number);
        Some(kept)
    }

    /// Takes out the oldest signal that is kept under a key.
    fn next_kept(&mut self, key: &Arc<SignalKey>) -> Option<Kept> {
        let number = self.keeping.first(key)?;
        self.forget_kept(number)
    }

    fn kept_count(&self, key: &Arc<SignalKey>) -> usize {
        self.keeping.count(key)
    }

    /// When the first signal has been kept long enough.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.by_expiry.first().map(|(at, _)| *at)
    }

    /// Tasks that wait and signals that are kept.
    pub fn counts(&self) -> (usize, usize) {
        (self.waiters.len(), self.kept.len())
    }

    /// Numbers of the signals that are kept under any name of a key.
    fn numbers_under(&self, namespace: &Namespace, key: &Arc<str>) -> Vec<u64> {
        let from = SignalKey { namespace: namespace.clone(), key: key.clone(), name: Arc::from("") };
        self.keeping
            .from(from)
            .take_while(|(found, _)| found.namespace == *namespace && found.key == *key)
            .map(|(_, number)| number)
            .collect()
    }
}

/// Numbers by key, in order: one flat set, because under nearly every key there is one number.
#[derive(Debug, Default)]
struct ByKey {
    numbers: BTreeSet<(Arc<SignalKey>, u64)>,
}

impl ByKey {
    fn insert(&mut self, key: &Arc<SignalKey>, number: u64) {
        self.numbers.insert((key.clone(), number));
    }

    fn remove(&mut self, key: &Arc<SignalKey>, number: u64) {
        self.numbers.remove(&(key.clone(), number));
    }

    fn under(&self, key: &Arc<SignalKey>) -> impl Iterator<Item = u64> {
        self.numbers.range((key.clone(), 0)..=(key.clone(), u64::MAX)).map(|(_, number)| *number)
    }

    fn first(&self, key: &Arc<SignalKey>) -> Option<u64> {
        self.under(key).next()
    }

    /// O(count), which [`SIGNALS_PER_KEY_MAX`] bounds where it is asked for.
    fn count(&self, key: &Arc<SignalKey>) -> usize {
        self.under(key).count()
    }

    fn from(&self, key: SignalKey) -> impl Iterator<Item = (&SignalKey, u64)> {
        self.numbers.range((Arc::new(key), 0)..).map(|(key, number)| (&**key, *number))
    }
}

impl Machine {
    /// A signal comes in: to its task, or to be kept for it.
    pub(super) fn signal(&mut self, turn: &mut Turn<'_>, signal: Signal) -> Reply {
        let key = signal.idempotency_key.as_ref().map(|key| Key::new(&signal.namespace, key));
        if let Some(reply) = key.as_ref().and_then(|key| self.dedupe.recall(key, signal.payload_hash)) {
            self.stats.repeats_count += 1;
            return reply;
        }
        let target = match self.target_of(&signal).and_then(|target| self.check_room(key.as_ref(), turn.now).map(|()| target)) {
            Ok(target) => target,
            Err(refusal) => {
                self.stats.refusals_count += 1;
                return Reply::Refused(refusal);
            }
        };
        if self.signals.kept_count(&target) >= SIGNALS_PER_KEY_MAX {
            self.stats.refusals_count += 1;
            return Reply::Refused(Refusal {
                code: RefusalCode::StorageFull,
                reason: format!("{SIGNALS_PER_KEY_MAX} signals of this name and key are kept, and nobody waits for them"),
                limit: Some(("signals_per_key_max", SIGNALS_PER_KEY_MAX as u64)),
                retry_after_ms: Some(SIGNALS_FULL_RETRY_MS),
            });
        }
        let payload = if signal.payload.is_empty() { Octets::from("null") } else { signal.payload };
        let expires_at = turn.now.plus_ms(signal.ttl_ms.unwrap_or(SIGNAL_TTL_MS_DEFAULT).min(SIGNAL_TTL_MS_MAX));
        let delivered = self.offer(turn, Kept { key: target, payload, expires_at });
        if let Some(key) = key {
            self.dedupe.remember(key, turn.now, signal.payload_hash, Outcome::Signal { delivered });
        }
        Reply::Signalled { delivered, repeat: false }
    }

    /// Where a signal goes. Errors: what is wrong with it, or that its instance cannot get it.
    fn target_of(&self, signal: &Signal) -> Result<Arc<SignalKey>, Refusal> {
        let refused = |code, reason| Refusal { code, reason, limit: None, retry_after_ms: None };
        let within = |what: &str, bytes: usize, bytes_max: usize| {
            let reason = || format!("a {what} of {bytes} bytes is not within 1 and {bytes_max}");
            if (1..=bytes_max).contains(&bytes) { Ok(()) } else { Err(refused(RefusalCode::BadArgument, reason())) }
        };
        within("signal's name", signal.name.len(), NAME_BYTES_MAX)?;
        within("idempotency key", signal.idempotency_key.as_ref().map_or(1, |key| key.len()), KEY_BYTES_MAX)?;
        within("payload", signal.payload.len().max(1), TASK_OUTPUT_BYTES_MAX)?;
        if !signal.payload.is_empty() && serde_json::from_slice::<IgnoredAny>(&signal.payload).is_err() {
            return Err(refused(RefusalCode::BadArgument, "the payload is not JSON".into()));
        }
        let key: Arc<str> = match (&signal.key, signal.instance) {
            (Some(key), None) => {
                within("key", key.len(), KEY_BYTES_MAX)?;
                key.clone()
            }
            (None, Some(id)) => match self.instances.get(&id).filter(|instance| instance.program.namespace == signal.namespace) {
                None => return Err(refused(RefusalCode::NotFound, format!("there is no instance {id}"))),
                Some(instance) if instance.status.is_end() => {
                    return Err(refused(RefusalCode::Conflict, format!("the instance has ended: {}", instance.status.as_str())));
                }
                Some(_) => own_key(id),
            },
            _ => return Err(refused(RefusalCode::BadArgument, "a signal has a key or an instance, and not both".into())),
        };
        Ok(Arc::new(SignalKey { namespace: signal.namespace.clone(), key, name: signal.name.clone() }))
    }

    /// Gives a signal to the first task that waits for it, else keeps it. Returns whether a task got it, or has it on its way.
    fn offer(&mut self, turn: &mut Turn<'_>, signal: Kept) -> bool {
        while let Some(task) = self.signals.next_waiter(&signal.key) {
            turn.transitions += 1;
            match self.locate(task) {
                Some(at) if self.awaits_signal(at) => {
                    self.complete_wait(turn, at, signal.payload);
                    return true;
                }
                Some(_) => {}
                None => {
                    self.send_out(turn, task.slot(), OutBody::Deliver { task, signal: Box::new(signal.into()) }, None);
                    return true;
                }
            }
        }
        self.state_bytes += signal.bytes();
        let number = turn.mint(1);
        self.signals.keep(number, signal);
        false
    }

    /// A `wait_for_signal` begins: with a signal that is kept, or it waits.
    pub(super) fn wait_for_signal(&mut self, turn: &mut Turn<'_>, at: TaskAt, name: Arc<str>, key: Option<Arc<str>>) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        let namespace = instance.program.namespace.clone();
        let is_keyed = key.is_some();
        let key = SignalKey { namespace, key: key.unwrap_or_else(|| own_key(at.instance)), name };
        let said = Octets::from(&json!({ "name": &*key.name, "key": &*key.key }));
        self.with_instance(at.instance, |instance| {
            instance.bytes += said.len() as u64;
            instance.tasks[usize::from(at.index)].config = Some(said);
        });
        let round = self.task_mut(at).map_or(0, |task| task.rerun);
        if is_keyed {
            let slot = Slot::of(key.namespace.as_str(), key.key.as_bytes());
            let seq = self.send_out(turn, slot, OutBody::Await { key, task: at.id(), round }, Some(at));
            if let Some(task) = self.task_mut(at) {
                task.out_seq = Some(seq);
            }
        } else {
            self.await_here(turn, key, at.id(), round);
        }
    }

    /// A task, here or in another group, waits for a key whose home is here.
    pub(super) fn await_here(&mut self, turn: &mut Turn<'_>, key: SignalKey, task: TaskId, round: u32) {
        let number = turn.mint(1);
        let key = Arc::new(key);
        self.signals.wait(number, Waiter { key: key.clone(), task, round });
        // Kept signals meet whoever waits: one of them at most finds its task gone.
        if let Some(kept) = self.signals.next_kept(&key) {
            self.state_bytes -= kept.bytes();
            self.offer(turn, kept);
        }
    }

    /// A task does not wait for a key here any more.
    pub(super) fn forget_waiter(&mut self, task: TaskId, round: u32) {
        self.signals.forget_waiter(task, round);
    }

    /// A signal for a task of this group, from the home of its key. Refused when the task does not wait any more.
    pub(super) fn take_delivery(&mut self, turn: &mut Turn<'_>, seq: u64, task: TaskId, payload: Octets) -> OutResult {
        match self.locate(task).filter(|at| self.awaits_signal(*at)) {
            Some(at) => {
                // Remembered with the task: the home asks again when it did not hear the answer.
                if let Some(task) = self.task_mut(at) {
                    task.settled_token = seq;
                }
                self.complete_wait(turn, at, payload);
                OutResult::Done
            }
            None => not_waiting(),
        }
    }

    /// The answer to a record that was applied before. Only a delivery has two answers, and its task knows which; when that is forgotten
    /// as well, the signal is taken for delivered: at most once goes before at least once.
    pub(super) fn seen_relay(&self, seq: u64, body: &OutBody) -> OutResult {
        let task = match body {
            OutBody::Deliver { task, .. } => task,
            OutBody::Told(told) => return self.seen_told(told),
            _ => return OutResult::Done,
        };
        let Some(at) = self.locate(*task) else { return OutResult::Done };
        let settled = self.instances.get(&at.instance).map(|instance| instance.tasks[usize::from(at.index)].settled_token);
        if settled == Some(seq) { OutResult::Done } else { not_waiting() }
    }

    /// The task of a signal on its way had ended: it goes to the next, or is kept for what is left of its time.
    pub(super) fn signal_came_back(&mut self, turn: &mut Turn<'_>, signal: super::effects::Sent) {
        let signal = Kept { key: Arc::new(signal.key), payload: signal.payload, expires_at: signal.expires_at };
        self.offer(turn, signal);
    }

    /// The home of a key knows that a task waits. When the task has ended meanwhile, it is told that as well.
    pub(super) fn await_acknowledged(&mut self, turn: &mut Turn<'_>, at: TaskAt, key: &SignalKey, task: TaskId, round: u32) {
        let waits = self.awaits_signal(at) && at.id() == task && self.task_mut(at).is_some_and(|task| task.rerun == round);
        if waits {
            if let Some(task) = self.task_mut(at) {
                task.out_seq = None;
            }
        } else {
            let slot = Slot::of(key.namespace.as_str(), key.key.as_bytes());
            self.send_out(turn, slot, OutBody::StopAwaiting { task, round }, None);
        }
    }

    /// A task stops waiting without a signal.
    pub(super) fn stop_awaiting(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        if !self.awaits_signal(at) {
            return;
        }
        let Some((key, is_keyed)) = self.awaited(at) else { return };
        // One whose home has not acknowledged it is taken back when it does.
        let Some((is_acknowledged, round)) = self.task_mut(at).map(|task| (task.out_seq.is_none(), task.rerun)) else { return };
        match is_keyed {
            true if is_acknowledged => {
                let slot = Slot::of(key.namespace.as_str(), key.key.as_bytes());
                self.send_out(turn, slot, OutBody::StopAwaiting { task: at.id(), round }, None);
            }
            true => {}
            false => self.signals.forget_waiter(at.id(), round),
        }
    }

    /// A `wait_for_signal` got none in time.
    pub(super) fn time_out_wait(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        self.stop_awaiting(turn, at);
        let what = self.awaited(at).map_or_else(String::new, |(key, _)| format!(" `{}` for key `{}`", key.name, key.key));
        let failure = Failure::new("timed_out", &format!("no signal{what} in time"));
        if let Some(task) = self.task_mut(at) {
            task.timer = None;
        }
        self.fail_for_good(turn, at, failure, State::TimedOut);
    }

    /// What a waiting task waits for, and whether by a key of its own.
    pub(super) fn awaited(&self, at: TaskAt) -> Option<(SignalKey, bool)> {
        let instance = self.instances.get(&at.instance)?;
        let said = instance.tasks.get(usize::from(at.index))?.config.as_ref()?.to_json()?;
        let text = |member: &str| said.get(member)?.as_str().map(Arc::from);
        let key = SignalKey { namespace: instance.program.namespace.clone(), key: text("key")?, name: text("name")? };
        let is_keyed = matches!(&instance.program.tasks[usize::from(at.index)].work, Work::WaitForSignal { key: Some(_), .. });
        Some((key, is_keyed))
    }

    /// Whether a task waits for a signal now.
    pub(super) fn awaits_signal(&self, at: TaskAt) -> bool {
        let Some(instance) = self.instances.get(&at.instance) else { return false };
        let is_running = instance.tasks.get(usize::from(at.index)).is_some_and(|task| task.status == State::Running);
        is_running && matches!(instance.program.tasks[usize::from(at.index)].work, Work::WaitForSignal { .. })
    }

    fn complete_wait(&mut self, turn: &mut Turn<'_>, at: TaskAt, payload: Octets) {
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let bytes = instance.bytes;
        let timer = instance.tasks[usize::from(at.index)].timer.take();
        self.timers.remove(timer);
        if bytes + payload.len() as u64 > INSTANCE_BYTES_MAX as u64 {
            let message = format!("with the signal the instance would hold more than {INSTANCE_BYTES_MAX} bytes");
            return self.fail_for_good(turn, at, Failure::new("instance_too_large", &message), State::Failed);
        }
        self.complete(turn, at, payload);
    }

    /// Forgets what was sent to an instance that has ended.
    pub(super) fn forget_signals_to(&mut self, id: InstanceId) {
        if self.signals.kept.len() == 0 {
            return;
        }
        let Some(namespace) = self.instances.get(&id).map(|instance| instance.program.namespace.clone()) else { return };
        for number in self.signals.numbers_under(&namespace, &own_key(id)) {
            self.forget_signal(number);
        }
    }

    /// Forgets at most `count_max` signals that were kept long enough. Returns whether more were.
    pub(super) fn forget_due_signals(&mut self, now: Timestamp, count_max: usize) -> bool {
        for _ in 0..count_max {
            match self.signals.by_expiry.first() {
                Some((at, number)) if *at <= now => self.forget_signal(*number),
                _ => return false,
            }
        }
        self.signals.next_due().is_some_and(|due| due <= now)
    }

    fn forget_signal(&mut self, number: u64) {
        if let Some(kept) = self.signals.forget_kept(number) {
            self.state_bytes -= kept.bytes();
        }
    }

    /// Adds an outbox record. Returns its number.
    pub(super) fn send_out(&mut self, turn: &mut Turn<'_>, to: Slot, body: OutBody, task: Option<TaskAt>) -> u64 {
        let out = self.outbox.add(to, body, task);
        self.state_bytes += super::outbox::out_bytes(&out);
        let seq = out.seq;
        turn.out.push(Effect::Out(out));
        seq
    }
}

impl From<Kept> for super::effects::Sent {
    fn from(kept: Kept) -> Self {
        Self { key: Arc::unwrap_or_clone(kept.key), payload: kept.payload, expires_at: kept.expires_at }
    }
}

fn not_waiting() -> OutResult {
    OutResult::Refused { code: "not_waiting".into(), reason: "the task does not wait any more".into() }
}

/// The key of signals to one instance.
fn own_key(id: InstanceId) -> Arc<str> {
    Arc::from(id.to_string())
}
