//! `aggregate`: sums, counts and the like over a list, for all of it or by groups.
//!
//! In: a list of items and which of their fields count.  Out: a map of measures, or a list of such maps, one for each group.
//! Sums of whole numbers are exact; others are added in the order of the items, so that every replica adds alike.
//! Bounds: [`AGGREGATE_ITEMS_MAX`] items, [`MEASURES_MAX`] measures, [`GROUP_FIELDS_MAX`] fields that group.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Number, Value};

use super::FOR_EACH_ITEMS_MAX;

/// Most items of one `aggregate`.
pub const AGGREGATE_ITEMS_MAX: usize = FOR_EACH_ITEMS_MAX;
/// Most measures of one `aggregate`: the items times these are what one entry of the log may cost.
pub const MEASURES_MAX: usize = 32;
/// Most fields that one `aggregate` groups by.
pub const GROUP_FIELDS_MAX: usize = 8;
/// Deepest that a field may lie in an item.
pub const FIELD_DEPTH_MAX: usize = 16;
/// The member of a group that says which one it is.
pub const GROUP_MEMBER: &str = "group";

/// A place in an item: names between dots, or `.` for the item itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    text: String,
    names: Vec<String>,
}

impl Field {
    /// Reads a place. `None` when the text is none: a name is empty, it is too deep, or it holds an expression.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "." {
            return Some(Self { text: text.to_owned(), names: Vec::new() });
        }
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_place = names.len() <= FIELD_DEPTH_MAX && !text.contains("${") && names.iter().all(|name| !name.is_empty());
        is_place.then(|| Self { text: text.to_owned(), names })
    }

    /// What is there; absent and null are the same.
    fn of<'a>(&self, item: &'a Value) -> Option<&'a Value> {
        self.names.iter().try_fold(item, |value, name| value.get(name)).filter(|value| !value.is_null())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is computed of the values that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// How many there are.
    Count,
    /// Their sum; 0 of none.
    Sum,
    /// The least: of numbers, or of texts by their bytes; null of none.
    Min,
    /// The greatest.
    Max,
    /// The mean; null of none.
    Avg,
}

impl Operator {
    /// Every operator, as it is written.
    pub const WORDS: [(&str, Operator); 5] =
        [("count", Operator::Count), ("sum", Operator::Sum), ("min", Operator::Min), ("max", Operator::Max), ("avg", Operator::Avg)];

    /// The operator with this name.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find_map(|(known, operator)| (known == word).then_some(operator))
    }
}

/// One number that is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Measure {
    name: String,
    operator: Operator,
    /// Absent: every item counts.
    field: Option<Field>,
}

/// What an `aggregate` computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    group_by: Vec<Field>,
    /// One field by itself: a group is its value, not a list of values.
    is_group_bare: bool,
    measures: Vec<Measure>,
}

