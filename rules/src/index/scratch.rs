//! What one evaluation writes to, kept from message to message so that evaluating allocates nothing once it is warm.
//!
//! One scratch per thread: the catalog is shared read-only, and no two threads write to one place. Marks carry the number of the
//! message, so nothing is cleared between messages, and a scratch may serve several catalogs in turn.

use std::cell::RefCell;

use crate::index::ask::FLAGS_BITS;
use crate::index::cells::Keys;
use crate::index::slots::Seen;
use crate::index::structure::Structure;

/// Bytes that a scratch may keep of one message's texts.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Room for so many leaves may be kept.
const KEPT_LEAVES_MAX: usize = 1 << 15;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Where the tokens of the payload are.
    pub structure: Structure,
    pub seen: Seen,
    pub marks: Marks,
    /// Rows that are made for one message, one after another.
    pub rows: Vec<u64>,
    /// Groups that the leaves of one slot lead to.
    pub reached: Vec<u32>,
    /// Values by which cells are found.
    pub keys: Keys,
    /// Places of the rules that match, ascending.
    pub matched: Vec<u32>,
    /// Those of the upper layer, while the lower one is asked.
    pub upper: Vec<u32>,
    /// One bit for each place, all zero between messages.
    pub places: Vec<u64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends this thread's scratch.
pub(crate) fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => {
            let result = f(&mut scratch);
            scratch.structure.shrink();
            if scratch.seen.own.capacity() > KEPT_BYTES_MAX {
                scratch.seen.own = String::new();
            }
            if scratch.seen.entries.capacity() > KEPT_LEAVES_MAX {
                scratch.seen.entries = Vec::new();
                scratch.reached = Vec::new();
                scratch.keys = Keys::default();
            }
            result
        }
        // A rule is evaluated while another is: nobody does that, and it would still be right.
        Err(_) => f(&mut Scratch::default()),
    })
}

/// Answers and finds of the message at hand. Each mark is the message's number with some bits below it.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    message: u32,
    answers: Vec<u32>,
    literals: Vec<u32>,
    searched: Vec<u32>,
    /// Literals found, in the order of slots.
    pub found: Vec<u32>,
    /// Questions opened, in the order of slots.
    open: Vec<u32>,
    /// By slot with literals, in the order of slots: where its questions end.
    ends: Vec<(u32, u32)>,
}

/// Bits of an answer: whether there is one, and which.
const ANSWER_BITS: u32 = 2;
const KNOWN: u32 = 2;
const BITS_MAX: u32 = if FLAGS_BITS > ANSWER_BITS { FLAGS_BITS } else { ANSWER_BITS };

impl Marks {
    /// Begins the next message.
    pub fn begin(&mut self, asks_count: usize, literals_count: usize, slots_count: usize) {
        if self.message >= u32::MAX >> BITS_MAX {
            *self = Self::default();
        }
        self.message += 1;
        self.found.clear();
        self.open.clear();
        self.ends.clear();
        for (marks, count) in [(&mut self.answers, asks_count), (&mut self.literals, literals_count), (&mut self.searched, slots_count)] {
            if marks.len() < count {
                marks.resize(count, 0);
            }
        }
    }

    /// The answer to a question, when there is one already.
    #[inline]
    pub fn answer(&self, ask: u32) -> Option<bool> {
        let mark = self.answers[ask as usize];
        (mark >> ANSWER_BITS == self.message && mark & KNOWN != 0).then_some(mark & 1 == 1)
    }

    /// Remembers an answer.
    #[inline]
    pub fn set_answer(&mut self, ask: u32, holds: bool) {
        self.answers[ask as usize] = self.message << ANSWER_BITS | KNOWN | u32::from(holds);
    }

    /// Whether the slot was not searched yet for this message; from now on it is.
    #[inline]
    pub fn begin_search(&mut self, slot: u32) -> bool {
        std::mem::replace(&mut self.searched[slot as usize], self.message) != self.message
    }

    /// Opens a question, with its answer when that is known.
    pub fn open(&mut self, ask: u32, answer: Option<bool>) {
        self.answers[ask as usize] = self.message << ANSWER_BITS | answer.map_or(0, |holds| KNOWN | u32::from(holds));
        self.open.push(ask);
    }

    /// All questions of a slot are opened that will be.
    pub fn close_slot(&mut self, slot: u32) {
        self.ends.push((slot, self.open.len() as u32));
    }

    /// The open questions of a slot, each once.
    pub fn open_of(&self, slot: u32) -> &[u32] {
        let Some(at) = self.ends.iter().position(|(of, _)| *of == slot) else { return &[] };
        let from = if at == 0 { 0 } else { self.ends[at - 1].1 };
        &self.open[from as usize..self.ends[at].1 as usize]
    }

    /// Notes a literal, and how it was found.
    #[inline]
    pub fn mark_found(&mut self, literal: u32, flags: u32) {
        let mark = &mut self.literals[literal as usize];
        if *mark >> FLAGS_BITS == self.message {
            *mark |= flags;
        } else {
            *mark = self.message << FLAGS_BITS | flags;
            self.found.push(literal);
        }
    }

    /// How a literal was found.
    #[inline]
    pub fn flags(&self, literal: u32) -> u32 {
        self.literals[literal as usize] & ((1 << FLAGS_BITS) - 1)
    }

    /// Whether the literal is in some text of its slot.
    #[inline]
    pub fn is_found(&self, literal: u32) -> bool {
        self.literals[literal as usize] >> FLAGS_BITS == self.message
    }
}
