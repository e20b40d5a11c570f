//! Who descends from a process, as the kernel lists it. What cannot be read has ended meanwhile, and has no children.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::Pid;

/// The children of a process, of all its threads. Those that are this process's own stay what they are until it has waited for them.
pub(super) fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(listed.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)));
    }
    children
}

/// How many processes descend from it, counted no further than one above `most`.
pub(super) fn count(pid: Pid, most: usize) -> usize {
    let mut counted = 0;
    let mut open = vec![pid];
    while let Some(next) = open.pop()
        && counted <= most
    {
        let found = children(next);
        counted += found.len();
        open.extend(found);
    }
    counted.min(most + 1)
}

/// How many threads the user of this process has, as far as this process may see.
pub(super) fn of_user() -> u64 {
    let own = rustix::process::getuid().as_raw();
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let threads = |path: &Path| fs::read_dir(path.join("task")).map_or(0, |threads| threads.count() as u64);
    let is_own = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.uid() == own);
    processes.flatten().map(|entry| entry.path()).filter(|path| is_own(path)).map(|path| threads(&path)).sum()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::getpid;

    use super::*;

    #[test]
    fn descendants_are_counted_up_to_the_limit() {
        // A shell with two children that live until its input ends.
        let script = "cat <&3 & cat <&3 & echo up; wait";
        let mut shell = Command::new("/bin/sh")
            .args(["-c", &format!("exec 3<&0; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.as_mut().unwrap()), &mut line).unwrap();
        let pid = Pid::from_child(&shell);
        assert!(children(getpid()).contains(&pid));
        assert_eq!((count(pid, 10), count(pid, 1)), (2, 2));
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(count(pid, 10), 0);
        assert!(of_user() > 1, "this test has threads");
    }
}
