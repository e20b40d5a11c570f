//! Submitting the stream: a window of messages in flight, each journaled when it is acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use distric_sdk::{Client, Error, Submission};
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::events::Event;
use super::journal::Acknowledged;
use crate::exit::{Exit, Failure};

/// Messages in flight.
pub const WINDOW: usize = 128;
/// Longest latency that the histogram tells apart, microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// How often one message is offered to a node that asks to come back later.
const OFFERS_MAX: u32 = 50;

/// What was measured on this side.
pub struct Tally {
    /// From sending to acknowledgement, microseconds.
    pub ack_us: Histogram<u64>,
    /// When each event was first sent, microseconds since the epoch; 0 before.
    pub first_sent_us: Vec<u64>,
    /// Time spent submitting, the fail-over included.
    pub busy: Duration,
    /// Acknowledgements, in the order in which they came.
    pub acks: Vec<Ack>,
}

/// One acknowledgement in time.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When the message was offered.
    pub sent_at: Instant,
    /// When it was acknowledged.
    pub at: Instant,
    /// Its id, which says whose group it is in.
    pub message_id: Uuid,
}

impl Tally {
    /// An empty tally for a stream of `count` events.
    pub fn new(count: usize) -> Self {
        let ack_us = Histogram::new_with_max(LATENCY_US_MAX, 3).expect("a maximum above two and three digits are legal");
        Self { ack_us, first_sent_us: vec![0; count], busy: Duration::ZERO, acks: Vec::with_capacity(count) }
    }
}

/// Submits all events and hands each acknowledgement to the journal.
///
/// Errors: the first refusal that does not pass with time.
pub async fn submit(
    client: &Client,
    events: &Arc<Vec<Event>>,
    journal: Sender<Acknowledged>,
    tally: &mut Tally,
    mut progress: impl FnMut(u64),
) -> Result<(), Failure> {
    let started = Instant::now();
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut flights: JoinSet<Result<(Acknowledged, Ack), Error>> = JoinSet::new();
    let mut waiting = 0..events.len();
    let mut next = waiting.next();
    let result = loop {
        if next.is_none() && flights.is_empty() {
            break Ok(());
        }
        tokio::select! {
            permit = Arc::clone(&window).acquire_owned(), if next.is_some() => {
                let permit = permit.expect("the window is never closed");
                let position = next.take().expect("this branch runs only when there is a next one");
                next = waiting.next();
                if tally.first_sent_us[position] == 0 {
                    tally.first_sent_us[position] = now_us();
                }
                let (client, events) = (client.clone(), Arc::clone(events));
                flights.spawn(async move {
                    let outcome = offer(&client, &events[position], position).await;
                    drop(permit);
                    outcome
                });
            }
            Some(flight) = flights.join_next(), if !flights.is_empty() => {
                match flight {
                    Ok(Ok((acknowledged, ack))) => {
                        let ack_us = ack.at.saturating_duration_since(ack.sent_at).as_micros();
                        tally.ack_us.saturating_record(u64::try_from(ack_us).unwrap_or(LATENCY_US_MAX));
                        tally.acks.push(ack);
                        progress(tally.acks.len() as u64);
                        if journal.send(acknowledged).await.is_err() {
                            break Err(Failure::new(Exit::Environment, "the journal of acknowledgements cannot be written"));
                        }
                    }
                    Ok(Err(error)) => break Err(error.into()),
                    Err(error) => break Err(Failure::new(Exit::FailedOutcome, format!("a submission ended with a panic: {error}"))),
                }
            }
        }
    };
    tally.busy += started.elapsed();
    result
}

/// Offers one message until it is taken. Returns the acknowledgement, and when its last offer was made and answered.
async fn offer(client: &Client, event: &Event, position: usize) -> Result<(Acknowledged, Ack), Error> {
    let submission = Submission::json(&event.payload)
        .event_type(&event.event_type)
        .source(&event.source)
        .routing_key(&event.routing_key)
        .idempotency_key(&event.idempotency_key);
    let mut offers = 0;
    loop {
        let started = Instant::now();
        offers += 1;
        match client.submit(submission.clone()).await {
            Ok(receipt) => {
                let ack = Ack { sent_at: started, at: Instant::now(), message_id: receipt.message_id };
                let acknowledged = Acknowledged {
                    event: position,
                    key: event.idempotency_key.clone(),
                    message_id: receipt.message_id,
                    repeat: receipt.is_repeat(),
                    instances: receipt.instances,
                };
                return Ok((acknowledged, ack));
            }
            Err(Error::Rejected(rejection)) if rejection.is_retryable() && offers < OFFERS_MAX => {
                tokio::time::sleep(Duration::from_millis(rejection.retry_after_ms.unwrap_or(20).clamp(1, 1_000))).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The calendar, microseconds since the epoch.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
