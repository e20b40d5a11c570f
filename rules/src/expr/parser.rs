//! Text to tree: precedence climbing over the tokens, with nesting and size bounded on the way.
//!
//! The grammar is that of the CEL language definition. Macros and functions are resolved here, so that a misspelt one is
//! found when a rule or a workflow is checked and not when it runs.

use std::sync::Arc;

use super::functions::{PATTERN_BYTES_MAX, compile_pattern};
use super::lexer::{Token, TokenKind, next_token, string_value, syntax};
use super::tree::{Function, Kind, Node, Operator, Walk, WalkKind};
use super::{EXPR_DEPTH_MAX, EXPR_NODES_MAX, EXPR_TEXT_BYTES_MAX, ExprError};
use crate::document::did_you_mean;

const _: () = assert!(EXPR_DEPTH_MAX < u8::MAX as usize, "a node keeps its depth in one byte");
const _: () = assert!(EXPR_TEXT_BYTES_MAX < u32::MAX as usize, "a node keeps its offset in 32 bits");

/// Words of the grammar, and words that CEL keeps for other languages.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Every name that may be called, for messages.
pub(super) const CALLABLE: [&str; 19] = [
    "all",
    "bool",
    "contains",
    "default",
    "double",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "has",
    "int",
    "map",
    "matches",
    "max",
    "min",
    "size",
    "startsWith",
    "string",
    "uint",
];

