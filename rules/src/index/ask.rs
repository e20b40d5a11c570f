//! Questions about texts and lengths: each is answered at most once a message.
//!
//! All literals that rules look for in one field, the ones that their regular expressions cannot match without included, are found in
//! one pass over its texts (Aho and Corasick 1975). That answers `contains`, `prefix` and `suffix`; a regular expression or a wildcard
//! is asked only when all its literals were there. An address is looked up among all networks of its field at once, which answers `cidr`.
//! A question that may be answered with yes is *open*.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, StartKind, dfa, nfa};
use ipnet::IpNet;

use crate::index::networks::Networks;
use crate::index::scratch::Marks;
use crate::index::slots::{Content, Seen, Texts};
use crate::pattern::Pattern;
use crate::predicate::{Leaf, Predicate, Scalars, Seen as Node};

/// A question about one slot.
#[derive(Debug)]
pub(crate) enum Ask {
    /// The search for its literal answers it.
    Found,
    /// An element of a list at the path is one of these, or, where any text will do, there is a text at the path.
    Element { any_text: bool, element: Scalars },
    /// A leaf matches; none does without these literals.
    Regex { pattern: Pattern, literals: Vec<u32> },
    /// A leaf is a text that fits; none does without these literals.
    Text { predicate: Predicate, literals: Vec<u32> },
    /// The length of a text or list at the path.
    Length(Predicate),
}

impl Ask {
    /// The literals without which the answer is no; their search must have opened the question.
    pub fn literals(&self) -> &[u32] {
        match self {
            Self::Regex { literals, .. } | Self::Text { literals, .. } => literals,
            _ => &[],
        }
    }

    /// Whether a search opens it, and how much that says.
    pub fn opening(&self) -> Opening {
        match self {
            Self::Found => Opening::Answer,
            other if other.literals().is_empty() => Opening::None,
            _ => Opening::Hint,
        }
    }

    /// What an answer is taken to cost, nanoseconds, for shares.
    pub fn estimate_ns(&self) -> u64 {
        match self {
            Self::Found => 0,
            Self::Element { .. } | Self::Length(_) => 20,
            Self::Text { .. } => 40,
            Self::Regex { .. } => 80,
        }
    }

    /// The answer for this message, to a question that a search does not answer.
    pub fn answer(&self, slot: u32, seen: &Seen, texts: Texts<'_>) -> bool {
        match self {
            Self::Found => false,
            Self::Element { any_text, element } => {
                (*any_text && seen.chain(slot).any(|e| e.direct && matches!(e.content, Content::Text(_))))
                    || seen.chain(slot).any(|e| !e.direct && texts.leaf(e.content).is_some_and(|leaf| element.contains(leaf)))
            }
            Self::Regex { pattern, .. } => any_text(slot, seen, texts, |text| pattern.is_match(text)),
            Self::Text { predicate, .. } => any_text(slot, seen, texts, |text| predicate.fits_text(text)),
            Self::Length(predicate) => seen.chain(slot).filter(|e| e.direct).any(|e| {
                let length = match e.content {
                    Content::Text(span) => texts.get(span).chars().count(),
                    Content::List(length) => length as usize,
                    _ => return false,
                };
                predicate.holds(&[Node::Text("")], &[Leaf::Number(length as f64)])
            }),
        }
    }
}

/// What it says about a question that a search has opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// No search opens it.
    None,
    /// The answer may be yes; without, it is no.
    Hint,
    /// The answer is yes; without, it is no.
    Answer,
}

fn any_text(slot: u32, seen: &Seen, texts: Texts<'_>, fits: impl Fn(&str) -> bool) -> bool {
    seen.chain(slot).any(|entry| matches!(entry.content, Content::Text(span) if fits(texts.get(span))))
}

/// Where a literal must be to answer a question with yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    /// In a text at the path, or the whole of an element of a list there.
    Inside,
    /// At the start of a text.
    Start,
    /// At its end.
    End,
    /// Anywhere, together with the question's other literals; that makes the answer possible.
    Part,
    /// It is no literal but a network, and one of the question's has an address in it.
    Network,
}

/// Flags of how a literal was found, one for each sense in which that counts.
const INSIDE: u32 = 1;
const START: u32 = 2;
const END: u32 = 4;
/// How many flags there are.
pub(crate) const FLAGS_BITS: u32 = 3;

impl Sense {
    fn fits(self, flags: u32) -> bool {
        match self {
            Self::Inside => flags & INSIDE != 0,
            Self::Start => flags & START != 0,
            Self::End => flags & END != 0,
            Self::Part | Self::Network => true,
        }
    }
}

/// Literals by slot, being collected.
#[derive(Debug, Default)]
pub(crate) struct Literals {
    by_slot: BTreeMap<u32, Vec<(Vec<u8>, u32)>>,
    known: BTreeMap<(u32, Vec<u8>), u32>,
    uses: Vec<(u32, Sense, u32)>,
    /// By slot, with numbers of the same sequence as literals have.
    networks: BTreeMap<u32, Vec<(IpNet, u32)>>,
    /// By question: its networks.
    network_uses: Vec<(u32, Vec<u32>)>,
    count: u32,
}

