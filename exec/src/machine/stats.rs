//! Stats: plain counters of one machine. Not part of the replicated state; a restarted replica counts again from its replay.

/// Counters since this replica started, and gauges of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands applied.
    pub commands_count: u64,
    /// Commands that meant nothing here: unknown workers, old generations, impossible contents.
    pub commands_ignored_count: u64,
    /// Messages taken in.
    pub messages_count: u64,
    /// Messages answered from an earlier send.
    pub repeats_count: u64,
    /// Messages and starts refused.
    pub refusals_count: u64,
    /// Instances started.
    pub instances_started_count: u64,
    /// Instances completed.
    pub instances_completed_count: u64,
    /// Instances failed, timed out or cancelled.
    pub instances_failed_count: u64,
    /// Instances that never began: debounced, batched, one too many for their key.
    pub instances_skipped_count: u64,
    /// Starts that the keys of this group turned away.
    pub starts_turned_away_count: u64,
    /// Ended instances taken back to where they failed.
    pub reruns_count: u64,
    /// Attempts dispatched.
    pub dispatches_count: u64,
    /// Attempts that failed or timed out.
    pub failures_count: u64,
    /// Attempts lost with their worker.
    pub losses_count: u64,
    /// Retries scheduled.
    pub retries_count: u64,
    /// Results rejected because another attempt had taken their place.
    pub stale_results_count: u64,
    /// Transitions made.
    pub transitions_count: u64,
    /// Entries that left work for a `Continue`.
    pub continues_count: u64,
    /// Instances that have not ended, now.
    pub instances_open: u64,
    /// Instances in history, now.
    pub instances_finished: u64,
    /// Messages held, now.
    pub messages_held: u64,
    /// Tasks ready and not placed, now.
    pub tasks_ready: u64,
    /// Tasks with a worker, now.
    pub tasks_assigned: u64,
    /// Workers up, now.
    pub workers_up: u64,
    /// Timers set, now.
    pub timers: u64,
    /// Outbox records not acknowledged, now.
    pub out_pending: u64,
    /// Tasks, of all groups, that wait here for a signal, now.
    pub signals_awaited: u64,
    /// Signals kept that nobody waits for, now.
    pub signals_kept: u64,
    /// Instances that failed and were not retried, now.
    pub incidents_open: u64,
    /// Schedules that start workflows, now.
    pub schedules: u64,
    /// Keys of starts that are in use, now.
    pub keys_open: u64,
    /// Starts, of all groups, that wait at the keys of this group, now.
    pub starts_waiting: u64,
    /// Idempotency keys remembered, now.
    pub dedupe_keys: u64,
    /// Bytes of state by this room's own accounting, now.
    pub state_bytes: u64,
}

impl Stats {
    /// All values with their names, in a fixed order: counters end in `_total`.
    pub fn rows(&self) -> [(&'static str, u64); 34] {
        [
            ("exec_commands_total", self.commands_count),
            ("exec_commands_ignored_total", self.commands_ignored_count),
            ("exec_messages_total", self.messages_count),
            ("exec_repeats_total", self.repeats_count),
            ("exec_refusals_total", self.refusals_count),
            ("exec_instances_started_total", self.instances_started_count),
            ("exec_instances_completed_total", self.instances_completed_count),
            ("exec_instances_failed_total", self.instances_failed_count),
            ("exec_instances_skipped_total", self.instances_skipped_count),
            ("exec_starts_turned_away_total", self.starts_turned_away_count),
            ("exec_reruns_total", self.reruns_count),
            ("exec_dispatches_total", self.dispatches_count),
            ("exec_failures_total", self.failures_count),
            ("exec_losses_total", self.losses_count),
            ("exec_retries_total", self.retries_count),
            ("exec_stale_results_total", self.stale_results_count),
            ("exec_transitions_total", self.transitions_count),
            ("exec_continues_total", self.continues_count),
            ("exec_instances_open", self.instances_open),
            ("exec_instances_finished", self.instances_finished),
            ("exec_messages_held", self.messages_held),
            ("exec_tasks_ready", self.tasks_ready),
            ("exec_tasks_assigned", self.tasks_assigned),
            ("exec_workers_up", self.workers_up),
            ("exec_timers", self.timers),
            ("exec_out_pending", self.out_pending),
            ("exec_signals_awaited", self.signals_awaited),
            ("exec_signals_kept", self.signals_kept),
            ("exec_incidents_open", self.incidents_open),
            ("exec_schedules", self.schedules),
            ("exec_keys_open", self.keys_open),
            ("exec_starts_waiting", self.starts_waiting),
            ("exec_dedupe_keys", self.dedupe_keys),
            ("exec_state_bytes", self.state_bytes),
        ]
    }
}
