//! Spreading: how words leave, by which lane, in how many packets.

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::door::{Datagram, Outputs};
use crate::endpoint::{Endpoint, Target};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::machine::Gossip;
use crate::packet::{DATAGRAM_BYTES_MAX, KIND_DATAGRAM, Packet, Part, Rumour};
use crate::urgent::{HOPS, fan_out};

/// How often a word is sent by the normal lane, in units of log10(members).
const SENDS_FACTOR: f64 = 4.0;
/// How often the normal lane repeats a word that the urgent lane carries: for the few that the lane missed.
const SENDS_AFTER_URGENT: u32 = 6;
/// How often a load sample of another member is passed on.
const LOAD_SENDS: u32 = 2;
/// Bytes of one urgent rumour in a packet, for the valve's estimate.
const URGENT_RUMOUR_BYTES: usize = 50;

impl Gossip {
    pub(crate) fn packet(&self) -> Packet {
        let header = self.header();
        Packet::new(header, self.envelope_bytes(&header))
    }

    pub(crate) fn send(&mut self, to: Target, packet: &Packet, out: &mut Outputs) {
        let bytes = self.wrap(KIND_DATAGRAM, to.node, &packet.header, packet.inside());
        self.send_bytes(to.endpoint, bytes, out);
    }

    fn send_bytes(&mut self, to: Endpoint, bytes: Bytes, out: &mut Outputs) {
        self.stats.datagrams_sent_count += 1;
        self.stats.datagram_bytes_sent += bytes.len() as u64;
        out.datagrams.push(Datagram { to, bytes });
    }

    /// Words for one member alone.
    pub(crate) fn send_words(&mut self, to: Target, words: &[Rumour], out: &mut Outputs) {
        let mut packet = self.packet();
        for word in words {
            packet.push(&Part::Rumour(word.clone()));
        }
        self.send(to, &packet, out);
    }

    /// Uses the room that a packet to one target has left: our own load, then the normal lane.
    pub(crate) fn load_up(&mut self, packet: &mut Packet) {
        packet.push(&Part::Load { node: self.own.node, generation: self.own.standing.generation, load: self.own.load });
        self.normal.fill(packet, 1);
    }

    /// Queues a word for the normal lane.
    pub(crate) fn spread(&mut self, rumour: Rumour) {
        let sends = (SENDS_FACTOR * (self.live_count() as f64 + 1.0).log10()).ceil() as u32;
        self.normal.push(rumour, sends.max(1));
    }

    /// Sends our own word at once, and repeats it by the normal lane.
    pub(crate) fn spread_urgently(&mut self, now: Instant, rumour: Rumour) {
        let rumour = Rumour { hops: HOPS + 1, ..rumour };
        self.pass_on(now, &rumour);
    }

    /// Passes on a word that changed something here: at once when it had more than one hop left.
    pub(crate) fn pass_on(&mut self, now: Instant, rumour: &Rumour) {
        if self.config.urgent_packets_per_s == 0 {
            return self.spread(Rumour { hops: 0, ..rumour.clone() });
        }
        if rumour.hops > 1 {
            let hasty = Rumour { hops: (rumour.hops - 1).min(HOPS), ..rumour.clone() };
            if self.urgent.push(now, hasty) {
                self.normal.push(rumour.clone(), SENDS_AFTER_URGENT);
                return;
            }
            self.stats.urgent_dropped_count += 1;
        }
        self.spread(rumour.clone());
    }

    pub(crate) fn pass_on_load(&mut self, node: NodeId) {
        self.loads.push(node, LOAD_SENDS);
    }

    /// Sends what is in haste to as many as the valve allows.
    pub(crate) fn flush_urgent(&mut self, now: Instant, out: &mut Outputs) {
        const EACH: usize = (DATAGRAM_BYTES_MAX - ENVELOPE_BYTES_MAX) / URGENT_RUMOUR_BYTES;
        let wanted = fan_out(self.table.live().len() + 1);
        if wanted == 0 || self.urgent.is_empty() {
            return self.urgent.clear();
        }
        let Some((rumours, fan_out)) = self.urgent.flush(now, wanted, |count| count.div_ceil(EACH)) else {
            self.stats.urgent_throttled_count += 1;
            return;
        };
        if fan_out < wanted {
            // The normal lane has to make up for the targets that are left out.
            self.stats.urgent_throttled_count += 1;
            for rumour in &rumours {
                self.spread_again(rumour);
            }
        }
        let mut packet = self.packet();
        for rumour in rumours {
            let part = Part::Rumour(rumour);
            if !packet.push(&part) {
                let full = std::mem::replace(&mut packet, self.packet());
                self.send_to_some(&full, fan_out, out);
                packet.push(&part);
            }
        }
        if !packet.is_empty() {
            self.send_to_some(&packet, fan_out, out);
        }
    }

    /// Raises the sends of a word that the urgent lane cut short, unless newer news took its place.
    fn spread_again(&mut self, rumour: &Rumour) {
        let held = if rumour.node == self.own.node { Some(self.own.standing) } else { self.standing_of(rumour.node) };
        if held == Some(rumour.standing) {
            self.spread(rumour.clone());
        }
    }

    /// The same words to some members: one packet when it is plain, one for each when it is sealed.
    fn send_to_some(&mut self, packet: &Packet, count: usize, out: &mut Outputs) {
        let picked = self.table.pick(&mut self.random, count);
        let plain = if self.sealer.is_none() { Some(self.wrap(KIND_DATAGRAM, None, &packet.header, packet.inside())) } else { None };
        for at in 0..picked {
            let member = self.table.picked(at);
            let (node, to) = (member.node(), member.profile().endpoint);
            match &plain {
                Some(bytes) => self.send_bytes(to, bytes.clone(), out),
                None => self.send(Target::member(node, to), packet, out),
            }
        }
    }

    /// The dissemination tick: what waits in the normal lane, and in the load lane within its bytes.
    pub(crate) fn on_gossip_tick(&mut self, out: &mut Outputs) {
        let copies = self.config.gossip_fan_out.min(self.table.live().len());
        if copies == 0 {
            return;
        }
        let mut packet = self.packet();
        self.normal.fill(&mut packet, copies as u32);
        let table = &self.table;
        self.loads.fill(&mut packet, self.config.load_bytes_max, copies as u32, |node| {
            let member = table.of(node)?;
            Some(Part::Load { node, generation: member.standing.generation, load: member.load })
        });
        if !packet.is_empty() {
            self.send_to_some(&packet, copies, out);
        }
    }
}
