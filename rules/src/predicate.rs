//! Predicates: what one condition asks of the values at its path.
//!
//! Positive ones hold when at least one leaf fits. `not_equals` and `not_in` hold when the field is there and no leaf equals.
//! Nothing is converted: "5" is not 5. Numbers compare as doubles.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::pattern::{Pattern, Wildcard, parse_instant};

/// A value that is neither a list nor an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Leaf<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a str),
}

/// A value at the end of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    /// A part of the payload.
    Value(&'a Value),
    /// A text of the envelope.
    Text(&'a str),
}

impl<'a> Leaf<'a> {
    /// The leaf that a value is; `None` for lists and objects.
    pub fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(b) => Some(Self::Bool(*b)),
            Value::Number(n) => n.as_f64().map(Self::Number),
            Value::String(s) => Some(Self::Text(s)),
            Value::Array(_) | Value::Object(_) => None,
        }
    }
}

impl Seen<'_> {
    /// As a JSON value of its own.
    pub fn to_json(self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Text(text) => Value::String(text.into()),
        }
    }
}

/// A set of scalars, for membership.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scalars {
    texts: Vec<String>,
    numbers: Vec<f64>,
    has_true: bool,
    has_false: bool,
    has_null: bool,
}

impl Scalars {
    /// The set of these values; lists and objects equal nothing and are left out.
    pub fn of<'v>(values: impl IntoIterator<Item = &'v Value>) -> Self {
        let mut set = Self::default();
        for value in values {
            match Leaf::of(value) {
                Some(Leaf::Text(text)) => set.texts.push(text.into()),
                Some(Leaf::Number(number)) => set.numbers.push(number),
                Some(Leaf::Bool(true)) => set.has_true = true,
                Some(Leaf::Bool(false)) => set.has_false = true,
                Some(Leaf::Null) => set.has_null = true,
                None => {}
            }
        }
        set.texts.sort();
        set.texts.dedup();
        set.numbers.sort_by(f64::total_cmp);
        set
    }

    /// Whether one of the values equals the leaf.
    pub fn contains(&self, leaf: Leaf<'_>) -> bool {
        match leaf {
            Leaf::Text(text) => match self.texts.as_slice() {
                [only] => only == text,
                texts => texts.binary_search_by(|t| t.as_str().cmp(text)).is_ok(),
            },
            // Not a binary search by total order, for which 0.0 and -0.0 are two numbers.
            Leaf::Number(number) => {
                let from = self.numbers.partition_point(|n| *n < number);
                self.numbers.get(from).is_some_and(|n| *n == number)
            }
            Leaf::Bool(true) => self.has_true,
            Leaf::Bool(false) => self.has_false,
            Leaf::Null => self.has_null,
        }
    }

    /// Its members, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Leaf<'_>> {
        let words = [(self.has_null, Leaf::Null), (self.has_false, Leaf::Bool(false)), (self.has_true, Leaf::Bool(true))];
        let words = words.into_iter().filter(|(has, _)| *has).map(|(_, leaf)| leaf);
        words.chain(self.numbers.iter().map(|n| Leaf::Number(*n))).chain(self.texts.iter().map(|text| Leaf::Text(text)))
    }
}

/// Numbers between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub low: f64,
    pub low_included: bool,
    pub high: f64,
    pub high_included: bool,
}

impl Interval {
    /// All numbers, infinities included.
    pub const ALL: Self = Self { low: f64::NEG_INFINITY, low_included: true, high: f64::INFINITY, high_included: true };

    /// Whether the number lies within.
    pub fn contains(&self, number: f64) -> bool {
        (number > self.low || (self.low_included && number == self.low))
            && (number < self.high || (self.high_included && number == self.high))
    }

    /// What lies in both.
    pub fn and(&self, other: &Self) -> Self {
        let (low, low_included) = match self.low.total_cmp(&other.low) {
            _ if self.low == other.low => (self.low, self.low_included && other.low_included),
            std::cmp::Ordering::Greater => (self.low, self.low_included),
            _ => (other.low, other.low_included),
        };
        let (high, high_included) = match self.high.total_cmp(&other.high) {
            _ if self.high == other.high => (self.high, self.high_included && other.high_included),
            std::cmp::Ordering::Less => (self.high, self.high_included),
            _ => (other.high, other.high_included),
        };
        Self { low, low_included, high, high_included }
    }

    /// Whether nothing lies within.
    pub fn is_empty(&self) -> bool {
        !(self.low < self.high || (self.low == self.high && self.low_included && self.high_included))
    }
}

/// What is asked of the values at a path.
#[derive(Clone, Debug)]
pub(crate) enum Predicate {
    /// `equals`, `in`
    Among(Scalars),
    /// `not_equals`, `not_in`
    NotAmong(Scalars),
    /// `greater_than` and its like, `in_range`
    Within(Interval),
    Prefix(String),
    Suffix(String),
    /// `contains`: a substring of a text, or an element of a list.
    Contains {
        text: Option<String>,
        element: Scalars,
    },
    Regex(Pattern),
    Wildcard(Wildcard),
    /// `equals_ignore_case`: the lower-case text.
    IgnoreCase(String),
    Cidr(Vec<IpNet>),
    Exists(bool),
    /// `length`: characters of a text, elements of a list.
    Length(Box<Predicate>),
    Before(jiff::Timestamp),
    After(jiff::Timestamp),
}

