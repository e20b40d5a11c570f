//! A disk of a few megabytes, to fill up.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, in memory. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many mebibytes on an empty directory, which is made. Errors: why that is not to be had here; it takes the rights of
    /// an administrator and Linux.
    pub fn mount(path: &Path, mib: u64) -> Result<Self, String> {
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it so many mebibytes instead; what is on it stays. Panics where that is refused.
    pub fn resize(&self, mib: u64) {
        run(Command::new("mount").args(["-o", &format!("remount,size={mib}m")]).arg(&self.path)).expect("what was mounted can be resized");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still hold files.
        let _ = run(Command::new("umount").arg("-l").arg(&self.path));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let ended = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if ended.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr).trim())) }
}
