//! `distric version`.

use serde_json::json;

use crate::exit::Exit;
use crate::output::Output;

/// Version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the version and what it speaks.
pub fn run(output: Output) -> Exit {
    output.text(format!("distric {VERSION} (wire protocol {})", distric_wire::VERSION_1));
    output.json(&json!({"version": VERSION, "wire_versions": [distric_wire::VERSION_1], "os": std::env::consts::OS, "arch": std::env::consts::ARCH}));
    Exit::Success
}
