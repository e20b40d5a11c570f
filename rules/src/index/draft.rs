//! Drafts: the alternatives of each rule, and by what each is to be found, chosen by what it would cost.
//!
//! Costs are estimates in nanoseconds a message, from what the rules say alone: a field whose values rules name equally often is taken to
//! have them equally often. They only ever decide between ways that give the same answer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::hands::{Hands, each, parts};
use crate::index::ask::Opening;
use crate::index::cells::{Cells, Field};
use crate::index::code::Words;
use crate::index::columns::kind_of;
use crate::index::lower::{Atom, Condition};

/// Most alternatives of a rule that become candidates of their own; a rule with more is one candidate with alternatives in its code.
pub(crate) const ALTERNATIVES_MAX: usize = 8;
/// A field must be compared with so many values for an equality on it to lead to a group.
const ACCESS_VALUES_MIN: usize = 3;
/// Drafts that are weighed at once by one pair of hands.
const PART_DRAFTS: usize = 4_096;
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

/// The fields of a table.
pub(crate) type Fields = (Field, Field);

/// Drafts by the table whose cells they are for.
pub(crate) type Tables = BTreeMap<Fields, Vec<Paired>>;

/// What every way to a draft is weighed by.
#[derive(Debug, Default)]
struct Weighed {
    /// By conjunct: how likely it is to hold.
    shares: Vec<f64>,
    /// The conjuncts that can lead to it.
    keyed: Vec<Keyed>,
    /// How likely its first range is.
    range: Option<f64>,
    /// How many conjuncts there are beside that range.
    rest: usize,
}

#[derive(Debug)]
struct Keyed {
    at: usize,
    field: Field,
    keys_count: usize,
    /// Whether it must still be asked when it has led to the draft.
    is_hint: bool,
}

/// How a draft is to be found: by the equality at `access` or none, at this cost; or by a pair.
#[derive(Debug)]
struct Choice {
    access: Option<usize>,
    cost: f64,
    pair: Option<Pair>,
}

#[derive(Debug)]
struct Pair {
    cost: f64,
    table: Fields,
    first: usize,
    second: usize,
}

