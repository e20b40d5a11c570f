//! A finding: where, which rule, and what is wrong in words.

use std::fmt;

/// One thing that a rule objects to. Prints as `file:line: rule: words`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    file: String,
    line: usize,
    rule: &'static str,
    words: String,
    warning: bool,
}

impl Finding {
    /// A finding that fails the run. Lines count from 1.
    pub(super) fn new(file: &str, line: usize, rule: &'static str, words: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule, words: words.into(), warning: false }
    }

    /// A finding that is only said.
    pub(super) fn warning(file: &str, line: usize, rule: &'static str, words: impl Into<String>) -> Self {
        Self { warning: true, ..Self::new(file, line, rule, words) }
    }

    /// Whether it fails the run.
    pub fn is_error(&self) -> bool {
        !self.warning
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.warning { "warning: " } else { "" };
        write!(f, "{}:{}: {}: {warning}{}", self.file, self.line, self.rule, self.words)
    }
}
