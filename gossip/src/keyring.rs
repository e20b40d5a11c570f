//! Rotation: which keys this machine holds, which choice it follows, and how the others hear of both.
//!
//! The choice is made by the log. A coordinator gets it from there and says in its profile which one it follows; workers, who see no log,
//! take the newest that a coordinator says. So a choice reaches everybody the way any other news does.

use distric_model::Instant;

use crate::door::{Event, Outputs};
use crate::machine::Gossip;
use crate::profile::{Profile, Role};
use crate::seal::{KeyChoice, KeyRing, KeyWord};

impl Gossip {
    /// Whether packets are sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealer.is_some()
    }

    /// What this node says about its keys.
    pub fn keys(&self) -> &KeyWord {
        &self.own.profile.keys
    }

    /// Senders that are remembered to tell repetitions; at most `members_max`.
    pub fn senders_count(&self) -> usize {
        self.sealer.as_ref().map_or(0, |sealer| sealer.senders_count())
    }

    /// Replaces the keys of a machine that seals. False for one that was started without: it would stop hearing the others.
    pub fn set_keys(&mut self, now: Instant, ring: KeyRing, out: &mut Outputs) -> bool {
        self.begin(now);
        if let Some(sealer) = &mut self.sealer {
            sealer.set_ring(ring);
        }
        self.say_keys(out);
        self.finish(now, out);
        self.is_sealed()
    }

    /// Follows a choice of the log, when it is newer than the one that is followed.
    pub fn choose_key(&mut self, now: Instant, choice: KeyChoice, out: &mut Outputs) {
        self.begin(now);
        self.follow(choice, out);
        self.finish(now, out);
    }

    /// A member tells what it follows. Coordinators have the log and need nobody to tell them.
    pub(crate) fn hear_choice(&mut self, profile: &Profile, out: &mut Outputs) {
        if self.own.profile.role == Role::Worker && profile.role != Role::Worker {
            self.follow(profile.keys.choice, out);
        }
    }

    fn follow(&mut self, choice: KeyChoice, out: &mut Outputs) {
        let Some(sealer) = self.sealer.as_mut().filter(|sealer| sealer.word().choice < choice) else { return };
        sealer.set_choice(choice);
        let sealing = sealer.word().sealing().expect("a ring holds a key");
        out.events.push(Event::KeyChosen { choice, sealing });
        self.say_keys(out);
    }

    /// Tells the others what is held and followed here, when that is news.
    fn say_keys(&mut self, out: &mut Outputs) {
        let Some(sealer) = &self.sealer else { return };
        let keys = sealer.word();
        if keys != self.own.profile.keys && self.own.gone_at.is_none() {
            let profile = Profile { keys, ..Profile::clone(&self.own.profile) };
            let record = self.change_profile(profile, out);
            self.spread(record);
        }
    }
}
