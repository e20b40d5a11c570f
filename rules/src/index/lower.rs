//! Conditions in numbers: values by their dictionaries, ranges with closed ends, everything about texts as a numbered question.

use std::collections::BTreeMap;

use crate::compile::Test;
use crate::condition::Comparison;
use crate::index::ask::{Ask, Literals, Needle};
use crate::index::values::Values;
use crate::predicate::{Interval, Leaf, Predicate};

/// A condition in numbers.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
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

/// What lowering collects over all rules.
#[derive(Debug, Default)]
pub(crate) struct Lowering {
    /// By slot.
    pub values: Vec<Values>,
    pub asks: Vec<Ask>,
    pub literals: Literals,
    known: BTreeMap<(u32, &'static str, String), u32>,
}

impl Lowering {
    /// Nothing collected yet.
    pub fn new(slots_count: usize) -> Self {
        Self { values: (0..slots_count).map(|_| Values::default()).collect(), ..Self::default() }
    }

    /// Lowers a condition.
    pub fn condition(&mut self, test: &Test) -> Condition {
        match test {
            Test::All(list) => match list.as_slice() {
                [only] => self.condition(only),
                list => Condition::All(list.iter().map(|test| self.condition(test)).collect()),
            },
            Test::Any(list) => match list.as_slice() {
                [only] => self.condition(only),
                list => Condition::Any(list.iter().map(|test| self.condition(test)).collect()),
            },
            Test::Not(inner) => not(self.condition(inner)),
            Test::Compare(slot, comparison) => self.comparison(*slot, comparison),
        }
    }

    fn comparison(&mut self, slot: u32, comparison: &Comparison) -> Condition {
        let atom = |atom| Condition::Atom(slot, atom);
        match &comparison.predicate {
            Predicate::Among(set) => atom(self.among(slot, set.iter())),
            Predicate::NotAmong(set) => Condition::All(vec![atom(Atom::Exists), not(atom(self.among(slot, set.iter())))]),
            Predicate::Within(interval) => {
                let (low, high) = closed(interval);
                // No number lies in an empty interval, and none is asked for.
                if low <= high { atom(Atom::Within(low, high)) } else { Condition::Any(Vec::new()) }
            }
            Predicate::Exists(true) => atom(Atom::Exists),
            Predicate::Exists(false) => not(atom(Atom::Exists)),
            _ => atom(Atom::Ask(self.ask(slot, comparison))),
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
    fn ask(&mut self, slot: u32, comparison: &Comparison) -> u32 {
        let key = (slot, comparison.operator.name(), comparison.value.to_string());
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let ask = match &comparison.predicate {
            Predicate::Contains { text, element } => {
                let needle = match text.as_deref() {
                    None => Needle::Nothing,
                    Some("") => Needle::Everything,
                    Some(text) => Needle::Literal(self.literals.intern(slot, text.as_bytes())),
                };
                Ask::Contains { needle, element: element.clone() }
            }
            Predicate::Regex(pattern) => {
                let literals = pattern.literals().iter().map(|literal| self.literals.intern(slot, literal)).collect();
                Ask::Regex { pattern: pattern.clone(), literals }
            }
            Predicate::Length(inner) => Ask::Length((**inner).clone()),
            other => Ask::Text(other.clone()),
        };
        let next = self.asks.len() as u32;
        self.asks.push(ask);
        self.known.insert(key, next);
        next
    }
}

fn not(condition: Condition) -> Condition {
    match condition {
        Condition::Not(inner) => *inner,
        other => Condition::Not(Box::new(other)),
    }
}

/// The ends of an interval as the least and the greatest double within.
fn closed(interval: &Interval) -> (f64, f64) {
    (
        if interval.low_included { interval.low } else { interval.low.next_up() },
        if interval.high_included { interval.high } else { interval.high.next_down() },
    )
}
