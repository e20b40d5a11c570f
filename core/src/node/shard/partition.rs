//! One work group's machine on the shard that owns it, and what its leader has in flight.
//!
//! In: committed entries.  Out: effects, filtered: only an active leader acts on hints; answers go to whoever asked.
//! Invariant: at most one `Tick` and one `Continue` of a group are in flight.
//! Invariant: a machine that met an entry it cannot apply stops there for good, and the node lives on.

use std::collections::BTreeMap;

use distric_exec::machine::MACHINE_VERSION_MAX;
use distric_exec::{Command, Context, Effect, Machine, Settings};
use distric_model::{GroupId, Instant, NodeId, Timestamp, WorkerId};
use distric_raft::Position;

use crate::node::envelope::{Envelope, Origin};
use crate::node::letters::CommittedEntry;
use crate::node::machine_clock::Now;

/// Between two deliveries of outbox records that nobody has acknowledged, milliseconds.
pub const OUT_RETRY_MS: u64 = 2_000;
/// A worker whose stream broke is given up after this long, milliseconds. Gossip's word shortens or prolongs this: see
/// `liveness`.
pub const WORKER_GRACE_MS: u64 = 3_000;
/// At least this long between two ticks of one group, milliseconds: a stamp a little behind must not make a loop.
const TICK_PAUSE_MS: u64 = 1;

/// A work group on its shard.
pub struct Partition {
    /// Its machine.
    pub machine: Machine,
    group: GroupId,
    /// The last stamp of this node's own lead, and when it was seen: what is known of machine time.
    stamped: Option<(Instant, Timestamp)>,
    leader: Option<NodeId>,
    led_term: Option<u64>,
    active: bool,
    halted: Option<(u64, String)>,
    /// The last entry that was looked at, raft's own included.
    applied_index: u64,
    tick_in_flight: bool,
    continue_in_flight: bool,
    /// When the next tick is wanted.
    pub tick_at: Option<Instant>,
    /// When unacknowledged outbox records are delivered again.
    pub out_retry_at: Option<Instant>,
    /// Workers of this group without a stream.
    pub absent: BTreeMap<WorkerId, Absent>,
    /// Workers whose computer is at another level of load than the group holds, by gossip: at which, and since when.
    pub busy: BTreeMap<WorkerId, (u8, Instant)>,
}

/// A run of a worker whose stream broke.
#[derive(Clone, Copy, Debug)]
pub struct Absent {
    /// The run. The machine may not have heard of it yet: its `WorkerUp` is on its way.
    pub generation: u64,
    /// When it is given up.
    pub until: Instant,
}

/// What became of one entry.
pub enum Applied {
    /// Nothing of the machine's: raft's own entry. `true` when it made the leader active.
    Skipped {
        /// The leader's first entry of its term was applied just now.
        activated: bool,
    },
    /// Applied; the effects are in the caller's buffer.
    Effects {
        /// Who asked for it.
        origin: Origin,
        /// Whether hints are to be acted on.
        emit: bool,
        /// The leader's first entry of its term was applied just now.
        activated: bool,
    },
    /// The machine stopped here, now.
    Halted,
    /// The machine stopped earlier.
    Stopped,
}

impl Partition {
    /// An empty group.
    ///
    /// Every replica starts from the default limits; those of the configuration come through the log, so that two
    /// differently configured replicas cannot fork.
    pub fn new(group: GroupId) -> Self {
        Self {
            machine: Machine::new(group, Settings::default()),
            group,
            stamped: None,
            leader: None,
            led_term: None,
            active: false,
            halted: None,
            applied_index: 0,
            tick_in_flight: false,
            continue_in_flight: false,
            tick_at: None,
            out_retry_at: None,
            absent: BTreeMap::new(),
            busy: BTreeMap::new(),
        }
    }

    /// Its group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The leader as far as known.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The term in which this node leads it, if it does.
    pub fn led_term(&self) -> Option<u64> {
        self.led_term
    }

    /// Whether this node leads it and has applied an entry of its own term.
    pub fn is_active(&self) -> bool {
        self.active && self.halted.is_none()
    }

    /// Where and why it stopped, if it did.
    pub fn halted(&self) -> Option<&(u64, String)> {
        self.halted.as_ref()
    }

    /// Whether a question about what was committed up to `index` can be answered: a group that stopped has no more to say than this.
    pub fn has_applied(&self, index: u64) -> bool {
        self.applied_index >= index || self.halted.is_some()
    }

    /// Puts a machine from a checkpoint in the place of this one, unless this one has applied as much. Returns whether it did.
    pub fn install(&mut self, machine: Machine, at: Position) -> bool {
        if at.index.0 <= self.applied_index {
            return false;
        }
        self.machine = machine;
        self.applied_index = at.index.0;
        self.halted = None;
        true
    }

