//! Conditions in numbers: values by their dictionaries, ranges with closed ends, everything about texts as a numbered question.

use crate::compile::Test;
use crate::condition::Comparison;
use crate::index::ask::{Ask, Literals, Sense};
use crate::index::values::{Table, UNKNOWN, Values};
use crate::predicate::{Interval, Leaf, Predicate};

/// A condition in numbers.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    /// Of an atom, nothing else.
    Not(Box<Condition>),
    Atom(u32, Atom),
}

/// A question about one slot. All hold when some leaf fits, but the last of them.
#[derive(Clone, Debug)]
pub(crate) enum Atom {
    /// A leaf has one of these value numbers; ascending.
    Among(Vec<u32>),
    /// A leaf is a number between these, both included.
    Within(f64, f64),
    /// The answer to a numbered question.
    Ask(u32),
    /// The field is there.
    Exists,
}

/// Lowers conditions of some of the rules; values and questions have numbers of their own in it.
#[derive(Debug, Default)]
pub(crate) struct Lowering<'t> {
    /// By slot.
    values: Vec<Values>,
    /// Questions, each once.
    asked: Vec<(u32, &'t Comparison)>,
    /// Positions in `asked`.
    known: Table,
}

impl<'t> Lowering<'t> {
    /// Nothing met yet.
    pub fn new(slots_count: usize) -> Self {
        Self { values: (0..slots_count).map(|_| Values::default()).collect(), ..Self::default() }
    }

    /// Lowers a condition to one in which only atoms are negated.
    pub fn condition(&mut self, test: &'t Test) -> Condition {
        self.lowered(test, false)
    }

    fn lowered(&mut self, test: &'t Test, negated: bool) -> Condition {
        match test {
            Test::All(list) | Test::Any(list) => {
                let mut list: Vec<Condition> = list.iter().map(|test| self.lowered(test, negated)).collect();
                match list.len() {
                    1 => list.remove(0),
                    _ if matches!(test, Test::All(_)) != negated => Condition::All(list),
                    _ => Condition::Any(list),
                }
            }
            Test::Not(inner) => self.lowered(inner, !negated),
            Test::Compare(slot, comparison) => self.comparison(*slot, comparison, negated),
        }
    }

    fn comparison(&mut self, slot: u32, comparison: &'t Comparison, negated: bool) -> Condition {
        let atom = |atom, negated| {
            let atom = Condition::Atom(slot, atom);
            if negated { Condition::Not(Box::new(atom)) } else { atom }
        };
        match &comparison.predicate {
            Predicate::Among(set) => atom(self.among(slot, set.iter()), negated),
            Predicate::NotAmong(set) => {
                let both = vec![atom(Atom::Exists, negated), atom(self.among(slot, set.iter()), !negated)];
                if negated { Condition::Any(both) } else { Condition::All(both) }
            }
            Predicate::Within(interval) => {
                let (low, high) = closed(interval);
                // No number lies in an empty interval, and none is asked for.
                match (low <= high, negated) {
                    (true, _) => atom(Atom::Within(low, high), negated),
                    (false, false) => Condition::Any(Vec::new()),
                    (false, true) => Condition::All(Vec::new()),
                }
            }
            Predicate::Exists(exists) => atom(Atom::Exists, *exists == negated),
            _ => atom(Atom::Ask(self.ask(slot, comparison)), negated),
        }
    }

    fn among<'v>(&mut self, slot: u32, set: impl Iterator<Item = Leaf<'v>>) -> Atom {
        let values = &mut self.values[slot as usize];
        let mut numbers: Vec<u32> = set.map(|leaf| values.intern(leaf)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Atom::Among(numbers)
    }

    /// The number of a question; one that was asked before keeps its number.
    fn ask(&mut self, slot: u32, comparison: &'t Comparison) -> u32 {
        let hash = comparison.hash();
        let found = self.known.find(hash, |at| self.asked[at as usize].1.says_the_same(comparison));
        if found != UNKNOWN {
            return found;
        }
        let next = self.asked.len() as u32;
        self.known.insert(hash, next);
        self.asked.push((slot, comparison));
        next
    }
}

