//! This project's side.

use std::collections::VecDeque;

use bytes::BytesMut;
use distric_model::{GroupId, Instant, NodeId, Slot, Timestamp};
use distric_raft::{Config, Input, LogIndex, Membership, Message, Outputs, Raft, Recovered};

use super::counting_unsafe::allocations;
use super::{COMPACT_EVERY, ENTRY_BYTES, Side};

pub struct Ours {
    ids: Vec<NodeId>,
    nodes: Vec<Raft>,
    handed_out: Vec<u64>,
    compacted: u64,
    queue: VecDeque<(usize, NodeId, Message)>,
    out: Outputs,
    now: Instant,
    step_allocations: u64,
}

impl Ours {
    /// How often the steps of the three replicas allocated; what proposals are made of is the caller's.
    pub fn step_allocations(&self) -> u64 {
        self.step_allocations
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            self.out.clear();
            let before = allocations();
            self.nodes[at].step(self.now, input, &mut self.out);
            self.step_allocations += allocations() - before;
            self.handed_out[at] += self.out.committed.len() as u64;
            for (to, message) in self.out.sends.drain(..) {
                let to = self.ids.iter().position(|id| *id == to).expect("a replica");
                self.queue.push_back((to, self.ids[at], message));
            }
            assert!(self.out.load.is_none(), "everything is in memory");
            // The log in memory is all there is: durable at once.
            next = self.out.persist.take().map(|persist| {
                self.out.give_back(persist.entries);
                Input::Persisted { ticket: persist.ticket }
            });
        }
    }

    fn deliver(&mut self) {
        while let Some((to, from, message)) = self.queue.pop_front() {
            self.step(to, Input::Message { from, message });
        }
    }
}

impl Side for Ours {
    fn new() -> Self {
        let ids: Vec<NodeId> = (1..=3).map(|number| NodeId::new(Timestamp::from_us(1), Slot::truncate(0), number)).collect();
        let founding = Recovered::founding(&Membership::new(ids.clone(), Vec::new()).expect("three voters"));
        let mut now = Instant::from_us(1_000_000);
        let node = |id: &NodeId| {
            let mut config = Config::new(*id, GroupId(1));
            config.eager_commit = true;
            config.aligned_heartbeats = true;
            Raft::new(config, founding.clone(), LogIndex(0), 7, now).expect("a founding state")
        };
        let nodes = ids.iter().map(node).collect();
        now = now.plus_ms(60_000);
        let mut side = Self { ids, nodes, handed_out: vec![0; 3], compacted: 0, queue: VecDeque::new(), out: Outputs::default(), now, step_allocations: 0 };
        side.step(0, Input::Tick);
        side.deliver();
        assert!(side.nodes[0].is_leader(), "the first to ask is elected");
        side
    }

    fn commit(&mut self, count: usize) {
        let commands = (0..count).map(|_| BytesMut::from(&[7; ENTRY_BYTES][..]).split().freeze()).collect();
        let wanted = self.handed_out[0] + count as u64;
        self.step(0, Input::Propose { commands });
        self.deliver();
        // A follower may learn of the last commit with the next heartbeat only.
        assert!(self.handed_out[0] == wanted, "{} of {wanted}", self.handed_out[0]);
        let least = *self.handed_out.iter().min().expect("three");
        if least > self.compacted + COMPACT_EVERY {
            self.compacted = least;
            for at in 0..3 {
                self.step(at, Input::Compacted { upto: LogIndex(least) });
            }
        }
    }
}
