//! `distric rules bench`: what a catalog costs on this machine: to read, to build, to change, and per message.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::{Duration, Instant};

use distric_rules::{Catalog, CheckContext, Decision, Envelope, Problem, check, check_rule};
use hdrhistogram::Histogram;
use serde_json::json;

use super::rules_match::read_line;
use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};
use crate::rule_files::rule_set;

/// Messages that are held in memory, at most.
const MESSAGES_MAX: usize = 100_000;
/// Bytes of messages that are held in memory, at most.
const MESSAGES_BYTES_MAX: usize = 256 << 20;
/// Longest time that the histogram tells apart, nanoseconds: one minute.
const DECIDE_NS_MAX: u64 = 60_000_000_000;

/// Measures for about `seconds`, after one pass over all messages that does not count.
pub fn run(rules: &Path, messages: &Path, seconds: u32, output: Output) -> Result<Exit, Failure> {
    let set = rule_set(rules)?;
    let text = set.to_json().to_string();
    let (checked, check_time) = timed(|| check("rules.json", &text, &CheckContext::default()));
    let set = checked.catalog.ok_or_else(|| Failure::new(Exit::BadInput, "the rules do not pass their check"))?;
    let refused = |problems: Vec<Problem>| Failure::new(Exit::BadInput, "the rules do not compile").with_findings(problems);
    let (catalog, build_time) = timed(|| Catalog::compile(1, &set));
    let catalog = catalog.map_err(refused)?;
    // One rule is read again and put in its place: what a change of one rule costs the node, but for the log.
    let change_time = match set.iter().next() {
        None => Duration::ZERO,
        Some(rule) => {
            let body = rule.to_json().to_string();
            let (changed, time) = timed(|| {
                let rule = check_rule("rule", &body)?;
                let checked = set.patched(vec![rule], [], &CheckContext::default());
                Catalog::compile(2, &checked.catalog.ok_or(checked.problems)?)
            });
            changed.map_err(refused)?;
            time
        }
    };
    let payloads = read(messages)?;
    let envelope = Envelope { namespace: "default", ..Envelope::default() };
    let mut decision = Decision::default();
    let mut decide = |payload: &[u8]| catalog.decide_into(&envelope, payload, &mut decision).map(|()| decision.rules.len());
    let (mut errors, mut matches) = (0_u64, 0_u64);
    for payload in &payloads {
        match decide(payload) {
            Ok(count) => matches += count as u64,
            Err(_) => errors += 1,
        }
    }
    let mut times = Histogram::<u64>::new_with_max(DECIDE_NS_MAX, 3).expect("a maximum above two and three digits are legal");
    let deadline = Instant::now() + Duration::from_secs(u64::from(seconds));
    'all: loop {
        for payload in &payloads {
            let started = Instant::now();
            let _ = std::hint::black_box(decide(payload));
            let now = Instant::now();
            times.saturating_record(u64::try_from((now - started).as_nanos()).unwrap_or(DECIDE_NS_MAX));
            if now >= deadline {
                break 'all;
            }
        }
    }
    let us = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1_000.0;
    let mean_us = times.mean() / 1_000.0;
    let matches_per_message = matches as f64 / payloads.len() as f64;
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    if output.json {
        output.json(&json!({
            "rules": set.len(), "check_ms": ms(check_time), "build_ms": ms(build_time), "change_one_rule_ms": ms(change_time),
            "messages": payloads.len(), "decisions": times.len(), "errors": errors, "matches_per_message": matches_per_message,
            "mean_us": mean_us, "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "messages_per_second": 1e6 / mean_us,
        }));
    } else {
        write_line(&format!(
            "{} rules: check {:.1} ms, build {:.1} ms, change of one rule {:.1} ms",
            set.len(),
            ms(check_time),
            ms(build_time),
            ms(change_time)
        ));
        write_line(&format!(
            "{} decisions over {} messages ({errors} not readable), {matches_per_message:.2} matches a message",
            times.len(),
            payloads.len()
        ));
        write_line(&format!(
            "a decision, parsing included: mean {mean_us:.2} us, p50 {:.2}, p99 {:.2}, p99.9 {:.2}; {:.0} messages/s on one core",
            us(0.5),
            us(0.99),
            us(0.999),
            1e6 / mean_us
        ));
    }
    Ok(Exit::Success)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

fn read(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| Failure::io("read", path, &error);
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let (mut payloads, mut bytes, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        if read_line(&mut reader, &mut line).map_err(failed)? == 0 || payloads.len() == MESSAGES_MAX || bytes > MESSAGES_BYTES_MAX {
            break;
        }
        let payload = line.trim_ascii();
        if !payload.is_empty() {
            bytes += payload.len();
            payloads.push(payload.to_vec());
        }
    }
    if payloads.is_empty() {
        return Err(Failure::new(Exit::BadInput, format!("{} has no message", path.display())).with_remedy("one JSON document a line"));
    }
    Ok(payloads)
}
