//! Liveness: who is in the cluster and alive, as gossip last told it. A hint, never authority: what follows from it goes
//! through the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_gossip::{Endpoint, KeyChoice, KeyWord, Load, Role, Standing, State, Stats, Verdict};
use distric_model::{NodeId, WorkerId};
use serde_json::{Value, json};

/// Most members that one status document lists; more are counted only.
pub const MEMBERS_LISTED_MAX: usize = 2_000;
/// The label under which a member tells its name for people.
pub const NAME_LABEL: &str = "name";
/// The label under which a member tells its program's version.
pub const VERSION_LABEL: &str = "version";
/// The label under which a coordinator tells where the other coordinators call it, `host:port`.
pub const PEER_LABEL: &str = "peer";

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSeat {
    /// Which life, which word, which state.
    pub standing: Standing,
    /// Its name for people.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Where its gossip is reached.
    pub endpoint: Endpoint,
    /// Its zone.
    pub zone: String,
    /// Tasks it runs at once.
    pub capacity: u32,
    /// Its newest load sample here.
    pub load: Load,
    /// Its program's version; empty when it does not say.
    pub version: String,
    /// Where other coordinators call it; `None`: it is none, or does not say.
    pub peer: Option<Arc<str>>,
    /// The keys that it holds and follows.
    pub keys: KeyWord,
}

/// All that gossip holds at one moment.
#[derive(Clone, Debug)]
pub struct GossipView {
    /// This node.
    pub node: NodeId,
    /// Where its gossip is reached.
    pub endpoint: Endpoint,
    /// Its seat and all others.
    pub members: BTreeMap<NodeId, MemberSeat>,
    /// Whether there is or may be a partition.
    pub verdict: Verdict,
    /// How far this node distrusts itself: 0 healthy to 8.
    pub local_health: u32,
    /// Counters.
    pub stats: Stats,
}

/// What gossip says about one run of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing: the worker takes no part, or has not been heard of yet.
    Unknown,
    /// It answers, or may still speak up.
    Live,
    /// It failed, left, or was followed by a later run.
    Gone,
}

/// The node under which a worker's process gossips.
pub fn node_of_worker(worker: WorkerId) -> Option<NodeId> {
    NodeId::from_uuid(worker.uuid()).ok()
}

/// The generation under which a worker's run gossips: milliseconds of the run's own number, which is in microseconds.
pub const fn gossip_generation(worker_generation: u64) -> u64 {
    worker_generation / 1_000
}

impl GossipView {
    /// What is said about one run of a worker.
    pub fn word_on(&self, worker: WorkerId, generation: u64) -> Word {
        let Some(seat) = node_of_worker(worker).and_then(|node| self.members.get(&node)) else { return Word::Unknown };
        let (told, asked) = (seat.standing.generation.0, gossip_generation(generation));
        match seat.standing.state {
            _ if told < asked => Word::Unknown,
            _ if told > asked => Word::Gone,
            State::Alive | State::Suspect => Word::Live,
            State::Dead | State::Left => Word::Gone,
        }
    }

    /// The newest samples of all live workers: who, in which gossip generation, and what.
    pub fn worker_loads(&self) -> impl Iterator<Item = (WorkerId, u64, Load)> {
        let live = self.members.iter().filter(|(_, seat)| seat.standing.state.is_live() && seat.role == Role::Worker);
        live.filter_map(|(node, seat)| Some((WorkerId::from_uuid(node.uuid()).ok()?, seat.standing.generation.0, seat.load)))
    }

    /// The coordinators that are suspected or failed, ascending.
    pub fn doubted_coordinators(&self) -> Vec<NodeId> {
        let is_doubted = |seat: &MemberSeat| matches!(seat.standing.state, State::Suspect | State::Dead) && seat.role != Role::Worker;
        self.members.iter().filter(|(_, seat)| is_doubted(seat)).map(|(node, _)| *node).collect()
    }

    /// Where live coordinators say that they are called.
    pub fn peers(&self) -> Vec<(NodeId, Arc<str>)> {
        let live = self.members.iter().filter(|(_, seat)| seat.standing.state.is_live() && seat.role != Role::Worker);
        live.filter_map(|(node, seat)| Some((*node, seat.peer.clone()?))).collect()
    }

    /// How many members are in a state.
    pub fn count(&self, state: State) -> usize {
        self.members.values().filter(|seat| seat.standing.state == state).count()
    }

