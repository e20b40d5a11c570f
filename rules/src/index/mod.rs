//! The compiled index: which rules match the message as it was sent, at a cost that follows the matches and not the rules.
//!
//! In: the program's conditions; then messages.  Out: places of matching rules.
//! May touch: nothing but the thread's scratch.
//!
//! One message goes four steps. It is read once into slots ([`structure`], [`scan`], [`slots`]). Each slot's leaves are looked up in the dictionary of the
//! values that rules name ([`values`]), and the literals that rules look for are found in its texts ([`ask`]). Every alternative of a rule
//! is a candidate of its own ([`draft`]); by what it is found is chosen by cost: by two conditions at once ([`cells`]), or by one equality,
//! which leads to its group; in a group of some size, and among the rules without an equality, bit sets leave the few that may match
//! ([`columns`]). For those the rest of the condition runs as flat code ([`code`]), which asks each question about a text once.
//!
//! How it is built is in [`build`].
//!
//! Invariant: the index says what direct evaluation (`compile::Test`) says. Every step before the code may let too many through, and
//! none too few; what a step decides exactly is left out of the code.
//! Sources: access predicates, Fabret and others 2001; bit sets of what may still match, Qian and others 2014 (REIN).

mod ask;
mod build;
mod cells;
mod code;
mod columns;
mod draft;
#[cfg(target_arch = "x86_64")]
mod lanes_unsafe;
mod lower;
mod networks;
mod packed;
mod scan;
pub(crate) mod scratch;
mod slots;
mod structure;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod values;

use std::sync::Arc;

use serde_json::Value;

use self::ask::{Ask, Searches};
use self::cells::Cells;
use self::code::{Code, Run};
use self::columns::{COLUMNS_MAX, Column};
pub(crate) use self::draft::ALTERNATIVES_MAX;
use self::scratch::Scratch;
use self::slots::{Content, END, Slots, Texts};
use self::values::{UNKNOWN, Values};
use crate::decision::Envelope;
use crate::predicate::Leaf;

/// Places are sorted by comparisons when there is less than one for so many words of a bit set of all places.
const SORTED_PLACES_PER_WORD: usize = 8;

/// The index of one program.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: Slots,
    /// By slot.
    values: Vec<Values>,
    /// By slot: whether its leaves are looked up.
    looks_up: Vec<bool>,
    asks: Vec<Ask>,
    searches: Searches,
    code: Code,
    columns: Vec<Column>,
    /// Which positions hold a candidate.
    taken: Vec<u64>,
    /// By position.
    candidates: Vec<Candidate>,
    /// Candidates of small groups.
    direct: Vec<Candidate>,
    groups: Vec<Group>,
    /// Candidates that are found by two conditions.
    cells: Cells,
    /// Slots whose values lead to groups, and the group of each value number.
    access: Vec<(u32, Vec<u32>)>,
    /// The group of all others.
    always: Option<Group>,
    rules_count: usize,
    /// The slot of `event_type`, when rules compare it; its texts are shared with decisions.
    event_type: Option<u32>,
}

/// A rule, or one alternative of it, with the code that is left to run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Candidate {
    start: u32,
    place: u32,
}

