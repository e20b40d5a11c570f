//! YAML 1.2 to positioned trees, from the events of `granit-parser`.

use std::collections::BTreeMap;

use distric_model::limits::NESTING_MAX;
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{ALIAS_NODES_MAX, DOCUMENT_NODES_MAX, DOCUMENTS_MAX, Document, Fault, Key, Node, NodeValue, Position, duplicate_key, scalar};

/// Reads all documents of a stream; empty ones are left out.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, Fault> {
    let options =
        granit_parser::options! { emit_comments: false, flow_nesting_limit: NESTING_MAX * 2, block_nesting_limit: NESTING_MAX * 2 };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: BTreeMap::new(),
        nodes_count: 0,
        alias_nodes_count: 0,
    };
    let mut documents = Vec::new();
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(..) => {
                builder.anchors.clear();
                let (first, at) = builder.next()?;
                let empty = matches!(&first, Event::Scalar(_, ScalarStyle::Plain, 0, None)) && at.is_empty();
                let root = builder.node(first, at, 0)?;
                if empty {
                    continue;
                }
                if documents.len() == DOCUMENTS_MAX {
                    return Err(Fault::new(
                        root.at,
                        "the text has more documents than DOCUMENTS_MAX",
                        Some(&format!("at most {DOCUMENTS_MAX}")),
                    ));
                }
                documents.push(Document { root });
            }
            Event::StreamStart | Event::DocumentEnd => {}
            _ => return Err(Fault::new(position(&span), "a value outside of any document", None)),
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    /// Finished anchored nodes, with the number of nodes in each and its depth.
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    nodes_count: usize,
    alias_nodes_count: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let marker = error.marker();
                Err(Fault::new(position_of(marker.line(), marker.col()), format!("not YAML: {}", error.info()), None))
            }
            None => Err(Fault::new(Position::default(), "the text ends too early", None)),
        }
    }

    /// Builds the node that starts with this event.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let at = position(&span);
        self.nodes_count += 1;
        self.check_nodes_count(at)?;
        let nodes_before = self.nodes_count;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar_value(&text, style, tag.as_deref(), at)?, anchor),
            Event::SequenceStart(_, anchor, tag) => {
                check_collection(tag.as_deref(), "seq", depth, at)?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (NodeValue::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_collection(tag.as_deref(), "map", depth, at)?;
                (NodeValue::Map(self.members(depth)?), anchor)
            }
            Event::Alias(id) => return self.alias(id, at, depth),
            _ => return Err(Fault::new(at, "not a value", None)),
        };
        let node = Node { value, at };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes_count - nodes_before + 1, height(&node)));
        }
        Ok(node)
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Fault> {
        let mut members = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let at = position(&span);
            let text = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, _, _) => {
                    if style == ScalarStyle::Plain && text == "<<" {
                        return Err(Fault::new(at, "merge keys (`<<`) are not part of YAML 1.2", Some("the members written out")));
                    }
                    text.into_owned()
                }
                Event::Alias(id) => match self.anchors.get(&id) {
                    Some((Node { value: NodeValue::String(text), .. }, ..)) => text.clone(),
                    _ => return Err(Fault::new(at, "the key is not a string", Some("a string"))),
                },
                _ => return Err(Fault::new(at, "the key is a list or a map", Some("a string"))),
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            members.push((Key { text, at }, node));
        }
        match duplicate_key(&members) {
            Some(fault) => Err(fault),
            None => Ok(members),
        }
    }

    fn alias(&mut self, id: usize, at: Position, depth: usize) -> Result<Node, Fault> {
        let Some((node, size, height)) = self.anchors.get(&id) else {
            return Err(Fault::new(at, "the alias stands inside the value that it names", None));
        };
        if depth + height > NESTING_MAX {
            return Err(too_deep(at));
        }
        self.alias_nodes_count += size;
        self.nodes_count += size;
        if self.alias_nodes_count > ALIAS_NODES_MAX {
            let expected = format!("at most {ALIAS_NODES_MAX} copied values");
            return Err(Fault::new(at, "the aliases copy more values than ALIAS_NODES_MAX", Some(&expected)));
        }
        let node = node.clone();
        self.check_nodes_count(at)?;
        Ok(node)
    }

    fn check_nodes_count(&self, at: Position) -> Result<(), Fault> {
        if self.nodes_count > DOCUMENT_NODES_MAX {
            return Err(Fault::new(at, "the text has more values than DOCUMENT_NODES_MAX", Some(&format!("at most {DOCUMENT_NODES_MAX}"))));
        }
        Ok(())
    }
}

fn check_collection(tag: Option<&Tag>, own: &str, depth: usize, at: Position) -> Result<(), Fault> {
    if depth >= NESTING_MAX {
        return Err(too_deep(at));
    }
    match tag {
        Some(tag) if tag.core_suffix() != Some(own) => Err(unknown_tag(tag, at)),
        _ => Ok(()),
    }
}

fn too_deep(at: Position) -> Fault {
    Fault::new(at, "the text nests deeper than NESTING_MAX", Some(&format!("at most {NESTING_MAX} levels")))
}

fn unknown_tag(tag: &Tag, at: Position) -> Fault {
    Fault::new(at, format!("the tag `{}` does not fit here", tag.original()), Some("no tag"))
}

/// The type of a scalar: its tag's, else a string when quoted, else what the core schema says.
fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Result<NodeValue, Fault> {
    let resolved =
        |text: &str| scalar::resolve(text).map_err(|message| Fault::new(at, format!("{message}: `{text}`"), Some("a finite number")));
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { resolved(text) } else { Ok(NodeValue::String(text.into())) };
    };
    let kind = tag.core_suffix().ok_or_else(|| unknown_tag(tag, at))?;
    if kind == "str" {
        return Ok(NodeValue::String(text.into()));
    }
    let value = resolved(text)?;
    let fits = matches!((kind, &value), ("null", NodeValue::Null) | ("bool", NodeValue::Bool(_)) | ("int" | "float", NodeValue::Number(_)));
    if fits { Ok(value) } else { Err(unknown_tag(tag, at)) }
}

/// Levels of collections from this node down: 0 for a scalar.
fn height(node: &Node) -> usize {
    match &node.value {
        NodeValue::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        NodeValue::Map(members) => 1 + members.iter().map(|(_, node)| height(node)).max().unwrap_or(0),
        _ => 0,
    }
}

fn position(span: &Span) -> Position {
    position_of(span.start.line(), span.start.col())
}

fn position_of(line: usize, column_from_0: usize) -> Position {
    Position { line: u32::try_from(line).unwrap_or(u32::MAX), column: u32::try_from(column_from_0 + 1).unwrap_or(u32::MAX) }
}
