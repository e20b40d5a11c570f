//! The core plan: which role runs where. Printed at start-up and by `distric tune plan`.

use std::fmt;

use serde::Serialize;

use crate::config::{Config, Shards};

/// Most shards that `auto` makes.
const SHARDS_AUTO_MAX: usize = 4;
/// Up to so many cores the shards share with everything else, and one shard keeps a request on one core.
const SMALL_MACHINE_CORES: usize = 2;

/// Which role runs on which core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Cores this process may use.
    pub cores: Vec<usize>,
    /// The core of each shard.
    pub shards: Vec<usize>,
    /// Whether shards are pinned.
    pub pinned: bool,
    /// Where raft core, log writer, compiler and housekeeping run: wherever the kernel puts them among these.
    pub shared: Vec<usize>,
}

impl Plan {
    /// Plans for a configuration on the cores given (at least one).
    pub fn new(config: &Config, cores: &[usize]) -> Self {
        let cores = if cores.is_empty() { vec![0] } else { cores.to_vec() };
        let shard_count = match config.shards {
            Shards::Exactly(count) => usize::from(count),
            Shards::Auto if cores.len() <= SMALL_MACHINE_CORES => 1,
            // Two cores stay for raft core, log writer and the edge.
            Shards::Auto => (cores.len() - 2).clamp(1, SHARDS_AUTO_MAX),
        };
        // From the last core down: the first ones get most of the interrupts.
        let shards: Vec<usize> = (0..shard_count).map(|n| cores[cores.len() - 1 - n % cores.len()]).collect();
        let free: Vec<usize> = cores.iter().copied().filter(|core| !shards.contains(core)).collect();
        let shared = if free.is_empty() { cores.clone() } else { free };
        let pinned = config.cpu.pin && cores.len() > 1;
        Self { cores, shards, pinned, shared }
    }

    /// Plans for this machine.
    pub fn for_this_machine(config: &Config) -> Self {
        let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        Self::new(config, &cores)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pinned = if self.pinned { "pinned" } else { "not pinned" };
        for (shard, core) in self.shards.iter().enumerate() {
            writeln!(f, "  shard {shard}          core {core} ({pinned})")?;
        }
        for role in ["raft core", "log writer", "compiler", "housekeeping"] {
            let cores: Vec<String> = self.shared.iter().map(ToString::to_string).collect();
            writeln!(f, "  {role:<16} core {}", cores.join(" or "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_shares_and_a_large_one_does_not() {
        let config = crate::config::load(&crate::config::Sources::default()).expect("defaults are valid").config;
        let small = Plan::new(&config, &[0, 1]);
        assert_eq!((small.shards.clone(), small.shared.clone()), (vec![1], vec![0]));
        let large = Plan::new(&config, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((large.shards.clone(), large.shared.clone()), (vec![7, 6, 5, 4], vec![0, 1, 2, 3]));
        assert_eq!(Plan::new(&config, &[]).shards, vec![0], "no answer from the kernel still runs");
        assert!(small.to_string().contains("shard 0"));
    }
}
