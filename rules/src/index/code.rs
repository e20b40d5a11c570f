//! What is left to check once the index has chosen a rule: flat code, each step a test with two ways on.
//!
//! AND, OR and NOT are in the targets only: no stack, and no third value.

use crate::index::Candidate;
use crate::index::ask::{Ask, Opening, Searches};
use crate::index::lower::{Atom, Condition};
use crate::index::scratch::Marks;
use crate::index::slots::{Content, Seen, Texts};
use crate::index::values::Values;

/// The condition holds.
pub(crate) const ACCEPT: u32 = u32::MAX;
/// The condition does not hold.
pub(crate) const REJECT: u32 = u32::MAX - 1;

/// What a candidate and each of its steps are taken to cost, nanoseconds: of the size that docs/performance.md measures for catalogs that
/// fit in the caches. They are for shares, not for sums.
const CANDIDATE_NS: u64 = 10;
const STEP_NS: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Check {
    /// A leaf has one of these values; for fields with at most 64.
    Mask(u64),
    /// A leaf has this value.
    Value(u32),
    /// A leaf has one of the values in this part of `lists`.
    Values(u32, u32),
    Within(f64, f64),
    Exists,
    /// A question that a search has answered, or else not.
    Found(u32),
    /// A question whose answer is no unless a search has opened it.
    Sought(u32),
    Ask(u32),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    check: Check,
    slot: u32,
    yes: u32,
    no: u32,
}

/// What numbers in conditions stand for.
#[derive(Clone, Copy)]
pub(crate) struct Words<'w> {
    pub values: &'w [Values],
    pub asks: &'w [Ask],
}

/// By how much steps have moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift(u32);

impl Shift {
    /// Where a step is now.
    pub fn of(self, at: u32) -> u32 {
        if at < REJECT { at + self.0 } else { at }
    }
}

/// The code of all rules.
#[derive(Debug, Default)]
pub(crate) struct Code {
    steps: Vec<Step>,
    lists: Vec<u32>,
}

impl Code {
    /// Adds the code for a condition, and says where it begins. Later steps come first, so that every target is known.
    pub fn add(&mut self, condition: &Condition, words: Words<'_>, yes: u32, no: u32) -> u32 {
        match condition {
            Condition::All(list) => list.iter().rev().fold(yes, |next, condition| self.add(condition, words, next, no)),
            Condition::Any(list) => list.iter().rev().fold(no, |next, condition| self.add(condition, words, yes, next)),
            Condition::Not(inner) => self.add(inner, words, no, yes),
            Condition::Atom(slot, atom) => {
                let check = match atom {
                    Atom::Among(numbers) if numbers.is_empty() => return no,
                    Atom::Among(numbers) if words.values[*slot as usize].len() <= 64 => {
                        Check::Mask(numbers.iter().fold(0, |mask, number| mask | 1 << number))
                    }
                    Atom::Among(numbers) if numbers.len() == 1 => Check::Value(numbers[0]),
                    Atom::Among(numbers) => {
                        let from = self.lists.len() as u32;
                        self.lists.extend_from_slice(numbers);
                        Check::Values(from, self.lists.len() as u32)
                    }
                    Atom::Within(low, high) => Check::Within(*low, *high),
                    Atom::Exists => Check::Exists,
                    Atom::Ask(ask) => match words.asks[*ask as usize].opening() {
                        Opening::Answer => Check::Found(*ask),
                        Opening::Hint => Check::Sought(*ask),
                        Opening::None => Check::Ask(*ask),
                    },
                };
                self.steps.push(Step { check, slot: *slot, yes, no });
                self.steps.len() as u32 - 1
            }
        }
    }

    /// Adds the code of another one behind, and says where its steps are now.
    pub fn append(&mut self, other: Self) -> Shift {
        let shift = Shift(self.steps.len() as u32);
        let lists_from = self.lists.len() as u32;
        self.steps.extend(other.steps.into_iter().map(|step| {
            let check = match step.check {
                Check::Values(from, to) => Check::Values(lists_from + from, lists_from + to),
                check => check,
            };
            Step { check, slot: step.slot, yes: shift.of(step.yes), no: shift.of(step.no) }
        }));
        self.lists.extend(other.lists);
        shift
    }

    /// Whether the condition of a candidate holds. `COUNTED`: what that costs is charged to its rule.
    #[inline]
    pub fn accepts<const COUNTED: bool>(&self, candidate: Candidate, run: &mut Run<'_>) -> bool {
        let mut at = candidate.start;
        let mut steps_count = 0;
        while at < REJECT {
            let step = &self.steps[at as usize];
            at = if self.holds(step, run) { step.yes } else { step.no };
            steps_count += u64::from(COUNTED);
        }
        if COUNTED {
            let asked_ns = std::mem::take(&mut run.asked_ns);
            if let Some(work_ns) = run.work_ns.get_mut(candidate.place as usize) {
                *work_ns += CANDIDATE_NS + STEP_NS * steps_count + asked_ns;
            }
        }
        at == ACCEPT
    }

    #[inline]
    fn holds(&self, step: &Step, run: &mut Run<'_>) -> bool {
        let slot = &run.seen.slots[step.slot as usize];
        match step.check {
            Check::Mask(mask) => slot.mask & mask != 0,
            Check::Value(value) => slot.value == value || (slot.leaves_count > 1 && run.any_value(step.slot, |v| v == value)),
            Check::Values(from, to) => {
                let list = &self.lists[from as usize..to as usize];
                run.any_value(step.slot, |value| list.binary_search(&value).is_ok())
            }
            Check::Within(low, high) => {
                (low <= slot.number && slot.number <= high)
                    || (slot.leaves_count > 1
                        && run.seen.chain(step.slot).any(|entry| matches!(entry.content, Content::Number(n) if low <= n && n <= high)))
            }
            Check::Exists => slot.nodes_count > 0,
            Check::Found(ask) => run.marks.answer(ask).unwrap_or_else(|| run.found(step.slot, ask)),
            Check::Sought(ask) => run.marks.answer(ask).unwrap_or_else(|| run.found(step.slot, ask) && run.ask(step.slot, ask)),
            Check::Ask(ask) => run.marks.answer(ask).unwrap_or_else(|| run.ask(step.slot, ask)),
        }
    }
}

/// What running code reads and writes.
pub(crate) struct Run<'m> {
    pub seen: &'m Seen,
    pub texts: Texts<'m>,
    pub asks: &'m [Ask],
    pub searches: &'m Searches,
    pub marks: &'m mut Marks,
    /// By place: what was charged to rules, nanoseconds; empty when nothing is counted.
    pub work_ns: &'m mut [u64],
    /// What questions have cost since the last candidate.
    pub asked_ns: u64,
}

impl Run<'_> {
    fn any_value(&self, slot: u32, fits: impl Fn(u32) -> bool) -> bool {
        self.seen.chain(slot).any(|entry| fits(entry.value))
    }

    /// What the search for its literals says about a question.
    fn found(&mut self, slot: u32, ask: u32) -> bool {
        let holds = self.searches.may_hold(slot, ask, self.seen, self.texts, self.marks);
        self.marks.set_answer(ask, holds);
        holds
    }

    fn ask(&mut self, slot: u32, ask: u32) -> bool {
        let asked = &self.asks[ask as usize];
        let holds = asked.answer(slot, self.seen, self.texts);
        self.asked_ns += asked.estimate_ns();
        self.marks.set_answer(ask, holds);
        holds
    }
}