/// A payload as it can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'p> {
    /// JSON text, whose tokens are in the scratch.
    Text(&'p str),
    /// MessagePack.
    Packed(&'p [u8]),
    /// Parsed already.
    Value(&'p Value),
}

/// Candidates that are reached together.
#[derive(Clone, Debug)]
enum Group {
    /// Words of positions, and the columns in which one of them has a condition.
    Words { from: usize, to: usize, columns: Vec<u8> },
    /// A part of `direct`.
    Direct { from: usize, to: usize },
}

impl Index {
    /// Reads a payload into slots. Texts of MessagePack that rules look at are copied, so that what is left to look into is empty.
    /// `None`: the full reader must decide, and this was for nothing; never for a payload that is parsed.
    pub fn read<'p>(
        &self,
        scratch: &mut Scratch,
        envelope: &Envelope<'_>,
        timestamp: Option<&str>,
        payload: Payload<'p>,
    ) -> Option<&'p str> {
        scratch.seen.clear(&self.slots);
        let text = match payload {
            Payload::Text(text) => {
                scan::scan(text, &self.slots.trie, &scratch.structure, &mut scratch.seen).ok()?;
                text
            }
            Payload::Packed(bytes) => {
                packed::scan(bytes, &self.slots.trie, &mut scratch.seen).ok()?;
                ""
            }
            Payload::Value(value) => {
                scan::read_value(value, &self.slots.trie, &mut scratch.seen);
                ""
            }
        };
        self.slots.derive(&mut scratch.seen, envelope, timestamp);
        Some(text)
    }

    /// Finds all rules whose condition holds for the message that was read: `scratch.matched`, ascending. `COUNTED`: what each rule's
    /// candidates cost is added to `work_ns` at its place.
    pub fn find<const COUNTED: bool>(&self, scratch: &mut Scratch, payload: &str, work_ns: &mut [u64]) {
        let Scratch { seen, marks, rows: made, reached, keys, matched, places, .. } = scratch;
        matched.clear();
        made.clear();
        self.look_up(seen, payload);
        let texts = Texts { payload, own: &seen.own };
        marks.begin(self.asks.len(), self.searches.literals_count(), self.searches.slots_count());
        self.searches.open(seen, texts, marks);
        // First the rows that must be made, since they share one buffer.
        let mut rows: [&[u64]; COLUMNS_MAX] = [&[]; COLUMNS_MAX];
        let mut is_made = 0_u64;
        for (i, column) in self.columns.iter().enumerate() {
            match column.row_for(seen, marks, made) {
                Some(row) => rows[i] = row,
                None => is_made |= 1 << i,
            }
        }
        if is_made != 0 {
            for (row, i) in made.chunks_exact(self.taken.len()).zip((0..COLUMNS_MAX).filter(|i| is_made >> i & 1 == 1)) {
                rows[i] = row;
            }
        }
        let mut run = Run { seen, texts, asks: &self.asks, searches: &self.searches, marks, work_ns, asked_ns: 0 };
        for (slot, groups) in &self.access {
            let slot = &seen.slots[*slot as usize];
            if slot.leaves_count <= 1 {
                if let Some(group) = groups.get(slot.value as usize).and_then(|group| self.groups.get(*group as usize)) {
                    self.visit::<COUNTED>(group, &rows, &mut run, matched);
                }
            } else {
                // Each group once, however often its value is in a list.
                reached.clear();
                let mut at = slot.first;
                while at != END {
                    let entry = seen.entries[at as usize];
                    at = entry.next;
                    reached.extend(groups.get(entry.value as usize).filter(|group| **group != UNKNOWN));
                }
                reached.sort_unstable();
                reached.dedup();
                for group in reached.iter() {
                    self.visit::<COUNTED>(&self.groups[*group as usize], &rows, &mut run, matched);
                }
            }
        }
        if let Some(group) = &self.always {
            self.visit::<COUNTED>(group, &rows, &mut run, matched);
        }
        keys.fill(&self.cells, run.seen, run.marks);
        let seen = run.seen;
        self.cells.visit(keys, seen, |candidate| {
            if self.code.accepts::<COUNTED>(candidate, &mut run) {
                matched.push(candidate.place);
            }
        });
        self.put_in_order(matched, places);
    }

    /// Sorts places; a rule that has matched by several alternatives is there once.
    fn put_in_order(&self, matched: &mut Vec<u32>, places: &mut Vec<u64>) {
        let words_count = self.rules_count.div_ceil(64);
        if matched.len() * SORTED_PLACES_PER_WORD < words_count {
            matched.sort_unstable();
            matched.dedup();
            return;
        }
        if places.len() < words_count {
            places.resize(words_count, 0);
        }
        matched.iter().for_each(|place| places[*place as usize / 64] |= 1 << (place % 64));
        matched.clear();
        for (word, bits) in (0..).zip(&mut places[..words_count]) {
            let mut left = std::mem::take(bits);
            while left != 0 {
                matched.push(word * 64 + left.trailing_zeros());
                left &= left - 1;
            }
        }
    }

    fn visit<const COUNTED: bool>(&self, group: &Group, rows: &[&[u64]; COLUMNS_MAX], run: &mut Run<'_>, matched: &mut Vec<u32>) {
        match group {
            Group::Direct { from, to } => {
                let fits = self.direct[*from..*to].iter().filter(|candidate| self.code.accepts::<COUNTED>(**candidate, run));
                matched.extend(fits.map(|candidate| candidate.place));
            }
            Group::Words { from, to, columns } => {
                for (word, taken) in (*from..).zip(&self.taken[*from..*to]) {
                    let mut left = *taken;
                    for column in columns {
                        left &= rows[usize::from(*column)][word];
                        if left == 0 {
                            break;
                        }
                    }
                    while left != 0 {
                        let candidate = &self.candidates[word * 64 + left.trailing_zeros() as usize];
                        left &= left - 1;
                        if self.code.accepts::<COUNTED>(*candidate, run) {
                            matched.push(candidate.place);
                        }
                    }
                }
            }
        }
    }

    /// Numbers the leaves and sums up the slots.
    fn look_up(&self, seen: &mut slots::Seen, payload: &str) {
        let texts = Texts { payload, own: &seen.own };
        for (slot, looks_up) in self.looks_up.iter().enumerate() {
            let values = &self.values[slot];
            let slot = &mut seen.slots[slot];
            let mut at = slot.first;
            let mut is_first = true;
            while at != END {
                let entry = &mut seen.entries[at as usize];
                at = entry.next;
                if let Content::Number(number) = entry.content
                    && slot.number.is_nan()
                {
                    slot.number = number;
                }
                if *looks_up && let Some(leaf) = texts.leaf(entry.content) {
                    entry.value = values.find(leaf);
                    slot.mask |= if entry.value < 64 { 1 << entry.value } else { 0 };
                    if std::mem::take(&mut is_first) {
                        slot.value = entry.value;
                    }
                }
            }
        }
    }

    /// The event type of the message that was read: the envelope's, else the payload's when that is a text.
    pub fn event_type(&self, scratch: &Scratch, envelope: &Envelope<'_>, payload: &str) -> Option<Arc<str>> {
        let seen = &scratch.seen;
        let texts = Texts { payload, own: &seen.own };
        let text = envelope.event_type.or_else(|| self.slots.event_type(seen, texts))?;
        let shared = self.event_type.and_then(|slot| {
            let values = &self.values[slot as usize];
            values.text(values.find(Leaf::Text(text)))
        });
        Some(shared.map_or_else(|| text.into(), Arc::clone))
    }
}
