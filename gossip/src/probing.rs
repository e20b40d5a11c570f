//! Probing: one member each interval by turn, a second direct ping and indirect ones when it is silent, an accusation when
//! all of them are; and questions out of turn.

use distric_model::{Instant, NodeId};

use crate::door::Outputs;
use crate::endpoint::{Endpoint, Target};
use crate::machine::Gossip;
use crate::member::Member;
use crate::packet::{Part, Rumour};
use crate::probe::{PROBES_MAX, Probe, RELAYS_MAX, Relay};
use crate::standing::State;

impl Gossip {
    pub(crate) fn on_probe_timers(&mut self, now: Instant, out: &mut Outputs) {
        self.nack_silent_relays(now, out);
        let mut at = 0;
        while at < self.probes.len() {
            if self.probes[at].deadline <= now {
                let probe = self.probes.swap_remove(at);
                self.judge_silence(now, &probe, out);
                continue;
            }
            if self.probes[at].again_at.is_some_and(|again| again <= now) {
                self.ask_again(at, out);
            }
            at += 1;
        }
        if self.timers.probe_at <= now && self.own.gone_at.is_none() {
            // From when it was due, so that the rhythm holds; not from long ago, so that missed turns are not made up for.
            let interval_us = self.config.probe_interval_ms * 1_000 * self.health.multiplier();
            let since = if now.since_us(self.timers.probe_at) < interval_us { self.timers.probe_at } else { now };
            self.timers.probe_at = since.plus_us(interval_us);
            let table = &self.table;
            let place = self.ring.next(&mut self.random, table.live(), |place| table.is_live_at(place));
            if let Some(target) = place.and_then(|place| table.at(place)).map(Member::node) {
                self.start_probe(now, target, None, out);
            }
        } else if self.own.gone_at.is_some() {
            self.timers.probe_at = now.plus_ms(self.config.probe_interval_ms);
        }
    }

    pub(crate) fn start_questions(&mut self, now: Instant, out: &mut Outputs) {
        // One place stays free for the round.
        while self.probes.len() + 1 < PROBES_MAX
            && let Some(question) = self.questions.pop_front()
        {
            self.start_probe(now, question.target, question.rumour, out);
        }
    }

    fn start_probe(&mut self, now: Instant, target: NodeId, word: Option<Rumour>, out: &mut Outputs) {
        let Some(member) = self.table.of(target).filter(|member| member.standing.state.is_live()) else { return };
        if self.probes.len() >= PROBES_MAX || self.probes.iter().any(|probe| probe.target == target) {
            return;
        }
        let stretch = self.health.multiplier();
        let (shortest, longest) = (self.config.direct_timeout_ms_min * 1_000, self.config.direct_timeout_ms_max * 1_000);
        let expected = match member.rtt_us {
            0 => longest,
            rtt => u64::from(rtt) + 4 * u64::from(member.rtt_deviation_us),
        };
        let direct_us = expected.clamp(shortest, longest) * stretch;
        let intervals = stretch + member.patience().intervals(now, self.config.patience_max);
        let (standing, endpoint) = (member.standing, member.profile().endpoint);
        let cookie = self.random.draw();
        self.probes.push(Probe {
            target,
            standing,
            cookie,
            sent_at: now,
            again_at: Some(now.plus_us(direct_us)),
            deadline: now.plus_us(self.config.probe_interval_ms * 1_000 * intervals),
            relays: Vec::new(),
            nacks: Vec::new(),
        });
        self.stats.probes_count += 1;
        self.send_ping(endpoint, Some(target), cookie, word, out);
    }

    /// A ping. A target that is not simply alive is told so first (the buddy of Lifeguard, section IV-C).
    pub(crate) fn send_ping(&mut self, to: Endpoint, target: Option<NodeId>, cookie: u64, word: Option<Rumour>, out: &mut Outputs) {
        let mut packet = self.packet();
        packet.push(&Part::Ping { cookie, target, view: self.view() });
        let said = target.and_then(|node| self.word_to_tell(node));
        for rumour in word.into_iter().chain(said) {
            packet.push(&Part::Rumour(rumour));
        }
        self.load_up(&mut packet);
        self.send(Target { endpoint: to, node: target }, &packet, out);
    }

    /// What is said about a member that it should know of.
    pub(crate) fn word_to_tell(&self, node: NodeId) -> Option<Rumour> {
        let member = self.table.of(node).filter(|member| member.standing.state != State::Alive)?;
        let accuser = member.suspicion().map(|suspicion| suspicion.accuser());
        Some(Rumour { accuser, ..Rumour::brief(node, member.standing, member.profile_at().1.min(member.standing.incarnation)) })
    }

