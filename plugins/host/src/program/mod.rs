//! Programs: one process per attempt, shut in like a plugin, input on stdin, output from stdout.
//!
//! Three processes stand in a row. The *worker* starts a *supervisor* (`supervisor`), which is ours, outside the sandbox and without privileges.
//! That starts the *stage* (`stage`), which shuts itself in as `sandbox` does for a plugin, and then becomes the program. The supervisor feeds and reads
//! it, counts what it starts, and kills all of it when it ends, when the worker says so, and when the worker is gone.
//!
//! Invariant: nothing that a program started is alive when its attempt has ended, as far as the sandbox holds it in its process group.

mod descendants;
mod errors;
pub(crate) mod stage;
pub(crate) mod supervisor;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

pub use errors::ProgramError;

use crate::keeper::Keeper;
use crate::process::reason;
use crate::spec::{Isolation, Spec};
use crate::voice::{Event, Voice};
use crate::wire::{FromChild, ToChild, from_child_bytes_max};

/// How long a program that is told to end has, before it is killed, milliseconds.
pub(crate) const TERM_GRACE_MS: u64 = 200;
/// How long the supervisor may take to have everything dead, milliseconds.
pub(crate) const BURIED_WITHIN_MS: u64 = 2_000;
/// Longest single argument or variable of the environment, bytes: what the kernel takes, with its end.
pub const ARGUMENT_BYTES_MAX: usize = (128 << 10) - 1;
/// Most bytes of all arguments and variables together; the kernel takes at least so much.
pub const ARGUMENTS_BYTES_MAX: usize = 1 << 20;

/// A program and everything that a worker decides about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramSpec {
    /// The file, its limits, its grants. Its `config_json` means nothing here, `limits.processes` is how many attempts run at once, and
    /// `grants.secrets` are variables of its environment.
    pub spec: Spec,
    /// Arguments before those of the task.
    pub arguments: Vec<String>,
    /// Most processes of one attempt, threads not counted.
    pub processes: usize,
    /// Directories whose programs it may run besides itself.
    pub runs: Vec<PathBuf>,
}

/// One attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Arguments after those of the [`ProgramSpec`].
    pub arguments: Vec<String>,
    /// Variables of the environment, beside those granted and `PATH`.
    pub environment: BTreeMap<String, String>,
    /// What it reads on stdin.
    pub input: Vec<u8>,
    /// How long it may take, milliseconds; zero: as long as the limits allow.
    pub timeout_ms: u64,
}

/// How an attempt ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub output: Vec<u8>,
    /// What it wrote to stderr last.
    pub tail: String,
}

impl Finished {
    /// How it ended, in words that follow "the program".
    pub fn reason(&self) -> String {
        reason(self.status)
    }
}

/// What the supervisor is told: everything about one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) program: ProgramSpec,
    pub(crate) run: Run,
    /// Only to see how far the sandbox goes: the program itself is not run.
    pub(crate) is_rehearsal: bool,
}

/// How the supervisor saw it end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The program ended, with this status of the system's.
    Ended(i32),
    /// It was killed, as it was told to.
    Stopped,
    /// It wrote more than its limit to stdout.
    OutputTooLarge,
    /// It had more processes than its limit.
    TooManyProcesses,
}

/// A program that a worker offers. Cheap to clone; clones share its attempts at once.
#[derive(Clone, Debug)]
pub struct Program(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spec: ProgramSpec,
    keeper: Keeper,
    isolation: Isolation,
    permits: Semaphore,
}

impl Program {
    /// Shuts a process in as it will be done for every attempt, without running the program.
    ///
    /// Errors: [`ProgramError`]: the file cannot be run, or the sandbox is weaker than required.
    pub async fn start(keeper: &Keeper, spec: ProgramSpec) -> Result<Self, ProgramError> {
        let rehearsal = Order { program: spec.clone(), run: Run::default(), is_rehearsal: true };
        let mut attempt = Attempt::start(keeper, &rehearsal).await?;
        let isolation = attempt.enter(&rehearsal).await?;
        let permits = Semaphore::new(spec.spec.limits.processes.clamp(1, Semaphore::MAX_PERMITS));
        Ok(Self(Arc::new(Inner { spec, keeper: keeper.clone(), isolation, permits })))
    }

    /// How far it is kept apart.
    pub fn isolation(&self) -> Isolation {
        self.0.isolation
    }

