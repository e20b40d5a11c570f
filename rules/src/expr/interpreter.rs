//! Evaluation: a walk over the tree that pays for every node before it is looked at.
//!
//! The recursion is as deep as the tree, which the parser bounds. Order of evaluation is that of the text.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::budget::{Budget, PART_BYTES, Trouble, check_depth};
use super::datum::{Datum, arithmetic, equal, negate, order};
use super::functions;
use super::scope::{Found, Scope};
use super::tree::{Kind, Node, Operator, Walk, WalkKind};
use super::{ExprError, ExprErrorKind, position_of};

pub(super) fn evaluate(text: &str, root: &Node, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, ExprError> {
    let mut interpreter = Interpreter { text, budget };
    let datum = interpreter.eval(root, Names { scope, element: None })?;
    let value = interpreter.value(root, datum)?;
    let checked = check_depth(&value);
    interpreter.place(root, checked)?;
    Ok(value)
}

pub(super) fn evaluate_bool(text: &str, root: &Node, scope: &Scope<'_>, budget: &mut Budget) -> Result<bool, ExprError> {
    Interpreter { text, budget }.condition(root, Names { scope, element: None })
}

struct Interpreter<'i> {
    text: &'i str,
    budget: &'i mut Budget,
}

/// The names that a node can read: the elements of the macros around it, innermost first, then the scope.
#[derive(Clone, Copy)]
struct Names<'e> {
    scope: &'e Scope<'e>,
    element: Option<&'e Element<'e>>,
}

struct Element<'e> {
    name: &'e str,
    value: &'e Value,
    outer: Option<&'e Element<'e>>,
}

