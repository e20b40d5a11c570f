//! `distric plugin check`: one plugin, in the sandbox that a worker would give it, without a cluster. And the process that it runs in.

use distric_plugins_host::{Call, Identity, InProcess, Isolation, Outcome, Pool, Spec};
use distric_worker::PluginsError;
use distric_worker::plugins::Settings;
use serde_json::{Value, json};

use crate::cli::PluginCheckArgs;
use crate::client::{block_on, json_or_file};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::workers;

/// The part of a worker that runs one plugin. The exit code says whether it was started by a worker.
pub fn host() -> Result<Exit, Failure> {
    distric_plugins_host::child::run()
        .map(|()| Exit::Success)
        .map_err(|reason| Failure::new(Exit::Usage, reason).with_remedy("`distric worker --plugins DIR` runs plugins"))
}

/// Starts the plugin, and runs one task when there is an input.
pub fn run(args: &PluginCheckArgs, output: Output) -> Result<Exit, Failure> {
    let path = std::path::absolute(&args.file).map_err(|error| Failure::io("find", &args.file, &error))?;
    if let Err(error) = std::fs::metadata(&path) {
        return Err(Failure::io("read", &args.file, &error));
    }
    let settings = Settings::beside(&path).map_err(|error| workers::refused(&error))?;
    let required = Isolation::of_name(&args.isolation).expect("the command line takes only names of levels");
    let spec = settings.spec(&path, required);
    let input = args.input.as_deref().map(|input| json_or_file("--input", input)).transpose()?;
    let config = json_or_file("--config", &args.config)?;
    block_on(async {
        let refused = |source| workers::refused(&PluginsError::Start { path: path.clone(), source });
        let call = input.map(|input| call(&config, &input));
        let (identity, outcome) = if settings.in_process {
            let inside = InProcess::start(Spec { isolation_required: required, ..spec }).await.map_err(refused)?;
            let outcome = match call {
                Some(call) => Some(inside.execute(call).await),
                None => None,
            };
            (inside.identity().clone(), outcome)
        } else {
            let pool = Pool::start(&workers::keeper()?, spec).await.map_err(refused)?;
            let outcome = match call {
                Some(call) => Some(pool.execute(&call).await),
                None => None,
            };
            pool.close().await;
            (pool.identity().clone(), outcome)
        };
        announce(&identity, output);
        match outcome {
            None => Ok(Exit::Success),
            Some(Ok(Outcome::Completed(bytes))) => completed(&bytes, output),
            Some(Ok(Outcome::Failed(failed))) => {
                output.json(&json!({"status": "failed", "code": failed.code, "message": failed.message, "retryable": failed.retryable}));
                let may = if failed.retryable { "another attempt may help" } else { "no attempt can help" };
                output.text(format!("failed: {}: {} ({may})", failed.code, failed.message));
                Ok(Exit::FailedOutcome)
            }
            Some(Err(error)) => {
                output.json(&json!({"status": "failed", "code": error.code(), "message": error.to_string(), "retryable": true}));
                output.text(format!("failed: {}: {error}", error.code()));
                Ok(Exit::FailedOutcome)
            }
        }
    })
}

fn announce(identity: &Identity, output: Output) {
    let Identity { name, version, isolation } = identity;
    output.json(&json!({"status": "usable", "name": name, "version": version, "isolation": isolation.name()}));
    output.text(format!("{name} {version}: usable, isolation {isolation}"));
}

fn completed(bytes: &[u8], output: Output) -> Result<Exit, Failure> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => {
            output.json(&json!({"status": "completed", "output": value}));
            output.text(value.to_string());
            Ok(Exit::Success)
        }
        Err(error) => Err(Failure::new(Exit::FailedOutcome, format!("the plugin's output is not JSON: {error}"))),
    }
}

/// An attempt as a cluster would make it, with ids that show where it comes from.
fn call(config: &Value, input: &Value) -> Call {
    Call {
        task_id: "00000000-0000-0000-0000-000000000001".to_owned(),
        instance_id: "00000000-0000-0000-0000-000000000002".to_owned(),
        task: "check".to_owned(),
        workflow: "check".to_owned(),
        namespace: "default".to_owned(),
        idempotency_key: "check".to_owned(),
        traceparent: String::new(),
        config_json: config.to_string(),
        fencing_token: 1,
        attempt: 1,
        timeout_ms: 0,
        input: input.to_string().into_bytes(),
    }
}
