//! raft-rs, driven as its example drives it.

use raft::prelude::{ConfState, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode};

use super::{COMPACT_EVERY, ENTRY_BYTES, Side};

pub struct Theirs {
    nodes: Vec<RawNode<MemStorage>>,
    handed_out: Vec<u64>,
    applied: Vec<u64>,
    compacted: u64,
    queue: Vec<Message>,
}

impl Theirs {
    fn take_messages(&mut self, messages: Vec<Message>) {
        self.queue.extend(messages);
    }

    fn hand_out(&mut self, at: usize, entries: &[raft::prelude::Entry]) {
        self.handed_out[at] += entries.iter().filter(|entry| !entry.data.is_empty()).count() as u64;
        if let Some(last) = entries.last() {
            self.applied[at] = last.index;
        }
    }

    fn settle(&mut self) {
        loop {
            for message in std::mem::take(&mut self.queue) {
                let to = message.to as usize - 1;
                self.nodes[to].step(message).expect("a message of a replica");
            }
            let mut busy = false;
            for at in 0..3 {
                while self.nodes[at].has_ready() {
                    busy = true;
                    let mut ready = self.nodes[at].ready();
                    self.take_messages(ready.take_messages());
                    self.hand_out(at, &ready.take_committed_entries());
                    let entries = ready.take_entries();
                    if !entries.is_empty() {
                        self.nodes[at].mut_store().wl().append(&entries).expect("memory takes it");
                    }
                    if let Some(state) = ready.hs() {
                        let state = state.clone();
                        self.nodes[at].mut_store().wl().set_hardstate(state);
                    }
                    self.take_messages(ready.take_persisted_messages());
                    let mut light = self.nodes[at].advance(ready);
                    if let Some(commit) = light.commit_index() {
                        self.nodes[at].mut_store().wl().mut_hard_state().set_commit(commit);
                    }
                    self.take_messages(light.take_messages());
                    self.hand_out(at, &light.take_committed_entries());
                    self.nodes[at].advance_apply();
                }
            }
            if !busy && self.queue.is_empty() {
                return;
            }
        }
    }
}

impl Side for Theirs {
    fn new() -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = |id: u64| {
            let storage = MemStorage::new_with_conf_state(ConfState::from((vec![1, 2, 3], vec![])));
            let config =
                Config { id, max_size_per_msg: 1 << 20, max_inflight_msgs: 256, max_uncommitted_size: u64::MAX, ..Config::default() };
            RawNode::new(&config, storage, &logger).expect("a founding state")
        };
        let mut side =
            Self { nodes: (1..=3).map(node).collect(), handed_out: vec![0; 3], applied: vec![0; 3], compacted: 0, queue: Vec::new() };
        side.nodes[0].campaign().expect("it may");
        side.settle();
        assert!(side.nodes[0].raft.state == raft::StateRole::Leader, "the first to ask is elected");
        side
    }

    fn commit(&mut self, count: usize) {
        let wanted = self.handed_out[0] + count as u64;
        for _ in 0..count {
            self.nodes[0].propose(Vec::new(), vec![7; ENTRY_BYTES]).expect("it leads");
        }
        self.settle();
        assert!(self.handed_out[0] == wanted, "{} of {wanted}", self.handed_out[0]);
        let least = *self.applied.iter().min().expect("three");
        if least > self.compacted + COMPACT_EVERY {
            self.compacted = least;
            for node in &mut self.nodes {
                node.mut_store().wl().compact(least).expect("it is applied");
            }
        }
    }
}
