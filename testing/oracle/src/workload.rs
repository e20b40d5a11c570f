//! Workloads: catalogs and messages of four mixes, as a shop's traffic might look.
//!
//! The first rules of a larger catalog are those of a smaller one of the same mix and seed, and so are the messages, so that sizes can be
//! compared. Messages have about 410 bytes.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::draw::{Draw, rounded};
use crate::words::{BROWSERS, CHANNELS, CITIES, COUNTRIES, CURRENCIES, DOMAINS, PARTS, SYSTEMS, TIERS, WORDS, event_types, tags};

/// What the rules of a workload are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// An equality, a range and a short list, all of which must hold.
    Simple,
    /// An equality, a range and a regular expression or another text condition.
    Regex,
    /// Two to nine conditions of all common operators over 14 fields; a quarter with an OR, a fifth with a NOT, a tenth without equality.
    Mixed,
    /// Trees up to depth four over lists, missing fields, nulls and values of other types.
    Nested,
}

impl Mix {
    /// All mixes.
    pub const ALL: [Self; 4] = [Self::Simple, Self::Regex, Self::Mixed, Self::Nested];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Regex => "regex",
            Self::Mixed => "mixed",
            Self::Nested => "nested",
        }
    }
}

/// A catalog and messages.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Rules as the language's JSON: id, priority, conditions.
    pub rules: Vec<Value>,
    /// Payloads, JSON text each.
    pub messages: Vec<String>,
}

impl Workload {
    /// So many rules and messages of a mix and a seed.
    pub fn drawn(mix: Mix, rules_count: usize, messages_count: usize, seed: u64) -> Self {
        let is_nested = mix == Mix::Nested;
        let mut of_rules = Shop::new(&format!("rules/{}", mix.name()), seed);
        let mut of_messages = Shop::new(&format!("messages/{is_nested}"), seed);
        Self {
            rules: (0..rules_count).map(|i| of_rules.rule(i, mix)).collect(),
            messages: (0..messages_count).map(|i| of_messages.message(i, is_nested)).collect(),
        }
    }

    /// The catalog as a document, one rule a line.
    pub fn rules_document(&self) -> String {
        document(&self.rules)
    }
}

/// Rules as a document, one a line.
pub fn document(rules: &[Value]) -> String {
    let lines: Vec<String> = rules.iter().map(Value::to_string).collect();
    format!("{{\"rules\":[\n{}\n]}}\n", lines.join(",\n"))
}

struct Shop {
    draw: Draw,
    event_types: Vec<String>,
    tags: Vec<String>,
}

fn condition(field: &str, op: &str, value: impl Into<Value>) -> Value {
    json!({ "field": field, "op": op, "value": value.into() })
}

impl Shop {
    fn new(name: &str, seed: u64) -> Self {
        Self { draw: Draw::new(name, seed), event_types: event_types(), tags: tags() }
    }