impl Aggregate {
    /// Reads a config that was checked. Errors: which member is wrong, and a sentence about it.
    pub fn read(config: &Value) -> Result<Self, (&'static str, String)> {
        let field = |member: &'static str, value: &Value| {
            let field = value.as_str().and_then(Field::parse);
            field.ok_or_else(|| (member, format!("{value} is not a field")))
        };
        let (group_by, is_group_bare) = match config.get("group_by") {
            None | Some(Value::Null) => (Vec::new(), false),
            Some(Value::Array(list)) => (list.iter().map(|value| field("group_by", value)).collect::<Result<_, _>>()?, false),
            Some(one) => (vec![field("group_by", one)?], true),
        };
        let Some(Value::Object(written)) = config.get("measures") else { return Err(("measures", "is missing".into())) };
        let mut measures = Vec::with_capacity(written.len());
        for (name, value) in written {
            let operator = |word: &str| Operator::of_word(word).ok_or_else(|| ("measures", format!("there is no `{word}`")));
            let (operator, field) = match value {
                Value::String(word) if word == "count" => (Operator::Count, None),
                Value::Object(one) => match one.iter().next().filter(|_| one.len() == 1) {
                    Some((word, value)) => (operator(word)?, Some(field("measures", value)?)),
                    None => return Err(("measures", format!("`{name}` is not one operator and its field"))),
                },
                _ => return Err(("measures", format!("`{name}` is not an operator"))),
            };
            measures.push(Measure { name: name.clone(), operator, field });
        }
        if group_by.len() > GROUP_FIELDS_MAX || measures.len() > MEASURES_MAX {
            return Err(("measures", format!("more than {GROUP_FIELDS_MAX} fields, or than {MEASURES_MAX} measures")));
        }
        Ok(Self { group_by, is_group_bare, measures })
    }

    /// Computes. Groups come in the order in which their first items do.
    ///
    /// Errors: a sentence that names the item and the field: the value is of a kind that the operator does not take, or the result is no
    /// number of JSON; or there are too many items.
    pub fn evaluate(&self, items: &[Value]) -> Result<Value, String> {
        if items.len() > AGGREGATE_ITEMS_MAX {
            return Err(format!("{} items are more than AGGREGATE_ITEMS_MAX, {AGGREGATE_ITEMS_MAX}", items.len()));
        }
        let blank = || self.measures.iter().map(|measure| Tally::new(measure.operator)).collect::<Vec<_>>();
        if self.group_by.is_empty() {
            let mut tallies = blank();
            for (index, item) in items.iter().enumerate() {
                self.add(&mut tallies, index, item)?;
            }
            return self.measured(Map::new(), tallies).map(Value::Object);
        }
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut groups: Vec<(Value, Vec<Tally<'_>>)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let group = self.group_of(index, item)?;
            let place = *places.entry(group.to_string()).or_insert_with(|| {
                groups.push((group, blank()));
                groups.len() - 1
            });
            self.add(&mut groups[place].1, index, item)?;
        }
        let rows = groups.into_iter().map(|(group, tallies)| {
            let row = Map::from_iter([(GROUP_MEMBER.to_owned(), group)]);
            self.measured(row, tallies).map(Value::Object)
        });
        rows.collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn group_of(&self, index: usize, item: &Value) -> Result<Value, String> {
        let mut values = Vec::with_capacity(self.group_by.len());
        for field in &self.group_by {
            match field.of(item) {
                Some(Value::Array(_) | Value::Object(_)) => {
                    return Err(format!("items[{index}]: `{field}` is a list or a map, which is no group"));
                }
                value => values.push(value.cloned().unwrap_or_default()),
            }
        }
        Ok(if self.is_group_bare { values.pop().unwrap_or_default() } else { Value::Array(values) })
    }

    fn add<'a>(&self, tallies: &mut [Tally<'a>], index: usize, item: &'a Value) -> Result<(), String> {
        for (measure, tally) in self.measures.iter().zip(tallies) {
            let Some(field) = &measure.field else {
                tally.count += 1;
                continue;
            };
            if let Some(value) = field.of(item) {
                tally.add(value).map_err(|problem| format!("items[{index}]: `{field}` {problem}"))?;
            }
        }
        Ok(())
    }

    fn measured(&self, mut row: Map<String, Value>, tallies: Vec<Tally<'_>>) -> Result<Map<String, Value>, String> {
        for (measure, tally) in self.measures.iter().zip(tallies) {
            let value = tally.value().ok_or_else(|| format!("`{}` is larger than a number of JSON", measure.name))?;
            row.insert(measure.name.clone(), value);
        }
        Ok(row)
    }
}

/// One measure on its way.
struct Tally<'a> {
    operator: Operator,
    count: u64,
    whole: i128,
    /// The sum of those that are not whole.
    parts: Option<f64>,
    extreme: Option<&'a Value>,
}

impl<'a> Tally<'a> {
    fn new(operator: Operator) -> Self {
        Self { operator, count: 0, whole: 0, parts: None, extreme: None }
    }

