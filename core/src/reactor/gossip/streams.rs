//! Streams: comparisons of views over TCP, each message behind its length in four bytes, big endian.
//!
//! Connecting blocks and is done by a small pool of threads. A read is never raced against a timer; a stream that takes too
//! long is shut down, and its read returns.

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use distric_gossip::{Endpoint, STREAM_BYTES_MAX};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};

use super::agent::Agent;
use super::{address_of, endpoint_of};
use crate::reactor::connection::shut_down;
use crate::reactor::peers::connect_to;

/// Most comparisons that an agent opens at once; more wait for the next reason.
pub const STREAMS_OPEN_MAX: usize = 4;
/// Most comparisons that an agent answers at once; more callers are turned away and ask someone else.
pub const STREAMS_TAKEN_MAX: usize = 64;
/// Longest time for one comparison, milliseconds.
const STREAM_MS_MAX: u64 = 5_000;
/// Most messages that one side says on one stream.
const MESSAGES_MAX: usize = 2;
/// Bytes asked for in one read.
const READ_BYTES: usize = 64 << 10;
/// Pause after an accept that failed, milliseconds.
const ACCEPT_RETRY_MS: u64 = 100;

/// One place among those that are bounded; free again when dropped.
struct Place {
    agent: Rc<Agent>,
    of: fn(&Agent) -> &Cell<usize>,
}

impl Place {
    fn take(agent: &Rc<Agent>, of: fn(&Agent) -> &Cell<usize>, max: usize) -> Option<Self> {
        let taken = of(agent).get();
        (taken < max).then(|| {
            of(agent).set(taken + 1);
            Self { agent: agent.clone(), of }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let count = (self.of)(&self.agent);
        count.set(count.get() - 1);
    }
}

/// A stream with an end to its time.
struct Timed {
    stream: TcpStream,
    done: Rc<Cell<bool>>,
}

impl Timed {
    fn new(stream: TcpStream) -> Self {
        let done = Rc::new(Cell::new(false));
        let (is_done, fd) = (done.clone(), stream.as_raw_fd());
        monoio::spawn(async move {
            monoio::time::sleep(Duration::from_millis(STREAM_MS_MAX)).await;
            // Not done: the descriptor is still that stream's.
            if !is_done.get() {
                shut_down(fd);
            }
        });
        Self { stream, done }
    }

    async fn write(&mut self, message: &Bytes) -> io::Result<()> {
        let length = u32::try_from(message.len()).expect("stream messages are bounded");
        let mut framed = Vec::with_capacity(4 + message.len());
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(message);
        self.stream.write_all(framed).await.0.map(|_| ())
    }

    /// One message; `None` at the end of the stream. Memory grows with what has come, not with what was announced.
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut message: Vec<u8> = Vec::new();
        let mut chunk: Vec<u8> = Vec::with_capacity(READ_BYTES);
        loop {
            let wanted = match message.first_chunk::<4>() {
                Some(length) => 4 + u32::from_be_bytes(*length) as usize,
                None => 4,
            };
            if wanted > 4 + STREAM_BYTES_MAX {
                return Err(io::Error::other("the message is longer than any of ours"));
            }
            if wanted > 4 && message.len() == wanted {
                message.drain(..4);
                return Ok(Some(message));
            }
            if message.len() > wanted.max(4) {
                return Err(io::Error::other("more than was announced"));
            }
            let (result, filled) = self.stream.read(chunk).await;
            chunk = filled;
            match result? {
                0 if message.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => message.extend_from_slice(&chunk),
            }
            chunk.clear();
        }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.done.set(true);
    }
}

/// Opens a comparison with `to`: the digest goes, the answer comes, and what was wanted follows.
pub(super) fn open(agent: &Rc<Agent>, to: Endpoint, digest: Bytes) {
    let Some(place) = Place::take(agent, |agent| &agent.streams_open, STREAMS_OPEN_MAX) else { return };
    let agent = agent.clone();
    monoio::spawn(async move {
        let _place = place;
        if let Err(error) = compare(&agent, to, &digest).await {
            tracing::debug!(target: "distric_core::gossip", peer = %to, error = %error, "a comparison of views did not come about");
        }
    });
}

async fn compare(agent: &Rc<Agent>, to: Endpoint, digest: &Bytes) -> io::Result<()> {
    let address = address_of(to, agent.on_v6());
    let connected = monoio::spawn_blocking(move || connect_to(address)).await;
    let stream = connected.map_err(|error| io::Error::other(format!("{error:?}")))??;
    stream.set_nonblocking(!agent.use_uring())?;
    let mut stream = Timed::new(TcpStream::from_std(stream)?);
    stream.write(digest).await?;
    if let Some(answer) = stream.read().await?.filter(|_| !agent.is_gone()) {
        for push in agent.take_stream(to, &answer) {
            stream.write(&push).await?;
        }
    }
    Ok(())
}

pub(super) async fn accept(agent: Rc<Agent>, listener: TcpListener) {
    while !agent.is_gone() {
        match listener.accept().await {
            Ok((stream, from)) => {
                // A caller that is turned away finds its stream closed.
                if let Some(place) = Place::take(&agent, |agent| &agent.streams_taken, STREAMS_TAKEN_MAX) {
                    monoio::spawn(serve(place, stream, endpoint_of(from)));
                }
            }
            Err(error) => {
                tracing::debug!(target: "distric_core::gossip", error = %error, "accept failed");
                monoio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

async fn serve(place: Place, stream: TcpStream, from: Endpoint) {
    let agent = place.agent.clone();
    let mut stream = Timed::new(stream);
    for _ in 0..MESSAGES_MAX {
        let Ok(Some(message)) = stream.read().await else { return };
        if agent.is_gone() {
            return;
        }
        for answer in agent.take_stream(from, &message) {
            if stream.write(&answer).await.is_err() {
                return;
            }
        }
    }
}
