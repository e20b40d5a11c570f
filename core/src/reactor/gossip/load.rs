//! The load of this machine, from what the kernel tells: the busy share of its processors since the last look, and the used share of its memory.

use std::fs;
use std::io;

/// Shares of one look, thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Of the processors, busy since the look before.
    pub cpu_permille: u16,
    /// Of the memory, used.
    pub memory_permille: u16,
}

/// Looks at the machine now and then.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadMeter {
    /// Ticks of all processors at the last look: busy, and all.
    ticks: (u64, u64),
}

impl LoadMeter {
    /// Looks. The first look tells the share since the machine's start.  Errors: the kernel does not say.
    pub fn look(&mut self) -> io::Result<Shares> {
        let (stat, meminfo) = (fs::read_to_string("/proc/stat")?, fs::read_to_string("/proc/meminfo")?);
        let ticks = ticks_of(&stat).ok_or_else(|| io::Error::other("/proc/stat has no line of all processors"))?;
        let memory_permille = memory_of(&meminfo).ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal and MemAvailable"))?;
        let before = std::mem::replace(&mut self.ticks, ticks);
        let (busy, all) = (ticks.0.saturating_sub(before.0), ticks.1.saturating_sub(before.1));
        Ok(Shares { cpu_permille: permille(busy, all), memory_permille })
    }
}

fn permille(part: u64, whole: u64) -> u16 {
    (part.min(whole) * 1_000).checked_div(whole).unwrap_or(0) as u16
}

/// user nice system idle iowait irq softirq steal; what follows is counted in the first two already.
fn ticks_of(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(|ticks| ticks.parse().ok()).collect::<Option<_>>()?;
    let all = ticks.iter().sum::<u64>();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

fn memory_of(meminfo: &str) -> Option<u16> {
    let of = |name: &str| meminfo.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    let (total, available) = (of("MemTotal:")?, of("MemAvailable:")?);
    Some(permille(total.saturating_sub(available), total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(ticks_of("cpu  10 1 9 70 10 0 0 0 5 5\ncpu0 1 1 1 1 1 1 1 1\n"), Some((20, 100)));
        assert_eq!(memory_of("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  250 kB\n"), Some(750));
        assert!(ticks_of("cpu0 1 2").is_none() && memory_of("MemTotal: 5 kB").is_none() && ticks_of("cpu  a b").is_none());
        assert_eq!((permille(0, 0), permille(5, 5), permille(1, 3)), (0, 1_000, 333));
    }

    #[test]
    fn this_machine_has_a_load() {
        let mut meter = LoadMeter::default();
        let shares = meter.look().unwrap();
        assert!(shares.memory_permille > 0 && shares.memory_permille < 1_000 && shares.cpu_permille <= 1_000, "{shares:?}");
        assert!(meter.ticks.1 > 0);
    }
}
