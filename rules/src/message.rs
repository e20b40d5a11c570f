//! One message as rules see it: paths to values.

use serde_json::Value;

use crate::decision::Envelope;
use crate::path::Path;
use crate::predicate::{Leaf, Seen};

/// A payload with its envelope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub payload: &'a Value,
    pub envelope: &'a Envelope<'a>,
    /// The envelope's timestamp as RFC 3339 text, when it has one and somebody asks.
    pub timestamp: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Adds the values at a path, in order.
    pub fn collect(&self, path: &Path, out: &mut Vec<Seen<'a>>) {
        let envelope = self.envelope;
        match path {
            Path::Payload(segments) => self.collect_payload(segments, out),
            Path::EventType => match envelope.event_type {
                Some(event_type) => out.push(Seen::Text(event_type)),
                None => self.collect_member("event_type", out),
            },
            Path::Namespace => out.push(Seen::Text(envelope.namespace)),
            Path::Source => out.extend(envelope.source.map(Seen::Text)),
            Path::Timestamp => out.extend(self.timestamp.map(Seen::Text)),
            Path::Header(name) => {
                out.extend(envelope.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| Seen::Text(value)));
            }
        }
    }

    fn collect_member(&self, name: &str, out: &mut Vec<Seen<'a>>) {
        out.extend(self.payload.as_object().and_then(|members| members.get(name)).map(Seen::Value));
    }

    fn collect_payload(&self, segments: &[String], out: &mut Vec<Seen<'a>>) {
        let members = self.payload.as_object();
        let has = |name: &str| members.is_some_and(|members| members.contains_key(name));
        // `payload.x` means `x`, unless the payload has a member of that name.
        let segments = match segments {
            [first, rest @ ..] if first == "payload" && !rest.is_empty() && !has(first) => rest,
            all => all,
        };
        // `event_type` means the envelope's, unless the payload has its own.
        if let ([only], Some(event_type)) = (segments, self.envelope.event_type)
            && only == "event_type"
            && !has(only)
        {
            out.push(Seen::Text(event_type));
            return;
        }
        if members.is_some() {
            walk(self.payload, segments, out);
        }
    }
}

/// Follows a path; a list on the way is entered, and its elements that are no objects yield nothing.
fn walk<'a>(value: &'a Value, segments: &[String], out: &mut Vec<Seen<'a>>) {
    let Some((first, rest)) = segments.split_first() else {
        out.push(Seen::Value(value));
        return;
    };
    match value {
        Value::Object(members) => {
            if let Some(member) = members.get(first) {
                walk(member, rest, out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, segments, out)),
        _ => {}
    }
}

/// Adds the leaves of a value: lists opened, objects dropped.
pub(crate) fn flatten<'a>(node: Seen<'a>, out: &mut Vec<Leaf<'a>>) {
    match node {
        Seen::Text(text) => out.push(Leaf::Text(text)),
        Seen::Value(Value::Array(items)) => items.iter().for_each(|item| flatten(Seen::Value(item), out)),
        Seen::Value(value) => out.extend(Leaf::of(value)),
    }
}

/// A message with the values of each path that was asked for. Every path is followed once.
pub(crate) struct Resolution<'a> {
    message: Message<'a>,
    /// By path number; the end of `nodes` is `UNKNOWN` until the path was followed.
    spans: Vec<Span>,
    nodes: Vec<Seen<'a>>,
    leaves: Vec<Leaf<'a>>,
}

#[derive(Clone, Copy)]
struct Span {
    nodes: (u32, u32),
    leaves: (u32, u32),
}

const UNKNOWN: Span = Span { nodes: (0, u32::MAX), leaves: (0, 0) };

impl<'a> Resolution<'a> {
    /// Nothing followed yet.
    pub fn new(message: Message<'a>, paths_count: usize) -> Self {
        Self { message, spans: vec![UNKNOWN; paths_count], nodes: Vec::with_capacity(16), leaves: Vec::with_capacity(16) }
    }

    /// The values at the path with this number: as they are, and their leaves.
    pub fn values(&mut self, number: u32, paths: &[Path]) -> (&[Seen<'a>], &[Leaf<'a>]) {
        let mut span = self.spans[number as usize];
        if span.nodes.1 == u32::MAX {
            span = self.follow(&paths[number as usize]);
            self.spans[number as usize] = span;
        }
        (&self.nodes[span.nodes.0 as usize..span.nodes.1 as usize], &self.leaves[span.leaves.0 as usize..span.leaves.1 as usize])
    }

    fn follow(&mut self, path: &Path) -> Span {
        let (nodes_from, leaves_from) = (self.nodes.len() as u32, self.leaves.len() as u32);
        self.message.collect(path, &mut self.nodes);
        for i in nodes_from as usize..self.nodes.len() {
            flatten(self.nodes[i], &mut self.leaves);
        }
        Span { nodes: (nodes_from, self.nodes.len() as u32), leaves: (leaves_from, self.leaves.len() as u32) }
    }
}