impl Predicate {
    /// Whether it holds for the values at a path: `nodes` as they are, `leaves` with all lists opened.
    pub fn holds(&self, nodes: &[Seen<'_>], leaves: &[Leaf<'_>]) -> bool {
        match self {
            Self::Among(set) => leaves.iter().any(|leaf| set.contains(*leaf)),
            Self::NotAmong(set) => !nodes.is_empty() && !leaves.iter().any(|leaf| set.contains(*leaf)),
            Self::Within(interval) => leaves.iter().any(|leaf| matches!(leaf, Leaf::Number(n) if interval.contains(*n))),
            Self::Contains { text, element } => nodes.iter().any(|node| match node {
                Seen::Text(t) => text.as_ref().is_some_and(|part| t.contains(part.as_str())),
                Seen::Value(Value::String(t)) => text.as_ref().is_some_and(|part| t.contains(part.as_str())),
                Seen::Value(Value::Array(items)) => any_leaf(items, &|leaf| element.contains(leaf)),
                Seen::Value(_) => false,
            }),
            Self::Exists(exists) => nodes.is_empty() != *exists,
            Self::Length(inner) => nodes.iter().any(|node| {
                let length = match node {
                    Seen::Text(t) => t.chars().count(),
                    Seen::Value(Value::String(t)) => t.chars().count(),
                    Seen::Value(Value::Array(items)) => items.len(),
                    Seen::Value(_) => return false,
                };
                inner.holds(std::slice::from_ref(node), &[Leaf::Number(length as f64)])
            }),
            _ => leaves.iter().any(|leaf| matches!(leaf, Leaf::Text(text) if self.fits_text(text))),
        }
    }

    /// Whether a text fits, for predicates that are about texts only; any other has no such texts.
    pub fn fits_text(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Regex(pattern) => pattern.is_match(text),
            Self::Wildcard(wildcard) => wildcard.is_match(text),
            Self::IgnoreCase(folded) => lower_case_equals(text, folded),
            Self::Cidr(nets) => text.parse::<IpAddr>().is_ok_and(|ip| nets.iter().any(|net| net.contains(&ip))),
            Self::Before(instant) => parse_instant(text).is_some_and(|at| at < *instant),
            Self::After(instant) => parse_instant(text).is_some_and(|at| at > *instant),
            Self::Among(_) | Self::NotAmong(_) | Self::Within(_) | Self::Contains { .. } | Self::Exists(_) | Self::Length(_) => false,
        }
    }

    /// Rank by cost: cheap ones are asked first.
    pub fn cost_rank(&self) -> u8 {
        match self {
            Self::Exists(_) | Self::Among(_) | Self::NotAmong(_) => 0,
            Self::Within(_) => 1,
            Self::Prefix(_) | Self::Suffix(_) | Self::Length(_) => 2,
            Self::Contains { .. } | Self::Wildcard(_) | Self::IgnoreCase(_) => 3,
            Self::Cidr(_) | Self::Before(_) | Self::After(_) => 4,
            Self::Regex(_) => 5,
        }
    }
}

/// Whether some leaf of the list, nested lists opened, fits.
fn any_leaf(items: &[Value], fits: &dyn Fn(Leaf<'_>) -> bool) -> bool {
    items.iter().any(|item| match item {
        Value::Array(items) => any_leaf(items, fits),
        item => Leaf::of(item).is_some_and(fits),
    })
}

/// Whether the lower-case form of `text` is `folded`. Lower case is the Unicode mapping, character by character.
fn lower_case_equals(text: &str, folded: &str) -> bool {
    // The lower case of ASCII is ASCII of the same length: one pass over bytes, at a tenth of the cost.
    if text.is_ascii() {
        return text.eq_ignore_ascii_case(folded);
    }
    text.chars().flat_map(char::to_lowercase).eq(folded.chars())
}

/// The lower-case form of a text, as [`Predicate::IgnoreCase`] wants it.
pub(crate) fn lower_case(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_equals_and_nothing_is_converted() {
        let values =
            [serde_json::json!("5"), serde_json::json!(1), serde_json::json!(0.0), serde_json::json!(null), serde_json::json!(true)];
        let set = Scalars::of(&values);
        for leaf in [Leaf::Text("5"), Leaf::Number(1.0), Leaf::Number(-0.0), Leaf::Null, Leaf::Bool(true)] {
            assert!(set.contains(leaf), "{leaf:?}");
        }
        for leaf in [Leaf::Text("1"), Leaf::Number(5.0), Leaf::Bool(false), Leaf::Text(""), Leaf::Text("true")] {
            assert!(!set.contains(leaf), "{leaf:?}");
        }
    }

    #[test]
    fn case_is_ignored_by_the_lower_case_of_each_character() {
        for (text, other, equal) in [
            ("", "", true),
            ("Straße 7", "STRAßE 7", true),
            ("AbC", "aBc", true),
            ("abc", "abcd", false),
            ("\u{212a}elvin", "Kelvin", true),
            ("kelvin", "\u{212a}elvin", true),
            ("İ", "i\u{307}", true),
            ("[", "{", false),
            ("Ärger", "ärGER", true),
            ("ärger", "arger", false),
        ] {
            assert_eq!(lower_case_equals(text, &lower_case(other)), equal, "{text} {other}");
        }
    }

    #[test]
    fn intervals_keep_their_ends() {
        let open = Interval { low: 1.0, low_included: false, ..Interval::ALL };
        let closed = Interval { high: 1.0, ..Interval::ALL };
        assert!(!open.contains(1.0) && closed.contains(1.0) && open.contains(1.5));
        assert!(open.and(&closed).is_empty() && !closed.and(&Interval { low: 1.0, ..Interval::ALL }).is_empty());
        assert!(closed.and(&Interval { low: 2.0, ..Interval::ALL }).is_empty());
    }
}
