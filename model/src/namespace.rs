//! Namespaces: the outermost part of every key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::NAMESPACE_BYTES_MAX;

/// A checked namespace name: 1 to [`NAMESPACE_BYTES_MAX`] characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct Namespace(Arc<str>);

/// The name is empty, too long, or has a character outside `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("namespace {name:?} must be 1 to {NAMESPACE_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")]
pub struct NamespaceError {
    /// What was given, cut to a printable length.
    pub name: String,
}

impl Namespace {
    /// Checks a name. Errors: [`NamespaceError`], when it is not of the form above.
    pub fn new(name: &str) -> Result<Self, NamespaceError> {
        if is_identifier(name, NAMESPACE_BYTES_MAX) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(NamespaceError { name: name.chars().take(NAMESPACE_BYTES_MAX).collect() })
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Arc<str>> for Namespace {
    type Error = NamespaceError;
    fn try_from(name: Arc<str>) -> Result<Self, NamespaceError> {
        Self::new(&name)
    }
}

impl From<Namespace> for Arc<str> {
    fn from(namespace: Namespace) -> Self {
        namespace.0
    }
}

/// Whether `name` is 1 to `bytes_max` characters of `[A-Za-z0-9._-]`, the form of every name a user chooses.
pub fn is_identifier(name: &str, bytes_max: usize) -> bool {
    !name.is_empty() && name.len() <= bytes_max && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_form_are_refused() {
        assert_eq!(Namespace::default().as_str(), "default");
        assert!(Namespace::new("team-a.prod_1").is_ok());
        for bad in ["", "a b", "a/b", "\u{e9}", &"x".repeat(NAMESPACE_BYTES_MAX + 1)] {
            assert!(Namespace::new(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
