//! Shared comparisons: equal ones of a set are kept once, which three quarters of a large catalog's are.

use std::sync::Arc;

use serde_json::Value;

use crate::condition::{Comparison, Condition};
use crate::index::values::{Table, hash, mix};

/// Comparisons that were met, each kind once.
#[derive(Debug, Default)]
pub(crate) struct SharedComparisons {
    known: Vec<Arc<Comparison>>,
    /// Positions in `known`.
    table: Table,
}

impl SharedComparisons {
    /// Replaces every comparison of a condition by the first one that says the same.
    pub fn share(&mut self, condition: &mut Condition) {
        match condition {
            Condition::All(list) | Condition::Any(list) => list.iter_mut().for_each(|inner| self.share(inner)),
            Condition::Not(inner) => self.share(inner),
            Condition::Compare(comparison) => {
                let hash = comparison.hash();
                let found = self.table.find(hash, |at| self.known[at as usize].says_the_same(comparison));
                match self.known.get(found as usize) {
                    Some(known) => *comparison = known.clone(),
                    None => {
                        self.table.insert(hash, self.known.len() as u32);
                        self.known.push(comparison.clone());
                    }
                }
            }
        }
    }
}

impl Comparison {
    /// Whether both are written alike, once they are in canonical form.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.operator == other.operator && self.field == other.field && is_same(&self.value, &other.value)
    }

    /// Equal for comparisons that say the same.
    pub fn hash(&self) -> u64 {
        hash_of(&self.value, self.field.hash(self.operator as u64))
    }
}

/// Whether two values have one text: 0.0 and -0.0 have not, nor have 1 and 1.0.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b && a.as_f64().map(f64::to_bits) == b.as_f64().map(f64::to_bits),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((a_key, a), (b_key, b))| a_key == b_key && is_same(a, b))
        }
        _ => a == b,
    }
}

fn hash_of(value: &Value, state: u64) -> u64 {
    match value {
        Value::Null => mix(1, state),
        Value::Bool(is) => mix(2 + u64::from(*is), state),
        Value::Number(number) => mix(number.as_f64().map_or(0, f64::to_bits), state),
        Value::String(text) => mix(hash(text.as_bytes()), state),
        Value::Array(items) => items.iter().fold(mix(4, state), |state, item| hash_of(item, state)),
        Value::Object(members) => {
            members.iter().fold(mix(5, state), |state, (key, value)| hash_of(value, mix(hash(key.as_bytes()), state)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ruleset::RuleSet;

    #[test]
    fn equal_comparisons_of_a_set_are_one_and_others_are_not() {
        let leaf = |field: &str, op: &str, value: Value| json!({ "field": field, "op": op, "value": value });
        let set = RuleSet::from_json(&json!({ "rules": [
            { "id": "a", "conditions": [leaf("x", "equals", json!(1)), { "not": leaf("y", "regex", json!("a+")) }] },
            { "id": "b", "conditions": [{ "any": [leaf("y", "regex", json!("a+")), leaf("x", "eq", json!(1))] }] },
            { "id": "c", "conditions": [leaf("x", "equals", json!("1")), leaf("z", "equals", json!(1)), leaf("x", "not_equals", json!(1))] },
        ] }))
        .unwrap();
        fn collect<'c>(condition: &'c Condition, found: &mut Vec<&'c Arc<Comparison>>) {
            match condition {
                Condition::All(list) | Condition::Any(list) => list.iter().for_each(|inner| collect(inner, found)),
                Condition::Not(inner) => collect(inner, found),
                Condition::Compare(comparison) => found.push(comparison),
            }
        }
        let mut found = Vec::new();
        set.iter().for_each(|rule| collect(&rule.condition, &mut found));
        assert_eq!(found.len(), 7);
        assert!(!is_same(&json!([0.0]), &json!([-0.0])) && !is_same(&json!({ "a": 1 }), &json!({ "a": 1.0 })));
        assert!(is_same(&json!([{ "a": [1.5, null, "x"] }]), &json!([{ "a": [1.5, null, "x"] }])));
        let same = |a: usize, b: usize| Arc::ptr_eq(found[a], found[b]);
        assert!(same(0, 3) && same(1, 2));
        for other in 4..7 {
            assert!((0..7).filter(|at| *at != other).all(|at| !same(at, other)), "{other}");
        }
    }
}
