//! The values that pass between the nodes of an expression: JSON, borrowed as long as possible, with CEL's kinds of number.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::VALUE_DEPTH_MAX;
use super::budget::{Budget, PART_BYTES, Trouble};
use super::scope::Binding;
use super::tree::Operator;

/// A value in flight.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number written `1u`, computed from one, or above the largest `Int`.
    Uint(u64),
    /// Always finite: JSON has no other.
    Double(f64),
    Text(Cow<'a, str>),
    List(Cow<'a, [Value]>),
    Map(Cow<'a, Map<String, Value>>),
    Record(&'a BTreeMap<&'a str, Binding<'a>>),
}

impl<'a> Datum<'a> {
    pub fn borrowed(value: &'a Value) -> Self {
        match value {
            Value::Null => Datum::Null,
            Value::Bool(value) => Datum::Bool(*value),
            Value::Number(number) => Datum::number(number),
            Value::String(text) => Datum::Text(Cow::Borrowed(text)),
            Value::Array(items) => Datum::List(Cow::Borrowed(items)),
            Value::Object(members) => Datum::Map(Cow::Borrowed(members)),
        }
    }

    pub fn owned(value: Value) -> Datum<'static> {
        match value {
            Value::Null => Datum::Null,
            Value::Bool(value) => Datum::Bool(value),
            Value::Number(number) => Datum::number(&number),
            Value::String(text) => Datum::Text(Cow::Owned(text)),
            Value::Array(items) => Datum::List(Cow::Owned(items)),
            Value::Object(members) => Datum::Map(Cow::Owned(members)),
        }
    }

    pub fn bound(binding: &'a Binding<'a>) -> Self {
        match binding {
            Binding::Value(value) => Datum::borrowed(value),
            Binding::Text(text) => Datum::Text(Cow::Borrowed(text)),
            Binding::Integer(number) => i64::try_from(*number).map_or(Datum::Uint(*number), Datum::Int),
            Binding::Record(members) => Datum::Record(members),
            Binding::Null => Datum::Null,
        }
    }

    fn number(number: &Number) -> Datum<'static> {
        match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Datum::Int(int),
            (None, Some(uint), _) => Datum::Uint(uint),
            (None, None, double) => Datum::Double(double.unwrap_or_default()),
        }
    }

    /// The name of its type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Datum::Null => "null",
            Datum::Bool(_) => "bool",
            Datum::Int(_) => "int",
            Datum::Uint(_) => "uint",
            Datum::Double(_) => "double",
            Datum::Text(_) => "string",
            Datum::List(_) => "list",
            Datum::Map(_) | Datum::Record(_) => "map",
        }
    }

    /// The JSON value. What is still borrowed is copied, and paid for; what is owned was paid for when it was made.
    pub fn into_value(self, budget: &mut Budget) -> Result<Value, Trouble> {
        Ok(match self {
            Datum::Null => Value::Null,
            Datum::Bool(value) => Value::Bool(value),
            Datum::Int(number) => Value::from(number),
            Datum::Uint(number) => Value::from(number),
            Datum::Double(number) => Value::from(number),
            Datum::Text(text) => {
                if let Cow::Borrowed(text) = text {
                    budget.spend_bytes(PART_BYTES + text.len())?;
                }
                Value::String(text.into_owned())
            }
            Datum::List(Cow::Borrowed(items)) => {
                budget.spend_bytes(PART_BYTES)?;
                items.iter().try_for_each(|item| budget.spend_copy(item))?;
                Value::Array(items.to_vec())
            }
            Datum::List(Cow::Owned(items)) => Value::Array(items),
            Datum::Map(Cow::Borrowed(members)) => {
                budget.spend_bytes(PART_BYTES)?;
                for (key, value) in members {
                    budget.spend_bytes(PART_BYTES + key.len())?;
                    budget.spend_copy(value)?;
                }
                Value::Object(members.clone())
            }
            Datum::Map(Cow::Owned(members)) => Value::Object(members),
            Datum::Record(members) => {
                let mut made = Map::new();
                for (key, binding) in members {
                    budget.spend_bytes(PART_BYTES + key.len())?;
                    made.insert((*key).to_owned(), Datum::bound(binding).into_value(budget)?);
                }
                Value::Object(made)
            }
        })
    }

    /// The member `field` of a map; `None` when the map lacks it. Errors: not a map.
    pub fn field(self, field: &str) -> Result<Option<Datum<'a>>, Trouble> {
        match self {
            Datum::Map(Cow::Borrowed(members)) => Ok(members.get(field).map(Datum::borrowed)),
            Datum::Map(Cow::Owned(mut members)) => Ok(members.remove(field).map(Datum::owned)),
            Datum::Record(members) => Ok(members.get(field).map(Datum::bound)),
            other => Err(Trouble::value(format!("a {} has no fields, so no `{field}`", other.type_name()))),
        }
    }

    /// The element `index` of a list, or the member of a map. Errors: not there, not such a value, not such an index.
    pub fn element(self, index: Datum<'_>) -> Result<Datum<'a>, Trouble> {
        match (self, index) {
            (Datum::Null, _) => Err(Trouble::missing("null has no elements")),
            (Datum::List(items), index) => {
                let length = items.len();
                let at = match index {
                    Datum::Int(at) => usize::try_from(at).ok(),
                    Datum::Uint(at) => usize::try_from(at).ok(),
                    Datum::Double(at) if at.trunc() == at => (at >= 0.0).then_some(at as usize),
                    other => return Err(Trouble::value(format!("a list is indexed by a number, not by {}", other.type_name()))),
                };
                let missing = || Trouble::missing(format!("the index is outside the list of {length}"));
                let at = at.filter(|at| *at < length).ok_or_else(missing)?;
                Ok(match items {
                    Cow::Borrowed(items) => Datum::borrowed(&items[at]),
                    Cow::Owned(mut items) => Datum::owned(items.swap_remove(at)),
                })
            }
            (map @ (Datum::Map(_) | Datum::Record(_)), Datum::Text(key)) => {
                map.field(&key)?.ok_or_else(|| Trouble::missing(format!("there is no field `{key}`")))
            }
            (Datum::Map(_) | Datum::Record(_), other) => {
                Err(Trouble::value(format!("a map is indexed by a string, not by {}", other.type_name())))
            }
            (other, _) => Err(Trouble::value(format!("a {} cannot be indexed", other.type_name()))),
        }
    }

    /// A whole number, signed or not.
    fn whole(&self) -> Option<i128> {
        match self {
            Datum::Int(number) => Some(i128::from(*number)),
            Datum::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }

    fn as_double(&self) -> Option<f64> {
        match self {
            Datum::Int(number) => Some(*number as f64),
            Datum::Uint(number) => Some(*number as f64),
            Datum::Double(number) => Some(*number),
            _ => None,
        }
    }
}

/// `a + b`, `a - b`, `a * b`, `a / b`, `a % b`.
///
/// Two ints give an int, a uint with a whole number gives a uint, a double with any number gives a double.
pub(super) fn arithmetic<'a>(operator: Operator, left: Datum<'a>, right: Datum<'a>, budget: &mut Budget) -> Result<Datum<'a>, Trouble> {
    if let (Some(a), Some(b)) = (left.whole(), right.whole()) {
        if b == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
            return Err(Trouble::value("division by zero"));
        }
        // Neither can overflow: both sides have at most 64 bits.
        let exact = match operator {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => match a.checked_mul(b) {
                Some(product) => product,
                None => return Err(Trouble::value("the result is out of range")),
            },
            Operator::Divide => a / b,
            _ => a % b,
        };
        let is_int = matches!((&left, &right), (Datum::Int(_), Datum::Int(_)));
        let result = if is_int { i64::try_from(exact).ok().map(Datum::Int) } else { u64::try_from(exact).ok().map(Datum::Uint) };
        return result.ok_or_else(|| Trouble::value("the result is out of range"));
    }
    if let (Some(a), Some(b)) = (left.as_double(), right.as_double()) {
        let result = match operator {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide if b == 0.0 => return Err(Trouble::value("division by zero")),
            Operator::Divide => a / b,
            _ => return Err(Trouble::value("`%` takes whole numbers, not a double")),
        };
        return if result.is_finite() { Ok(Datum::Double(result)) } else { Err(Trouble::value("the result is out of range")) };
    }
    match (operator, left, right) {
        (Operator::Add, Datum::Text(a), Datum::Text(b)) => {
            budget.spend_bytes(PART_BYTES + a.len() + b.len())?;
            Ok(Datum::Text(Cow::Owned([a, b].concat())))
        }
        (Operator::Add, Datum::List(a), Datum::List(b)) => {
            budget.spend_steps(a.len() + b.len())?;
            budget.spend_bytes(PART_BYTES)?;
            a.iter().chain(b.iter()).try_for_each(|item| budget.spend_copy(item))?;
            Ok(Datum::List(Cow::Owned([a, b].concat())))
        }
        (_, left, right) => {
            Err(Trouble::value(format!("`{}` does not take {} and {}", operator.symbol(), left.type_name(), right.type_name())))
        }
    }
}

