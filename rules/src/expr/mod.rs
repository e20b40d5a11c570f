//! Expressions: CEL over JSON values, with bounds.
//!
//! In: the text of an expression, then values by name.  Out: one JSON value, or an error with line and column.
//! May touch: `model`.  Never: clocks, random numbers, hash maps that are iterated, threads.
//! Invariant: the same expression over the same values gives the same answer, and costs the same budget, everywhere.
//! Invariant: no text and no value from outside can make it panic, overflow the stack or run unbounded.
//! Start reading at [`Expr`], then [`Template`]; the meaning is in `interpreter.rs`.
//!
//! # The language
//!
//! The Common Expression Language, as far as it makes sense over JSON:
//!
//! - Literals: `1`, `0x1f`, `1u`, `1.5`, `'text'`, `"text"`, `'''text'''`, `r'raw'`, `true`, `null`, `[a, b]`, `{'k': v}`.
//! - Operators: `!a`, `-a`, `* / %`, `+ -`, `== != < <= > >= in`, `&&`, `||`, `c ? a : b`, `a.b`, `a["b"]`, `a[0]`.
//! - Functions: `size`, `contains`, `startsWith`, `endsWith`, `matches`, `string`, `int`, `uint`, `double`, `bool`,
//!   `min`, `max`, and `default(x, y)`: `y` when `x` is missing or null.
//! - Macros: `has(a.b)`, and on lists and maps `all`, `exists`, `exists_one`, `map` (2 and 3 arguments), `filter`.
//!
//! Where JSON forces a choice:
//!
//! - A JSON integer is an `int` (above 2^63-1 a `uint`), any other number a `double`. JSON senders do not tell `1` from
//!   `1.0`, so arithmetic promotes where CEL refuses: int and double give a double, int and uint give a uint.
//!   Integer overflow, division by zero and a double that is not finite are errors. Comparisons are exact across the three.
//! - A missing field is an error, except in `has()` and `default()`. `has(a.b.c)` is false, not an error, also when `a.b` is missing.
//! - `&&` and `||` absorb an error when the other side decides, as in CEL.
//! - The pattern of `matches` is a constant, in RE2's syntax, linear in the text, and finds its match anywhere.
//! - Map keys are strings. There are no bytes, no timestamps and durations (use strings), no messages, no types as values.
//! - ``a.`b-c` `` selects a field whose name is no identifier, as does `a["b-c"]`. A name may start with `$`.

mod budget;
mod datum;
mod functions;
mod interpreter;
mod lexer;
mod parser;
mod scope;
mod template;
mod tree;

pub use budget::Budget;
pub use scope::{Binding, Scope};
pub use template::Template;

use serde_json::Value;

/// Longest text of one expression, bytes.
pub const EXPR_TEXT_BYTES_MAX: usize = 8 << 10;
/// Deepest nesting of one expression. The parser and the interpreter recurse this deep at most.
pub const EXPR_DEPTH_MAX: usize = 96;
/// Most nodes in the tree of one expression.
pub const EXPR_NODES_MAX: usize = 2_048;
/// Most steps of one evaluation by default. A step is one node, one element walked, or [`EXPR_BYTES_PER_STEP`] bytes scanned.
pub const EXPR_STEPS_MAX: u32 = 100_000;
/// Most bytes of values that one evaluation may make by default.
pub const EXPR_BYTES_MAX: u32 = 4 << 20;
/// Bytes of text that one step pays for when text is searched or compared.
pub const EXPR_BYTES_PER_STEP: usize = 64;
/// Deepest nesting of a value that an expression or template may make.
pub const VALUE_DEPTH_MAX: usize = 64;

/// What kind of wrong it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExprErrorKind {
    /// The text is no expression. Found by `parse` and `compile` only.
    Syntax,
    /// A name, field or element that is not there.
    Missing,
    /// An operation that its operands do not allow: wrong types, overflow, division by zero, bad conversion.
    Value,
    /// The budget is spent, or the value made is nested too deep.
    Exhausted,
}

/// Why an expression could not be parsed or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// One sentence for the author of the expression, without position.
    pub message: String,
    /// Line in the text that was parsed, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What kind of wrong it was.
    pub kind: ExprErrorKind,
}

/// A name that an expression reads, with the constant fields that follow it: `tasks.a["b-c"]` is `["tasks", "a", "b-c"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The name, then its fields as far as they are constant.
    pub path: Vec<String>,
    /// Line of the name, from 1.
    pub line: u32,
    /// Column of the name in characters, from 1.
    pub column: u32,
}

/// A parsed expression. `Send + Sync`; parse once, evaluate often.
#[derive(Clone, Debug)]
pub struct Expr {
    text: Box<str>,
    root: tree::Node,
}

impl Expr {
    /// Parses one expression.
    ///
    /// Errors: not CEL as described above, an unknown function, a wrong number of arguments, a bad constant regular
    /// expression, or longer or deeper than [`EXPR_TEXT_BYTES_MAX`], [`EXPR_DEPTH_MAX`], [`EXPR_NODES_MAX`].
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        let root = parser::parse(text)?;
        Ok(Self { text: text.into(), root })
    }

    /// Evaluates over the names in `scope`; what it costs is taken from `budget`.
    ///
    /// Errors: what the operands do not allow, missing names and fields, and a spent budget (which then stays spent).
    pub fn evaluate(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, ExprError> {
        interpreter::evaluate(&self.text, &self.root, scope, budget)
    }

    /// Evaluates a condition. Errors: as [`Expr::evaluate`], and when the value is not `true` or `false`.
    pub fn evaluate_bool(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<bool, ExprError> {
        interpreter::evaluate_bool(&self.text, &self.root, scope, budget)
    }

    /// The names it reads, each with its constant fields, in the order of the text.
    pub fn paths(&self) -> Vec<Reference> {
        tree::references(&self.text, &self.root)
    }

    /// The names it reads as dotted paths, each once, sorted. A dot inside a field's name is written `\.`.
    pub fn references(&self) -> Vec<String> {
        dotted(self.paths())
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Two expressions are equal when their texts are.
impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

fn dotted(references: Vec<Reference>) -> Vec<String> {
    let mut paths: Vec<String> = references
        .into_iter()
        .map(|reference| reference.path.iter().map(|field| field.replace('.', "\\.")).collect::<Vec<_>>().join("."))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Line and column, from 1, of byte `offset` in `text`. Columns count characters.
fn position_of(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() as u32 + 1;
    let column = before[line_start..].chars().count() as u32 + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
