//! Receiving: from a datagram to its effects.
//!
//! What a stranger gets is one ack, smaller than what it sent. What a member gets goes to the endpoint that it registered,
//! not to where the datagram came from.

use distric_model::{Instant, NodeId};

use crate::door::Outputs;
use crate::endpoint::{Endpoint, Target};
use crate::judge::{Answer, Via};
use crate::machine::Gossip;
use crate::packet::{Header, KIND_DATAGRAM, Part, Parts, Rumour};
use crate::profile::Load;
use crate::refusal::Refusal;
use crate::standing::{Generation, Incarnation, State};

/// How often a member is told what is said about it when it does not ask, milliseconds.
const TELL_PAUSE_MS: u64 = 500;

/// What one datagram asks to be answered: at most one of each, however many parts ask.
#[derive(Default)]
struct Asked {
    ping: Option<u64>,
    own_record: bool,
}

impl Gossip {
    pub(crate) fn on_packet(&mut self, now: Instant, from: Endpoint, bytes: &[u8], out: &mut Outputs) {
        self.stats.datagrams_received_count += 1;
        self.stats.datagram_bytes_received += bytes.len() as u64;
        let Ok(opened) = self.open(now, KIND_DATAGRAM, bytes) else {
            self.stats.datagrams_refused_count += 1;
            return;
        };
        let header = opened.header;
        if header.sender == self.own.node {
            self.refuse(Refusal::Own);
            // Our own echo is nothing new; a later life under our id is.
            self.apply_header(now, &header, out);
            return;
        }
        let held = self.table.of(header.sender).map(|member| member.standing);
        let was_stranger = held.is_none();
        if opened.is_older || held.is_some_and(|held| header.standing.generation < held.generation) {
            self.tell_older_life(now, from, header.sender, bytes.len(), out);
            return;
        }
        let mut asked = Asked::default();
        // The envelope is a word without haste. A sender's own urgent word comes first in its packet and must be taken
        // first, or it would be old news by then and nobody would pass it on.
        let mut is_header_due = true;
        for part in Parts::new(&opened.inside) {
            let Ok(part) = part else {
                self.refuse(Refusal::Malformed);
                break;
            };
            if !opened.is_bound && !part.is_knock() {
                // What is made for nobody in particular could have been made for somebody else.
                self.refuse(Refusal::Unbound);
                break;
            }
            if is_header_due && !matches!(part, Part::Rumour(_)) {
                is_header_due = false;
                self.apply_header(now, &header, out);
            }
            self.on_part(now, from, &header, part, &mut asked, out);
        }
        if is_header_due {
            self.apply_header(now, &header, out);
        }
        if was_stranger {
            self.stats.strangers_count += 1;
            if let Some(cookie) = asked.ping {
                self.ack_stranger(Target::member(header.sender, from), cookie, bytes.len(), out);
            }
        } else {
            self.answer_member(now, header.sender, &asked, out);
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.stats.datagrams_refused_count += 1;
        self.stats.refusals.count(refusal);
    }

    /// What the sender says about itself is a word at first hand.
    pub(crate) fn apply_header(&mut self, now: Instant, header: &Header, out: &mut Outputs) {
        let word = Rumour::brief(header.sender, header.standing, header.profile_at);
        self.apply_rumour(now, &word, Via::FirstHand, out);
    }

    fn on_part(&mut self, now: Instant, from: Endpoint, header: &Header, part: Part, asked: &mut Asked, out: &mut Outputs) {
        let sender = header.sender;
        match part {
            Part::Ping { cookie, target, view } => {
                if target.is_none_or(|target| target == self.own.node) {
                    asked.ping.get_or_insert(cookie);
                    self.compare(now, sender, view, out);
                } else {
                    self.stats.wrong_target_count += 1;
                }
            }
            Part::Ack { cookie, view } => {
                let is_asked = self.on_ack(now, sender, cookie, out) || self.on_seed_ack(now, Target::member(sender, from), cookie, out);
                if is_asked {
                    self.compare(now, sender, view, out);
                } else {
                    self.stats.unasked_answers_count += 1;
                }
            }
            Part::PingReq { cookie, target } => {
                if let Some(origin) = self.endpoint_of(sender).map(|endpoint| Target::member(sender, endpoint))
                    && target != self.own.node
                {
                    self.on_ping_req(now, origin, cookie, target, out);
                }
            }
            Part::Nack { cookie } => {
                if !self.on_nack(sender, cookie) {
                    self.stats.unasked_answers_count += 1;
                }
            }
            Part::Rumour(rumour) => {
                asked.own_record |= self.apply_rumour(now, &rumour, Via::Packet, out) == Answer::OwnRecord;
            }
            Part::Load { node, generation, load } => self.take_load(node, generation, load),
        }
    }

    fn endpoint_of(&self, node: NodeId) -> Option<Endpoint> {
        self.table.of(node).map(|member| member.profile().endpoint)
    }

    fn take_load(&mut self, node: NodeId, generation: Generation, load: Load) {
        let Some(member) = self.table.of(node) else { return };
        // Half of the numbers are newer, half older, so that the count may wrap.
        let ahead = load.seq.wrapping_sub(member.load.seq);
        if member.standing.generation == generation && member.standing.state.is_live() && ahead != 0 && ahead < 1 << 31 {
            self.table.note(node, |member| member.load = load);
            self.pass_on_load(node);
        }
    }

    /// A process goes on under an id that has a later life elsewhere. What we send to that id reaches the later one, so the
    /// older one hears it at the place that it spoke from, and no more than it sent.
    fn tell_older_life(&mut self, now: Instant, to: Endpoint, node: NodeId, received_bytes: usize, out: &mut Outputs) {
        let Some(member) = self.table.of(node) else { return };
        let is_due = member.told_at().is_none_or(|at| at.plus_ms(TELL_PAUSE_MS) <= now);
        let word = Rumour::brief(node, member.standing, Incarnation(0));
        let mut packet = self.packet();
        packet.push(&Part::Rumour(word));
        if is_due && packet.finished_bytes() <= received_bytes {
            self.table.note(node, |member| member.rare().told_at = Some(now));
            self.send(Target::member(node, to), &packet, out);
        }
    }

    fn ack_stranger(&mut self, to: Target, cookie: u64, received_bytes: usize, out: &mut Outputs) {
        let mut packet = self.packet();
        packet.push(&Part::Ack { cookie, view: self.view() });
        if packet.finished_bytes() <= received_bytes {
            self.send(to, &packet, out);
        }
    }

    fn answer_member(&mut self, now: Instant, sender: NodeId, asked: &Asked, out: &mut Outputs) {
        let Some(member) = self.table.of(sender) else { return };
        let to = member.profile().endpoint;
        // It speaks, and yet it is held dead or suspected here: it should know, to refute.
        let tell_due = member.told_at().is_none_or(|at| at.plus_ms(TELL_PAUSE_MS) <= now);
        let is_wronged = matches!(member.standing.state, State::Suspect | State::Dead);
        let word = self.word_to_tell(sender).filter(|_| is_wronged && (tell_due || asked.ping.is_some()));
        if asked.ping.is_none() && !asked.own_record && word.is_none() {
            return;
        }
        let mut packet = self.packet();
        if let Some(cookie) = asked.ping {
            packet.push(&Part::Ack { cookie, view: self.view() });
        }
        if asked.own_record {
            packet.push(&Part::Rumour(self.own_record()));
        }
        if let Some(word) = word {
            packet.push(&Part::Rumour(word));
            self.table.note(sender, |member| member.rare().told_at = Some(now));
        }
        if asked.ping.is_some() {
            self.load_up(&mut packet);
        }
        self.send(Target::member(sender, to), &packet, out);
    }
}
