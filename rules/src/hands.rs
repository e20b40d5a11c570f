//! Hands: whoever does the pieces of a large piece of work. This room says which pieces there are, the rim says on which threads.
//!
//! In: pieces that do not depend on each other.  Out: their results, in the order of the pieces.
//! Invariant: how work is cut follows from its size alone, and results are joined in order: what comes out does not depend on the hands.

use std::fmt;

/// Does pieces of work.
pub trait Hands: fmt::Debug {
    /// Does every piece once, in any order and also at the same time, and returns when all are done.
    fn all(&self, pieces: &mut [&mut (dyn FnMut() + Send)]);
}

/// One pair of hands: one piece after the other, on the thread that asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Hands for Alone {
    fn all(&self, pieces: &mut [&mut (dyn FnMut() + Send)]) {
        pieces.iter_mut().for_each(|piece| piece());
    }
}

/// Has each part worked on; results in the order of the parts.
pub(crate) fn each<T: Send, R: Send>(hands: &dyn Hands, parts: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut places: Vec<(Option<T>, Option<R>)> = parts.into_iter().map(|part| (Some(part), None)).collect();
    let work = &work;
    let mut pieces: Vec<_> = places.iter_mut().map(|(part, done)| move || *done = part.take().map(work)).collect();
    let mut pieces: Vec<&mut (dyn FnMut() + Send)> = pieces.iter_mut().map(|piece| piece as &mut (dyn FnMut() + Send)).collect();
    match pieces.as_mut_slice() {
        [only] => only(),
        several => hands.all(several),
    }
    drop(pieces);
    places.into_iter().map(|(_, done)| done.expect("hands do every piece")).collect()
}

/// Cuts items into parts of at most `size`, all of about the same.
pub(crate) fn parts<T>(items: &[T], size: usize) -> Vec<&[T]> {
    let parts_count = items.len().div_ceil(size).max(1);
    items.chunks(items.len().div_ceil(parts_count).max(1)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Does the last piece first, on as many threads.
    #[derive(Debug)]
    pub(crate) struct Backwards(pub usize);

    impl Hands for Backwards {
        fn all(&self, pieces: &mut [&mut (dyn FnMut() + Send)]) {
            let size = pieces.len().div_ceil(self.0).max(1);
            std::thread::scope(|scope| {
                for of_one in pieces.chunks_mut(size).rev() {
                    scope.spawn(|| of_one.iter_mut().rev().for_each(|piece| piece()));
                }
            });
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_parts_whoever_works() {
        for count in [0, 1, 2, 7, 64, 65, 1_000] {
            let items: Vec<usize> = (0..count).collect();
            let cut = parts(&items, 64);
            assert_eq!(cut.concat(), items);
            assert!(cut.iter().all(|part| part.len() <= 64) && cut.len() == count.div_ceil(64));
            let sums: Vec<usize> = cut.iter().map(|part| part.iter().sum()).collect();
            for hands in [&Alone as &dyn Hands, &Backwards(1), &Backwards(2), &Backwards(4)] {
                assert_eq!(each(hands, cut.clone(), |part: &[usize]| part.iter().sum::<usize>()), sums);
            }
        }
    }
}
