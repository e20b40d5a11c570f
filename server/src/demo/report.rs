//! What the demo prints in the end: a table for people, one JSON document for scripts.

use std::time::Duration;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, Table};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::check::{Observed, Verdict};
use super::receiver::Ledger;
use super::strike::Strike;
use crate::output::{Output, Paint, write_line};

/// Everything that was counted and measured.
pub struct Report<'a> {
    /// Events of the stream that were submitted.
    pub events: usize,
    /// Distinct messages that were acknowledged.
    pub accepted: usize,
    /// The kill of a leader.
    pub strike: &'a Strike,
    /// From the kill to the next acknowledgement of the groups that the dead node led.
    pub fail_over: Duration,
    /// The longest time without any acknowledgement.
    pub longest_pause: Duration,
    /// Acknowledged messages that every node has.
    pub present_everywhere: usize,
    /// Submissions that the node recognised by their idempotency key.
    pub repeats: usize,
    /// Time spent submitting.
    pub busy: Duration,
    /// From sending to acknowledgement, microseconds.
    pub ack_us: &'a Histogram<u64>,
    /// The node's own view.
    pub observed: &'a Observed,
    /// The receiver's books.
    pub ledger: &'a Ledger,
    /// What disagrees.
    pub verdict: &'a Verdict,
    /// The whole run.
    pub elapsed: Duration,
}

impl Report<'_> {
    fn messages_per_second(&self) -> f64 {
        let seconds = self.busy.as_secs_f64();
        if seconds > 0.0 { self.events as f64 / seconds } else { 0.0 }
    }

    /// Prints it.
    pub fn print(&self, output: Output) {
        if output.json {
            output.json(&self.to_json());
            return;
        }
        let whole_ms = |time: Duration| format!("{} ms", time.as_millis());
        let ms = |us: u64| format!("{:.1} ms", us as f64 / 1_000.0);
        let mut rows: Vec<(String, String)> = vec![
            ("events submitted".into(), self.events.to_string()),
            ("messages accepted".into(), self.accepted.to_string()),
            ("  of those on every node".into(), self.present_everywhere.to_string()),
            ("leader killed after".into(), format!("{} acknowledged", self.strike.acknowledged_before)),
            ("fail-over".into(), whole_ms(self.fail_over)),
            ("longest pause of the stream".into(), whole_ms(self.longest_pause)),
            ("restart until ready".into(), whole_ms(self.strike.restart)),
            ("  until caught up".into(), whole_ms(self.strike.caught_up)),
        ];
        for ((workflow, state), count) in &self.observed.instances {
            rows.push((format!("{workflow} {state}"), count.to_string()));
        }
        rows.extend([
            ("tasks run".into(), self.observed.tasks_run.to_string()),
            ("retries".into(), self.observed.retries.to_string()),
            ("webhook deliveries".into(), self.ledger.deliveries.to_string()),
            ("  turned away at first (503)".into(), self.ledger.turned_away.to_string()),
            ("  refused for good (422)".into(), self.ledger.refused.to_string()),
            ("  repeated after acceptance".into(), self.ledger.suppressed.to_string()),
            ("duplicates suppressed by key".into(), self.repeats.to_string()),
            ("distinct effects".into(), self.verdict.distinct_effects.to_string()),
            (
                "acknowledgement p50 / p99".into(),
                format!("{} / {}", ms(self.ack_us.value_at_quantile(0.5)), ms(self.ack_us.value_at_quantile(0.99))),
            ),
            (
                "end to end p50 / p99".into(),
                format!(
                    "{} / {}",
                    ms(self.observed.end_to_end_us.value_at_quantile(0.5)),
                    ms(self.observed.end_to_end_us.value_at_quantile(0.99))
                ),
            ),
            ("messages/s".into(), format!("{:.0}", self.messages_per_second())),
            ("whole run".into(), format!("{:.1} s", self.elapsed.as_secs_f64())),
        ]);
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        for (name, value) in rows {
            table.add_row([Cell::new(name), Cell::new(value).set_alignment(CellAlignment::Right)]);
        }
        write_line(&table.to_string());
        if self.verdict.disagreements.is_empty() {
            write_line(&output.paint(Paint::Good, "Nothing acknowledged was lost, and every effect happened exactly once."));
        } else {
            for line in &self.verdict.disagreements {
                write_line(&output.paint(Paint::Bad, &format!("WRONG  {line}")));
            }
        }
    }

    fn to_json(&self) -> Value {
        let mut workflows = Map::new();
        for ((workflow, state), count) in &self.observed.instances {
            workflows.entry(workflow.clone()).or_insert_with(|| json!({}))[state] = json!(count);
        }
        json!({
            "event": "report",
            "ok": self.verdict.disagreements.is_empty(),
            "disagreements": self.verdict.disagreements,
            "events": self.events,
            "accepted": self.accepted,
            "present_on_every_node": self.present_everywhere,
            "acknowledged_before_kill": self.strike.acknowledged_before,
            "fail_over_ms": self.fail_over.as_millis() as u64,
            "longest_pause_ms": self.longest_pause.as_millis() as u64,
            "restart_ms": self.strike.restart.as_millis() as u64,
            "caught_up_ms": self.strike.caught_up.as_millis() as u64,
            "workflows": workflows,
            "tasks_run": self.observed.tasks_run,
            "retries": self.observed.retries,
            "webhook_deliveries": self.ledger.deliveries,
            "webhook_turned_away": self.ledger.turned_away,
            "webhook_refused": self.ledger.refused,
            "webhook_repeated": self.ledger.suppressed,
            "duplicates_suppressed": self.repeats,
            "distinct_effects": self.verdict.distinct_effects,
            "ack_p50_us": self.ack_us.value_at_quantile(0.5),
            "ack_p99_us": self.ack_us.value_at_quantile(0.99),
            "end_to_end_p50_us": self.observed.end_to_end_us.value_at_quantile(0.5),
            "end_to_end_p99_us": self.observed.end_to_end_us.value_at_quantile(0.99),
            "messages_per_second": self.messages_per_second().round(),
            "elapsed_ms": self.elapsed.as_millis() as u64,
        })
    }
}
