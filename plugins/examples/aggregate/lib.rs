//! `aggregate`: numbers of many records in one pass.
//!
//! Input: `{"records": [{…}, …]}`. Config: `field`, the member to count, and `by`, the member to group by (optional).
//! Output: per group (one group `all` without `by`) `count`, `sum`, `min`, `max`, `mean`.

use std::collections::BTreeMap;

use distric_plugins_abi::{Attempt, Failure, Plugin, export_plugin};
use serde_json::{Map, Value, json};

/// Records between two looks at whether the result is still wanted.
const RECORDS_PER_LOOK: usize = 1_024;

struct Aggregate;

struct Numbers {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

struct Config {
    field: String,
    by: Option<String>,
}

fn config(config_json: &str) -> Result<Config, String> {
    let config: Value = serde_json::from_str(config_json).map_err(|error| error.to_string())?;
    let field = config["field"].as_str().ok_or("config.field must name a member of the records")?.to_owned();
    match config.get("by") {
        None => Ok(Config { field, by: None }),
        Some(Value::String(by)) => Ok(Config { field, by: Some(by.clone()) }),
        Some(other) => Err(format!("config.by is {other}, expected the name of a member")),
    }
}

impl Plugin for Aggregate {
    const NAME: &'static std::ffi::CStr = c"aggregate";
    const VERSION: &'static std::ffi::CStr = c"1.0.0";

    fn init(_config_json: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn validate(config_json: &str) -> Result<(), String> {
        config(config_json).map(drop)
    }

    fn execute(&mut self, attempt: &Attempt<'_>, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let bad_input = |problem: String| Failure::permanent("bad_input", problem);
        let Config { field, by } = config(attempt.config_json()).map_err(|problem| Failure::permanent("bad_config", problem))?;
        let input: Value = serde_json::from_slice(input).map_err(|error| bad_input(error.to_string()))?;
        let records = input["records"].as_array().ok_or_else(|| bad_input("expected {\"records\": […]}".to_owned()))?;
        let mut groups: BTreeMap<String, Numbers> = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            if at % RECORDS_PER_LOOK == 0 {
                if attempt.is_cancelled() {
                    return Err(Failure::retryable("cancelled", format!("stopped at record {at}")));
                }
                attempt.progress(at as f64 / records.len() as f64, "records");
            }
            let value = record[&field].as_f64().ok_or_else(|| bad_input(format!("records[{at}].{field} is missing or no number")))?;
            let group = match &by {
                None => "all".to_owned(),
                Some(by) => match &record[by] {
                    Value::String(text) => text.clone(),
                    Value::Null => return Err(bad_input(format!("records[{at}].{by} is missing"))),
                    other => other.to_string(),
                },
            };
            let numbers = groups.entry(group).or_insert(Numbers { count: 0, sum: 0.0, min: value, max: value });
            numbers.count += 1;
            numbers.sum += value;
            numbers.min = numbers.min.min(value);
            numbers.max = numbers.max.max(value);
        }
        let groups: Map<String, Value> = groups
            .into_iter()
            .map(|(name, n)| (name, json!({"count": n.count, "sum": n.sum, "min": n.min, "max": n.max, "mean": n.sum / n.count as f64})))
            .collect();
        Ok(Value::Object(groups).to_string().into_bytes())
    }
}

export_plugin!(Aggregate);
