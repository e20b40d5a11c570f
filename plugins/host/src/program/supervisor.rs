//! The supervisor: feeds one program, reads it, and ends it with everything that it started.
//!
//! In: the order, and then the worker's socket: any word, or its end, means that the program is to stop.  Out: how far the program is shut in, and
//! how it ended, with its output. It waits for nothing but `poll`, so that no program and no worker can hold it up.
//!
//! It is a subreaper: what loses its parent becomes its child, and so everything that the program started can be found. The program's process
//! group is killed at once, atomically with any fork; what left the group, where no list of system calls forbids that, one by one.

use std::env;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open, set_child_subreaper, wait, waitpid,
};
use rustix::time::Timespec;

use super::{BURIED_WITHIN_MS, Fate, Order, TERM_GRACE_MS, descendants};
use crate::sandbox;
use crate::wire::{FromChild, ToChild, WORDS_BYTES_MAX, split};

/// Between two counts of the program's processes, milliseconds: no event tells of a fork, and in this time a shell makes a few dozen. The
/// program runs at a lower priority ([`super::stage`]), so that this process has its turn however many there are.
const COUNT_EVERY_MS: u64 = 10;
/// Between two looks at what is being killed, milliseconds.
const BURY_EVERY_MS: u64 = 2;
/// What one read asks for.
const READ_BYTES: usize = 64 << 10;
/// Most bytes of the frame before the program's output.
const FIRST_FRAME_BYTES_MAX: usize = 2 * WORDS_BYTES_MAX;

/// Runs one program to its end and tells the worker. `is_stopped`: the worker has said already that it does not want it any more.
///
/// Errors: the system's, or the worker is gone; the program is gone as well then.
pub(crate) fn run(stream: &mut UnixStream, is_stopped: bool, order: Order) -> io::Result<()> {
    sandbox::humble()?;
    set_child_subreaper(Some(getpid()))?;
    let output_bytes = order.program.spec.limits.output_bytes;
    let mut watch = Watch::start(order)?;
    let fate = if is_stopped { Ok(Fate::Stopped) } else { watch.until_end(stream, output_bytes) };
    let status = watch.bury();
    let fate = match (fate?, status) {
        (Fate::Ended(_), Some(status)) => Fate::Ended(status),
        (fate, _) => fate,
    };
    let output = if matches!(fate, Fate::Ended(_)) { std::mem::take(&mut watch.inbox) } else { Vec::new() };
    let mut bytes = Vec::new();
    FromChild::Fate { fate, output }.encode(&mut bytes);
    stream.write_all(&bytes)
}

/// One program from outside.
struct Watch {
    pid: Pid,
    /// Readable when it has ended.
    end: OwnedFd,
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    /// What it is fed, and how much of that it has.
    outbox: Vec<u8>,
    fed: usize,
    /// What it wrote.
    inbox: Vec<u8>,
    /// The frame before its output has been passed on.
    is_entered: bool,
    processes: usize,
    counted_at: Instant,
    /// It was told to end, and is killed then.
    kill_at: Option<Instant>,
}

impl Watch {
    fn start(mut order: Order) -> io::Result<Self> {
        let (their_stdin, stdin) = io::pipe()?;
        let (stdout, their_stdout) = io::pipe()?;
        let child = Command::new("/proc/self/exe")
            .args(env::args_os().skip(1))
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(their_stdin)
            .stdout(their_stdout)
            .stderr(Stdio::inherit())
            .spawn()?;
        let pid = Pid::from_child(&child);
        ioctl_fionbio(&stdin, true)?;
        ioctl_fionbio(&stdout, true)?;
        let (input, processes) = (std::mem::take(&mut order.run.input), order.program.processes);
        let mut outbox = Vec::with_capacity(input.len() + 1_024);
        ToChild::Run(Box::new(order)).encode(&mut outbox);
        outbox.extend_from_slice(&input);
        Ok(Self {
            pid,
            end: pidfd_open(pid, PidfdFlags::empty())?,
            stdin: Some(stdin),
            stdout: Some(stdout),
            outbox,
            fed: 0,
            inbox: Vec::new(),
            is_entered: false,
            processes,
            counted_at: Instant::now(),
            kill_at: None,
        })
    }

