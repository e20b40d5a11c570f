//! One node as a child process of this one.
//!
//! In: what to start.  Out: its `ready` line, its end as an event.  It ends when its stdin is closed, so no child outlives its parent.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::exit::{Exit, Failure};

/// A node that is not ready by then is reported as failed. It may have a long log to read, and a cluster to join.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A node that was asked to end has this long; then it is killed.
pub const END_WITHIN: Duration = Duration::from_secs(25);
/// Lines of its log that a failure shows.
const LOG_LINES_SHOWN: usize = 8;

/// What to start.
#[derive(Clone, Debug)]
pub struct ChildPlan {
    /// Its name, for people.
    pub name: String,
    /// The arguments of this program.
    pub arguments: Vec<String>,
    /// The file that its log lines are appended to; `None`: they go where this process's go.
    pub log: Option<PathBuf>,
    /// Whether the `DISTRIC_` variables of the surroundings configure it.
    pub surroundings: bool,
}

/// A running node.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Closing it tells the child that its parent is gone.
    _stdin: Option<ChildStdin>,
    ended: watch::Receiver<Option<ExitStatus>>,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Child {
    /// Starts a node and waits until it says that it is ready.
    pub async fn start(plan: &ChildPlan) -> Result<Self, Failure> {
        let program =
            std::env::current_exe().map_err(|error| Failure::new(Exit::Environment, format!("cannot find this program: {error}")))?;
        let mut command = Command::new(&program);
        command.args(&plan.arguments).arg("--until-stdin-closes").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(log) = &plan.log {
            let file = OpenOptions::new().create(true).append(true).open(log).map_err(|error| Failure::io("write", log, &error))?;
            command.stderr(file);
        }
        if !plan.surroundings {
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DISTRIC_")).for_each(|(name, _)| {
                command.env_remove(name);
            });
        }
        let mut process = command.spawn().map_err(|error| Failure::io("run", &program, &error))?;
        let pid = Pid::from_child(&process);
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("stdout was asked for as a pipe");
        let (tell_ready, ready) = oneshot::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody listens when its parent has given up already.
            let _ = tell_ready.send(lines.find_map(|line| ready_line(&line)));
            // Keeps the pipe empty until the node ends.
            lines.for_each(drop);
        });
        let (tell_end, ended) = watch::channel(None);
        std::thread::spawn(move || {
            if let Ok(status) = process.wait() {
                tell_end.send_replace(Some(status));
            }
        });
        let mut child = Self { pid, _stdin: stdin, ended, ready: Value::Null };
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(Ok(Some(ready))) => {
                child.ready = ready;
                Ok(child)
            }
            silence => {
                // Its pipe was closed: it has ended, or is about to. Otherwise it is killed with the handle.
                if silence.is_ok() {
                    child.end(END_WITHIN).await;
                }
                Err(child.not_ready(plan))
            }
        }
    }

    fn not_ready(&self, plan: &ChildPlan) -> Failure {
        let how = self.has_ended().map_or_else(|| format!("not ready within {} s", READY_WITHIN.as_secs()), |status| status.to_string());
        let failure = Failure::new(Exit::NodeFailed, format!("{} did not start: {how}", plan.name));
        match &plan.log {
            None => failure.with_remedy("its log lines above say more"),
            Some(log) => {
                failure.with_findings(last_lines(log)).with_remedy(format!("see {} (the demo keeps it with --keep)", log.display()))
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// An address of its `ready` line: `wire`, `peer`, or `http`.
    pub fn address(&self, of: &str) -> Option<&str> {
        self.ready[of].as_str()
    }

    /// How it ended, if it has.
    pub fn has_ended(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Resolves at its end, by itself or by somebody's hand.
    pub fn until_end(&self) -> impl Future<Output = Option<ExitStatus>> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            let status = ended.wait_for(Option::is_some).await;
            status.ok().and_then(|status| *status)
        }
    }

    /// Kills it as a power cut would: SIGKILL, no chance to flush anything. Returns when it is gone.
    pub async fn kill(&self) {
        self.signal(Signal::KILL);
        self.until_end().await;
    }

    /// Asks it to end and waits; kills it when that takes longer than [`END_WITHIN`]. Returns whether it ended with success.
    pub async fn stop(&self) -> bool {
        self.signal(Signal::TERM);
        match self.end(END_WITHIN).await {
            Some(status) => status.success(),
            None => {
                self.kill().await;
                false
            }
        }
    }

    /// Asks it to read its catalog files again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    async fn end(&self, within: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(within, self.until_end()).await.ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        // A process that was waited for has given its id back; between the two it is ours.
        if self.has_ended().is_none() {
            // An error means that it is gone already.
            let _ = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn last_lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().map(|line| (*line).to_owned()).collect()
}

fn ready_line(line: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["event"] == "ready" && line["wire"].is_string()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_line_with_an_address_is_one() {
        assert_eq!(ready_line(r#"{"event":"ready","wire":"127.0.0.1:7"}"#).unwrap()["wire"], "127.0.0.1:7");
        assert_eq!(ready_line(r#"{"event":"other","wire":"127.0.0.1:7"}"#), None);
        assert_eq!(ready_line(r#"{"event":"ready"}"#), None);
        assert_eq!(ready_line("hello"), None);
    }
}
