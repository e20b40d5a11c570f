//! `distric run WORKFLOW`.

use distric_sdk::{Command, Reply};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::RunArgs;
use crate::client::{block_on, connect, json_or_file};
use crate::exit::{Exit, Failure};
use crate::follow::{Followed, to_the_end};
use crate::output::{Output, Paint};

/// Starts a workflow and follows it.
pub fn run(args: &RunArgs, output: Output) -> Result<Exit, Failure> {
    let input = json_or_file("--input", &args.input)?;
    let mut command = Command::start_workflow(&args.workflow, input.to_string());
    command.idempotency_key.clone_from(&args.idempotency_key);
    command.delay_ms = args.delay.as_deref().map(delay_ms).transpose()?;
    command.start_at_us = args.at.as_deref().map(|at| super::workflows_live::instant_us("--at", at)).transpose()?;
    block_on(async {
        let client = connect(&args.client).await?;
        let started = started(&client.command(command).await?, &args.workflow)?;
        announce(&started, output);
        if args.no_follow { Ok(Exit::Success) } else { to_the_end(&client, vec![started], output).await }
    })
}

/// A duration in milliseconds. Errors: it is none.
fn delay_ms(text: &str) -> Result<u64, Failure> {
    let value = text.parse::<u64>().map_or_else(|_| json!(text), |seconds| json!(seconds));
    let parsed = distric_rules::parse_duration_ms(&distric_rules::document::Node::from_json(&value));
    parsed.map_err(|message| Failure::new(Exit::Usage, format!("--delay: {message}")))
}

/// The instance that a start command answered with.
pub fn started(reply: &Reply, workflow: &str) -> Result<Followed, Failure> {
    let body: Value = reply.json().unwrap_or_default();
    let id = ["instance", "instance_id", "id"].iter().find_map(|member| body[*member].as_str()?.parse::<Uuid>().ok());
    let id = id.ok_or_else(|| Failure::new(Exit::Unavailable, format!("the node answered a start without an instance: {body}")))?;
    Ok(Followed { id, workflow: workflow.to_owned() })
}

/// Prints what was started.
pub fn announce(started: &Followed, output: Output) {
    output.text(format!("{} {}", output.paint(Paint::Strong, &started.workflow), output.paint(Paint::Dim, &started.id.to_string())));
    output.json(&json!({"event": "started", "workflow": started.workflow, "instance": started.id}));
}
