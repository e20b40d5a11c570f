//! Barriers: a question is answered only once the machine here has applied what was committed when the question came.
//!
//! So any node answers, and an answer is never older than what was acknowledged to anybody before the question (linearizable reads;
//! Ongaro 2014, section 6.4). The raft core finds out how far that is; see `consensus/reads.rs`.

use std::collections::BTreeMap;

use distric_model::{GroupId, Slot};
use distric_wire::Code;

use super::answers::ELECTION_RETRY_MS;
use super::{Partition, Shard, ShardOutputs};
use crate::node::letters::{AskId, ConsensusLetter};
use crate::node::machine_clock::Now;
use crate::node::owner_of;
use crate::node::question::{Answer, Question};
use crate::node::refusal::Refusal;

/// Most questions that wait on one shard: those of all shards of the node.
pub const BARRIERS_MAX: usize = 65_536;

/// Questions that wait for machines of this shard.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    next: u64,
    open: BTreeMap<u64, Barrier>,
}

#[derive(Debug)]
struct Barrier {
    from: AskId,
    question: Question,
    /// Where each group has to be; `None` as long as nobody has said.
    groups: BTreeMap<GroupId, Option<u64>>,
}

impl Barriers {
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Shard {
    /// The groups of this shard that a question is about; none: it needs no barrier.
    pub(super) fn groups_of(&self, question: &Question) -> Vec<GroupId> {
        let of = |slot: Slot| vec![self.group_of_slot(slot)];
        match question {
            Question::Recall { group, .. } => vec![*group],
            Question::Message(_, id) => of(id.slot()),
            Question::Instance(_, id) => of(id.slot()),
            Question::Task(_, id) | Question::WhyTask(_, id) => of(id.slot()),
            Question::WhyInstance(_, id) | Question::Incident(_, id) => of(id.slot()),
            Question::Gate(key, _) => of(key.slot()),
            Question::Follow { instance, .. } => of(instance.slot()),
            Question::Tasks(_) | Question::Instances(_) | Question::Incidents(_) | Question::Schedules(_) => {
                let work_groups = self.cluster.map_or(0, |(_, work_groups)| work_groups);
                (1..=work_groups).map(GroupId).filter(|group| owner_of(*group, self.options.count) == self.options.index).collect()
            }
            Question::Catalog(_) => vec![GroupId::META],
            Question::Workers | Question::RuleStatistics(_) | Question::Trial { .. } | Question::Status | Question::Change(_) => Vec::new(),
        }
    }

    /// Keeps a question until its groups have applied what is committed now.
    pub(super) fn wait_for(&mut self, groups: Vec<GroupId>, from: AskId, question: Question, out: &mut ShardOutputs) {
        if self.barriers.open.len() >= BARRIERS_MAX {
            let refusal = Refusal::new(Code::Overloaded, "too many questions wait").limit("barriers_max", BARRIERS_MAX as u64);
            return Self::answer(from, Answer::Rejected(Box::new(refusal)), out);
        }
        let number = self.barriers.next;
        self.barriers.next += 1;
        let id = AskId { shard: self.options.index, number };
        out.to_consensus.extend(groups.iter().map(|group| ConsensusLetter::Read { group: *group, id }));
        let groups = groups.into_iter().map(|group| (group, None)).collect();
        self.barriers.open.insert(number, Barrier { from, question, groups });
    }

    /// The raft core says how far a group has to be for a question.
    pub(super) fn on_read_ready(&mut self, now: Now, number: u64, group: GroupId, index: Option<u64>, out: &mut ShardOutputs) {
        let Some(barrier) = self.barriers.open.get_mut(&number) else { return };
        let Some(index) = index else {
            let barrier = self.barriers.open.remove(&number).expect("looked up above");
            let refusal = Refusal::new(Code::Unavailable, format!("{group} has no leader that can be reached"));
            return Self::answer(barrier.from, Answer::Rejected(Box::new(refusal.retry_after_ms(ELECTION_RETRY_MS))), out);
        };
        barrier.groups.insert(group, Some(index));
        self.release(now, number, out);
    }

    /// A group has applied more.
    pub(super) fn release_barriers(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        if self.barriers.is_empty() {
            return;
        }
        let touched: Vec<u64> =
            self.barriers.open.iter().filter(|(_, barrier)| barrier.groups.contains_key(&group)).map(|(number, _)| *number).collect();
        for number in touched {
            self.release(now, number, out);
        }
    }

    fn release(&mut self, now: Now, number: u64, out: &mut ShardOutputs) {
        let Some(barrier) = self.barriers.open.get(&number) else { return };
        if barrier.groups.iter().all(|(group, index)| index.is_some_and(|index| self.has_applied(*group, index))) {
            let barrier = self.barriers.open.remove(&number).expect("looked up above");
            self.answer_question(now, barrier.from, barrier.question, out);
        }
    }

    fn has_applied(&self, group: GroupId, index: u64) -> bool {
        if group == GroupId::META {
            return self.meta.as_ref().is_some_and(|seat| seat.applied_index() >= index);
        }
        self.partitions.get(&group).map_or(index == 0, |partition: &Partition| partition.has_applied(index))
    }
}
