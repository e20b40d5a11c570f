//! Healing: joining by seeds, comparing views, and knocking at the doors of the dead.
//!
//! A comparison is for what rumours missed: both sides end with the greater word about everyone. Dead members are knocked
//! at for as long as they are remembered, and seeds for ever, so that a partition heals however long it lasted.

use distric_model::{Instant, NodeId};

use crate::door::{Event, Leg, Outputs, Stream};
use crate::endpoint::{Endpoint, Target};
use crate::judge::Via;
use crate::machine::Gossip;
use crate::member::Member;
use crate::packet::{Header, KIND_STREAM, Rumour};
use crate::refusal::Refusal;
use crate::standing::{Incarnation, Standing, State};
use crate::stream::{Message, STREAM_RUMOURS_MAX};

/// Comparisons that one node serves in a second: a thousand joiners at one seed must not drown it.
const SYNCS_PER_S_MAX: u32 = 128;
/// A view that moved within this time is still on its way round: differences are no reason yet, milliseconds.
const QUIET_MS: u64 = 2_000;
/// How often the pause between comparisons that bring nothing is doubled at most.
const FRUITLESS_DOUBLINGS_MAX: u32 = 4;
/// How many in the whole cluster knock in one interval.
const KNOCKS: u64 = 3;
/// Attempts after which a node that others have joined no longer waits for a seed.
const JOINS_ALONE: u32 = 4;
/// First and longest pause between attempts to join, milliseconds.
const JOIN_PAUSE_MS_MIN: u64 = 500;
const JOIN_PAUSE_MS_MAX: u64 = 10_000;

impl Gossip {
    pub(crate) fn ask_seeds(&mut self, now: Instant, out: &mut Outputs) {
        if self.joins_tried >= JOINS_ALONE && self.live_count() > 1 {
            // Others joined by us while no seed answered: that is a cluster, and seeds that are not in it are knocked at.
            self.timers.join_at = None;
            out.events.push(Event::Ready { live_count: self.live_count() });
            return;
        }
        let pause_ms = (JOIN_PAUSE_MS_MIN << self.joins_tried.min(8)).min(JOIN_PAUSE_MS_MAX);
        self.joins_tried += 1;
        // Jitter keeps those that started together from asking together.
        let jitter_ms = self.random.below(pause_ms / 2 + 1);
        self.timers.join_at = Some(now.plus_ms(pause_ms + jitter_ms));
        for seed in self.config.seeds.clone() {
            self.knock_at(seed, None, self.join_cookie, out);
        }
    }

    /// A ping with our record, to someone who may not know us.
    fn knock_at(&mut self, to: Endpoint, target: Option<NodeId>, cookie: u64, out: &mut Outputs) {
        if to == self.own.profile.endpoint {
            return;
        }
        let record = self.own_record();
        self.send_ping(to, target, cookie, Some(record), out);
    }

    /// A seed, or one held dead, answered: compare views.
    pub(crate) fn on_seed_ack(&mut self, now: Instant, from: Target, cookie: u64, out: &mut Outputs) -> bool {
        let is_join = cookie == self.join_cookie && self.timers.join_at.is_some();
        let is_knock = self.knock_cookie == Some(cookie);
        if is_knock {
            self.knock_cookie = None;
        }
        if is_join && self.sync_allowed_at <= now || is_knock {
            self.sync_allowed_at = now.plus_ms(JOIN_PAUSE_MS_MIN);
            self.open_sync(from, out);
        }
        is_join || is_knock
    }

    /// Tries whether one of the dead, or a seed that is not among the members, is there after all.
    pub(crate) fn knock(&mut self, out: &mut Outputs) {
        if self.own.gone_at.is_some() || self.random.below(self.live_count() as u64) >= KNOCKS {
            return;
        }
        let dead = self.table.iter().filter(|(_, member)| member.standing.state == State::Dead);
        let doors: Vec<(Endpoint, Option<NodeId>)> = dead.map(|(node, member)| (member.profile().endpoint, Some(node))).collect();
        let is_known = |seed: &Endpoint| self.table.iter().any(|(_, member)| member.profile().endpoint == *seed);
        let strangers = self.config.seeds.iter().filter(|seed| !is_known(seed)).map(|seed| (*seed, None));
        let doors: Vec<(Endpoint, Option<NodeId>)> = strangers.chain(doors).collect();
        if doors.is_empty() {
            return;
        }
        let (to, target) = doors[self.random.below(doors.len() as u64) as usize];
        let cookie = self.random.draw();
        self.knock_cookie = Some(cookie);
        self.knock_at(to, target, cookie, out);
    }

