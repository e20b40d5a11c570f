//! Slots: what one message holds at every path that some rule names.
//!
//! Paths are numbered by the program; some need the values of other paths as well (`payload.x` means `x` unless there is a
//! member `payload`), so there are more slots than numbered paths. A trie over the members' names leads the reader.

use std::collections::BTreeMap;

use crate::decision::Envelope;
use crate::index::values::{Table, UNKNOWN, hash};
use crate::path::Path;
use crate::predicate::Leaf;

/// A text of the payload, or of the scratch's own bytes when it had to be unescaped or copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
    pub own: bool,
}

/// A scalar at a path, or the length of a list there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(f64),
    Text(Span),
    /// A list is the value at the path itself. No leaf: only lengths look at it.
    List(u32),
}

/// One leaf in the chain of its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub content: Content,
    /// It is the value at the path itself, not an element of a list there.
    pub direct: bool,
    /// Its number in the slot's dictionary.
    pub value: u32,
    pub next: u32,
}

/// The end of a chain.
pub(crate) const END: u32 = u32::MAX;

/// What is known about a slot, small enough that most tests need nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// One bit for each value number below 64 that some leaf has.
    pub mask: u64,
    /// The first number among the leaves; not a number when there is none.
    pub number: f64,
    /// The value number of the first leaf.
    pub value: u32,
    /// How many values the path leads to; none means that the field is missing.
    pub nodes_count: u32,
    /// How many leaves they have.
    pub leaves_count: u32,
    pub first: u32,
    last: u32,
}

pub(crate) const EMPTY: Slot = Slot { mask: 0, number: f64::NAN, value: UNKNOWN, nodes_count: 0, leaves_count: 0, first: END, last: END };

/// One message, read.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub slots: Vec<Slot>,
    pub entries: Vec<Entry>,
    /// Texts that are not in the payload as they are.
    pub own: String,
    /// By child of the trie: the object in which it was met last.
    pub met: Vec<u64>,
    /// Objects met, over all messages.
    pub objects_count: u64,
}

/// The texts that spans refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub payload: &'a str,
    pub own: &'a str,
}

impl<'a> Texts<'a> {
    #[inline]
    pub fn get(self, span: Span) -> &'a str {
        &(if span.own { self.own } else { self.payload })[span.start..span.end]
    }

    /// The scalar that an entry is; `None` for lists.
    #[inline]
    pub fn leaf(self, content: Content) -> Option<Leaf<'a>> {
        Some(match content {
            Content::Null => Leaf::Null,
            Content::Bool(b) => Leaf::Bool(b),
            Content::Number(n) => Leaf::Number(n),
            Content::Text(span) => Leaf::Text(self.get(span)),
            Content::List(_) => return None,
        })
    }
}

impl Seen {
    /// Forgets the last message.
    pub fn clear(&mut self, slots: &Slots) {
        self.slots.clear();
        self.slots.resize(slots.count, EMPTY);
        self.entries.clear();
        self.own.clear();
        if self.met.len() < slots.trie.links_count {
            self.met.resize(slots.trie.links_count, 0);
        }
    }

    /// Adds a value at the slot's path that is no scalar.
    #[inline]
    pub fn add_node(&mut self, slot: u32) {
        self.slots[slot as usize].nodes_count += 1;
    }

    /// Adds a leaf; a direct one is a value at the path as well.
    #[inline]
    pub fn add(&mut self, slot: u32, content: Content, direct: bool) {
        let at = self.entries.len() as u32;
        self.entries.push(Entry { content, direct, value: UNKNOWN, next: END });
        let slot = &mut self.slots[slot as usize];
        slot.nodes_count += u32::from(direct);
        slot.leaves_count += u32::from(!matches!(content, Content::List(_)));
        if slot.first == END {
            slot.first = at;
        } else {
            self.entries[slot.last as usize].next = at;
        }
        slot.last = at;
    }

