//! Reading a tree: a cursor that knows its path, and maps whose unknown keys are errors.

use super::{Key, Node, NodeValue, Position, Problems, did_you_mean};

/// A node together with the path that leads to it. All reading methods add a problem and return `None` when the node has another shape.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its path, such as `rules[3].conditions`; empty at the root.
    pub path: String,
}

impl<'a> Cursor<'a> {
    /// The root of a tree.
    pub fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    /// Where the node starts.
    pub fn at(&self) -> Position {
        self.node.at
    }

    /// Adds an error about this node.
    pub fn error(&self, problems: &mut Problems, message: impl Into<String>, expected: Option<&str>) {
        problems.error(self.node.at, &self.path, message, expected);
    }

    /// Adds a warning about this node.
    pub fn warning(&self, problems: &mut Problems, message: impl Into<String>, expected: Option<&str>) {
        problems.warning(self.node.at, &self.path, message, expected);
    }

    fn wrong_shape(&self, problems: &mut Problems, expected: &str) {
        self.error(problems, format!("found {}", self.node.kind()), Some(expected));
    }

    /// The text of a string.
    pub fn string(&self, problems: &mut Problems) -> Option<&'a str> {
        self.string_or(problems, "a string")
    }

    /// As [`Self::string`], saying what kind of text was expected.
    pub fn string_or(&self, problems: &mut Problems, expected: &str) -> Option<&'a str> {
        match &self.node.value {
            NodeValue::String(text) => Some(text),
            _ => {
                self.wrong_shape(problems, expected);
                None
            }
        }
    }

    /// One of the listed words, by its index; a suggestion is made for a near miss.
    pub fn word(&self, problems: &mut Problems, words: &[&str]) -> Option<usize> {
        let expected = || format!("one of {}", words.join(", "));
        let NodeValue::String(given) = &self.node.value else {
            self.wrong_shape(problems, &expected());
            return None;
        };
        let found = words.iter().position(|word| word == given);
        if found.is_none() {
            let message = match did_you_mean(given, words) {
                Some(near) => format!("unknown word `{given}`, did you mean `{near}`?"),
                None => format!("unknown word `{given}`"),
            };
            self.error(problems, message, Some(&expected()));
        }
        found
    }

    /// A boolean.
    pub fn bool(&self, problems: &mut Problems) -> Option<bool> {
        match self.node.value {
            NodeValue::Bool(value) => Some(value),
            _ => {
                self.wrong_shape(problems, "true or false");
                None
            }
        }
    }

    /// A whole number within `min..=max`.
    pub fn integer(&self, problems: &mut Problems, min: i64, max: i64) -> Option<i64> {
        let expected =
            || if max == i64::MAX { format!("a whole number from {min}") } else { format!("a whole number from {min} to {max}") };
        match &self.node.value {
            NodeValue::Number(number) => {
                let found = number.as_i64().filter(|value| (min..=max).contains(value));
                if found.is_none() {
                    self.error(problems, format!("found {number}"), Some(&expected()));
                }
                found
            }
            _ => {
                self.wrong_shape(problems, &expected());
                None
            }
        }
    }

    /// A number within `min..=max`.
    pub fn float(&self, problems: &mut Problems, min: f64, max: f64) -> Option<f64> {
        let expected = || format!("a number from {min} to {max}");
        match &self.node.value {
            NodeValue::Number(number) => {
                let found = number.as_f64().filter(|value| (min..=max).contains(value));
                if found.is_none() {
                    self.error(problems, format!("found {number}"), Some(&expected()));
                }
                found
            }
            _ => {
                self.wrong_shape(problems, &expected());
                None
            }
        }
    }

    /// The items of a list, each with its path.
    pub fn list(&self, problems: &mut Problems) -> Option<Vec<Cursor<'a>>> {
        match &self.node.value {
            NodeValue::List(items) => {
                Some(items.iter().enumerate().map(|(i, node)| Cursor { node, path: format!("{}[{i}]", self.path) }).collect())
            }
            _ => {
                self.wrong_shape(problems, "a list");
                None
            }
        }
    }

    /// The members of a map whose keys are all in `known`; every other key is an error with a suggestion.
    pub fn map(&self, problems: &mut Problems, known: &[&str]) -> Option<Members<'a>> {
        let members = self.any_map(problems)?;
        for (key, _) in members.members {
            if !known.contains(&key.text.as_str()) {
                let message = match did_you_mean(&key.text, known) {
                    Some(near) => format!("unknown key `{}`, did you mean `{near}`?", key.text),
                    None => format!("unknown key `{}`", key.text),
                };
                problems.error(key.at, &join(&self.path, &key.text), message, Some(&format!("one of {}", known.join(", "))));
            }
        }
        Some(members)
    }

    /// The members of a map with any keys.
    pub fn any_map(&self, problems: &mut Problems) -> Option<Members<'a>> {
        match &self.node.value {
            NodeValue::Map(members) => Some(Members { at: self.node.at, path: self.path.clone(), members }),
            _ => {
                self.wrong_shape(problems, "a map");
                None
            }
        }
    }
}

/// The members of one map.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    at: Position,
    path: String,
    members: &'a [(Key, Node)],
}

impl<'a> Members<'a> {
    /// Where the map starts.
    pub fn at(&self) -> Position {
        self.at
    }

    /// The path of the map.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Every member in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Key, Cursor<'a>)> + '_ {
        self.members.iter().map(|(key, node)| (key, Cursor { node, path: join(&self.path, &key.text) }))
    }

    /// The member with this key; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<Cursor<'a>> {
        self.get_or_null(key).filter(|cursor| !cursor.node.is_null())
    }

    /// The member with this key, `null` included.
    pub fn get_or_null(&self, key: &str) -> Option<Cursor<'a>> {
        let (_, node) = self.members.iter().find(|(k, _)| k.text == key)?;
        Some(Cursor { node, path: join(&self.path, key) })
    }

    /// The member with this key; its absence is an error at the map.
    pub fn required(&self, problems: &mut Problems, key: &str) -> Option<Cursor<'a>> {
        let found = self.get(key);
        if found.is_none() {
            problems.error(self.at, &self.path, format!("`{key}` is missing"), None);
        }
        found
    }

    /// The member under any of several names for one thing; two of them at once is an error.
    pub fn alias(&self, problems: &mut Problems, names: &[&str]) -> Option<Cursor<'a>> {
        let mut given = self.members.iter().filter(|(key, _)| names.contains(&key.text.as_str()));
        let (key, node) = given.next()?;
        if let Some((second, _)) = given.next() {
            let message = format!("`{}` and `{}` are two names of one thing", key.text, second.text);
            problems.error(second.at, &join(&self.path, &second.text), message, Some("one of them"));
        }
        Some(Cursor { node, path: join(&self.path, &key.text) })
    }
}

/// The path of a member: `a.b`; a key with other characters than a name's is quoted, `a["b c"]`.
fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$'));
    match (path.is_empty(), plain) {
        (true, true) => key.into(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}
