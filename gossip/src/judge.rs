//! Judgement: what a word about a member changes, and what a word about ourselves obliges us to.
//!
//! The greater standing wins, and whatever won is passed on; what changes nothing is not.

use std::sync::Arc;

use distric_model::{Instant, NodeId};

use crate::door::{Event, Outputs};
use crate::endpoint::Target;
use crate::machine::Gossip;
use crate::member::Member;
use crate::packet::Rumour;
use crate::partition::Verdict;
use crate::probe::{QUESTIONS_MAX, Question};
use crate::random::mix;
use crate::returning::Returns;
use crate::standing::{Generation, Incarnation, State};
use crate::suspicion::{Suspicion, suspicion_ms_min};

/// A word further ahead than this many incarnations is no honest one: it would poison the member for ever.
const INCARNATION_JUMP_MAX: u32 = 1 << 20;
/// A generation further ahead of our clock than a year is no honest one.
const GENERATION_AHEAD_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1_000;

/// How often the normal lane sends a newcomer of whom a comparison told.
const SENDS_AFTER_SYNC: u32 = 2;

/// How a word came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// In a datagram.
    Packet,
    /// In the envelope of a datagram or stream: the node itself says so.
    FirstHand,
    /// In a comparison of views: it may be old, so an accusation is a question and no verdict.
    Sync,
}

/// What is to be answered to whoever sent the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    /// The sender is behind about us, or accuses us: it should hear from us directly.
    OwnRecord,
}

impl Gossip {
    /// Applies one word.
    pub(crate) fn apply_rumour(&mut self, now: Instant, rumour: &Rumour, via: Via, out: &mut Outputs) -> Answer {
        if rumour.node == self.own.node {
            return self.on_word_about_self(now, rumour, out);
        }
        let known = self.table.of(rumour.node);
        let jump = known
            .filter(|member| member.standing.generation == rumour.standing.generation)
            .map_or(0, |member| rumour.standing.incarnation.0.saturating_sub(member.standing.incarnation.0));
        if rumour.standing.generation > self.generation_max(now) || jump > INCARNATION_JUMP_MAX {
            self.stats.rumours_refused_count += 1;
            return Answer::Nothing;
        }
        match known {
            None => self.on_unknown(now, rumour, via, out),
            Some(_) => {
                self.take_profile(rumour, via, out);
                self.on_known(now, rumour, via, out);
            }
        }
        Answer::Nothing
    }

    /// The greatest generation that a sender may honestly have.
    pub(crate) fn generation_max(&self, now: Instant) -> Generation {
        let uptime_ms = now.since_us(self.born_at) / 1_000;
        Generation(self.own.standing.generation.0.saturating_add(uptime_ms).saturating_add(GENERATION_AHEAD_MS_MAX))
    }

    /// Nobody knows us better than we do: a word that would end us is refuted with a greater one.
    fn on_word_about_self(&mut self, now: Instant, rumour: &Rumour, out: &mut Outputs) -> Answer {
        let own = self.own.standing;
        let said = rumour.standing;
        if said.generation > own.generation {
            out.events.push(Event::Superseded { generation: said.generation });
            return Answer::Nothing;
        }
        let is_behind = said.identity() < own.identity();
        let accuses = said.state != State::Alive && said.state != own.state;
        if is_behind {
            return if accuses || said.generation < own.generation { Answer::OwnRecord } else { Answer::Nothing };
        }
        if let (Some(profile), State::Alive) = (&rumour.profile, said.state)
            && rumour.profile_at == self.own.profile_at
            && profile.endpoint != self.own.profile.endpoint
        {
            out.events.push(Event::Conflict { node: self.own.node, refused: profile.endpoint });
        }
        let is_ahead = said.identity() > own.identity();
        if own.state == State::Left && !is_ahead || !(accuses || is_ahead) {
            return Answer::Nothing;
        }
        if said.incarnation.0 - own.incarnation.0 > INCARNATION_JUMP_MAX {
            self.stats.rumours_refused_count += 1;
            return Answer::Nothing;
        }
        self.raise_incarnation(said.incarnation, out);
        if own.state != State::Left {
            // Others had reason to doubt us; perhaps we are the slow one (Lifeguard, section IV-A).
            self.health.worsen(1);
        }
        self.stats.refuted_self_count += 1;
        self.moved_at = now;
        let word = self.own_rumour();
        self.spread_urgently(now, word);
        Answer::OwnRecord
    }

