//! The child: one process, one plugin, one attempt at a time; or the supervisor of one program, or its stage, as the first frame says.
//!
//! In: frames on descriptor 0, a socket to the worker.  Out: frames on the same; whatever the plugin prints goes to the worker's pipe.
//! It shuts itself in before it opens the plugin, and ends when the worker closes the socket or is gone.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::net::{RecvFlags, SocketType};

use crate::call::{Call, LogLevel, Outcome, Sink};
use crate::load_unsafe::Loaded;
use crate::program::{stage, supervisor};
use crate::sandbox::{self, Guest};
use crate::spec::Spec;
use crate::wire::{FromChild, ToChild, split};

/// Largest frame that a worker sends: an instance's data, a config, and the rest.
const TO_CHILD_BYTES_MAX: usize = 64 << 20;
/// Most log lines and progress reports of one attempt that are sent on; more are counted.
const LINES_PER_CALL_MAX: u32 = 256;
/// What one read asks for at least.
const READ_BYTES: usize = 64 << 10;

/// Runs the child to its end; that the worker is gone is an end like any other.
///
/// Errors: this process was not started by a worker.
pub fn run() -> Result<(), &'static str> {
    if rustix::fs::fstat(io::stdin().as_fd()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo) {
        return stage::run();
    }
    let is_socket = rustix::net::sockopt::socket_type(io::stdin().as_fd()).is_ok_and(|kind| kind == SocketType::STREAM);
    let stream = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) if is_socket => UnixStream::from(fd),
        _ => return Err("this is the part of a worker that runs a plugin, and only a worker can start it"),
    };
    // A plugin that reads its input finds nothing there, instead of the worker's frames.
    if std::fs::File::open("/dev/null").and_then(|null| Ok(rustix::stdio::dup2_stdin(null)?)).is_err() {
        return Err("/dev/null cannot be opened");
    }
    // A socket that breaks is a worker that is gone.
    let _ = serve(&mut Link { stream, inbox: Vec::new(), taken: 0 });
    Ok(())
}

fn serve(link: &mut Link) -> io::Result<()> {
    let spec = match link.read()? {
        Some(ToChild::Start(spec)) => *spec,
        Some(ToChild::Run(order)) => {
            let is_stopped = link.taken < link.inbox.len();
            return supervisor::run(&mut link.stream, is_stopped, *order);
        }
        _ => return Ok(()),
    };
    let reached = sandbox::enter(&spec, Guest::Plugin);
    let ready = |name: &str, version: &str| FromChild::Ready {
        name: name.to_owned(),
        version: version.to_owned(),
        isolation: reached.isolation,
        lacks: reached.lacks.clone(),
    };
    if reached.isolation < spec.isolation_required {
        // No foreign code in a sandbox that is too weak: the worker sees the level and turns it down.
        return link.send(&ready("", ""));
    }
    let mut loaded = match Loaded::open(&spec.path, &spec.config_json, spec.limits.output_bytes, &spec.grants.secrets) {
        Ok(loaded) => loaded,
        Err(error) => return link.send(&FromChild::Refused(error.to_string())),
    };
    link.send(&ready(loaded.name(), loaded.version()))?;
    while let Some(message) = link.read()? {
        // A cancel that comes after the answer has nothing to cancel.
        if let ToChild::Call(call) = message {
            let answer = execute(&mut loaded, &spec, &call, link)?;
            link.send(&answer)?;
        }
    }
    loaded.shutdown();
    Ok(())
}

fn execute(loaded: &mut Loaded, spec: &Spec, call: &Call, link: &mut Link) -> io::Result<FromChild> {
    sandbox::limit_cpu(spec.limits.cpu_s);
    let deadline = (call.timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(call.timeout_ms));
    let mut sink = LinkSink { link, deadline, lines: 0, broken: None };
    let outcome = loaded.execute(call, &mut sink);
    if let Some(error) = sink.broken {
        return Err(error);
    }
    if sink.lines > LINES_PER_CALL_MAX {
        let text = format!("{} more lines of this attempt were dropped", sink.lines - LINES_PER_CALL_MAX);
        link.send(&FromChild::Log { level: LogLevel::Warn, text })?;
    }
    Ok(match outcome {
        Outcome::Completed(output) => FromChild::Completed(output),
        Outcome::Failed(failed) => FromChild::Failed(failed),
    })
}

/// The socket to the worker.
struct Link {
    stream: UnixStream,
    inbox: Vec<u8>,
    /// Bytes of the inbox that were taken already.
    taken: usize,
}

impl Link {
    /// The next message; `None` when the worker has closed. Errors: the socket's, and bytes that are no message.
    fn read(&mut self) -> io::Result<Option<ToChild>> {
        loop {
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            if let Some((kind, body, whole)) = split(&self.inbox[self.taken..], TO_CHILD_BYTES_MAX).map_err(invalid)? {
                let message = ToChild::decode(kind, body).map_err(invalid)?;
                self.taken += whole;
                return Ok(Some(message));
            }
            self.inbox.drain(..self.taken);
            self.taken = 0;
            let filled = self.inbox.len();
            self.inbox.resize(filled + READ_BYTES, 0);
            let read = self.stream.read(&mut self.inbox[filled..]);
            self.inbox.truncate(filled + read.as_ref().map_or(0, |bytes| *bytes));
            match read {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    fn send(&mut self, message: &FromChild) -> io::Result<()> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.stream.write_all(&bytes)
    }

    /// Whether the worker has said something, or has closed: during a call it says nothing but "cancel".
    fn has_word(&self) -> bool {
        self.taken < self.inbox.len()
            || rustix::net::recv(self.stream.as_fd(), &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok()
    }
}

struct LinkSink<'a> {
    link: &'a mut Link,
    deadline: Option<Instant>,
    /// Log lines and progress reports so far.
    lines: u32,
    broken: Option<io::Error>,
}

impl LinkSink<'_> {
    fn send(&mut self, message: &FromChild) {
        self.lines = self.lines.saturating_add(1);
        if self.lines <= LINES_PER_CALL_MAX && self.broken.is_none() {
            self.broken = self.link.send(message).err();
        }
    }
}

impl Sink for LinkSink<'_> {
    fn log(&mut self, level: LogLevel, text: &str) {
        self.send(&FromChild::Log { level, text: text.to_owned() });
    }

    fn progress(&mut self, fraction: f64, text: &str) {
        self.send(&FromChild::Progress { fraction, text: text.to_owned() });
    }

    fn is_cancelled(&mut self) -> bool {
        self.broken.is_some() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline) || self.link.has_word()
    }

    fn remaining_ms(&mut self) -> u64 {
        self.deadline.map_or(u64::MAX, |deadline| deadline.saturating_duration_since(Instant::now()).as_millis() as u64)
    }
}