/// What all conditions are about, numbered in the order in which the rules first name it, however they were cut into parts.
#[derive(Debug, Default)]
pub(crate) struct Lexicon<'t> {
    /// By slot.
    pub values: Vec<Values>,
    pub asks: Vec<Ask>,
    pub literals: Literals,
    asked: Lowering<'t>,
}

/// The numbers in all of what has numbers in a part.
#[derive(Debug)]
pub(crate) struct Renumbering {
    /// By slot, by the part's number.
    values: Vec<Vec<u32>>,
    asks: Vec<u32>,
}

impl<'t> Lexicon<'t> {
    /// Nothing named yet.
    pub fn new(slots_count: usize) -> Self {
        Self { values: (0..slots_count).map(|_| Values::default()).collect(), ..Self::default() }
    }

    /// Takes in what a part is about; parts come in order. `None`: its numbers hold.
    pub fn take(&mut self, part: Lowering<'t>) -> Option<Renumbering> {
        let is_first = self.asks.is_empty() && self.values.iter().all(|values| values.len() == 0);
        let asks = part.asked.iter().map(|(slot, comparison)| self.ask(*slot, comparison)).collect();
        if is_first {
            self.values = part.values;
            return None;
        }
        let of_slot = |(all, own): (&mut Values, &Values)| own.leaves().map(|leaf| all.intern(leaf)).collect();
        Some(Renumbering { values: self.values.iter_mut().zip(&part.values).map(of_slot).collect(), asks })
    }

    fn ask(&mut self, slot: u32, comparison: &'t Comparison) -> u32 {
        let number = self.asked.ask(slot, comparison);
        if (number as usize) < self.asks.len() {
            return number;
        }
        let next = number;
        let found = |literals: &mut Literals, sense, text: &str| {
            literals.seek(slot, text.as_bytes(), sense, next);
            Ask::Found
        };
        let literals = &mut self.literals;
        let ask = match &comparison.predicate {
            Predicate::Contains { text, element } => match text.as_deref() {
                None => Ask::Element { any_text: false, element: element.clone() },
                Some("") => Ask::Element { any_text: true, element: element.clone() },
                Some(text) => found(literals, Sense::Inside, text),
            },
            Predicate::Prefix(text) if !text.is_empty() => found(literals, Sense::Start, text),
            Predicate::Suffix(text) if !text.is_empty() => found(literals, Sense::End, text),
            Predicate::Cidr(nets) => {
                literals.seek_networks(slot, nets, next);
                Ask::Found
            }
            Predicate::Regex(pattern) => {
                let sought = pattern.literals().iter().map(|literal| literals.intern(slot, literal)).collect();
                Ask::Regex { pattern: pattern.clone(), literals: sought }
            }
            Predicate::Wildcard(wildcard) => {
                let sought = wildcard.literals().map(|literal| literals.intern(slot, literal.as_bytes())).collect();
                Ask::Text { predicate: comparison.predicate.clone(), literals: sought }
            }
            Predicate::Length(inner) => Ask::Length((**inner).clone()),
            other => Ask::Text { predicate: other.clone(), literals: Vec::new() },
        };
        self.asks.push(ask);
        next
    }
}

impl Renumbering {
    /// Gives a condition of the part the numbers in all.
    pub fn apply(&self, condition: &mut Condition) {
        match condition {
            Condition::All(list) | Condition::Any(list) => list.iter_mut().for_each(|inner| self.apply(inner)),
            Condition::Not(inner) => self.apply(inner),
            Condition::Atom(slot, Atom::Among(values)) => {
                let all = &self.values[*slot as usize];
                values.iter_mut().for_each(|value| *value = all[*value as usize]);
                values.sort_unstable();
            }
            Condition::Atom(_, Atom::Ask(ask)) => *ask = self.asks[*ask as usize],
            Condition::Atom(_, Atom::Within(..) | Atom::Exists) => {}
        }
    }
}

/// The ends of an interval as the least and the greatest double within.
fn closed(interval: &Interval) -> (f64, f64) {
    (
        if interval.low_included { interval.low } else { interval.low.next_up() },
        if interval.high_included { interval.high } else { interval.high.next_down() },
    )
}
