//! The opening of a connection between coordinators: who calls whom, and in which cluster.

use distric_model::{ClusterId, NodeId};
use distric_wire::peer::{PeerHello, PeerWelcome};
use distric_wire::{AnyMessage, Code, Flags, Frame, Items, PeerMessage};

use crate::node::peer::Member;
use crate::reactor::raft_stats::Refused;

/// This node, as it introduces itself.
#[derive(Clone, Debug)]
pub struct Me {
    /// Its cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Drawn at the start of this process.
    pub boot: u64,
    /// Its record.
    pub member: Member,
}

/// A caller that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub node: NodeId,
    /// Its run.
    pub boot: u64,
    /// Its record.
    pub member: Member,
    /// It only wants to know the cluster: nothing else follows.
    pub asks_only: bool,
    /// It fetches snapshots.
    pub bulk: bool,
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// Something else than a hello, or one that cannot be read.
    #[error("a coordinator introduces itself first: {0}")]
    NoHello(String),
    /// Another cluster.
    #[error("this node belongs to cluster {ours}, the caller to {theirs}")]
    OtherCluster {
        /// Ours.
        ours: ClusterId,
        /// Theirs.
        theirs: ClusterId,
    },
    /// It looked for someone else: the address has changed hands.
    #[error("the caller looks for node {wanted}, this is {here}")]
    OtherNode {
        /// Whom it wants.
        wanted: NodeId,
        /// Who answers.
        here: NodeId,
    },
    /// It says that it is this very node: a copied data directory.
    #[error("the caller says that it is node {0}, which is this one: was a data directory copied?")]
    Double(NodeId),
}

impl Unwelcome {
    fn code(&self) -> Code {
        match self {
            Self::NoHello(_) => Code::BadMessage,
            _ => Code::Conflict,
        }
    }

    /// The reason, for counting.
    pub fn refused(&self) -> Refused {
        match self {
            Self::NoHello(_) => Refused::NoHello,
            Self::OtherCluster { .. } => Refused::OtherCluster,
            Self::OtherNode { .. } => Refused::OtherNode,
            Self::Double(_) => Refused::Double,
        }
    }

    /// The answer's frame.
    pub fn frame(&self, at_us: u64, out: &mut Vec<u8>) {
        let reason = self.to_string();
        distric_wire::encode(&distric_wire::client::Rejection::new(self.code(), &reason), 0, at_us, Flags::NONE, out);
    }
}

/// The hello to whoever answers at an address; `wanted`: to nobody but this node; `bulk`: for snapshots.
pub fn hello(me: &Me, wanted: Option<NodeId>, bulk: bool, at_us: u64, out: &mut Vec<u8>) {
    let member = me.member.encode();
    let hello = PeerHello {
        cluster_id: Some(me.cluster.uuid()),
        node_id: me.node.uuid(),
        boot: me.boot,
        wanted_node_id: wanted.map(NodeId::uuid),
        member: &member,
        invites: false,
        bulk,
    };
    distric_wire::encode(&hello, 0, at_us, Flags::NONE, out);
}

/// Looks at a caller's first frame. Errors: see [`Unwelcome`].
pub fn receive(me: &Me, frame: &Frame<'_>) -> Result<Caller, Unwelcome> {
    let hello = match PeerMessage::decode(frame.header.message_type, frame.payload) {
        Ok(Some(PeerMessage::PeerHello(hello))) => hello,
        Ok(_) => return Err(Unwelcome::NoHello(format!("message type {:#06x}", frame.header.message_type))),
        Err(error) => return Err(Unwelcome::NoHello(error.to_string())),
    };
    let bad = |what: &str| Unwelcome::NoHello(format!("{what} is no id"));
    let node = NodeId::from_uuid(hello.node_id).map_err(|_| bad("node_id"))?;
    let theirs = hello.cluster_id.map(ClusterId::from_uuid).transpose().map_err(|_| bad("cluster_id"))?;
    let wanted = hello.wanted_node_id.map(NodeId::from_uuid).transpose().map_err(|_| bad("wanted_node_id"))?;
    let member = Member::decode(hello.member).map_err(|error| Unwelcome::NoHello(error.to_string()))?;
    if let Some(theirs) = theirs.filter(|theirs| *theirs != me.cluster) {
        return Err(Unwelcome::OtherCluster { ours: me.cluster, theirs });
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted != me.node) {
        return Err(Unwelcome::OtherNode { wanted, here: me.node });
    }
    if node == me.node || member.node != node {
        return Err(Unwelcome::Double(me.node));
    }
    Ok(Caller { node, boot: hello.boot, member, asks_only: theirs.is_none(), bulk: hello.bulk })
}