    fn on_unknown(&mut self, now: Instant, rumour: &Rumour, via: Via, out: &mut Outputs) {
        let node = rumour.node;
        if let Some(grave) = self.table.grave(node).filter(|grave| rumour.standing.identity() <= grave.identity()) {
            self.stats.rumours_buried_count += 1;
            if via == Via::Sync
                && let Some(profile) = rumour.profile.as_ref().filter(|_| rumour.standing.state.is_live())
            {
                // Someone holds it live: it should know that it was buried, and speak up.
                let word = Rumour { accuser: Some(self.own.node), ..Rumour::brief(node, grave, rumour.profile_at) };
                self.send_words(Target::member(node, profile.endpoint), &[word], out);
            }
            return;
        }
        let Some(profile) = &rumour.profile else { return };
        let is_live = rumour.standing.state.is_live();
        if !is_live && via != Via::Sync {
            return;
        }
        if self.table.len() + 1 >= self.config.members_max && !self.make_room() {
            self.stats.members_refused_count += 1;
            return;
        }
        let standing = if is_live { rumour.standing.with(State::Alive) } else { rumour.standing };
        self.table.insert(Member::new(now, node, standing, Arc::clone(profile), rumour.profile_at));
        self.hear_choice(profile, out);
        if !is_live {
            return;
        }
        self.put_in_ring(node);
        self.moved_at = now;
        out.events.push(Event::Joined { node, generation: standing.generation, profile: Arc::clone(profile) });
        let record = self.record_of(node);
        if via != Via::Sync {
            self.spread(record);
        } else if self.timers.join_at.is_none() {
            // What came by comparison spreads by comparison; and what a joiner learns from its seed the others know.
            self.normal.push(record, SENDS_AFTER_SYNC);
        }
        if rumour.standing.state == State::Suspect {
            self.on_known(now, rumour, via, out);
        }
    }

    fn put_in_ring(&mut self, node: NodeId) {
        let place = self.table.place_of(node).expect("it was entered");
        self.ring.insert(&mut self.random, place);
    }

    /// Gives up the oldest tombstone for a newcomer.
    fn make_room(&mut self) -> bool {
        let oldest = self.table.oldest_tombstone();
        if let Some((node, _)) = oldest {
            self.bury(node);
        }
        oldest.is_some()
    }

    /// A profile has a version of its own: it may come with a word that is otherwise old.
    fn take_profile(&mut self, rumour: &Rumour, via: Via, out: &mut Outputs) {
        let Some(member) = self.table.of(rumour.node) else { return };
        let Some(profile) = &rumour.profile else { return };
        let version = (rumour.standing.generation, rumour.profile_at);
        if version == member.profile_at() && profile.endpoint != member.profile().endpoint {
            out.events.push(Event::Conflict { node: rumour.node, refused: profile.endpoint });
        }
        if version <= member.profile_at() || rumour.standing.generation < member.standing.generation {
            return;
        }
        let role_changed = member.profile().role != profile.role;
        let same_life = member.standing.generation == rumour.standing.generation;
        let is_live = member.standing.state.is_live();
        let is_stale = rumour.standing <= member.standing;
        self.table.change(rumour.node, |member| member.set_profile(Arc::clone(profile), version));
        self.hear_choice(profile, out);
        if !(same_life && is_live) {
            return;
        }
        out.events.push(Event::Changed { node: rumour.node, profile: Arc::clone(profile) });
        if role_changed {
            out.events.push(Event::RoleChanged { node: rumour.node, role: profile.role });
        }
        if is_stale && via != Via::Sync {
            let record = self.record_of(rumour.node);
            self.spread(record);
        }
    }

