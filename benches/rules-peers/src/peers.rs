//! `a-tree` with the *simple* rules in its own language.

use a_tree::{ATree, AttributeDefinition};
use serde_json::Value;

/// The three conditions of a *simple* rule.
pub struct Simple<'r> {
    pub id: &'r str,
    pub event_type: &'r str,
    pub low: f64,
    pub high: f64,
    pub countries: Vec<&'r str>,
}

/// Takes a rule apart.
pub fn simple(rule: &Value) -> Simple<'_> {
    let all = &rule["when"]["all"];
    Simple {
        id: rule["id"].as_str().expect("an id"),
        event_type: all[0]["value"].as_str().expect("an equality comes first"),
        low: all[1]["value"][0].as_f64().expect("then a range"),
        high: all[1]["value"][1].as_f64().expect("then a range"),
        countries: all[2]["value"].as_array().expect("then a list").iter().filter_map(Value::as_str).collect(),
    }
}

/// `a-tree`: an expression DAG with shared parts. Floats are decimals there, so amounts are cents.
pub struct Tree {
    tree: ATree<String>,
}

fn cents(amount: f64) -> i64 {
    (amount * 100.0).round() as i64
}

impl Tree {
    /// Inserts all rules.
    pub fn new(rules: &[Value]) -> Self {
        let attributes =
            [AttributeDefinition::string("event_type"), AttributeDefinition::integer("amount"), AttributeDefinition::string("country")];
        let mut tree = ATree::new(&attributes).expect("three attributes");
        for rule in rules {
            let Simple { id, event_type, low, high, countries } = simple(rule);
            let list = countries.iter().map(|country| format!("'{country}'")).collect::<Vec<_>>().join(", ");
            let text =
                format!("event_type = '{event_type}' and amount >= {} and amount <= {} and country in [{list}]", cents(low), cents(high));
            tree.insert(&id.to_string(), &text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        }
        Self { tree }
    }

    fn found(&self, message: &[u8], of: impl FnOnce(&[&String]) -> Vec<String>) -> (usize, Vec<String>) {
        let read: Value = serde_json::from_slice(message).expect("JSON");
        let mut event = self.tree.make_event();
        event.with_string("event_type", read["event_type"].as_str().unwrap_or_default()).expect("an attribute");
        event.with_integer("amount", cents(read["amount"].as_f64().unwrap_or_default())).expect("an attribute");
        event.with_string("country", read["country"].as_str().unwrap_or_default()).expect("an attribute");
        let event = event.build().expect("an event");
        let report = self.tree.search(&event).expect("a search");
        (report.matches().len(), of(report.matches()))
    }

    /// How many rules match.
    pub fn matches(&mut self, message: &[u8]) -> usize {
        self.found(message, |_| Vec::new()).0
    }

    /// Which rules match, ordered by their ids.
    pub fn ids(&mut self, message: &str) -> Vec<String> {
        let mut ids = self.found(message.as_bytes(), |found| found.iter().map(ToString::to_string).collect()).1;
        ids.sort();
        ids
    }
}
