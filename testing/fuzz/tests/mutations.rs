//! Every target over seeded mutations of the golden frames: about two seconds in all, the same every time.

use std::fs;
use std::path::PathBuf;

use distric_fuzz::TARGETS;
use distric_wire::HEADER_BYTES;

/// Mutations per target.
const ROUNDS: u32 = 200_000;
/// Edits of one input.
const EDITS_MAX: u64 = 5;
/// Longest input, bytes.
const INPUT_BYTES_MAX: usize = 4 << 10;

/// xorshift64*: small, seeded, good enough to choose bytes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() >> 33) as usize % bound.max(1)
    }
}

fn golden_frames() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wire/vectors");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut frames = Vec::new();
    for path in paths {
        let file: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let hex = case["frame"].as_str().unwrap();
            let frame: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            if frame.len() <= INPUT_BYTES_MAX {
                frames.push(frame);
            }
        }
    }
    assert!(frames.len() > 50, "{} golden frames", frames.len());
    frames
}

/// Values that break length arithmetic.
const ODD_NUMBERS: [u32; 7] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, u32::MAX];

fn mutate(dice: &mut Dice, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=dice.below(EDITS_MAX as usize) {
        let at = dice.below(input.len());
        match dice.roll() >> 61 {
            _ if input.is_empty() => input.extend_from_slice(other),
            0 => input[at] ^= 1 << dice.below(8),
            1 => input[at] = dice.roll() as u8,
            2 => input.truncate(at),
            3 => input.insert(at, dice.roll() as u8),
            4 => drop(input.remove(at)),
            5 if at + 4 <= input.len() => input[at..at + 4].copy_from_slice(&ODD_NUMBERS[dice.below(ODD_NUMBERS.len())].to_be_bytes()),
            6 => {
                let (from, to) = (dice.below(other.len()), dice.below(other.len()));
                input.splice(at..at, other[from.min(to)..from.max(to)].iter().copied());
            }
            _ => input.splice(at..at, input[at..].to_vec()).for_each(drop),
        }
        input.truncate(INPUT_BYTES_MAX);
    }
}

#[test]
fn no_mutation_of_a_golden_frame_brings_a_target_down() {
    let frames = golden_frames();
    for (seed, (name, target)) in TARGETS.iter().enumerate() {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + seed as u64);
        for round in 0..ROUNDS {
            let frame = &frames[dice.below(frames.len())];
            // Targets of payloads are given payloads.
            let mut input = if *name == "frame" { frame.clone() } else { frame[HEADER_BYTES.min(frame.len())..].to_vec() };
            if *name == "message" {
                input.insert(0, dice.roll() as u8);
            }
            let other = frames[dice.below(frames.len())].clone();
            mutate(&mut dice, &mut input, &other);
            let outcome = std::panic::catch_unwind(|| target(&input));
            let hex: String = if outcome.is_err() { input.iter().map(|byte| format!("{byte:02x}")).collect() } else { String::new() };
            assert!(outcome.is_ok(), "{name}, round {round}: {hex}");
        }
    }
}

/// Stories told to a gossip machine.
const GOSSIP_ROUNDS: u32 = 20_000;
/// Messages of one story.
const STORY_MESSAGES_MAX: usize = 6;

#[test]
fn no_mutation_of_real_gossip_brings_a_machine_down() {
    let traffic = distric_fuzz::gossip_traffic();
    assert!(traffic.len() > 100 && traffic.iter().any(|said| said[0] % 2 == 1), "packets and streams: {}", traffic.len());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..GOSSIP_ROUNDS {
        let mut story = Vec::new();
        for _ in 0..=dice.below(STORY_MESSAGES_MAX) {
            let mut said = traffic[dice.below(traffic.len())].clone();
            let other = traffic[dice.below(traffic.len())].clone();
            let head = [said[0] ^ (dice.roll() >> 62) as u8, dice.roll() as u8];
            // The inside is bent behind the envelope most of the time, or nothing would be looked at.
            let from = if dice.below(8) == 0 { 4 } else { 60.min(said.len()) };
            let mut inside = said.split_off(from);
            mutate(&mut dice, &mut inside, &other[60.min(other.len())..]);
            said.extend(inside);
            let length = u16::try_from(said.len() - 4).unwrap_or(u16::MAX);
            said[..2].copy_from_slice(&head);
            said[2..4].copy_from_slice(&length.to_be_bytes());
            story.extend(said);
        }
        let outcome = std::panic::catch_unwind(|| distric_fuzz::gossip(&story));
        let hex: String = if outcome.is_err() { story.iter().map(|byte| format!("{byte:02x}")).collect() } else { String::new() };
        assert!(outcome.is_ok(), "gossip, round {round}: {hex}");
    }
}