    fn on_known(&mut self, now: Instant, rumour: &Rumour, via: Via, out: &mut Outputs) {
        let node = rumour.node;
        let Some(member) = self.table.of(node) else { return };
        let (old, new) = (member.standing, rumour.standing);
        if new == old && new.state == State::Suspect {
            if let Some(accuser) = rumour.accuser.filter(|accuser| *accuser != node) {
                self.confirm(now, node, accuser, rumour.hops);
            }
            return;
        }
        if new <= old {
            if via != Via::FirstHand {
                self.stats.rumours_stale_count += 1;
                // Copies in haste come in a dozen whether others lack the word or not; only those of the ticks say that they spread it.
                if rumour.hops == 0 {
                    self.normal.heard(node, new);
                }
            }
            return;
        }
        if new.generation > old.generation && new.state == State::Alive && rumour.profile.is_none() {
            // A new life whose address we do not know yet: the record follows, or the next comparison brings it.
            return;
        }
        if via == Via::Sync && matches!(new.state, State::Suspect | State::Dead) && old.state.is_live() {
            self.ask(Question { target: node, rumour: Some(rumour.clone()) });
            return;
        }
        let is_return = old.state == State::Dead && new.state.is_live() && new.generation == old.generation;
        let returns = member.returns();
        if is_return && !returns.may_return(member.since, now) && !returns.are_vouched_for(self.table.live().len()) {
            // It says so in every packet; the first one after the pause is heard.
            self.stats.returns_put_off_count += 1;
            return;
        }
        if new.state == State::Dead && old.state.is_live() && !member.suspicion().is_some_and(|suspicion| suspicion.is_ripe(now)) {
            return self.on_death_out_of_the_blue(now, rumour, out);
        }
        match new.state {
            State::Alive => self.become_alive(now, rumour, out),
            State::Suspect => self.become_suspect(now, rumour, false, out),
            State::Dead => self.become_dead(now, rumour, out),
            State::Left => self.become_left(now, rumour, out),
        }
    }

    /// In a comparison of views `by` says so. Of a member that is kept out here, it says that it never lost it, or took it back. Who is
    /// not live here vouches for nobody: those that are lost again and again would for each other.
    pub(crate) fn hear_voucher(&mut self, now: Instant, by: NodeId, rumour: &Rumour) {
        let (node, said) = (rumour.node, rumour.standing);
        let Some(member) = self.table.of(node).filter(|member| member.standing.state == State::Dead && by != node) else { return };
        let is_word_of_life = said.state == State::Alive && said.generation == member.standing.generation && said > member.standing;
        let is_kept_out = !member.returns().may_return(member.since, now);
        if is_word_of_life && is_kept_out && member.returns().wants(by) && self.table.is_live(by) {
            self.table.change(node, |member| member.rare().returns.vouch(by));
        }
    }

    fn become_alive(&mut self, now: Instant, rumour: &Rumour, out: &mut Outputs) {
        let node = rumour.node;
        let member = self.table.of(node).expect("on_known looked it up");
        let (old, generation) = (member.standing, rumour.standing.generation);
        let profile = Arc::clone(member.profile());
        let was_wronged = old.state != State::Alive && old.generation == generation;
        self.enter(now, rumour);
        if !old.state.is_live() {
            self.put_in_ring(node);
            out.events.push(Event::Joined { node, generation, profile });
        } else if old.generation < generation {
            self.table.note(node, |member| member.load = crate::profile::Load::default());
            out.events.push(Event::Restarted { node, generation, profile });
        } else if was_wronged {
            self.table.note(node, |member| member.rare().patience.on_refutation(now));
            self.stats.refutations_count += 1;
            out.events.push(Event::Refuted { node, incarnation: rumour.standing.incarnation });
        }
        self.pass_on(now, rumour);
    }

