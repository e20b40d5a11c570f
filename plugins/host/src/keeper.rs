//! The keeper: the threads that start children and wait for their end.
//!
//! A child asks the kernel to die with the *thread* that started it, so that thread has to live as long as the worker: it is this one, not a
//! thread of some pool. Waiting for a killed child may take a moment, so that has a thread too. Both end with the last clone of the keeper.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::sync::oneshot;

/// Starts that may wait; beyond it the caller's thread waits.
const STARTS_QUEUED_MAX: usize = 64;
/// Ended children that may wait to be collected; beyond it the caller's thread waits.
const ENDED_QUEUED_MAX: usize = 1_024;

/// A child that has just been started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    /// Frames.
    pub(crate) stream: UnixStream,
    /// What the plugin prints.
    pub(crate) printed: PipeReader,
}

type Start = oneshot::Sender<io::Result<Started>>;

/// Starts and collects children. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    starts: SyncSender<Start>,
    ended: SyncSender<Child>,
}

impl Keeper {
    /// A keeper whose children are `program` with `arguments`: something that calls [`crate::child::run`] and nothing else.
    ///
    /// Errors: a thread could not be started.
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> io::Result<Self> {
        let (starts, jobs) = sync_channel::<Start>(STARTS_QUEUED_MAX);
        let (ended, children) = sync_channel::<Child>(ENDED_QUEUED_MAX);
        let collector = ended.clone();
        thread::Builder::new().name("plugin-starts".to_owned()).spawn(move || {
            for job in jobs {
                if let Err(Ok(mut unwanted)) = job.send(start(&program, &arguments)) {
                    // Whoever wanted it is gone. A child that cannot be killed has ended already.
                    let _ = unwanted.child.kill();
                    let _ = collector.send(unwanted.child);
                }
            }
        })?;
        thread::Builder::new().name("plugin-ends".to_owned()).spawn(move || {
            for mut child in children {
                // Nothing to be done about a child that cannot be waited for; it is not ours any more.
                let _ = child.wait();
            }
        })?;
        Ok(Self { starts, ended })
    }

    /// Starts one child. Errors: the system's.
    pub(crate) async fn start(&self) -> io::Result<Started> {
        let gone = || io::Error::other("the thread that starts plugins has ended");
        let (reply, started) = oneshot::channel();
        self.starts.send(reply).map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }

    /// Has the end of a child collected that ends by itself.
    pub(crate) fn collect(&self, child: Child) {
        // Without the thread there is no worker any more.
        let _ = self.ended.send(child);
    }

    /// Kills a child and has its end collected.
    pub(crate) fn end(&self, mut child: Child) {
        // A child that cannot be killed has ended already.
        let _ = child.kill();
        self.collect(child);
    }
}

fn start(program: &PathBuf, arguments: &[OsString]) -> io::Result<Started> {
    let (stream, theirs) = UnixStream::pair()?;
    let (printed, writer) = io::pipe()?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        // A Ctrl-C on the worker's terminal is the worker's matter.
        .process_group(0)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    stream.set_nonblocking(true)?;
    Ok(Started { child, stream, printed })
}
