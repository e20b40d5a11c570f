//! The stage: the process that shuts itself in and then becomes the program.
//!
//! In: on stdin one frame, the order, and behind it the program's input, which stays in the pipe.  Out: on stdout one frame, how far it is shut in,
//! and behind it whatever the program writes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Access, access};
use rustix::process::{getpid, getuid, nice};

use super::{Order, descendants};
use crate::sandbox::{self, Guest};
use crate::wire::{FromChild, HEAD_BYTES, ToChild};

/// Where a program finds others; the environment has nothing else that nobody gave.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Largest order, without its input.
const ORDER_BYTES_MAX: usize = 8 << 20;
/// How much nicer than its supervisor and the worker a program is: with a third of their weight it cannot keep them from counting, killing and
/// answering, however many processes it makes; on a machine that is idle otherwise it is no slower.
const NICER_BY: i32 = 5;
/// Processes of the worker's user that may come beside the program's own before these are refused.
const USER_PROCESSES_SLACK: u64 = 256;
/// What a shell gives for a file that it cannot run.
const EXIT_CANNOT_RUN: i32 = 126;

/// Becomes the program. Returns when it was not to run, or could not be.
///
/// Errors: stdin does not begin with an order.
pub(crate) fn run() -> Result<(), &'static str> {
    let order =
        order(io::stdin().as_fd()).map_err(|_| "this is the part of a worker that runs a program, and only a worker can start it")?;
    // A supervisor that is gone needs no answer.
    let _ = perform(&order);
    Ok(())
}

/// Reads the order and not a byte more.
fn order(stdin: BorrowedFd<'_>) -> io::Result<Order> {
    let mut stdin = File::from(stdin.try_clone_to_owned()?);
    let mut head = [0_u8; HEAD_BYTES];
    stdin.read_exact(&mut head)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > ORDER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0_u8; length];
    stdin.read_exact(&mut body)?;
    match ToChild::decode(head[4], &body) {
        Ok(ToChild::Run(order)) => Ok(*order),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn perform(order: &Order) -> io::Result<()> {
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut say = |message: &FromChild| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        stdout.write_all(&bytes)
    };
    let spec = &order.program.spec;
    let path = spec.path.display();
    if !spec.path.is_file() {
        return say(&FromChild::Refused(format!("{path} is not there, or is no file")));
    }
    if let Err(error) = access(&spec.path, Access::EXEC_OK) {
        return say(&FromChild::Refused(format!("{path} cannot be run by the worker's user: {error}")));
    }
    // When the machine runs out of memory, this is what goes first. Where that cannot be said, the kernel decides.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    nice(NICER_BY)?;
    if order.program.processes > 1 && !getuid().is_root() {
        // The kernel counts by user, and not for root. What it allows the supervisor counts, whoever the user is.
        sandbox::limit_processes(descendants::of_user().saturating_add(USER_PROCESSES_SLACK + order.program.processes as u64))?;
    }
    let reached = sandbox::enter(spec, Guest::Program { processes: order.program.processes, runs: &order.program.runs });
    let pid = getpid().as_raw_nonzero().get().unsigned_abs().into();
    say(&FromChild::Entered { pid, isolation: reached.isolation, lacks: reached.lacks })?;
    if order.is_rehearsal || reached.isolation < spec.isolation_required {
        return Ok(());
    }
    let mut program = Command::new(&spec.path);
    program
        .args(&order.program.arguments)
        .args(&order.run.arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .envs(&spec.grants.secrets)
        .envs(&order.run.environment);
    sandbox::limit_cpu_hard(spec.limits.cpu_s);
    // Last, since this process is larger than some programs may be.
    sandbox::limit_memory(spec.limits.memory_bytes)?;
    let error = program.exec();
    eprintln!("{path} cannot be run: {error}");
    std::process::exit(EXIT_CANNOT_RUN)
}
