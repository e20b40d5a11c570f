//! What a run found out, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::flow::Tally;
use crate::{Options, Pace};

/// The result of a run. Serialises to the JSON that `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `closed` or `open`.
    pub mode: &'static str,
    /// Intended messages per second of an open loop.
    pub rate: Option<f64>,
    /// Connections.
    pub connections: u32,
    /// Connections that were lost before the end.
    pub connections_lost: u32,
    /// Most messages in flight over all connections: what was asked for, or what the server grants.
    pub in_flight_max: u64,
    /// Size of a payload, bytes.
    pub payload_bytes: usize,
    /// Length of the measurement, seconds.
    pub duration_s: f64,
    /// Acknowledgements per second inside of the measurement.
    pub messages_per_second: f64,
    /// Messages sent, warm-up included.
    pub sent: u64,
    /// Messages acknowledged, warm-up included.
    pub acked: u64,
    /// Of those: no rule matched.
    pub unmatched: u64,
    /// Messages refused, by the name of the code.
    pub rejected: BTreeMap<String, u64>,
    /// Messages sent and never answered.
    pub unanswered: u64,
    /// Messages of an open loop that were due and could not be sent, because the server granted no room.
    pub unsent: u64,
    /// From the intended time (open loop) or the time of sending (closed loop) to the answer.
    pub latency_us: Latency,
    /// From the intended time to the time of sending: the generator's own part, and the wait for room.
    pub send_lag_us: Latency,
    /// CPU time of the server per answered message, microseconds; resolution 10 ms over the whole measurement.
    pub server_cpu_us_per_message: Option<f64>,
    /// CPU time of this process per answered message, microseconds.
    pub client_cpu_us_per_message: Option<f64>,
}

/// Percentiles, microseconds, to three digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// How many values.
    pub count: u64,
    /// Half are not above it.
    pub p50: u64,
    /// 90 % are not above it.
    pub p90: u64,
    /// 99 % are not above it.
    pub p99: u64,
    /// 99.9 % are not above it.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            mean: histogram.mean(),
        }
    }
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        tally: &Tally,
        in_flight_max: usize,
        lost_count: usize,
        server_cpu_us: Option<u64>,
        client_cpu_us: u64,
    ) -> Self {
        let duration_s = options.duration_ms as f64 / 1_000.0;
        let per_message = |cpu_us: u64| (tally.answered_in_window > 0).then(|| cpu_us as f64 / tally.answered_in_window as f64);
        let (mode, rate) = match options.pace {
            Pace::InFlight(_) => ("closed", None),
            Pace::Rate(rate) => ("open", Some(rate)),
        };
        Self {
            mode,
            rate,
            connections: options.connections,
            connections_lost: lost_count as u32,
            in_flight_max: in_flight_max as u64,
            payload_bytes: options.message.payload_bytes,
            duration_s,
            messages_per_second: tally.acked_in_window as f64 / duration_s,
            sent: tally.sent,
            acked: tally.acked,
            unmatched: tally.unmatched,
            rejected: tally.rejected.clone(),
            unanswered: tally.unanswered,
            unsent: tally.unsent,
            latency_us: Latency::of(&tally.latency_us),
            send_lag_us: Latency::of(&tally.lag_us),
            server_cpu_us_per_message: server_cpu_us.and_then(per_message),
            client_cpu_us_per_message: per_message(client_cpu_us),
        }
    }
}

/// A table of names and values.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<22} {value}");
        let loop_text = match self.rate {
            Some(rate) => format!("open, {rate} messages/s intended, latency from the intended time"),
            None => format!("closed, {} in flight", self.in_flight_max),
        };
        line("loop", loop_text)?;
        let lost = if self.connections_lost > 0 { format!(" ({} lost)", self.connections_lost) } else { String::new() };
        line("connections", format!("{}{lost}", self.connections))?;
        line("payload", format!("{} bytes", self.payload_bytes))?;
        line("measured", format!("{:.1} s", self.duration_s))?;
        line("messages/s", format!("{:.0}", self.messages_per_second))?;
        line("sent / acknowledged", format!("{} / {} ({} matched no rule)", self.sent, self.acked, self.unmatched))?;
        for (name, count) in &self.rejected {
            line(&format!("rejected {name}"), count.to_string())?;
        }
        if self.unanswered + self.unsent > 0 {
            line("unanswered / unsent", format!("{} / {}", self.unanswered, self.unsent))?;
        }
        line("latency, ms", percentiles(&self.latency_us))?;
        if self.rate.is_some() {
            line("sent late by, ms", percentiles(&self.send_lag_us))?;
        }
        if let Some(us) = self.server_cpu_us_per_message {
            line("server CPU", format!("{us:.2} \u{b5}s per message"))?;
        }
        if let Some(us) = self.client_cpu_us_per_message {
            line("generator CPU", format!("{us:.2} \u{b5}s per message"))?;
        }
        Ok(())
    }
}

/// The usual percentiles in milliseconds.
pub(crate) fn percentiles(l: &Latency) -> String {
    format!("p50 {}  p90 {}  p99 {}  p99.9 {}  max {}", ms(l.p50), ms(l.p90), ms(l.p99), ms(l.p999), ms(l.max))
}

/// Microseconds as milliseconds.
fn ms(us: u64) -> String {
    format!("{}.{:03}", us / 1_000, us % 1_000)
}