/// The alternatives of a condition, each a list of what must hold.
pub(crate) fn alternatives(condition: Condition) -> Vec<Vec<Condition>> {
    let mut found: Vec<Vec<Condition>> = vec![Vec::new()];
    for conjunct in conjuncts(condition) {
        let list = match conjunct {
            Condition::Any(list) => list,
            conjunct => {
                if let Some((last, others)) = found.split_last_mut() {
                    others.iter_mut().for_each(|alternative| alternative.push(conjunct.clone()));
                    last.push(conjunct);
                }
                continue;
            }
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

    /// How likely all conjuncts that columns take are to hold, and the one at `access`; and whether code would be left to run.
    fn columns(&self, draft: &Draft, shares: &[f64], access: Option<usize>) -> (f64, bool) {
        let mut share = 1.0;
        let mut leaves_code = false;
        for ((i, condition), one) in draft.conjuncts.iter().enumerate().zip(shares) {
            if access == Some(i) || kind_of(condition, self.words.values).is_some() {
                share *= one;
            } else {
                leaves_code = true;
            }
        }
        (share, leaves_code)
    }

    /// What a draft of a group gains when its bit is set as soon as a question is open, rather than its code asking it. Not above zero: nothing.
    pub fn gain_of_posting(&self, draft: &Draft, question: &Condition) -> f64 {
        let shares: Vec<f64> = draft.conjuncts.iter().map(|condition| self.share(condition)).collect();
        let (mut share, _) = self.columns(draft, &shares, None);
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
    fn group_ns(&self, draft: &Draft, weighed: &Weighed, access: Option<usize>) -> f64 {
        let reached = access.map_or(1.0, |at| weighed.shares[at]);
        let (mut share, leaves_code) = self.columns(draft, &weighed.shares, access);
        let mut cost = reached * WORD_NS;
        for (condition, opened) in draft.conjuncts.iter().zip(&weighed.shares) {
            if is_openable(condition, self.words) && share * self.code_ns > opened * POSTING_NS {
                cost += opened * POSTING_NS;
                share *= opened;
            }
        }
        if leaves_code { cost + share * self.code_ns } else { cost }
    }

    fn pair_ns(&self, weighed: &Weighed, first: &Keyed, second: &Keyed) -> f64 {
        let reached = weighed.shares[first.at] * weighed.shares[second.at];
        let rest = weighed.rest - usize::from(!first.is_hint) - usize::from(!second.is_hint);
        let looked_at = if weighed.range.is_some() { RANGED_NS } else { UNRANGED_NS };
        reached * (looked_at + if rest > 0 { weighed.range.unwrap_or(1.0) * self.code_ns } else { 0.0 })
    }

    /// What is the same for every way to a draft.
    fn weigh(&self, draft: &Draft, weighed: &mut Weighed) {
        weighed.shares.clear();
        weighed.keyed.clear();
        (weighed.range, weighed.rest) = (None, 0);
        for (at, condition) in draft.conjuncts.iter().enumerate() {
            let share = self.share(condition);
            weighed.shares.push(share);
            match condition {
                Condition::Atom(_, Atom::Within(..)) if weighed.range.is_none() => weighed.range = Some(share),
                _ => weighed.rest += 1,
            }
            if let Some((field, keys_count)) = key_of(condition, self.words) {
                let is_hint =
                    matches!(condition, Condition::Atom(_, Atom::Ask(ask)) if self.words.asks[*ask as usize].opening() == Opening::Hint);
                weighed.keyed.push(Keyed { at, field, keys_count, is_hint });
            }
        }
    }

    /// Sorts drafts into those that are found by pairs, by table, and those of groups, which are told their access.
    pub fn choose(&self, hands: &dyn Hands, drafts: Vec<Draft>) -> (Tables, Vec<Draft>) {
        let cut = parts(&drafts, PART_DRAFTS);
        let mut gain: BTreeMap<Fields, f64> = BTreeMap::new();
        let mut weighed = Vec::with_capacity(cut.len());
        for (choices, gained) in each(hands, cut.clone(), |part| self.weigh_all(part)) {
            weighed.push(choices);
            gained.into_iter().for_each(|(table, ns)| *gain.entry(table).or_default() += ns);
        }
        // A table must gain more than looking into it costs every message.
        let opening = |field: &Field| if let Field::Open(slot) = field { self.opening_ns(*slot) } else { 0.0 };
        let price = |(a, b): &Fields| PROBE_NS * self.keys(*a) * self.keys(*b) + opening(a) + opening(b);
        let mut kept: Vec<(Fields, f64)> = gain.into_iter().filter(|(table, gain)| *gain > price(table)).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        kept.truncate(Cells::FIELDS_MAX / 2);
        let kept: BTreeSet<Fields> = kept.into_iter().map(|(table, _)| table).collect();
        let settled = each(hands, cut.into_iter().zip(weighed).collect(), |(part, mut choices): (&[Draft], Vec<Choice>)| {
            self.settle(part, &mut choices, &kept);
            choices
        });
        let mut paired = Tables::new();
        let mut rest = Vec::new();
        for (mut draft, choice) in drafts.into_iter().zip(settled.into_iter().flatten()) {
            match choice.pair {
                Some(pair) if pair.cost < choice.cost => {
                    paired.entry(pair.table).or_default().push(Paired { draft, first: pair.first, second: pair.second });
                }
                _ => {
                    draft.access = choice.access.and_then(|at| equality(&draft.conjuncts.remove(at)));
                    rest.push(draft);
                }
            }
        }
        (paired, rest)
    }

    /// The best ways to drafts when there are all tables, and what each table would gain by them.
    fn weigh_all(&self, drafts: &[Draft]) -> (Vec<Choice>, BTreeMap<Fields, f64>) {
        let mut gain: BTreeMap<Fields, f64> = BTreeMap::new();
        let mut weighed = Weighed::default();
        let mut choices = Vec::with_capacity(drafts.len());
        for draft in drafts {
            self.weigh(draft, &mut weighed);
            let access = self.group_of(draft);
            let cost = self.group_ns(draft, &weighed, access);
            let pair = self.best_pair(&weighed, |_| true);
            if let Some(pair) = pair.as_ref().filter(|pair| pair.cost < cost) {
                *gain.entry(pair.table).or_default() += cost - pair.cost;
            }
            choices.push(Choice { access, cost, pair });
        }
        (choices, gain)
    }

    /// The best ways when there are only these tables.
    fn settle(&self, drafts: &[Draft], choices: &mut [Choice], tables: &BTreeSet<Fields>) {
        let mut weighed = Weighed::default();
        for (draft, choice) in drafts.iter().zip(choices) {
            if choice.pair.as_ref().is_some_and(|pair| !tables.contains(&pair.table)) {
                self.weigh(draft, &mut weighed);
                choice.pair = self.best_pair(&weighed, |table| tables.contains(table));
            }
        }
    }

    /// The equality on the field with the most values, when one has enough.
    fn group_of(&self, draft: &Draft) -> Option<usize> {
        let values = |slot: u32| self.words.values[slot as usize].len();
        let equalities = draft.conjuncts.iter().enumerate().filter_map(|(i, condition)| Some((i, equality(condition)?)));
        let best = equalities.max_by_key(|(i, (slot, value))| (values(*slot), Reverse((*slot, *value, *i))));
        best.filter(|(_, (slot, _))| values(*slot) >= ACCESS_VALUES_MIN).map(|(i, _)| i)
    }

    fn best_pair(&self, weighed: &Weighed, is_allowed: impl Fn(&Fields) -> bool) -> Option<Pair> {
        let mut best: Option<Pair> = None;
        for (i, a) in weighed.keyed.iter().enumerate() {
            for b in &weighed.keyed[i + 1..] {
                let (first, second) = if a.field <= b.field { (a, b) } else { (b, a) };
                let table = (first.field, second.field);
                if a.keys_count * b.keys_count > COPIES_MAX || a.field == b.field {
                    continue;
                }
                let cost = self.pair_ns(weighed, first, second);
                if best.as_ref().is_none_or(|best| cost < best.cost) && is_allowed(&table) {
                    best = Some(Pair { cost, table, first: first.at, second: second.at });
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
