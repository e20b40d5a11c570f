//! What a child says, as the worker hears it: frames on a socket, and beside them what is printed.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::keeper::Started;
use crate::tail::Tail;
use crate::wire::{FromChild, split};

/// What the kernel keeps in a pipe.
const PIPE_BYTES_MAX: usize = 64 << 10;
/// What one read asks for.
const READ_BYTES: usize = 64 << 10;

/// The worker's ends of a child's socket and pipe.
#[derive(Debug)]
pub(crate) struct Voice {
    stream: UnixStream,
    printed: pipe::Receiver,
    /// The other end of that pipe is open.
    is_printing: bool,
    inbox: Vec<u8>,
    /// What was printed or logged last.
    pub(crate) tail: Tail,
    /// Largest frame that the child may send.
    bytes_max: usize,
}

/// What the next event was.
pub(crate) enum Event {
    Message(FromChild),
    Closed,
    Garbled(String),
}

impl Voice {
    /// The voice of a child that was just started, and the child. Errors: the runtime does not take its socket or pipe; the child is given back.
    pub(crate) fn of(started: Started, bytes_max: usize) -> Result<(Self, std::process::Child), (io::Error, std::process::Child)> {
        let Started { child, stream, printed } = started;
        let parts = UnixStream::from_std(stream).and_then(|stream| Ok((stream, pipe::Receiver::from_owned_fd(OwnedFd::from(printed))?)));
        match parts {
            Ok((stream, printed)) => {
                Ok((Self { stream, printed, is_printing: true, inbox: Vec::new(), tail: Tail::default(), bytes_max }, child))
            }
            Err(error) => Err((error, child)),
        }
    }

    /// Says something to the child. Errors: it has closed.
    pub(crate) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Says that nothing more will be said. Errors: it has closed.
    pub(crate) async fn hush(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Whether the child is there and silent: neither gone nor speaking unasked.
    pub(crate) fn is_silent(&self) -> bool {
        let mut byte = [0_u8; 1];
        self.inbox.is_empty() && matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The next message of the child, reading what it prints meanwhile.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            match split(&self.inbox, self.bytes_max) {
                Err(error) => return Event::Garbled(error.to_string()),
                Ok(Some((kind, body, whole))) => {
                    let message = FromChild::decode(kind, body);
                    self.inbox.drain(..whole);
                    return message.map_or_else(|error| Event::Garbled(error.to_string()), Event::Message);
                }
                Ok(None) => {}
            }
            tokio::select! {
                biased;
                ready = self.stream.readable() => {
                    self.inbox.reserve(READ_BYTES);
                    match ready.and_then(|()| self.stream.try_read_buf(&mut self.inbox)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Ok(0) | Err(_) => return Event::Closed,
                        Ok(_) => {}
                    }
                }
                _ = self.printed.readable(), if self.is_printing => self.is_printing = self.read_printed() > 0,
            }
        }
    }

    /// Takes one piece of what was printed. Returns 0 when nothing more can come, else at least 1.
    fn read_printed(&mut self) -> usize {
        let mut piece = [0_u8; 4_096];
        match self.printed.try_read(&mut piece) {
            Ok(bytes) => {
                self.tail.push(&piece[..bytes]);
                bytes
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 1,
            Err(_) => 0,
        }
    }

    /// What was written last, including what still lies in the pipe, which is no more than the kernel keeps in one.
    pub(crate) fn last_words(&mut self) -> String {
        let mut piece = [0_u8; 4_096];
        for _ in 0..PIPE_BYTES_MAX / piece.len() {
            match self.printed.try_read(&mut piece) {
                Ok(bytes) if bytes > 0 => self.tail.push(&piece[..bytes]),
                _ => break,
            }
        }
        self.tail.text()
    }
}