    /// Someone declares a member dead of whom we had no doubt, or had it only just now. Whoever hears everybody else hears doubts long
    /// before deaths; so either we were left out, or the declarer is alone with its view: deaf, cut off, or asleep until now. The word is
    /// an accusation of the gravest kind: a suspicion of the shortest time, in which the member may speak up.
    fn on_death_out_of_the_blue(&mut self, now: Instant, rumour: &Rumour, out: &mut Outputs) {
        let Some(held) = self.table.of(rumour.node).map(|member| member.standing) else { return };
        let doubt = Rumour { standing: rumour.standing.with(State::Suspect), ..rumour.clone() };
        self.stats.deaths_doubted_count += 1;
        if doubt.standing > held {
            self.become_suspect(now, &doubt, true, out);
        } else {
            self.table.change(rumour.node, |member| member.suspicion_mut().into_iter().for_each(Suspicion::settle));
        }
    }

    fn become_suspect(&mut self, now: Instant, rumour: &Rumour, is_settled: bool, out: &mut Outputs) {
        let node = rumour.node;
        let accuser = rumour.accuser.unwrap_or(self.own.node);
        let was_live = self.table.is_live(node);
        self.enter(now, rumour);
        if !was_live {
            self.put_in_ring(node);
        }
        let members = self.live_count();
        // Nobody but the accused, the accuser and us: then nobody else can confirm.
        let wanted = self.config.confirmations.min(members.saturating_sub(2));
        let min_ms = suspicion_ms_min(self.config.suspicion_factor, members, self.config.probe_interval_ms, self.config.suspicion_floor_ms);
        let mut suspicion = Suspicion::new(now, accuser, min_ms * 1_000, self.config.suspicion_spread, wanted);
        if is_settled {
            suspicion.settle();
        }
        self.table.change(node, |member| member.rare().suspicion = Some(suspicion));
        self.stats.suspicions_count += 1;
        out.events.push(Event::Suspected { node, generation: rumour.standing.generation, accuser });
        if accuser != self.own.node && self.is_solicited(node, rumour.standing.generation, rumour.standing.incarnation) {
            self.ask(Question { target: node, rumour: None });
        }
        self.pass_on(now, rumour);
    }

    fn become_dead(&mut self, now: Instant, rumour: &Rumour, out: &mut Outputs) {
        let was_live = self.table.is_live(rumour.node);
        self.enter(now, rumour);
        if was_live {
            self.stats.failures_count += 1;
            out.events.push(Event::Failed { node: rumour.node, generation: rumour.standing.generation });
        }
        self.pass_on(now, rumour);
    }

    fn become_left(&mut self, now: Instant, rumour: &Rumour, out: &mut Outputs) {
        self.enter(now, rumour);
        out.events.push(Event::Left { node: rumour.node, generation: rumour.standing.generation });
        self.pass_on(now, rumour);
    }

    /// The one place where a standing changes.
    fn enter(&mut self, now: Instant, rumour: &Rumour) {
        self.moved_at = now;
        self.fruitless_syncs = 0;
        // Who is lost with many others in a cut is not one that is lost again and again.
        let is_alone = self.detector.verdict() == Verdict::None;
        self.table.change(rumour.node, |member| {
            assert!(rumour.standing > member.standing, "{:?} does not follow {:?}", rumour.standing, member.standing);
            let (was_live, is_live) = (member.standing.state.is_live(), rumour.standing.state.is_live());
            match rumour.standing.generation == member.standing.generation {
                false if member.returns().are_free() => {}
                false => member.rare().returns = Returns::default(),
                true if was_live && rumour.standing.state == State::Dead && is_alone => member.rare().returns.on_death(now),
                true if !was_live && is_live && !member.returns().are_free() => member.rare().returns.on_return(now),
                true => {}
            }
            member.standing = rumour.standing;
            member.since = now;
            member.clear();
        });
    }

