//! The machine: what one node knows, its doors, and its clock.
//!
//! This file directs traffic; what the words mean is in `judge`, who is asked in `probing`, what is sent in `spreading`,
//! and how views that drifted apart come together again in `healing`.

use std::collections::VecDeque;
use std::sync::Arc;

use distric_model::{Instant, NodeId};

use crate::config::{Config, ConfigError, SEEDS_MAX};
use crate::door::{Event, Outputs};
use crate::endpoint::Endpoint;
use crate::health::LocalHealth;
use crate::lanes::{LoadLane, NormalLane};
use crate::member::Member;
use crate::packet::{Header, Rumour};
use crate::partition::{Detector, Fate, Seen, Verdict};
use crate::probe::{Probe, Question, Relay, Ring};
use crate::profile::{Load, Profile, ProfileError};
use crate::random::{Random, mix};
use crate::seal::{KeyRing, Sealer};
use crate::standing::{Generation, Incarnation, Standing, State};
use crate::stats::Stats;
use crate::table::{Table, fingerprint};
use crate::urgent::UrgentLane;

/// A wake-up later than this says that this node slept, microseconds.
const LATE_US: u64 = 100_000;
/// How often the house is put in order (verdict, tombstones), milliseconds.
const HOUSE_MS: u64 = 500;

/// One member, as others may see it.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Who.
    pub node: NodeId,
    /// What is held of it.
    pub standing: Standing,
    /// What it says about itself.
    pub profile: Arc<Profile>,
    /// Its newest sample here.
    pub load: Load,
}

/// What this node is, in its own words.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) node: NodeId,
    pub(crate) standing: Standing,
    pub(crate) profile: Arc<Profile>,
    pub(crate) profile_at: Incarnation,
    pub(crate) load: Load,
    pub(crate) load_told_at: Instant,
    /// When it stops answering after its good-bye.
    pub(crate) gone_at: Option<Instant>,
}

/// When each of the regular duties is due.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    pub(crate) probe_at: Instant,
    pub(crate) gossip_at: Instant,
    pub(crate) sync_at: Instant,
    pub(crate) knock_at: Instant,
    pub(crate) house_at: Instant,
    /// `None` once a seed has answered.
    pub(crate) join_at: Option<Instant>,
}

/// The failure detector and member list of one node.
#[derive(Clone, Debug)]
pub struct Gossip {
    pub(crate) config: Config,
    pub(crate) own: Own,
    pub(crate) born_at: Instant,
    pub(crate) table: Table,
    pub(crate) ring: Ring,
    pub(crate) probes: Vec<Probe>,
    pub(crate) questions: VecDeque<Question>,
    pub(crate) relays: Vec<Relay>,
    pub(crate) urgent: UrgentLane,
    pub(crate) normal: NormalLane,
    pub(crate) loads: LoadLane,
    pub(crate) health: LocalHealth,
    pub(crate) detector: Detector,
    pub(crate) random: Random,
    pub(crate) timers: Timers,
    /// The wake-up last asked for: what comes later than that comes late.
    promised_at: Instant,
    /// When a live member last came, went or spoke.
    pub(crate) moved_at: Instant,
    pub(crate) sync_allowed_at: Instant,
    /// Comparisons in a row that brought nothing, since the view last moved.
    pub(crate) fruitless_syncs: u32,
    pub(crate) joins_tried: u32,
    pub(crate) join_cookie: u64,
    pub(crate) knock_cookie: Option<u64>,
    pub(crate) syncs_served: (Instant, u32),
    pub(crate) stats: Stats,
    /// `None`: packets are plain.
    pub(crate) sealer: Option<Sealer>,
}

