//! Columns: for each field and each class of values, the set of candidates whose condition on the field such a value meets.
//!
//! ANDing one row of each column leaves the candidates that may match, whatever they are; the cost is the number of words, not of rules.
//! A candidate has at most one condition in a column of leaves: two conditions on one field may be met by two leaves, so an AND over
//! the rows of one leaf would lose it. Rows of several leaves are ORed. Conditions that all leaves must meet (`not_equals`) have a
//! column of their own, in which the rows of several leaves are ANDed.

use std::collections::BTreeMap;

use crate::index::ask::{Ask, Opening};
use crate::index::lower::{Atom, Condition};
use crate::index::scratch::Marks;
use crate::index::slots::{Content, END, Seen, Slot};
use crate::index::values::{UNKNOWN, Values};

/// Most values of a field for which it has rows.
const VALUES_MAX: usize = 512;
/// Most cuts of a field's numbers.
const CUTS_MAX: usize = 255;
/// Most columns.
pub(crate) const COLUMNS_MAX: usize = 64;
/// Bytes that a column may take for each condition in it: rows of few conditions are not worth their memory.
pub(crate) const BYTES_PER_CONDITION_MAX: usize = 2 << 10;
const _: () = assert!(CUTS_MAX + 2 <= VALUES_MAX + 2, "rows of both kinds are numbered within one bound");

/// What a column is about; in the order in which columns are ANDed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Some leaf has one of some values. Rows by value number, then one for everything else.
    Among,
    /// Some leaf is a number in a range. Rows by the intervals between cuts, then one for no number.
    Within,
    /// A question about some text is open. One row, in which the bits of open questions are set.
    Open,
    /// The field is there or not, and no leaf has one of some values. Rows by value number, one for other values, one for a missing field.
    Every,
}

/// One column.
#[derive(Debug)]
pub(crate) struct Column {
    kind: Kind,
    slot: u32,
    cuts: Vec<f64>,
    /// Whether it decides its conditions, and does not only let too many through.
    is_exact: bool,
    rows: Vec<u64>,
    words_count: usize,
    /// By question: a part of `posted`.
    postings: Vec<(u32, u32)>,
    posted: Vec<u32>,
}

/// How a conjunct takes part in a column.
pub(crate) fn kind_of(condition: &Condition, values: &[Values]) -> Option<(Kind, u32)> {
    let few = |slot: &u32| values[*slot as usize].len() <= VALUES_MAX;
    match condition {
        Condition::Atom(slot, Atom::Among(_)) if few(slot) => Some((Kind::Among, *slot)),
        Condition::Atom(slot, Atom::Within(..)) => Some((Kind::Within, *slot)),
        Condition::Atom(slot, Atom::Exists) if few(slot) => Some((Kind::Every, *slot)),
        Condition::Not(inner) => match &**inner {
            Condition::Atom(slot, Atom::Among(_) | Atom::Exists) if few(slot) => Some((Kind::Every, *slot)),
            _ => None,
        },
        _ => None,
    }
}

/// Conjuncts by column, with the position of their candidate.
pub(crate) type Parts<'c> = BTreeMap<(Kind, u32), Vec<(usize, &'c Condition)>>;

impl Column {
    /// Builds a column over so many words of candidates.
    pub fn build(kind: Kind, slot: u32, parts: &[(usize, &Condition)], values: &Values, words_count: usize) -> Self {
        let mut column =
            Self { kind, slot, cuts: Vec::new(), is_exact: true, rows: Vec::new(), words_count, postings: Vec::new(), posted: Vec::new() };
        if kind == Kind::Within {
            (column.cuts, column.is_exact) = cuts(parts);
        }
        let rows_count = match kind {
            Kind::Within => column.cuts.len() + 2,
            _ => Self::rows_count(kind, values),
        };
        let mut row = vec![u64::MAX; words_count];
        if kind != Kind::Every {
            parts.iter().for_each(|(at, _)| row[at / 64] &= !(1 << (at % 64)));
        }
        column.rows = row.repeat(rows_count);
        if kind == Kind::Open {
            column.post(parts);
            return column;
        }
        for (at, condition) in parts {
            match condition {
                Condition::Atom(_, Atom::Among(numbers)) => numbers.iter().for_each(|number| column.set(*number as usize, *at)),
                Condition::Atom(_, Atom::Within(low, high)) => {
                    (column.interval(*low)..=column.interval(*high)).for_each(|row| column.set(row, *at));
                }
                Condition::Atom(_, _) => column.clear(rows_count - 1, *at),
                Condition::Not(inner) => match &**inner {
                    Condition::Atom(_, Atom::Among(numbers)) => numbers.iter().for_each(|number| column.clear(*number as usize, *at)),
                    _ => (0..rows_count - 1).for_each(|row| column.clear(row, *at)),
                },
                _ => {}
            }
        }
        column
    }

    fn post(&mut self, parts: &[(usize, &Condition)]) {
        let question = |(at, condition): &(usize, &Condition)| match condition {
            Condition::Atom(_, Atom::Ask(ask)) => Some((*ask, *at as u32)),
            _ => None,
        };
        let mut pairs: Vec<(u32, u32)> = parts.iter().filter_map(question).collect();
        pairs.sort_unstable();
        self.postings = vec![(0, 0); pairs.last().map_or(0, |(ask, _)| *ask as usize + 1)];
        for of_one in pairs.chunk_by(|a, b| a.0 == b.0) {
            let from = self.posted.len() as u32;
            self.posted.extend(of_one.iter().map(|(_, at)| *at));
            self.postings[of_one[0].0 as usize] = (from, self.posted.len() as u32);
        }
    }