    /// A member's view is not ours. When both have been at rest, rumours will not bring them together any more.
    pub(crate) fn compare(&mut self, now: Instant, with: NodeId, view: u64, out: &mut Outputs) {
        let is_quiet = now.since_us(self.moved_at) >= QUIET_MS * 1_000;
        if view != self.view() && is_quiet && self.sync_allowed_at <= now && self.timers.join_at.is_none() {
            let Some(member) = self.table.of(with) else { return };
            let to = member.profile().endpoint;
            // Views can stay apart on purpose, as when one is taken back here and not yet there: asking again brings nothing then.
            let longest_ms = self.config.sync_pause_ms << self.fruitless_syncs.min(FRUITLESS_DOUBLINGS_MAX);
            let pause_ms = longest_ms / 2 + self.random.below(longest_ms);
            self.sync_allowed_at = now.plus_ms(pause_ms);
            self.open_sync(Target::member(with, to), out);
        }
    }

    pub(crate) fn sync_with_anyone(&mut self, now: Instant, out: &mut Outputs) {
        if self.table.pick(&mut self.random, 1) == 1 {
            let member = self.table.picked(0);
            let to = Target::member(member.node(), member.profile().endpoint);
            self.sync_allowed_at = now.plus_ms(self.config.sync_pause_ms);
            self.open_sync(to, out);
        }
    }

    fn open_sync(&mut self, to: Target, out: &mut Outputs) {
        if self.own.gone_at.is_none() {
            let digest = self.digest();
            self.send_stream(to, Leg::Open, &Message::Digest(digest), out);
        }
    }

    fn send_stream(&mut self, to: Target, leg: Leg, message: &Message, out: &mut Outputs) {
        let header = self.header();
        let bytes = self.wrap(KIND_STREAM, to.node, &header, &message.encode());
        self.stats.streams_sent_count += 1;
        self.stats.stream_bytes_sent += bytes.len() as u64;
        out.streams.push(Stream { to: to.endpoint, leg, bytes });
    }

    /// All that is known, briefly, ourselves first.
    fn digest(&self) -> Vec<Rumour> {
        let others = self.table.iter().map(|(node, member)| digest_of(node, member));
        std::iter::once(self.own_rumour()).chain(others).take(STREAM_RUMOURS_MAX).collect()
    }

    pub(crate) fn on_stream(&mut self, now: Instant, from: Endpoint, bytes: &[u8], out: &mut Outputs) {
        let (header, message) = match self.read_stream(now, bytes) {
            Some(read) => read,
            None => {
                self.stats.streams_refused_count += 1;
                return;
            }
        };
        let from = Target::member(header.sender, from);
        self.apply_header(now, &header, out);
        match message {
            Message::Digest(theirs) => {
                if self.may_serve(now) {
                    let answer = self.answer_digest(&theirs);
                    self.send_stream(from, Leg::Answer, &answer, out);
                }
            }
            Message::Answer { news, wanted } => {
                let before = self.table.version();
                self.take_news(now, header.sender, &news, out);
                let is_fruitless = self.table.version() == before;
                self.fruitless_syncs = if is_fruitless { self.fruitless_syncs.saturating_add(1) } else { 0 };
                if self.timers.join_at.take().is_some() {
                    out.events.push(Event::Ready { live_count: self.live_count() });
                }
                let push: Vec<Rumour> = wanted.into_iter().filter_map(|node| self.record_if_known(node)).collect();
                if !push.is_empty() {
                    self.send_stream(from, Leg::Answer, &Message::Push(push), out);
                }
            }
            Message::Push(news) => self.take_news(now, header.sender, &news, out),
        }
    }

