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
//! Invariant: the index says what direct evaluation (`compile::Test`) says. Every step before the code may let too many through, and
//! none too few; what a step decides exactly is left out of the code.
//! Sources: access predicates, Fabret and others 2001; bit sets of what may still match, Qian and others 2014 (REIN).

mod ask;
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
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use self::ask::{Ask, Opening, Searches};
use self::cells::{Cells, Entry, Field};
use self::code::{ACCEPT, Code, REJECT, Run, Words};
use self::columns::{BYTES_PER_CONDITION_MAX, COLUMNS_MAX, Column, Parts, kind_of};
pub(crate) use self::draft::ALTERNATIVES_MAX;
use self::draft::{Draft, Estimates, Paired, alternatives, is_openable, keys_of};
use self::lower::{Atom, Condition, Lowering};
use self::scratch::Scratch;
use self::slots::{Content, END, Slots, Texts};
use self::values::{UNKNOWN, Values};
use crate::compile::Test;
use crate::decision::Envelope;
use crate::path::Path;
use crate::predicate::Leaf;

/// In a smaller group every candidate runs its code: sixteen cost less than a word of each column.
const GROUP_COLUMNS_MIN: usize = 16;

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
    /// Builds the index over these rules; a rule's place is its position.
    pub fn build(rules: &[&Test], paths: &[Path]) -> Self {
        let slots = Slots::new(paths);
        let slots_count = paths.len();
        let mut lowering = Lowering::new(slots_count);
        let mut drafts: Vec<Draft> = Vec::with_capacity(rules.len());
        for (test, place) in rules.iter().zip(0..) {
            let found = alternatives(lowering.condition(test));
            drafts.extend(found.into_iter().map(|conjuncts| Draft { place, conjuncts, access: None }));
        }
        let Lowering { values, asks, literals, .. } = lowering;
        let literals_by_slot: Vec<usize> = (0..slots_count as u32).map(|slot| literals.count(slot)).collect();
        let mut index = Self { slots, values, asks, looks_up: vec![false; slots_count], rules_count: rules.len(), ..Self::default() };
        index.searches = match Searches::build(literals, &index.asks, slots_count) {
            Some(searches) => searches,
            None => unreachable!("rules are bounded in bytes far below what an automaton can number"),
        };
        for (slot, looks_up) in index.looks_up.iter_mut().enumerate() {
            *looks_up = index.values[slot].len() > 0;
        }
        index.event_type = paths.iter().position(|path| *path == Path::EventType || is_event_type(path)).map(|slot| slot as u32);
        // Taken out, since estimates read them while the index is written.
        let (values, asks) = (std::mem::take(&mut index.values), std::mem::take(&mut index.asks));
        let words = Words { values: &values, asks: &asks };
        let estimates = Estimates::new(words, literals_by_slot, &drafts);
        let (paired, rest) = estimates.choose(drafts);
        for ((first, second), list) in paired {
            index.place_pairs(first, second, list, words);
        }
        index.place(rest, words, &estimates);
        let opened: Vec<u32> = index.columns.iter().filter_map(Column::opened_slot).chain(index.cells.opened_slots()).collect();
        opened.into_iter().for_each(|slot| index.searches.open_early(slot));
        index.values = values;
        index.asks = asks;
        index
    }

    /// Puts drafts into the cells of a table.
    fn place_pairs(&mut self, first: Field, second: Field, list: Vec<Paired>, words: Words<'_>) {
        let mut ranges: BTreeMap<u32, usize> = BTreeMap::new();
        for condition in list.iter().flat_map(|paired| &paired.draft.conjuncts) {
            if let Condition::Atom(slot, Atom::Within(..)) = condition {
                *ranges.entry(*slot).or_default() += 1;
            }
        }
        let number = ranges.into_iter().max_by_key(|(slot, count)| (*count, std::cmp::Reverse(*slot))).map_or(0, |(slot, _)| slot);
        let mut entries = Vec::new();
        for Paired { draft, first, second } in &list {
            let mut range = None;
            let mut decided: Vec<&Condition> = Vec::new();
            for at in [*first, *second] {
                let condition = &draft.conjuncts[at];
                if !is_openable(condition, words) || decides_by_opening(condition, words) {
                    decided.push(condition);
                }
            }
            for condition in &draft.conjuncts {
                if let Condition::Atom(slot, Atom::Within(low, high)) = condition
                    && *slot == number
                    && range.is_none()
                {
                    range = Some((*low, *high));
                    decided.push(condition);
                }
            }
            let candidate = Candidate { start: self.add_code(draft, &decided, words), place: draft.place };
            for first in keys_of(&draft.conjuncts[*first]) {
                for second in keys_of(&draft.conjuncts[*second]) {
                    entries.push(Entry { keys: (*first, *second), range, candidate });
                }
            }
        }
        self.cells.add_table(first, second, number, entries);
    }

    /// Sorts drafts into groups, gives positions to those of larger ones, and builds columns and code.
    fn place(&mut self, mut drafts: Vec<Draft>, words: Words<'_>, estimates: &Estimates<'_>) {
        drafts.sort_by_key(|draft| (draft.access.is_none(), draft.access, draft.place));
        let mut wide: Vec<(usize, &Draft)> = Vec::new();
        let mut from = 0;
        for group in drafts.chunk_by(|a, b| a.access == b.access) {
            let access = group[0].access;
            let made = if access.is_some() && group.len() < GROUP_COLUMNS_MIN {
                let from = self.direct.len();
                for draft in group {
                    let start = self.add_code(draft, &[], words);
                    self.direct.push(Candidate { start, place: draft.place });
                }
                Group::Direct { from, to: self.direct.len() }
            } else {
                wide.extend(group.iter().enumerate().map(|(i, draft)| (from * 64 + i, draft)));
                let to = from + group.len().div_ceil(64);
                let made = Group::Words { from, to, columns: Vec::new() };
                from = to;
                made
            };
            match access {
                None => self.always = Some(made),
                Some((slot, value)) => self.add_group(slot, value, made, words),
            }
        }
        let words_count = from;
        self.taken = vec![0; words_count];
        self.candidates = vec![Candidate::default(); words_count * 64];
        let parts = parts_of(&wide, words, estimates);
        for ((kind, slot), list) in &parts {
            let column = self.columns.len() as u8;
            self.columns.push(Column::build(*kind, *slot, list, &words.values[*slot as usize], words_count));
            for group in self.groups.iter_mut().chain(&mut self.always) {
                if let Group::Words { from, to, columns } = group
                    && list.get(list.partition_point(|(at, _)| *at < *from * 64)).is_some_and(|(at, _)| *at < *to * 64)
                {
                    columns.push(column);
                }
            }
        }
        // What a column decides exactly, the code does not ask again.
        let mut decided: BTreeMap<usize, Vec<&Condition>> = BTreeMap::new();
        for (column, list) in self.columns.iter().zip(parts.values()) {
            for (at, condition) in list.iter().filter(|(_, condition)| column.decides(condition, words.asks)) {
                decided.entry(*at).or_default().push(condition);
            }
        }
        for (at, draft) in wide {
            let start = self.add_code(draft, decided.get(&at).map_or(&[], Vec::as_slice), words);
            self.candidates[at] = Candidate { start, place: draft.place };
            self.taken[at / 64] |= 1 << (at % 64);
        }
    }

    fn add_code(&mut self, draft: &Draft, decided: &[&Condition], words: Words<'_>) -> u32 {
        let rest = draft.conjuncts.iter().rev().filter(|condition| !decided.iter().any(|decided| std::ptr::eq(*decided, *condition)));
        rest.fold(ACCEPT, |next, condition| self.code.add(condition, words, next, REJECT))
    }

    fn add_group(&mut self, slot: u32, value: u32, group: Group, words: Words<'_>) {
        let at = self.access.iter().position(|(s, _)| *s == slot).unwrap_or_else(|| {
            self.access.push((slot, vec![UNKNOWN; words.values[slot as usize].len()]));
            self.access.len() - 1
        });
        self.access[at].1[value as usize] = self.groups.len() as u32;
        self.groups.push(group);
    }

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

