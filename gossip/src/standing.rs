//! Standings: what is said about a member, ordered so that the greater one wins.
//!
//! A standing is (generation, incarnation, state), compared in that order. A restart raises the generation and always
//! wins; a refutation raises the incarnation; at equal incarnation suspect beats alive, dead beats suspect and left beats
//! dead (SWIM, section 4.2; a leaver must be remembered as one who left even when someone buried it first).

/// Which life of a node: milliseconds of the calendar at its start, or the stored value plus one where that is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// How often a node has spoken up for itself within one generation. Raised by the node alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// What a member is held to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// It answers, or someone says so.
    Alive = 0,
    /// It failed a probe and may still refute.
    Suspect = 1,
    /// It did not refute in time.
    Dead = 2,
    /// It said good-bye.
    Left = 3,
}

impl State {
    /// Whether it may hold work: alive or merely suspected.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }

    pub(crate) const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Alive,
            1 => Self::Suspect,
            2 => Self::Dead,
            3 => Self::Left,
            _ => return None,
        })
    }
}

/// The whole of it. The greater standing is the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing {
    /// Which life.
    pub generation: Generation,
    /// Which word of that life.
    pub incarnation: Incarnation,
    /// What is said.
    pub state: State,
}

impl Standing {
    /// A standing of these parts.
    pub const fn new(generation: Generation, incarnation: Incarnation, state: State) -> Self {
        Self { generation, incarnation, state }
    }

    /// The same word of the same life, in another state.
    pub const fn with(self, state: State) -> Self {
        Self { state, ..self }
    }

    /// Generation and incarnation: what a resurrection must exceed.
    pub const fn identity(self) -> (Generation, Incarnation) {
        (self.generation, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(generation: u64, incarnation: u32, state: State) -> Standing {
        Standing::new(Generation(generation), Incarnation(incarnation), state)
    }

    #[test]
    fn the_greater_standing_is_the_newer_word() {
        let rising = [
            at(1, 0, State::Alive),
            at(1, 0, State::Suspect),
            at(1, 0, State::Dead),
            at(1, 0, State::Left),
            at(1, 1, State::Alive),
            at(1, 100, State::Dead),
            at(2, 0, State::Alive),
        ];
        assert!(rising.is_sorted_by(|a, b| a < b));
    }
}
