//! The index says what direct evaluation says: drawn rule sets and messages, the same ones rewritten, and JSON at its edges.
//!
//! Explanations evaluate every rule directly, without the index, so they are the reference here.

use distric_rules::{Catalog, Decision, Envelope, PayloadError, RuleSet};
use serde_json::{Map, Value, json};

/// Draws that a seed fixes (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn text(&mut self) -> String {
        (0..self.below(4)).map(|_| self.pick(&["a", "b", "ab", "é", "A", "."])).collect()
    }

    fn scalar(&mut self) -> Value {
        match self.below(12) {
            0 => json!(null),
            1 => json!(self.one_in(2)),
            2..=4 => json!(self.below(7) as i64 - 3),
            5 => json!((self.below(13) as f64 - 6.0) / 2.0),
            6 => {
                self.pick(&[json!(-0.0), json!(1e300), json!(u64::MAX), json!(i64::MIN), json!("2026-01-01T00:00:00Z"), json!("10.0.0.1")])
            }
            _ => json!(self.text()),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            6 | 7 => Value::Array((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            8 => self.object(depth - 1),
            _ => self.scalar(),
        }
    }

    fn object(&mut self, depth: usize) -> Value {
        let members = (0..self.below(4)).map(|_| (self.pick(&["a", "b", "c", "x y", "é"]).to_string(), self.value(depth)));
        Value::Object(members.collect())
    }

    fn message(&mut self) -> Value {
        if self.one_in(20) {
            return self.value(3);
        }
        let mut members = Map::new();
        for _ in 0..self.below(8) {
            let name = self.pick(&["a", "a", "b", "c", "d", "é", "unused", "payload"]);
            let value = self.value(3);
            members.insert(name.into(), value);
        }
        if !self.one_in(4) {
            members.insert("event_type".into(), if self.one_in(10) { self.value(1) } else { self.event_type() });
        }
        Value::Object(members)
    }

    fn event_type(&mut self) -> Value {
        json!(self.pick(&["t1", "t2", "t3", "t4", "t5"]))
    }

    fn leaf(&mut self) -> Value {
        let fields = ["a", "a", "b", "c", "d", "é", "a.b", "a.c", "b.a.c", "payload.a", "payload.event_type", "$event_type", "$headers.h"];
        let field = self.pick(&fields);
        let texts = ["prefix", "suffix", "regex", "wildcard", "equals_ignore_case"];
        let (op, value) = match self.below(16) {
            0..=3 => ("equals", self.scalar()),
            4 => ("not_equals", self.scalar()),
            5 => ("contains", self.scalar()),
            6 => (self.pick(&["in", "not_in"]), Value::Array((0..self.below(5)).map(|_| self.scalar()).collect())),
            7 => (self.pick(&["greater_than", "less_than", "greater_or_equal", "less_or_equal"]), json!(self.below(7) as f64 / 2.0 - 1.5)),
            8 => ("in_range", self.pick(&[json!([-1, 2]), json!([0, 0]), json!([2, 1]), json!([null, 0.5]), json!([-0.0, null])])),
            9 => ("exists", json!(self.one_in(2))),
            10 => ("length", self.pick(&[json!(2), json!({"gt": 1}), json!({"in": [0, 3]}), json!({"not_equals": 1})])),
            11 => (self.pick(&["before", "after"]), json!("2026-01-01T00:00:00Z")),
            12 => ("cidr", json!("10.0.0.0/8")),
            13 => ("regex", json!(self.pick(&["a.*b", "^ab?", "b+$", "(?:ab|é)a", "a|b", "", "(ab)+", r"\w\.", "(?i)AB"]))),
            _ => (self.pick(&texts[..]), json!(self.text().replace('.', "a*"))),
        };
        json!({ "field": field, "op": op, "value": value })
    }

    fn condition(&mut self, depth: usize) -> Value {
        if depth == 0 || self.one_in(3) {
            return self.leaf();
        }
        let list = |draw: &mut Self| (0..draw.below(4)).map(|_| draw.condition(depth - 1)).collect::<Vec<_>>();
        match self.below(6) {
            0 => json!({ "not": self.condition(depth - 1) }),
            1 | 2 => json!({ "any": list(self) }),
            _ => json!({ "all": list(self) }),
        }
    }

    /// Most rules have an event type, so that there are groups large enough for columns.
    fn rule(&mut self, i: usize) -> Value {
        let mut all: Vec<Value> = (0..1 + self.below(3)).map(|_| self.condition(3)).collect();
        if !self.one_in(4) {
            all.push(json!({ "field": "event_type", "op": "equals", "value": self.event_type() }));
        }
        json!({ "id": format!("r{i:03}"), "priority": self.below(5), "conditions": all })
    }

    /// Rules of which some transform, wait for others, stop, or start something.
    fn chained(&mut self, i: usize) -> Value {
        let mut rule = self.rule(i);
        if self.one_in(3) {
            let value = self.value(1);
            rule["transform"] = json!([{ "set": self.pick(&["a", "b", "a.b", "event_type"]), "value": value.as_str().map_or(value.clone(), |t| json!(t.replace('$', ""))) }]);
        }
        if i > 0 && self.one_in(3) {
            rule["after"] = json!([format!("r{:03}", self.below(i)), format!("r{:03}", self.below(i))]);
            rule["requires"] = json!(self.pick(&["all", "any"]));
        }
        if self.one_in(12) {
            rule["on_match"] = json!("stop");
        }
        if self.one_in(3) {
            rule["actions"] = json!([{ "workflow": "w", "params": { "who": "${a}", "n": 1 } }]);
        }
        rule
    }
}

fn catalog_of(rules: &[Value]) -> Catalog {
    let set = RuleSet::from_json(&json!({ "rules": rules })).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Catalog::compile(1, &set).expect("and compile")
}

const HEADERS: [(&str, &str); 2] = [("H", "ab"), ("h", "b")];

/// Decides from text, from the parsed value and directly, and wants one answer.
fn agreed(catalog: &Catalog, message: &Value, event_type: Option<&str>, what: &str) -> Vec<String> {
    let envelope = Envelope { namespace: "n", event_type, headers: &HEADERS, ..Envelope::default() };
    let explained = catalog.explain(&envelope, message, None);
    let from_value = catalog.decide_value(&envelope, message);
    assert_eq!(from_value.rules, explained.matched, "{what}: {message}");
    let from_text = catalog.decide(&envelope, message.to_string().as_bytes()).expect("JSON");
    assert_eq!(from_text, from_value, "{what}: {message}");
    let starts: Vec<_> = explained.rules.iter().flat_map(|rule| rule.actions.clone()).collect();
    assert_eq!(from_text.actions, starts, "{what}: {message}");
    from_text.rules.iter().map(ToString::to_string).collect()
}

#[test]
fn the_index_agrees_with_direct_evaluation() {
    let mut matches_count = 0;
    for seed in 0..80 {
        let mut draw = Draw(seed);
        let rules: Vec<Value> = (0..1 + draw.below(200)).map(|i| draw.rule(i)).collect();
        let catalog = catalog_of(&rules);
        for i in 0..25 {
            let event_type = draw.pick(&[None, None, Some("t1"), Some("ab")]);
            matches_count += agreed(&catalog, &draw.message(), event_type, &format!("seed {seed} message {i}")).len();
        }
    }
    assert!(matches_count > 1_000, "{matches_count} matches are too few to say anything");
}

#[test]
fn chains_transforms_and_stops_agree_with_direct_evaluation() {
    for seed in 1_000..1_080 {
        let mut draw = Draw(seed);
        let rules: Vec<Value> = (0..1 + draw.below(30)).map(|i| draw.chained(i)).collect();
        let catalog = catalog_of(&rules);
        for i in 0..15 {
            agreed(&catalog, &draw.message(), None, &format!("seed {seed} message {i}"));
        }
    }
}

#[test]
fn rewritten_rules_and_messages_give_the_same_answer() {
    let not = |condition: &Value| json!({ "not": condition });
    for seed in 2_000..2_040 {
        let mut draw = Draw(seed);
        let rules: Vec<Value> = (0..60).map(|i| draw.rule(i)).collect();
        let rewritten = |rewrite: &dyn Fn(&Value) -> Value| -> Catalog {
            let rewrite = |rule: &Value| {
                let mut rule = rule.clone();
                rule["conditions"] = rewrite(&rule["conditions"]);
                rule
            };
            catalog_of(&rules.iter().map(rewrite).collect::<Vec<_>>())
        };
        let mut shuffled = rules.clone();
        (1..shuffled.len()).for_each(|i| shuffled.swap(i, draw.below(i + 1)));
        let catalogs = [
            ("shuffled", catalog_of(&shuffled)),
            ("double negation", rewritten(&|list| not(&not(&json!({ "all": list }))))),
            ("De Morgan", rewritten(&|list| not(&json!({ "any": list.as_array().unwrap().iter().map(not).collect::<Vec<_>>() })))),
            ("an alternative that never holds", rewritten(&|list| json!({ "any": [{ "all": list }, { "any": [] }] }))),
            ("an alternative twice", rewritten(&|list| json!({ "any": [{ "all": list }, { "all": list }] }))),
        ];
        let (some, others) = rules.split_at(draw.below(rules.len() - 1) + 1);
        let (whole, parts) = (catalog_of(&rules), [some, others].map(catalog_of));
        for _ in 0..15 {
            let message = draw.message();
            let expected = agreed(&whole, &message, None, "whole");
            for (what, catalog) in &catalogs {
                assert_eq!(agreed(catalog, &message, None, what), expected, "seed {seed}, {what}: {message}");
            }
            let mut merged: Vec<String> = parts.iter().flat_map(|part| agreed(part, &message, None, "part")).collect();
            let (mut merged_sorted, mut expected_sorted) = (std::mem::take(&mut merged), expected.clone());
            merged_sorted.sort();
            expected_sorted.sort();
            assert_eq!(merged_sorted, expected_sorted, "seed {seed}: {message}");
            if let Value::Object(members) = &message {
                let mut names: Vec<&String> = members.keys().collect();
                (1..names.len()).for_each(|i| names.swap(i, draw.below(i + 1)));
                let mut text = String::from("{ \"unused too\" :[{\"a\":\"\\u0061\\n\"}, 1.5e-3 ]");
                names.iter().for_each(|name| text.push_str(&format!("\n,\t{} : {}", json!(name), members[*name])));
                text.push_str("} ");
                let decision = whole.decide(&Envelope { headers: &HEADERS, ..Envelope::default() }, text.as_bytes()).expect("JSON");
                assert_eq!(decision.rules.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{text}");
            }
        }
    }
}

#[test]
fn two_conditions_on_one_field_may_be_met_by_two_of_its_values() {
    let both = |i: usize, op: &str, a: Value, b: Value| {
        let leaf = |value: Value| json!({ "field": "channel", "op": op, "value": value });
        let event_type = json!({ "field": "event_type", "op": "equals", "value": format!("t{}", i % 3) });
        json!({ "id": format!("r{i:03}"), "conditions": [event_type, leaf(a), leaf(b)] })
    };
    // Three groups, each large enough for columns.
    let mut rules: Vec<Value> = (0..60).map(|i| both(i, "equals", json!(["a", "b", "c"][i % 3]), json!(["b", "d"][i % 2]))).collect();
    rules.extend((60..120).map(|i| both(i, "in_range", json!([0, i]), json!([i + 100, 300]))));
    let catalog = catalog_of(&rules);
    let ids = |message: Value| agreed(&catalog, &message, None, "channel");
    assert_eq!(ids(json!({ "event_type": "t0", "channel": ["a", "b"] })).len(), 10);
    assert_eq!(ids(json!({ "event_type": "t0", "channel": "a" })).len(), 0);
    assert_eq!(ids(json!({ "event_type": ["t0", "t1", "t0"], "channel": [["b"], "a"] })).len(), 20 + 10 - 10);
    assert_eq!(ids(json!({ "event_type": "t1", "channel": [250, 1] })).len(), 20);
    assert_eq!(ids(json!({ "event_type": "t1", "channel": 70 })).len(), 0);
}

#[test]
fn json_at_its_edges_is_read_as_the_full_reader_reads_it() {
    let leaf = |i: usize, field: &str, op: &str, value: Value| json!({ "id": format!("r{i}"), "conditions": [{ "field": field, "op": op, "value": value }] });
    let catalog = catalog_of(&[
        leaf(0, "a", "equals", json!(1)),
        leaf(1, "a", "exists", json!(true)),
        leaf(2, "é", "equals", json!("\u{1f600}\n")),
        leaf(3, "a.b", "greater_than", json!(0)),
        leaf(4, "a", "less_than", json!(0)),
        leaf(5, "a", "length", json!(2)),
        leaf(6, "a", "equals", json!(9_007_199_254_740_993_u64)),
        leaf(7, "a", "equals", json!(0.1)),
        leaf(8, "a.", "exists", json!(true)),
    ]);
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let unused = |levels: usize| format!("{{\"z\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let mut texts: Vec<Vec<u8>> = [
        r#"{"a":2,"a":1}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":{"b":1},"a":{"b":-1}}"#,
        r#"{"a":[{"b":1},{"b":2}]}"#,
        r#"{"a":1,"\u0061":3}"#,
        r#"{"\u00e9":"\ud83d\ude00\n"}"#,
        r#"{"é":"\ud83d"}"#,
        r#"{"z":"\ude00"}"#,
        r#"{"z":"\ud83d\u0041"}"#,
        r#"{"z":"\x"}"#,
        r#"{"z":"\u12"}"#,
        r#"{"a":1e400}"#,
        r#"{"z":1e400}"#,
        r#"{"z":-1e400}"#,
        r#"{"a":1e-400}"#,
        r#"{"a":-0}"#,
        r#"{"a":-0.0}"#,
        r#"{"a":0e9999999999}"#,
        r#"{"a":9007199254740993}"#,
        r#"{"a":9007199254740992.0}"#,
        r#"{"a":123456789012345678901234567890}"#,
        r#"{"a":18446744073709551616}"#,
        r#"{"a":-9223372036854775809}"#,
        r#"{"a":0.1}"#,
        r#"{"a":1e-1}"#,
        r#"{"a":0.10000000000000000000001}"#,
        r#"{"a":0.1000000000000000055511151231257827}"#,
        r#"{"a":100E-2}"#,
        r#"{"a":10.0e-1}"#,
        r#"{"a":01}"#,
        r#"{"a":-}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":1e}"#,
        r#"{"a":0x1}"#,
        r#"{"a":NaN}"#,
        r#"{"a":1} x"#,
        r#"{"a":1}}"#,
        "{\"a\":1}\n \t\r",
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a" 1}"#,
        r#"{"a":}"#,
        r#"{a:1}"#,
        r#"{"a":[1,2]}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[[1]]}"#,
        r#"{"a":tru}"#,
        r#"{"a":truex}"#,
        r#"{"a":nul"#,
        "{\"a\":\"\t\"}",
        "{\"z\":\"\u{1}\"}",
        "{\"a\":\"x",
        "{\"a\":\"x\\",
        "{\"a\":\"\u{7f}\"}",
        "",
        " ",
        "[]",
        "[{\"a\":1}]",
        "1",
        "\"a\"",
        "null",
        "{}",
        "{ }",
        "\u{feff}{\"a\":1}",
        r#"{"":1}"#,
        r#"{"a":{"":1}}"#,
        r#"{"a":"é"}"#,
        "{\"a\":\"\u{0}\"}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    texts.extend([31, 32, 33, 200].into_iter().flat_map(|levels| [nested(levels), unused(levels)]).map(String::into_bytes));
    texts.extend(
        [&b"{\"a\":\"\xff\"}"[..], b"{\"z\":\"\xc3\"}", b"\xff", b"{\"\xc3\xa9\":1}", b"{\"z\":\"\xed\xa0\x80\"}"].map(<[u8]>::to_vec),
    );
    // And all of them damaged.
    let mut draw = Draw(7);
    for i in 0..4_000 {
        let mut text = texts[i % texts.len().min(90)].clone();
        for _ in 0..1 + draw.below(2) {
            let at = draw.below(text.len() + 1);
            let byte = draw.pick(&b"{}[]\",:\\u0019-.eEtfn \n\x00\xc3a"[..]);
            match draw.below(3) {
                0 => text.insert(at, byte),
                1 if at < text.len() => text[at] = byte,
                _ => text.truncate(at.max(1)),
            }
        }
        texts.push(text);
    }
    let mut read_count = 0;
    for text in texts {
        let shown = String::from_utf8_lossy(&text).into_owned();
        match (serde_json::from_slice::<Value>(&text), catalog.decide(&Envelope::default(), &text)) {
            (Ok(value), Ok(decision)) => {
                assert_eq!(decision, catalog.decide_value(&Envelope::default(), &value), "{shown}");
                assert_eq!(decision.rules, catalog.explain(&Envelope::default(), &value, None).matched, "{shown}");
                read_count += 1;
            }
            (_, Err(PayloadError::TooDeep { .. })) => assert!(shown.matches(['[', '{']).count() > 32, "{shown}"),
            (Err(_), Err(PayloadError::NotJson { .. })) => {}
            (read, decided) => panic!("{shown}: {read:?}, but {decided:?}"),
        }
    }
    assert!(read_count > 200, "only {read_count} of the texts were JSON");
}

#[test]
fn a_decision_that_is_used_again_keeps_nothing_of_the_last_message() {
    let catalog = catalog_of(&[
        json!({ "id": "a", "conditions": [{ "field": "a", "op": "equals", "value": 1 }], "transform": [{ "set": "b", "value": 2 }], "actions": [{ "workflow": "w" }] }),
        json!({ "id": "b", "conditions": [] }),
    ]);
    let mut decision = Decision::default();
    for text in [r#"{"a":1,"event_type":"x"}"#, r#"{"a":2}"#, "[]", r#"{"a":1}"#] {
        catalog.decide_into(&Envelope::default(), text.as_bytes(), &mut decision).unwrap();
        assert_eq!(decision, catalog.decide(&Envelope::default(), text.as_bytes()).unwrap());
    }
    assert!(catalog.decide_into(&Envelope::default(), b"{", &mut decision).is_err());
    assert_eq!(decision, Decision { catalog_version: 1, ..Decision::default() });
}