/// The answer to a caller that was let in.
pub fn welcome(me: &Me, members: &[Member], at_us: u64, out: &mut Vec<u8>) {
    let members: Vec<Vec<u8>> = members.iter().map(Member::encode).collect();
    let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
    let welcome = PeerWelcome { cluster_id: me.cluster.uuid(), node_id: me.node.uuid(), boot: me.boot, members: Items::of(&members) };
    distric_wire::encode(&welcome, 0, at_us, Flags::NONE, out);
}

/// Who answered a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The members it knows.
    pub members: Vec<Member>,
}

/// Looks at the answer to a hello. Errors: in words, for the log.
pub fn answered(frame: &Frame<'_>) -> Result<Host, String> {
    let (message_type, payload) = (frame.header.message_type, frame.payload);
    if let Ok(Some(AnyMessage::Rejection(rejection))) = AnyMessage::decode(message_type, payload) {
        return Err(format!("refused: {}", rejection.reason));
    }
    let welcome = match PeerMessage::decode(message_type, payload) {
        Ok(Some(PeerMessage::PeerWelcome(welcome))) => welcome,
        Ok(_) => return Err(format!("message type {message_type:#06x} is no welcome of a coordinator; is this its peer.bind?")),
        Err(error) => return Err(error.to_string()),
    };
    let cluster = ClusterId::from_uuid(welcome.cluster_id).map_err(|error| error.to_string())?;
    let node = NodeId::from_uuid(welcome.node_id).map_err(|error| error.to_string())?;
    let members = welcome.members.iter().filter_map(|record| Member::decode(record).ok()).collect();
    Ok(Host { cluster, node, members })
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_model::{Slot, Timestamp};
    use distric_wire::{FrameLimits, parse};

    fn me(number: u64) -> Me {
        let node = NodeId::new(Timestamp::from_us(1), Slot::truncate(0), number);
        let cluster = ClusterId::new(Timestamp::from_us(1), Slot::truncate(0), 1);
        Me { cluster, node, boot: 5, member: crate::node::shard::own_record(node, "a", "127.0.0.1:1", "127.0.0.1:2") }
    }

    fn call(caller: &Me, wanted: Option<NodeId>, host: &Me) -> Result<Caller, Unwelcome> {
        let mut bytes = Vec::new();
        hello(caller, wanted, false, 1, &mut bytes);
        let (frame, _) = parse(&bytes, FrameLimits::UNAUTHENTICATED).unwrap().unwrap();
        receive(host, &frame)
    }

    #[test]
    fn a_member_is_let_in_and_told_who_is_there() {
        let (caller, host) = (me(1), me(2));
        let found = call(&caller, Some(host.node), &host).unwrap();
        assert_eq!((found.node, found.boot, found.asks_only), (caller.node, 5, false));
        let mut bytes = Vec::new();
        welcome(&host, std::slice::from_ref(&caller.member), 1, &mut bytes);
        let (frame, _) = parse(&bytes, FrameLimits::UNAUTHENTICATED).unwrap().unwrap();
        let answer = answered(&frame).unwrap();
        assert_eq!(answer, Host { cluster: host.cluster, node: host.node, members: vec![caller.member] });
    }

    #[test]
    fn foreign_clusters_doubles_and_callers_at_the_wrong_door_are_refused_with_the_reason() {
        let host = me(2);
        let foreign = Me { cluster: ClusterId::new(Timestamp::from_us(1), Slot::truncate(0), 9), ..me(1) };
        assert!(matches!(call(&foreign, None, &host), Err(Unwelcome::OtherCluster { .. })));
        assert!(matches!(call(&me(1), Some(me(3).node), &host), Err(Unwelcome::OtherNode { .. })));
        let refusal = call(&host, None, &host).unwrap_err();
        assert!(refusal.to_string().contains("copied"), "{refusal}");
        let mut bytes = Vec::new();
        refusal.frame(1, &mut bytes);
        let (frame, _) = parse(&bytes, FrameLimits::UNAUTHENTICATED).unwrap().unwrap();
        assert!(matches!(receive(&host, &frame), Err(Unwelcome::NoHello(_))));
        assert!(answered(&frame).unwrap_err().contains("copied"));
    }
}
