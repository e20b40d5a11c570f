//! Retry policies: how often, and how long between attempts.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::document::{Cursor, NodeValue, Problems};
use crate::duration::{duration_text, read_duration_ms};

/// Most attempts that a policy may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Largest factor between two waits.
pub const MULTIPLIER_MAX: f64 = 100.0;

/// Exponential backoff with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// All attempts, the first included; at least 1.
    pub max_attempts: u32,
    /// Wait after the first failed attempt, milliseconds.
    pub initial_backoff_ms: u64,
    /// Each wait is this many times the one before; at least 1.
    pub multiplier: f64,
    /// Longest wait, milliseconds.
    pub max_backoff_ms: u64,
    /// Share of a wait that is drawn at random, `0.0..=1.0`: the wait is shortened or lengthened by at most this share.
    pub jitter: f64,
}

/// No retries; when attempts are added: 1 s, doubled up to 60 s, with jitter 0.2.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 1, initial_backoff_ms: 1_000, multiplier: 2.0, max_backoff_ms: 60_000, jitter: 0.2 }
    }
}

/// The keys of a policy that is written out.
pub const RETRY_KEYS: [&str; 5] = ["max_attempts", "initial_backoff", "multiplier", "max_backoff", "jitter"];

impl RetryPolicy {
    /// Reads `retry: 3` (three retries after the first attempt) or `retry: { max_attempts: 4, … }` (all attempts).
    ///
    /// `more_keys` are keys beside [`RETRY_KEYS`] that the caller reads itself. Problems are added for all that is wrong.
    pub fn parse(cursor: &Cursor<'_>, problems: &mut Problems, more_keys: &[&str]) -> Option<Self> {
        let defaults = Self::default();
        if matches!(cursor.node.value, NodeValue::Number(_)) {
            let retries = cursor.integer(problems, 0, i64::from(ATTEMPTS_MAX - 1))?;
            return Some(Self { max_attempts: retries as u32 + 1, ..defaults });
        }
        if !matches!(cursor.node.value, NodeValue::Map(_)) {
            cursor.error(problems, format!("found {}", cursor.node.kind()), Some("a number of retries or a map"));
            return None;
        }
        let errors_before = problems.errors_count();
        let keys: Vec<&str> = RETRY_KEYS.iter().chain(more_keys).copied().collect();
        let members = cursor.map(problems, &keys)?;
        let mut policy = defaults;
        if let Some(c) = members.required(problems, "max_attempts") {
            policy.max_attempts = c.integer(problems, 1, i64::from(ATTEMPTS_MAX)).unwrap_or(1) as u32;
        }
        if let Some(c) = members.get("initial_backoff") {
            policy.initial_backoff_ms = read_duration_ms(&c, problems, 0).unwrap_or(policy.initial_backoff_ms);
        }
        if let Some(c) = members.get("multiplier") {
            policy.multiplier = c.float(problems, 1.0, MULTIPLIER_MAX).unwrap_or(policy.multiplier);
        }
        policy.max_backoff_ms = policy.max_backoff_ms.max(policy.initial_backoff_ms);
        if let Some(c) = members.get("max_backoff") {
            policy.max_backoff_ms = read_duration_ms(&c, problems, 0).unwrap_or(policy.max_backoff_ms);
            if policy.max_backoff_ms < policy.initial_backoff_ms {
                c.error(
                    problems,
                    "`max_backoff` is shorter than `initial_backoff`",
                    Some(&format!("at least {}", duration_text(policy.initial_backoff_ms))),
                );
            }
        }
        if let Some(c) = members.get("jitter") {
            policy.jitter = c.float(problems, 0.0, 1.0).unwrap_or(policy.jitter);
        }
        (problems.errors_count() == errors_before).then_some(policy)
    }

    /// Its canonical JSON, all keys written out.
    pub fn to_json(&self) -> Value {
        json!({
            "max_attempts": self.max_attempts, "initial_backoff": duration_text(self.initial_backoff_ms), "multiplier": self.multiplier,
            "max_backoff": duration_text(self.max_backoff_ms), "jitter": self.jitter,
        })
    }

    /// The wait before the next attempt, milliseconds, after `failed_attempts` (from 1) have failed.
    ///
    /// `draw` is a uniformly drawn 64-bit number; half of its range means no jitter. The same draw gives the same wait.
    pub fn backoff_ms(&self, failed_attempts: u32, draw: u64) -> u64 {
        // Multiplied step by step instead of powi: plain products are the same on every machine.
        let mut wait = self.initial_backoff_ms as f64;
        for _ in 1..failed_attempts {
            wait *= self.multiplier;
            if wait >= self.max_backoff_ms as f64 {
                break;
            }
        }
        let wait = wait.min(self.max_backoff_ms as f64);
        let share = (draw >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0;
        (wait * (1.0 + self.jitter * share)).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Node;

    fn parse(value: Value) -> Result<RetryPolicy, Vec<String>> {
        let node = Node::from_json(&value);
        let mut problems = Problems::new("f");
        let policy = RetryPolicy::parse(&Cursor::root(&node), &mut problems, &[]);
        policy.ok_or_else(|| problems.into_sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn both_spellings_are_read_and_the_canonical_one_reads_back() {
        assert_eq!(parse(json!(3)).unwrap().max_attempts, 4);
        assert_eq!(parse(json!(0)).unwrap(), RetryPolicy::default());
        let policy = parse(json!({"max_attempts": 3, "initial_backoff": "2m"})).unwrap();
        assert_eq!((policy.max_attempts, policy.initial_backoff_ms, policy.max_backoff_ms), (3, 120_000, 120_000));
        assert_eq!(parse(policy.to_json()).unwrap(), policy);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse(json!("often")).unwrap_err(), ["f: found a string (expected a number of retries or a map)"]);
        assert_eq!(parse(json!(-1)).unwrap_err(), ["f: found -1 (expected a whole number from 0 to 999)"]);
        assert_eq!(
            parse(json!({"max_atempts": 3, "jitter": 2, "initial_backoff": 5, "max_backoff": 1})).unwrap_err(),
            [
                "f: `max_attempts` is missing",
                "f: jitter: found 2 (expected a number from 0 to 1)",
                "f: max_atempts: unknown key `max_atempts`, did you mean `max_attempts`? (expected one of max_attempts, initial_backoff, multiplier, max_backoff, jitter)",
                "f: max_backoff: `max_backoff` is shorter than `initial_backoff` (expected at least 5s)",
            ]
        );
    }

    #[test]
    fn waits_double_up_to_the_limit_and_jitter_stays_in_its_share() {
        let policy = RetryPolicy { max_attempts: 10, jitter: 0.0, ..RetryPolicy::default() };
        let waits: Vec<u64> = (1..=8).map(|failed| policy.backoff_ms(failed, 0)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        let policy = RetryPolicy { jitter: 0.2, ..policy };
        assert_eq!((policy.backoff_ms(1, 0), policy.backoff_ms(1, 1 << 63)), (800, 1_000));
        assert!((1_199..=1_200).contains(&policy.backoff_ms(1, u64::MAX)));
    }
}
