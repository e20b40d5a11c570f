//! The compiled index: which rules match the message as it was sent, at a cost that follows the matches and not the rules.
//!
//! In: the program's conditions; then messages.  Out: places of matching rules.
//! May touch: nothing but the thread's scratch.
//!
//! One message goes four steps. It is read once into slots ([`scan`], [`slots`]). Each slot's leaves are looked up in the dictionary of the
//! values that rules name ([`values`]). An equality that a rule cannot match without leads to its group; in a group of some size, and
//! among the rules without such an equality, bit sets leave the few that may match ([`columns`]). For those the rest of the
//! condition runs as flat code ([`code`]), which asks each question about a text once ([`ask`]).
//!
//! Invariant: the index says what direct evaluation (`compile::Test`) says. Every step before the code may let too many through, and
//! none too few; what a step decides exactly is left out of the code.
//! Sources: access predicates, Fabret and others 2001; bit sets of what may still match, Qian and others 2014 (REIN).

mod ask;
mod code;
mod columns;
mod lower;
mod scan;
pub(crate) mod scratch;
mod slots;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use self::ask::{Ask, Searches};
use self::code::{ACCEPT, Code, REJECT, Run};
use self::columns::{BYTES_PER_CONDITION_MAX, COLUMNS_MAX, Column, Parts, kind_of};
use self::lower::{Atom, Condition, Lowering};
use self::scratch::Scratch;
use self::slots::{Content, END, Slots, Texts};
use self::values::{UNKNOWN, Values};
use crate::compile::Compiled;
use crate::decision::Envelope;
use crate::path::Path;
use crate::predicate::Leaf;

/// Most alternatives of a rule that become candidates of their own.
const ALTERNATIVES_MAX: usize = 8;
/// A field must be compared with so many values for an equality on it to lead to a group.
const ACCESS_VALUES_MIN: usize = 3;
/// In a smaller group every candidate runs its code: sixteen cost less than a word of each column.
const GROUP_COLUMNS_MIN: usize = 16;

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
    /// Slots whose values lead to groups, and the group of each value number.
    access: Vec<(u32, Vec<u32>)>,
    /// The group of all others.
    always: Option<Group>,
    /// The slot of `event_type`, when rules compare it; its texts are shared with decisions.
    event_type: Option<u32>,
}

/// A rule, or one alternative of it, with the code that is left to run.
#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    start: u32,
    place: u32,
}

/// Candidates that are reached together.
#[derive(Clone, Debug)]
enum Group {
    /// Words of positions, and the columns in which one of them has a condition.
    Words { from: usize, to: usize, columns: Vec<u8> },
    /// A part of `direct`.
    Direct { from: usize, to: usize },
}

/// A candidate being built.
struct Draft {
    place: u32,
    conjuncts: Vec<Condition>,
    /// The conjunct that leads to it.
    access: Option<(u32, u32)>,
}

impl Index {
    /// Builds the index over these rules; a rule's place is its position.
    pub fn build(rules: &[Compiled], paths: &[Path]) -> Self {
        let slots = Slots::new(paths);
        let slots_count = paths.len();
        let mut lowering = Lowering::new(slots_count);
        let mut drafts: Vec<Draft> = Vec::with_capacity(rules.len());
        for (compiled, place) in rules.iter().zip(0..) {
            let condition = lowering.condition(&compiled.test);
            let alternatives = match condition {
                Condition::Any(list) if (2..=ALTERNATIVES_MAX).contains(&list.len()) => list,
                other => vec![other],
            };
            drafts.extend(alternatives.into_iter().map(|condition| Draft { place, conjuncts: conjuncts(condition), access: None }));
        }
        let Lowering { values, asks, literals, .. } = lowering;
        let mut index = Self { slots, values, asks, looks_up: vec![false; slots_count], ..Self::default() };
        index.searches = match Searches::build(literals, slots_count) {
            Some(searches) => searches,
            None => unreachable!("rules are bounded in bytes far below what an automaton can number"),
        };
        for (slot, looks_up) in index.looks_up.iter_mut().enumerate() {
            *looks_up = index.values[slot].len() > 0;
        }
        index.event_type = paths.iter().position(|path| *path == Path::EventType || is_event_type(path)).map(|slot| slot as u32);
        index.choose_access(&mut drafts);
        index.place(drafts);
        index
    }

