//! Submitting the stream: a window of messages in flight, each journaled when it is acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use distric_sdk::{Client, Error, Submission};
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::task::JoinSet;

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
    /// Time spent submitting, without the kill and the restart.
    pub busy: Duration,
    /// Acknowledgements received.
    pub acknowledged: u64,
}

impl Tally {
    /// An empty tally for a stream of `count` events.
    pub fn new(count: usize) -> Self {
        let ack_us = Histogram::new_with_max(LATENCY_US_MAX, 3).expect("a maximum above two and three digits are legal");
        Self { ack_us, first_sent_us: vec![0; count], busy: Duration::ZERO, acknowledged: 0 }
    }
}

/// When to stop submitting.
pub enum Until {
    /// When everything is acknowledged.
    Done,
    /// When so many acknowledgements are in the journal; what is in flight then is forgotten, as by a client that loses its connection.
    Journaled {
        /// Lines of the journal made durable so far.
        flushed: watch::Receiver<u64>,
        /// How many are wanted.
        count: u64,
    },
}

/// Submits `which` of the events and hands each acknowledgement to the journal.
///
/// Errors: the first refusal that does not pass with time.
pub async fn submit(
    client: &Client,
    events: &Arc<Vec<Event>>,
    which: &[usize],
    journal: &Sender<Acknowledged>,
    mut until: Until,
    tally: &mut Tally,
    mut progress: impl FnMut(u64),
) -> Result<(), Failure> {
    let started = Instant::now();
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut flights: JoinSet<Result<(Acknowledged, u64), Error>> = JoinSet::new();
    let mut waiting = which.iter().copied();
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
                    Ok(Ok((acknowledged, ack_us))) => {
                        tally.ack_us.saturating_record(ack_us);
                        tally.acknowledged += 1;
                        progress(tally.acknowledged);
                        if journal.send(acknowledged).await.is_err() {
                            break Err(Failure::new(Exit::Environment, "the journal of acknowledgements cannot be written"));
                        }
                    }
                    Ok(Err(error)) => break Err(error.into()),
                    Err(error) => break Err(Failure::new(Exit::FailedOutcome, format!("a submission ended with a panic: {error}"))),
                }
            }
            () = reached(&mut until) => break Ok(()),
        }
    };
    // Whatever is still in flight is not acknowledged, and is sent again under the same key.
    flights.abort_all();
    tally.busy += started.elapsed();
    result
}

/// Resolves when enough is in the journal; never for [`Until::Done`].
async fn reached(until: &mut Until) {
    match until {
        Until::Done => std::future::pending().await,
        Until::Journaled { flushed, count } => {
            let count = *count;
            if flushed.wait_for(|flushed| *flushed >= count).await.is_err() {
                // The journal is closed; its sender reports that.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Offers one message until it is taken. Returns the acknowledgement and the time of the last offer.
async fn offer(client: &Client, event: &Event, position: usize) -> Result<(Acknowledged, u64), Error> {
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
                let ack_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(LATENCY_US_MAX);
                let acknowledged = Acknowledged {
                    event: position,
                    key: event.idempotency_key.clone(),
                    message_id: receipt.message_id,
                    repeat: receipt.is_repeat(),
                    instances: receipt.instances,
                };
                return Ok((acknowledged, ack_us));
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
