//! Rules beside rules: this project's index, `a-tree` and `zen-engine` on the same rules and messages in one run, with the floor: a tape
//! parse by `simd-json`, buffers reused, nothing done with it.
//!
//! One thread, pinned when the system lets it. Every side gets a message as bytes and has to name the matching rules; what it makes of the
//! bytes is its own affair. Sides take turns, pass by pass. *mean* and *p99* are over messages, each the median of its passes; *cpu* is
//! the thread's processor time over the same passes, divided by the messages. The answers of all sides are compared before anything is
//! timed; the floor has none.
//!
//! `cd benches/rules-peers && cargo run --release` measures the table of docs/performance.md; `-- simple 10000 [PASSES]` one row of it;
//! `-- changes MIX RULES` what changes of a catalog cost; `-- FOLDER` the `rules.json` and `messages.jsonl` of a folder, ours and the floor only.

mod changes;
mod counting_unsafe;
mod hands;
mod measure;
mod ours;
mod peers;
#[cfg(feature = "zen")]
mod zen;

use std::fs;

use distric_oracle::{Mix, Workload};

use measure::{Measured, measure};

/// Messages of a row.
const MESSAGES: usize = 10_000;
/// Passes over the messages, unless told otherwise; odd, so that there is one in the middle.
const PASSES: usize = 5;
/// A side that takes longer than this for a message is measured on fewer of them.
const SLOW_NS: u64 = 100_000;

fn main() {
    let _ = rustix::thread::sched_setaffinity(None, &{
        let mut one = rustix::thread::CpuSet::new();
        one.set(1);
        one
    });
    println!("load: {}", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    println!("{}", Measured::HEAD);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            for rules_count in [10_000, 100_000] {
                Mix::ALL.iter().for_each(|mix| row(*mix, rules_count, PASSES));
            }
        }
        ["changes", name, rules_count] => changes::measure(mix_of(name), rules_count.parse().expect("a number of rules")),
        [name, rules_count, rest @ ..] => {
            let mix = mix_of(name);
            let passes = rest.first().map_or(PASSES, |text| text.parse().expect("a number of passes"));
            row(mix, rules_count.parse().expect("a number of rules"), passes);
        }
        [folder] => {
            let read = |file: &str| fs::read_to_string(format!("{folder}/{file}")).expect("the folder holds rules.json and messages.jsonl");
            let messages: Vec<String> = read("messages.jsonl").lines().map(str::to_string).collect();
            ours_and_floor(folder.rsplit('/').next().unwrap_or(folder), &read("rules.json"), &messages, PASSES);
        }
    }
}

fn mix_of(name: &str) -> Mix {
    Mix::ALL.into_iter().find(|mix| mix.name() == name).expect("a mix: simple, regex, mixed, nested")
}

fn row(mix: Mix, rules_count: usize, passes: usize) {
    let drawn = Workload::drawn(mix, rules_count, MESSAGES, 42);
    let what = format!("{}-{}k", mix.name(), rules_count / 1_000);
    // The others have no text conditions and no nested fields.
    if mix != Mix::Simple {
        return ours_and_floor(&what, &drawn.rules_document(), &drawn.messages, passes);
    }
    let mut ours = ours::Ours::new(&drawn.rules_document());
    #[cfg(feature = "zen")]
    let mut zen = zen::Zen::new(&drawn.rules);
    // Inserting takes a-tree time that grows with the square of the rules.
    let mut tree = (rules_count <= 20_000).then(|| peers::Tree::new(&drawn.rules));
    for message in drawn.messages.iter().take(500) {
        let expected = ours.ids(message);
        #[cfg(feature = "zen")]
        assert_eq!(zen.ids(message), expected, "zen-engine: {message}");
        if let Some(tree) = &mut tree {
            assert_eq!(tree.ids(message), expected, "a-tree: {message}");
        }
    }
    let mut sides: Vec<(&str, Box<dyn FnMut(&[u8]) -> usize + '_>)> =
        vec![("distric", Box::new(|message| ours.matches(message))), ("simd-json tape", Box::new(ours::floor()))];
    #[cfg(feature = "zen")]
    sides.push(("zen-engine", Box::new(|message| zen.matches(message))));
    if let Some(tree) = &mut tree {
        sides.push(("a-tree", Box::new(|message| tree.matches(message))));
    }
    print(&what, measure(&mut sides, &drawn.messages, passes, SLOW_NS));
}

fn ours_and_floor(what: &str, rules: &str, messages: &[String], passes: usize) {
    let mut ours = ours::Ours::new(rules);
    let mut sides: Vec<(&str, Box<dyn FnMut(&[u8]) -> usize + '_>)> =
        vec![("distric", Box::new(|message| ours.matches(message))), ("simd-json tape", Box::new(ours::floor()))];
    print(what, measure(&mut sides, messages, passes, SLOW_NS));
}

fn print(what: &str, measured: Vec<Measured>) {
    let first = measured[0].cpu_us;
    measured.iter().for_each(|side| println!("{}", side.line(what, first)));
}
