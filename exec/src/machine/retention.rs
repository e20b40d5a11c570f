//! Retention: finished work goes after its time, or when there is too much of it; oldest first.

use distric_model::{InstanceId, MessageId, Timestamp};
use serde::Serialize;

use super::Machine;
use super::checkpoint::tracked::TrackedQueue;

/// Most instances, messages and keys, each, that one entry forgets.
pub const FORGOTTEN_PER_ENTRY_MAX: usize = 1_024;
/// Times of forgetting are rounded up to this, milliseconds: one tick forgets what a second brought, not one tick each.
pub const SWEEP_GRANULARITY_MS: u64 = 1_000;

/// What is finished, in order of its end.
#[derive(Debug, Default, Serialize)]
pub(super) struct Retention {
    pub finished: TrackedQueue<(Timestamp, InstanceId)>,
    /// Messages that started nothing.
    pub kept: TrackedQueue<(Timestamp, MessageId)>,
}

impl Retention {
    pub fn instance_ended(&mut self, now: Timestamp, id: InstanceId) {
        self.finished.push_back((now, id));
    }

    pub fn message_kept(&mut self, now: Timestamp, id: MessageId) {
        self.kept.push_back((now, id));
    }

    pub fn finished_count(&self) -> u64 {
        self.finished.len() as u64
    }

    pub fn kept_count(&self) -> u64 {
        self.kept.len() as u64
    }

    fn next_due(&self, retention_ms: u64) -> Option<Timestamp> {
        let first = [self.finished.front().map(|(at, _)| *at), self.kept.front().map(|(at, _)| *at)].into_iter().flatten().min();
        first.map(|at| at.plus_ms(retention_ms))
    }
}

impl Machine {
    /// When something may be forgotten, rounded up.
    pub(super) fn next_sweep(&self) -> Option<Timestamp> {
        let history = self.retention.next_due(self.settings.history_retention_ms);
        let keys = self.dedupe.next_due(self.settings.dedupe_window_ms);
        let granularity_us = SWEEP_GRANULARITY_MS * 1_000;
        let round_up = |due: Timestamp| Timestamp::from_us(due.as_us().div_ceil(granularity_us).saturating_mul(granularity_us));
        history.into_iter().chain(keys).chain(self.signals.next_due()).min().map(round_up)
    }

    /// Forgets what is due, within bounds. Returns whether more is.
    pub(super) fn sweep(&mut self) -> bool {
        let (now, retention_ms) = (self.now, self.settings.history_retention_ms);
        let is_due = |at: Timestamp| at.plus_ms(retention_ms) <= now;
        let mut left_count = FORGOTTEN_PER_ENTRY_MAX;
        while left_count > 0 && self.has_finished_beyond(is_due) {
            self.forget_oldest_instance();
            left_count -= 1;
        }
        while left_count > 0 && self.has_kept_beyond(is_due) {
            self.forget_oldest_kept_message();
            left_count -= 1;
        }
        let more_keys = self.dedupe.forget(now, self.settings.dedupe_window_ms, FORGOTTEN_PER_ENTRY_MAX);
        let more_signals = self.forget_due_signals(now, FORGOTTEN_PER_ENTRY_MAX);
        more_keys || more_signals || self.has_finished_beyond(is_due) || self.has_kept_beyond(is_due)
    }

    fn has_finished_beyond(&self, is_due: impl Fn(Timestamp) -> bool) -> bool {
        let too_many = self.retention.finished_count() > self.settings.history_instances_max;
        too_many || self.retention.finished.front().is_some_and(|(at, _)| is_due(*at))
    }

    fn has_kept_beyond(&self, is_due: impl Fn(Timestamp) -> bool) -> bool {
        let too_many = self.retention.kept_count() > self.settings.history_messages_max;
        too_many || self.retention.kept.front().is_some_and(|(at, _)| is_due(*at))
    }

    /// Forgets the instance that ended first, and its message with the last of its instances.
    pub(super) fn forget_oldest_instance(&mut self) {
        let Some((at, id)) = self.retention.finished.pop_front() else { return };
        // One that was retried meanwhile is in the queue again, with its later end, or has not ended.
        if self.instances.get(&id).is_none_or(|instance| instance.ended_at != Some(at)) {
            return;
        }
        // A child goes after its parent, which may still be taken back to where it failed. It is in the queue again behind it.
        let parent = self.instances.get(&id).and_then(super::instances::Instance::parent);
        if parent.is_some_and(|key| self.instances.contains_key(&key.task.instance)) {
            return;
        }
        let Some(instance) = self.instances.remove(&id) else { return };
        self.incidents.forget(id);
        match parent {
            Some(key) => self.loops.forget_round(key, id),
            None => self.use_pins(&instance.program.namespace, instance.origin.family.as_deref(), false),
        }
        let with_rounds = (0..).zip(&instance.program.steps).filter(|(_, step)| step.has_rounds);
        with_rounds.for_each(|(index, _)| self.loops.forget(super::instances::TaskAt { instance: id, index }));
        self.state_bytes -= instance.bytes;
        self.texts_gone.extend(instance.stored_texts.iter().map(|(kind, index, _)| (id, *kind, *index)));
        self.programs.unused(&instance.program);
        let message = instance.origin.message.and_then(|message| self.messages.get_mut_derived(&message));
        let Some(message) = message else { return };
        message.instances_left_count -= 1;
        if message.instances_left_count == 0 {
            self.state_bytes -= message.bytes;
            let id = message.id;
            self.messages.remove(&id);
        }
    }

    /// Forgets the message that started nothing and came first.
    pub(super) fn forget_oldest_kept_message(&mut self) {
        let Some((_, id)) = self.retention.kept.pop_front() else { return };
        if let Some(message) = self.messages.remove(&id) {
            self.state_bytes -= message.bytes;
        }
    }
}
