//! Templates: JSON with `${expression}` inside its strings.

use serde_json::{Map, Value};

use super::budget::{PART_BYTES, Trouble, check_depth};
use super::lexer::{TokenKind, next_token, syntax};
use super::{Budget, Expr, ExprError, Reference, Scope, VALUE_DEPTH_MAX, dotted, position_of};

/// A compiled template. `Send + Sync`; compile once, render often.
///
/// A string that is one `${expression}` and nothing else becomes the value, with its type. In other strings each
/// `${expression}` becomes text: strings as they are, everything else as JSON. `$${` stands for `${`. Keys are constant.
#[derive(Clone, Debug)]
pub struct Template {
    root: Part,
}

/// A piece of a template. Whatever holds no expression is one constant.
#[derive(Clone, Debug)]
enum Part {
    Constant(Value),
    /// The whole string is one expression.
    Whole(Placed),
    Text(Vec<Piece>),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

#[derive(Clone, Debug)]
enum Piece {
    Constant(String),
    Expr(Placed),
}

/// An expression, and where it starts in its string.
#[derive(Clone, Debug)]
struct Placed {
    expr: Expr,
    line: u32,
    column: u32,
}

impl Placed {
    fn parse(text: &str, (line, column): (u32, u32)) -> Result<Self, ExprError> {
        match Expr::parse(text) {
            Ok(expr) => Ok(Self { expr, line, column }),
            Err(error) => Err(moved(error, line, column)),
        }
    }

    fn evaluate(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, ExprError> {
        self.expr.evaluate(scope, budget).map_err(|error| moved(error, self.line, self.column))
    }

    fn paths(&self) -> impl Iterator<Item = Reference> {
        let (line, column) = (self.line, self.column);
        self.expr.paths().into_iter().map(move |reference| {
            let (line, column) = moved_place((reference.line, reference.column), (line, column));
            Reference { line, column, ..reference }
        })
    }
}

impl Template {
    /// Compiles a JSON tree.
    ///
    /// Errors: the first bad expression, with its path in the tree before the message and its position inside its string;
    /// an expression in a key; deeper than [`VALUE_DEPTH_MAX`].
    pub fn compile(value: &Value) -> Result<Self, ExprError> {
        Ok(Self { root: compile_part(value, &mut Vec::new())? })
    }

    /// A template that renders to `value` as it is, whatever its strings hold.
    pub fn constant(value: Value) -> Self {
        Self { root: Part::Constant(value) }
    }

    /// Compiles one string. Errors: a bad expression, with its position inside the string.
    pub fn compile_text(text: &str) -> Result<Self, ExprError> {
        Ok(Self { root: compile_text(text)? })
    }

