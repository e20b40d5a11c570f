//! The node of the demo: a child process of the same binary, so that it can be killed.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};

/// A node that is not ready by then is reported as failed. Recovery after the kill takes far less.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running node.
pub struct NodeProcess {
    child: Child,
    /// Closing it tells the child that its parent is gone.
    _stdin: Option<ChildStdin>,
    /// Where it speaks the binary protocol.
    pub wire: SocketAddr,
    /// Its process id.
    pub pid: u32,
}

impl NodeProcess {
    /// Starts a node on `data_dir` and waits until it says that it is ready. Its log lines are appended to `log`.
    pub async fn start(data_dir: &Path, rules: &Path, workflows: &Path, log: &Path) -> Result<Self, Failure> {
        let program =
            std::env::current_exe().map_err(|error| Failure::new(Exit::Environment, format!("cannot find this program: {error}")))?;
        let stderr = OpenOptions::new().create(true).append(true).open(log).map_err(|error| Failure::io("write", log, &error))?;
        let mut command = Command::new(&program);
        command.args([
            "--json",
            "dev",
            "--name",
            "demo",
            "--wire-bind",
            "127.0.0.1:0",
            "--http-bind",
            "127.0.0.1:0",
            "--until-stdin-closes",
        ]);
        command.arg("--data-dir").arg(data_dir).arg("--rules").arg(rules).arg("--workflows").arg(workflows);
        // The demo is the same on every machine: nothing of the surroundings configures its node.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DISTRIC_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| Failure::io("run", &program, &error))?;
        let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
        let (tell, told) = oneshot::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let ready = lines.find_map(|line| ready_address(&line));
            // Nobody listens when the demo has given up already.
            let _ = tell.send(ready);
            // Keeps the pipe empty until the node ends.
            lines.for_each(drop);
        });
        let mut node = Self { pid: child.id(), _stdin: child.stdin.take(), child, wire: SocketAddr::from(([127, 0, 0, 1], 0)) };
        match tokio::time::timeout(READY_WITHIN, told).await {
            Ok(Ok(Some(wire))) => {
                node.wire = wire;
                Ok(node)
            }
            _ => {
                let status =
                    node.child.try_wait().ok().flatten().map_or_else(|| "no sign of readiness".to_owned(), |status| status.to_string());
                let tail = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = tail.lines().rev().take(8).collect();
                Err(Failure::new(Exit::NodeFailed, format!("the demo's node did not start: {status}"))
                    .with_findings(tail.into_iter().rev())
                    .with_remedy(format!("see {} (run with --keep to keep it)", log.display())))
            }
        }
    }

    /// Kills it as a power cut would: SIGKILL, no chance to flush anything.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::new(Exit::Environment, format!("cannot kill the node: {error}"));
        self.child.kill().map_err(failed)?;
        self.child.wait().map_err(failed)?;
        Ok(())
    }

    /// Asks it to end and waits. Returns whether it ended with success.
    pub async fn stop(mut self) -> bool {
        let Ok(pid) = i32::try_from(self.pid) else { return false };
        let Some(pid) = rustix::process::Pid::from_raw(pid) else { return false };
        if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err() {
            return false;
        }
        for _ in 0..STOP_CHECKS_MAX {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => tokio::time::sleep(STOP_CHECK_EVERY).await,
                Err(_) => return false,
            }
        }
        false
    }
}

const STOP_CHECK_EVERY: Duration = Duration::from_millis(20);
const STOP_CHECKS_MAX: u32 = 500;

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ready_address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["event"] == "ready").then(|| line["wire"].as_str()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_gives_the_address() {
        assert_eq!(ready_address(r#"{"event":"ready","wire":"127.0.0.1:7"}"#), Some(SocketAddr::from(([127, 0, 0, 1], 7))));
        assert_eq!(ready_address(r#"{"event":"other","wire":"127.0.0.1:7"}"#), None);
        assert_eq!(ready_address("hello"), None);
    }
}