/// `-a`.
pub(super) fn negate(operand: Datum<'_>) -> Result<Datum<'_>, Trouble> {
    match operand {
        Datum::Double(number) => Ok(Datum::Double(-number)),
        other => match other.whole() {
            Some(number) => i64::try_from(-number).map(Datum::Int).map_err(|_| Trouble::value("the result is out of range")),
            None => Err(Trouble::value(format!("`-` does not take {}", other.type_name()))),
        },
    }
}

/// Which comes first, for the operators of order. Errors: the two cannot be ordered.
pub(super) fn order(operator: &str, left: &Datum<'_>, right: &Datum<'_>, budget: &mut Budget) -> Result<Ordering, Trouble> {
    match (left, right) {
        (Datum::Bool(a), Datum::Bool(b)) => Ok(a.cmp(b)),
        (Datum::Text(a), Datum::Text(b)) => {
            budget.spend_scan(a.len().min(b.len()))?;
            // UTF-8 sorts as its code points do.
            Ok(a.as_bytes().cmp(b.as_bytes()))
        }
        _ => order_of_numbers(left, right)
            .ok_or_else(|| Trouble::value(format!("`{operator}` does not take {} and {}", left.type_name(), right.type_name()))),
    }
}

/// Whether the two are equal: numbers by what they count, lists and maps by their parts, different types never.
pub(super) fn equal(left: &Datum<'_>, right: &Datum<'_>, budget: &mut Budget) -> Result<bool, Trouble> {
    match (left, right) {
        (Datum::Record(_), _) => {
            let left = Datum::owned(left.clone().into_value(budget)?);
            equal(&left, right, budget)
        }
        (_, Datum::Record(_)) => equal(right, left, budget),
        (Datum::List(a), Datum::List(b)) => equal_lists(a, b, 0, budget),
        (Datum::Map(a), Datum::Map(b)) => equal_maps(a, b, 0, budget),
        (Datum::Text(a), Datum::Text(b)) => {
            budget.spend_scan(a.len().min(b.len()))?;
            Ok(a == b)
        }
        (Datum::Bool(a), Datum::Bool(b)) => Ok(a == b),
        (Datum::Null, Datum::Null) => Ok(true),
        _ => Ok(order_of_numbers(left, right) == Some(Ordering::Equal)),
    }
}

fn equal_values(left: &Value, right: &Value, depth: usize, budget: &mut Budget) -> Result<bool, Trouble> {
    budget.spend_steps(1)?;
    if depth > VALUE_DEPTH_MAX {
        return Err(Trouble::exhausted("the value is nested too deep"));
    }
    match (left, right) {
        (Value::Array(a), Value::Array(b)) => equal_lists(a, b, depth, budget),
        (Value::Object(a), Value::Object(b)) => equal_maps(a, b, depth, budget),
        _ => equal(&Datum::borrowed(left), &Datum::borrowed(right), budget),
    }
}

fn equal_lists(left: &[Value], right: &[Value], depth: usize, budget: &mut Budget) -> Result<bool, Trouble> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for (a, b) in left.iter().zip(right) {
        if !equal_values(a, b, depth + 1, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps(left: &Map<String, Value>, right: &Map<String, Value>, depth: usize, budget: &mut Budget) -> Result<bool, Trouble> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for ((key, a), (other_key, b)) in left.iter().zip(right) {
        budget.spend_scan(key.len())?;
        if key != other_key || !equal_values(a, b, depth + 1, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two numbers by what they count, exact across the kinds; `None` when one is no number.
fn order_of_numbers(left: &Datum<'_>, right: &Datum<'_>) -> Option<Ordering> {
    match (left, right) {
        (Datum::Double(a), Datum::Double(b)) => a.partial_cmp(b),
        (Datum::Double(a), b) => Some(order_whole_and_double(b.whole()?, *a).reverse()),
        (a, Datum::Double(b)) => Some(order_whole_and_double(a.whole()?, *b)),
        (a, b) => Some(a.whole()?.cmp(&b.whole()?)),
    }
}

fn order_whole_and_double(whole: i128, double: f64) -> Ordering {
    // Beyond 2^64 no integer of ours can follow, and within it the cast to 128 bits is exact.
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    if double >= BEYOND {
        Ordering::Less
    } else if double <= -BEYOND {
        Ordering::Greater
    } else {
        let fraction = double - double.trunc();
        let by_fraction = if fraction > 0.0 {
            Ordering::Less
        } else if fraction < 0.0 {
            Ordering::Greater
        } else {
            Ordering::Equal
        };
        whole.cmp(&(double.trunc() as i128)).then(by_fraction)
    }
}