    fn add_own(&mut self, slot: u32, text: &str) {
        let span = self.own(text);
        self.add(slot, Content::Text(span), true);
    }

    /// Keeps a copy of a text.
    pub fn own(&mut self, text: &str) -> Span {
        let start = self.own.len();
        self.own.push_str(text);
        Span { start, end: self.own.len(), own: true }
    }

    fn copy(&mut self, from: u32, to: u32) {
        let source = self.slots[from as usize];
        let mut at = source.first;
        while at != END {
            let entry = self.entries[at as usize];
            self.add(to, entry.content, entry.direct);
            at = entry.next;
        }
        self.slots[to as usize].nodes_count = source.nodes_count;
    }

    /// The entries of a slot.
    pub fn chain(&self, slot: u32) -> impl Iterator<Item = &Entry> {
        let mut at = self.slots[slot as usize].first;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some(entry)
        })
    }
}

/// Where a slot gets its values when the reader does not put them there.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The payload's member `event_type`, else the envelope's.
    EventTypeOfPayload,
    /// The envelope's, else the payload's member.
    EventTypeOfEnvelope,
    Namespace,
    Sender,
    Timestamp,
    Header,
    /// `payload.rest`: the one slot when the payload has a member `payload`, else the other, which may be the event type.
    Alias {
        full: u32,
        short: u32,
        is_event_type: bool,
    },
}

/// All slots of a program.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub trie: Trie,
    count: usize,
    derived: Vec<(u32, Source)>,
    headers: BTreeMap<u32, String>,
    /// The payload's own members `event_type` and `payload`.
    event_type: u32,
    payload: u32,
}

impl Slots {
    /// Slots for these paths, in their order, then those that they need.
    pub fn new(paths: &[Path]) -> Self {
        let mut slots = Self { count: paths.len(), ..Self::default() };
        let mut plain: BTreeMap<Vec<String>, u32> = BTreeMap::new();
        let event_type = vec!["event_type".to_string()];
        for (path, slot) in paths.iter().zip(0..) {
            match path {
                Path::Payload(segments) if *segments != event_type && !is_alias(segments) => {
                    plain.insert(segments.clone(), slot);
                }
                _ => {}
            }
        }
        let mut plain_slot = |slots: &mut Self, segments: &[String]| {
            *plain.entry(segments.to_vec()).or_insert_with(|| {
                slots.count += 1;
                slots.count as u32 - 1
            })
        };
        slots.event_type = plain_slot(&mut slots, &event_type);
        slots.payload = plain_slot(&mut slots, &["payload".to_string()]);
        for (path, slot) in paths.iter().zip(0..) {
            let source = match path {
                Path::Payload(segments) if *segments == event_type => Source::EventTypeOfPayload,
                Path::Payload(segments) if is_alias(segments) => Source::Alias {
                    full: plain_slot(&mut slots, segments),
                    short: plain_slot(&mut slots, &segments[1..]),
                    is_event_type: segments[1..] == event_type,
                },
                Path::Payload(_) => continue,
                Path::EventType => Source::EventTypeOfEnvelope,
                Path::Namespace => Source::Namespace,
                Path::Source => Source::Sender,
                Path::Timestamp => Source::Timestamp,
                Path::Header(name) => {
                    slots.headers.insert(slot, name.clone());
                    Source::Header
                }
            };
            slots.derived.push((slot, source));
        }
        for (segments, slot) in plain {
            slots.trie.insert(&segments, slot);
        }
        slots
    }

