//! Members: what is known of one, in 64 bytes beside what it says about itself.
//!
//! A table of ten thousand is read at random with every packet, so a member is one line of the processor's cache; what few members
//! have at a time stands apart, and what a member says about itself is shared between the views that are copied from each other.

use std::sync::Arc;

use distric_model::{Instant, NodeId};

use crate::patience::Patience;
use crate::profile::{Load, Profile};
use crate::returning::Returns;
use crate::standing::{Generation, Incarnation, Standing};
use crate::suspicion::Suspicion;

/// Who a member is, in its own words.
#[derive(Debug)]
struct About {
    node: NodeId,
    profile: Arc<Profile>,
    /// The word of which the profile is: it may lag behind the standing until the views are compared.
    profile_at: (Generation, Incarnation),
}

/// What is known of one member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    about: Arc<About>,
    pub(crate) standing: Standing,
    /// When the standing last changed here.
    pub(crate) since: Instant,
    pub(crate) load: Load,
    rare: Option<Box<Rare>>,
    /// Smoothed round trip and its deviation, microseconds (RFC 6298); zero when unknown.
    pub(crate) rtt_us: u32,
    pub(crate) rtt_deviation_us: u32,
}

const _: () = assert!(size_of::<Member>() == 64, "a member is one line of cache");

/// What few members have at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) returns: Returns,
    pub(crate) patience: Patience,
    /// When it was last told what is said about it.
    pub(crate) told_at: Option<Instant>,
}

impl Member {
    pub(crate) fn new(now: Instant, node: NodeId, standing: Standing, profile: Arc<Profile>, profile_at: Incarnation) -> Self {
        let about = About { node, profile, profile_at: (standing.generation, profile_at) };
        Self { about: Arc::new(about), standing, since: now, load: Load::default(), rare: None, rtt_us: 0, rtt_deviation_us: 0 }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.about.node
    }

    pub(crate) fn profile(&self) -> &Arc<Profile> {
        &self.about.profile
    }

    pub(crate) fn profile_at(&self) -> (Generation, Incarnation) {
        self.about.profile_at
    }

    pub(crate) fn set_profile(&mut self, profile: Arc<Profile>, profile_at: (Generation, Incarnation)) {
        self.about = Arc::new(About { node: self.about.node, profile, profile_at });
    }

    pub(crate) fn suspicion(&self) -> Option<&Suspicion> {
        self.rare.as_ref()?.suspicion.as_ref()
    }

    pub(crate) fn suspicion_mut(&mut self) -> Option<&mut Suspicion> {
        self.rare.as_mut()?.suspicion.as_mut()
    }

    pub(crate) fn returns(&self) -> Returns {
        self.rare.as_ref().map_or_else(Returns::default, |rare| rare.returns)
    }

    pub(crate) fn patience(&self) -> Patience {
        self.rare.as_ref().map_or_else(Patience::default, |rare| rare.patience)
    }

    pub(crate) fn told_at(&self) -> Option<Instant> {
        self.rare.as_ref()?.told_at
    }

    /// What few members have; begins with nothing.
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Ends the suspicion; what the member owes for its returns, and when it was told, stay.
    pub(crate) fn clear(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        rare.suspicion = None;
        if rare.returns.are_free() && rare.told_at.is_none() {
            self.rare = None;
        }
    }

    /// The same member as another node would begin with: what was measured from here is not known there.
    pub(crate) fn copied(&self, now: Instant) -> Self {
        Self { about: Arc::clone(&self.about), since: now, rare: None, rtt_us: 0, rtt_deviation_us: 0, ..*self }
    }

    /// Takes in one round trip, with the weights of RFC 6298.
    pub(crate) fn measure(&mut self, rtt_us: u64) {
        let rtt = u32::try_from(rtt_us).unwrap_or(u32::MAX).max(1);
        if self.rtt_us == 0 {
            (self.rtt_us, self.rtt_deviation_us) = (rtt, rtt / 2);
            return;
        }
        let (old, deviation) = (u64::from(self.rtt_us), u64::from(self.rtt_deviation_us));
        self.rtt_deviation_us = ((3 * deviation + old.abs_diff(u64::from(rtt))) / 4) as u32;
        self.rtt_us = ((7 * old + u64::from(rtt)) / 8) as u32;
    }
}
