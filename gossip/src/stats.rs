//! Counters of one machine. The rim publishes them.

use crate::refusal::Refusals;

/// What happened since the start. All fields are counts unless the name says bytes. `refusals` says why, `*_refused_count` how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub struct Stats {
    pub datagrams_received_count: u64,
    pub datagrams_sent_count: u64,
    pub datagram_bytes_received: u64,
    pub datagram_bytes_sent: u64,
    pub datagrams_refused_count: u64,
    pub strangers_count: u64,
    pub wrong_target_count: u64,
    pub streams_sent_count: u64,
    pub stream_bytes_sent: u64,
    pub streams_refused_count: u64,
    pub probes_count: u64,
    pub probes_failed_count: u64,
    pub probes_indirect_count: u64,
    pub probes_excused_count: u64,
    pub unasked_answers_count: u64,
    pub late_wakes_count: u64,
    pub suspicions_count: u64,
    pub suspicions_own_count: u64,
    pub refutations_count: u64,
    pub refuted_self_count: u64,
    pub returns_put_off_count: u64,
    pub deaths_doubted_count: u64,
    pub failures_count: u64,
    pub failures_declared_count: u64,
    pub rumours_stale_count: u64,
    pub rumours_refused_count: u64,
    pub rumours_buried_count: u64,
    pub members_refused_count: u64,
    pub urgent_dropped_count: u64,
    pub urgent_throttled_count: u64,
    pub syncs_throttled_count: u64,
    pub reaped_count: u64,
    pub refusals: Refusals,
}
