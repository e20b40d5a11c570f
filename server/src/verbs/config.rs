//! `distric config check` and `distric config print`.

use std::path::Path;

use distric_core::config::reference::{effective, to_yaml};
use serde_json::{Map, Value, json};

use crate::cli::NodeArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};
use crate::settings;

/// Checks a file with the environment and flags over it; a wrong one is exit code 7 with every problem.
pub fn check(file: Option<&Path>, node: &NodeArgs, output: Output) -> Result<Exit, Failure> {
    let file = file.or(node.config.config.as_deref());
    settings::of_node_with_file(node, file)?;
    let source = file.map_or_else(|| "environment and flags".to_owned(), |path| path.display().to_string());
    output.text(format!("{source}: valid"));
    output.json(&json!({"source": source, "valid": true}));
    Ok(Exit::Success)
}

/// Prints what holds, as a file that could be read again.
pub fn print(show_origin: bool, node: &NodeArgs, output: Output) -> Result<Exit, Failure> {
    let loaded = settings::of_node(node)?;
    if output.json {
        let mut keys = Map::new();
        for (key, value, origin) in effective(&loaded.raw) {
            keys.insert(key.to_owned(), if show_origin { json!({"origin": origin, "value": value}) } else { value });
        }
        output.json(&Value::Object(keys));
    } else {
        write_line(to_yaml(&loaded.raw, show_origin).trim_end());
    }
    Ok(Exit::Success)
}