    /// Runs one attempt; waits when as many run as may. Dropping the future ends the program: it is told to, and killed when it does not.
    ///
    /// Errors: [`ProgramError`]: it did not end by itself.
    pub async fn run(&self, run: Run) -> Result<Finished, ProgramError> {
        let inner = &self.0;
        let _permit = inner.permits.acquire().await.expect("a program never closes its permits");
        let limits = &inner.spec.spec.limits;
        let timeout_ms = if run.timeout_ms == 0 { limits.timeout_ms } else { run.timeout_ms };
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let order = Order { program: inner.spec.clone(), run, is_rehearsal: false };
        let mut attempt = Attempt::start(&inner.keeper, &order).await?;
        let ended = async {
            attempt.enter(&order).await?;
            attempt.ended().await
        };
        let fate = match timeout_at(deadline, ended).await {
            Ok(fate) => fate?,
            Err(_) => {
                attempt.stop().await;
                return Err(ProgramError::TimedOut { within_ms: timeout_ms, tail: attempt.voice.last_words() });
            }
        };
        let tail = attempt.voice.last_words();
        match fate {
            (Fate::Ended(status), output) => Ok(Finished { status: ExitStatus::from_raw(status), output, tail }),
            (Fate::OutputTooLarge, _) => Err(ProgramError::OutputTooLarge { bytes_max: limits.output_bytes, tail }),
            (Fate::TooManyProcesses, _) => Err(ProgramError::TooManyProcesses { processes_max: inner.spec.processes, tail }),
            (Fate::Stopped, _) => Err(ProgramError::Lost { reason: "was stopped although nobody had asked".to_owned(), tail }),
        }
    }
}

/// The worker's side of one attempt. Dropping it makes the supervisor end it.
#[derive(Debug)]
struct Attempt {
    voice: Voice,
    child: Option<Child>,
    keeper: Keeper,
    /// The program's process group, once it has one.
    group: Option<Pid>,
}

impl Attempt {
    async fn start(keeper: &Keeper, order: &Order) -> Result<Self, ProgramError> {
        let spawn = |error: std::io::Error| ProgramError::Spawn { reason: error.to_string() };
        let started = keeper.start().await.map_err(spawn)?;
        let bytes_max = from_child_bytes_max(order.program.spec.limits.output_bytes);
        let (voice, child) = Voice::of(started, bytes_max).map_err(|(error, child)| {
            keeper.end(child);
            spawn(error)
        })?;
        Ok(Self { voice, child: Some(child), keeper: keeper.clone(), group: None })
    }

    /// Gives the order, and waits until the program is shut in.
    async fn enter(&mut self, order: &Order) -> Result<Isolation, ProgramError> {
        let within_ms = order.program.spec.limits.start_timeout_ms;
        let mut bytes = Vec::with_capacity(order.run.input.len() + 1_024);
        ToChild::Run(Box::new(order.clone())).encode(&mut bytes);
        let entered = async {
            if self.voice.say(&bytes).await.is_err() {
                return Err(self.died("has ended".to_owned()));
            }
            match self.voice.event().await {
                Event::Message(FromChild::Entered { pid, isolation, lacks }) => {
                    self.group = i32::try_from(pid).ok().and_then(Pid::from_raw);
                    Ok((isolation, lacks))
                }
                Event::Message(FromChild::Refused(reason)) => Err(ProgramError::Refused { reason }),
                Event::Message(FromChild::Fate { fate: Fate::Ended(status), .. }) => Err(self.died(reason(ExitStatus::from_raw(status)))),
                Event::Message(_) => Err(self.died("answered something else".to_owned())),
                Event::Garbled(reason) => Err(self.died(reason)),
                Event::Closed => Err(self.died("has ended".to_owned())),
            }
        };
        let Ok(entered) = timeout(Duration::from_millis(within_ms), entered).await else {
            return Err(ProgramError::Slow { within_ms, tail: self.voice.last_words() });
        };
        let (isolation, lacks) = entered?;
        let required = order.program.spec.isolation_required;
        if isolation < required {
            return Err(ProgramError::Isolation { required, reached: isolation, lacks });
        }
        if order.is_rehearsal && !lacks.is_empty() {
            let path = order.program.spec.path.display();
            tracing::warn!(program = %path, %isolation, lacks, "the program's sandbox is weaker than it could be");
        }
        Ok(isolation)
    }

    fn died(&mut self, reason: String) -> ProgramError {
        ProgramError::Died { reason, tail: self.voice.last_words() }
    }

    /// Waits until the program and all that it started are gone.
    async fn ended(&mut self) -> Result<(Fate, Vec<u8>), ProgramError> {
        let reason = match self.voice.event().await {
            Event::Message(FromChild::Fate { fate, output }) => {
                self.group = None;
                return Ok((fate, output));
            }
            Event::Message(_) => "was answered for with something else than its end".to_owned(),
            Event::Garbled(reason) => format!("was answered for with bytes that are no answer: {reason}"),
            Event::Closed => "lost its supervisor".to_owned(),
        };
        self.kill_group();
        Err(ProgramError::Lost { reason, tail: self.voice.last_words() })
    }

    /// Has the program ended, and waits for that.
    async fn stop(&mut self) {
        let mut bytes = Vec::new();
        ToChild::Cancel.encode(&mut bytes);
        let ended = async {
            if self.voice.say(&bytes).await.is_ok() {
                // Whatever it says now, it comes too late.
                drop(self.ended().await);
            }
        };
        // If even that is too late, the drop of this attempt does what is left.
        let _ = timeout(Duration::from_millis(TERM_GRACE_MS + BURIED_WITHIN_MS), ended).await;
    }

    /// For a supervisor that died before it could do so itself. The program died with it; what it started is in its group, whose number
    /// nobody else can have got in the moment since.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            // A group that is gone needs no kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            // The socket closes with this value: that ends the supervisor, after it has ended the program.
            self.keeper.collect(child);
        }
    }
}
