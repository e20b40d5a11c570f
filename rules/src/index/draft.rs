//! Drafts: the alternatives of each rule, and by what each is to be found, chosen by what it would cost.
//!
//! Costs are estimates in nanoseconds a message, from what the rules say alone: a field whose values rules name equally often is taken to
//! have them equally often. They only ever decide between ways that give the same answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::index::ask::Opening;
use crate::index::cells::{Cells, Field};
use crate::index::code::Words;
use crate::index::columns::kind_of;
use crate::index::lower::{Atom, Condition};

/// Most alternatives of a rule that become candidates of their own; a rule with more is one candidate with alternatives in its code.
pub(crate) const ALTERNATIVES_MAX: usize = 8;
/// A field must be compared with so many values for an equality on it to lead to a group.
const ACCESS_VALUES_MIN: usize = 3;
/// Most cells that one candidate may lie in.
const COPIES_MAX: usize = 16;
/// Running a candidate's code, mispredicted branches included; and how that grows with each candidate, as less and less is in the caches.
const CODE_NS: f64 = 20.0;
const CODE_NS_PER_CANDIDATE: f64 = 1.0 / 2_500.0;
/// Looking whether a found literal opens a question.
const OPENING_NS: f64 = 2.5;
/// A candidate's share of ANDing the words of its group.
const WORD_NS: f64 = 0.1;
/// Setting a candidate's bit because a question is open.
const POSTING_NS: f64 = 1.5;
/// Looking at a candidate of a cell: at its range, or without one.
const RANGED_NS: f64 = 0.5;
const UNRANGED_NS: f64 = 1.5;
/// Looking for a cell.
const PROBE_NS: f64 = 6.0;

/// A candidate being built.
pub(crate) struct Draft {
    pub place: u32,
    pub conjuncts: Vec<Condition>,
    /// The slot and the value of the conjunct that leads to it, which is no longer among them.
    pub access: Option<(u32, u32)>,
}

/// A draft that is found by two of its conjuncts.
pub(crate) struct Paired {
    pub draft: Draft,
    /// Positions of conjuncts, in the order of the table's fields.
    pub first: usize,
    pub second: usize,
}

/// Drafts by the table whose cells they are for.
pub(crate) type Tables = BTreeMap<(Field, Field), Vec<Paired>>;

/// The alternatives of a condition, each a list of what must hold.
pub(crate) fn alternatives(condition: Condition) -> Vec<Vec<Condition>> {
    let mut found: Vec<Vec<Condition>> = vec![Vec::new()];
    for conjunct in conjuncts(condition) {
        let Condition::Any(list) = conjunct else {
            found.iter_mut().for_each(|alternative| alternative.push(conjunct.clone()));
            continue;
        };
        let branches: Option<Vec<Vec<Condition>>> = (list.len() * found.len() <= ALTERNATIVES_MAX)
            .then(|| list.iter().cloned().flat_map(alternatives).collect())
            .filter(|branches: &Vec<_>| branches.len() * found.len() <= ALTERNATIVES_MAX);
        match branches {
            None => found.iter_mut().for_each(|alternative| alternative.push(Condition::Any(list.clone()))),
            Some(branches) => {
                let joined = |alternative: &Vec<Condition>, branch: &Vec<Condition>| [alternative.as_slice(), branch].concat();
                found = found.iter().flat_map(|alternative| branches.iter().map(|branch| joined(alternative, branch))).collect();
            }
        }
    }
    found
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

/// How likely conditions are to hold.
pub(crate) struct Estimates<'w> {
    words: Words<'w>,
    /// By slot: literals that are looked for in it.
    literals: Vec<usize>,
    /// By slot: how many questions a search opens, each counted as often as a message opens it, compared with one of one literal.
    openable: Vec<f64>,
    /// By slot: ends of ranges, ascending.
    ends: Vec<Vec<f64>>,
    code_ns: f64,
}

impl<'w> Estimates<'w> {
    /// Estimates for the conditions of these drafts. `literals`: how many are looked for, by slot.
    pub fn new(words: Words<'w>, literals: Vec<usize>, drafts: &[Draft]) -> Self {
        let slots_count = literals.len();
        let code_ns = CODE_NS + CODE_NS_PER_CANDIDATE * drafts.len() as f64;
        let mut estimates = Self { words, literals, openable: vec![0.0; slots_count], ends: vec![Vec::new(); slots_count], code_ns };
        let mut counted = vec![false; words.asks.len()];
        for condition in drafts.iter().flat_map(|draft| &draft.conjuncts) {
            match condition {
                Condition::Atom(slot, Atom::Within(low, high)) => estimates.ends[*slot as usize].extend([*low, *high]),
                Condition::Atom(slot, Atom::Ask(ask))
                    if words.asks[*ask as usize].opening() != Opening::None && !std::mem::replace(&mut counted[*ask as usize], true) =>
                {
                    estimates.openable[*slot as usize] += share_of_literals(words, *ask);
                }
                _ => {}
            }
        }
        estimates.ends.iter_mut().for_each(|ends| ends.sort_unstable_by(f64::total_cmp));
        estimates
    }