    fn word(&mut self) -> &'static str {
        self.draw.pick::<&str>(&WORDS)
    }

    fn message(&mut self, i: usize, is_nested: bool) -> String {
        let event_type = self.draw.zipf(&self.event_types).clone();
        let amount = self.draw.amount();
        let mut members: Vec<(&str, Value)> = vec![
            ("id", json!(format!("{:012x}", self.draw.bits() >> 16))),
            ("ts", json!(1_700_000_000 + i)),
            ("event_type", json!(event_type)),
            ("amount", json!(amount)),
            ("currency", json!(self.draw.zipf(&CURRENCIES))),
            ("country", json!(self.draw.zipf(&COUNTRIES))),
            ("channel", json!(self.draw.zipf(&CHANNELS))),
            ("user", Value::Null),
            ("device", Value::Null),
            ("url", json!(format!("/{}/{}/{}", self.draw.zipf(&PARTS), self.draw.pick(&PARTS), self.draw.below(5_000)))),
            ("score", json!(rounded(self.draw.unit() * 100.0, 10.0))),
        ];
        let draw = &mut self.draw;
        let email = format!("{}.{}{}@{}", draw.pick(&WORDS), draw.pick(&WORDS), draw.below(100), draw.zipf(&DOMAINS));
        let mut user = vec![
            ("id", json!(draw.range(1, 200_000))),
            ("email", json!(email)),
            ("age", json!(18 + draw.below(70))),
            ("tier", json!(draw.zipf(&TIERS))),
        ];
        let address = format!("{{\"city\":{},\"zip\":\"{}\"}}", json!(draw.zipf(&CITIES)), draw.range(10_000, 99_999));
        let device = [
            ("ua", json!(format!("{}/{}.0 ({})", draw.zipf(&BROWSERS), draw.range(70, 126), draw.pick(&SYSTEMS)))),
            ("ip", json!(format!("10.{}.{}.{}", draw.below(256), draw.below(256), draw.below(256)))),
        ];
        if draw.chance(0.6) {
            let words: Vec<&str> = (0..1 + draw.below(4)).map(|_| *draw.pick(&WORDS)).collect();
            members.push(("note", json!(words.join(" "))));
        }
        if draw.chance(0.5) {
            members.push(("verified", json!(draw.chance(0.7))));
        }
        if is_nested || draw.chance(0.5) {
            let count = draw.below(4);
            members.push(("tags", json!(draw.sample(&self.tags, count))));
        }
        let (mut has_address, mut has_user) = (true, true);
        if is_nested {
            if draw.chance(0.7) {
                let item = |draw: &mut Draw| json!({ "sku": format!("S{:03}", draw.below(300)), "qty": 1 + draw.below(5), "price": draw.amount() });
                members.push(("items", (0..draw.below(3)).map(|_| item(draw)).collect()));
            }
            if draw.chance(0.05) {
                members[3].1 = json!(amount.to_string());
            }
            if draw.chance(0.05) {
                members[5].1 = Value::Null;
            }
            has_address = !draw.chance(0.05);
            has_user = !draw.chance(0.03);
            if draw.chance(0.05) {
                members[6].1 = json!([members[6].1, draw.pick(&CHANNELS)]);
            }
        }
        if !has_user {
            user.clear();
        }
        let address = address.as_str();
        let written = |members: &[(&str, Value)]| {
            let list: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            list.join(",")
        };
        let mut parts: Vec<String> = members
            .iter()
            .map(|(name, value)| match *name {
                "user" if !has_user => "\"user\":null".to_string(),
                "user" if has_address => format!("\"user\":{{{},\"address\":{address}}}", written(&user)),
                "user" => format!("\"user\":{{{}}}", written(&user)),
                "device" => format!("\"device\":{{{}}}", written(&device)),
                _ => format!("\"{name}\":{value}"),
            })
            .collect();
        if draw.chance(0.2) {
            draw.shuffle(&mut parts);
        }
        let mut text = String::with_capacity(512);
        let _ = write!(text, "{{{}}}", parts.join(","));
        text
    }

    fn rule(&mut self, i: usize, mix: Mix) -> Value {
        let event_type = |shop: &mut Self| condition("event_type", "equals", shop.draw.half(&shop.event_types).as_str());
        let conditions = match mix {
            Mix::Simple => {
                let count = 1 + self.draw.below(5);
                json!({ "all": [event_type(self), self.amount_range(), condition("country", "in", json!(self.draw.sample(&COUNTRIES, count)))] })
            }
            Mix::Regex => {
                let text = if self.draw.chance(0.75) { self.regex() } else { self.text() };
                json!({ "all": [event_type(self), self.amount_range(), text] })
            }
            Mix::Mixed => self.mixed(),
            Mix::Nested => {
                let first = if self.draw.chance(0.7) { event_type(self) } else { self.equality() };
                json!({ "all": [first, self.tree(3), self.tree(2)] })
            }
        };
        json!({ "id": format!("r{i:06}"), "priority": self.draw.range(1, 1_001), "when": conditions })
    }

    fn mixed(&mut self) -> Value {
        let mut list = Vec::new();
        if !self.draw.chance(0.1) {
            list.push(self.equality());
        }
        (0..2 + self.draw.below(3)).for_each(|_| list.push(self.other()));
        let either = |shop: &mut Self| if shop.draw.chance(0.6) { shop.equality() } else { shop.other() };
        if self.draw.chance(0.25) {
            let any: Vec<Value> = (0..2 + self.draw.below(2)).map(|_| either(self)).collect();
            list.push(json!({ "any": any }));
        }
        if self.draw.chance(0.2) {
            list.push(json!({ "not": either(self) }));
        }
        if self.draw.chance(0.5) {
            self.draw.shuffle(&mut list);
        }
        json!({ "all": list })
    }

    fn amount_range(&mut self) -> Value {
        let low = self.draw.amount();
        condition("amount", "in_range", json!([low, rounded(low * (1.05 + self.draw.unit() * 1.6), 100.0)]))
    }

    /// About half of the patterns of 10,000 rules are different.
    fn regex(&mut self) -> Value {
        let (field, pattern) = match self.draw.below(6) {
            0 => {
                let (from, to) = (self.draw.range(7, 12), self.draw.range(1, 10));
                ("device.ua", format!(r"^{}/{from}[0-{to}]\.0", self.draw.pick(&BROWSERS)))
            }
            1 => {
                let system = self.draw.pick(&["Windows", "X11", "iPhone", "Android"]);
                ("device.ua", format!(r"{}/\d+\.\d+ \((?:{system}|Macintosh)", self.draw.pick(&BROWSERS)))
            }
            2 => ("url", format!(r"^/{}/[a-z]+/{}\d*$", self.draw.pick(&PARTS), self.draw.range(1, 100))),
            3 => ("user.email", format!(r"^{}\.[a-z]+\d{{1,2}}@{}$", self.word(), self.draw.pick(&DOMAINS).replace('.', r"\."))),
            4 => {
                let (word, digit) = (self.word(), self.draw.below(10));
                ("user.email", format!(r"{word}\d*{digit}@(?:{}|{})", &self.word()[..3], &self.draw.pick(&DOMAINS)[..4]))
            }
            _ => ("note", format!("{}.*{}", self.word(), &self.word()[..4])),
        };
        condition(field, "regex", pattern)
    }

    fn text(&mut self) -> Value {
        match self.draw.below(4) {
            0 => condition("url", "prefix", format!("/{}/{}", self.draw.pick(&PARTS), &self.draw.pick(&PARTS)[..3])),
            1 => condition("user.email", "suffix", format!("@{}", self.draw.pick(&DOMAINS))),
            2 => condition("note", "contains", self.word()),
            _ => condition("user.email", "contains", format!("{}{}", self.word(), self.draw.below(10))),
        }
    }

    /// Event type and country twice as often as the others.
    fn equality(&mut self) -> Value {
        match self.draw.below(8) % 6 {
            0 => condition("event_type", "equals", self.draw.half(&self.event_types).as_str()),
            1 => condition("country", "equals", *self.draw.half(&COUNTRIES)),
            2 => condition("currency", "equals", *self.draw.half(&CURRENCIES)),
            3 => condition("user.tier", "equals", *self.draw.half(&TIERS)),
            4 => condition("user.address.city", "equals", *self.draw.half(&CITIES)),
            _ => condition("user.id", "equals", self.draw.range(1, 200_000)),
        }
    }

    fn other(&mut self) -> Value {
        let score = |draw: &mut Draw| rounded(draw.unit() * 100.0, 10.0);
        match self.draw.below(12) {
            0 => self.amount_range(),
            1 => condition("amount", "greater_than", self.draw.amount()),
            2 => condition("score", "less_than", score(&mut self.draw)),
            3 => {
                let low = self.draw.range(18, 68);
                condition("user.age", "in_range", json!([low, low + self.draw.range(3, 20)]))
            }
            4 | 6 => {
                let (op, count) = (*self.draw.pick(&["in", "not_in"]), self.draw.range(1, 6));
                condition("country", op, json!(self.draw.sample(&COUNTRIES, count)))
            }
            5 => condition("channel", "not_equals", *self.draw.half(&CHANNELS)),
            7 => condition(self.draw.pick::<&str>(&["note", "verified", "tags"]), "exists", self.draw.chance(0.7)),
            8 => self.regex(),
            9 => condition("verified", "equals", self.draw.chance(0.5)),
            10 => condition("score", "greater_or_equal", score(&mut self.draw)),
            _ => self.text(),
        }
    }

    fn leaf(&mut self) -> Value {
        match self.draw.below(8) {
            0 => condition("tags", "contains", self.draw.half(&self.tags).as_str()),
            1 => condition("items.sku", "equals", format!("S{:03}", self.draw.below(300))),
            2 => condition("items.price", "greater_than", self.draw.amount()),
            3 => {
                let count = self.draw.range(1, 5);
                condition("user.address.city", "in", json!(self.draw.sample(&CITIES, count)))
            }
            4 => {
                let field = *self.draw.pick(&["user.address", "items", "note", "tags", "user.address.zip"]);
                condition(field, "exists", self.draw.chance(0.7))
            }
            5 if self.draw.chance(0.1) => condition("country", "equals", Value::Null),
            5 => condition("channel", "equals", *self.draw.half(&CHANNELS)),
            _ if self.draw.chance(0.5) => self.equality(),
            _ => self.other(),
        }
    }

    fn tree(&mut self, depth: usize) -> Value {
        if depth == 0 || self.draw.chance(0.35) {
            return self.leaf();
        }
        let kind = self.draw.unit();
        if kind < 0.15 {
            return json!({ "not": self.tree(depth - 1) });
        }
        let list: Vec<Value> = (0..2 + self.draw.below(2)).map(|_| self.tree(depth - 1)).collect();
        if kind < 0.65 { json!({ "all": list }) } else { json!({ "any": list }) }
    }
}