pub(super) fn parse(text: &str) -> Result<Node, ExprError> {
    if text.len() > EXPR_TEXT_BYTES_MAX {
        return Err(syntax("", 0, format!("the expression has {} bytes, more than {EXPR_TEXT_BYTES_MAX}", text.len())));
    }
    let mut parser = Parser { text, token: next_token(text, 0)?, nesting: 0, nodes: 0 };
    let root = parser.conditional()?;
    match parser.token.kind {
        TokenKind::End => Ok(root),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'t> {
    text: &'t str,
    /// The token not yet consumed.
    token: Token,
    nesting: usize,
    nodes: usize,
}

impl<'t> Parser<'t> {
    /// `a ? b : c`, the loosest of all. Every nested expression comes through here.
    fn conditional(&mut self) -> Result<Node, ExprError> {
        self.nesting += 1;
        if self.nesting > EXPR_DEPTH_MAX {
            return Err(self.too_deep(self.token.start));
        }
        let condition = self.or()?;
        let at = self.token.start;
        let node = if self.take("?")? {
            let then = self.or()?;
            self.expect(":")?;
            let otherwise = self.conditional()?;
            let depth = condition.depth.max(then.depth).max(otherwise.depth);
            self.node(at, depth, Kind::Conditional(Box::new([condition, then, otherwise])))?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Result<Node, ExprError> {
        let first = self.and()?;
        self.chain(first, "||", Self::and, Kind::Or)
    }

    fn and(&mut self) -> Result<Node, ExprError> {
        let first = self.binary(1)?;
        self.chain(first, "&&", |parser| parser.binary(1), Kind::And)
    }

    fn chain(
        &mut self,
        first: Node,
        mark: &str,
        side: impl Fn(&mut Self) -> Result<Node, ExprError>,
        kind: fn(Vec<Node>) -> Kind,
    ) -> Result<Node, ExprError> {
        let at = self.token.start;
        if !self.is_mark(mark) {
            return Ok(first);
        }
        let mut depth = first.depth;
        let mut sides = vec![first];
        while self.take(mark)? {
            let next = side(self)?;
            depth = depth.max(next.depth);
            sides.push(next);
        }
        self.node(at, depth, kind(sides))
    }

    /// Relations, sums and products: operators of at least `precedence`, grouping to the left.
    fn binary(&mut self, precedence: u8) -> Result<Node, ExprError> {
        let mut left = self.unary()?;
        while let Some(operator) = self.operator().filter(|operator| operator.precedence() >= precedence) {
            let at = self.token.start;
            self.advance()?;
            let right = self.binary(operator.precedence() + 1)?;
            let depth = left.depth.max(right.depth);
            left = self.node(at, depth, Kind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<Operator> {
        Some(match (self.token.kind, self.token_text()) {
            (TokenKind::Word, "in") => Operator::In,
            (TokenKind::Mark, "*") => Operator::Multiply,
            (TokenKind::Mark, "/") => Operator::Divide,
            (TokenKind::Mark, "%") => Operator::Remainder,
            (TokenKind::Mark, "+") => Operator::Add,
            (TokenKind::Mark, "-") => Operator::Subtract,
            (TokenKind::Mark, "==") => Operator::Equal,
            (TokenKind::Mark, "!=") => Operator::NotEqual,
            (TokenKind::Mark, "<") => Operator::Less,
            (TokenKind::Mark, "<=") => Operator::LessOrEqual,
            (TokenKind::Mark, ">") => Operator::Greater,
            (TokenKind::Mark, ">=") => Operator::GreaterOrEqual,
            _ => return None,
        })
    }

    /// Any number of `!` and `-` before a member. A minus directly before a number is part of it, so that -2^63 can be written.
    fn unary(&mut self) -> Result<Node, ExprError> {
        let mut prefixes = Vec::new();
        loop {
            let at = self.token.start;
            if self.take("!")? {
                prefixes.push((at, false));
            } else if self.take("-")? {
                if matches!(self.token.kind, TokenKind::Int | TokenKind::Double) {
                    let literal = self.literal(at, true)?;
                    let member = self.member(literal)?;
                    return self.prefixed(prefixes, member);
                }
                prefixes.push((at, true));
            } else {
                let primary = self.primary()?;
                let member = self.member(primary)?;
                return self.prefixed(prefixes, member);
            }
            if prefixes.len() > EXPR_DEPTH_MAX {
                return Err(self.too_deep(at));
            }
        }
    }

    fn prefixed(&mut self, prefixes: Vec<(usize, bool)>, operand: Node) -> Result<Node, ExprError> {
        prefixes.into_iter().rev().try_fold(operand, |operand, (at, minus)| {
            let depth = operand.depth;
            let operand = Box::new(operand);
            self.node(at, depth, if minus { Kind::Negate(operand) } else { Kind::Not(operand) })
        })
    }

    /// What may follow a primary: `.field`, `.method(…)`, `[index]`.
    fn member(&mut self, mut operand: Node) -> Result<Node, ExprError> {
        loop {
            let at = self.token.start;
            let depth = operand.depth;
            if self.take(".")? {
                let field = self.field()?;
                operand = if self.token_is_call(field) {
                    self.method(operand, field)?
                } else {
                    let name = self.word(field).into();
                    self.node(at, depth, Kind::Select(Box::new(operand), name))?
                };
            } else if self.take("[")? {
                let index = self.conditional()?;
                self.expect("]")?;
                let depth = depth.max(index.depth);
                operand = match index.kind {
                    Kind::Text(field) => self.node(at, depth, Kind::Select(Box::new(operand), field))?,
                    _ => self.node(at, depth, Kind::Index(Box::new(operand), Box::new(index)))?,
                };
            } else {
                return Ok(operand);
            }
        }
    }

    /// The token after a dot. Any word may be a field: JSON members are called `in` and `type`, too.
    fn field(&mut self) -> Result<Token, ExprError> {
        match self.token.kind {
            TokenKind::Word | TokenKind::QuotedWord => self.advance(),
            _ => Err(self.unexpected("a field name")),
        }
    }

    fn token_is_call(&self, field: Token) -> bool {
        field.kind == TokenKind::Word && self.is_mark("(")
    }

    fn primary(&mut self) -> Result<Node, ExprError> {
        let at = self.token.start;
        let kind = self.token.kind;
        match kind {
            TokenKind::Int | TokenKind::Uint | TokenKind::Double | TokenKind::Text => self.literal(at, false),
            TokenKind::Word => {
                let token = self.advance()?;
                let word = self.word(token);
                match word {
                    "true" => self.node(at, 0, Kind::Bool(true)),
                    "false" => self.node(at, 0, Kind::Bool(false)),
                    "null" => self.node(at, 0, Kind::Null),
                    _ if RESERVED.contains(&word) => Err(syntax(self.text, at, format!("`{word}` is a reserved word"))),
                    _ if self.is_mark("(") => self.function(at, word),
                    _ => self.node(at, 0, Kind::Name(word.into())),
                }
            }
            _ if self.take("(")? => {
                let inner = self.conditional()?;
                self.expect(")")?;
                Ok(inner)
            }
            _ if self.take("[")? => {
                let items = self.list("]")?;
                self.node(at, deepest(&items), Kind::List(items))
            }
            _ if self.take("{")? => self.map(at),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn literal(&mut self, at: usize, negative: bool) -> Result<Node, ExprError> {
        let token = self.advance()?;
        let written = &self.text[token.start..token.end];
        let out_of_range = || syntax(self.text, at, "this number is out of range".into());
        let kind = match token.kind {
            TokenKind::Text => Kind::Text(string_value(self.text, token)?.into()),
            TokenKind::Double => {
                let value: f64 = written.parse().map_err(|_| out_of_range())?;
                let finite = if value.is_finite() { value } else { return Err(out_of_range()) };
                Kind::Double(if negative { -finite } else { finite })
            }
            TokenKind::Uint => Kind::Uint(magnitude(&written[..written.len() - 1]).ok_or_else(out_of_range)?),
            _ => {
                let magnitude = i128::from(magnitude(written).ok_or_else(out_of_range)?);
                Kind::Int(i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| out_of_range())?)
            }
        };
        self.node(at, 0, kind)
    }

    /// Expressions up to `end`, which is consumed. A comma may follow the last.
    fn list(&mut self, end: &str) -> Result<Vec<Node>, ExprError> {
        let mut items = Vec::new();
        while !self.take(end)? {
            items.push(self.conditional()?);
            if !self.take(",")? {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn map(&mut self, at: usize) -> Result<Node, ExprError> {
        let mut entries = Vec::new();
        let mut depth = 0;
        while !self.take("}")? {
            let key = self.conditional()?;
            self.expect(":")?;
            let value = self.conditional()?;
            depth = depth.max(key.depth).max(value.depth);
            entries.push((key, value));
            if !self.take(",")? {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, depth, Kind::Map(entries))
    }

    /// `name(…)`: a conversion, a function, `has` or `default`. The parenthesis is next.
    fn function(&mut self, at: usize, name: &str) -> Result<Node, ExprError> {
        self.expect("(")?;
        let mut arguments = self.list(")")?;
        let depth = deepest(&arguments);
        let function = match (name, arguments.len()) {
            ("has", 1) => {
                let argument = arguments.remove(0);
                return match argument.kind {
                    Kind::Select(operand, field) => self.node(at, operand.depth, Kind::Has(operand, field)),
                    _ => Err(syntax(self.text, argument.at as usize, "`has` asks about a field, as in has(a.b)".into())),
                };
            }
            ("default", 2) => {
                let fallback = Box::new(arguments.remove(1));
                return self.node(at, depth, Kind::Default(Box::new(arguments.remove(0)), fallback));
            }
            ("matches", 2) => {
                let pattern = arguments.remove(1);
                return self.matches(at, arguments.remove(0), pattern);
            }
            ("size", 1) => Function::Size,
            ("string", 1) => Function::String,
            ("int", 1) => Function::Int,
            ("uint", 1) => Function::Uint,
            ("double", 1) => Function::Double,
            ("bool", 1) => Function::Bool,
            ("min", 1..) => Function::Min,
            ("max", 1..) => Function::Max,
            ("has" | "size" | "string" | "int" | "uint" | "double" | "bool", given) => return Err(self.arguments(at, name, "1", given)),
            ("default" | "matches", given) => return Err(self.arguments(at, name, "2", given)),
            ("min" | "max", given) => return Err(self.arguments(at, name, "at least 1", given)),
            _ => return Err(self.unknown_function(at, name)),
        };
        self.node(at, depth, Kind::Call(function, arguments))
    }

    /// `operand.name(…)`: a macro or a method. The parenthesis is next.
    fn method(&mut self, operand: Node, field: Token) -> Result<Node, ExprError> {
        let at = field.start;
        let name = self.word(field);
        let walk = match name {
            "all" => Some(WalkKind::All),
            "exists" => Some(WalkKind::Exists),
            "exists_one" | "existsOne" => Some(WalkKind::ExistsOne),
            "map" => Some(WalkKind::Map),
            "filter" => Some(WalkKind::Filter),
            _ => None,
        };
        self.expect("(")?;
        let mut arguments = self.list(")")?;
        let depth = deepest(&arguments).max(operand.depth);
        if let Some(kind) = walk {
            return match (kind, arguments.len()) {
                (_, 2) | (WalkKind::Map, 3) => {
                    let variable = arguments.remove(0);
                    let Kind::Name(name) = variable.kind else {
                        return Err(syntax(
                            self.text,
                            variable.at as usize,
                            format!("the first argument of `{name}` is a name for the element"),
                        ));
                    };
                    let body = arguments.pop().expect("two or three arguments were counted");
                    let walk = Walk { kind, over: operand, name, filter: arguments.pop(), body };
                    self.node(at, depth, Kind::Walk(Box::new(walk)))
                }
                (WalkKind::Map, given) => Err(self.arguments(at, name, "2 or 3", given)),
                (_, given) => Err(self.arguments(at, name, "2", given)),
            };
        }
        let function = match (name, arguments.len()) {
            ("matches", 1) => return self.matches(at, operand, arguments.remove(0)),
            ("size", 0) => Function::Size,
            ("contains", 1) => Function::Contains,
            ("startsWith", 1) => Function::StartsWith,
            ("endsWith", 1) => Function::EndsWith,
            ("size", given) => return Err(self.arguments(at, name, "0", given)),
            ("contains" | "startsWith" | "endsWith" | "matches", given) => return Err(self.arguments(at, name, "1", given)),
            _ => return Err(self.unknown_function(at, name)),
        };
        arguments.insert(0, operand);
        self.node(at, depth, Kind::Call(function, arguments))
    }

    /// `matches` has its pattern compiled, and refused, now. Only a constant one: what a pattern costs to compile must not
    /// depend on a message, and whether it is too large not on the release that a replica runs.
    fn matches(&mut self, at: usize, operand: Node, pattern: Node) -> Result<Node, ExprError> {
        let pattern_at = pattern.at as usize;
        let Kind::Text(pattern) = pattern.kind else {
            return Err(syntax(self.text, pattern_at, "the pattern of `matches` must be a constant string".into()));
        };
        let regex = compile_pattern(&pattern).map_err(|message| syntax(self.text, pattern_at, message))?;
        self.node(at, operand.depth, Kind::Matches(Box::new(operand), Arc::new(regex)))
    }

    /// A node above children that are `depth` deep. Errors: too deep, too many.
    fn node(&mut self, at: usize, depth: u8, kind: Kind) -> Result<Node, ExprError> {
        self.nodes += 1;
        if self.nodes > EXPR_NODES_MAX {
            return Err(syntax(self.text, at, format!("the expression has more than {EXPR_NODES_MAX} parts")));
        }
        if usize::from(depth) >= EXPR_DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        Ok(Node { at: at as u32, depth: depth + 1, kind })
    }

    fn too_deep(&self, at: usize) -> ExprError {
        syntax(self.text, at, format!("the expression is nested deeper than {EXPR_DEPTH_MAX}"))
    }

    fn arguments(&self, at: usize, name: &str, expected: &str, given: usize) -> ExprError {
        let plural = if expected == "1" { "" } else { "s" };
        syntax(self.text, at, format!("`{name}` takes {expected} argument{plural}, not {given}"))
    }

    fn unknown_function(&self, at: usize, name: &str) -> ExprError {
        syntax(
            self.text,
            at,
            match name {
                "now" | "timestamp" | "duration" | "random" | "rand" => {
                    format!("there is no function `{name}`: an expression gives the same answer whenever it runs")
                }
                _ if CALLABLE.contains(&name) => format!("`{name}` is called the other way round, as a method or as a function"),
                _ => match did_you_mean(name, &CALLABLE) {
                    Some(near) => format!("there is no function `{name}`, did you mean `{near}`?"),
                    None => format!("there is no function `{name}`, only {}", CALLABLE.join(", ")),
                },
            },
        )
    }

    fn unexpected(&self, wanted: &str) -> ExprError {
        let found = match self.token.kind {
            TokenKind::End => "the end".to_owned(),
            _ => format!("`{}`", self.token_text().chars().take(FOUND_CHARS_MAX).collect::<String>()),
        };
        syntax(self.text, self.token.start, format!("expected {wanted}, found {found}"))
    }

    fn advance(&mut self) -> Result<Token, ExprError> {
        let token = self.token;
        self.token = next_token(self.text, token.end)?;
        Ok(token)
    }

    fn take(&mut self, mark: &str) -> Result<bool, ExprError> {
        let is_next = self.is_mark(mark);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, mark: &str) -> Result<(), ExprError> {
        if self.take(mark)? { Ok(()) } else { Err(self.unexpected(&format!("`{mark}`"))) }
    }

    fn is_mark(&self, mark: &str) -> bool {
        self.token.kind == TokenKind::Mark && self.token_text() == mark
    }

    fn token_text(&self) -> &'t str {
        &self.text[self.token.start..self.token.end]
    }

    /// The name that a word stands for, without its backticks.
    fn word(&self, token: Token) -> &'t str {
        self.text[token.start..token.end].trim_matches('`')
    }
}

/// Longest piece of the text that a message repeats, characters.
const FOUND_CHARS_MAX: usize = 24;

const _: () = assert!(PATTERN_BYTES_MAX < EXPR_TEXT_BYTES_MAX, "the limit of patterns is the one that is met first");

fn deepest(nodes: &[Node]) -> u8 {
    nodes.iter().map(|node| node.depth).max().unwrap_or(0)
}

/// A decimal or hexadecimal whole number without sign; `None` when it has no digits or does not fit.
fn magnitude(written: &str) -> Option<u64> {
    match written.strip_prefix("0x").or_else(|| written.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => written.parse().ok(),
    }
}
