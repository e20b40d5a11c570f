//! The mesh: which core may write to which, and how a full lane is borne.
//!
//! A letter that finds its lane full waits in the sender's overflow and goes first next time. Receivers always drain, so two
//! cores cannot hold each other up; what bounds the overflow is admission: requests are refused while
//! [`crate::node::shard::PROPOSALS_IN_FLIGHT_MAX`] are in flight, and sockets are not read while overflow waits. Views of the
//! gossip core replace each other there: a shard that stands still finds [`VIEW_LETTERS_MAX`] old ones and the newest.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use distric_lane::{Bell, Receiver, Sender, Sleeper, doorbell, lane};

use crate::node::checkpoint::{Checkpoint, Restored};
use crate::node::consensus::{Export, LogReport, LogWrite};
use crate::node::letters::{Class, CompilerLetter, ConnId, ConsensusLetter, ShardIndex, ShardLetter};
use distric_model::{GroupId, NodeId};
use distric_raft::{Entry, Install, Load, LogIndex, Position, Snapshot};

/// Letters that one lane holds.
pub const LANE_LETTERS_MAX: usize = 8_192;

/// Views of the members that wait in the lane to one shard; each may hold thousands of members.
pub const VIEW_LETTERS_MAX: usize = 4;

/// To the log writer.
pub enum LogLetter {
    /// Make this durable.
    Write(LogWrite),
    /// Read entries.
    Load(GroupId, Load),
    /// Let go everything up to the index.
    Purge(GroupId, LogIndex),
}

/// To the state writer.
pub enum StateLetter {
    /// From a shard: make this durable.
    Checkpoint(Checkpoint),
    /// From the raft core: a file for another node.
    Export(Export),
    /// From the raft core: a snapshot was fetched; it shall be this node's state.
    Install {
        /// The group.
        group: GroupId,
        /// What was offered, and by whom.
        install: Install,
        /// Where its bytes are.
        path: PathBuf,
    },
    /// From the raft core: another node asks for bytes of a file.
    Chunk {
        /// On this connection.
        conn: ConnId,
        /// The group.
        group: GroupId,
        /// Of this snapshot.
        position: Position,
        /// From here on.
        offset: u64,
    },
}

/// From the state writer to the raft core.
pub enum StateReply {
    /// A checkpoint is durable.
    Checkpointed {
        /// The group.
        group: GroupId,
        /// Where the checkpoint stands.
        snapshot: Snapshot,
        /// How long that took, microseconds.
        took_us: u64,
    },
    /// The file is there, or cannot be made.
    Exported {
        /// The group.
        group: GroupId,
        /// Who needs it.
        to: NodeId,
        /// What it holds.
        snapshot: Option<Snapshot>,
    },
    /// A fetched snapshot is durable and this is its machine; `None`: it is of no use.
    Installed {
        /// The group.
        group: GroupId,
        /// What was offered, and by whom.
        install: Install,
        /// The machine.
        state: Option<Restored>,
    },
    /// A frame for a connection.
    Chunk(ConnId, Vec<u8>),
}

/// From the log writer.
pub enum LogReply {
    /// Durable.
    Report(GroupId, LogReport),
    /// Read.
    Loaded(GroupId, Vec<Entry>),
    /// A flush is done; what it made durable was reported before.
    Flushed {
        /// How long it took, microseconds.
        took_us: u64,
        /// How many entries it made durable.
        entries: u64,
    },
}

/// One lane's sending end with its overflow.
pub struct Outlet<T> {
    lane: Sender<T>,
    overflow: VecDeque<T>,
}

impl<T> Outlet<T> {
    fn new(lane: Sender<T>) -> Self {
        Self { lane, overflow: VecDeque::new() }
    }

    fn push(&mut self, letter: T) {
        if !self.overflow.is_empty() {
            self.overflow.push_back(letter);
        } else if let Err(letter) = self.lane.push(letter) {
            self.overflow.push_back(letter);
        }
    }

    /// A letter that makes those useless that still wait outside the lane.
    fn push_latest(&mut self, letter: T) {
        if !self.flush() {
            self.overflow.clear();
        }
        self.push(letter);
    }