    /// How likely a condition is to hold, from 0 to 1.
    pub fn share(&self, condition: &Condition) -> f64 {
        match condition {
            Condition::All(list) => list.iter().map(|condition| self.share(condition)).product(),
            Condition::Any(list) => 1.0 - list.iter().map(|condition| 1.0 - self.share(condition)).product::<f64>(),
            Condition::Not(inner) => 1.0 - self.share(inner),
            Condition::Atom(slot, atom) => match atom {
                Atom::Among(values) => (values.len() as f64 / self.words.values[*slot as usize].len().max(1) as f64).min(0.9),
                Atom::Within(low, high) => self.share_of_range(*slot, *low, *high),
                Atom::Exists => 0.7,
                Atom::Ask(ask) if self.words.asks[*ask as usize].opening() != Opening::None => {
                    self.share_of_opening(*slot) * share_of_literals(self.words, *ask)
                }
                Atom::Ask(_) => 0.2,
            },
        }
    }

    fn share_of_range(&self, slot: u32, low: f64, high: f64) -> f64 {
        let ends = &self.ends[slot as usize];
        let rank = |number: f64| ends.partition_point(|end| *end < number);
        (rank(high).saturating_sub(rank(low)) as f64 / ends.len().max(1) as f64).clamp(0.01, 1.0)
    }

    fn share_of_opening(&self, slot: u32) -> f64 {
        1.0 / (self.literals[slot as usize] as f64).clamp(2.0, 64.0)
    }

    /// How many keys a field has in a message.
    fn keys(&self, field: Field) -> f64 {
        match field {
            Field::Values(_) => 1.0,
            Field::Open(slot) => 1.0 + self.openable[slot as usize] * self.share_of_opening(slot),
        }
    }

    /// How likely all conjuncts that columns take are to hold, but for one, and whether code would be left to run.
    fn columns(&self, draft: &Draft, access: Option<usize>) -> (f64, bool) {
        let mut share = 1.0;
        let mut leaves_code = false;
        for (i, condition) in draft.conjuncts.iter().enumerate() {
            match kind_of(condition, self.words.values) {
                _ if access == Some(i) => share *= self.share(condition),
                Some(_) => share *= self.share(condition),
                None => leaves_code = true,
            }
        }
        (share, leaves_code)
    }

    /// What a draft of a group gains when its bit is set as soon as a question is open, rather than its code asking it. Not above zero: nothing.
    pub fn gain_of_posting(&self, draft: &Draft, question: &Condition) -> f64 {
        let (mut share, _) = self.columns(draft, None);
        if let Some((slot, value)) = draft.access {
            share *= self.share(&Condition::Atom(slot, Atom::Among(vec![value])));
        }
        share * self.code_ns - self.share(question) * POSTING_NS
    }

    /// What it costs to open the questions of a slot.
    pub fn opening_ns(&self, slot: u32) -> f64 {
        2.0 * OPENING_NS * self.openable[slot as usize] * self.share_of_opening(slot) / SEVERAL_LITERALS_SHARE
    }

    /// What a draft costs in the group of an equality, or of no condition at all.
    fn group_ns(&self, draft: &Draft, access: Option<usize>) -> f64 {
        let reached = access.map_or(1.0, |at| self.share(&draft.conjuncts[at]));
        let (mut share, leaves_code) = self.columns(draft, access);
        let mut cost = reached * WORD_NS;
        for condition in &draft.conjuncts {
            if is_openable(condition, self.words) {
                let opened = self.share(condition);
                if share * self.code_ns > opened * POSTING_NS {
                    cost += opened * POSTING_NS;
                    share *= opened;
                }
            }
        }
        if leaves_code { cost + share * self.code_ns } else { cost }
    }

    fn pair_ns(&self, draft: &Draft, first: usize, second: usize) -> f64 {
        let reached = self.share(&draft.conjuncts[first]) * self.share(&draft.conjuncts[second]);
        let mut range = None;
        let mut rest = 0;
        for (i, condition) in draft.conjuncts.iter().enumerate() {
            match condition {
                Condition::Atom(_, Atom::Within(..)) if range.is_none() => range = Some(self.share(condition)),
                Condition::Atom(_, Atom::Ask(ask)) if self.words.asks[*ask as usize].opening() == Opening::Hint => rest += 1,
                _ if i == first || i == second => {}
                _ => rest += 1,
            }
        }
        let looked_at = if range.is_some() { RANGED_NS } else { UNRANGED_NS };
        reached * (looked_at + if rest > 0 { range.unwrap_or(1.0) * self.code_ns } else { 0.0 })
    }

