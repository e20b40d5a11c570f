//! Gossip: who is alive, who is suspected, who failed and who left. SWIM with Lifeguard, a pure machine.
//!
//! In: packets, streams and timeouts with the time of their arrival.  Out: [`Outputs`], filled into a buffer of the caller.
//! May touch: `model`.  Never: sockets, files, clocks, threads, unseeded randomness.
//! Lives on: the gossip core of a node; one value per node, one owner, no sharing.
//!
//! Contract with the caller: hand over every packet that has arrived before calling [`Gossip::handle_timeout`]. A timeout
//! that comes late says that *this* node slept; the machine then excuses its peers and blames itself.
//!
//! Invariant: a member once dead or left lives again only with a greater (generation, incarnation).
//! Invariant: only the node itself raises its incarnation.   Invariant: no datagram exceeds [`DATAGRAM_BYTES_MAX`].
//! Invariant: memory is bounded by `members_max`, whatever arrives.
//! Source: Das, Gupta & Motivala 2002 (SWIM); Dadgar, Phillips & Currey 2018 (Lifeguard). Figures: `docs/gossip.md`.
//! Start reading at [`Gossip::handle_packet`].
#![forbid(unsafe_code)]

mod endpoint;
mod profile;
mod standing;

mod codec;
mod envelope;
mod packet;
mod refusal;
mod seal;
mod stream;

mod config;
mod door;
mod stats;

mod machine;

mod healing;
mod judge;
mod keyring;
mod probing;
mod receive;
mod spreading;

mod health;
mod index;
mod lanes;
mod member;
mod partition;
mod patience;
mod probe;
mod random;
mod returning;
mod suspicion;
mod table;
mod urgent;

pub use codec::DecodeError;
pub use config::{Config, ConfigError, MEMBERS_MAX};
pub use door::{Datagram, Event, Leg, Outputs, Stream};
pub use endpoint::Endpoint;
pub use machine::{Gossip, MemberView};
pub use packet::{DATAGRAM_BYTES_MAX, VERSION};
pub use partition::Verdict;
pub use profile::{LABEL_BYTES_MAX, LABELS_MAX, Load, PROFILE_BYTES_MAX, Profile, ProfileError, Role, ZONE_BYTES_MAX};
pub use refusal::{Refusal, Refusals};
pub use seal::{KEY_BYTES, KEYS_MAX, KeyChoice, KeyId, KeyRing, KeyRingError, KeyWord};
pub use standing::{Generation, Incarnation, Standing, State};
pub use stats::Stats;
pub use stream::STREAM_BYTES_MAX;
pub use suspicion::{suspicion_ms_min, suspicion_timeout_us};
pub use urgent::fan_out;