    /// What a stream says to us. A comparison is always with somebody known, so it is made for us alone.
    fn read_stream(&mut self, now: Instant, bytes: &[u8]) -> Option<(Header, Message)> {
        let opened = self.open(now, KIND_STREAM, bytes).ok()?;
        let refusal = match Message::decode(&opened.inside) {
            Ok(_) if opened.header.sender == self.own.node => Refusal::Own,
            Ok(_) if !opened.is_bound => Refusal::Unbound,
            Ok(_) if opened.is_older => Refusal::Generation,
            Ok(message) => return Some((opened.header, message)),
            Err(error) => error.into(),
        };
        self.stats.refusals.count(refusal);
        None
    }

    fn may_serve(&mut self, now: Instant) -> bool {
        const SECOND_US: u64 = 1_000_000;
        if now.since_us(self.syncs_served.0) >= SECOND_US {
            self.syncs_served = (now, 0);
        }
        self.syncs_served.1 += 1;
        let may = self.syncs_served.1 <= SYNCS_PER_S_MAX && self.own.gone_at.is_none();
        self.stats.syncs_throttled_count += u64::from(!may);
        may
    }

    fn take_news(&mut self, now: Instant, by: NodeId, news: &[Rumour], out: &mut Outputs) {
        for rumour in news {
            self.hear_voucher(now, by, rumour);
            self.apply_rumour(now, rumour, Via::Sync, out);
        }
    }

    fn record_if_known(&self, node: NodeId) -> Option<Rumour> {
        if node == self.own.node { Some(self.own_record()) } else { self.table.of(node).map(|_| self.record_of(node)) }
    }

    /// Both sides of the difference: where our word is greater or theirs is missing, it is news to them; where theirs is
    /// greater or ours is missing, it is wanted of them.
    fn answer_digest(&self, theirs: &[Rumour]) -> Message {
        let mut said: Vec<(NodeId, Held)> = theirs.iter().map(|rumour| (rumour.node, Held::of(rumour))).collect();
        said.sort_unstable_by_key(|(node, _)| *node);
        said.dedup_by_key(|(node, _)| *node);
        let find = |node: NodeId| said.binary_search_by_key(&node, |(node, _)| *node).ok().map(|at| said[at].1);
        let mut news = Vec::new();
        if find(self.own.node).is_none_or(|held| held.is_behind(&Held::of(&self.own_rumour()))) {
            news.push(self.own_record());
        }
        for (node, member) in self.table.iter() {
            let ours = Held::of(&digest_of(node, member));
            if find(node).is_none_or(|held| held.is_behind(&ours)) && news.len() < STREAM_RUMOURS_MAX {
                news.push(self.record_of(node));
            }
        }
        let mut wanted = Vec::new();
        for (node, held) in &said {
            let ours = self.table.of(*node).map(|member| Held::of(&digest_of(*node, member)));
            if *node != self.own.node && ours.is_none_or(|ours| ours.is_behind(held)) {
                wanted.push(*node);
            } else if *node == self.own.node && held.standing > self.own.standing {
                // They hold us dead: we want to hear it, for then we speak up.
                wanted.push(*node);
            }
        }
        Message::Answer { news, wanted }
    }
}

/// In a digest, `hops` of 1 says that the profile of this life is lacking.
fn digest_of(node: NodeId, member: &Member) -> Rumour {
    let is_whole = member.profile_at().0 == member.standing.generation;
    let profile_at = if is_whole { member.profile_at().1.min(member.standing.incarnation) } else { Incarnation(0) };
    Rumour { hops: u8::from(!is_whole), ..Rumour::brief(node, member.standing, profile_at) }
}

/// What one side holds of a member, as far as the other may lack it.
#[derive(Clone, Copy)]
struct Held {
    standing: Standing,
    profile: (u64, Option<Incarnation>),
}

impl Held {
    fn of(rumour: &Rumour) -> Self {
        let profile = (rumour.standing.generation.0, (rumour.hops == 0).then_some(rumour.profile_at));
        Self { standing: rumour.standing, profile }
    }

    fn is_behind(&self, other: &Self) -> bool {
        self.standing < other.standing || self.profile < other.profile
    }
}
