//! What other nodes say to the groups of this one.

use distric_model::{GroupId, NodeId};
use distric_raft::Input;

use super::reads::For;
use super::route::Return;
use super::{Consensus, ConsensusOutputs, refuse, tell_reader};
use crate::node::letters::{Class, ShardLetter, Unplaced};
use crate::node::machine_clock::Now;
use crate::node::owner_of;
use crate::node::peer::{Member, PeerLetter};

impl Consensus {
    /// A node can be told something from now on, or cannot any more. What was said before may be lost.
    pub fn on_link(&mut self, now: Now, node: NodeId, up: bool) {
        let changed = if up { self.links.insert(node) } else { self.links.remove(&node) };
        if changed {
            self.members.on_link(now.mono, up);
        }
    }

    /// A peer said something.
    pub fn on_peer(&mut self, now: Now, from: NodeId, letter: PeerLetter, out: &mut ConsensusOutputs) {
        match letter {
            PeerLetter::Raft(group, message) => self.step(now, group, Input::Message { from, message }, out),
            PeerLetter::Propose(forwarded) => {
                let leads = |replica: &&mut super::Replica| replica.raft.is_leader() && replica.raft.term().0 == forwarded.term;
                match self.groups.get_mut(&forwarded.group).filter(leads) {
                    Some(replica) => replica.foreign.push((from, forwarded)),
                    None => {
                        let (group, term, number) = (forwarded.group, forwarded.term, forwarded.number);
                        out.sends.push((from, PeerLetter::Refused { group, term, number, overloaded: false }));
                    }
                }
            }
            PeerLetter::Refused { group, term, number, overloaded } => {
                let Some(replica) = self.groups.get_mut(&group) else { return };
                if !overloaded {
                    if replica.route.on_refused(now.mono, from, term, number) == Return::Dropped {
                        refuse(out, number, Unplaced::NoLeader);
                    }
                } else if replica.route.give_back(from, term, number) {
                    self.stats.overloaded_count += 1;
                    refuse(out, number, Unplaced::Overloaded);
                }
            }
            PeerLetter::ReadIndex { group, id } => self.read_for_peer(now, from, group, id, out),
            PeerLetter::ReadAt { group, id, index } => {
                let Some(replica) = self.groups.get_mut(&group) else { return };
                let Some(index) = index else {
                    replica.reads.put_back(now.mono, id);
                    return;
                };
                if let Some(For::Readers(readers)) = replica.reads.close(id) {
                    readers.iter().for_each(|reader| tell_reader(out, group, reader.id, Some(index)));
                }
            }
            PeerLetter::MoveLeader { group, target } => self.step(now, group, Input::Transfer { target }, out),
        }
    }

    /// A node said who it is. Group 0 decides what becomes of that.
    pub fn on_announced(&mut self, member: Member, out: &mut ConsensusOutputs) {
        let shard = owner_of(GroupId::META, self.options.shard_count);
        out.letters.push((shard, Class::Request, ShardLetter::Announced { member: Box::new(member) }));
    }

    fn read_for_peer(&mut self, now: Now, from: NodeId, group: GroupId, id: u64, out: &mut ConsensusOutputs) {
        let me = self.options.node;
        match self.groups.get_mut(&group).filter(|replica| replica.raft.is_leader()) {
            Some(replica) => {
                let id = replica.reads.ask_for_peer(now.mono, me, replica.raft.term().0, from, id);
                self.step(now, group, Input::Read { id }, out);
            }
            None => out.sends.push((from, PeerLetter::ReadAt { group, id, index: None })),
        }
    }
}
