//! What one evaluation writes to, kept from message to message so that evaluating allocates nothing once it is warm.
//!
//! One scratch per thread: the catalog is shared read-only, and no two threads write to one place. Marks carry the number of the
//! message, so nothing is cleared between messages, and a scratch may serve several catalogs in turn.

use std::cell::RefCell;

use crate::index::slots::Seen;

/// Bytes that a scratch may keep of one message's texts.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Room for so many leaves may be kept.
const KEPT_LEAVES_MAX: usize = 1 << 15;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub seen: Seen,
    pub marks: Marks,
    /// Rows that are made for one message, one after another.
    pub rows: Vec<u64>,
    /// Groups that the leaves of one slot lead to.
    pub reached: Vec<u32>,
    /// Places of the rules that match, ascending.
    pub matched: Vec<u32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends this thread's scratch.
pub(crate) fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => {
            let result = f(&mut scratch);
            if scratch.seen.own.capacity() > KEPT_BYTES_MAX {
                scratch.seen.own = String::new();
            }
            if scratch.seen.entries.capacity() > KEPT_LEAVES_MAX {
                scratch.seen.entries = Vec::new();
                scratch.reached = Vec::new();
            }
            result
        }
        // A rule is evaluated while another is: nobody does that, and it would still be right.
        Err(_) => f(&mut Scratch::default()),
    })
}

/// Answers and finds of the message at hand. Each mark is twice the message's number, plus one bit.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    message: u32,
    answers: Vec<u32>,
    literals: Vec<u32>,
    searched: Vec<u32>,
}

impl Marks {
    /// Begins the next message.
    pub fn begin(&mut self, asks_count: usize, literals_count: usize, slots_count: usize) {
        if self.message >= u32::MAX >> 1 {
            *self = Self::default();
        }
        self.message += 1;
        for (marks, count) in [(&mut self.answers, asks_count), (&mut self.literals, literals_count), (&mut self.searched, slots_count)] {
            if marks.len() < count {
                marks.resize(count, 0);
            }
        }
    }

    /// The answer to a question, when it was asked already.
    #[inline]
    pub fn answer(&self, ask: u32) -> Option<bool> {
        let mark = self.answers[ask as usize];
        (mark >> 1 == self.message).then_some(mark & 1 == 1)
    }

    /// Remembers an answer.
    #[inline]
    pub fn set_answer(&mut self, ask: u32, holds: bool) {
        self.answers[ask as usize] = self.message << 1 | u32::from(holds);
    }

    /// Whether the slot was not searched yet for this message; from now on it is.
    pub fn begin_search(&mut self, slot: u32) -> bool {
        std::mem::replace(&mut self.searched[slot as usize], self.message) != self.message
    }

    /// Notes a literal; direct finds are noted before others.
    #[inline]
    pub fn mark_found(&mut self, literal: u32, direct: bool) {
        let mark = &mut self.literals[literal as usize];
        if *mark >> 1 != self.message {
            *mark = self.message << 1 | u32::from(direct);
        }
    }

    /// Whether the literal is in some text of its slot.
    #[inline]
    pub fn found(&self, literal: u32) -> bool {
        self.literals[literal as usize] >> 1 == self.message
    }

    /// Whether the literal is in a text that is itself at the path.
    #[inline]
    pub fn found_direct(&self, literal: u32) -> bool {
        self.literals[literal as usize] == (self.message << 1 | 1)
    }
}
