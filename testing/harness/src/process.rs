//! Starting, killing and stopping the binary.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A process that is to become ready has this long.
pub const READY_WITHIN: Duration = Duration::from_secs(20);
/// A process that is to end has this long.
pub const END_WITHIN: Duration = Duration::from_secs(30);
/// Lines of stderr that a failure shows.
const LOG_LINES_SHOWN: usize = 40;

/// The binary under test.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

impl Finished {
    /// Its stdout as JSON lines. Panics when one is not.
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Panics unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Program {
    /// The binary at this path, `env!("CARGO_BIN_EXE_distric")`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A command without the `DISTRIC_` variables of the surroundings.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DISTRIC_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end. Panics when that takes longer than [`END_WITHIN`].
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        Running::start(self.command(arguments)).wait()
    }

    /// Starts it and leaves it running.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Running {
        Running::start(self.command(arguments))
    }
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    stdout: String,
    stderr: Arc<Mutex<String>>,
}

impl Running {
    /// Starts a command whose stdout and stderr are pipes.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut from_stderr = child.stderr.take().expect("stderr is a pipe");
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&stderr);
        thread::spawn(move || {
            let mut chunk = [0; 4_096];
            while let Ok(read @ 1..) = from_stderr.read(&mut chunk) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
        });
        Self { child, lines, stdout: String::new(), stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the line on stdout that is a JSON object with this `event`.
    #[track_caller]
    pub fn wait_for_event(&mut self, event: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.stdout.push_str(&line);
                    self.stdout.push('\n');
                    if let Ok(value) = serde_json::from_str::<Value>(&line)
                        && value["event"] == event
                    {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {event} within {within:?}\n{}", self.story()),
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(Duration::from_millis(50));
                    panic!("ended without {event}\n{}", self.story())
                }
            }
        }
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it where it is: SIGSTOP. It holds its connections and says nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on: SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to read its files again: SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }

    /// Waits for its end. Panics when that takes longer than [`END_WITHIN`].
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let status = self.wait_status();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(2)) {
            self.stdout.push_str(&line);
            self.stdout.push('\n');
        }
        // The thread that reads stderr ends with the pipe; what it read last may still be on its way.
        thread::sleep(Duration::from_millis(20));
        Finished { code: status.code(), stdout: std::mem::take(&mut self.stdout), stderr: self.stderr() }
    }

    #[track_caller]
    fn wait_status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + END_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {END_WITHIN:?}\n{}", self.story());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn story(&self) -> String {
        let stderr = self.stderr();
        let lines: Vec<&str> = stderr.lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        format!("stdout:\n{}\nstderr:\n{shown}", self.stdout)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running node that has said that it is ready.
#[derive(Debug)]
pub struct Node {
    /// The process.
    pub process: Running,
    /// Where it speaks the binary protocol.
    pub wire: SocketAddr,
    /// Where it speaks HTTP, `host:port`; empty when it does not.
    pub http: String,
    /// From its start to its readiness.
    pub ready_after: Duration,
    /// Its whole `ready` line.
    pub ready: Value,
}

impl Node {
    /// Starts `verb` (`dev` or `coordinator`) on free ports with these further arguments.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(program: &Program, verb: &str, data_dir: &Path, more: impl IntoIterator<Item = S>) -> Self {
        Self::start_at(program, verb, SocketAddr::from(([127, 0, 0, 1], 0)), data_dir, more)
    }

    /// The same, speaking the binary protocol at this address: where it was before, for whoever knows it there.
    #[track_caller]
    pub fn start_at<S: AsRef<OsStr>>(
        program: &Program,
        verb: &str,
        wire: SocketAddr,
        data_dir: &Path,
        more: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut command = program.command(["--json", verb, "--wire-bind", &wire.to_string(), "--http-bind", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(data_dir).args(more);
        let started = Instant::now();
        let mut process = Running::start(command);
        let ready = process.wait_for_event("ready", READY_WITHIN);
        let wire = ready["wire"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no wire address in {ready}"));
        let http = ready["http"].as_str().map(|text| text.trim_start_matches("http://").to_owned()).unwrap_or_default();
        Self { process, wire, http, ready_after: started.elapsed(), ready }
    }

    /// Its address as an argument.
    pub fn addr(&self) -> String {
        self.wire.to_string()
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Asks it to read its catalog files again: SIGHUP.
    pub fn hang_up(&self) {
        self.process.hang_up();
    }

    /// Sends SIGTERM and waits for its end.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.process.terminate();
        self.process.wait()
    }
}

/// Asks until the answer is there. Panics after `within`.
#[track_caller]
pub fn wait_until<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