impl Gossip {
    /// A machine that knows nobody yet. The first wake-up is due at once: call [`Self::handle_timeout`].
    ///
    /// `seed` drives every draw; equal seeds and inputs give equal outputs.  Errors: [`ConfigError`].
    pub fn new(config: Config, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        let mut random = Random::new(seed);
        let mut within = |ms: u64| now.plus_us(random.below(ms * 1_000));
        let timers = Timers {
            probe_at: within(config.probe_interval_ms),
            gossip_at: within(config.gossip_interval_ms),
            sync_at: within(config.sync_interval_ms).plus_ms(config.sync_interval_ms / 2),
            knock_at: within(config.knock_interval_ms),
            house_at: within(HOUSE_MS),
            join_at: if config.seeds.is_empty() { None } else { Some(now) },
        };
        let sealer = |ring: &KeyRing| Sealer::new(config.cluster, config.node, ring.clone(), config.key_choice, config.members_max);
        let sealer = config.keys.as_ref().map(sealer);
        let keys = sealer.as_ref().map(Sealer::word).unwrap_or_default();
        let own = Own {
            node: config.node,
            standing: Standing::new(config.generation, Incarnation(0), State::Alive),
            profile: Arc::new(Profile { keys, ..config.profile.clone() }),
            profile_at: Incarnation(0),
            load: Load::default(),
            load_told_at: now,
            gone_at: None,
        };
        Ok(Self {
            own,
            born_at: now,
            table: Table::new(mix(seed)),
            ring: Ring::default(),
            probes: Vec::new(),
            questions: VecDeque::new(),
            relays: Vec::new(),
            urgent: UrgentLane::new(now, config.urgent_packets_per_s),
            normal: NormalLane::new(mix(seed ^ 1)),
            loads: LoadLane::default(),
            health: LocalHealth::new(config.local_health_max),
            detector: Detector::new(now, config.partition_permille, config.partition_settle_ms),
            join_cookie: random.draw(),
            random,
            timers,
            promised_at: now,
            moved_at: now,
            sync_allowed_at: now,
            fruitless_syncs: 0,
            joins_tried: 0,
            knock_cookie: None,
            syncs_served: (now, 0),
            stats: Stats::default(),
            sealer,
            config,
        })
    }

    /// Takes in one datagram from `from`. Total: any bytes are legal to receive.
    pub fn handle_packet(&mut self, now: Instant, from: Endpoint, bytes: &[u8], out: &mut Outputs) {
        self.begin(now);
        if !self.is_gone(now) {
            self.on_packet(now, from, bytes, out);
        }
        self.finish(now, out);
    }

    /// Takes in one stream message from `from`; an answer goes back to it with [`crate::Leg::Answer`]. Total.
    pub fn handle_stream(&mut self, now: Instant, from: Endpoint, bytes: &[u8], out: &mut Outputs) {
        self.begin(now);
        if !self.is_gone(now) {
            self.on_stream(now, from, bytes, out);
        }
        self.finish(now, out);
    }

