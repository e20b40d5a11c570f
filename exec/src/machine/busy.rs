//! Busy computers: what gossip tells of the computer under a worker, as far as placement counts it.
//!
//! Samples change all the time and differ from node to node; the log carries a level of three, rarely, and only while it lasts. A level
//! counts like credit in use (or like processors and memory in use, when more of these is): of two workers with equal shares of it the one on the quieter computer gets the next task, and a worker
//! with a quarter more in use than another gets it all the same when the other's computer is [`BUSY_LEVEL_MAX`] levels busier.
//! Invariant: a level never keeps a task waiting; a worker with free credit on the busiest computer is still free.

use distric_model::WorkerId;
use serde::{Deserialize, Serialize};

use super::workers::{Worker, Workers};

/// The busiest level.
pub const BUSY_LEVEL_MAX: u8 = 2;
/// What one level weighs beside the share of the credit in use, in millionths.
const LEVEL_PPM: u64 = 125_000;
/// From which share on, of the processors or of the memory, thousandths, a computer is busy, and very busy.
const BUSY_PERMILLE: [u16; BUSY_LEVEL_MAX as usize] = [850, 950];

/// How busy the computer under a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLoad {
    /// The worker.
    pub worker: WorkerId,
    /// Its generation; another one's is ignored.
    pub generation: u64,
    /// [`busy_level`]; what is greater counts as [`BUSY_LEVEL_MAX`].
    pub level: u8,
}

/// The level of a sample: 0 below 85 % of processors and memory, 1 from there on, 2 from 95 % of either.
pub fn busy_level(cpu_permille: u16, memory_permille: u16) -> u8 {
    let share = cpu_permille.max(memory_permille);
    BUSY_PERMILLE.iter().filter(|from| share >= **from).count() as u8
}

impl Worker {
    /// What places compare, millionths: the greatest of the shares in use, of the credit and of what the worker limits, and the level of
    /// the computer.
    pub fn weight_ppm(&self) -> u64 {
        let credit = u64::from(self.in_use) * 1_000_000 / u64::from(self.granted.max(1));
        credit.max(self.capacity.share_ppm(self.held.plus(self.elsewhere.taken))) + u64::from(self.busy) * LEVEL_PPM
    }
}

impl Workers {
    /// Notes the level of a worker's computer. `false`: that generation is not up, or nothing changed.
    pub fn set_busy(&mut self, load: WorkerLoad) -> bool {
        let Some(known) = self.get_mut(load.worker) else { return false };
        let level = load.level.min(BUSY_LEVEL_MAX);
        if !known.is_up || known.generation != load.generation || known.busy == level {
            return false;
        }
        known.busy = level;
        self.reindex(load.worker);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busier_of_processors_and_memory_counts() {
        assert_eq!([busy_level(0, 0), busy_level(849, 849), busy_level(850, 0), busy_level(0, 949), busy_level(300, 950)], [0, 0, 1, 1, 2]);
        assert_eq!(busy_level(u16::MAX, 0), BUSY_LEVEL_MAX);
    }
}
