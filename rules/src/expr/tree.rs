//! The syntax tree of an expression, as the interpreter walks it. Macros are nodes, not expansions.

use std::sync::Arc;

use regex_automata::meta::Regex;

use super::{Reference, position_of};

/// One node, with where it is in the text.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Byte offset of the token that names the node: the operator, the dot, the function.
    pub at: u32,
    /// Longest way down to a leaf, counting this node. At most `EXPR_DEPTH_MAX`.
    pub depth: u8,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Name(Box<str>),
    List(Vec<Node>),
    /// Keys and values, in the order of the text.
    Map(Vec<(Node, Node)>),
    /// `a.b`, and `a["b"]` with a constant string.
    Select(Box<Node>, Box<str>),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    /// Two or more sides; a chain is one node, so that long chains are not deep.
    And(Vec<Node>),
    Or(Vec<Node>),
    /// Condition, then, else.
    Conditional(Box<[Node; 3]>),
    Call(Function, Vec<Node>),
    /// `matches` with a constant pattern, compiled at parse time.
    Matches(Box<Node>, Arc<Regex>),
    /// `has(a.b)`: the operand and the field.
    Has(Box<Node>, Box<str>),
    /// `default(x, y)`.
    Default(Box<Node>, Box<Node>),
    Walk(Box<Walk>),
}

/// A macro that walks a list, or the keys of a map.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub kind: WalkKind,
    pub over: Node,
    /// The name that stands for the element inside `filter` and `body`.
    pub name: Box<str>,
    /// The second argument of the three-argument `map`.
    pub filter: Option<Node>,
    pub body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Multiply,
    Divide,
    Remainder,
    Add,
    Subtract,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::In => "in",
        }
    }

    /// How tightly it binds: multiplication over addition over relations.
    pub fn precedence(self) -> u8 {
        match self {
            Operator::Multiply | Operator::Divide | Operator::Remainder => 3,
            Operator::Add | Operator::Subtract => 2,
            _ => 1,
        }
    }
}

/// The functions that take their arguments evaluated. A method's receiver is its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    String,
    Int,
    Uint,
    Double,
    Bool,
    Min,
    Max,
}

impl Function {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Function::Size => "size",
            Function::Contains => "contains",
            Function::StartsWith => "startsWith",
            Function::EndsWith => "endsWith",
            Function::String => "string",
            Function::Int => "int",
            Function::Uint => "uint",
            Function::Double => "double",
            Function::Bool => "bool",
            Function::Min => "min",
            Function::Max => "max",
        }
    }
}

/// Every name that is read and not bound by a macro, in the order of the tree, which is that of the text.
pub(super) fn references(text: &str, root: &Node) -> Vec<Reference> {
    let mut found = Vec::new();
    collect(text, root, &mut Vec::new(), &mut found);
    found
}

fn collect<'t>(text: &str, node: &'t Node, bound: &mut Vec<&'t str>, found: &mut Vec<Reference>) {
    if let Some((name_node, path)) = constant_path(node) {
        if !bound.contains(&path[0]) {
            let (line, column) = position_of(text, name_node.at as usize);
            found.push(Reference { path: path.into_iter().map(str::to_owned).collect(), line, column });
        }
        return;
    }
    match &node.kind {
        Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Uint(_) | Kind::Double(_) | Kind::Text(_) | Kind::Name(_) => {}
        Kind::List(items) | Kind::And(items) | Kind::Or(items) | Kind::Call(_, items) => {
            items.iter().for_each(|item| collect(text, item, bound, found));
        }
        Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
            collect(text, key, bound, found);
            collect(text, value, bound, found);
        }),
        Kind::Select(operand, _) | Kind::Not(operand) | Kind::Negate(operand) | Kind::Matches(operand, _) | Kind::Has(operand, _) => {
            collect(text, operand, bound, found);
        }
        Kind::Index(left, right) | Kind::Binary(_, left, right) | Kind::Default(left, right) => {
            collect(text, left, bound, found);
            collect(text, right, bound, found);
        }
        Kind::Conditional(parts) => parts.iter().for_each(|part| collect(text, part, bound, found)),
        Kind::Walk(walk) => {
            collect(text, &walk.over, bound, found);
            bound.push(&walk.name);
            if let Some(filter) = &walk.filter {
                collect(text, filter, bound, found);
            }
            collect(text, &walk.body, bound, found);
            bound.pop();
        }
    }
}

/// The name at the root of a chain of selections and the path it spells; `None` when the node is no such chain.
fn constant_path(node: &Node) -> Option<(&Node, Vec<&str>)> {
    let mut path = Vec::new();
    let mut node = node;
    loop {
        match &node.kind {
            Kind::Select(operand, field) | Kind::Has(operand, field) => {
                path.push(&**field);
                node = operand;
            }
            Kind::Name(name) => {
                path.push(&**name);
                path.reverse();
                return Some((node, path));
            }
            _ => return None,
        }
    }
}

/// The dotted path that a chain of selections spells, for messages.
pub(super) fn spelling(node: &Node) -> Option<String> {
    constant_path(node).map(|(_, path)| path.join("."))
}
