//! The client: a cheap handle, behind it one background task per connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distric_model::limits::BATCH_MESSAGES_MAX;
use distric_wire::client::{BatchResponse, Pong, QueryReply, Response};
use distric_wire::{Code, Message};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::dial::Welcome;
use crate::error::{Error, ProtocolError, Rejection};
use crate::job::{Answer, Settled, Work, batch_item_bytes};
use crate::keys::KeySource;
use crate::link::Link;
use crate::options::{ClientOptions, LEADER_LINKS_MAX};
use crate::request::{Command, Query, Reply};
use crate::stream::EventStream;
use crate::submission::{Receipt, Submission};

/// A connection to a cluster. Cheap to clone; clones share the connection, which closes with the last of them.
///
/// Requests from any number of tasks are pipelined up to the credit that the server granted and written together, one write per turn.
/// After a lost connection, and after refusals that pass (`outcome_unknown`, `unavailable`, `draining`, `overloaded`, `wrong_leader`, and others that
/// say when to come back), a request is sent again with the same idempotency key, so that it takes effect once. A caller that stops waiting (a dropped
/// future) takes nothing back: what was sent may take effect.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Arc<ClientOptions>,
    keys: KeySource,
    primary: Link,
    /// Whether `leaders.current` is to be used: keeps the lock off the usual way.
    redirected: AtomicBool,
    leaders: Mutex<Leaders>,
}

/// Links to leaders that a `wrong_leader` named.
#[derive(Debug, Default)]
struct Leaders {
    links: Vec<(String, Link)>,
    current: Option<Link>,
}

