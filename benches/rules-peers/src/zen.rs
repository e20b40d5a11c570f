//! `zen-engine` with the *simple* rules as a decision table.

use serde_json::{Value, json};
use zen_engine::Decision;
use zen_engine::model::DecisionContent;

use crate::peers::{Simple, simple};

/// `zen-engine`: a decision table that collects all rows that fit, compiled.
pub struct Zen {
    decision: Decision,
    runtime: tokio::runtime::Runtime,
}

impl Zen {
    /// Builds and compiles the table.
    pub fn new(rules: &[Value]) -> Self {
        let row = |rule: &Value| {
            let Simple { id, event_type, low, high, countries } = simple(rule);
            let list = countries.iter().map(|country| format!("\"{country}\"")).collect::<Vec<_>>().join(", ");
            json!({ "_id": id, "e": format!("\"{event_type}\""), "a": format!("[{low}..{high}]"), "c": list, "r": format!("\"{id}\"") })
        };
        let table = json!({
            "hitPolicy": "collect",
            "inputs": [
                { "id": "e", "name": "event type", "field": "event_type" },
                { "id": "a", "name": "amount", "field": "amount" },
                { "id": "c", "name": "country", "field": "country" }
            ],
            "outputs": [{ "id": "r", "name": "rule", "field": "rule" }],
            "rules": rules.iter().map(row).collect::<Vec<_>>(),
        });
        let graph = json!({
            "nodes": [
                { "id": "in", "name": "in", "type": "inputNode" },
                { "id": "table", "name": "table", "type": "decisionTableNode", "content": table },
                { "id": "out", "name": "out", "type": "outputNode" }
            ],
            "edges": [
                { "id": "1", "sourceId": "in", "targetId": "table" },
                { "id": "2", "sourceId": "table", "targetId": "out" }
            ]
        });
        let content: DecisionContent = serde_json::from_value(graph).expect("a graph");
        let DecisionContent::Graph(graph) = content else { panic!("a graph") };
        let mut decision = Decision::from(graph);
        decision.compile();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { decision, runtime }
    }

    fn rows(&self, message: &[u8]) -> Vec<String> {
        let read: Value = serde_json::from_slice(message).expect("JSON");
        let answer = self.runtime.block_on(self.decision.evaluate(read.into())).expect("an answer");
        let rows: Value = serde_json::to_value(&answer.result).expect("a value");
        rows.as_array().map(|rows| rows.iter().filter_map(|row| row["rule"].as_str().map(str::to_string)).collect()).unwrap_or_default()
    }

    /// How many rules match.
    pub fn matches(&mut self, message: &[u8]) -> usize {
        self.rows(message).len()
    }

    /// Which rules match, ordered by their ids.
    pub fn ids(&mut self, message: &str) -> Vec<String> {
        let mut ids = self.rows(message.as_bytes());
        ids.sort();
        ids
    }
}
