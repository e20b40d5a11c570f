//! Asking the node what it has, to hold it against what it promised.
//!
//! In: the journal, [`Expected`], the receiver's books, answers to queries.  Out: a [`Verdict`] with every disagreement in words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use distric_sdk::{Client, Code, Error, Query, QueryKind, Reply};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::expected::Expected;
use super::journal::Acknowledged;
use super::receiver::{EffectName, Ledger};
use crate::exit::{Exit, Failure};

/// Queries in flight.
const QUERIES_IN_FLIGHT: usize = 64;
/// Instances asked for at once.
const PAGE_ROWS: u32 = 500;
/// Most pages that are followed; a list that does not end would be a bug of the node.
const PAGES_MAX: usize = 1_000;
/// How often the node is asked whether something still runs.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Disagreements of one kind that are spelled out; the others are counted.
const SPELLED_OUT_MAX: usize = 5;

/// Runs one query per item with a bounded number in flight; answers come in the order of the items.
async fn each<T>(client: &Client, items: impl IntoIterator<Item = T>, query: impl Fn(&T) -> Query) -> Result<Vec<Option<Reply>>, Failure> {
    let window = Arc::new(Semaphore::new(QUERIES_IN_FLIGHT));
    let mut flights = JoinSet::new();
    let mut count = 0;
    for (position, item) in items.into_iter().enumerate() {
        let (client, query, window) = (client.clone(), query(&item), Arc::clone(&window));
        count += 1;
        flights.spawn(async move {
            let _permit = window.acquire_owned().await;
            (position, client.query(query).await)
        });
    }
    let mut answers: Vec<Option<Reply>> = Vec::new();
    answers.resize_with(count, || None);
    while let Some(flight) = flights.join_next().await {
        let (position, answer) =
            flight.map_err(|error| Failure::new(Exit::FailedOutcome, format!("a query ended with a panic: {error}")))?;
        answers[position] = match answer {
            Ok(reply) => Some(reply),
            Err(Error::Rejected(rejection)) if rejection.code == Code::NotFound => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(answers)
}

/// The acknowledged messages that the node does not know.
pub async fn missing_messages(client: &Client, acknowledged: &[Acknowledged]) -> Result<Vec<Uuid>, Failure> {
    let ids: BTreeSet<Uuid> = acknowledged.iter().map(|line| line.message_id).collect();
    let answers = each(client, ids.iter(), |id| Query::new(QueryKind::Message).id(**id)).await?;
    Ok(ids.iter().zip(&answers).filter(|(_, answer)| answer.is_none()).map(|(id, _)| *id).collect())
}

fn items(reply: &Reply) -> Result<Vec<Value>, Failure> {
    let bad = || Failure::new(Exit::FailedOutcome, "the node answered a list with something else");
    match reply.json().map_err(|_| bad())? {
        Value::Array(items) => Ok(items),
        Value::Object(mut members) => match members.remove("items") {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(bad()),
        },
        _ => Err(bad()),
    }
}

/// All instances in one state, or all of them.
async fn instances(client: &Client, status: Option<&str>) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut query = Query::new(QueryKind::Instances).limit(PAGE_ROWS);
        query.status = status.map(str::to_owned);
        query.cursor = cursor;
        let reply = client.query(query).await?;
        all.extend(items(&reply)?);
        cursor = reply.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
    Err(Failure::new(Exit::FailedOutcome, format!("the list of instances did not end within {PAGES_MAX} pages")))
}

/// Waits until nothing runs any more. Returns how many instances were still running at the deadline.
pub async fn wait_for_end(client: &Client, expected: u64, deadline: Instant, mut progress: impl FnMut(u64)) -> Result<u64, Failure> {
    loop {
        let running = instances(client, Some("running")).await?.len() + instances(client, Some("scheduled")).await?.len();
        progress(expected.saturating_sub(running as u64));
        if running == 0 || Instant::now() >= deadline {
            return Ok(running as u64);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the node says about all instances and their tasks.
#[derive(Debug)]
pub struct Observed {
    /// Instances by workflow and state.
    pub instances: BTreeMap<(String, String), u64>,
    /// Tasks that were run at least once.
    pub tasks_run: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Tasks of type `webhook` that completed.
    pub webhooks_completed: u64,
    /// Tasks whose result was accepted more than once.
    pub tasks_completed_twice: u64,
    /// From the first sending of a message to the end of what it started, microseconds.
    pub end_to_end_us: Histogram<u64>,
    /// All instance ids.
    pub ids: BTreeSet<Uuid>,
}

/// Reads every instance with its tasks. `sent_us` gives the time at which a message was first sent.
pub async fn observe(client: &Client, sent_us: &BTreeMap<Uuid, u64>) -> Result<Observed, Failure> {
    let ids: BTreeSet<Uuid> = instances(client, None).await?.iter().filter_map(|row| row["id"].as_str()?.parse().ok()).collect();
    let answers = each(client, ids.iter(), |id| Query::new(QueryKind::Instance).id(**id)).await?;
    let mut observed = Observed {
        instances: BTreeMap::new(),
        tasks_run: 0,
        retries: 0,
        webhooks_completed: 0,
        tasks_completed_twice: 0,
        end_to_end_us: Histogram::new_with_max(600_000_000, 3).expect("a maximum above two and three digits are legal"),
        ids,
    };
    for answer in answers.iter().flatten() {
        let instance = answer
            .json()
            .map_err(|error| Failure::new(Exit::FailedOutcome, format!("the node's view of an instance is no JSON: {error}")))?;
        observed.add(&instance, sent_us);
    }
    Ok(observed)
}

impl Observed {
    fn add(&mut self, instance: &Value, sent_us: &BTreeMap<Uuid, u64>) {
        let text = |member: &str| instance[member].as_str().unwrap_or_default().to_owned();
        *self.instances.entry((text("workflow"), text("status"))).or_default() += 1;
        let sent = text("message_id").parse().ok().and_then(|id: Uuid| sent_us.get(&id));
        if let (Some(sent), Some(ended)) = (sent, instance["ended_at_us"].as_u64()) {
            self.end_to_end_us.saturating_record(ended.saturating_sub(*sent));
        }
        for task in instance["tasks"].as_array().into_iter().flatten() {
            let attempts = task["attempt"].as_u64().unwrap_or_default();
            self.tasks_run += u64::from(attempts > 0);
            self.retries += attempts.saturating_sub(1);
            if task["type"] == "webhook" && task["status"] == "completed" {
                self.webhooks_completed += 1;
            }
            let completions = instance["history"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|event| event["task"] == task["task"] && event["to"] == "completed")
                .count();
            self.tasks_completed_twice += u64::from(completions > 1);
        }
    }
}

/// What the demo found out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Every disagreement, in words. Empty: everything was kept.
    pub disagreements: Vec<String>,
    /// Effects accepted by the receiver.
    pub distinct_effects: usize,
}

impl Verdict {
    /// Adds the elements that should not be there, the first few by name.
    pub fn none_of<T: std::fmt::Debug>(&mut self, what: &str, found: impl IntoIterator<Item = T>) {
        let found: Vec<T> = found.into_iter().collect();
        if found.is_empty() {
            return;
        }
        let mut line = format!("{what}: {}", found.len());
        for element in found.iter().take(SPELLED_OUT_MAX) {
            line.push_str(&format!("\n    {element:?}"));
        }
        if found.len() > SPELLED_OUT_MAX {
            line.push_str(&format!("\n    and {} more", found.len() - SPELLED_OUT_MAX));
        }
        self.disagreements.push(line);
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, expected: T, found: T) {
        if expected != found {
            self.disagreements.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }
}

/// Holds everything against everything. `acknowledged` is the whole journal.
pub fn judge(expected: &Expected, observed: &Observed, ledger: &Ledger, acknowledged: &[Acknowledged]) -> Verdict {
    let mut verdict = Verdict::default();

    // One key, one message: an acknowledgement after the restart must name the message of the one before it.
    let mut by_key: BTreeMap<&str, Uuid> = BTreeMap::new();
    let doubled =
        acknowledged.iter().filter(|line| *by_key.entry(&line.key).or_insert(line.message_id) != line.message_id).map(|line| &line.key);
    verdict.none_of("idempotency keys acknowledged as two messages", doubled.collect::<BTreeSet<_>>());
    verdict.equal("distinct messages acknowledged", expected.messages, by_key.len());
    let promised: BTreeSet<Uuid> = acknowledged.iter().flat_map(|line| line.instances.iter().copied()).collect();
    verdict.none_of("instances that an acknowledgement named and the node does not have", promised.difference(&observed.ids));

    // Effects: each expected one accepted, under one key, and nothing else.
    let mut keys_of: BTreeMap<&EffectName, u32> = BTreeMap::new();
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for record in ledger.keys.values() {
        *keys_of.entry(&record.effect).or_default() += 1;
        if record.accepted {
            accepted.insert(record.effect.clone());
        }
        if record.refused {
            refused.insert(record.effect.clone());
        }
    }
    verdict.none_of("effects missing", expected.accepted.difference(&accepted));
    verdict.none_of("effects that nobody asked for", accepted.difference(&expected.accepted));
    verdict.none_of("effects under more than one idempotency key", keys_of.iter().filter(|(_, keys)| **keys > 1).map(|(effect, _)| effect));
    verdict.none_of("refused effects missing", expected.refused.difference(&refused));
    verdict.none_of("effects refused that should not have been asked for", refused.difference(&expected.refused));
    verdict.equal("malformed deliveries", 0, ledger.malformed);
    verdict.equal("webhook tasks completed", accepted.len() as u64, observed.webhooks_completed);
    verdict.equal("tasks with more than one accepted result", 0, observed.tasks_completed_twice);
    verdict.distinct_effects = accepted.len();

    // Instances, by workflow and end.
    let states: BTreeSet<(String, String)> = expected
        .instances
        .keys()
        .map(|(workflow, state)| (workflow.clone(), (*state).to_owned()))
        .chain(observed.instances.keys().cloned())
        .collect();
    for (workflow, state) in states {
        let wanted = expected.instances.iter().find(|((w, s), _)| *w == workflow && *s == state).map_or(0, |(_, count)| *count);
        let found = observed.instances.get(&(workflow.clone(), state.clone())).copied().unwrap_or_default();
        verdict.equal(&format!("instances of {workflow} that are {state}"), wanted, found);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::receiver::KeyRecord;
    use super::*;

    fn effect(reference: &str) -> EffectName {
        ("receipt".to_owned(), reference.to_owned())
    }

    fn scene() -> (Expected, Observed, Ledger, Vec<Acknowledged>) {
        let expected = Expected {
            messages: 1,
            instances: BTreeMap::from([(("w".to_owned(), "completed"), 1)]),
            accepted: BTreeSet::from([effect("a")]),
            ..Expected::default()
        };
        let id = Uuid::from_u128(7);
        let observed = Observed {
            instances: BTreeMap::from([(("w".to_owned(), "completed".to_owned()), 1)]),
            tasks_run: 1,
            retries: 0,
            webhooks_completed: 1,
            tasks_completed_twice: 0,
            end_to_end_us: Histogram::new(3).unwrap(),
            ids: BTreeSet::from([id]),
        };
        let record = KeyRecord { effect: effect("a"), deliveries: 2, accepted: true, refused: false };
        let ledger = Ledger { deliveries: 2, suppressed: 1, keys: BTreeMap::from([("k".to_owned(), record)]), ..Ledger::default() };
        let line = Acknowledged { event: 0, key: "e".to_owned(), message_id: Uuid::from_u128(1), instances: vec![id], repeat: false };
        (expected, observed, ledger, vec![line])
    }

    #[test]
    fn agreement_is_silent_even_when_deliveries_repeat() {
        let (expected, observed, ledger, journal) = scene();
        let verdict = judge(&expected, &observed, &ledger, &journal);
        assert_eq!((verdict.disagreements, verdict.distinct_effects), (vec![], 1));
    }

    #[test]
    fn each_kind_of_loss_or_doubling_is_named() {
        let check = |change: fn(&mut Expected, &mut Observed, &mut Ledger, &mut Vec<Acknowledged>), words: &str| {
            let (mut expected, mut observed, mut ledger, mut journal) = scene();
            change(&mut expected, &mut observed, &mut ledger, &mut journal);
            let found = judge(&expected, &observed, &ledger, &journal).disagreements.join("\n");
            assert!(found.contains(words), "{words} is not in: {found}");
        };
        check(|_, _, ledger, _| ledger.keys.clear(), "effects missing: 1");
        check(
            |_, _, ledger, _| {
                let twin = ledger.keys["k"].clone();
                ledger.keys.insert("k2".to_owned(), twin);
            },
            "effects under more than one idempotency key: 1",
        );
        check(|_, observed, _, _| observed.ids.clear(), "instances that an acknowledgement named");
        check(|_, observed, _, _| observed.instances.clear(), "instances of w that are completed: expected 1, found 0");
        check(|expected, _, _, _| expected.messages = 2, "distinct messages acknowledged");
        check(
            |_, _, _, journal| {
                let twin = Acknowledged { message_id: Uuid::from_u128(2), ..journal[0].clone() };
                journal.push(twin);
            },
            "acknowledged as two messages: 1",
        );
        check(|expected, _, _, _| expected.accepted.clear(), "effects that nobody asked for: 1");
    }
}
