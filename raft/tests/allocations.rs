//! What a step may cost beside time: no allocation, once everything has grown to its size and its driver gives back what it used.

#[path = "../../wire/tests/support/counting_allocator_unsafe.rs"]
mod counting_allocator_unsafe;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use counting_allocator_unsafe::{Counting, allocations};
use distric_model::{GroupId, Instant, NodeId, Slot, Timestamp};
use distric_raft::{Body, Config, Input, LogIndex, Membership, Message, Outputs, Raft, Recovered};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Three replicas whose messages arrive at once and whose writes are durable at once.
struct Trio {
    ids: Vec<NodeId>,
    nodes: Vec<Raft>,
    queue: VecDeque<(usize, NodeId, Message)>,
    out: Outputs,
    now: Instant,
    handed_out: u64,
    step_allocations: u64,
}

impl Trio {
    fn new() -> Self {
        let ids: Vec<NodeId> = (1..=3).map(|number| NodeId::new(Timestamp::from_us(1), Slot::truncate(0), number)).collect();
        let founding = Recovered::founding(&Membership::new(ids.clone(), Vec::new()).unwrap());
        let begin = Instant::from_us(1_000_000);
        let node = |id: &NodeId| {
            let mut config = Config::new(*id, GroupId(1));
            config.eager_commit = true;
            Raft::new(config, founding.clone(), LogIndex(0), 7, begin).unwrap()
        };
        let nodes = ids.iter().map(node).collect();
        let (queue, out, now) = (VecDeque::new(), Outputs::default(), begin.plus_ms(60_000));
        let mut trio = Self { ids, nodes, queue, out, now, handed_out: 0, step_allocations: 0 };
        trio.step(0, Input::Tick);
        trio.deliver();
        assert!(trio.nodes[0].is_leader());
        trio
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            self.out.clear();
            let (count, _) = allocations(|| self.nodes[at].step(self.now, input, &mut self.out));
            self.step_allocations += count;
            if at == 0 {
                self.handed_out += self.out.committed.len() as u64;
            }
            for (to, message) in self.out.sends.drain(..) {
                let to = self.ids.iter().position(|id| *id == to).unwrap();
                self.queue.push_back((to, self.ids[at], message));
            }
            next = self.out.persist.take().map(|persist| {
                self.out.give_back(persist.entries);
                Input::Persisted { ticket: persist.ticket }
            });
        }
    }

    /// Every other append arrives twice, the second time as a copy that its receiver knows.
    fn deliver(&mut self) {
        let mut count = 0;
        while let Some((to, from, message)) = self.queue.pop_front() {
            count += 1;
            let again = (count % 2 == 0 && matches!(message.body, Body::Append { .. })).then(|| message.clone());
            self.step(to, Input::Message { from, message });
            if let Some(message) = again {
                self.step(to, Input::Message { from, message });
            }
        }
    }

    fn commit(&mut self, count: u64) {
        let wanted = self.handed_out + count;
        let commands = (0..count).map(|_| command()).collect();
        self.step(0, Input::Propose { commands });
        self.deliver();
        assert_eq!(self.handed_out, wanted);
    }

    /// As after a checkpoint that covers nearly everything.
    fn compact(&mut self) {
        for at in 0..3 {
            let upto = LogIndex(self.nodes[at].commit_index().0 - 8);
            self.step(at, Input::Compacted { upto });
        }
    }
}

/// Cloning it counts a reference, as for what came out of a receive buffer.
fn command() -> Bytes {
    BytesMut::from(&[7; 256][..]).split().freeze()
}

#[test]
fn a_step_in_steady_state_allocates_nothing() {
    for batch in [1, 3, 64, 1_024] {
        let mut trio = Trio::new();
        let rounds = |trio: &mut Trio| {
            for _ in 0..8 {
                (0..8).for_each(|_| trio.commit(batch));
                trio.compact();
            }
        };
        rounds(&mut trio);
        trio.step_allocations = 0;
        rounds(&mut trio);
        assert_eq!(trio.step_allocations, 0, "batch {batch}");
    }
}
