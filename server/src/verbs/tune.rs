//! `distric tune plan`.

use serde_json::json;

use crate::cli::NodeArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};
use crate::settings;

/// Prints which thread would run on which core, without starting anything.
pub fn run(node: &NodeArgs, output: Output) -> Result<Exit, Failure> {
    let loaded = settings::of_node(node)?;
    let plan = distric_core::plan(&loaded.config);
    if output.json {
        output.json(&json!(plan));
    } else {
        write_line(plan.to_string().trim_end());
    }
    Ok(Exit::Success)
}
