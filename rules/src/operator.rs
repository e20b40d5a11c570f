//! Operators: their names and aliases.

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    GreaterThan,
    LessThan,
    GreaterOrEqual,
    LessOrEqual,
    InRange,
    Prefix,
    Suffix,
    Contains,
    Regex,
    Wildcard,
    EqualsIgnoreCase,
    Cidr,
    Exists,
    Length,
    Before,
    After,
}

/// Every operator with its canonical name first, then its aliases.
const NAMES: [(Operator, &[&str]); 20] = [
    (Operator::Equals, &["equals", "eq", "=="]),
    (Operator::NotEquals, &["not_equals", "ne", "!="]),
    (Operator::In, &["in"]),
    (Operator::NotIn, &["not_in"]),
    (Operator::GreaterThan, &["greater_than", "gt", ">"]),
    (Operator::LessThan, &["less_than", "lt", "<"]),
    (Operator::GreaterOrEqual, &["greater_or_equal", "gte", ">="]),
    (Operator::LessOrEqual, &["less_or_equal", "lte", "<="]),
    (Operator::InRange, &["in_range"]),
    (Operator::Prefix, &["prefix"]),
    (Operator::Suffix, &["suffix"]),
    (Operator::Contains, &["contains"]),
    (Operator::Regex, &["regex"]),
    (Operator::Wildcard, &["wildcard"]),
    (Operator::EqualsIgnoreCase, &["equals_ignore_case"]),
    (Operator::Cidr, &["cidr"]),
    (Operator::Exists, &["exists"]),
    (Operator::Length, &["length"]),
    (Operator::Before, &["before"]),
    (Operator::After, &["after"]),
];

impl Operator {
    /// The operator with this name or alias.
    pub fn parse(text: &str) -> Option<Self> {
        NAMES.iter().find(|(_, names)| names.contains(&text)).map(|(operator, _)| *operator)
    }

    /// Its canonical name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(operator, _)| *operator == self).map_or("", |(_, names)| names[0])
    }

    /// All canonical names.
    pub fn names() -> Vec<&'static str> {
        NAMES.iter().map(|(_, names)| names[0]).collect()
    }

    /// Whether it compares numbers by size.
    pub fn is_ordering(self) -> bool {
        matches!(self, Self::GreaterThan | Self::LessThan | Self::GreaterOrEqual | Self::LessOrEqual | Self::InRange)
    }
}