impl Client {
    /// Connects to the first address that welcomes this client.
    ///
    /// Errors: [`Error::Rejected`] when the server refused the Hello, [`Error::Connection`] when none could be reached; those of the last address tried.
    pub async fn connect(options: ClientOptions) -> Result<Self, Error> {
        let options = Arc::new(options);
        let primary = Link::open(options.clone(), options.addresses.clone()).await?;
        let inner = Inner { options, keys: KeySource::new(), primary, redirected: AtomicBool::new(false), leaders: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Submits one message; returns when the server acknowledged it, that is, when it is durable.
    ///
    /// Errors: [`Error::Rejected`], [`Error::Timeout`] (ask again with the same idempotency key), [`Error::TooLarge`], and when resending does not help any
    /// more [`Error::OutcomeUnknown`].
    pub async fn submit(&self, mut submission: Submission) -> Result<Receipt, Error> {
        self.complete(&mut submission);
        match self.ask(Work::Submit(Box::new(submission))).await? {
            Answer::Receipt(receipt) => Ok(receipt),
            other => Err(unexpected(&other)),
        }
    }

    /// Submits many messages in as few frames as the limits allow; outcomes come in the order of the messages.
    ///
    /// A message that alone exceeds the frame limit is answered `too_large` without being sent. Refusals that pass are tried again, message by message.
    /// Errors: as [`Self::submit`], when a whole frame fails; other frames of the same call may have taken effect.
    pub async fn submit_batch(&self, mut submissions: Vec<Submission>) -> Result<Vec<Result<Receipt, Rejection>>, Error> {
        submissions.iter_mut().for_each(|submission| self.complete(submission));
        let total = submissions.len();
        let frame_bytes_max = self.link().welcome().frame_bytes_max as usize;
        let mut outcomes: Vec<Option<Result<Receipt, Rejection>>> = (0..total).map(|_| None).collect();
        let mut frames = JoinSet::new();
        for chunk in split(submissions, frame_bytes_max) {
            match chunk {
                Chunk::TooLarge { index, bytes } => outcomes[index] = Some(Err(too_large(bytes, frame_bytes_max))),
                Chunk::Frame { first, submissions } => {
                    let client = self.clone();
                    frames.spawn(async move { (first, client.submit_frame(submissions).await) });
                }
            }
        }
        while let Some(joined) = frames.join_next().await {
            // A frame's task is never aborted while this call waits, and does not panic by itself.
            let (first, answers) = joined.map_err(|_| Error::Closed)?;
            for (offset, answer) in answers?.into_iter().enumerate() {
                outcomes[first + offset] = Some(answer);
            }
        }
        let outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
        assert!(outcomes.len() == total, "{total} messages were in one frame or too large for one, {} have an outcome", outcomes.len());
        Ok(outcomes)
    }

    /// Asks a question.
    ///
    /// Errors: [`Error::Rejected`] (for one, `not_found`), [`Error::Timeout`].
    pub async fn query(&self, mut query: Query) -> Result<Reply, Error> {
        self.name_space(&mut query.namespace);
        self.reply(Work::Query(Box::new(query))).await
    }

    /// Gives a command. Starts of workflows and tasks get a random idempotency key, unless they bring one. A catalog that does not fit in
    /// a frame is staged in parts first; the request timeout is for each part.
    ///
    /// Errors: [`Error::Rejected`], [`Error::Timeout`]; [`Error::OutcomeUnknown`] when the connection broke and the command is one that must
    /// not be sent twice (a deletion, or one with `if_match`).
    pub async fn command(&self, mut command: Command) -> Result<Reply, Error> {
        self.name_space(&mut command.namespace);
        if command.is_start() && command.idempotency_key.is_none() {
            command.idempotency_key = Some(self.inner.keys.next_key());
        }
        if self.must_stage(&command) { self.staged_command(command).await } else { self.send_command(command).await }
    }

    /// Sends a command that fits in a frame.
    pub(crate) async fn send_command(&self, command: Command) -> Result<Reply, Error> {
        self.reply(Work::Command(Box::new(command))).await
    }

    /// The events of one instance, from its first to its last, in the client's default namespace.
    ///
    /// Errors: [`Error::Closed`]. A refusal (`not_found`) comes as the stream's first item.
    pub async fn subscribe_instance(&self, instance: Uuid) -> Result<EventStream, Error> {
        self.subscribe_instance_in(self.inner.options.namespace.clone(), instance).await
    }

    /// As [`Self::subscribe_instance`], in a namespace; `None` is the server's default.
    pub async fn subscribe_instance_in(&self, namespace: Option<String>, instance: Uuid) -> Result<EventStream, Error> {
        EventStream::open(self.clone(), namespace, instance).await
    }

    /// What the server said about itself when it last welcomed this client.
    pub fn welcome(&self) -> Welcome {
        (*self.link().welcome()).clone()
    }

    /// Why there is no connection at present; `None` when there is one.
    pub fn disconnected(&self) -> Option<String> {
        self.link().down()
    }

    /// Asks the server for a sign of life. Returns how long it took.
    ///
    /// Errors: [`Error::Timeout`].
    pub async fn ping(&self) -> Result<Duration, Error> {
        let since = Instant::now();
        match self.ask(Work::Ping).await? {
            Answer::Pong => Ok(since.elapsed()),
            other => Err(unexpected(&other)),
        }
    }

    /// The options it was made with.
    pub(crate) fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// Fills in what the caller left to the client.
    fn complete(&self, submission: &mut Submission) {
        self.name_space(&mut submission.namespace);
        if submission.idempotency_key.is_none() {
            submission.idempotency_key = Some(self.inner.keys.next_key());
        }
    }

    fn name_space(&self, namespace: &mut Option<String>) {
        if namespace.is_none() {
            namespace.clone_from(&self.inner.options.namespace);
        }
    }

    async fn reply(&self, work: Work) -> Result<Reply, Error> {
        match self.ask(work).await? {
            Answer::Reply(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends work until it is answered for good, within the request timeout.
    async fn ask(&self, work: Work) -> Result<Answer, Error> {
        self.within_timeout(self.ask_until_settled(work)).await
    }

    async fn within_timeout<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let after_ms = self.inner.options.request_timeout_ms;
        match timeout(Duration::from_millis(after_ms), answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout { after_ms, connection: self.link().down() }),
        }
    }

    async fn ask_until_settled(&self, mut work: Work) -> Result<Answer, Error> {
        let mut again = Again::new(&self.inner.options);
        loop {
            let Settled { work: kept, answer } = again.link(self).ask(work, again.resend).await?;
            work = kept;
            match answer {
                Err(Error::Rejected(rejection)) if again.may(&rejection, work.is_resend_safe()) => again.wait(self, &rejection).await,
                answer => return answer,
            }
        }
    }

    /// One frame of a batch; messages that were refused for a time are sent again.
    async fn submit_frame(&self, submissions: Vec<Submission>) -> Result<Vec<Result<Receipt, Rejection>>, Error> {
        let sent = submissions.len();
        let mut outcomes: Vec<Option<Result<Receipt, Rejection>>> = (0..sent).map(|_| None).collect();
        let mut places: Vec<usize> = (0..sent).collect();
        let mut work = Work::Batch(submissions);
        let mut again = Again::new(&self.inner.options);
        self.within_timeout(async {
            loop {
                let Settled { work: kept, answer } = again.link(self).ask(work, again.resend).await?;
                work = kept;
                let answers = match answer {
                    Ok(Answer::Batch(answers)) => answers,
                    Ok(other) => return Err(unexpected(&other)),
                    Err(Error::Rejected(rejection)) if again.may(&rejection, true) => {
                        again.wait(self, &rejection).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let Work::Batch(submissions) = work else { unreachable!("a link gives back the work that it was given") };
                if answers.len() != submissions.len() {
                    return Err(ProtocolError::BatchLength { sent: submissions.len(), answered: answers.len() }.into());
                }
                let mut refused = Vec::new();
                let mut refused_places = Vec::new();
                let mut worst: Option<Rejection> = None;
                for ((answer, submission), place) in answers.into_iter().zip(submissions).zip(places) {
                    if let Err(rejection) = &answer
                        && again.may(rejection, true)
                    {
                        if worst.as_ref().is_none_or(|worst| worst.retry_after_ms < rejection.retry_after_ms) {
                            worst = Some(rejection.clone());
                        }
                        refused.push(submission);
                        refused_places.push(place);
                    }
                    outcomes[place] = Some(answer);
                }
                let Some(worst) = worst else { return Ok(()) };
                again.wait(self, &worst).await;
                work = Work::Batch(refused);
                places = refused_places;
            }
        })
        .await?;
        let outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
        assert!(outcomes.len() == sent, "the first round answered {sent} messages, {} have an outcome", outcomes.len());
        Ok(outcomes)
    }

    /// The link to use now.
    pub(crate) fn link(&self) -> Link {
        if self.inner.redirected.load(Ordering::Acquire) {
            let leaders = self.inner.leaders.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(current) = &leaders.current
                && current.down().is_none()
            {
                return current.clone();
            }
        }
        self.inner.primary.clone()
    }

    /// A link to the leader at `address`, which is used for what comes next as well. `None` when it does not welcome us.
    pub(crate) async fn follow(&self, address: &str) -> Option<Link> {
        let known = self.with_leaders(|leaders| leaders.links.iter().find(|(known, _)| known == address).map(|(_, link)| link.clone()));
        let link = match known {
            Some(link) => link,
            None => {
                // When this leader is gone, any coordinator knows the next one.
                let mut addresses = vec![address.to_owned()];
                addresses.extend(self.inner.options.addresses.iter().filter(|known| *known != address).cloned());
                Link::open(self.inner.options.clone(), addresses).await.ok()?
            }
        };
        self.with_leaders(|leaders| {
            if !leaders.links.iter().any(|(known, _)| known == address) {
                if leaders.links.len() == LEADER_LINKS_MAX {
                    leaders.links.remove(0);
                }
                leaders.links.push((address.to_owned(), link.clone()));
            }
            leaders.current = Some(link.clone());
        });
        self.inner.redirected.store(true, Ordering::Release);
        Some(link)
    }

    fn with_leaders<T>(&self, act: impl FnOnce(&mut Leaders) -> T) -> T {
        act(&mut self.inner.leaders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The memory of one request over its attempts: how many, where to, and whether the server may have seen it.
pub(crate) struct Again {
    attempts_left: u32,
    backoff: Backoff,
    /// A leader that was named and has not been asked yet.
    leader: Option<Link>,
    /// Leaders followed; the second one in a row waits, for leadership may be in motion.
    follows: u32,
    pub(crate) resend: bool,
}

impl Again {
    pub(crate) fn new(options: &ClientOptions) -> Self {
        let attempts_left = options.retry.attempts_max.saturating_sub(1);
        Self { attempts_left, backoff: Backoff::new(options.retry.backoff), leader: None, follows: 0, resend: false }
    }

    /// Where the next attempt goes.
    pub(crate) fn link(&mut self, client: &Client) -> Link {
        self.leader.take().unwrap_or_else(|| client.link())
    }

    /// Whether another attempt is due after this refusal.
    pub(crate) fn may(&self, rejection: &Rejection, resend_safe: bool) -> bool {
        self.attempts_left > 0 && rejection.is_retryable() && (resend_safe || rejection.code != Code::OutcomeUnknown)
    }

    /// Follows the leader that the refusal names, or waits as long as it asks for, at least the backoff.
    pub(crate) async fn wait(&mut self, client: &Client, rejection: &Rejection) {
        self.attempts_left -= 1;
        if rejection.code != Code::WrongLeader {
            self.resend = true;
        }
        if let (Code::WrongLeader, Some(address)) = (rejection.code, &rejection.leader_address) {
            self.follows += 1;
            if self.follows > 1 {
                sleep(self.backoff.next(rejection.retry_after_ms.unwrap_or(0))).await;
            }
            self.leader = client.follow(address).await;
            if self.leader.is_some() {
                return;
            }
        }
        sleep(self.backoff.next(rejection.retry_after_ms.unwrap_or(0))).await;
    }
}

/// A part of a batch.
enum Chunk {
    /// Fits into one frame; `first` is the place of its first message.
    Frame { first: usize, submissions: Vec<Submission> },
    /// One message that fits into none.
    TooLarge { index: usize, bytes: usize },
}

/// Splits a batch into frames of at most [`BATCH_MESSAGES_MAX`] messages and `frame_bytes_max` bytes of payload.
fn split(submissions: Vec<Submission>, frame_bytes_max: usize) -> Vec<Chunk> {
    // The array's own head, and the flag that a resend adds to every message.
    let frame_room = frame_bytes_max.saturating_sub(distric_wire::tlv::FIELD_HEADER_BYTES);
    let mut chunks = Vec::new();
    let mut open: Vec<Submission> = Vec::new();
    let mut open_bytes = 0;
    let mut first = 0;
    for (index, submission) in submissions.into_iter().enumerate() {
        let bytes = batch_item_bytes(&submission.wire(true));
        if open.len() == BATCH_MESSAGES_MAX || open_bytes + bytes > frame_room {
            if !open.is_empty() {
                chunks.push(Chunk::Frame { first, submissions: std::mem::take(&mut open) });
            }
            open_bytes = 0;
        }
        if bytes > frame_room {
            chunks.push(Chunk::TooLarge { index, bytes });
            continue;
        }
        if open.is_empty() {
            first = index;
        }
        open_bytes += bytes;
        open.push(submission);
    }
    if !open.is_empty() {
        chunks.push(Chunk::Frame { first, submissions: open });
    }
    chunks
}

fn too_large(bytes: usize, frame_bytes_max: usize) -> Rejection {
    let mut rejection = Rejection::local(Code::TooLarge, format!("a message of {bytes} bytes does not fit into a frame"));
    rejection.limit_name = Some("frame_bytes_max".to_owned());
    rejection.limit_value = Some(frame_bytes_max as u64);
    rejection
}

/// The server answered with a message of another kind than was asked for.
fn unexpected(answer: &Answer) -> Error {
    let message_type = match answer {
        Answer::Receipt(_) => Response::TYPE,
        Answer::Batch(_) => BatchResponse::TYPE,
        Answer::Reply(_) => QueryReply::TYPE,
        Answer::Pong => Pong::TYPE,
    };
    ProtocolError::Unexpected { message_type }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(sizes: &[usize], frame_bytes_max: usize) -> Vec<(usize, usize)> {
        let submissions = sizes.iter().map(|size| Submission::new(vec![b'x'; *size])).collect();
        split(submissions, frame_bytes_max)
            .into_iter()
            .map(|chunk| match chunk {
                Chunk::Frame { first, submissions } => (first, submissions.len()),
                Chunk::TooLarge { index, .. } => (index, 0),
            })
            .collect()
    }

    #[test]
    fn a_batch_is_split_by_bytes_and_by_number_and_keeps_its_order() {
        assert_eq!(shape(&[], 1_000), []);
        assert_eq!(shape(&[100, 100, 100], 1 << 20), [(0, 3)]);
        assert_eq!(shape(&[400, 400, 400], 1_000), [(0, 2), (2, 1)]);
        assert_eq!(shape(&[100, 5_000, 100], 1_000), [(0, 1), (1, 0), (2, 1)]);
        assert_eq!(shape(&[1; BATCH_MESSAGES_MAX + 1], 1 << 20), [(0, BATCH_MESSAGES_MAX), (BATCH_MESSAGES_MAX, 1)]);
    }
}
