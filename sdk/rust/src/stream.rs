//! Event streams: what happens to one instance, without gaps, over reconnects.

use distric_wire::client::SubscribeKind;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::client::{Again, Client};
use crate::error::Error;
use crate::job::{Event, Subscription};
use crate::link::Link;

/// Events that may wait for a slow reader. Beyond it the stream is asked for anew, from where the reader is.
pub const EVENTS_QUEUED_MAX: usize = 4_096;

/// The events of one instance in order; see [`Client::subscribe_instance`].
///
/// After a lost connection the server tells the story from its beginning again; what the reader has seen is left out.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    namespace: Option<String>,
    instance: Uuid,
    events: mpsc::Receiver<Result<Event, Error>>,
    seen: Seen,
    /// Attempts in a row that brought no event.
    attempts: u32,
    ended: bool,
}

/// How far the reader is: several events may share one index, so their number is part of the position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    index: u64,
    /// Events of this index that the reader has.
    at_index: u64,
    /// Events of this index that came since the stream was asked for.
    again_at_index: u64,
}

impl Seen {
    /// The stream starts from the beginning again.
    fn rewind(&mut self) {
        self.again_at_index = 0;
    }

    /// Whether the reader has not had this event; counts it.
    fn is_new(&mut self, index: u64) -> bool {
        if index > self.index {
            *self = Self { index, at_index: 1, again_at_index: 1 };
            return true;
        }
        if index < self.index {
            return false;
        }
        self.again_at_index += 1;
        if self.again_at_index <= self.at_index {
            return false;
        }
        self.at_index = self.again_at_index;
        true
    }
}

impl EventStream {
    pub(crate) async fn open(client: Client, namespace: Option<String>, instance: Uuid) -> Result<Self, Error> {
        let link = client.link();
        let events = subscribe(&link, namespace.clone(), instance).await?;
        Ok(Self { client, namespace, instance, events, seen: Seen::default(), attempts: 0, ended: false })
    }

    /// The next event; `None` after the last one, and after an error. Cancel-safe.
    ///
    /// Errors: [`Error::Rejected`] (for one, `not_found`); [`Error::Connection`] is not among them: the stream waits for the next connection, and gives up
    /// with [`Error::OutcomeUnknown`] after as many attempts in a row without an event as the client's retry options allow.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        let mut again = Again::new(self.client.options());
        while !self.ended {
            match self.events.recv().await {
                Some(Ok(event)) => {
                    self.ended = event.last;
                    self.attempts = 0;
                    if self.seen.is_new(event.index) {
                        return Some(Ok(event));
                    }
                }
                Some(Err(Error::Rejected(rejection))) if again.may(&rejection, true) => {
                    again.wait(&self.client, &rejection).await;
                    let link = again.link(&self.client);
                    if let Err(error) = self.ask_again(&link).await {
                        return self.fail(error);
                    }
                }
                Some(Err(error)) => return self.fail(error),
                None => {
                    self.attempts += 1;
                    if self.attempts > self.client.options().retry.attempts_max {
                        return self.fail(Error::OutcomeUnknown);
                    }
                    let link = self.client.link();
                    if let Err(error) = self.ask_again(&link).await {
                        return self.fail(error);
                    }
                }
            }
        }
        None
    }

    async fn ask_again(&mut self, link: &Link) -> Result<(), Error> {
        self.events = subscribe(link, self.namespace.clone(), self.instance).await?;
        self.seen.rewind();
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Option<Result<Event, Error>> {
        self.ended = true;
        Some(Err(error))
    }
}

async fn subscribe(link: &Link, namespace: Option<String>, id: Uuid) -> Result<mpsc::Receiver<Result<Event, Error>>, Error> {
    let (sender, events) = mpsc::channel(EVENTS_QUEUED_MAX);
    link.subscribe(Subscription { kind: SubscribeKind::Instance, namespace, id, events: sender }).await?;
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_told_again_is_heard_from_where_the_reader_was() {
        let mut seen = Seen::default();
        let heard = |indexes: &[u64], seen: &mut Seen| -> Vec<u64> { indexes.iter().copied().filter(|i| seen.is_new(*i)).collect() };
        assert_eq!(heard(&[3, 3, 5, 5], &mut seen), [3, 3, 5, 5]);
        seen.rewind();
        assert_eq!(heard(&[3, 3, 5, 5, 5, 8], &mut seen), [5, 8], "the third event of index 5 is new");
        seen.rewind();
        assert_eq!(heard(&[3, 3, 5], &mut seen), [] as [u64; 0]);
        seen.rewind();
        assert_eq!(heard(&[3, 3, 5, 5, 5, 8, 8], &mut seen), [8]);
    }
}
