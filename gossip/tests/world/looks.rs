//! What can be asked of a world: who runs, whether all agree, what was said.

use std::collections::BTreeMap;

use distric_gossip::{Event, Gossip, State};
use distric_model::NodeId;

use super::{MS, World, node_id};

impl World {
    /// The machines that run and have not left.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Gossip)> {
        let running = self.seats.iter().enumerate().filter_map(|(at, seat)| Some((at, seat.gossip.as_ref()?)));
        running.filter(|(_, gossip)| gossip.own_standing().state == State::Alive)
    }

    pub fn counts(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        self.running().for_each(|(_, gossip)| *counts.entry(gossip.live_count()).or_default() += 1);
        counts
    }

    /// Whether all that run see exactly each other, in the same words.
    pub fn agrees(&self) -> bool {
        let running = self.running().count();
        let mut views = self.running().map(|(_, gossip)| (gossip.live_count(), gossip.view()));
        let first = views.next();
        first.is_some_and(|first| first.0 == running && views.all(|view| view == first))
    }

    /// Runs until all agree, or so long; whether they do.
    pub fn settle(&mut self, within_us: u64) -> bool {
        let limit = self.now + within_us;
        while self.now < limit && !self.agrees() {
            self.run_for(500 * MS);
        }
        self.agrees()
    }

    /// Runs until all agree; fails after `within_us`.
    pub fn converge(&mut self, within_us: u64) -> u64 {
        let (start, limit) = (self.now, self.now + within_us);
        while !self.agrees() {
            assert!(self.now < limit, "no agreement after {} ms: {:?}", within_us / MS, self.counts());
            self.run_for(100 * MS);
        }
        self.now - start
    }

    /// The first time at which somebody said that `node` failed, at or after `since`.
    pub fn first_failed(&self, node: usize, since: u64) -> Option<u64> {
        let said = |event: &Event| matches!(event, Event::Failed { node: who, .. } if *who == node_id(node));
        self.events.iter().find(|(at, _, event)| *at >= since && said(event)).map(|(at, ..)| *at)
    }

    /// How many said since then that it failed.
    pub fn failed_count(&self, node: usize, since: u64) -> usize {
        let said = |event: &Event| matches!(event, Event::Failed { node: who, .. } if *who == node_id(node));
        self.events.iter().filter(|(at, _, event)| *at >= since && said(event)).count()
    }

    /// Everyone of whom somebody said since then that it failed.
    pub fn failed_since(&self, since: u64) -> Vec<(u64, usize, NodeId)> {
        let of = |(at, by, event): &(u64, usize, Event)| match event {
            Event::Failed { node, .. } if *at >= since => Some((*at, *by, *node)),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    pub fn count(&self, since: u64, of: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(at, _, event)| *at >= since && of(event)).count()
    }
}
