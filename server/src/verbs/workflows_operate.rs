//! `distric workflows cancel|pause|resume|retry`.

use distric_sdk::{Client, Command, Query};
use distric_wire::client::{CommandKind, QueryKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::{InstanceArgs, RetryArgs};
use crate::client::{block_on, connect, json_or_file};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint};

/// Instances asked for at once.
const PAGE_INSTANCES: u32 = 500;

/// One operation on one instance.
pub fn one(kind: CommandKind, args: &InstanceArgs, output: Output) -> Result<Exit, Failure> {
    let mut command = Command::new(kind).id(args.id);
    command.reason.clone_from(&args.reason);
    block_on(async {
        let client = connect(&args.client).await?;
        client.command(command).await?;
        say(args.id, "done", output);
        Ok(Exit::Success)
    })
}

/// Takes one instance, or all that a query finds, back to where it failed. Exit 1 when one of several was refused.
pub fn retry(args: &RetryArgs, output: Output) -> Result<Exit, Failure> {
    let mut body = json!({});
    if let Some(from) = &args.from {
        body["from"] = json!(from);
    }
    if let Some(input) = &args.input {
        body["input"] = json_or_file("--input", input)?;
    }
    let mut command = Command::new(CommandKind::RetryInstance).body(body.to_string());
    command.reason.clone_from(&args.reason);
    command.if_match = args.version;
    block_on(async {
        let client = connect(&args.client).await?;
        if let Some(id) = args.id {
            client.command(command.id(id)).await?;
            say(id, "retried", output);
            return Ok(Exit::Success);
        }
        // All are found before the first is retried: a retried one that fails again is not found twice.
        let found = find(&client, args).await?;
        let mut exit = Exit::Success;
        for id in found {
            if args.dry_run {
                say(id, "would be retried", output);
                continue;
            }
            match client.command(command.clone().id(id)).await {
                Ok(_) => say(id, "retried", output),
                Err(error) => {
                    say(id, &format!("refused: {error}"), output);
                    exit = Exit::FailedOutcome;
                }
            }
        }
        Ok(exit)
    })
}

/// The instances that the query finds.
async fn find(client: &Client, args: &RetryArgs) -> Result<Vec<Uuid>, Failure> {
    let mut found = Vec::new();
    let mut query = Query::new(QueryKind::Instances);
    query.status.clone_from(&args.status);
    query.name.clone_from(&args.workflow);
    query.limit = Some(PAGE_INSTANCES);
    loop {
        let page = client.query(query.clone()).await?;
        let rows: Value = page.json().unwrap_or_default();
        let rows = rows.as_array().or_else(|| rows["items"].as_array()).cloned().unwrap_or_default();
        found.extend(rows.iter().filter_map(|row| row["id"].as_str()?.parse::<Uuid>().ok()));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(found),
        }
    }
}

fn say(id: Uuid, what: &str, output: Output) {
    output.text(format!("{} {what}", output.paint(Paint::Strong, &id.to_string())));
    output.json(&json!({"event": "operated", "instance": id, "outcome": what}));
}