    /// Takes note of an election. Returns whether this node has just lost the lead.
    pub fn on_leadership(&mut self, me: NodeId, term: u64, leader: Option<NodeId>) -> bool {
        let led = self.led_term.is_some();
        self.leader = leader;
        if leader == Some(me) {
            if self.led_term != Some(term) {
                self.led_term = Some(term);
                self.stamped = None;
                self.active = false;
                self.tick_in_flight = false;
                self.continue_in_flight = false;
            }
            return false;
        }
        self.led_term = None;
        self.active = false;
        self.tick_at = None;
        self.out_retry_at = None;
        self.absent.clear();
        self.busy.clear();
        led
    }

    /// Applies one entry; effects are appended to `effects`.
    pub fn apply(&mut self, now: Now, entry: &CommittedEntry, effects: &mut Vec<Effect>) -> Applied {
        if self.halted.is_some() {
            return Applied::Stopped;
        }
        self.applied_index = entry.index;
        let activated = !self.active && self.led_term == Some(entry.term);
        if entry.data.is_empty() {
            self.active |= activated;
            return Applied::Skipped { activated };
        }
        let (envelope, command) = match open(entry) {
            Ok(opened) => opened,
            Err(reason) => {
                self.halted = Some((entry.index, reason));
                return Applied::Halted;
            }
        };
        if let Command::RaiseVersion(version) = command
            && version > MACHINE_VERSION_MAX
        {
            self.halted =
                Some((entry.index, format!("the group's machine version is {version}, this program knows up to {MACHINE_VERSION_MAX}")));
            return Applied::Halted;
        }
        self.active |= activated;
        match command {
            Command::Tick => self.tick_in_flight = false,
            Command::Continue => self.continue_in_flight = false,
            _ => {}
        }
        if self.led_term == Some(entry.term) {
            self.stamped = Some((now.mono, envelope.stamp));
        }
        let context = Context { index: entry.index, stamp: envelope.stamp, draw: envelope.draw };
        self.machine.apply(context, command, effects);
        Applied::Effects { origin: envelope.origin, emit: self.active, activated }
    }

    /// What the leader should propose for the machine's own sake. Call after a batch of entries and when time has come.
    pub fn wants(&mut self, now: Now) -> Vec<Command> {
        self.tick_at = None;
        let mut commands = Vec::new();
        if !self.is_active() {
            return commands;
        }
        if self.machine.wants_continue() && !self.continue_in_flight {
            self.continue_in_flight = true;
            commands.push(Command::Continue);
        }
        if let Some(due) = self.machine.next_due()
            && !self.tick_in_flight
        {
            // The stamps of the raft core are the only clock here: an estimate of its own that ran ahead of them would propose ticks that
            // find nothing due, one after the other. Before the first stamp of a lead nobody knows how long the group was without one.
            let at = self.stamped.map_or(now.mono, |(seen_at, stamp)| seen_at.plus_us(due.since_us(stamp)));
            if at <= now.mono {
                self.tick_in_flight = true;
                commands.push(Command::Tick);
            } else {
                self.tick_at = Some(at.max(now.mono.plus_ms(TICK_PAUSE_MS)));
            }
        }
        if self.out_retry_at.is_none() && self.machine.pending_out().next().is_some() {
            self.out_retry_at = Some(now.mono.plus_ms(OUT_RETRY_MS));
        }
        commands
    }

    /// What a new leader must put into the state before anything else: the limits it was configured with, and the machine
    /// version that it knows. One voter is all members, so the version can be raised at once.
    pub fn founding_wants(&self, settings: &Settings) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.machine.version() < MACHINE_VERSION_MAX {
            commands.push(Command::RaiseVersion(MACHINE_VERSION_MAX));
        }
        if self.machine.settings() != settings {
            commands.push(Command::Configure(settings.clone()));
        }
        commands
    }

    /// A proposal of the lead in this term did not reach the log; if it was one of [`Self::wants`], it may be wanted again.
    pub fn on_refused_own(&mut self, term: u64) {
        if self.led_term == Some(term) {
            self.tick_in_flight = false;
            self.continue_in_flight = false;
        }
    }

    /// When [`Self::wants`] or a retry or a give-up is due next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.tick_at.into_iter().chain(self.out_retry_at).chain(self.absent.values().map(|absent| absent.until)).min()
    }
}

fn open(entry: &CommittedEntry) -> Result<(Envelope<'_>, Command), String> {
    let envelope = Envelope::open(&entry.data).map_err(|error| error.to_string())?;
    let command = Command::decode(envelope.command).map_err(|error| error.to_string())?;
    Ok((envelope, command))
}
