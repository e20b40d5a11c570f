//! The groups as an operator sees them.

use serde_json::{Value, json};

use super::{Consensus, ConsensusOutputs};
use crate::node::letters::{AskId, Class, ShardLetter};
use crate::node::question::Answer;

impl Consensus {
    /// This node's replicas, members and links, as one document.
    pub(super) fn answer_status(&self, from: AskId, out: &mut ConsensusOutputs) {
        let replicas: Vec<Value> = self
            .statuses()
            .map(|(group, status)| {
                let last = status.last.index;
                let peers: Vec<Value> = status
                    .peers
                    .iter()
                    .map(|peer| {
                        json!({
                            "node": peer.id, "matched_index": peer.matched.0, "lag_entries": last.since(peer.matched),
                            "streaming": peer.streaming, "needs_snapshot": peer.needs_snapshot,
                        })
                    })
                    .collect();
                json!({
                    "number": group.0, "role": status.role.name(), "term": status.term.0, "leader": status.leader,
                    "commit_index": status.commit.0, "last_index": last.0, "durable_index": status.durable.0, "first_index": status.base.index.0 + 1,
                    "voters": status.membership.voters(), "learners": status.membership.learners(), "joint": status.membership.is_joint(),
                    "transfer_to": status.transfer_to, "peers": peers,
                })
            })
            .collect();
        let members: Vec<Value> = self
            .members
            .records
            .values()
            .map(|member| {
                json!({
                    "node": member.node, "name": &*member.name, "peer_address": &*member.peer_address, "wire_address": &*member.wire_address,
                    "self": member.node == self.options.node, "linked": self.links.contains(&member.node),
                    "doubted": self.members.doubted.contains(&member.node),
                })
            })
            .collect();
        let body = json!({ "replicas": replicas, "members": members });
        let answer = Answer::Document(serde_json::to_vec(&body).expect("plain data with text keys"), None);
        out.letters.push((from.shard, Class::Reply, ShardLetter::Answered { number: from.number, answer: Box::new(answer) }));
    }
}
