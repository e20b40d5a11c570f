//! `distric signal NAME`.

use distric_sdk::Command;
use serde_json::{Value, json};

use crate::cli::SignalArgs;
use crate::client::{block_on, connect, json_or_file};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint};

/// Sends one signal and says whether a task got it.
pub fn run(args: &SignalArgs, output: Output) -> Result<Exit, Failure> {
    let mut body = json!({"payload": json_or_file("--payload", &args.payload)?});
    if let Some(key) = &args.key {
        body["key"] = json!(key);
    }
    if let Some(ttl) = &args.ttl {
        body["ttl"] = json!(ttl);
    }
    let mut command = Command::signal(&args.name, body.to_string());
    command.id = args.instance;
    command.idempotency_key.clone_from(&args.idempotency_key);
    block_on(async {
        let client = connect(&args.client).await?;
        let answer: Value = client.command(command).await?.json().unwrap_or_default();
        let how = if answer["delivered"] == true { "delivered" } else { "kept until somebody waits for it" };
        output.text(format!("{} {how}", output.paint(Paint::Strong, &args.name)));
        output.json(&json!({"event": "signalled", "name": args.name, "delivered": answer["delivered"], "repeat": answer["repeat"]}));
        Ok(Exit::Success)
    })
}
