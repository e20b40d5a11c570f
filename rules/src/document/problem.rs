//! Problems: what is wrong with a text, where, and what was expected instead.

use std::fmt;

use serde::Serialize;

use super::Position;

/// Whether a problem keeps the text from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The text cannot be used.
    Error,
    /// The text can be used, but probably does not say what its author means.
    Warning,
}

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problem {
    /// The name of the source: a file name, or what a request called it.
    pub file: String,
    /// Line from 1; 0 when the element does not come from a text.
    pub line: u32,
    /// Column in characters from 1; 0 as for `line`.
    pub column: u32,
    /// The offending element, such as `rules[3].conditions[0].operator`; empty for the document itself.
    pub path: String,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What was expected, when that can be said in a few words.
    pub expected: Option<String>,
    /// Error or warning.
    pub severity: Severity,
}

impl Problem {
    /// An error at a place.
    pub fn error(file: &str, at: Position, path: &str, message: impl Into<String>, expected: Option<String>) -> Self {
        let (line, column) = (at.line, at.column);
        Self { file: file.into(), line, column, path: path.into(), message: message.into(), expected, severity: Severity::Error }
    }

    /// A warning at a place.
    pub fn warning(file: &str, at: Position, path: &str, message: impl Into<String>, expected: Option<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(file, at, path, message, expected) }
    }

    /// Its place.
    pub fn at(&self) -> Position {
        Position { line: self.line, column: self.column }
    }
}

/// `file:line:column: path: message (expected …)`; a warning says `warning:` before its message.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        match &self.expected {
            Some(expected) => write!(f, " (expected {expected})"),
            None => Ok(()),
        }
    }
}

/// Most problems that are kept for one text; a file of another kind would otherwise give one per line.
pub const PROBLEMS_MAX: usize = 1_000;

/// Collects every problem of one text.
#[derive(Debug)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
    errors_count: usize,
}

impl Problems {
    /// An empty collection for the source of this name.
    pub fn new(file: &str) -> Self {
        Self { file: file.into(), list: Vec::new(), errors_count: 0 }
    }

    /// The name of the source.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Adds an error.
    pub fn error(&mut self, at: Position, path: &str, message: impl Into<String>, expected: Option<&str>) {
        self.push(Problem::error(&self.file, at, path, message, expected.map(Into::into)));
    }

    /// Adds a warning.
    pub fn warning(&mut self, at: Position, path: &str, message: impl Into<String>, expected: Option<&str>) {
        self.push(Problem::warning(&self.file, at, path, message, expected.map(Into::into)));
    }

    /// Adds a finished problem. Beyond [`PROBLEMS_MAX`] an error takes the place of a warning; what finds no place is only counted.
    pub fn push(&mut self, problem: Problem) {
        self.errors_count += usize::from(problem.severity == Severity::Error);
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem);
        } else if problem.severity == Severity::Error
            && let Some(place) = self.list.iter().rposition(|other| other.severity == Severity::Warning)
        {
            self.list[place] = problem;
        }
    }

    /// Adds what was found in a part of the text.
    pub(crate) fn append(&mut self, part: Self) {
        let errors_count = self.errors_count + part.errors_count;
        part.list.into_iter().for_each(|problem| self.push(problem));
        // Errors that found no place in the part count as well.
        self.errors_count = errors_count;
    }

    /// Whether an error was added; warnings do not count.
    pub fn has_errors(&self) -> bool {
        self.errors_count > 0
    }

    /// How many errors were added so far.
    pub fn errors_count(&self) -> usize {
        self.errors_count
    }

    /// All problems in the order of the text.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        self.list
    }
}

/// The option that the writer of `given` most likely meant, if one is near: few letters differ, or one begins with the other.
pub fn did_you_mean(given: &str, options: &[&str]) -> Option<String> {
    let given = given.to_lowercase();
    if given.is_empty() || given.len() > DID_YOU_MEAN_BYTES_MAX {
        return None;
    }
    // A word of one letter is one change away from every other.
    let distance_max = match given.chars().count() {
        1 => 0,
        letters => (letters / 3).clamp(1, 3),
    };
    let nearest =
        options.iter().map(|option| (edit_distance(&given, &option.to_lowercase()), *option)).min_by_key(|(distance, _)| *distance)?;
    if nearest.0 <= distance_max {
        return Some(nearest.1.to_string());
    }
    let begins = |option: &&&str| given.len() >= 3 && (option.starts_with(&given) || (option.len() >= 3 && given.starts_with(**option)));
    options.iter().find(begins).map(|option| (*option).to_string())
}

/// Longer words get no suggestion: the distance costs the product of both lengths.
const DID_YOU_MEAN_BYTES_MAX: usize = 64;

/// Optimal string alignment distance: insert, delete, replace, swap of neighbours, one each.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_beyond_the_limit_hide_no_error() {
        let mut problems = Problems::new("f");
        (0..PROBLEMS_MAX + 5).for_each(|_| problems.warning(Position::default(), "", "w", None));
        problems.error(Position::default(), "", "e", None);
        let list = problems.into_sorted();
        assert_eq!((list.len(), list.iter().filter(|p| p.severity == Severity::Error).count()), (PROBLEMS_MAX, 1));
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let options = ["greater_than", "less_than", "equals", "in"];
        for (given, meant) in
            [("greater_then", "greater_than"), ("equal", "equals"), ("EQUALS", "equals"), ("greater", "greater_than"), ("ni", "in")]
        {
            assert_eq!(did_you_mean(given, &options).as_deref(), Some(meant), "{given}");
        }
        for given in ["", "a", "frobnicate", &"x".repeat(1000)] {
            assert_eq!(did_you_mean(given, &options), None, "{given}");
        }
    }
}
