//! Fuzz targets: one function per door that takes bytes from outside.
//!
//! In: any bytes.  Out: nothing. A target comes back whatever it is given; what it asserts are the promises of the door
//! (what was read can be written and read again as the same), so a panic in one is a bug of ours and never the bytes' fault.
//!
//! Three ways to run them: `cargo test -p distric-fuzz` gives each target seeded mutations of real inputs for about a second;
//! `cargo run -p distric-fuzz --bin fuzz_frame -- FILE` (or standard input) repeats one input; and under cargo-fuzz
//! (`cargo +nightly fuzz run --fuzz-dir testing/fuzz fuzz_frame`) the same binaries are libFuzzer targets.

mod gossip;
mod replay;
mod rules;
mod wire;

pub use gossip::{gossip, gossip_traffic};
pub use replay::replay;
pub use rules::{packed, payload, program, rules};
pub use wire::{compressed, frame, message};

/// A door that takes any bytes and comes back.
pub type Target = fn(&[u8]);

/// Every target of rules and payloads by name.
pub const RULES_TARGETS: &[(&str, Target)] = &[("rules", rules), ("payload", payload), ("program", program), ("packed", packed)];

/// The targets of the wire by name, for tests that run them all on the same inputs. [`gossip`] has inputs of its own.
pub const TARGETS: &[(&str, Target)] = &[("frame", frame), ("message", message), ("compressed", compressed)];
