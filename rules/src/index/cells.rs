//! Cells: candidates found by two keys at once, two conditions that must both hold.
//!
//! A key is a value of a field, or an open question about its texts. A candidate lies in one cell for each pair of its keys. In a cell,
//! candidates with a range on the table's number are sorted by its low end, and in blocks by the highest of the high ends, so that
//! only those are looked at whose range may hold the number.

use std::cmp::Ordering;

use crate::index::Candidate;
use crate::index::scratch::Marks;
use crate::index::slots::{Content, Seen};
use crate::index::values::{UNKNOWN, mix};

/// Candidates of a block.
const BLOCK: usize = 16;

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    /// The value numbers of a slot's leaves.
    Values(u32),
    /// The open questions of a slot.
    Open(u32),
}

/// The keys of the message at hand, by field.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    keys: Vec<u32>,
    ends: Vec<u32>,
}

impl Keys {
    /// Collects the keys by which these cells are found.
    pub fn fill(&mut self, cells: &Cells, seen: &Seen, marks: &Marks) {
        self.keys.clear();
        self.ends.clear();
        for field in &cells.fields {
            match field {
                Field::Values(slot) => {
                    let slot_seen = &seen.slots[*slot as usize];
                    if slot_seen.leaves_count <= 1 {
                        self.keys.extend(Some(slot_seen.value).filter(|value| *value != UNKNOWN));
                    } else {
                        let from = self.keys.len();
                        self.keys.extend(seen.chain(*slot).map(|entry| entry.value).filter(|value| *value != UNKNOWN));
                        self.keys[from..].sort_unstable();
                        // Each key once, however often its value is in a list.
                        let mut kept = from;
                        for i in from..self.keys.len() {
                            if kept == from || self.keys[kept - 1] != self.keys[i] {
                                self.keys[kept] = self.keys[i];
                                kept += 1;
                            }
                        }
                        self.keys.truncate(kept);
                    }
                }
                Field::Open(slot) => self.keys.extend_from_slice(marks.open_of(*slot)),
            }
            self.ends.push(self.keys.len() as u32);
        }
    }

    #[inline]
    fn of(&self, field: u8) -> &[u32] {
        let from = if field == 0 { 0 } else { self.ends[usize::from(field) - 1] };
        &self.keys[from as usize..self.ends[usize::from(field)] as usize]
    }
}

/// A candidate on its way into a table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub keys: (u32, u32),
    pub range: Option<(f64, f64)>,
    pub candidate: Candidate,
}

impl Entry {
    /// By cell; in it those without a range, then the others by low ends.
    pub fn order(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| (entry.keys, entry.range.is_some());
        let low = |entry: &Self| entry.range.map_or(f64::NEG_INFINITY, |(low, _)| low);
        key(self).cmp(&key(other)).then(low(self).total_cmp(&low(other))).then(self.candidate.place.cmp(&other.candidate.place))
    }
}

/// All tables.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    fields: Vec<Field>,
    tables: Vec<Table>,
    candidates: Vec<Candidate>,
    /// Ends of ranges, by candidate.
    lows: Vec<f64>,
    highs: Vec<f64>,
    /// The highest end of each block.
    maxima: Vec<f64>,
}

#[derive(Debug)]
struct Table {
    /// Positions in `fields`.
    first: u8,
    second: u8,
    /// The slot of the number that ranges are about.
    number: u32,
    pairs: Pairs,
    cells: Vec<Cell>,
}

/// Parts of the candidates: those without a range, then those with one.
#[derive(Clone, Copy, Debug)]
struct Cell {
    from: u32,
    ranged: u32,
    to: u32,
    blocks_from: u32,
}

impl Cells {
    /// Most fields that lead to cells.
    pub const FIELDS_MAX: usize = u8::MAX as usize;

    /// Adds the table of two fields. Ranges are about the number in the slot `number`; entries are in their [order](Entry::order).
    pub fn add_table(&mut self, (first, second): (Field, Field), number: u32, entries: Vec<Entry>) {
        let (first, second) = (self.field(first), self.field(second));
        let mut table = Table { first, second, number, pairs: Pairs::default(), cells: Vec::new() };
        for cell in entries.chunk_by(|a, b| a.keys == b.keys) {
            let from = self.candidates.len();
            let ranged = from + cell.iter().take_while(|entry| entry.range.is_none()).count();
            let blocks_from = self.maxima.len();
            for entry in cell {
                let (low, high) = entry.range.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
                self.candidates.push(entry.candidate);
                self.lows.push(low);
                self.highs.push(high);
            }
            self.maxima.extend(self.highs[ranged..].chunks(BLOCK).map(|block| block.iter().copied().fold(f64::NEG_INFINITY, f64::max)));
            table.pairs.insert(cell[0].keys, table.cells.len() as u32);
            let to = self.candidates.len() as u32;
            table.cells.push(Cell { from: from as u32, ranged: ranged as u32, to, blocks_from: blocks_from as u32 });
        }
        self.tables.push(table);
    }

