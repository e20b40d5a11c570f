//! `distric rules why MESSAGE`: why a message that a node took in matched what it matched, under the version that decided.

use distric_rules::Envelope;
use distric_sdk::{Query, QueryKind};
use serde_json::Value;
use uuid::Uuid;

use crate::cli::ClientArgs;
use crate::client::{block_on, connect};
use crate::exit::{Exit, Failure};
use crate::live_catalog::{Exported, json_of};
use crate::output::{Output, write_line};

/// Explains a message, or one rule on it. With `version`, as another version would decide.
pub fn run(client: &ClientArgs, message: Uuid, rule: Option<&str>, version: Option<u64>, output: Output) -> Result<Exit, Failure> {
    let (message, exported) = block_on(async {
        let client = connect(client).await?;
        let message = json_of(&client.query(Query::new(QueryKind::Message).id(message)).await?)?;
        let version = version.or_else(|| message["catalog_version"].as_u64());
        Ok((message, Exported::fetch(&client, version).await?))
    })?;
    let catalog = exported.compiled()?;
    if let Some(id) = rule
        && catalog.rules().rule(id).is_none()
    {
        return Err(Failure::new(Exit::NotFound, format!("catalog version {} has no rule {id:?}", exported.version)));
    }
    let headers = headers_of(&message);
    let envelope = envelope_of(&message, &headers);
    let explanation = catalog.explain(&envelope, &message["payload"], rule);
    if output.json {
        write_line(&serde_json::to_string(&explanation).expect("an explanation is a tree of texts and numbers"));
        return Ok(Exit::Success);
    }
    write_line(explanation.to_string().trim_end());
    Ok(Exit::Success)
}

/// The headers of a message as a node tells them.
pub fn headers_of(message: &Value) -> Vec<(&str, &str)> {
    message["headers"].as_object().into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
}

/// The envelope of a message as a node tells it.
pub fn envelope_of<'a>(message: &'a Value, headers: &'a [(&'a str, &'a str)]) -> Envelope<'a> {
    Envelope {
        namespace: message["namespace"].as_str().unwrap_or("default"),
        event_type: message["event_type"].as_str(),
        source: message["source"].as_str(),
        timestamp_us: message["timestamp_us"].as_u64(),
        headers,
        content_type: None,
    }
}
