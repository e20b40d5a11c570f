//! Members: what group 0 knows of the coordinators, and how this node makes itself known there.

use std::sync::Arc;

use bytes::Bytes;
use distric_exec::machine::MACHINE_VERSION_MAX;
use distric_model::{GroupId, Instant, NodeId};
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind};
use serde_json::json;

use super::connections::ReplyTo;
use super::proposals::{Proposal, Waiting};
use super::{Shard, ShardOutputs};
use crate::node::letters::{Class, ConsensusLetter, ShardLetter};
use crate::node::machine_clock::Now;
use crate::node::meta::{COORDINATORS_MAX, MetaCommand, MetaReply};
use crate::node::peer::Member;
use crate::node::refusal::Refusal;

/// Between two tries to make this node known to group 0, milliseconds.
pub const ANNOUNCE_RETRY_MS: u64 = 2_000;
/// So often a node that said who it is is proposed to group 0, until it is known there. Beyond it has to call again.
pub const GUEST_TRIES_MAX: u32 = 30;

impl Shard {
    /// Tells the raft core who shall vote, and everybody where everybody is.
    pub(super) fn tell_members(&self, out: &mut ShardOutputs) {
        let Some(seat) = &self.meta else { return };
        let members: Vec<Member> = seat.meta().members().cloned().collect();
        let addresses: Arc<[(NodeId, Arc<str>)]> = members.iter().map(|member| (member.node, member.wire_address.clone())).collect();
        self.to_all_shards(Class::Request, out, || ShardLetter::Coordinators { addresses: addresses.clone() });
        out.to_consensus.push(ConsensusLetter::Members { voters: seat.meta().voters(), members });
    }

    /// Makes this node known to group 0 as it is now, if it is known there otherwise.
    pub(super) fn announce(&mut self, now: Now, out: &mut ShardOutputs) {
        let me = self.options.member.clone();
        let Some(seat) = &mut self.meta else { return };
        let is_wanted = seat.is_caught_up() && seat.meta().cluster().is_some() && !seat.meta().is_removed(me.node);
        if !is_wanted || seat.meta().member(me.node) == Some(&me) {
            seat.announce_at = None;
        } else if seat.announce_at.is_none_or(|at| at <= now.mono) {
            seat.announce_at = Some(now.mono.plus_ms(ANNOUNCE_RETRY_MS));
            self.put_member(now, me, out);
        }
    }

    pub(super) fn announce_again(&mut self, now: Now, out: &mut ShardOutputs) {
        if self.meta.as_ref().and_then(|seat| seat.announce_at).is_some_and(|at| at <= now.mono) {
            self.announce(now, out);
        }
        self.put_guests(now, out);
    }

    /// When [`Self::announce_again`] looks again.
    pub(super) fn next_announcement(&self) -> Option<Instant> {
        let seat = self.meta.as_ref()?;
        seat.announce_at.into_iter().chain(seat.guests_at).min()
    }

    /// Another node said who it is. It says so once for each connection, perhaps while group 0 has no leader: so it is remembered until group 0
    /// knows it.
    pub(super) fn on_announced(&mut self, now: Now, member: Member, out: &mut ShardOutputs) {
        let Some(seat) = &mut self.meta else { return };
        if seat.guests.len() < COORDINATORS_MAX || seat.guests.contains_key(&member.node) {
            seat.guests.insert(member.node, (member, GUEST_TRIES_MAX));
            seat.guests_at = Some(now.mono);
        }
        self.put_guests(now, out);
    }

    fn put_guests(&mut self, now: Now, out: &mut ShardOutputs) {
        let Some(seat) = self.meta.as_mut().filter(|seat| seat.guests_at.is_some_and(|at| at <= now.mono)) else { return };
        let may_judge = seat.is_caught_up() && seat.meta().cluster().is_some();
        let mut guests = std::mem::take(&mut seat.guests);
        guests.retain(|node, (member, tries)| {
            *tries -= 1;
            let is_settled = may_judge && (seat.meta().member(*node) == Some(&*member) || seat.meta().is_removed(*node));
            !is_settled && *tries > 0
        });
        seat.guests_at = (!guests.is_empty()).then(|| now.mono.plus_ms(ANNOUNCE_RETRY_MS));
        seat.guests.clone_from(&guests);
        if may_judge {
            guests.into_values().for_each(|(member, _)| self.put_member(now, member, out));
        }
    }

