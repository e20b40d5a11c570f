//! Layers: a program that differs little from another one answers through that one's index, with one of its own for what is new.
//!
//! In: a message, and a program with or without another one under it.  Out: places of matching rules, the same as of one index over all.
//! To build an index costs as much as there are rules; so a changed rule is put into a small one of its own, and the one of all rules goes
//! on as it is: what it finds of rules that are gone is passed over, and the rest stands at other places now. The message is read once for
//! each layer, its tokens are found once. That costs every message something, so it is for the time until all rules are in one index again
//! ([`Catalog::is_layered`](crate::Catalog::is_layered)).
//! Invariant: at most two layers. Source: the memory component of a log-structured merge tree, O'Neil and others 1996.

use std::sync::Arc;

use crate::compile::Program;
use crate::decision::Envelope;
use crate::index::scratch::Scratch;
use crate::index::{Index, Payload};

/// Most rules that are new, and most that are gone, for a program to be laid over another one.
pub const CHANGED_MAX: usize = 256;
/// And at most one in so many of them: else the program below does little of the work.
pub(crate) const CHANGED_SHARE: usize = 4;
/// The place of a rule that is not there.
pub(crate) const GONE: u32 = u32::MAX;

/// The lower layer.
#[derive(Debug)]
pub(crate) struct Under {
    pub program: Arc<Program>,
    /// By its places: the places here, or [`GONE`].
    pub places: Vec<u32>,
    /// By places of the upper layer's index: the places here.
    pub own_places: Vec<u32>,
}

impl Program {
    /// Finds all rules whose condition holds for a message: `scratch.matched`, ascending; with `COUNTED` as in [`Index::find`]. Returns the
    /// text into which what was seen points. `None`: the full reader must decide.
    pub fn find<'p, const COUNTED: bool>(
        &self,
        scratch: &mut Scratch,
        envelope: &Envelope<'_>,
        timestamp: Option<&str>,
        payload: Payload<'p>,
        work_ns: &mut [u64],
    ) -> Option<&'p str> {
        if let Payload::Text(text) = payload {
            scratch.structure.find(text).ok()?;
        }
        let Some(under) = &self.under else {
            let text = self.index.read(scratch, envelope, timestamp, payload)?;
            self.index.find::<COUNTED>(scratch, text, work_ns);
            return Some(text);
        };
        let text = self.index.read(scratch, envelope, timestamp, payload)?;
        find_at::<COUNTED>(&self.index, scratch, text, &under.own_places, work_ns);
        // The lower layer is read last, for the sake of its texts, which decisions share.
        std::mem::swap(&mut scratch.matched, &mut scratch.upper);
        let lower = &under.program.index;
        let text = lower.read(scratch, envelope, timestamp, payload)?;
        find_at::<COUNTED>(lower, scratch, text, &under.places, work_ns);
        let Scratch { matched, upper, .. } = scratch;
        matched.append(upper);
        matched.sort_unstable();
        Some(text)
    }

    /// The index by which a message was read last.
    pub fn lowest(&self) -> &Index {
        self.under.as_ref().map_or(&self.index, |under| &under.program.index)
    }
}

/// Finds rules of one layer, under the places that they have here.
fn find_at<const COUNTED: bool>(index: &Index, scratch: &mut Scratch, text: &str, places: &[u32], work_ns: &mut [u64]) {
    let mut own_ns = if COUNTED { vec![0; places.len()] } else { Vec::new() };
    index.find::<COUNTED>(scratch, text, &mut own_ns);
    for (ns, place) in own_ns.iter().zip(places) {
        if let Some(sum) = work_ns.get_mut(*place as usize) {
            *sum += ns;
        }
    }
    scratch.matched.retain_mut(|place| {
        *place = places[*place as usize];
        *place != GONE
    });
}

#[cfg(test)]
mod tests;
