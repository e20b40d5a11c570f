//! Questions about texts and lengths: each is answered at most once a message.
//!
//! All literals that rules look for in one field, the ones that their regular expressions cannot match without included, are found in
//! one pass over its texts (Aho and Corasick 1975); a regular expression runs only when its literals were there.

use std::collections::BTreeMap;
use std::fmt;

use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, StartKind, dfa, nfa};

use crate::index::scratch::Marks;
use crate::index::slots::{Content, Seen, Texts};
use crate::pattern::Pattern;
use crate::predicate::{Leaf, Predicate, Scalars, Seen as Node};

/// A question about one slot.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A text at the path holds the needle, or an element of a list there is one of these.
    Contains { needle: Needle, element: Scalars },
    /// A leaf matches; none does without these literals.
    Regex { pattern: Pattern, literals: Vec<u32> },
    /// The length of a text or list at the path.
    Length(Predicate),
    /// A leaf is a text that fits.
    Text(Predicate),
}

/// What `contains` looks for in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needle {
    /// It looks for something that is no text.
    Nothing,
    /// The empty text, which every text holds.
    Everything,
    /// A numbered literal.
    Literal(u32),
}

impl Ask {
    /// The answer for this message.
    pub fn answer(&self, slot: u32, seen: &Seen, texts: Texts<'_>, searches: &Searches, marks: &mut Marks) -> bool {
        match self {
            Self::Contains { needle, element } => {
                let text = match needle {
                    Needle::Nothing => false,
                    Needle::Everything => seen.chain(slot).any(|e| e.direct && matches!(e.content, Content::Text(_))),
                    Needle::Literal(literal) => {
                        searches.run(slot, seen, texts, marks);
                        marks.found_direct(*literal)
                    }
                };
                text || seen.chain(slot).any(|e| !e.direct && texts.leaf(e.content).is_some_and(|leaf| element.contains(leaf)))
            }
            Self::Regex { pattern, literals } => {
                if !literals.is_empty() {
                    searches.run(slot, seen, texts, marks);
                    if !literals.iter().all(|literal| marks.found(*literal)) {
                        return false;
                    }
                }
                any_text(slot, seen, texts, |text| pattern.is_match(text))
            }
            Self::Text(predicate) => any_text(slot, seen, texts, |text| predicate.fits_text(text)),
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

fn any_text(slot: u32, seen: &Seen, texts: Texts<'_>, fits: impl Fn(&str) -> bool) -> bool {
    seen.chain(slot).any(|entry| matches!(entry.content, Content::Text(span) if fits(texts.get(span))))
}

/// Literals by slot, being collected.
#[derive(Debug, Default)]
pub(crate) struct Literals {
    by_slot: BTreeMap<u32, Vec<(Vec<u8>, u32)>>,
    known: BTreeMap<(u32, Vec<u8>), u32>,
}

impl Literals {
    /// The number of a literal of this slot.
    pub fn intern(&mut self, slot: u32, literal: &[u8]) -> u32 {
        let next = self.known.len() as u32;
        *self.known.entry((slot, literal.to_vec())).or_insert_with(|| {
            self.by_slot.entry(slot).or_default().push((literal.to_vec(), next));
            next
        })
    }
}

/// The automata, one for each slot with literals.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    /// By slot.
    of_slot: Vec<Option<Search>>,
    /// How many literals there are in all.
    pub literals_count: usize,
}

struct Search {
    automaton: Machine,
    /// Literal numbers by the automaton's.
    numbers: Vec<u32>,
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

impl Searches {
    /// Builds the automata. `None`: there are more literals than an automaton can hold.
    pub fn build(literals: Literals, slots_count: usize) -> Option<Self> {
        let mut searches = Self { of_slot: Vec::new(), literals_count: literals.known.len() };
        searches.of_slot.resize_with(slots_count, || None);
        for (slot, list) in literals.by_slot {
            let texts: Vec<&[u8]> = list.iter().map(|(text, _)| text.as_slice()).collect();
            let bytes_count: usize = texts.iter().map(|text| text.len()).sum();
            let automaton = if bytes_count <= TABLE_LITERAL_BYTES_MAX {
                Machine::Table(dfa::Builder::new().start_kind(StartKind::Unanchored).prefilter(false).build(&texts).ok()?)
            } else {
                Machine::Compact(nfa::contiguous::Builder::new().prefilter(false).build(&texts).ok()?)
            };
            searches.of_slot[slot as usize] = Some(Search { automaton, numbers: list.iter().map(|(_, number)| *number).collect() });
        }
        Some(searches)
    }

    /// How many slots there are.
    pub fn slots_count(&self) -> usize {
        self.of_slot.len()
    }

    /// Finds all literals of the slot, once a message. Values at the path itself go first: `contains` looks into them only.
    fn run(&self, slot: u32, seen: &Seen, texts: Texts<'_>, marks: &mut Marks) {
        let Some(search) = self.of_slot[slot as usize].as_ref().filter(|_| marks.begin_search(slot)) else { return };
        for direct in [true, false] {
            for entry in seen.chain(slot).filter(|entry| entry.direct == direct) {
                if let Content::Text(span) = entry.content {
                    let text = texts.get(span).as_bytes();
                    let mark = |i: usize| marks.mark_found(search.numbers[i], direct);
                    match &search.automaton {
                        Machine::Table(automaton) => all_matches(automaton, text, mark),
                        Machine::Compact(automaton) => all_matches(automaton, text, mark),
                    }
                }
            }
        }
    }
}

#[inline]
fn all_matches(automaton: &impl Automaton, text: &[u8], mut mark: impl FnMut(usize)) {
    let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
    for byte in text {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            for i in 0..automaton.match_len(state) {
                mark(automaton.match_pattern(state, i).as_usize());
            }
        }
    }
}
