//! Two pairs of hands: this thread, and another one wherever the system has room.

use distric_rules::Hands;

/// Cores that the other thread may run on.
const CORES: usize = 64;

/// Every second piece is the other thread's.
#[derive(Debug)]
pub struct Two;

impl Hands for Two {
    fn all(&self, pieces: &mut [&mut (dyn FnMut() + Send)]) {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (i, piece) in pieces.iter_mut().enumerate() {
            if i % 2 == 0 { own.push(piece) } else { others.push(piece) }
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // This thread is pinned, and the other one would be where it is.
                let mut cores = rustix::thread::CpuSet::new();
                (0..CORES).for_each(|core| cores.set(core));
                let _ = rustix::thread::sched_setaffinity(None, &cores);
                others.into_iter().for_each(|piece| piece());
            });
            own.into_iter().for_each(|piece| piece());
        });
    }
}