    fn add(&mut self, value: &'a Value) -> Result<(), &'static str> {
        match self.operator {
            Operator::Count => {}
            Operator::Sum | Operator::Avg => {
                let Value::Number(number) = value else { return Err("is not a number") };
                match whole(number) {
                    // 10,000 times 64 bits stay far below 128.
                    Some(whole) => self.whole += whole,
                    None => self.parts = Some(self.parts.unwrap_or(0.0) + number.as_f64().ok_or("is not a number")?),
                }
            }
            Operator::Min | Operator::Max => {
                let order = match self.extreme {
                    None if value.is_number() || value.is_string() => None,
                    None => return Err("is neither a number nor text"),
                    Some(known) => Some(order(value, known).ok_or("is of another kind than those before it")?),
                };
                let wanted = if self.operator == Operator::Min { Ordering::Less } else { Ordering::Greater };
                if order.is_none_or(|order| order == wanted) {
                    self.extreme = Some(value);
                }
            }
        }
        self.count += 1;
        Ok(())
    }

    /// The result; `None` when it is no number of JSON.
    fn value(self) -> Option<Value> {
        let sum = |parts: f64| self.whole as f64 + parts;
        match self.operator {
            Operator::Count => Some(Value::from(self.count)),
            Operator::Sum => match self.parts {
                None => i64::try_from(self.whole).map(Value::from).or_else(|_| u64::try_from(self.whole).map(Value::from)).ok(),
                Some(parts) => Number::from_f64(sum(parts)).map(Value::Number),
            },
            Operator::Avg if self.count == 0 => Some(Value::Null),
            Operator::Avg => Number::from_f64(sum(self.parts.unwrap_or(0.0)) / self.count as f64).map(Value::Number),
            Operator::Min | Operator::Max => Some(self.extreme.cloned().unwrap_or_default()),
        }
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// How two values stand to each other, when both are numbers or both are texts.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (whole(left), whole(right)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evaluate(config: Value, items: Value) -> Result<Value, String> {
        Aggregate::read(&config).unwrap().evaluate(items.as_array().unwrap())
    }

    #[test]
    fn every_operator_takes_what_is_there() {
        let measures = json!({ "n": "count", "priced": { "count": "price" }, "sum": { "sum": "price" }, "least": { "min": "price" },
            "most": { "max": "price" }, "mean": { "avg": "price" }, "last": { "max": "at.day" } });
        let items = json!([{ "price": 3, "at": { "day": "mon" } }, { "price": null }, { "at": { "day": "tue" } }, { "price": 1 }]);
        let expected = json!({ "n": 4, "priced": 2, "sum": 4, "least": 1, "most": 3, "mean": 2.0, "last": "tue" });
        assert_eq!(evaluate(json!({ "measures": measures }), items), Ok(expected));
        let nothing = json!({ "n": 0, "priced": 0, "sum": 0, "least": null, "most": null, "mean": null, "last": null });
        assert_eq!(evaluate(json!({ "measures": measures }), json!([])), Ok(nothing));
    }

    #[test]
    fn groups_come_in_the_order_of_their_first_items() {
        let items = json!([{ "z": "b", "n": 1 }, { "z": "a", "n": 2 }, { "n": 4 }, { "z": "b", "n": 8 }]);
        let one = evaluate(json!({ "group_by": "z", "measures": { "sum": { "sum": "n" } } }), items.clone());
        let expected = json!([{ "group": "b", "sum": 9 }, { "group": "a", "sum": 2 }, { "group": null, "sum": 4 }]);
        assert_eq!(one, Ok(expected));
        let two = evaluate(json!({ "group_by": ["z", "n"], "measures": { "n": "count" } }), items);
        assert_eq!(two.unwrap()[3], json!({ "group": ["b", 8], "n": 1 }));
        let bare = evaluate(json!({ "group_by": ".", "measures": { "n": "count" } }), json!([1, 2, 1]));
        assert_eq!(bare, Ok(json!([{ "group": 1, "n": 2 }, { "group": 2, "n": 1 }])));
    }

    #[test]
    fn whole_numbers_are_added_exactly_and_others_in_order() {
        let sum = |items: Value| evaluate(json!({ "measures": { "s": { "sum": "." } } }), items).map(|value| value["s"].clone());
        assert_eq!(sum(json!([i64::MAX, i64::MAX, 1])), Ok(json!(u64::MAX)));
        assert_eq!(sum(json!([9_007_199_254_740_993_i64, -1])), Ok(json!(9_007_199_254_740_992_i64)));
        assert_eq!(sum(json!([0.1, 0.2, 1])), Ok(json!(1.0 + (0.1 + 0.2))));
        assert_eq!(sum(json!([u64::MAX, 1])), Err("`s` is larger than a number of JSON".into()));
        assert_eq!(sum(json!([1e308, 1e308])), Err("`s` is larger than a number of JSON".into()));
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named() {
        let with = |operator: &str, items: Value| evaluate(json!({ "measures": { "x": { operator: "v" } } }), items).unwrap_err();
        assert_eq!(with("sum", json!([{ "v": 1 }, { "v": "2" }])), "items[1]: `v` is not a number");
        assert_eq!(with("min", json!([{ "v": true }])), "items[0]: `v` is neither a number nor text");
        assert_eq!(with("max", json!([{ "v": 1 }, { "v": "a" }])), "items[1]: `v` is of another kind than those before it");
        let grouped = evaluate(json!({ "group_by": "v", "measures": { "n": "count" } }), json!([{ "v": [] }]));
        assert_eq!(grouped.unwrap_err(), "items[0]: `v` is a list or a map, which is no group");
        let many = Value::Array(vec![Value::Null; AGGREGATE_ITEMS_MAX + 1]);
        assert!(evaluate(json!({ "measures": { "n": "count" } }), many).unwrap_err().starts_with("10001 items"));
    }
}