    fn put_member(&mut self, now: Now, member: Member, out: &mut ShardOutputs) {
        let command = Bytes::from(MetaCommand::PutMember(Box::new(member)).encode());
        self.propose(now, meta_proposal(Waiting::Housekeeping, command), out);
    }

    /// An operator's command about members or leads.
    pub(super) fn on_member_command(&mut self, now: Now, kind: CommandKind, command: &Command<'_>, to: ReplyTo, out: &mut ShardOutputs) {
        let node = match node_of(command) {
            Ok(node) => node,
            Err(refusal) => return self.refuse(now, to, refusal, out),
        };
        match kind {
            CommandKind::RemoveNode => {
                let command = Bytes::from(MetaCommand::RemoveMember(node).encode());
                self.propose(now, meta_proposal(Waiting::Command(to), command), out);
            }
            CommandKind::TransferLeader => match self.group_named(command.name) {
                Ok(group) => {
                    out.to_consensus.push(ConsensusLetter::MoveLeader { group, target: node });
                    self.document(now, to, &json!({ "group": group.to_string(), "target": node }), None, out);
                }
                Err(refusal) => self.refuse(now, to, refusal, out),
            },
            _ => self.refuse(now, to, Refusal::new(Code::Internal, "not a command about members"), out),
        }
    }

    fn group_named(&self, name: Option<&str>) -> Result<GroupId, Refusal> {
        let work_groups = self.cluster.map_or(0, |(_, work_groups)| work_groups);
        let number = name.and_then(|name| name.parse().ok()).filter(|number| *number <= work_groups);
        number
            .map(GroupId)
            .ok_or_else(|| Refusal::new(Code::BadArgument, format!("a group's number is needed, 0 to {work_groups}")).field("name"))
    }

    /// Group 0 has answered an operator's command.
    pub(super) fn answer_member_command(&mut self, now: Now, to: ReplyTo, reply: &MetaReply, out: &mut ShardOutputs) {
        match reply {
            MetaReply::MemberRemoved => self.document(now, to, &json!({ "removed": true }), None, out),
            MetaReply::MemberRefused(refusal) => {
                let code = match refusal {
                    crate::node::meta::MemberRefusal::Unknown => Code::NotFound,
                    _ => Code::Conflict,
                };
                self.refuse(now, to, Refusal::new(code, refusal.to_string()), out);
            }
            MetaReply::GossipKeys(keys) => self.answer_key_command(now, to, Ok(*keys), out),
            MetaReply::GossipKeysRefused(refusal) => self.answer_key_command(now, to, Err(*refusal), out),
            other => self.refuse(now, to, Refusal::new(Code::Internal, format!("unexpected answer of group 0: {other:?}")), out),
        }
    }
}

pub(super) fn meta_proposal(waiting: Waiting, command: Bytes) -> Proposal {
    Proposal { waiting, group: GroupId::META, command, namespace: None, definition: None, redefined: 0 }
}

fn node_of(command: &Command<'_>) -> Result<NodeId, Refusal> {
    let id = command.id.ok_or_else(|| Refusal::new(Code::BadArgument, "this command needs a node's id").field("id"))?;
    NodeId::from_uuid(id).map_err(|error| Refusal::new(Code::BadArgument, error.to_string()).field("id"))
}

/// This node's record; where its gossip is reached is for whoever knows it to add.
pub fn own_record(node: NodeId, name: &str, peer_address: &str, wire_address: &str) -> Member {
    Member {
        node,
        name: name.into(),
        peer_address: peer_address.into(),
        wire_address: wire_address.into(),
        machine_version_max: MACHINE_VERSION_MAX,
        gossip_address: "".into(),
    }
}
