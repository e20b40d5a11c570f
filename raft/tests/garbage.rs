//! Peers that say anything: whatever message arrives, a replica goes on (it may be wrong about the world then, since no
//! majority of such peers can be survived, but it neither falls over nor breaks its own invariants).

use std::collections::BTreeMap;

use bytes::Bytes;
use distric_model::{GroupId, Instant, NodeId, Slot, Timestamp};
use distric_raft::*;
use proptest::prelude::*;

fn node(n: u64) -> NodeId {
    NodeId::new(Timestamp::from_us(n), Slot::truncate(0), n)
}

/// Small numbers, which meet each other, and the ends of the range.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0_u64..12, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(term, index)| Position::new(Term(term), LogIndex(index)))
}

fn entry(index: u64, term: u64, kind: u8, data: u8) -> Entry {
    let kind = EntryKind::from_number(kind).unwrap_or(EntryKind::Command);
    let data = if kind == EntryKind::Membership && data.is_multiple_of(2) {
        Membership::new((1..=3).map(node).collect(), vec![]).unwrap().encode()
    } else {
        Bytes::from(vec![data; usize::from(data % 7)])
    };
    Entry { index: LogIndex(index), term: Term(term), kind, data }
}

/// Mostly contiguous, as from a leader of another history; sometimes anything.
fn entries() -> impl Strategy<Value = (Position, Vec<Entry>)> {
    let piece = (0_u64..2, 0_u8..5, any::<u8>());
    let contiguous = (position(), prop::collection::vec(piece, 0..6)).prop_map(|(prev, pieces)| {
        let mut at = prev;
        let entries = pieces.into_iter().map(|(step, kind, data)| {
            at = Position::new(Term(at.term.0.saturating_add(step)), at.index.next());
            entry(at.index.0, at.term.0, kind, data)
        });
        (prev, entries.collect())
    });
    let anything = (position(), prop::collection::vec((number(), number(), 0_u8..5, any::<u8>()), 0..4))
        .prop_map(|(prev, parts)| (prev, parts.into_iter().map(|(index, term, kind, data)| entry(index, term, kind, data)).collect()));
    prop_oneof![4 => contiguous, 1 => anything]
}