    /// Moves overflow into the lane. Returns whether all of it went.
    fn flush(&mut self) -> bool {
        while let Some(letter) = self.overflow.pop_front() {
            if let Err(letter) = self.lane.push(letter) {
                self.overflow.push_front(letter);
                return false;
            }
        }
        true
    }
}

/// All lanes to one receiver from one sender, and the receiver's bell.
struct Door<T> {
    /// Requests, then replies.
    outlets: [Outlet<T>; 2],
    bell: Bell,
    touched: bool,
}

impl<T> Door<T> {
    fn push(&mut self, class: Class, letter: T) {
        self.outlets[usize::from(class == Class::Reply)].push(letter);
        self.touched = true;
    }

    fn ring(&mut self) -> bool {
        // Both are flushed, whatever the first one says.
        let [requests, replies] = &mut self.outlets;
        let flushed = requests.flush() & replies.flush();
        if std::mem::take(&mut self.touched) || !flushed {
            self.bell.ring();
        }
        flushed
    }
}

/// What one thread may write to.
#[derive(Default)]
pub struct Post {
    shards: Vec<Door<ShardLetter>>,
    consensus: Option<Door<ConsensusLetter>>,
    compiler: Option<Door<CompilerLetter>>,
    log: Option<Door<LogLetter>>,
    raft_core: Option<Door<LogReply>>,
    state: Option<Door<StateLetter>>,
    state_replies: Option<Door<StateReply>>,
}

impl Post {
    /// To a shard.
    pub fn shard(&mut self, to: ShardIndex, class: Class, letter: ShardLetter) {
        self.shards[to].push(class, letter);
    }

    /// To a shard, in place of what was said to it this way before and found its lane full: its newest is as good as all.
    pub fn shard_latest(&mut self, to: ShardIndex, letter: ShardLetter) {
        let door = &mut self.shards[to];
        door.outlets[0].push_latest(letter);
        door.touched = true;
    }

    /// To the raft core.
    pub fn consensus(&mut self, letter: ConsensusLetter) {
        self.consensus.as_mut().expect("only shards write to the raft core").push(Class::Request, letter);
    }

    /// To the compiler.
    pub fn compiler(&mut self, letter: CompilerLetter) {
        self.compiler.as_mut().expect("only shards write to the compiler").push(Class::Request, letter);
    }

    /// To the log writer.
    pub fn log(&mut self, letter: LogLetter) {
        self.log.as_mut().expect("only the raft core writes to the log writer").push(Class::Request, letter);
    }

    /// From the log writer to the raft core.
    pub fn reply_of_log(&mut self, reply: LogReply) {
        self.raft_core.as_mut().expect("only the log writer reports to the raft core").push(Class::Reply, reply);
    }

    /// To the state writer.
    pub fn state(&mut self, letter: StateLetter) {
        self.state.as_mut().expect("only shards and the raft core write to the state writer").push(Class::Request, letter);
    }

    /// From the state writer to the raft core.
    pub fn reply_of_state(&mut self, reply: StateReply) {
        self.state_replies.as_mut().expect("only the state writer reports checkpoints").push(Class::Reply, reply);
    }

    /// Flushes overflow and rings the bells of this turn. Returns whether everything is in its lane; if not, call again soon.
    pub fn ring(&mut self) -> bool {
        let mut flushed = true;
        for door in &mut self.shards {
            flushed &= door.ring();
        }
        flushed &= self.consensus.as_mut().is_none_or(Door::ring);
        flushed &= self.compiler.as_mut().is_none_or(Door::ring);
        flushed &= self.log.as_mut().is_none_or(Door::ring);
        flushed &= self.state.as_mut().is_none_or(Door::ring);
        flushed &= self.state_replies.as_mut().is_none_or(Door::ring);
        flushed & self.raft_core.as_mut().is_none_or(Door::ring)
    }
}

/// What one thread reads, replies first.
pub struct Inbox<T> {
    lanes: Vec<Receiver<T>>,
}

impl<T> Inbox<T> {
    /// The next letter, if any waits.
    pub fn pop(&mut self) -> Option<T> {
        self.lanes.iter_mut().find_map(Receiver::pop)
    }