    /// The direct answer did not come in time: once more directly, for one lost packet is no sign, and through others.
    fn ask_again(&mut self, at: usize, out: &mut Outputs) {
        let probe = &mut self.probes[at];
        probe.again_at = None;
        let (target, cookie) = (probe.target, probe.cookie);
        let Some(member) = self.table.of(target) else { return };
        let endpoint = member.profile().endpoint;
        // One more than needed, in case the target is among them.
        let picked = self.table.pick(&mut self.random, self.config.indirect_probes + 1);
        let relays = (0..picked).map(|at| self.table.picked(at).node()).filter(|node| *node != target);
        let relays: Vec<NodeId> = relays.take(self.config.indirect_probes).collect();
        self.stats.probes_indirect_count += 1;
        self.send_ping(endpoint, Some(target), cookie, None, out);
        for relay in &relays {
            let mut packet = self.packet();
            packet.push(&Part::PingReq { cookie, target });
            let to = self.table.of(*relay).expect("picked from the table").profile().endpoint;
            self.send(Target::member(*relay, to), &packet, out);
        }
        self.probes[at].relays = relays;
    }

    fn judge_silence(&mut self, now: Instant, probe: &Probe, out: &mut Outputs) {
        self.stats.probes_failed_count += 1;
        // The fault may be ours when most of the relays are silent as well. One silent relay may itself be dead, so unlike
        // the paper we do not count each, unless told to.
        let missing = probe.relays.len() - probe.nacks.len();
        let is_alone = probe.relays.is_empty() && self.table.live().len() > 1;
        if self.config.counts_each_silent_relay {
            self.health.worsen(if is_alone { 1 } else { missing as u32 });
        } else if missing * 2 > probe.relays.len() || is_alone {
            self.health.worsen(1);
        }
        // The target left, restarted or spoke up meanwhile: this silence is about somebody else.
        let held = self.table.of(probe.target).map(|member| member.standing);
        if held.is_some_and(|held| held.identity() == probe.standing.identity() && held.state.is_live()) {
            self.accuse(now, probe.target, out);
        }
    }

    /// An answer to one of our probes, or to a ping that we sent for another.
    pub(crate) fn on_ack(&mut self, now: Instant, sender: NodeId, cookie: u64, out: &mut Outputs) -> bool {
        if let Some(at) = self.probes.iter().position(|probe| probe.cookie == cookie) {
            let probe = &self.probes[at];
            if sender == probe.target {
                // Only a first answer measures: a second ping makes the time ambiguous (Karn's rule).
                let rtt_us = probe.again_at.map(|_| now.since_us(probe.sent_at));
                self.table.note(sender, |member| rtt_us.into_iter().for_each(|rtt| member.measure(rtt)));
            } else if !probe.relays.contains(&sender) {
                return false;
            }
            self.probes.swap_remove(at);
            self.health.improve();
            return true;
        }
        if let Some(at) = self.relays.iter().position(|relay| relay.cookie == cookie && relay.target == sender) {
            let relay = self.relays.swap_remove(at);
            let mut packet = self.packet();
            packet.push(&Part::Ack { cookie: relay.origin_cookie, view: self.view() });
            self.send(relay.origin, &packet, out);
            return true;
        }
        false
    }

    pub(crate) fn on_nack(&mut self, sender: NodeId, cookie: u64) -> bool {
        let probe = self.probes.iter_mut().find(|probe| probe.cookie == cookie);
        match probe.filter(|probe| probe.relays.contains(&sender) && !probe.nacks.contains(&sender)) {
            Some(probe) => probe.nacks.push(sender),
            None => return false,
        }
        true
    }

    /// Another member asks us to ping a third. Only members are asked for, and only at the address that they registered:
    /// nobody can aim us at a stranger.
    pub(crate) fn on_ping_req(&mut self, now: Instant, origin: Target, origin_cookie: u64, target: NodeId, out: &mut Outputs) {
        let Some(member) = self.table.of(target) else { return };
        if self.relays.len() >= RELAYS_MAX {
            return;
        }
        let endpoint = member.profile().endpoint;
        let cookie = self.random.draw();
        // At four fifths of what is left of the interval, so that the nack is there before the verdict.
        let wait_us = (self.config.probe_interval_ms - self.config.direct_timeout_ms_max) * 800;
        self.relays.push(Relay { cookie, target, origin, origin_cookie, nack_at: now.plus_us(wait_us) });
        self.send_ping(endpoint, Some(target), cookie, None, out);
    }

    fn nack_silent_relays(&mut self, now: Instant, out: &mut Outputs) {
        while let Some(at) = self.relays.iter().position(|relay| relay.nack_at <= now) {
            let relay = self.relays.swap_remove(at);
            let mut packet = self.packet();
            packet.push(&Part::Nack { cookie: relay.origin_cookie });
            self.send(relay.origin, &packet, out);
        }
    }
}
