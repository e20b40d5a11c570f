//! `ml_inference`: a logistic regression whose weights ship with it.
//!
//! Input: an object of features, such as `{"amount": 900, "hour": 3, "attempts": 4, "account_age_days": 2}`.
//! Output: `{"model", "score", "flagged"}`; `score` is a probability, `flagged` compares it with the task's config `threshold` (0.5).

use distric_plugins_abi::{Attempt, Failure, Plugin, export_plugin};
use serde_json::{Value, json};

const WEIGHTS: &str = include_str!("weights.json");
const THRESHOLD: f64 = 0.5;

struct Feature {
    name: String,
    mean: f64,
    deviation: f64,
    weight: f64,
}

struct Model {
    name: String,
    intercept: f64,
    features: Vec<Feature>,
}

impl Model {
    fn of_json(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let feature = |value: &Value| {
            Some(Feature {
                name: value["name"].as_str()?.to_owned(),
                mean: value["mean"].as_f64()?,
                deviation: value["deviation"].as_f64().filter(|deviation| *deviation > 0.0)?,
                weight: value["weight"].as_f64()?,
            })
        };
        let features = json["features"].as_array()?.iter().map(feature).collect::<Option<_>>()?;
        Some(Self { name: json["model"].as_str()?.to_owned(), intercept: json["intercept"].as_f64()?, features })
    }

    fn score(&self, input: &Value) -> Result<f64, Failure> {
        let mut sum = self.intercept;
        for feature in &self.features {
            let Some(value) = input[&feature.name].as_f64() else {
                return Err(Failure::permanent("bad_input", format!("feature {} is missing or no number", feature.name)));
            };
            sum += feature.weight * (value - feature.mean) / feature.deviation;
        }
        Ok(1.0 / (1.0 + (-sum).exp()))
    }
}

fn threshold(config_json: &str) -> Result<f64, String> {
    let config: Value = serde_json::from_str(config_json).map_err(|error| error.to_string())?;
    match config.get("threshold") {
        None => Ok(THRESHOLD),
        Some(value) => {
            value.as_f64().filter(|value| (0.0..=1.0).contains(value)).ok_or_else(|| format!("threshold {value} is not between 0 and 1"))
        }
    }
}

impl Plugin for Model {
    const NAME: &'static std::ffi::CStr = c"ml_inference";
    const VERSION: &'static std::ffi::CStr = c"1.0.0";

    fn init(_config_json: &str) -> Result<Self, String> {
        Self::of_json(WEIGHTS).ok_or_else(|| "the weights that were built in are damaged".to_owned())
    }

    fn validate(config_json: &str) -> Result<(), String> {
        threshold(config_json).map(drop)
    }

    fn execute(&mut self, attempt: &Attempt<'_>, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let input: Value = serde_json::from_slice(input).map_err(|error| Failure::permanent("bad_input", error.to_string()))?;
        let threshold = threshold(attempt.config_json()).map_err(|problem| Failure::permanent("bad_config", problem))?;
        let score = self.score(&input)?;
        Ok(json!({"model": self.name, "score": score, "flagged": score >= threshold}).to_string().into_bytes())
    }
}

export_plugin!(Model);
