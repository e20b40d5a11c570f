//! The compiler's hands: threads for as long as one piece of work takes.
//!
//! In: pieces of reading or compiling rules.  Out: nothing; each piece keeps its own result.
//! They run where the compiler runs and at its priority, which they inherit. What comes out does not depend on how many there are.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, available_parallelism, scope};

use distric_rules::Hands;

/// Most threads that work on one catalog: joining what they have found is one thread's work, so more of them gain little.
const THREADS_MAX: usize = 4;

/// As many threads, the one that asks included.
#[derive(Debug)]
pub struct Threads(usize);

impl Threads {
    /// One for each core, up to [`THREADS_MAX`].
    pub fn for_cores() -> Self {
        Self(available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX))
    }
}

impl Hands for Threads {
    fn all(&self, pieces: &mut [&mut (dyn FnMut() + Send)]) {
        let helpers_count = self.0.min(pieces.len()).saturating_sub(1);
        let left = Mutex::new(pieces.iter_mut());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(piece) = next() {
                piece();
            }
        };
        scope(|scope| {
            for n in 1..=helpers_count {
                // Where there is no thread to be had, the others do its share.
                let _ = Builder::new().name(format!("compiler-{n}")).spawn_scoped(scope, work);
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for (threads, count) in [(1, 5), (2, 0), (2, 1), (4, 3), (4, 200)] {
            let mut done = vec![0; count];
            let mut pieces: Vec<_> = done.iter_mut().map(|done| move || *done += 1).collect();
            let mut pieces: Vec<&mut (dyn FnMut() + Send)> = pieces.iter_mut().map(|piece| piece as &mut (dyn FnMut() + Send)).collect();
            Threads(threads).all(&mut pieces);
            drop(pieces);
            assert_eq!(done, vec![1; count], "{threads} threads");
        }
    }
}
