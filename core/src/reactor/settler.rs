//! The settler: a thread for as long as it takes to build rules in one piece that were compiled in layers.
//!
//! In: a rule set.  Out: its catalog, and a ring at the compiler's doorbell.
//! May touch: `rules`.  Never: lanes, sockets, files.
//! It runs where nobody else wants to: a layered catalog decides the same, only more slowly. At most one at a time.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::Builder;

use distric_lane::Bell;
use distric_model::Namespace;
use distric_rules::{Catalog, RuleSet};

use super::priority_unsafe;

/// Whoever builds at the moment. A node that stops does not wait for it: nobody has any use for what it builds then.
pub struct Settler {
    bell: Bell,
    running: Option<(Namespace, Receiver<Option<Catalog>>)>,
}

impl Settler {
    /// Nobody. `bell` wakes the compiler.
    pub fn new(bell: Bell) -> Self {
        Self { bell, running: None }
    }

    /// Builds these rules, when nothing is being built and `wanted` has some.
    pub fn start(&mut self, wanted: impl FnOnce() -> Option<(Namespace, RuleSet)>) {
        if self.running.is_some() {
            return;
        }
        let Some((namespace, set)) = wanted() else { return };
        let Ok(bell) = self.bell.try_clone() else { return };
        let (tell, told) = sync_channel(1);
        let build = move || {
            // Where the kernel refuses, it is the same work at a normal priority.
            let _ = priority_unsafe::request_idle();
            // The version is given when it is used. What was compiled in layers compiles.
            if tell.send(Catalog::compile(0, &set).ok()).is_ok() {
                bell.ring();
            }
        };
        // Without a thread the layers stay, until the compiler is woken the next time.
        self.running = Builder::new().name("settler".to_owned()).spawn(build).ok().map(|_| (namespace, told));
    }

    /// What was built, once.
    pub fn finished(&mut self) -> Option<(Namespace, Catalog)> {
        let built = match self.running.as_ref()?.1.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
            Ok(built) => built,
        };
        let (namespace, _) = self.running.take()?;
        built.map(|built| (namespace, built))
    }
}