    /// Whether nothing waits.
    pub fn is_empty(&mut self) -> bool {
        self.lanes.iter_mut().all(Receiver::is_empty)
    }
}

/// One shard's ends.
pub struct ShardEnds {
    /// What it writes to.
    pub post: Post,
    /// What it reads.
    pub inbox: Inbox<ShardLetter>,
    /// How it sleeps.
    pub sleeper: Sleeper,
    /// A bell for whoever controls the shard from outside the mesh.
    pub bell: Bell,
}

/// The raft core's ends.
pub struct RaftCoreEnds {
    /// What it writes to.
    pub post: Post,
    /// From the shards.
    pub letters: Inbox<ConsensusLetter>,
    /// From the log writer.
    pub reports: Inbox<LogReply>,
    /// From the state writer.
    pub states: Inbox<StateReply>,
    /// How it sleeps.
    pub sleeper: Sleeper,
    /// A bell for whoever wakes it from outside the mesh.
    pub bell: Bell,
}

/// All ends.
pub struct Mesh {
    /// By shard.
    pub shards: Vec<ShardEnds>,
    /// The raft core: to shards and both writers.
    pub raft_core: RaftCoreEnds,
    /// The log writer: to the raft core; from it.
    pub log_writer: (Post, Inbox<LogLetter>, Sleeper, Bell),
    /// The state writer: to the raft core; from shards and the raft core.
    pub state_writer: (Post, Inbox<StateLetter>, Sleeper, Bell),
    /// The compiler: to shards; from shards.
    pub compiler: (Post, Inbox<CompilerLetter>, Sleeper, Bell),
    /// The gossip core: to shards.
    pub gossip_core: Post,
}

/// One receiver while the mesh is laid: lanes by class, and its bell.
struct Laying<T> {
    requests: Vec<Receiver<T>>,
    replies: Vec<Receiver<T>>,
    bell: Bell,
    sleeper: Sleeper,
}

impl<T> Laying<T> {
    fn new() -> io::Result<Self> {
        let (bell, sleeper) = doorbell()?;
        Ok(Self { requests: Vec::new(), replies: Vec::new(), bell, sleeper })
    }

    fn door(&mut self) -> io::Result<Door<T>> {
        self.door_of(LANE_LETTERS_MAX)
    }

    fn door_of(&mut self, letters_max: usize) -> io::Result<Door<T>> {
        let (request, from_request) = lane(letters_max);
        let (reply, from_reply) = lane(letters_max);
        self.requests.push(from_request);
        self.replies.push(from_reply);
        Ok(Door { outlets: [Outlet::new(request), Outlet::new(reply)], bell: self.bell.try_clone()?, touched: false })
    }

    fn finish(self) -> (Inbox<T>, Sleeper, Bell) {
        let lanes = self.replies.into_iter().chain(self.requests).collect();
        (Inbox { lanes }, self.sleeper, self.bell)
    }
}