    /// The slot whose open questions it needs.
    pub fn opened_slot(&self) -> Option<u32> {
        (self.kind == Kind::Open).then_some(self.slot)
    }

    /// Whether a column that has this condition decides it.
    pub fn decides(&self, condition: &Condition, asks: &[Ask]) -> bool {
        match condition {
            Condition::Atom(_, Atom::Ask(ask)) => asks[*ask as usize].opening() == Opening::Answer,
            _ => self.is_exact,
        }
    }

    fn set(&mut self, row: usize, at: usize) {
        self.rows[row * self.words_count + at / 64] |= 1 << (at % 64);
    }

    fn clear(&mut self, row: usize, at: usize) {
        self.rows[row * self.words_count + at / 64] &= !(1 << (at % 64));
    }

    /// The interval between cuts in which a number lies.
    #[inline]
    fn interval(&self, number: f64) -> usize {
        self.cuts.partition_point(|cut| *cut <= number)
    }

    fn row(&self, row: usize) -> &[u64] {
        &self.rows[row * self.words_count..(row + 1) * self.words_count]
    }

    fn row_of_value(&self, value: u32) -> usize {
        let others = self.rows.len() / self.words_count - if self.kind == Kind::Every { 2 } else { 1 };
        (value as usize).min(others)
    }

    /// The row for a message. One that must be made of several is written to `made`; then `None`.
    #[inline]
    pub fn row_for(&self, seen: &Seen, marks: &Marks, made: &mut Vec<u64>) -> Option<&[u64]> {
        if self.kind == Kind::Open {
            let open = marks.open_of(self.slot);
            if open.is_empty() {
                return Some(self.row(0));
            }
            let start = made.len();
            made.extend_from_slice(self.row(0));
            let made = &mut made[start..];
            for ask in open {
                if let Some((from, to)) = self.postings.get(*ask as usize) {
                    self.posted[*from as usize..*to as usize].iter().for_each(|at| made[*at as usize / 64] |= 1 << (at % 64));
                }
            }
            return None;
        }
        let slot = &seen.slots[self.slot as usize];
        if slot.leaves_count > 1 {
            self.make(slot, seen, made);
            return None;
        }
        let last = self.rows.len() / self.words_count - 1;
        Some(self.row(match self.kind {
            Kind::Among => self.row_of_value(slot.value),
            Kind::Within if slot.number.is_nan() => last,
            Kind::Within => self.interval(slot.number),
            Kind::Open => 0,
            Kind::Every if slot.nodes_count == 0 => last,
            Kind::Every => self.row_of_value(slot.value),
        }))
    }

    /// Makes the row of several leaves. Each row is taken once, so that a long list costs a look for each element and no more.
    fn make(&self, slot: &Slot, seen: &Seen, made: &mut Vec<u64>) {
        let mut met = [0_u64; (VALUES_MAX + 2).div_ceil(64)];
        let mut at = slot.first;
        while at != END {
            let entry = seen.entries[at as usize];
            at = entry.next;
            let row = match (self.kind, entry.content) {
                (_, Content::List(_)) => continue,
                (Kind::Within, Content::Number(number)) => self.interval(number),
                (Kind::Within, _) => continue,
                _ => self.row_of_value(entry.value),
            };
            met[row / 64] |= 1 << (row % 64);
        }
        let start = made.len();
        // What no leaf meets is in the row for everything else: those without a condition here, and for `Every` all that accept any value.
        made.extend_from_slice(self.row(if self.kind == Kind::Within { self.cuts.len() + 1 } else { self.row_of_value(UNKNOWN) }));
        let made = &mut made[start..];
        for (word, bits) in met.into_iter().enumerate() {
            let mut left = bits;
            while left != 0 {
                let row = self.row(word * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
                if self.kind == Kind::Every { and(made, row) } else { or(made, row) }
            }
        }
    }

    /// How many rows a column has.
    pub fn rows_count(kind: Kind, values: &Values) -> usize {
        match kind {
            Kind::Among => values.len() + 1,
            Kind::Within => CUTS_MAX + 2,
            Kind::Open => 1,
            Kind::Every => values.len() + 2,
        }
    }
}

fn or(made: &mut [u64], row: &[u64]) {
    made.iter_mut().zip(row).for_each(|(made, row)| *made |= row);
}

fn and(made: &mut [u64], row: &[u64]) {
    made.iter_mut().zip(row).for_each(|(made, row)| *made &= row);
}

/// Cuts between numbers such that about as many ends of ranges lie between any two; and whether every end is a cut.
fn cuts(parts: &[(usize, &Condition)]) -> (Vec<f64>, bool) {
    let mut ends = Vec::new();
    for (_, condition) in parts {
        if let Condition::Atom(_, Atom::Within(low, high)) = condition {
            ends.extend([*low, high.next_up()].into_iter().filter(|end| end.is_finite()));
        }
    }
    ends.sort_unstable_by(f64::total_cmp);
    ends.dedup();
    if ends.len() <= CUTS_MAX {
        return (ends, true);
    }
    ((1..=CUTS_MAX).map(|i| ends[i * (ends.len() - 1) / (CUTS_MAX + 1)]).collect(), false)
}
