//! `distric rules match`: an offline run of a catalog over recorded messages.
//!
//! One line a message on stdout: `{"i":0,"ids":["…"]}`, or `{"i":0,"error":"…"}` where the line is not JSON. The summary
//! goes to stderr. The time of a message is that of its decision alone, parsing included.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use distric_rules::Envelope;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::rules_explain::compiled;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Longest time that the histogram tells apart, nanoseconds: one minute.
const DECIDE_NS_MAX: u64 = 60_000_000_000;
/// Longest line of a message file, bytes: the largest message, with room for escapes.
const LINE_BYTES_MAX: usize = 8 * distric_model::limits::MESSAGE_BYTES_MAX;

/// What a run has seen.
struct Tally {
    messages: u64,
    matched: u64,
    rules_matched: u64,
    errors: u64,
    decide_ns: Histogram<u64>,
}

/// Matches every line of a file. Lines that are no JSON count as errors and do not end the run.
pub fn run(rules: &Path, messages: &Path, output: Output) -> Result<Exit, Failure> {
    let catalog = compiled(rules)?;
    let file = File::open(messages).map_err(|error| Failure::io("read", messages, &error))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut tally = Tally {
        messages: 0,
        matched: 0,
        rules_matched: 0,
        errors: 0,
        decide_ns: Histogram::new_with_max(DECIDE_NS_MAX, 3).expect("a maximum above two and three digits are legal"),
    };
    let envelope = Envelope { namespace: "default", ..Envelope::default() };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = read_line(&mut reader, &mut line).map_err(|error| Failure::io("read", messages, &error))?;
        if read == 0 {
            break;
        }
        let payload = line.trim_ascii();
        if payload.is_empty() {
            continue;
        }
        let started = Instant::now();
        let decision = catalog.decide(&envelope, payload);
        let elapsed_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(DECIDE_NS_MAX);
        tally.decide_ns.saturating_record(elapsed_ns);
        let written = match decision {
            Ok(decision) => {
                tally.matched += u64::from(!decision.rules.is_empty());
                tally.rules_matched += decision.rules.len() as u64;
                write_ids(&mut out, tally.messages, &decision.rules)
            }
            Err(error) => {
                tally.errors += 1;
                writeln!(out, "{{\"i\":{},\"error\":{}}}", tally.messages, Value::from(error.to_string()))
            }
        };
        tally.messages += 1;
        if written.is_err() {
            // The reader of stdout went away: the rest is not wanted.
            return Ok(Exit::Success);
        }
    }
    if out.flush().is_ok() {
        summarise(&tally, output);
    }
    Ok(Exit::Success)
}

/// Reads one line without letting a file of another kind fill the memory.
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let mut limited = io::Read::take(&mut *reader, LINE_BYTES_MAX as u64);
    let read = limited.read_until(b'\n', line)?;
    if read == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line exceeds {LINE_BYTES_MAX} bytes")));
    }
    Ok(read)
}

fn write_ids(out: &mut impl Write, number: u64, ids: &[std::sync::Arc<str>]) -> io::Result<()> {
    write!(out, "{{\"i\":{number},\"ids\":[")?;
    for (position, id) in ids.iter().enumerate() {
        // A rule id has no character that JSON would escape.
        write!(out, "{}\"{id}\"", if position == 0 { "" } else { "," })?;
    }
    out.write_all(b"]}\n")
}

fn summarise(tally: &Tally, output: Output) {
    let total_ns = tally.decide_ns.mean() * tally.decide_ns.len() as f64;
    let per_second = if total_ns > 0.0 { tally.messages as f64 * 1e9 / total_ns } else { 0.0 };
    let us = |quantile: f64| tally.decide_ns.value_at_quantile(quantile) as f64 / 1_000.0;
    let (p50, p90, p99, p999, max) = (us(0.5), us(0.9), us(0.99), us(0.999), tally.decide_ns.max() as f64 / 1_000.0);
    if output.json {
        let summary = json!({
            "messages": tally.messages, "matched": tally.matched, "rules_matched": tally.rules_matched, "errors": tally.errors,
            "messages_per_second": per_second.round(), "p50_us": p50, "p90_us": p90, "p99_us": p99, "p999_us": p999, "max_us": max,
        });
        eprintln!("{summary}");
    } else {
        eprintln!(
            "{} messages, {} matched, {} rule matches, {} errors; {per_second:.0} messages/s; p50 {p50:.1} us, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1}",
            tally.messages, tally.matched, tally.rules_matched, tally.errors
        );
    }
}
