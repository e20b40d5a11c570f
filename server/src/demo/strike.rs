//! The strike: a leader dies in mid-stream, and comes back.
//!
//! In: a running cluster, how far the journal is.  Out: what happened and when, to be read against the acknowledgements.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use distric_model::MessageId;
use serde_json::Value;
use tokio::sync::watch;

use super::submit::Ack;
use crate::cluster::{Cluster, status};
use crate::exit::{Exit, Failure};

/// A node that was started again has this long to learn what it missed.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);
/// The killed node stays away until so much of the stream is acknowledged, or this long.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What was done to whom.
#[derive(Debug)]
pub struct Strike {
    /// The name of the node.
    pub name: String,
    /// Its process that was killed.
    pub pid: i32,
    /// The work groups that it led.
    pub led: BTreeSet<u32>,
    /// How many work groups there are.
    pub work_groups: u32,
    /// When.
    pub killed_at: Instant,
    /// Acknowledgements in the journal by then.
    pub acknowledged_before: u64,
    /// From its new process to its readiness.
    pub restart: Duration,
    /// From its readiness until it had applied everything that was committed by then.
    pub caught_up: Duration,
}

/// Kills the node that leads most work groups once `kill_at` acknowledgements are in the journal; starts it again at `back_at`.
pub async fn strike(cluster: &mut Cluster, mut flushed: watch::Receiver<u64>, kill_at: u64, back_at: u64) -> Result<Strike, Failure> {
    if flushed.wait_for(|flushed| *flushed >= kill_at).await.is_err() {
        return Err(Failure::new(Exit::Environment, "the journal of acknowledgements cannot be written"));
    }
    let (position, led, work_groups) = most_leads(cluster).await?;
    let victim = &cluster.nodes()[position];
    let (name, pid) = (cluster.plan().name_of(position), victim.pid());
    let acknowledged_before = *flushed.borrow();
    let killed_at = Instant::now();
    victim.kill().await;

    // A journal that was closed meanwhile has everything in it.
    let _ = tokio::time::timeout(AWAY_MAX, flushed.wait_for(|flushed| *flushed >= back_at)).await;
    let started_at = Instant::now();
    cluster.start_again(position).await?;
    let restart = started_at.elapsed();
    let caught_up = catch_up(cluster, position).await?;
    Ok(Strike { name, pid, led, work_groups, killed_at, acknowledged_before, restart, caught_up })
}

impl Strike {
    /// From the kill to the first acknowledgement of a message that was sent after it to a group that the dead node led.
    pub fn fail_over(&self, acks: &[Ack]) -> Option<Duration> {
        let is_of_its = |ack: &&Ack| group_of(ack, self.work_groups).is_some_and(|group| self.led.contains(&group));
        let after = acks.iter().filter(|ack| ack.sent_at > self.killed_at).filter(is_of_its);
        after.map(|ack| ack.at - self.killed_at).min()
    }
}

/// The longest time without any acknowledgement.
pub fn longest_pause(acks: &[Ack]) -> Duration {
    acks.windows(2).map(|pair| pair[1].at.saturating_duration_since(pair[0].at)).max().unwrap_or_default()
}

fn group_of(ack: &Ack, work_groups: u32) -> Option<u32> {
    let id = MessageId::from_uuid(ack.message_id).ok()?;
    Some(distric_core::node::group_of(id.slot(), work_groups).0)
}

/// The node that leads most work groups: its position, the groups, and how many there are.
async fn most_leads(cluster: &Cluster) -> Result<(usize, BTreeSet<u32>, u32), Failure> {
    let view = status(&cluster.addresses()[0]).await?;
    let leads = |position: usize| -> BTreeSet<u32> {
        let node = &cluster.nodes()[position].ready["node_id"];
        work_groups(&view).filter(|group| group["leader"] == *node).filter_map(number).collect()
    };
    let position = (0..cluster.nodes().len()).max_by_key(|position| (leads(*position).len(), std::cmp::Reverse(*position))).unwrap_or(0);
    Ok((position, leads(position), u32::try_from(work_groups(&view).count()).unwrap_or(1)))
}

fn work_groups(status: &Value) -> impl Iterator<Item = &Value> {
    status["groups"].as_array().into_iter().flatten().filter(|group| number(group) > Some(0))
}

fn number(group: &Value) -> Option<u32> {
    group["number"].as_u64().and_then(|number| u32::try_from(number).ok())
}

/// Waits until a node has applied what the others had committed when this was called. Returns how long that took.
async fn catch_up(cluster: &Cluster, position: usize) -> Result<Duration, Failure> {
    let began = Instant::now();
    let addresses = cluster.addresses();
    let wanted = status(&addresses[usize::from(position == 0)]).await?;
    loop {
        let view = status(&addresses[position]).await?;
        let applied =
            |group: &Value| work_groups(&view).find(|own| own["number"] == group["number"]).and_then(|own| own["applied_index"].as_u64());
        let behind = work_groups(&wanted).find(|group| applied(group) < group["commit_index"].as_u64());
        let Some(behind) = behind else { return Ok(began.elapsed()) };
        if began.elapsed() >= CAUGHT_UP_WITHIN {
            let name = cluster.plan().name_of(position);
            let message =
                format!("{name} has not caught up {} s after its restart: group {}", CAUGHT_UP_WITHIN.as_secs(), behind["number"]);
            return Err(Failure::new(Exit::FailedOutcome, message));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_model::{Slot, Timestamp};

    #[test]
    fn the_fail_over_counts_what_was_sent_after_the_kill_to_the_dead_nodes_groups() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let ack = |sent: u64, acked: u64, slot: u16| {
            let message_id = MessageId::new(Timestamp::from_us(1), Slot::truncate(slot), 7).uuid();
            Ack { sent_at: at(sent), at: at(acked), message_id }
        };
        let strike = Strike {
            name: "a".to_owned(),
            pid: 1,
            led: BTreeSet::from([1]),
            work_groups: 2,
            killed_at: at(100),
            acknowledged_before: 1,
            restart: Duration::ZERO,
            caught_up: Duration::ZERO,
        };
        // Slot 0 is in group 1, slot 1 in group 2.
        let acks = [ack(90, 101, 0), ack(110, 120, 1), ack(130, 700, 0), ack(140, 710, 0)];
        assert_eq!(strike.fail_over(&acks), Some(Duration::from_millis(600)));
        assert_eq!(strike.fail_over(&acks[..2]), None);
        assert_eq!(longest_pause(&acks), Duration::from_millis(580));
    }
}