    /// The value with every expression replaced. Errors: as [`Expr::evaluate`]; positions count inside the string that holds the expression.
    pub fn render(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, ExprError> {
        let value = render_part(&self.root, scope, budget)?;
        check_depth(&value).map_err(unplaced)?;
        Ok(value)
    }

    /// Renders to text, as an expression inside a longer string does. Errors: as [`Template::render`].
    pub fn render_text(&self, scope: &Scope<'_>, budget: &mut Budget) -> Result<String, ExprError> {
        Ok(match self.render(scope, budget)? {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }

    /// Whether it holds no expression, so that it always renders to the same value.
    pub fn is_constant(&self) -> bool {
        matches!(self.root, Part::Constant(_))
    }

    /// The names that its expressions read, each with its constant fields.
    pub fn paths(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found
    }

    /// The names that its expressions read as dotted paths, each once, sorted.
    pub fn references(&self) -> Vec<String> {
        dotted(self.paths())
    }
}

fn compile_part(value: &Value, path: &mut Vec<String>) -> Result<Part, ExprError> {
    let fail = |error: ExprError, path: &[String]| match path.is_empty() {
        true => error,
        false => ExprError { message: format!("{}: {}", path.concat().trim_start_matches('.'), error.message), ..error },
    };
    if path.len() > VALUE_DEPTH_MAX {
        return Err(syntax("", 0, format!("the template is nested deeper than {VALUE_DEPTH_MAX}")));
    }
    let part = match value {
        Value::String(text) => compile_text(text).map_err(|error| fail(error, path))?,
        Value::Array(items) => {
            let mut parts = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                path.push(format!("[{index}]"));
                parts.push(compile_part(item, path)?);
                path.pop();
            }
            Part::List(parts)
        }
        Value::Object(members) => {
            let mut parts = Vec::with_capacity(members.len());
            for (key, item) in members {
                path.push(format!(".{key}"));
                if key.contains("${") {
                    return Err(fail(syntax("", 0, "a key cannot hold an expression".into()), path));
                }
                parts.push((key.clone(), compile_part(item, path)?));
                path.pop();
            }
            Part::Map(parts)
        }
        constant => Part::Constant(constant.clone()),
    };
    let is_constant = match &part {
        Part::List(parts) => parts.iter().all(|part| matches!(part, Part::Constant(_))),
        Part::Map(parts) => parts.iter().all(|(_, part)| matches!(part, Part::Constant(_))),
        _ => false,
    };
    // A tree without expressions is kept whole. It equals its source but for `$${`, which only strings hold.
    Ok(if is_constant { Part::Constant(constant_of(part)) } else { part })
}

/// The value of a part all of whose children are constant.
fn constant_of(part: Part) -> Value {
    match part {
        Part::Constant(value) => value,
        Part::List(parts) => Value::Array(parts.into_iter().map(constant_of).collect()),
        Part::Map(parts) => Value::Object(parts.into_iter().map(|(key, part)| (key, constant_of(part))).collect()),
        Part::Whole(_) | Part::Text(_) => unreachable!("an expression is not constant"),
    }
}

fn compile_text(text: &str) -> Result<Part, ExprError> {
    let mut pieces = Vec::new();
    let mut constant = String::new();
    let mut at = 0;
    let (mut placed, mut place) = (0, (1, 1));
    while let Some(dollar) = text[at..].find('$').map(|offset| at + offset) {
        constant.push_str(&text[at..dollar]);
        if text[dollar..].starts_with("$${") {
            constant.push_str("${");
            at = dollar + 3;
        } else if text[dollar..].starts_with("${") {
            let start = dollar + 2;
            let end = expression_end(text, start)?;
            // Counted on from the expression before: a long text of many expressions is walked once.
            place = moved_place(position_of(&text[placed..start], start - placed), place);
            placed = start;
            let expr = Placed::parse(&text[start..end], place)?;
            if !constant.is_empty() {
                pieces.push(Piece::Constant(std::mem::take(&mut constant)));
            }
            pieces.push(Piece::Expr(expr));
            at = end + 1;
        } else {
            constant.push('$');
            at = dollar + 1;
        }
    }
    constant.push_str(&text[at..]);
    if pieces.is_empty() {
        return Ok(Part::Constant(Value::String(constant)));
    }
    if !constant.is_empty() {
        pieces.push(Piece::Constant(constant));
    }
    match pieces.pop() {
        Some(Piece::Expr(expr)) if pieces.is_empty() => Ok(Part::Whole(expr)),
        last => Ok(Part::Text(pieces.into_iter().chain(last).collect())),
    }
}

/// The byte of the `}` that ends the expression at `start`: braces of maps are counted, those in strings are not.
fn expression_end(text: &str, start: usize) -> Result<usize, ExprError> {
    let mut open = 0_usize;
    let mut at = start;
    loop {
        let token = next_token(text, at)?;
        let mark = &text[token.start..token.end];
        match (token.kind, mark) {
            (TokenKind::End, _) => return Err(syntax(text, start - 2, "`${` has no closing `}`".into())),
            (TokenKind::Mark, "{") => open += 1,
            (TokenKind::Mark, "}") if open == 0 => return Ok(token.start),
            (TokenKind::Mark, "}") => open -= 1,
            _ => {}
        }
        at = token.end;
    }
}

/// The error of an expression that starts at this place of its string, positioned in the string.
fn moved(error: ExprError, line: u32, column: u32) -> ExprError {
    let (line, column) = moved_place((error.line, error.column), (line, column));
    ExprError { line, column, ..error }
}

/// A place counted from `start`, both from 1: only on the first line do columns add up.
fn moved_place((line, column): (u32, u32), start: (u32, u32)) -> (u32, u32) {
    (line + start.0 - 1, if line == 1 { column + start.1 - 1 } else { column })
}

fn render_part(part: &Part, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, ExprError> {
    match part {
        Part::Constant(value) => {
            budget.spend_copy(value).map_err(unplaced)?;
            Ok(value.clone())
        }
        Part::Whole(expr) => expr.evaluate(scope, budget),
        Part::Text(pieces) => {
            let mut text = String::new();
            for piece in pieces {
                let before = text.len();
                match piece {
                    Piece::Constant(constant) => text.push_str(constant),
                    Piece::Expr(expr) => match expr.evaluate(scope, budget)? {
                        Value::String(value) => text.push_str(&value),
                        other => text.push_str(&other.to_string()),
                    },
                }
                budget.spend_bytes(PART_BYTES + text.len() - before).map_err(unplaced)?;
            }
            Ok(Value::String(text))
        }
        Part::List(parts) => parts.iter().map(|part| render_part(part, scope, budget)).collect(),
        Part::Map(parts) => {
            let mut members = Map::new();
            for (key, part) in parts {
                members.insert(key.clone(), render_part(part, scope, budget)?);
            }
            Ok(Value::Object(members))
        }
    }
}

/// An error of the template itself and none of its expressions.
fn unplaced(trouble: Trouble) -> ExprError {
    ExprError { message: trouble.message, line: 1, column: 1, kind: trouble.kind }
}

fn collect(part: &Part, found: &mut Vec<Reference>) {
    match part {
        Part::Constant(_) => {}
        Part::Whole(expr) => found.extend(expr.paths()),
        Part::Text(pieces) => pieces.iter().for_each(|piece| {
            if let Piece::Expr(expr) = piece {
                found.extend(expr.paths());
            }
        }),
        Part::List(parts) => parts.iter().for_each(|part| collect(part, found)),
        Part::Map(parts) => parts.iter().for_each(|(_, part)| collect(part, found)),
    }
}
