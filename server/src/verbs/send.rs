//! `distric send EVENT_TYPE JSON`.

use distric_sdk::{Outcome, Submission};
use serde_json::json;

use crate::cli::SendArgs;
use crate::client::{block_on, connect, json_or_file};
use crate::exit::{Exit, Failure};
use crate::follow::{Followed, to_the_end};
use crate::output::{Output, Paint};

/// Sends one event, prints what it matched, follows what it started.
pub fn run(args: &SendArgs, output: Output) -> Result<Exit, Failure> {
    let payload = json_or_file("the payload", &args.payload)?;
    let mut submission = Submission::json(&payload).event_type(&args.event_type);
    submission.idempotency_key.clone_from(&args.idempotency_key);
    submission.routing_key.clone_from(&args.routing_key);
    submission.source.clone_from(&args.source);
    for header in &args.headers {
        let (name, value) =
            header.split_once('=').ok_or_else(|| Failure::new(Exit::Usage, format!("--header {header}: expected NAME=VALUE")))?;
        submission = submission.header(name, value);
    }
    block_on(async {
        let client = connect(&args.client).await?;
        let receipt = client.submit(submission).await?;
        output.json(&json!({
            "event": "accepted", "outcome": receipt.outcome, "message_id": receipt.message_id, "catalog_version": receipt.catalog_version,
            "rules": receipt.rules, "workflows": receipt.workflows, "instances": receipt.instances,
        }));
        let how = match receipt.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Repeat => "accepted before, under the same idempotency key",
            Outcome::Unmatched => "accepted; no rule matched, nothing is kept",
        };
        output.text(format!("{} {how} (catalog {})", output.paint(Paint::Dim, &receipt.message_id.to_string()), receipt.catalog_version));
        for rule in &receipt.rules {
            output.text(format!("  rule {}", output.paint(Paint::Strong, rule)));
        }
        let instances: Vec<Followed> = receipt
            .instances
            .iter()
            .zip(&receipt.workflows)
            .map(|(id, workflow)| Followed { id: *id, workflow: workflow.clone() })
            .collect();
        for instance in &instances {
            output.text(format!(
                "  workflow {} {}",
                output.paint(Paint::Strong, &instance.workflow),
                output.paint(Paint::Dim, &instance.id.to_string())
            ));
        }
        if args.no_follow { Ok(Exit::Success) } else { to_the_end(&client, instances, output).await }
    })
}