    /// Sorts drafts into those that are found by pairs, by table, and those of groups, which are told their access.
    pub fn choose(&self, drafts: Vec<Draft>) -> (Tables, Vec<Draft>) {
        let mut gain: BTreeMap<(Field, Field), f64> = BTreeMap::new();
        let mut groups: Vec<(Option<usize>, f64)> = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            let access = self.group_of(draft);
            let cost = self.group_ns(draft, access);
            if let Some((pair_cost, table, ..)) = self.best_pair(draft, |_| true)
                && pair_cost < cost
            {
                *gain.entry(table).or_default() += cost - pair_cost;
            }
            groups.push((access, cost));
        }
        // A table must gain more than looking into it costs every message.
        let opening = |field: &Field| if let Field::Open(slot) = field { self.opening_ns(*slot) } else { 0.0 };
        let price = |(a, b): &(Field, Field)| PROBE_NS * self.keys(*a) * self.keys(*b) + opening(a) + opening(b);
        let mut kept: Vec<((Field, Field), f64)> = gain.into_iter().filter(|(table, gain)| *gain > price(table)).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        kept.truncate(Cells::FIELDS_MAX / 2);
        let mut paired = Tables::new();
        let mut rest = Vec::new();
        for (mut draft, (access, cost)) in drafts.into_iter().zip(groups) {
            match self.best_pair(&draft, |table| kept.iter().any(|(known, _)| known == table)) {
                Some((pair_cost, table, first, second)) if pair_cost < cost => {
                    paired.entry(table).or_default().push(Paired { draft, first, second });
                }
                _ => {
                    draft.access = access.and_then(|at| equality(&draft.conjuncts.remove(at)));
                    rest.push(draft);
                }
            }
        }
        (paired, rest)
    }

    /// The equality on the field with the most values, when one has enough.
    fn group_of(&self, draft: &Draft) -> Option<usize> {
        let values = |slot: u32| self.words.values[slot as usize].len();
        let equalities = draft.conjuncts.iter().enumerate().filter_map(|(i, condition)| Some((i, equality(condition)?)));
        let best = equalities.max_by_key(|(i, (slot, value))| (values(*slot), Reverse((*slot, *value, *i))));
        best.filter(|(_, (slot, _))| values(*slot) >= ACCESS_VALUES_MIN).map(|(i, _)| i)
    }

    fn best_pair(&self, draft: &Draft, is_allowed: impl Fn(&(Field, Field)) -> bool) -> Option<(f64, (Field, Field), usize, usize)> {
        let keys: Vec<(usize, Field, usize)> =
            draft.conjuncts.iter().enumerate().filter_map(|(i, condition)| key_of(condition, self.words).map(|(f, n)| (i, f, n))).collect();
        let mut best: Option<(f64, (Field, Field), usize, usize)> = None;
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                let (first, second) = if a.1 <= b.1 { (a, b) } else { (b, a) };
                let table = (first.1, second.1);
                if a.2 * b.2 > COPIES_MAX || a.1 == b.1 || !is_allowed(&table) {
                    continue;
                }
                let cost = self.pair_ns(draft, first.0, second.0);
                if best.is_none_or(|(least, ..)| cost < least) {
                    best = Some((cost, table, first.0, second.0));
                }
            }
        }
        best
    }
}

/// How often a question with several literals is opened, compared with one of one literal.
const SEVERAL_LITERALS_SHARE: f64 = 0.25;

fn share_of_literals(words: Words<'_>, ask: u32) -> f64 {
    if words.asks[ask as usize].literals().len() > 1 { SEVERAL_LITERALS_SHARE } else { 1.0 }
}

/// Whether a condition is a question that a search opens.
pub(crate) fn is_openable(condition: &Condition, words: Words<'_>) -> bool {
    matches!(condition, Condition::Atom(_, Atom::Ask(ask)) if words.asks[*ask as usize].opening() != Opening::None)
}

/// The field whose keys lead to a condition, and how many keys it has there.
fn key_of(condition: &Condition, words: Words<'_>) -> Option<(Field, usize)> {
    match condition {
        Condition::Atom(slot, Atom::Among(values)) if (1..=COPIES_MAX).contains(&values.len()) => {
            Some((Field::Values(*slot), values.len()))
        }
        Condition::Atom(slot, Atom::Ask(_)) if is_openable(condition, words) => Some((Field::Open(*slot), 1)),
        _ => None,
    }
}

/// The keys of a condition that has some.
pub(crate) fn keys_of(condition: &Condition) -> &[u32] {
    match condition {
        Condition::Atom(_, Atom::Among(values)) => values,
        Condition::Atom(_, Atom::Ask(ask)) => std::slice::from_ref(ask),
        _ => &[],
    }
}
