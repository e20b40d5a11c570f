//! `distric submit --task TYPE`.

use distric_sdk::Command;
use serde_json::json;

use super::run::{announce, started};
use crate::cli::SubmitArgs;
use crate::client::{block_on, connect, json_or_file};
use crate::exit::{Exit, Failure};
use crate::follow::to_the_end;
use crate::output::Output;

/// Starts one task and follows it.
pub fn run(args: &SubmitArgs, output: Output) -> Result<Exit, Failure> {
    let body = json!({"config": json_or_file("--config", &args.config)?, "input": json_or_file("--input", &args.input)?});
    let mut command = Command::start_task(&args.task, body.to_string());
    command.idempotency_key.clone_from(&args.idempotency_key);
    block_on(async {
        let client = connect(&args.client).await?;
        let started = started(&client.command(command).await?, &args.task)?;
        announce(&started, output);
        if args.no_follow { Ok(Exit::Success) } else { to_the_end(&client, vec![started], output).await }
    })
}