/// Of the nodes that occur here, with or without the replica itself.
fn membership() -> impl Strategy<Value = Membership> {
    prop::collection::vec(0_u8..4, 5).prop_map(|places| {
        let at = |place: u8| (1_u64..).zip(&places).filter(|(_, found)| **found == place).map(|(n, _)| node(n)).collect();
        Membership::new(at(0), at(1)).unwrap()
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => position().prop_map(|last| Body::PreVote { last }),
        2 => any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        1 => position().prop_map(|last| Body::Vote { last }),
        2 => any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        4 => (entries(), number())
            .prop_map(|((prev, entries), commit)| Body::Append { prev, entries, commit: LogIndex(commit) }),
        2 => number().prop_map(|matched| Body::AppendReply(AppendOutcome::Matched { matched: LogIndex(matched) })),
        2 => (number(), position())
            .prop_map(|(prev, hint)| Body::AppendReply(AppendOutcome::Refused { prev: LogIndex(prev), hint })),
        1 => Just(Body::AppendReply(AppendOutcome::Stale)),
        1 => Just(Body::TimeoutNow),
        1 => position().prop_map(|last| Body::VoteByLeave { last }),
        2 => (position(), membership()).prop_map(|(position, membership)| Body::Snapshot(Snapshot { position, membership })),
        2 => (number(), number()).prop_map(|(commit, round)| Body::Heartbeat(Heartbeat { commit: LogIndex(commit), round })),
        2 => (number(), number(), number()).prop_map(|(round, matched, received)| {
            Body::HeartbeatReply(HeartbeatReply { round, matched: LogIndex(matched), received: LogIndex(received) })
        }),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Hear {
        from: u64,
        term: u64,
        body: Body,
    },
    /// Says `granted` to whatever it campaigns for.
    Elect,
    Tick,
    Propose,
    Change(Membership),
    Transfer(u64),
    Read,
    Compact,
    /// The driver answers for a snapshot that some follower needs, perhaps wrongly.
    Snapshot(u64, Option<(Position, Membership)>),
    /// The driver has fetched what it was asked to fetch, or not.
    Install(bool),
    Flush,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (1_u64..5, number(), body()).prop_map(|(from, term, body)| Act::Hear { from, term, body }),
        2 => Just(Act::Elect),
        2 => Just(Act::Tick),
        2 => Just(Act::Propose),
        2 => membership().prop_map(Act::Change),
        1 => (1_u64..5).prop_map(Act::Transfer),
        1 => Just(Act::Read),
        1 => Just(Act::Compact),
        1 => (1_u64..5, prop::option::of((position(), membership()))).prop_map(|(to, snapshot)| Act::Snapshot(to, snapshot)),
        2 => any::<bool>().prop_map(Act::Install),
        4 => Just(Act::Flush),
        1 => Just(Act::Restart),
    ]
}

/// One replica, and a disk as plain as can be.
struct Lone {
    raft: Raft,
    now: Instant,
    hard_state: HardState,
    base: Position,
    log: BTreeMap<LogIndex, Entry>,
    writes: Vec<Persist>,
    applied: LogIndex,
    checkpoint: Option<Snapshot>,
    install: Option<Install>,
}

impl Lone {
    fn new() -> Self {
        let founding = Recovered::founding(&Membership::new((1..=3).map(node).collect(), vec![]).unwrap());
        let log = founding.tail.iter().map(|entry| (entry.index, entry.clone())).collect();
        let hard_state = founding.hard_state;
        Self {
            raft: start(founding, Instant::default()),
            now: Instant::default(),
            hard_state,
            base: Position::ZERO,
            log,
            writes: Vec::new(),
            applied: LogIndex::ZERO,
            checkpoint: None,
            install: None,
        }
    }

    fn step(&mut self, input: Input) {
        let mut out = Outputs::default();
        self.raft.step(self.now, input, &mut out);
        self.writes.extend(out.persist.take());
        self.applied = out.committed.last().map_or(self.applied, |entry| self.applied.max(entry.index));
        self.install = out.install.take().or(self.install.take());
        if let Some(load) = out.load {
            let entries = self.log.range(load.from..=load.upto).take(2).map(|(_, entry)| entry.clone()).collect();
            self.step(Input::Loaded { entries });
        }
    }

    fn play(&mut self, act: Act) {
        match act {
            Act::Hear { from, term, body } => {
                self.step(Input::Message { from: node(from), message: Message { term: Term(term), body } });
            }
            Act::Elect => {
                for _ in 0..3 {
                    self.play(Act::Tick);
                    self.play(Act::Flush);
                    let term = self.raft.term();
                    let reply = |term, body| Input::Message { from: node(2), message: Message { term, body } };
                    self.step(reply(term.next(), Body::PreVoteReply { granted: true }));
                    self.play(Act::Flush);
                    self.step(reply(self.raft.term(), Body::VoteReply { granted: true }));
                    if self.raft.is_leader() {
                        return;
                    }
                }
            }
            Act::Tick => {
                self.now = self.raft.wake_at().map_or(self.now, |due| self.now.max(due));
                self.step(Input::Tick);
            }
            Act::Change(wanted) => self.step(Input::ChangeMembership { wanted }),
            Act::Transfer(to) => self.step(Input::Transfer { target: node(to) }),
            Act::Read => self.step(Input::Read { id: ReadId(1) }),
            Act::Compact => {
                if let Some(snapshot) = self.raft.snapshot_at(self.applied) {
                    self.checkpoint = Some(snapshot);
                    self.step(Input::Compacted { upto: self.applied });
                }
            }
            Act::Snapshot(to, snapshot) => {
                let to = node(to);
                self.step(match snapshot {
                    Some((position, membership)) => Input::SnapshotReady { to, snapshot: Snapshot { position, membership } },
                    None => Input::SnapshotFailed { peer: to },
                });
            }
            Act::Install(works) => {
                let Some(Install { from, snapshot }) = self.install.take() else { return };
                // A driver knows a snapshot of another history or from the end of numbers when it is to fetch it.
                if works && snapshot.position.index > self.applied && snapshot.position.index.0 < 1 << 40 {
                    self.applied = snapshot.position.index;
                    self.checkpoint = Some(snapshot.clone());
                    self.step(Input::SnapshotInstalled { snapshot });
                } else {
                    self.step(Input::SnapshotFailed { peer: from });
                }
            }
            Act::Propose => self.step(Input::Propose { commands: vec![Bytes::from_static(b"mine"); 3] }),
            Act::Flush => {
                for write in std::mem::take(&mut self.writes) {
                    self.hard_state = write.hard_state.unwrap_or(self.hard_state);
                    if let Some(base) = write.reset_to {
                        self.base = base;
                        self.log.clear();
                    }
                    if let Some(cut) = write.truncate_from {
                        self.log.split_off(&cut);
                    }
                    self.log.extend(write.entries.into_iter().map(|entry| (entry.index, entry)));
                    self.step(Input::Persisted { ticket: write.ticket });
                }
            }
            Act::Restart => {
                self.writes.clear();
                let (hard_state, base, checkpoint) = (self.hard_state, self.base, self.checkpoint.clone());
                self.applied = checkpoint.as_ref().map_or(LogIndex::ZERO, |checkpoint| checkpoint.position.index);
                let mut recovered = Recovered { hard_state, base, last: base, checkpoint, ..Recovered::default() };
                self.install = None;
                self.log.values().for_each(|entry| recovered.note(entry));
                recovered.tail = self.log.values().rev().take(2).cloned().collect();
                recovered.tail.reverse();
                self.raft = start(recovered, self.now);
            }
        }
    }
}

fn start(recovered: Recovered, now: Instant) -> Raft {
    let mut config = Config::new(node(1), GroupId(1));
    config.cache_bytes_max = 200;
    config.append_bytes_max = 150;
    Raft::new(config, recovered, LogIndex::ZERO, 1, now).expect("what this replica wrote is sound")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_message_makes_a_replica_fall_over(acts in prop::collection::vec(act(), 1..60)) {
        let mut lone = Lone::new();
        acts.into_iter().for_each(|act| lone.play(act));
    }
}