    /// Gives each draft the equality on the field with the most values, when one has enough.
    fn choose_access(&self, drafts: &mut [Draft]) {
        let mut compared: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (slot, value) in drafts.iter().flat_map(|draft| &draft.conjuncts).filter_map(equality) {
            compared.entry(slot).or_default().insert(value);
        }
        for draft in drafts {
            let candidates = draft.conjuncts.iter().filter_map(equality);
            let best = candidates.max_by_key(|(slot, value)| (compared[slot].len(), std::cmp::Reverse((*slot, *value))));
            draft.access = best.filter(|(slot, _)| compared[slot].len() >= ACCESS_VALUES_MIN);
            if let Some(access) = draft.access {
                let at = draft.conjuncts.iter().position(|condition| equality(condition) == Some(access));
                draft.conjuncts.remove(at.expect("it was found among them"));
            }
        }
    }

    /// Sorts drafts into groups, gives positions to those of larger ones, and builds columns and code.
    fn place(&mut self, mut drafts: Vec<Draft>) {
        drafts.sort_by_key(|draft| (draft.access.is_none(), draft.access, draft.place));
        let mut wide: Vec<(usize, &Draft)> = Vec::new();
        let mut from = 0;
        for group in drafts.chunk_by(|a, b| a.access == b.access) {
            let access = group[0].access;
            let made = if access.is_some() && group.len() < GROUP_COLUMNS_MIN {
                let from = self.direct.len();
                for draft in group {
                    let start = self.add_code(draft, &[]);
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
                Some((slot, value)) => self.add_group(slot, value, made),
            }
        }
        let words_count = from;
        self.taken = vec![0; words_count];
        self.candidates = vec![Candidate::default(); words_count * 64];
        let parts = self.parts(&wide);
        for ((kind, slot), list) in &parts {
            let column = self.columns.len() as u8;
            self.columns.push(Column::build(*kind, *slot, list, &self.values[*slot as usize], words_count));
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
            if column.is_exact {
                list.iter().for_each(|(at, condition)| decided.entry(*at).or_default().push(condition));
            }
        }
        for (at, draft) in wide {
            let start = self.add_code(draft, decided.get(&at).map_or(&[], Vec::as_slice));
            self.candidates[at] = Candidate { start, place: draft.place };
            self.taken[at / 64] |= 1 << (at % 64);
        }
    }

    /// The conjuncts that columns can take: of each candidate one for a column of leaves, and all for a column of `Every`.
    fn parts<'d>(&self, wide: &[(usize, &'d Draft)]) -> Parts<'d> {
        let mut parts = Parts::new();
        for (at, draft) in wide {
            for condition in &draft.conjuncts {
                if let Some((kind, slot)) = kind_of(condition, &self.values) {
                    let list = parts.entry((kind, slot)).or_default();
                    if kind == columns::Kind::Every || list.last().is_none_or(|(last, _)| last != at) {
                        list.push((*at, condition));
                    }
                }
            }
        }
        let words_count = wide.last().map_or(0, |(at, _)| at / 64 + 1);
        parts.retain(|(kind, slot), list| {
            let bytes = Column::rows_count(*kind, &self.values[*slot as usize]) * words_count * 8;
            bytes <= BYTES_PER_CONDITION_MAX * list.len().max(GROUP_COLUMNS_MIN)
        });
        let mut by_use: Vec<((columns::Kind, u32), usize)> = parts.iter().map(|(key, list)| (*key, list.len())).collect();
        by_use.sort_by_key(|(key, uses)| (std::cmp::Reverse(*uses), *key));
        for (key, _) in by_use.into_iter().skip(COLUMNS_MAX) {
            parts.remove(&key);
        }
        parts
    }

    fn add_code(&mut self, draft: &Draft, decided: &[&Condition]) -> u32 {
        let rest = draft.conjuncts.iter().rev().filter(|condition| !decided.iter().any(|decided| std::ptr::eq(*decided, *condition)));
        rest.fold(ACCEPT, |next, condition| self.code.add(condition, &self.values, next, REJECT))
    }

    fn add_group(&mut self, slot: u32, value: u32, group: Group) {
        let at = self.access.iter().position(|(s, _)| *s == slot).unwrap_or_else(|| {
            self.access.push((slot, vec![UNKNOWN; self.values[slot as usize].len()]));
            self.access.len() - 1
        });
        self.access[at].1[value as usize] = self.groups.len() as u32;
        self.groups.push(group);
    }

    /// Reads a payload that is JSON text. `None`: the full reader must decide, and this was for nothing.
    pub fn read_text<'p>(
        &self,
        scratch: &mut Scratch,
        envelope: &Envelope<'_>,
        timestamp: Option<&str>,
        payload: &'p [u8],
    ) -> Option<&'p str> {
        let text = std::str::from_utf8(payload).ok()?;
        scratch.seen.clear(&self.slots);
        scan::scan(text, &self.slots.trie, &mut scratch.seen).ok()?;
        self.slots.derive(&mut scratch.seen, envelope, timestamp);
        Some(text)
    }

    /// Reads a payload that is parsed already.
    pub fn read_value(&self, scratch: &mut Scratch, envelope: &Envelope<'_>, timestamp: Option<&str>, payload: &Value) {
        scratch.seen.clear(&self.slots);
        scan::read_value(payload, &self.slots.trie, &mut scratch.seen);
        self.slots.derive(&mut scratch.seen, envelope, timestamp);
    }

    /// Finds all rules whose condition holds for the message that was read: `scratch.matched`, ascending.
    pub fn find(&self, scratch: &mut Scratch, payload: &str) {
        let Scratch { seen, marks, rows: made, reached, matched } = scratch;
        matched.clear();
        made.clear();
        self.look_up(seen, payload);
        marks.begin(self.asks.len(), self.searches.literals_count, self.searches.slots_count());
        // First the rows that must be made, since they share one buffer.
        let mut rows: [&[u64]; COLUMNS_MAX] = [&[]; COLUMNS_MAX];
        let mut is_made = 0_u64;
        for (i, column) in self.columns.iter().enumerate() {
            match column.row_for(seen, made) {
                Some(row) => rows[i] = row,
                None => is_made |= 1 << i,
            }
        }
        if is_made != 0 {
            for (row, i) in made.chunks_exact(self.taken.len()).zip((0..COLUMNS_MAX).filter(|i| is_made >> i & 1 == 1)) {
                rows[i] = row;
            }
        }
        let texts = Texts { payload, own: &seen.own };
        let mut run = Run { seen, texts, asks: &self.asks, searches: &self.searches, marks };
        for (slot, groups) in &self.access {
            let slot = &seen.slots[*slot as usize];
            if slot.leaves_count <= 1 {
                if let Some(group) = groups.get(slot.value as usize).and_then(|group| self.groups.get(*group as usize)) {
                    self.visit(group, &rows, &mut run, matched);
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
                    self.visit(&self.groups[*group as usize], &rows, &mut run, matched);
                }
            }
        }
        if let Some(group) = &self.always {
            self.visit(group, &rows, &mut run, matched);
        }
        matched.sort_unstable();
        // A rule may have matched by several alternatives.
        matched.dedup();
    }

    fn visit(&self, group: &Group, rows: &[&[u64]; COLUMNS_MAX], run: &mut Run<'_>, matched: &mut Vec<u32>) {
        match group {
            Group::Direct { from, to } => {
                let fits = self.direct[*from..*to].iter().filter(|candidate| self.code.run(candidate.start, run));
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
                        if self.code.run(candidate.start, run) {
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

fn conjuncts(condition: Condition) -> Vec<Condition> {
    match condition {
        Condition::All(list) => list.into_iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}

/// The one value that some leaf of a slot must have.
fn equality(condition: &Condition) -> Option<(u32, u32)> {
    match condition {
        Condition::Atom(slot, Atom::Among(values)) if values.len() == 1 => Some((*slot, values[0])),
        _ => None,
    }
}