    /// Fills the slots that the reader does not.
    pub fn derive(&self, seen: &mut Seen, envelope: &Envelope<'_>, timestamp: Option<&str>) {
        for (slot, source) in &self.derived {
            let slot = *slot;
            match source {
                Source::EventTypeOfPayload => self.event_type_of_payload(seen, envelope, slot),
                Source::EventTypeOfEnvelope => match envelope.event_type {
                    Some(event_type) => seen.add_own(slot, event_type),
                    None => seen.copy(self.event_type, slot),
                },
                Source::Namespace => seen.add_own(slot, envelope.namespace),
                Source::Sender => envelope.source.into_iter().for_each(|text| seen.add_own(slot, text)),
                Source::Timestamp => timestamp.into_iter().for_each(|text| seen.add_own(slot, text)),
                Source::Header => {
                    let name = &self.headers[&slot];
                    for (_, value) in envelope.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)) {
                        seen.add_own(slot, value);
                    }
                }
                Source::Alias { full, .. } if seen.slots[self.payload as usize].nodes_count > 0 => seen.copy(*full, slot),
                Source::Alias { is_event_type: true, .. } => self.event_type_of_payload(seen, envelope, slot),
                Source::Alias { short, .. } => seen.copy(*short, slot),
            }
        }
    }

    fn event_type_of_payload(&self, seen: &mut Seen, envelope: &Envelope<'_>, slot: u32) {
        match envelope.event_type {
            Some(event_type) if seen.slots[self.event_type as usize].nodes_count == 0 => seen.add_own(slot, event_type),
            _ => seen.copy(self.event_type, slot),
        }
    }

    /// The payload's member `event_type`, when it is a text.
    pub fn event_type<'a>(&self, seen: &Seen, texts: Texts<'a>) -> Option<&'a str> {
        match seen.chain(self.event_type).next()? {
            Entry { content: Content::Text(span), direct: true, .. } => Some(texts.get(*span)),
            _ => None,
        }
    }
}

fn is_alias(segments: &[String]) -> bool {
    segments.len() > 1 && segments[0] == "payload"
}

/// The names that paths are made of, as a tree.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    /// Links between nodes, each with a number for [`Seen::met`].
    pub links_count: usize,
}

#[derive(Debug, Default)]
struct Node {
    slot: Option<u32>,
    /// One bit for each pair of length and first byte that a name has, some pairs sharing one.
    kinds: u64,
    table: Table,
    links: Vec<Link>,
}

/// A member that leads on.
#[derive(Debug)]
pub(crate) struct Link {
    pub name: String,
    pub number: usize,
    pub node: u32,
}

/// A bit for the length and the first byte of a name.
#[inline]
fn kind_of(name: &[u8]) -> u64 {
    let first = name.first().copied().unwrap_or_default();
    1 << ((usize::from(first) * 5 + name.len()) % 64)
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], links_count: 0 }
    }
}

impl Trie {
    /// The node of the payload itself.
    pub const ROOT: u32 = 0;

    fn insert(&mut self, segments: &[String], slot: u32) {
        let mut at = Self::ROOT;
        for name in segments {
            at = match self.link(at, name.as_bytes()) {
                Some(link) => link.node,
                None => {
                    let next = self.nodes.len() as u32;
                    self.nodes.push(Node::default());
                    let node = &mut self.nodes[at as usize];
                    node.kinds |= kind_of(name.as_bytes());
                    node.table.insert(hash(name.as_bytes()), node.links.len() as u32);
                    node.links.push(Link { name: name.clone(), number: self.links_count, node: next });
                    self.links_count += 1;
                    next
                }
            };
        }
        self.nodes[at as usize].slot = Some(slot);
    }

    /// The member of this name below a node, when some path goes there.
    #[inline]
    pub fn link(&self, node: u32, name: &[u8]) -> Option<&Link> {
        let node = &self.nodes[node as usize];
        if node.kinds & kind_of(name) == 0 {
            return None;
        }
        let found = node.table.find(hash(name), |i| node.links[i as usize].name.as_bytes() == name);
        node.links.get(found as usize)
    }

    /// All members below a node that some path goes to.
    pub fn links(&self, node: u32) -> &[Link] {
        &self.nodes[node as usize].links
    }

    /// The slot of the path that ends at a node.
    #[inline]
    pub fn slot(&self, node: u32) -> Option<u32> {
        self.nodes[node as usize].slot
    }
}
