//! This project's index, and the floor.

use std::time::Instant;

use distric_rules::{Catalog, CheckContext, Decision, Envelope, check};

use crate::counting_unsafe::live_bytes;
use crate::measure::cpu_ns;

/// A compiled catalog with the buffers of one thread.
pub struct Ours {
    catalog: Catalog,
    decision: Decision,
}

impl Ours {
    /// Compiles a document of rules, and prints what that took.
    pub fn new(rules: &str) -> Self {
        let (empty, began, started) = (live_bytes(), cpu_ns(), Instant::now());
        let set = check("rules.json", rules, &CheckContext::default()).catalog.expect("the rules are right");
        let (check_cpu, check_wall) = (cpu_ns() - began, started.elapsed());
        let (before, began, started) = (live_bytes(), cpu_ns(), Instant::now());
        let catalog = Catalog::compile(1, &set).expect("and compile");
        let (cpu, wall) = (cpu_ns() - began, started.elapsed());
        println!(
            "  check {:.0} ms (cpu {:.0}), build {:.0} ms (cpu {:.0}); bytes per rule: rules {}, index {}, together {}",
            check_wall.as_secs_f64() * 1e3,
            check_cpu as f64 / 1e6,
            wall.as_secs_f64() * 1e3,
            cpu as f64 / 1e6,
            (before - empty) / set.len().max(1) as i64,
            (live_bytes() - before) / set.len().max(1) as i64,
            (live_bytes() - empty) / set.len().max(1) as i64,
        );
        Self { catalog, decision: Decision::default() }
    }

    /// How many rules match.
    pub fn matches(&mut self, message: &[u8]) -> usize {
        let envelope = Envelope { namespace: "default", ..Envelope::default() };
        self.catalog.decide_into(&envelope, message, &mut self.decision).expect("a workload's messages are JSON");
        self.decision.rules.len()
    }

    /// Which rules match, ordered by their ids.
    pub fn ids(&mut self, message: &str) -> Vec<String> {
        self.matches(message.as_bytes());
        let mut ids: Vec<String> = self.decision.rules.iter().map(ToString::to_string).collect();
        ids.sort();
        ids
    }
}

/// A tape parse and nothing else; its tape and buffers are used again.
pub fn floor() -> impl FnMut(&[u8]) -> usize {
    let mut buffers = simd_json::Buffers::default();
    let mut tape = simd_json::Tape::null().reset();
    let mut copy = Vec::new();
    move |message| {
        // The parser unescapes in place.
        copy.clear();
        copy.extend_from_slice(message);
        let mut filled = std::mem::replace(&mut tape, simd_json::Tape::null().reset());
        simd_json::fill_tape(&mut copy, &mut buffers, &mut filled).expect("JSON");
        let count = filled.0.len();
        tape = filled.reset();
        usize::from(count == 0)
    }
}
