//! The names that an expression can read.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a name stands for. Values are borrowed: nothing is copied until an expression returns it.
#[derive(Clone, Debug)]
pub enum Binding<'a> {
    /// A JSON value.
    Value(&'a Value),
    /// A string.
    Text(&'a str),
    /// A whole number.
    Integer(u64),
    /// A map put together from borrowed parts, such as `tasks.<id>.output`.
    Record(BTreeMap<&'a str, Binding<'a>>),
    /// Null.
    Null,
}

/// Names and what they stand for.
///
/// Names are set one by one; the members of one more JSON object (`over`) are names as well, behind the set ones.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    names: BTreeMap<&'a str, Binding<'a>>,
    members: Option<&'a Value>,
}

impl<'a> Scope<'a> {
    /// No names at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// The members of `object` are the names. Nothing when it is not an object.
    pub fn over(object: &'a Value) -> Self {
        Self { names: BTreeMap::new(), members: Some(object) }
    }

    /// Adds a name, or replaces what it stands for.
    pub fn with(mut self, name: &'a str, value: &'a Value) -> Self {
        self.bind(name, Binding::Value(value));
        self
    }

    /// Adds a name, or replaces what it stands for.
    pub fn bind(&mut self, name: &'a str, binding: Binding<'a>) {
        self.names.insert(name, binding);
    }

    /// What `name` stands for: a set name first, then a member of the object.
    pub(super) fn lookup(&self, name: &str) -> Option<Found<'_>> {
        match self.names.get(name) {
            Some(binding) => Some(Found::Binding(binding)),
            None => self.members.and_then(|object| object.get(name)).map(Found::Member),
        }
    }
}

/// Where a name was found.
pub(super) enum Found<'s> {
    /// A set name.
    Binding(&'s Binding<'s>),
    /// A member of the object.
    Member(&'s Value),
}