fn is_event_type(path: &Path) -> bool {
    matches!(path, Path::Payload(segments) if matches!(segments.as_slice(), [only] if only == "event_type"))
}

/// Whether the answer is known as soon as the question is open.
fn decides_by_opening(condition: &Condition, words: Words<'_>) -> bool {
    matches!(condition, Condition::Atom(_, Atom::Ask(ask)) if words.asks[*ask as usize].opening() == Opening::Answer)
}

/// The conjuncts that columns can take: of each candidate one for a column of leaves, and all for a column of `Every`.
fn parts_of<'d>(wide: &[(usize, &'d Draft)], words: Words<'_>, estimates: &Estimates<'_>) -> Parts<'d> {
    let mut parts = Parts::new();
    let mut gained: BTreeMap<u32, f64> = BTreeMap::new();
    for (at, draft) in wide {
        for condition in &draft.conjuncts {
            let gain = if is_openable(condition, words) { estimates.gain_of_posting(draft, condition) } else { 0.0 };
            let open = match condition {
                Condition::Atom(slot, _) if gain > 0.0 => Some((columns::Kind::Open, *slot)),
                _ => None,
            };
            if let Some((kind, slot)) = open.or_else(|| kind_of(condition, words.values)) {
                let list = parts.entry((kind, slot)).or_default();
                if kind == columns::Kind::Every || list.last().is_none_or(|(last, _)| last != at) {
                    list.push((*at, condition));
                    if kind == columns::Kind::Open {
                        *gained.entry(slot).or_default() += gain;
                    }
                }
            }
        }
    }
    let words_count = wide.last().map_or(0, |(at, _)| at / 64 + 1);
    parts.retain(|(kind, slot), list| {
        if *kind == columns::Kind::Open && gained.get(slot).is_none_or(|gain| *gain < estimates.opening_ns(*slot)) {
            return false;
        }
        let bytes = Column::rows_count(*kind, &words.values[*slot as usize]) * words_count * 8;
        bytes <= BYTES_PER_CONDITION_MAX * list.len().max(GROUP_COLUMNS_MIN)
    });
    let mut by_use: Vec<((columns::Kind, u32), usize)> = parts.iter().map(|(key, list)| (*key, list.len())).collect();
    by_use.sort_by_key(|(key, uses)| (std::cmp::Reverse(*uses), *key));
    for (key, _) in by_use.into_iter().skip(COLUMNS_MAX) {
        parts.remove(&key);
    }
    parts
}
