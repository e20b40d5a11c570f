//! Odd rules and messages: few names and values, so that everything meets everything, and values at the edges of their types.

use serde_json::{Map, Value, json};

use crate::draw::Draw;

const FIELDS: [&str; 14] =
    ["a", "a", "b", "c", "d", "é", "a.b", "a.c", "b.a.c", "payload.a", "payload.event_type", "event_type", "$event_type", "$headers.h"];

/// Draws odd rules and messages.
#[derive(Debug)]
pub struct Odd(Draw);

impl Odd {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Draw::new("odd", seed))
    }

    fn text(&mut self) -> String {
        (0..self.0.below(4)).map(|_| *self.0.pick(&["a", "b", "ab", "é", "A", ".", "10."])).collect()
    }

    fn scalar(&mut self) -> Value {
        match self.0.below(14) {
            0 => json!(null),
            1 => json!(self.0.chance(0.5)),
            2..=4 => json!(self.0.below(7) as i64 - 3),
            5 => json!((self.0.below(13) as f64 - 6.0) / 2.0),
            6 => self
                .0
                .pick(&[json!(-0.0), json!(1e300), json!(u64::MAX), json!(i64::MIN), json!(9_007_199_254_740_993_u64), json!(5e-324)])
                .clone(),
            7 => self.0.pick(&[json!("2026-01-01T00:00:00Z"), json!("2025-12-31T23:59:59.5-01:00"), json!("2026-13-01T00:00:00Z")]).clone(),
            8 => self.0.pick(&[json!("10.0.0.1"), json!("10.255.1.1"), json!("11.0.0.0"), json!("::1"), json!("::ffff:10.0.0.1")]).clone(),
            _ => json!(self.text()),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.0.below(if depth == 0 { 6 } else { 9 }) {
            6 | 7 => Value::Array((0..self.0.below(4)).map(|_| self.value(depth - 1)).collect()),
            8 => {
                let members = (0..self.0.below(4)).map(|_| (self.0.pick(&["a", "b", "c", "x y", "é"]).to_string(), self.value(depth - 1)));
                Value::Object(members.collect())
            }
            _ => self.scalar(),
        }
    }

    fn event_type(&mut self) -> Value {
        json!(self.0.pick(&["t1", "t2", "t3", "t4", "t5"]))
    }

    /// A payload; one of twenty is no object.
    pub fn message(&mut self) -> Value {
        if self.0.chance(0.05) {
            return self.value(3);
        }
        let mut members = Map::new();
        for _ in 0..self.0.below(8) {
            let name = *self.0.pick(&["a", "a", "b", "c", "d", "é", "unused", "payload"]);
            let value = self.value(3);
            members.insert(name.into(), value);
        }
        if self.0.chance(0.75) {
            let event_type = if self.0.chance(0.1) { self.value(1) } else { self.event_type() };
            members.insert("event_type".into(), event_type);
        }
        Value::Object(members)
    }

    fn leaf(&mut self) -> Value {
        let field = *self.0.pick(&FIELDS);
        let (op, value) = match self.0.below(18) {
            0..=3 => ("equals", self.scalar()),
            4 => ("not_equals", self.scalar()),
            5 => ("contains", self.scalar()),
            6 => (*self.0.pick(&["in", "not_in"]), Value::Array((0..self.0.below(5)).map(|_| self.scalar()).collect())),
            7 => {
                let op = *self.0.pick(&["greater_than", "less_than", "greater_or_equal", "less_or_equal"]);
                (op, json!(self.0.below(7) as f64 / 2.0 - 1.5))
            }
            8 => {
                let ranges = [json!([-1, 2]), json!([0, 0]), json!([2, 1]), json!([null, 0.5]), json!([-0.0, null]), json!([null, null])];
                ("in_range", self.0.pick(&ranges).clone())
            }
            9 => ("exists", json!(self.0.chance(0.5))),
            10 => ("length", self.0.pick(&[json!(2), json!({"gt": 1}), json!({"in": [0, 3]}), json!({"not_equals": 1})]).clone()),
            11 => (*self.0.pick(&["before", "after"]), json!("2026-01-01T00:00:00Z")),
            12 | 13 => {
                let networks =
                    [json!("10.0.0.0/8"), json!(["10.0.0.0/16", "::/0"]), json!("10.0.0.1"), json!("0.0.0.0/0"), json!("::ffff:0:0/96")];
                ("cidr", self.0.pick(&networks).clone())
            }
            14 => {
                let patterns = ["a.*b", "^ab?", "b+$", "(?:ab|é)a", "a|b", "", "(ab)+", r"\w\.", "(?i)AB", "^$", "^a$|^b$", r"\d{2}", "é+"];
                ("regex", json!(self.0.pick(&patterns)))
            }
            _ => {
                let op = *self.0.pick(&["prefix", "suffix", "wildcard", "equals_ignore_case"]);
                (op, json!(self.text().replace('.', "a*")))
            }
        };
        json!({ "field": field, "op": op, "value": value })
    }

    fn condition(&mut self, depth: usize) -> Value {
        if depth == 0 || self.0.chance(0.33) {
            return self.leaf();
        }
        let list = |odd: &mut Self| (0..odd.0.below(4)).map(|_| odd.condition(depth - 1)).collect::<Vec<_>>();
        match self.0.below(6) {
            0 => json!({ "not": self.condition(depth - 1) }),
            1 | 2 => json!({ "any": list(self) }),
            _ => json!({ "all": list(self) }),
        }
    }

    /// A rule. Most have an event type, so that there are groups large enough for columns.
    pub fn rule(&mut self, i: usize) -> Value {
        let mut all: Vec<Value> = (0..1 + self.0.below(3)).map(|_| self.condition(3)).collect();
        if self.0.chance(0.75) {
            all.push(json!({ "field": "event_type", "op": "equals", "value": self.event_type() }));
        }
        json!({ "id": format!("r{i:04}"), "priority": self.0.below(5), "conditions": all })
    }

    /// So many rules and messages.
    pub fn drawn(seed: u64, rules_count: usize, messages_count: usize) -> (Vec<Value>, Vec<Value>) {
        let mut odd = Self::new(seed);
        let rules = (0..rules_count).map(|i| odd.rule(i)).collect();
        (rules, (0..messages_count).map(|_| odd.message()).collect())
    }
}
