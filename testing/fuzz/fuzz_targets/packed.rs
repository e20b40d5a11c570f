//! A MessagePack payload against rules that look at everything. Under cargo-fuzz a libFuzzer target, else a program that replays files.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| distric_fuzz::packed(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    distric_fuzz::replay(distric_fuzz::packed)
}
