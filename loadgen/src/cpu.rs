//! CPU time and memory of a process, as the system accounts them.

use std::fs;
use std::io;

use crate::Error;

/// The unit of `/proc/<pid>/stat`: Linux shows hundredths of a second there on every architecture that this project runs on.
const TICK_US: u64 = 10_000;

/// User and system time of a process since its start, in ticks of 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuClock {
    ticks: u64,
}

impl CpuClock {
    /// Reads the clock of a process id, or of `self`.
    pub(crate) fn read(process: &str) -> Result<Self, Error> {
        let error = |source| Error::Cpu { process: process.to_owned(), source };
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).map_err(error)?;
        let ticks =
            ticks_of(&stat).ok_or_else(|| error(io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/<pid>/stat")))?;
        Ok(Self { ticks })
    }

    /// Microseconds of CPU time between two readings.
    pub(crate) fn since_us(self, earlier: Self) -> u64 {
        self.ticks.saturating_sub(earlier.ticks) * TICK_US
    }
}

/// Fields 14 and 15, counted after the command's name, which is in parentheses and may contain anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process id, bytes.
pub(crate) fn resident_bytes(process: &str) -> Result<u64, Error> {
    let error = |source| Error::Cpu { process: process.to_owned(), source };
    let status = fs::read_to_string(format!("/proc/{process}/status")).map_err(error)?;
    resident_of(&status).ok_or_else(|| error(io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/<pid>/status")))
}

/// The line `VmRSS:     1234 kB`.
fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_after_any_name() {
        let stat = "123 (a) b) c) S 1 123 123 0 -1 4194560 900 0 0 0 250 30 0 0 20 0 5 0 8000 1 2 3";
        assert_eq!(ticks_of(stat), Some(280));
        assert_eq!(ticks_of("123 (a"), None);
    }

    #[test]
    fn resident_memory_is_in_kilobytes() {
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2 << 20));
        assert_eq!(resident_of("Name:\tx\n"), None);
        assert!(resident_bytes("self").is_ok_and(|bytes| bytes > 0));
    }

    #[test]
    fn this_process_has_a_clock_and_an_impossible_one_has_not() {
        assert!(CpuClock::read("self").is_ok());
        assert!(matches!(CpuClock::read("0"), Err(Error::Cpu { .. })));
    }
}
