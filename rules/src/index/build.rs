//! Building an index, in parts that do not depend on each other where there are many rules.
//!
//! Conditions are lowered and drafted part by part, the choice by what each draft is found is made part by part, and tables are built side by
//! side; in between, what the parts have found is joined in their order. So numbers, sums and code are the same whoever has worked.

use std::collections::BTreeMap;

use crate::compile::{PART_RULES, Test};
use crate::hands::{Hands, each, parts};
use crate::index::ask::{Opening, Searches};
use crate::index::cells::{Entry, Field};
use crate::index::code::{ACCEPT, Code, REJECT, Words};
use crate::index::columns::{self, BYTES_PER_CONDITION_MAX, COLUMNS_MAX, Column, Parts, kind_of};
use crate::index::draft::{Draft, Estimates, Paired, alternatives, is_openable, keys_of};
use crate::index::lower::{Atom, Condition, Lexicon, Lowering, Renumbering};
use crate::index::slots::Slots;
use crate::index::values::UNKNOWN;
use crate::index::{Candidate, Group, Index};
use crate::path::Path;

/// In a smaller group every candidate runs its code: sixteen cost less than a word of each column.
const GROUP_COLUMNS_MIN: usize = 16;

impl Index {
    /// Builds the index over these rules; a rule's place is its position.
    pub fn build(hands: &dyn Hands, rules: &[&Test], paths: &[Path]) -> Self {
        let slots = Slots::new(paths);
        let slots_count = paths.len();
        let (lexicon, drafts) = drafts_of(hands, rules, slots_count);
        let Lexicon { values, asks, literals, .. } = lexicon;
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
        let (paired, rest) = estimates.choose(hands, drafts);
        for table in each(hands, paired.into_iter().collect(), |(fields, list)| DraftTable::of(fields, list, words)) {
            index.add_table(table);
        }
        index.place(rest, words, &estimates);
        let opened: Vec<u32> = index.columns.iter().filter_map(Column::opened_slot).chain(index.cells.opened_slots()).collect();
        opened.into_iter().for_each(|slot| index.searches.open_early(slot));
        index.values = values;
        index.asks = asks;
        index
    }

    fn add_table(&mut self, mut table: DraftTable) {
        let shift = self.code.append(table.code);
        for entry in &mut table.entries {
            entry.candidate.start = shift.of(entry.candidate.start);
        }
        self.cells.add_table(table.fields, table.number, table.entries);
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
                    let start = code_of(&mut self.code, draft, &[], words);
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
            let start = code_of(&mut self.code, draft, decided.get(&at).map_or(&[], Vec::as_slice), words);
            self.candidates[at] = Candidate { start, place: draft.place };
            self.taken[at / 64] |= 1 << (at % 64);
        }
    }

    fn add_group(&mut self, slot: u32, value: u32, group: Group, words: Words<'_>) {
        let at = self.access.iter().position(|(s, _)| *s == slot).unwrap_or_else(|| {
            self.access.push((slot, vec![UNKNOWN; words.values[slot as usize].len()]));
            self.access.len() - 1
        });
        self.access[at].1[value as usize] = self.groups.len() as u32;
        self.groups.push(group);
    }
}

/// The drafts of rules, whose places are their positions, and what they are about.
fn drafts_of<'t>(hands: &dyn Hands, rules: &[&'t Test], slots_count: usize) -> (Lexicon<'t>, Vec<Draft>) {
    let lower = |part: &[&'t Test]| {
        let mut lowering = Lowering::new(slots_count);
        let conditions: Vec<Condition> = part.iter().map(|test| lowering.condition(test)).collect();
        (conditions, lowering)
    };
    let mut lexicon = Lexicon::new(slots_count);
    let mut lowered: Vec<(u32, Vec<Condition>, Option<Renumbering>)> = Vec::new();
    let mut from = 0;
    for (conditions, own) in each(hands, parts(rules, PART_RULES), lower) {
        let count = conditions.len() as u32;
        lowered.push((from, conditions, lexicon.take(own)));
        from += count;
    }
    let draft = |(from, conditions, renumbering): (u32, Vec<Condition>, Option<Renumbering>)| {
        let mut drafts = Vec::with_capacity(conditions.len());
        for (mut condition, place) in conditions.into_iter().zip(from..) {
            if let Some(renumbering) = &renumbering {
                renumbering.apply(&mut condition);
            }
            drafts.extend(alternatives(condition).into_iter().map(|conjuncts| Draft { place, conjuncts, access: None }));
        }
        drafts
    };
    let drafted = each(hands, lowered, draft);
    let mut drafts = Vec::with_capacity(drafted.iter().map(Vec::len).sum());
    drafted.into_iter().for_each(|part| drafts.extend(part));
    (lexicon, drafts)
}

/// A table of cells, with code of its own.
struct DraftTable {
    fields: (Field, Field),
    /// The slot of the number by which cells are sorted.
    number: u32,
    entries: Vec<Entry>,
    code: Code,
}

impl DraftTable {
    fn of(fields: (Field, Field), list: Vec<Paired>, words: Words<'_>) -> Self {
        let mut ranges: BTreeMap<u32, usize> = BTreeMap::new();
        for condition in list.iter().flat_map(|paired| &paired.draft.conjuncts) {
            if let Condition::Atom(slot, Atom::Within(..)) = condition {
                *ranges.entry(*slot).or_default() += 1;
            }
        }
        let number = ranges.into_iter().max_by_key(|(slot, count)| (*count, std::cmp::Reverse(*slot))).map_or(0, |(slot, _)| slot);
        let mut table = Self { fields, number, entries: Vec::with_capacity(list.len()), code: Code::default() };
        let mut decided: Vec<&Condition> = Vec::new();
        for Paired { draft, first, second } in &list {
            let mut range = None;
            decided.clear();
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
            let candidate = Candidate { start: code_of(&mut table.code, draft, &decided, words), place: draft.place };
            for first in keys_of(&draft.conjuncts[*first]) {
                for second in keys_of(&draft.conjuncts[*second]) {
                    table.entries.push(Entry { keys: (*first, *second), range, candidate });
                }
            }
        }
        table.entries.sort_unstable_by(Entry::order);
        table
    }
}

/// Adds the code for what of a draft is not decided yet, and says where it begins.
fn code_of(code: &mut Code, draft: &Draft, decided: &[&Condition], words: Words<'_>) -> u32 {
    let rest = draft.conjuncts.iter().rev().filter(|condition| !decided.iter().any(|decided| std::ptr::eq(*decided, *condition)));
    rest.fold(ACCEPT, |next, condition| code.add(condition, words, next, REJECT))
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
