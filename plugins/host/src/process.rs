//! One child as the worker sees it: started, called, watched, and gone at the first misbehaviour.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Identity;
use crate::call::{Call, LogLevel, Outcome};
use crate::error::{CallError, StartError};
use crate::keeper::Keeper;
use crate::spec::Spec;
use crate::voice::{Event, Voice};
use crate::wire::{FromChild, ToChild, encode_call, from_child_bytes_max};

/// How long an attempt that is told to stop may take to do so before its process is killed, milliseconds.
const STOP_GRACE_MS: u64 = 200;
/// How long a killed process is waited for here; later it is collected by the keeper, milliseconds.
const KILLED_WITHIN_MS: u64 = 900;
/// How long a process whose socket is closed may take to end by itself, milliseconds.
const OWN_END_MS: u64 = 250;

/// A child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    voice: Voice,
    child: Option<Child>,
    keeper: Keeper,
    calls: u64,
    state: State,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for a call.
    Idle,
    /// A frame is half written.
    Writing,
    /// A call runs.
    Running,
}

impl Process {
    /// Starts a child and waits until its plugin is ready.
    ///
    /// Errors: [`StartError`]; the child is gone then.
    pub(crate) async fn start(keeper: &Keeper, spec: &Spec) -> Result<(Self, Identity), StartError> {
        let spawn = |error: io::Error| StartError::Spawn { reason: error.to_string() };
        let started = keeper.start().await.map_err(spawn)?;
        let (voice, child) = Voice::of(started, from_child_bytes_max(spec.limits.output_bytes)).map_err(|(error, child)| {
            keeper.end(child);
            spawn(error)
        })?;
        let mut process = Self {
            voice,
            child: Some(child),
            keeper: keeper.clone(),
            calls: 0,
            state: State::Writing,
            name: spec.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let within_ms = spec.limits.start_timeout_ms;
        match timeout(Duration::from_millis(within_ms), process.first_words(spec)).await {
            Ok(Ok(identity)) => {
                process.state = State::Idle;
                process.name.clone_from(&identity.name);
                Ok((process, identity))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Slow { within_ms, tail: process.voice.last_words() }),
        }
    }

    async fn first_words(&mut self, spec: &Spec) -> Result<Identity, StartError> {
        let mut bytes = Vec::new();
        ToChild::Start(Box::new(spec.clone())).encode(&mut bytes);
        if self.voice.say(&bytes).await.is_err() {
            return Err(self.died_at_start().await);
        }
        loop {
            match self.voice.event().await {
                Event::Message(FromChild::Ready { name, version, isolation, lacks }) => {
                    if isolation < spec.isolation_required {
                        return Err(StartError::Isolation { required: spec.isolation_required, reached: isolation, lacks });
                    }
                    if !lacks.is_empty() {
                        tracing::warn!(plugin = name, %isolation, lacks, "the plugin's sandbox is weaker than it could be");
                    }
                    return Ok(Identity { name, version, isolation });
                }
                Event::Message(FromChild::Refused(reason)) => return Err(StartError::Refused { reason, tail: self.voice.last_words() }),
                Event::Message(FromChild::Log { .. } | FromChild::Progress { .. }) => {}
                Event::Message(_) => {
                    return Err(StartError::Refused { reason: "it answered before it was asked".to_owned(), tail: String::new() });
                }
                Event::Garbled(reason) => return Err(StartError::Refused { reason, tail: self.voice.last_words() }),
                Event::Closed => return Err(self.died_at_start().await),
            }
        }
    }

    async fn died_at_start(&mut self) -> StartError {
        let reason = self.end().await;
        StartError::Died { reason, tail: self.voice.last_words() }
    }

    /// Attempts that it has run.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether a call is under way, so that the process cannot be used for another.
    pub(crate) fn is_busy(&self) -> bool {
        self.state != State::Idle
    }

    /// Whether it still waits for a call: neither gone nor speaking unasked.
    pub(crate) fn is_fit(&self) -> bool {
        self.state == State::Idle && self.voice.is_silent()
    }

    /// Runs one attempt, for at most `timeout_ms` milliseconds. When the future is dropped in the middle, the process is busy: see
    /// [`Process::stop`].
    ///
    /// Errors: [`CallError`]; the process is not to be used again then.
    pub(crate) async fn call(&mut self, call: &Call, timeout_ms: u64) -> Result<Outcome, CallError> {
        self.voice.tail.clear();
        self.calls += 1;
        self.state = State::Writing;
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let mut bytes = Vec::with_capacity(call.input.len() + call.config_json.len() + 512);
        encode_call(call, &mut bytes);
        match timeout_at(deadline, self.write_and_answer(&bytes)).await {
            Ok(result) => result,
            Err(_) => {
                if let Some(outcome) = self.stop().await {
                    // It heard that its time is over and ended in order: the process is good, the attempt is late all the same.
                    drop(outcome);
                    return Err(CallError::TimedOut { within_ms: timeout_ms, tail: self.voice.last_words() });
                }
                self.end().await;
                Err(CallError::TimedOut { within_ms: timeout_ms, tail: self.voice.last_words() })
            }
        }
    }

    async fn write_and_answer(&mut self, bytes: &[u8]) -> Result<Outcome, CallError> {
        if self.voice.say(bytes).await.is_err() {
            return Err(self.crashed().await);
        }
        self.state = State::Running;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Outcome, CallError> {
        let outcome = loop {
            match self.voice.event().await {
                Event::Message(FromChild::Completed(output)) => break Outcome::Completed(output),
                Event::Message(FromChild::Failed(failed)) => break Outcome::Failed(failed),
                Event::Message(FromChild::Log { level, text }) => self.on_log(level, &text),
                Event::Message(FromChild::Progress { fraction, text }) => tracing::debug!(plugin = self.name, fraction, text, "progress"),
                Event::Message(FromChild::Ready { .. } | FromChild::Refused(_)) => {
                    return Err(CallError::Garbled { reason: "it said again that it is ready".to_owned(), tail: self.voice.last_words() });
                }
                Event::Message(FromChild::Entered { .. } | FromChild::Fate { .. }) => {
                    return Err(CallError::Garbled { reason: "it spoke like a program".to_owned(), tail: self.voice.last_words() });
                }
                Event::Garbled(reason) => return Err(CallError::Garbled { reason, tail: self.voice.last_words() }),
                Event::Closed => return Err(self.crashed().await),
            }
        };
        self.state = State::Idle;
        Ok(outcome)
    }

    fn on_log(&mut self, level: LogLevel, text: &str) {
        self.voice.tail.line(text);
        let plugin = self.name.as_str();
        match level {
            LogLevel::Error => tracing::error!(plugin, text, "plugin"),
            LogLevel::Warn => tracing::warn!(plugin, text, "plugin"),
            LogLevel::Info => tracing::info!(plugin, text, "plugin"),
            LogLevel::Debug => tracing::debug!(plugin, text, "plugin"),
        }
    }

    /// Tells the running attempt that it is not wanted any more, and waits a moment for its end. `None`: it did not end in order, and the
    /// process is not to be used again.
    pub(crate) async fn stop(&mut self) -> Option<Outcome> {
        if self.state != State::Running {
            return None;
        }
        let mut bytes = Vec::new();
        ToChild::Cancel.encode(&mut bytes);
        let stopped = async {
            self.voice.say(&bytes).await.ok()?;
            self.answer().await.ok()
        };
        timeout(Duration::from_millis(STOP_GRACE_MS), stopped).await.ok().flatten()
    }

    async fn crashed(&mut self) -> CallError {
        let reason = self.end().await;
        CallError::Crashed { reason, tail: self.voice.last_words() }
    }

    /// Kills the child, waits for its end, and says how it ended.
    async fn end(&mut self) -> String {
        let Some(mut child) = self.child.take() else { return "has ended".to_owned() };
        // The socket closes a moment before the process is gone, and the process's own end tells more than our kill would.
        let waited = tokio::task::spawn_blocking(move || {
            has_ended_within(&child, OWN_END_MS);
            if child.try_wait().ok().flatten().is_none() {
                // A child that cannot be killed has ended already.
                let _ = child.kill();
                has_ended_within(&child, KILLED_WITHIN_MS);
            }
            let status = child.try_wait();
            (child, status)
        });
        match waited.await {
            Ok((_, Ok(Some(status)))) => reason(status),
            Ok((child, _)) => {
                self.keeper.end(child);
                "was killed".to_owned()
            }
            // Only at the runtime's own end.
            Err(_) => "was killed".to_owned(),
        }
    }

    /// Lets the plugin shut down in order; kills it when it does not.
    pub(crate) async fn shut_down(mut self) {
        if self.state == State::Idle && self.voice.hush().await.is_ok() {
            let closed = async { while !matches!(self.voice.event().await, Event::Closed) {} };
            // Too late or not: dropping it kills what is left.
            let _ = timeout(Duration::from_millis(STOP_GRACE_MS), closed).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            self.keeper.end(child);
        }
    }
}

/// Waits for a child's end, at most so long; returns early, and without having waited, where the kernel cannot tell.
fn has_ended_within(child: &Child, ms: u64) {
    let Some(fd) = Pid::from_raw(child.id().cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
    let within = Timespec { tv_sec: 0, tv_nsec: (ms * 1_000_000).min(999_999_999).cast_signed() };
    // Whether it has ended is asked again afterwards.
    let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&within));
}

/// How a process ended, in words that follow "the plugin's process".
pub(crate) fn reason(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("ended with exit code {}", status.code().unwrap_or_default());
    };
    let (name, why) = match signal {
        libc::SIGSEGV => ("SIGSEGV", "it touched memory that it does not have"),
        libc::SIGBUS => ("SIGBUS", "it touched memory that is not there"),
        libc::SIGABRT => ("SIGABRT", "it gave up by itself"),
        libc::SIGILL => ("SIGILL", "it ran into bytes that are no instruction"),
        libc::SIGFPE => ("SIGFPE", "it divided by zero, or the like"),
        libc::SIGKILL => ("SIGKILL", "it was killed from outside"),
        libc::SIGXCPU => ("SIGXCPU", "it used more processor time than its limit"),
        libc::SIGXFSZ => ("SIGXFSZ", "it wrote a larger file than its limit"),
        libc::SIGSYS => ("SIGSYS", "it made a system call that does not exist for it"),
        libc::SIGTERM => ("SIGTERM", "it was told to end"),
        libc::SIGPIPE => ("SIGPIPE", "it wrote to something that was closed"),
        libc::SIGALRM => ("SIGALRM", "its own alarm went off"),
        libc::SIGTRAP => ("SIGTRAP", "it ran into a trap"),
        _ => return format!("died of signal {signal}"),
    };
    format!("died of {name}: {why}")
}