    /// Whether there is no cell.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The slots whose open questions are keys.
    pub fn opened_slots(&self) -> impl Iterator<Item = u32> {
        self.fields.iter().filter_map(|field| if let Field::Open(slot) = field { Some(*slot) } else { None })
    }

    fn field(&mut self, field: Field) -> u8 {
        let at = self.fields.iter().position(|known| *known == field).unwrap_or_else(|| {
            self.fields.push(field);
            self.fields.len() - 1
        });
        u8::try_from(at).expect("tables are chosen among at most FIELDS_MAX fields")
    }

    /// Visits all candidates whose two keys and range the message meets.
    pub fn visit(&self, keys: &Keys, seen: &Seen, mut reached: impl FnMut(Candidate)) {
        for table in &self.tables {
            for first in keys.of(table.first) {
                for second in keys.of(table.second) {
                    let cell = table.pairs.find((*first, *second));
                    if cell != UNKNOWN {
                        self.visit_cell(&table.cells[cell as usize], table.number, seen, &mut reached);
                    }
                }
            }
        }
    }

    #[inline]
    fn visit_cell(&self, cell: &Cell, number: u32, seen: &Seen, reached: &mut impl FnMut(Candidate)) {
        let (from, ranged, to) = (cell.from as usize, cell.ranged as usize, cell.to as usize);
        self.candidates[from..ranged].iter().for_each(|candidate| reached(*candidate));
        if ranged == to {
            return;
        }
        let slot = &seen.slots[number as usize];
        if slot.leaves_count > 1 {
            for i in ranged..to {
                let within = |number: f64| self.lows[i] <= number && number <= self.highs[i];
                if seen.chain(number).any(|entry| matches!(entry.content, Content::Number(number) if within(number))) {
                    reached(self.candidates[i]);
                }
            }
            return;
        }
        let number = slot.number;
        // No number is at least none: a missing one finds nothing.
        let low_enough = self.lows[ranged..to].partition_point(|low| *low <= number);
        let blocks = self.highs[ranged..ranged + low_enough].chunks(BLOCK).zip(&self.maxima[cell.blocks_from as usize..]);
        for (i, (block, highest)) in blocks.enumerate() {
            if *highest >= number {
                for (j, high) in block.iter().enumerate() {
                    if *high >= number {
                        reached(self.candidates[ranged + i * BLOCK + j]);
                    }
                }
            }
        }
    }
}

/// Pairs of keys, numbered. Open addressing by linear probing, at most half full; nobody iterates over it.
#[derive(Debug, Default)]
struct Pairs {
    /// [`UNKNOWN`] as the number is an empty place. The length is a power of two.
    places: Vec<(u32, u32, u32)>,
    len: usize,
}

impl Pairs {
    #[inline]
    fn find(&self, keys: (u32, u32)) -> u32 {
        if self.places.is_empty() {
            return UNKNOWN;
        }
        let mask = self.places.len() - 1;
        let mut at = Self::place(keys) & mask;
        loop {
            let (first, second, number) = self.places[at];
            if number == UNKNOWN || (first, second) == keys {
                return number;
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, keys: (u32, u32), number: u32) {
        if self.places.len() < 2 * (self.len + 1) {
            let grown = vec![(0, 0, UNKNOWN); (self.places.len() * 2).max(8)];
            for (first, second, number) in std::mem::replace(&mut self.places, grown) {
                if number != UNKNOWN {
                    self.put((first, second), number);
                }
            }
        }
        self.put(keys, number);
        self.len += 1;
    }

    fn put(&mut self, keys: (u32, u32), number: u32) {
        let mask = self.places.len() - 1;
        let mut at = Self::place(keys) & mask;
        while self.places[at].2 != UNKNOWN {
            at = (at + 1) & mask;
        }
        self.places[at] = (keys.0, keys.1, number);
    }

    #[inline]
    fn place((first, second): (u32, u32)) -> usize {
        (mix(u64::from(first) << 32 | u64::from(second), 0x517c_c1b7) >> 32) as usize
    }
}