    /// The view as a document for people.
    pub fn document(&self) -> Value {
        let members: Vec<Value> = self
            .members
            .iter()
            .take(MEMBERS_LISTED_MAX)
            .map(|(node, seat)| {
                let load = json!({
                    "running": seat.load.running, "queued": seat.load.queued,
                    "cpu_permille": seat.load.cpu_permille, "memory_permille": seat.load.memory_permille,
                });
                json!({
                    "node": node, "name": seat.name, "role": role_name(seat.role), "state": state_name(seat.standing.state),
                    "generation": seat.standing.generation.0, "incarnation": seat.standing.incarnation.0,
                    "address": seat.endpoint.to_string(), "zone": seat.zone, "capacity": seat.capacity, "load": load,
                    "self": *node == self.node, "version": seat.version, "keys": keys_document(&seat.keys),
                })
            })
            .collect();
        let refused: serde_json::Map<String, Value> = self
            .stats
            .refusals
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(refusal, count)| (refusal.name().to_owned(), count.into()))
            .collect();
        let own = self.members.get(&self.node).map(|seat| &seat.keys);
        json!({
            "sealed": own.is_some_and(|keys| !keys.held.is_empty()), "keys": own.map(keys_document), "refused": refused,
            "address": self.endpoint.to_string(), "verdict": verdict_name(self.verdict), "local_health": self.local_health,
            "active": self.count(State::Alive), "suspected": self.count(State::Suspect), "failed": self.count(State::Dead),
            "left": self.count(State::Left), "members": members,
        })
    }
}

/// What is said about keys, for people: ids only. Null: no seal.
fn keys_document(keys: &KeyWord) -> Value {
    let Some(sealing) = keys.sealing() else { return Value::Null };
    let held: Vec<u16> = keys.held.iter().map(|id| id.0).collect();
    let KeyChoice { version, primary, floor } = keys.choice;
    json!({ "held": held, "sealing": sealing.0, "version": version, "primary": primary.0, "floor": floor.0 })
}

/// A state's name for people.
pub const fn state_name(state: State) -> &'static str {
    match state {
        State::Alive => "active",
        State::Suspect => "suspected",
        State::Dead => "failed",
        State::Left => "left",
    }
}

/// A role's name.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Worker => "worker",
        Role::Coordinator | Role::Voter => "coordinator",
    }
}

/// A verdict's name.
pub const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::None => "none",
        Verdict::Suspected => "suspected",
        Verdict::Majority => "majority",
        Verdict::Minority => "minority",
        Verdict::Even => "even",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_gossip::{Generation, Incarnation};
    use distric_model::{Slot, Timestamp};

    fn view(worker: WorkerId, generation: u64, state: State) -> GossipView {
        let seat = MemberSeat {
            standing: Standing { generation: Generation(generation), incarnation: Incarnation(0), state },
            name: "w".to_owned(),
            role: Role::Worker,
            endpoint: Endpoint::v4([127, 0, 0, 1], 1),
            zone: String::new(),
            capacity: 1,
            load: Load::default(),
            version: String::new(),
            peer: None,
            keys: KeyWord::default(),
        };
        GossipView {
            node: NodeId::new(Timestamp::from_us(1), Slot::truncate(0), 9),
            endpoint: Endpoint::v4([127, 0, 0, 1], 2),
            members: [(node_of_worker(worker).unwrap(), seat)].into(),
            verdict: Verdict::None,
            local_health: 0,
            stats: Stats::default(),
        }
    }

    #[test]
    fn a_word_is_about_one_run_of_a_worker() {
        let worker = WorkerId::new(Timestamp::from_us(1), Slot::truncate(0), 5);
        let other = WorkerId::new(Timestamp::from_us(1), Slot::truncate(0), 6);
        let run = 7_000_123;
        assert_eq!(view(worker, 7_000, State::Alive).word_on(worker, run), Word::Live);
        assert_eq!(view(worker, 7_000, State::Suspect).word_on(worker, run), Word::Live);
        assert_eq!(view(worker, 7_000, State::Dead).word_on(worker, run), Word::Gone);
        assert_eq!(view(worker, 7_000, State::Left).word_on(worker, run), Word::Gone);
        assert_eq!(view(worker, 7_001, State::Alive).word_on(worker, run), Word::Gone, "a later run follows it");
        assert_eq!(view(worker, 6_999, State::Dead).word_on(worker, run), Word::Unknown, "an earlier run died");
        assert_eq!(view(worker, 7_000, State::Dead).word_on(other, run), Word::Unknown);
    }
}