impl Literals {
    /// The number of a literal of this slot.
    pub fn intern(&mut self, slot: u32, literal: &[u8]) -> u32 {
        *self.known.entry((slot, literal.to_vec())).or_insert_with(|| {
            self.by_slot.entry(slot).or_default().push((literal.to_vec(), self.count));
            self.count += 1;
            self.count - 1
        })
    }

    /// Has the question answered by the search for a literal.
    pub fn seek(&mut self, slot: u32, literal: &[u8], sense: Sense, ask: u32) {
        let literal = self.intern(slot, literal);
        self.uses.push((literal, sense, ask));
    }

    /// Has the question answered by looking for addresses of the slot in these networks.
    pub fn seek_networks(&mut self, slot: u32, nets: &[IpNet], ask: u32) {
        let of_slot = self.networks.entry(slot).or_default();
        let numbers = nets.iter().zip(self.count..).map(|(net, number)| {
            of_slot.push((*net, number));
            number
        });
        self.network_uses.push((ask, numbers.collect()));
        self.count += nets.len() as u32;
    }

    /// How many literals and networks a slot has.
    pub fn count(&self, slot: u32) -> usize {
        self.by_slot.get(&slot).map_or(0, Vec::len) + self.networks.get(&slot).map_or(0, Vec::len)
    }
}

/// The automata, one for each slot with literals.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    /// By slot: its position in `searches`, or none.
    of_slot: Vec<Option<u32>>,
    searches: Vec<Search>,
    /// By literal: a part of `uses`.
    uses_of: Vec<(u32, u32)>,
    uses: Vec<Use>,
    /// By question: its sense, and a part of `literals`.
    sought: Vec<(Sense, u32, u32)>,
    literals: Vec<u32>,
    /// By literal, bytes.
    lengths: Vec<u32>,
}

struct Search {
    slot: u32,
    /// None, when only networks are looked for.
    automaton: Option<Machine>,
    networks: Networks,
    /// Literal numbers by the automaton's.
    numbers: Vec<u32>,
    /// Whether candidates are found by its open questions; else each question is looked at when it is asked.
    opens: bool,
}

/// A question that a literal may open.
#[derive(Clone, Copy, Debug)]
struct Use {
    ask: u32,
    sense: Sense,
}

enum Machine {
    Table(dfa::DFA),
    Compact(nfa::contiguous::NFA),
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Search({} literals)", self.numbers.len())
    }
}

/// Most bytes of literals for which the full transition table is built: it takes up to 1 KiB a byte, and must stay in the cache.
const TABLE_LITERAL_BYTES_MAX: usize = 16 << 10;

impl Machine {
    fn build(list: &[(Vec<u8>, u32)]) -> Option<Self> {
        let texts: Vec<&[u8]> = list.iter().map(|(text, _)| text.as_slice()).collect();
        let bytes_count: usize = texts.iter().map(|text| text.len()).sum();
        Some(if bytes_count <= TABLE_LITERAL_BYTES_MAX {
            Self::Table(dfa::Builder::new().start_kind(StartKind::Unanchored).prefilter(false).build(&texts).ok()?)
        } else {
            Self::Compact(nfa::contiguous::Builder::new().prefilter(false).build(&texts).ok()?)
        })
    }
}

impl Searches {
    /// Builds the automata. `None`: there are more literals than an automaton can hold.
    pub fn build(literals: Literals, asks: &[Ask], slots_count: usize) -> Option<Self> {
        let count = literals.count as usize;
        let mut searches = Self { lengths: vec![0; count], of_slot: vec![None; slots_count], ..Self::default() };
        let mut of_ask: Vec<(Sense, &[u32])> = asks.iter().map(|ask| (Sense::Part, ask.literals())).collect();
        for (literal, sense, ask) in &literals.uses {
            of_ask[*ask as usize] = (*sense, std::slice::from_ref(literal));
        }
        for (ask, networks) in &literals.network_uses {
            of_ask[*ask as usize] = (Sense::Network, networks);
        }
        for (sense, literals) in &of_ask {
            let from = searches.literals.len() as u32;
            searches.literals.extend_from_slice(literals);
            searches.sought.push((*sense, from, searches.literals.len() as u32));
        }
        // A question with several literals is opened by the one that fewest questions have.
        let mut shares = vec![0_u32; count];
        searches.literals.iter().for_each(|literal| shares[*literal as usize] += 1);
        let mut uses: Vec<(u32, Use)> = Vec::new();
        for ((sense, literals), ask) in of_ask.into_iter().zip(0..) {
            if sense == Sense::Network {
                uses.extend(literals.iter().map(|network| (*network, Use { ask, sense })));
            } else if let Some(literal) = literals.iter().min_by_key(|literal| (shares[**literal as usize], **literal)) {
                uses.push((*literal, Use { ask, sense }));
            }
        }
        uses.sort_by_key(|(literal, of)| (*literal, of.ask));
        searches.uses_of = vec![(0, 0); count];
        for of_one in uses.chunk_by(|a, b| a.0 == b.0) {
            let from = searches.uses.len() as u32;
            searches.uses.extend(of_one.iter().map(|(_, of)| *of));
            searches.uses_of[of_one[0].0 as usize] = (from, searches.uses.len() as u32);
        }
        let slots: BTreeSet<u32> = literals.by_slot.keys().chain(literals.networks.keys()).copied().collect();
        for slot in slots {
            let list = literals.by_slot.get(&slot).map(Vec::as_slice).unwrap_or_default();
            list.iter().for_each(|(text, number)| searches.lengths[*number as usize] = text.len() as u32);
            let automaton = if list.is_empty() { None } else { Some(Machine::build(list)?) };
            let networks = Networks::new(literals.networks.get(&slot).map(Vec::as_slice).unwrap_or_default());
            searches.of_slot[slot as usize] = Some(searches.searches.len() as u32);
            let numbers = list.iter().map(|(_, number)| *number).collect();
            searches.searches.push(Search { slot, automaton, networks, numbers, opens: false });
        }
        Some(searches)
    }

