//! Resources: processors and memory that tasks need, and what workers have of them. Whole numbers only: thousandths of a processor, and MiB.
//!
//! What nobody limits is not counted: a worker that states no memory has room for every task's memory. Groups count it for themselves,
//! a worker for all of them; both by these.

use serde::{Deserialize, Serialize};

/// Most processors that one task or worker can state, thousandths: 4,096 processors.
pub const CPU_MILLIS_MAX: u64 = 4_096_000;
/// Most memory that one task or worker can state, MiB: 64 TiB.
pub const MEMORY_MIB_MAX: u64 = 64 << 20;

/// What a task needs for itself while a worker has it; 0 of what it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Needs {
    /// Processors, thousandths.
    pub cpu_millis: u64,
    /// Memory, MiB.
    pub memory_mib: u64,
}

/// What a worker has for tasks; absent: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors, thousandths.
    pub cpu_millis: Option<u64>,
    /// Memory, MiB.
    pub memory_mib: Option<u64>,
}

/// What a worker says to one group of what tasks of others take there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Grows with everything that the worker's process says of this; an older word does not count.
    pub number: u64,
    /// What is taken.
    pub taken: Needs,
}

impl Needs {
    /// Whether nothing is needed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis), memory_mib: self.memory_mib.saturating_add(other.memory_mib) }
    }

    /// What is left of it without the other; 0 of what the other exceeds.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis), memory_mib: self.memory_mib.saturating_sub(other.memory_mib) }
    }

    /// With both within what can be stated: what comes from outside adds up without end.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { cpu_millis: self.cpu_millis.min(CPU_MILLIS_MAX), memory_mib: self.memory_mib.min(MEMORY_MIB_MAX) }
    }

    /// Whether it is less than `before` of anything: whoever counted that finds room now.
    pub fn is_less_somewhere(self, before: Self) -> bool {
        self.cpu_millis < before.cpu_millis || self.memory_mib < before.memory_mib
    }
}

impl Capacity {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// With both within what can be stated.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.map(|cpu| cpu.min(CPU_MILLIS_MAX)),
            memory_mib: self.memory_mib.map(|memory| memory.min(MEMORY_MIB_MAX)),
        }
    }

    /// What is free of it beside what is taken; absent of what is not limited.
    #[must_use]
    pub fn without(self, taken: Needs) -> Self {
        Self {
            cpu_millis: self.cpu_millis.map(|cpu| cpu.saturating_sub(taken.cpu_millis)),
            memory_mib: self.memory_mib.map(|memory| memory.saturating_sub(taken.memory_mib)),
        }
    }

    /// Whether a task has room in it. One that needs nothing always has.
    pub fn fits(self, needs: Needs) -> bool {
        let cpu_fits = needs.cpu_millis == 0 || self.cpu_millis.is_none_or(|cpu| needs.cpu_millis <= cpu);
        cpu_fits && (needs.memory_mib == 0 || self.memory_mib.is_none_or(|memory| needs.memory_mib <= memory))
    }

    /// The greater of the shares that are taken, millionths; 0 where nothing is limited.
    pub fn share_ppm(self, taken: Needs) -> u64 {
        let share = |taken: u64, of: Option<u64>| of.map_or(0, |of| taken.saturating_mul(1_000_000) / of.max(1));
        let cpu = share(taken.cpu_millis, self.cpu_millis);
        cpu.max(share(taken.memory_mib, self.memory_mib))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_fits_and_what_is_not_needed_does_too() {
        let capacity = Capacity { cpu_millis: Some(1_000), memory_mib: None };
        let needs = |cpu_millis, memory_mib| Needs { cpu_millis, memory_mib };
        assert!(capacity.fits(needs(1_000, u64::MAX)) && !capacity.fits(needs(1_001, 0)));
        let full = capacity.without(needs(5_000, 7));
        assert_eq!(full, Capacity { cpu_millis: Some(0), memory_mib: None });
        assert!(full.fits(Needs::default()) && full.fits(needs(0, 1)));
        assert_eq!((capacity.share_ppm(needs(250, 9)), Capacity::default().share_ppm(needs(250, 9))), (250_000, 0));
    }
}
