//! Following instances live, to their ends.

use distric_sdk::{Client, Code, Error, Event, Query, QueryKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint, painted_state};

/// Events that may wait to be printed.
const EVENTS_WAITING_MAX: usize = 256;

/// One instance to follow.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Its id.
    pub id: Uuid,
    /// Its workflow.
    pub workflow: String,
}

/// Follows all instances at once, prints what happens, and says how it ended: success when all of them completed.
pub async fn to_the_end(client: &Client, instances: Vec<Followed>, output: Output) -> Result<Exit, Failure> {
    let (send, mut events) = mpsc::channel::<(usize, Event)>(EVENTS_WAITING_MAX);
    let mut followers = JoinSet::new();
    for (position, instance) in instances.iter().enumerate() {
        let (client, send, id) = (client.clone(), send.clone(), instance.id);
        followers.spawn(async move {
            let mut stream = client.subscribe_instance(id).await?;
            while let Some(event) = stream.next().await {
                if send.send((position, event?)).await.is_err() {
                    break;
                }
            }
            Ok::<(), Error>(())
        });
    }
    drop(send);
    let mut first_at_us = None;
    while let Some((position, event)) = events.recv().await {
        let since_us = event.at_us.saturating_sub(*first_at_us.get_or_insert(event.at_us));
        print_event(&instances[position], &event, since_us, instances.len() > 1, output);
    }
    while let Some(follower) = followers.join_next().await {
        follower.map_err(|error| Failure::new(Exit::FailedOutcome, format!("following ended with a panic: {error}")))??;
    }
    let mut exit = Exit::Success;
    for instance in &instances {
        let (status, error) = ending(client, instance.id).await?;
        if status != "completed" {
            exit = Exit::FailedOutcome;
        }
        let reason = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        output.text(format!(
            "{} {} {}{reason}",
            instance.workflow,
            output.paint(Paint::Dim, &instance.id.to_string()),
            painted_state(&output, &status)
        ));
        output.json(&json!({"event": "ended", "instance": instance.id, "workflow": instance.workflow, "status": status, "error": error}));
    }
    Ok(exit)
}

/// How an instance ended, from its record: the stream says what happened, the record says what holds.
async fn ending(client: &Client, id: Uuid) -> Result<(String, Option<String>), Failure> {
    let reply = client.query(Query::new(QueryKind::Instance).id(id)).await.map_err(|error| match &error {
        Error::Rejected(rejection) if rejection.code == Code::NotFound => {
            Failure::new(Exit::NotFound, format!("instance {id} is not there any more")).with_remedy("raise exec.history_retention_ms")
        }
        _ => error.into(),
    })?;
    let view: Value = reply.json().map_err(|error| Failure::new(Exit::Unavailable, format!("the answer is not JSON: {error}")))?;
    let error = view.get("error").filter(|error| !error.is_null()).map(|error| match (error["code"].as_str(), error["message"].as_str()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => error.to_string(),
    });
    Ok((view["status"].as_str().unwrap_or("unknown").to_owned(), error))
}

fn print_event(instance: &Followed, event: &Event, since_us: u64, several: bool, output: Output) {
    let body: Value = serde_json::from_slice(&event.body).unwrap_or_default();
    if output.json {
        output.json(&json!({
            "event": event.kind, "index": event.index, "at_us": event.at_us, "workflow": instance.workflow, "instance": instance.id, "body": body,
        }));
        return;
    }
    let whose = if several { format!("{} ", instance.workflow) } else { String::new() };
    let state = body["state"].as_str().unwrap_or(&event.kind);
    let task = body["task"].as_str().map_or_else(|| "workflow".to_owned(), |task| format!("task {task}"));
    let attempt =
        body["attempt"].as_u64().filter(|attempt| *attempt > 1).map(|attempt| format!(" (attempt {attempt})")).unwrap_or_default();
    let reason = body["reason"].as_str().map(|reason| format!("  {}", output.paint(Paint::Dim, reason))).unwrap_or_default();
    let time = output.paint(Paint::Dim, &format!("{:>9.1} ms", since_us as f64 / 1_000.0));
    output.text(format!("{time}  {whose}{task} {}{attempt}{reason}", painted_state(&output, state)));
}
