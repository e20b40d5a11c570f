//! What comes to a gossip machine: packets, streams and time. Under cargo-fuzz a libFuzzer target, else a program that replays files.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| distric_fuzz::gossip(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    distric_fuzz::replay(distric_fuzz::gossip)
}