    /// How many literals there are in all.
    pub fn literals_count(&self) -> usize {
        self.lengths.len()
    }

    /// How many slots there are.
    pub fn slots_count(&self) -> usize {
        self.of_slot.len()
    }

    /// Has the questions of a slot opened as soon as a message was read.
    pub fn open_early(&mut self, slot: u32) {
        if let Some(search) = self.of_slot[slot as usize] {
            self.searches[search as usize].opens = true;
        }
    }

    /// Opens the questions by which candidates are found.
    pub fn open(&self, seen: &Seen, texts: Texts<'_>, marks: &mut Marks) {
        for search in self.searches.iter().filter(|search| search.opens) {
            marks.begin_search(search.slot);
            let from = marks.found.len();
            self.search(search, seen, texts, marks);
            for i in from..marks.found.len() {
                let (from, to) = self.uses_of[marks.found[i] as usize];
                for of in &self.uses[from as usize..to as usize] {
                    // Several networks of one question may have the address in them.
                    let is_known = of.sense == Sense::Network && marks.answer(of.ask).is_some();
                    if !is_known && self.is_open(of.ask, marks) {
                        marks.open(of.ask, (of.sense != Sense::Part).then_some(true));
                    }
                }
            }
            marks.close_slot(search.slot);
        }
    }

    /// Whether the question may be answered with yes, which is the answer when the search answers it.
    pub fn may_hold(&self, slot: u32, ask: u32, seen: &Seen, texts: Texts<'_>, marks: &mut Marks) -> bool {
        if let Some(search) = self.of_slot[slot as usize]
            && marks.begin_search(slot)
        {
            self.search(&self.searches[search as usize], seen, texts, marks);
        }
        self.is_open(ask, marks)
    }

    #[inline]
    fn is_open(&self, ask: u32, marks: &Marks) -> bool {
        let (sense, from, to) = self.sought[ask as usize];
        let mut sought = self.literals[from as usize..to as usize].iter();
        if sense == Sense::Network {
            return sought.any(|network| marks.is_found(*network));
        }
        sought.all(|literal| marks.is_found(*literal) && sense.fits(marks.flags(*literal)))
    }

    /// Finds all literals of a slot.
    fn search(&self, search: &Search, seen: &Seen, texts: Texts<'_>, marks: &mut Marks) {
        for entry in seen.chain(search.slot) {
            let Content::Text(span) = entry.content else { continue };
            let text = texts.get(span).as_bytes();
            let mark = |i: usize, end: usize| {
                let literal = search.numbers[i];
                let start = if end == self.lengths[literal as usize] as usize { START } else { 0 };
                let end = if end == text.len() { END } else { 0 };
                let inside = if entry.direct || (start | end) == START | END { INSIDE } else { 0 };
                marks.mark_found(literal, inside | start | end);
            };
            match &search.automaton {
                None => {}
                Some(Machine::Table(automaton)) => all_matches(automaton, text, mark),
                Some(Machine::Compact(automaton)) => all_matches(automaton, text, mark),
            }
            if !search.networks.is_empty()
                && let Ok(address) = texts.get(span).parse()
            {
                search.networks.each(address, |network| marks.mark_found(network, 0));
            }
        }
    }
}

#[inline]
fn all_matches(automaton: &impl Automaton, text: &[u8], mut mark: impl FnMut(usize, usize)) {
    let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
    for (at, byte) in text.iter().enumerate() {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            for i in 0..automaton.match_len(state) {
                mark(automaton.match_pattern(state, i).as_usize(), at + 1);
            }
        }
    }
}