    /// Counts an independent accuser; the word goes on only while it shortens the suspicion.
    fn confirm(&mut self, now: Instant, node: NodeId, accuser: NodeId, hops: u8) {
        let Some(member) = self.table.of(node) else { return };
        if !member.suspicion().is_some_and(|suspicion| suspicion.wants(accuser)) {
            return;
        }
        let word = Rumour { accuser: Some(accuser), hops, ..Rumour::brief(node, member.standing, member.profile_at().1) };
        self.table.change(node, |member| {
            if let Some(suspicion) = member.suspicion_mut() {
                suspicion.confirm(accuser);
            }
        });
        self.pass_on(now, &word);
    }

    /// We asked, others asked for us, and there was no answer.
    pub(crate) fn accuse(&mut self, now: Instant, node: NodeId, out: &mut Outputs) {
        let Some(member) = self.table.of(node) else { return };
        let standing = member.standing.with(State::Suspect);
        let endpoint = member.profile().endpoint;
        let word = Rumour {
            accuser: Some(self.own.node),
            hops: crate::urgent::HOPS + 1,
            ..Rumour::brief(node, standing, member.profile_at().1.min(standing.incarnation))
        };
        match member.standing.state {
            State::Alive => {
                self.stats.suspicions_own_count += 1;
                self.become_suspect(now, &word, false, out);
            }
            State::Suspect => self.confirm(now, node, self.own.node, word.hops),
            State::Dead | State::Left => return,
        }
        // The accused hears it first: a suspicion may be short only because a refutation is fast.
        self.send_words(Target::member(node, endpoint), &[word], out);
    }

    pub(crate) fn on_suspicion_timers(&mut self, now: Instant, out: &mut Outputs) {
        while let Some(node) = self.table.due(now) {
            let member = self.table.of(node).expect("deadlines name members");
            let word = Rumour {
                accuser: Some(self.own.node),
                hops: crate::urgent::HOPS + 1,
                ..Rumour::brief(node, member.standing.with(State::Dead), member.profile_at().1.min(member.standing.incarnation))
            };
            self.stats.failures_declared_count += 1;
            self.become_dead(now, &word, out);
        }
    }

    /// Queues a question unless it is queued already or there are too many; the round will come to it anyway.
    pub(crate) fn ask(&mut self, question: Question) {
        let is_new = !self.questions.iter().any(|other| other.target == question.target);
        if is_new && self.questions.len() < QUESTIONS_MAX && self.own.gone_at.is_none() {
            self.questions.push_back(question);
        }
    }

    /// Whether this node is one of the few that check this suspicion at once. Everyone computes it for itself: no message
    /// is needed, and a single accuser cannot choose its witnesses.
    fn is_solicited(&self, node: NodeId, generation: Generation, incarnation: Incarnation) -> bool {
        let (high, low) = node.uuid().as_u64_pair();
        let (own_high, own_low) = self.own.node.uuid().as_u64_pair();
        let words = [high, low, generation.0, u64::from(incarnation.0), own_high, own_low];
        let hash = words.into_iter().fold(0, |hash, word| mix(hash ^ word).wrapping_add(1));
        hash % (self.live_count().max(1) as u64) < self.config.witnesses as u64
    }

    /// The full record of a member, for those who lack it.
    pub(crate) fn record_of(&self, node: NodeId) -> Rumour {
        let member = self.table.of(node).expect("the caller looked it up");
        let is_whole = member.profile_at().0 == member.standing.generation;
        let accuser = member.suspicion().map(Suspicion::accuser);
        let profile_at = if is_whole { member.profile_at().1.min(member.standing.incarnation) } else { Incarnation(0) };
        Rumour { accuser, profile: is_whole.then(|| Arc::clone(member.profile())), ..Rumour::brief(node, member.standing, profile_at) }
    }
}
