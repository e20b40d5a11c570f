//! Refusals: why bytes from outside were dropped. They are counted by reason and never answered.

use crate::codec::DecodeError;

/// Why a packet or a stream message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// More bytes than any of ours has.
    #[error("too long")]
    TooLong,
    /// No packet of ours, or one that contradicts itself.
    #[error("malformed")]
    Malformed,
    /// A version that is not spoken here.
    #[error("another version")]
    Version,
    /// Damaged on the way.
    #[error("damaged")]
    Checksum,
    /// Another cluster's.
    #[error("of another cluster")]
    Cluster,
    /// Not sealed, and we have keys.
    #[error("not sealed")]
    Unsealed,
    /// Sealed, and we have no keys.
    #[error("sealed, and there are no keys here")]
    Sealed,
    /// Sealed with a key that we do not hold, or that is retired.
    #[error("sealed with a key that is unknown or retired")]
    UnknownKey,
    /// It does not open: changed on the way, made for another node or cluster, or sealed with another key of the same id.
    #[error("does not open")]
    Seal,
    /// It came before, or is too old to tell.
    #[error("a repetition")]
    Replay,
    /// Of a generation that is no honest one, or an earlier life where that may not speak.
    #[error("of another generation")]
    Generation,
    /// Made for nobody in particular, and more than a knock.
    #[error("made for nobody in particular")]
    Unbound,
    /// More senders than may be remembered.
    #[error("more senders than are remembered")]
    Senders,
    /// It claims to be from this very node.
    #[error("in our own name")]
    Own,
}

impl Refusal {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 14] = [
        Self::TooLong,
        Self::Malformed,
        Self::Version,
        Self::Checksum,
        Self::Cluster,
        Self::Unsealed,
        Self::Sealed,
        Self::UnknownKey,
        Self::Seal,
        Self::Replay,
        Self::Generation,
        Self::Unbound,
        Self::Senders,
        Self::Own,
    ];

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Checksum => "checksum",
            Self::Cluster => "cluster",
            Self::Unsealed => "unsealed",
            Self::Sealed => "sealed",
            Self::UnknownKey => "unknown_key",
            Self::Seal => "seal",
            Self::Replay => "replay",
            Self::Generation => "generation",
            Self::Unbound => "unbound",
            Self::Senders => "senders",
            Self::Own => "own",
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLong { .. } => Self::TooLong,
            DecodeError::Version { .. } => Self::Version,
            DecodeError::Checksum => Self::Checksum,
            DecodeError::Cluster => Self::Cluster,
            DecodeError::Truncated | DecodeError::Magic | DecodeError::Field { .. } => Self::Malformed,
        }
    }
}

/// How often each reason applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    pub(crate) fn count(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    /// How often this reason applied.
    pub const fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().map(|refusal| (refusal, self.of(refusal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_name_of_its_own() {
        let mut refusals = Refusals::default();
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            (0..=at).for_each(|_| refusals.count(refusal));
        }
        let counts: Vec<u64> = refusals.iter().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=Refusal::ALL.len() as u64).collect::<Vec<_>>());
        let mut names: Vec<_> = Refusal::ALL.map(Refusal::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