impl Interpreter<'_> {
    fn eval<'e>(&mut self, node: &'e Node, names: Names<'e>) -> Result<Datum<'e>, ExprError> {
        let paid = self.budget.spend_steps(1);
        self.place(node, paid)?;
        match &node.kind {
            Kind::Null => Ok(Datum::Null),
            Kind::Bool(value) => Ok(Datum::Bool(*value)),
            Kind::Int(number) => Ok(Datum::Int(*number)),
            Kind::Uint(number) => Ok(Datum::Uint(*number)),
            Kind::Double(number) => Ok(Datum::Double(*number)),
            Kind::Text(text) => Ok(Datum::Text(Cow::Borrowed(text))),
            Kind::Name(name) => self.name(node, name, names),
            Kind::List(items) => self.list(node, items, names),
            Kind::Map(entries) => self.map(node, entries, names),
            Kind::Select(operand, field) => self.select(node, operand, field, names),
            Kind::Index(operand, index) => {
                let operand = self.eval(operand, names)?;
                let index = self.eval(index, names)?;
                self.place(node, operand.element(index))
            }
            Kind::Not(operand) => Ok(Datum::Bool(!self.condition(operand, names)?)),
            Kind::Negate(operand) => {
                let operand = self.eval(operand, names)?;
                self.place(node, negate(operand))
            }
            Kind::Binary(operator, left, right) => self.binary(node, *operator, left, right, names),
            Kind::And(sides) => self.decide(sides, names, false),
            Kind::Or(sides) => self.decide(sides, names, true),
            Kind::Conditional(parts) => {
                let [condition, then, otherwise] = &**parts;
                let chosen = if self.condition(condition, names)? { then } else { otherwise };
                self.eval(chosen, names)
            }
            Kind::Call(function, arguments) => {
                let arguments = arguments.iter().map(|argument| self.eval(argument, names)).collect::<Result<Vec<_>, _>>()?;
                let result = functions::call(*function, arguments, self.budget);
                self.place(node, result)
            }
            Kind::Matches(operand, regex) => {
                let operand = self.eval(operand, names)?;
                let result = functions::matches(&operand, regex, self.budget);
                Ok(Datum::Bool(self.place(node, result)?))
            }
            Kind::Has(operand, field) => {
                let found = match self.eval(operand, names) {
                    Ok(Datum::Null) => None,
                    Ok(operand) => self.place(node, operand.field(field))?,
                    Err(error) if error.kind == ExprErrorKind::Missing => None,
                    Err(error) => return Err(error),
                };
                Ok(Datum::Bool(found.is_some()))
            }
            Kind::Default(wanted, fallback) => match self.eval(wanted, names) {
                Ok(Datum::Null) => self.eval(fallback, names),
                Err(error) if error.kind == ExprErrorKind::Missing => self.eval(fallback, names),
                other => other,
            },
            Kind::Walk(walk) => self.walk(node, walk, names),
        }
    }

    fn name<'e>(&mut self, node: &Node, name: &str, names: Names<'e>) -> Result<Datum<'e>, ExprError> {
        let mut element = names.element;
        while let Some(inner) = element {
            if inner.name == name {
                return Ok(Datum::borrowed(inner.value));
            }
            element = inner.outer;
        }
        match names.scope.lookup(name) {
            Some(Found::Binding(binding)) => Ok(Datum::bound(binding)),
            Some(Found::Member(value)) => Ok(Datum::borrowed(value)),
            None => self.place(node, Err(Trouble::missing(format!("there is no `{name}`")))),
        }
    }

    fn select<'e>(&mut self, node: &Node, operand: &'e Node, field: &str, names: Names<'e>) -> Result<Datum<'e>, ExprError> {
        let found = match self.eval(operand, names)? {
            Datum::Null => Err(Trouble::missing(format!("{} is null, so it has no `{field}`", describe(operand)))),
            value => value
                .field(field)
                .and_then(|found| found.ok_or_else(|| Trouble::missing(format!("{} has no field `{field}`", describe(operand))))),
        };
        self.place(node, found)
    }

    fn list<'e>(&mut self, node: &Node, items: &'e [Node], names: Names<'e>) -> Result<Datum<'e>, ExprError> {
        let paid = self.budget.spend_bytes(PART_BYTES * (1 + items.len()));
        self.place(node, paid)?;
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let datum = self.eval(item, names)?;
            values.push(self.value(item, datum)?);
        }
        Ok(Datum::List(Cow::Owned(values)))
    }

    fn map<'e>(&mut self, node: &Node, entries: &'e [(Node, Node)], names: Names<'e>) -> Result<Datum<'e>, ExprError> {
        let mut members = Map::new();
        for (key_node, value_node) in entries {
            let key = match self.eval(key_node, names)? {
                Datum::Text(key) => key,
                other => {
                    return self.place(key_node, Err(Trouble::value(format!("a key is a string, not {}", other.type_name()))));
                }
            };
            let paid = self.budget.spend_bytes(PART_BYTES * 2 + key.len());
            self.place(node, paid)?;
            let datum = self.eval(value_node, names)?;
            let value = self.value(value_node, datum)?;
            if members.contains_key(&*key) {
                return self.place(key_node, Err(Trouble::value(format!("the key `{key}` is given twice"))));
            }
            members.insert(key.into_owned(), value);
        }
        Ok(Datum::Map(Cow::Owned(members)))
    }

    fn binary<'e>(
        &mut self,
        node: &Node,
        operator: Operator,
        left: &'e Node,
        right: &'e Node,
        names: Names<'e>,
    ) -> Result<Datum<'e>, ExprError> {
        let left = self.eval(left, names)?;
        let right = self.eval(right, names)?;
        let budget = &mut *self.budget;
        let result = match operator {
            Operator::Equal => equal(&left, &right, budget).map(Datum::Bool),
            Operator::NotEqual => equal(&left, &right, budget).map(|equal| Datum::Bool(!equal)),
            Operator::In => is_in(&left, &right, budget).map(Datum::Bool),
            Operator::Less => order("<", &left, &right, budget).map(|order| Datum::Bool(order == Ordering::Less)),
            Operator::LessOrEqual => order("<=", &left, &right, budget).map(|order| Datum::Bool(order != Ordering::Greater)),
            Operator::Greater => order(">", &left, &right, budget).map(|order| Datum::Bool(order == Ordering::Greater)),
            Operator::GreaterOrEqual => order(">=", &left, &right, budget).map(|order| Datum::Bool(order != Ordering::Less)),
            _ => arithmetic(operator, left, right, budget),
        };
        self.place(node, result)
    }

    /// `&&` and `||`: the first side that is `decisive` decides, whatever errors came before it.
    fn decide<'e>(&mut self, sides: &'e [Node], names: Names<'e>, decisive: bool) -> Result<Datum<'e>, ExprError> {
        let mut first_error = None;
        for side in sides {
            match self.condition(side, names) {
                Ok(value) if value == decisive => return Ok(Datum::Bool(decisive)),
                Ok(_) => {}
                Err(error) if error.kind == ExprErrorKind::Exhausted => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(Datum::Bool(!decisive)), Err)
    }

    fn walk<'e>(&mut self, node: &'e Node, walk: &'e Walk, names: Names<'e>) -> Result<Datum<'e>, ExprError> {
        let over = self.eval(&walk.over, names)?;
        let items: Cow<'_, [Value]> = match over {
            Datum::List(items) => items,
            Datum::Map(members) => {
                let keys = self.keys(node, members.keys().map(String::as_str))?;
                Cow::Owned(keys)
            }
            Datum::Record(members) => {
                let keys = self.keys(node, members.keys().copied())?;
                Cow::Owned(keys)
            }
            other => {
                return self.place(node, Err(Trouble::value(format!("a {} has no elements to walk", other.type_name()))));
            }
        };
        let mut first_error = None;
        let mut matched_count = 0_usize;
        let mut made = Vec::new();
        for item in items.iter() {
            let element = Element { name: &walk.name, value: item, outer: names.element };
            let names = Names { scope: names.scope, element: Some(&element) };
            match walk.kind {
                WalkKind::All | WalkKind::Exists => {
                    let decisive = walk.kind == WalkKind::Exists;
                    match self.condition(&walk.body, names) {
                        Ok(value) if value == decisive => return Ok(Datum::Bool(decisive)),
                        Ok(_) => {}
                        Err(error) if error.kind == ExprErrorKind::Exhausted => return Err(error),
                        Err(error) => first_error = first_error.or(Some(error)),
                    }
                }
                WalkKind::ExistsOne => matched_count += usize::from(self.condition(&walk.body, names)?),
                WalkKind::Filter => {
                    if self.condition(&walk.body, names)? {
                        made.push(self.value(node, Datum::borrowed(item))?);
                    }
                }
                WalkKind::Map => {
                    let is_wanted = match &walk.filter {
                        Some(filter) => self.condition(filter, names)?,
                        None => true,
                    };
                    if is_wanted {
                        let datum = self.eval(&walk.body, names)?;
                        let paid = self.budget.spend_bytes(PART_BYTES);
                        self.place(node, paid)?;
                        made.push(self.value(node, datum)?);
                    }
                }
            }
        }
        match (walk.kind, first_error) {
            (WalkKind::All | WalkKind::Exists, Some(error)) => Err(error),
            (WalkKind::All, None) => Ok(Datum::Bool(true)),
            (WalkKind::Exists, None) => Ok(Datum::Bool(false)),
            (WalkKind::ExistsOne, _) => Ok(Datum::Bool(matched_count == 1)),
            (WalkKind::Map | WalkKind::Filter, _) => Ok(Datum::List(Cow::Owned(made))),
        }
    }

    fn keys<'k>(&mut self, node: &Node, keys: impl Iterator<Item = &'k str>) -> Result<Vec<Value>, ExprError> {
        keys.map(|key| self.value(node, Datum::Text(Cow::Borrowed(key)))).collect()
    }

    /// Evaluates what must be `true` or `false`.
    fn condition<'e>(&mut self, node: &'e Node, names: Names<'e>) -> Result<bool, ExprError> {
        match self.eval(node, names)? {
            Datum::Bool(value) => Ok(value),
            other => self.place(node, Err(Trouble::value(format!("expected true or false, found {}", other.type_name())))),
        }
    }

    fn value(&mut self, node: &Node, datum: Datum<'_>) -> Result<Value, ExprError> {
        let value = datum.into_value(self.budget);
        self.place(node, value)
    }

    /// Gives an error the position of `node`.
    fn place<T>(&self, node: &Node, result: Result<T, Trouble>) -> Result<T, ExprError> {
        result.map_err(|trouble| {
            let (line, column) = position_of(self.text, node.at as usize);
            ExprError { message: trouble.message, line, column, kind: trouble.kind }
        })
    }
}

/// `a in b`: an element of a list, or a key of a map.
fn is_in(left: &Datum<'_>, right: &Datum<'_>, budget: &mut Budget) -> Result<bool, Trouble> {
    match (left, right) {
        (_, Datum::List(items)) => {
            for item in items.iter() {
                budget.spend_steps(1)?;
                if equal(left, &Datum::borrowed(item), budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Datum::Text(key), Datum::Map(members)) => Ok(members.contains_key(&**key)),
        (Datum::Text(key), Datum::Record(members)) => Ok(members.contains_key(&**key)),
        (_, Datum::Map(_) | Datum::Record(_)) => Ok(false),
        (_, other) => Err(Trouble::value(format!("`in` looks into a list or a map, not into {}", other.type_name()))),
    }
}

/// What a message calls the value of `node`: its path when it is one.
fn describe(node: &Node) -> String {
    match super::tree::spelling(node) {
        Some(path) => format!("`{path}`"),
        None => "the value".to_owned(),
    }
}
