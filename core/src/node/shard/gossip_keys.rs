//! Keys of gossip: an operator's choice goes to group 0, and from there to the gossip core of every coordinator.

use bytes::Bytes;
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind};
use serde_json::json;

use super::connections::ReplyTo;
use super::members::meta_proposal;
use super::proposals::Waiting;
use super::{Shard, ShardOutputs};
use crate::node::letters::ConsensusLetter;
use crate::node::machine_clock::Now;
use crate::node::meta::{GossipKeys, KeyRefusal, MetaCommand};
use crate::node::refusal::Refusal;

impl Shard {
    /// Tells the rim which keys count.
    pub(super) fn tell_gossip_keys(&self, out: &mut ShardOutputs) {
        if let Some(seat) = &self.meta {
            out.to_consensus.push(ConsensusLetter::GossipKeys(seat.meta().gossip_keys().into()));
        }
    }

    /// An operator chooses a key, or retires some.
    pub(super) fn on_key_command(&mut self, now: Now, kind: CommandKind, command: &Command<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        let Some(id) = command.name.and_then(|name| name.parse::<u16>().ok()) else {
            let refusal = Refusal::new(Code::BadArgument, "the id of a key is needed, 1 to 65535").field("name");
            return self.refuse(now, to, refusal, out);
        };
        let command = if kind == CommandKind::UseGossipKey { MetaCommand::UseGossipKey(id) } else { MetaCommand::RetireGossipKeys(id) };
        self.propose(now, meta_proposal(Waiting::Command(to), Bytes::from(command.encode())), out);
    }

    /// Group 0 has answered.
    pub(super) fn answer_key_command(&mut self, now: Now, to: ReplyTo, keys: Result<GossipKeys, KeyRefusal>, out: &mut ShardOutputs) {
        match keys {
            Ok(GossipKeys { version, primary, floor }) => {
                self.document(now, to, &json!({ "version": version, "primary": primary, "floor": floor }), None, out);
            }
            Err(refusal) => self.refuse(now, to, Refusal::new(Code::Conflict, refusal.to_string()), out),
        }
    }
}