    /// Feeds and reads the program until it has ended or must.
    fn until_end(&mut self, stream: &mut UnixStream, output_bytes: usize) -> io::Result<Fate> {
        loop {
            let ready = self.wait(stream)?;
            if ready.output || ready.end {
                while self.read(stream)? {
                    if self.inbox.len() > output_bytes {
                        return Ok(Fate::OutputTooLarge);
                    }
                    // More may be there; but of a program that still writes only so much at once, so that the rest is looked at.
                    if !ready.end {
                        break;
                    }
                }
            }
            if ready.end {
                return Ok(Fate::Ended(0));
            }
            if ready.input {
                self.feed();
            }
            if ready.word && self.kill_at.is_none() {
                self.kill_at = Some(Instant::now() + Duration::from_millis(TERM_GRACE_MS));
                // It may be ending this very moment.
                let _ = kill_process_group(self.pid, Signal::TERM);
            }
            if self.kill_at.is_some_and(|at| Instant::now() >= at) {
                return Ok(Fate::Stopped);
            }
            if self.counted_at.elapsed() >= Duration::from_millis(COUNT_EVERY_MS) {
                self.counted_at = Instant::now();
                self.collect();
                if descendants::count(getpid(), self.processes) > self.processes {
                    return Ok(Fate::TooManyProcesses);
                }
            }
        }
    }

    /// Waits until something is to be done, at most until the next count.
    fn wait(&self, stream: &UnixStream) -> io::Result<Ready> {
        let mut until = self.counted_at + Duration::from_millis(COUNT_EVERY_MS);
        if let Some(kill_at) = self.kill_at {
            until = until.min(kill_at);
        }
        let within = until.saturating_duration_since(Instant::now());
        let within = Timespec { tv_sec: 0, tv_nsec: within.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(&self.end, PollFlags::IN)];
        // After the one word that it takes, the socket would be ready for ever.
        let word_at = self.kill_at.is_none().then(|| push(&mut fds, PollFd::new(stream, PollFlags::IN)));
        let output_at = self.stdout.as_ref().map(|stdout| push(&mut fds, PollFd::new(stdout, PollFlags::IN)));
        let input_at = self.stdin.as_ref().map(|stdin| push(&mut fds, PollFd::new(stdin, PollFlags::OUT)));
        match poll(&mut fds, Some(&within)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        Ok(Ready { end: is_ready(Some(0)), word: is_ready(word_at), output: is_ready(output_at), input: is_ready(input_at) })
    }

    /// Takes what the program wrote. Returns whether something came.
    fn read(&mut self, stream: &mut UnixStream) -> io::Result<bool> {
        let Some(stdout) = &mut self.stdout else { return Ok(false) };
        let filled = self.inbox.len();
        self.inbox.resize(filled + READ_BYTES, 0);
        let read = stdout.read(&mut self.inbox[filled..]);
        self.inbox.truncate(filled + read.as_ref().map_or(0, |bytes| *bytes));
        match read {
            Ok(0) => {
                self.stdout = None;
                return Ok(false);
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(false),
            Err(error) => return Err(error),
        }
        if !self.is_entered {
            let frame = split(&self.inbox, FIRST_FRAME_BYTES_MAX).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if let Some((_, _, whole)) = frame {
                // Of this build, as everything before the program's own first byte; the worker looks at it.
                stream.write_all(&self.inbox[..whole])?;
                self.inbox.drain(..whole);
                self.is_entered = true;
            }
        }
        Ok(true)
    }

    /// Gives the program what it takes. One that reads nothing, or has closed, is none the worse for it.
    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(&self.outbox[self.fed..]) {
            Ok(bytes) => self.fed += bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.fed = self.outbox.len(),
        }
        if self.fed == self.outbox.len() {
            self.stdin = None;
        }
    }

    /// Waits for those that lost their parent and ended, which would otherwise count for ever.
    fn collect(&self) {
        for orphan in descendants::children(getpid()) {
            if orphan != self.pid {
                // One that runs still is looked at again.
                let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
            }
        }
    }

    /// Kills everything and waits for its end. Returns the program's own status.
    fn bury(&mut self) -> Option<i32> {
        // Nobody has waited for the program yet, so the number is still its group's. A group that is gone needs no kill.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let until = Instant::now() + Duration::from_millis(BURIED_WITHIN_MS);
        let mut own = None;
        while Instant::now() < until {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => own = Some(status.as_raw()),
                Ok(Some(_)) => {}
                Ok(None) => {
                    for straggler in descendants::children(getpid()) {
                        // Ours until we have waited for it: the number cannot be another's.
                        let _ = kill_process(straggler, Signal::KILL);
                    }
                    let moment = Timespec { tv_sec: 0, tv_nsec: (BURY_EVERY_MS * 1_000_000).cast_signed() };
                    // Woken early or not, the next round looks again.
                    let _ = poll(&mut [], Some(&moment));
                }
                // None is left.
                Err(_) => break,
            }
        }
        own
    }
}

/// What is to be looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    /// The program has ended.
    end: bool,
    /// The worker has said something, or has closed.
    word: bool,
    output: bool,
    input: bool,
}

/// Adds an entry. Returns where it is.
fn push<'a>(fds: &mut Vec<PollFd<'a>>, fd: PollFd<'a>) -> usize {
    fds.push(fd);
    fds.len() - 1
}