/// Lays all lanes of a node with `shard_count` shards. Errors: when the process is out of descriptors.
pub fn lay(shard_count: usize) -> io::Result<Mesh> {
    let mut shards = (0..shard_count).map(|_| Laying::<ShardLetter>::new()).collect::<io::Result<Vec<_>>>()?;
    let mut consensus = Laying::<ConsensusLetter>::new()?;
    let mut compiler = Laying::<CompilerLetter>::new()?;
    let mut log = Laying::<LogLetter>::new()?;
    let mut reports = Laying::<LogReply>::new()?;
    let mut state = Laying::<StateLetter>::new()?;
    let mut states = Laying::<StateReply>::new()?;
    // The raft core sleeps on one bell, whoever writes to it.
    reports.bell = consensus.bell.try_clone()?;
    states.bell = consensus.bell.try_clone()?;
    let to_shards = |shards: &mut Vec<Laying<ShardLetter>>| shards.iter_mut().map(Laying::door).collect::<io::Result<Vec<_>>>();
    let mut posts = Vec::new();
    for _ in 0..shard_count {
        posts.push(Post {
            shards: to_shards(&mut shards)?,
            consensus: Some(consensus.door()?),
            compiler: Some(compiler.door()?),
            state: Some(state.door()?),
            ..Post::default()
        });
    }
    let raft_post = Post { shards: to_shards(&mut shards)?, log: Some(log.door()?), state: Some(state.door()?), ..Post::default() };
    let compiler_post = Post { shards: to_shards(&mut shards)?, ..Post::default() };
    let log_post = Post { raft_core: Some(reports.door()?), ..Post::default() };
    let state_post = Post { state_replies: Some(states.door()?), ..Post::default() };
    let views = shards.iter_mut().map(|shard| shard.door_of(VIEW_LETTERS_MAX)).collect::<io::Result<Vec<_>>>()?;
    let gossip_core = Post { shards: views, ..Post::default() };
    let shards = posts
        .into_iter()
        .zip(shards)
        .map(|(post, laying)| {
            let (inbox, sleeper, bell) = laying.finish();
            ShardEnds { post, inbox, sleeper, bell }
        })
        .collect();
    let (raft_inbox, raft_sleeper, raft_bell) = consensus.finish();
    let (report_inbox, _, _) = reports.finish();
    let (states_inbox, _, _) = states.finish();
    let (state_inbox, state_sleeper, state_bell) = state.finish();
    let (log_inbox, log_sleeper, log_bell) = log.finish();
    let (compiler_inbox, compiler_sleeper, compiler_bell) = compiler.finish();
    Ok(Mesh {
        shards,
        raft_core: RaftCoreEnds {
            post: raft_post,
            letters: raft_inbox,
            reports: report_inbox,
            states: states_inbox,
            sleeper: raft_sleeper,
            bell: raft_bell,
        },
        state_writer: (state_post, state_inbox, state_sleeper, state_bell),
        log_writer: (log_post, log_inbox, log_sleeper, log_bell),
        compiler: (compiler_post, compiler_inbox, compiler_sleeper, compiler_bell),
        gossip_core,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_holds_letters_back_and_keeps_their_order() {
        let mut mesh = lay(1).unwrap();
        let count = LANE_LETTERS_MAX as u64 + 3;
        let shard = &mut mesh.shards[0];
        for version in 0..count {
            shard.post.shard(0, Class::Request, ShardLetter::CatalogInstalled { revision: version });
        }
        assert!(!shard.post.ring(), "three letters wait");
        let mut seen = 0;
        loop {
            while let Some(ShardLetter::CatalogInstalled { revision: version }) = shard.inbox.pop() {
                assert_eq!(version, seen);
                seen += 1;
            }
            if seen == count {
                break;
            }
            shard.post.ring();
        }
        assert!(shard.post.ring());
    }

    #[test]
    fn a_shard_that_stands_still_holds_up_nobody_and_finds_the_newest_view() {
        let mut mesh = lay(2).unwrap();
        let view = |revision| ShardLetter::CatalogInstalled { revision };
        for revision in 1..=100_000 {
            mesh.gossip_core.shard_latest(0, view(revision));
            mesh.gossip_core.shard_latest(1, view(revision));
            mesh.gossip_core.ring();
            assert!(mesh.gossip_core.shards[0].outlets[0].overflow.len() <= 1, "what waits is bounded");
            // The other shard reads along, and hears everything.
            assert!(matches!(mesh.shards[1].inbox.pop(), Some(ShardLetter::CatalogInstalled { revision: read }) if read == revision));
        }
        let mut read = Vec::new();
        while let Some(ShardLetter::CatalogInstalled { revision }) = mesh.shards[0].inbox.pop() {
            read.push(revision);
            mesh.gossip_core.ring();
        }
        assert_eq!(read, [1, 2, 3, 4, 100_000]);
    }

    #[test]
    fn replies_overtake_requests() {
        let mut mesh = lay(1).unwrap();
        let shard = &mut mesh.shards[0];
        shard.post.shard(0, Class::Request, ShardLetter::CatalogInstalled { revision: 1 });
        shard.post.shard(0, Class::Reply, ShardLetter::CatalogInstalled { revision: 2 });
        shard.post.ring();
        assert!(matches!(shard.inbox.pop(), Some(ShardLetter::CatalogInstalled { revision: 2 })));
        assert!(matches!(shard.inbox.pop(), Some(ShardLetter::CatalogInstalled { revision: 1 })));
    }
}