    /// Does what is due at `now`. Early calls do nothing. Every packet that has arrived must have been handed over before.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outputs) {
        self.begin(now);
        if !self.is_gone(now) {
            self.on_probe_timers(now, out);
            self.on_suspicion_timers(now, out);
            self.on_regular_timers(now, out);
            if self.urgent.flush_at().is_some_and(|at| at <= now) {
                self.flush_urgent(now, out);
            }
        }
        self.finish(now, out);
    }

    /// Says good-bye. The node goes on answering for `leave_linger_ms`, so that the word gets round, and is silent then.
    pub fn leave(&mut self, now: Instant, out: &mut Outputs) {
        self.begin(now);
        if self.own.gone_at.is_none() {
            self.own.gone_at = Some(now.plus_ms(self.config.leave_linger_ms));
            self.own.standing.state = State::Left;
            self.probes.clear();
            self.questions.clear();
            let farewell = self.own_rumour();
            self.spread_urgently(now, farewell);
            self.flush_urgent(now, out);
        }
        self.finish(now, out);
    }

    /// Replaces what this node says about itself. A new role is urgent, the rest is not.  Errors: [`ProfileError`]; nothing
    /// has changed then.
    pub fn set_profile(&mut self, now: Instant, profile: Profile, out: &mut Outputs) -> Result<(), ProfileError> {
        let profile = Profile { keys: self.own.profile.keys.clone(), ..profile };
        profile.check()?;
        self.begin(now);
        if *self.own.profile != profile && self.own.gone_at.is_none() {
            let role_changed = self.own.profile.role != profile.role;
            let record = self.change_profile(profile, out);
            if role_changed { self.spread_urgently(now, record) } else { self.spread(record) }
        }
        self.finish(now, out);
        Ok(())
    }

    /// Says something new about this node. Returns the record to be spread.
    pub(crate) fn change_profile(&mut self, profile: Profile, out: &mut Outputs) -> Rumour {
        self.own.profile = Arc::new(profile);
        self.raise_incarnation(self.own.standing.incarnation, out);
        self.own.profile_at = self.own.standing.incarnation;
        self.own_record()
    }

    /// Takes a sample of this node's load; `seq` is set here. Small changes are told every few seconds only.
    pub fn set_load(&mut self, now: Instant, load: Load) {
        const QUIET_MS: u64 = 5_000;
        let told = self.own.load;
        let same = Load { seq: told.seq, ..load } == told;
        if load.is_news_after(&told) || (!same && now >= self.own.load_told_at.plus_ms(QUIET_MS)) {
            self.own.load = Load { seq: told.seq.wrapping_add(1), ..load };
            self.own.load_told_at = now;
        }
    }

    /// Takes over what another machine of this process holds of the members, itself included: what a comparison of views brings, without
    /// its bytes, and with one copy of what the members say of themselves. For worlds of thousands of machines.
    pub fn copy_view(&mut self, now: Instant, other: &Self) {
        self.table.reserve(other.table.len() + 1);
        let itself = Member::new(now, other.own.node, other.own.standing, Arc::clone(&other.own.profile), other.own.profile_at);
        let others = other.table.iter().map(|(_, member)| member.copied(now));
        for member in others.chain(std::iter::once(itself)) {
            let is_news = member.node() != self.own.node && self.table.of(member.node()).is_none();
            if is_news && member.standing.state == State::Alive && self.table.len() + 1 < self.config.members_max {
                self.table.insert(member);
            }
        }
        self.timers.join_at = None;
        self.moved_at = now;
    }

    /// Replaces the nodes to join by, of which the first 64 count. A machine that knows nobody asks them at once; later they are the
    /// doors that a partition heals through.
    pub fn set_seeds(&mut self, now: Instant, mut seeds: Vec<Endpoint>, out: &mut Outputs) {
        self.begin(now);
        seeds.truncate(SEEDS_MAX);
        if seeds != self.config.seeds {
            self.config.seeds = seeds;
            if self.live_count() <= 1 && !self.config.seeds.is_empty() {
                self.timers.join_at = Some(now);
                self.joins_tried = 0;
            }
        }
        self.finish(now, out);
    }

    /// All known members but this node, by id; the dead and the left too, as long as they are remembered.
    pub fn members(&self) -> impl Iterator<Item = MemberView> {
        let mut views: Vec<MemberView> = self.table.iter().map(|(node, member)| view_of(node, member)).collect();
        views.sort_unstable_by_key(|view| view.node);
        views.into_iter()
    }

    /// What is held of one other member.
    pub fn standing_of(&self, node: NodeId) -> Option<Standing> {
        self.table.of(node).map(|member| member.standing)
    }

    /// The newest load sample of one other member.
    pub fn load_of(&self, node: NodeId) -> Option<Load> {
        self.table.of(node).map(|member| member.load)
    }

    /// The newest sample of this node's own load.
    pub const fn own_load(&self) -> Load {
        self.own.load
    }

    /// What this node says of itself.
    pub const fn own_standing(&self) -> Standing {
        self.own.standing
    }

    /// Members held live, this node included unless it left.
    pub fn live_count(&self) -> usize {
        self.table.live().len() + usize::from(self.own.standing.state == State::Alive)
    }

    /// Members remembered, tombstones included.
    pub fn known_count(&self) -> usize {
        self.table.len()
    }

    /// A fingerprint of the live view: nodes with equal ones agree.
    pub fn view(&self) -> u64 {
        self.table.view() ^ fingerprint(self.own.node, self.own.standing, (self.own.standing.generation, self.own.profile_at))
    }

    /// Whether there is or may be a partition.
    pub const fn verdict(&self) -> Verdict {
        self.detector.verdict()
    }

    /// How far this node distrusts itself: 0 healthy to 8.
    pub const fn local_health(&self) -> u32 {
        self.health.score()
    }

    /// Rumours in waiting: normal lane and load lane.
    pub fn backlog(&self) -> (usize, usize) {
        (self.normal.len(), self.loads.len())
    }

    /// Counters since the start.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    fn is_gone(&self, now: Instant) -> bool {
        self.own.gone_at.is_some_and(|at| at <= now)
    }

    /// Notices that this node slept. Whoever seems silent may have spoken meanwhile: running probes are dropped unjudged,
    /// suspicions get their time back, and the blame is ours.
    pub(crate) fn begin(&mut self, now: Instant) {
        let slept_us = now.since_us(self.promised_at);
        if slept_us <= LATE_US {
            return;
        }
        self.promised_at = now;
        self.stats.late_wakes_count += 1;
        self.stats.probes_excused_count += self.probes.len() as u64;
        self.probes.clear();
        self.health.worsen(1);
        for node in self.table.suspects() {
            self.table.change(node, |member| member.suspicion_mut().into_iter().for_each(|suspicion| suspicion.excuse(now, slept_us)));
        }
    }

    pub(crate) fn finish(&mut self, now: Instant, out: &mut Outputs) {
        if self.is_gone(now) {
            out.wake_at = None;
            return;
        }
        self.start_questions(now, out);
        let regular = [self.timers.probe_at, self.timers.gossip_at, self.timers.sync_at, self.timers.knock_at, self.timers.house_at];
        let wake_at = regular
            .into_iter()
            .chain(self.timers.join_at)
            .chain(self.own.gone_at)
            .chain(self.table.next_deadline())
            .chain(self.urgent.flush_at())
            .chain(self.probes.iter().map(Probe::wake_at))
            .chain(self.relays.iter().map(|relay| relay.nack_at))
            .min()
            .expect("there are regular duties");
        self.promised_at = wake_at.max(now);
        out.wake_at = Some(self.promised_at);
    }

    fn on_regular_timers(&mut self, now: Instant, out: &mut Outputs) {
        if self.timers.join_at.is_some_and(|at| at <= now) {
            self.ask_seeds(now, out);
        }
        if self.timers.gossip_at <= now {
            self.timers.gossip_at = now.plus_ms(self.config.gossip_interval_ms);
            self.on_gossip_tick(out);
        }
        if self.timers.sync_at <= now {
            // Grows with the logarithm: a thousand nodes compare every 2 minutes or so when nothing seems to differ.
            let doublings = u64::from(self.live_count().max(2).ilog2()).saturating_sub(5).max(1);
            self.timers.sync_at = now.plus_ms(self.config.sync_interval_ms * doublings);
            self.sync_with_anyone(now, out);
        }
        if self.timers.knock_at <= now {
            self.timers.knock_at = now.plus_ms(self.config.knock_interval_ms);
            self.knock(out);
        }
        if self.timers.house_at <= now {
            self.timers.house_at = now.plus_ms(HOUSE_MS);
            self.keep_house(now, out);
        }
    }

    fn keep_house(&mut self, now: Instant, out: &mut Outputs) {
        if self.detector.is_due(now, self.table.version())
            && let Some(from) = self.look_for_cuts(now)
        {
            out.events.push(Event::Partition { from, to: self.detector.verdict() });
        }
        // While a cut is suspected nobody is forgotten: the other side will want to be found again.
        while self.detector.verdict() == Verdict::None
            && let Some((node, since)) = self.table.oldest_tombstone()
            && since.plus_ms(self.config.tombstone_ms) <= now
        {
            self.bury(node);
        }
    }

    /// Forgets one of the dead: but for its grave, and what its packets were checked by.
    pub(crate) fn bury(&mut self, node: NodeId) {
        self.table.bury(node);
        if let Some(sealer) = &mut self.sealer {
            sealer.forget(node);
        }
        self.stats.reaped_count += 1;
    }

    /// Shows the sums over all members to the detector; the verdict before when it changed.
    fn look_for_cuts(&mut self, now: Instant) -> Option<Verdict> {
        let profile = &self.own.profile;
        let mut tally = self.table.tally().clone();
        tally.add(Seen { node: self.own.node, zone: &profile.zone, role: profile.role, fate: Fate::Here, is_stable: true });
        let look = self.detector.observe(now, self.table.version(), &tally);
        if look.is_new_stable {
            self.table.take_as_stable();
        }
        look.before
    }

    /// Speaks up once more than `heard`. When the numbers of this generation are used up, the next generation begins.
    pub(crate) fn raise_incarnation(&mut self, heard: Incarnation, out: &mut Outputs) {
        match heard.0.checked_add(1) {
            Some(next) => self.own.standing.incarnation = Incarnation(next),
            None => {
                self.own.standing.generation = Generation(self.own.standing.generation.0 + 1);
                self.own.standing.incarnation = Incarnation(0);
                self.own.profile_at = Incarnation(0);
                out.events.push(Event::GenerationRaised { generation: self.own.standing.generation });
            }
        }
    }

    pub(crate) fn header(&self) -> Header {
        Header { sender: self.own.node, standing: self.own.standing, profile_at: self.own.profile_at }
    }

    /// This node's word, without the profile.
    pub(crate) fn own_rumour(&self) -> Rumour {
        Rumour::brief(self.own.node, self.own.standing, self.own.profile_at)
    }

    /// This node's word and profile.
    pub(crate) fn own_record(&self) -> Rumour {
        let mut record = self.own_rumour();
        record.profile = Some(Arc::clone(&self.own.profile));
        record
    }
}

fn view_of(node: NodeId, member: &Member) -> MemberView {
    MemberView { node, standing: member.standing, profile: Arc::clone(member.profile()), load: member.load }
}
