//! `distric workflows list`, `incidents …`, `schedules`: what a cluster runs, what failed in it, what starts by itself.

use comfy_table::Table;
use distric_sdk::{Client, Command, Query};
use distric_wire::client::{CommandKind, QueryKind};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cli::{ClientArgs, IncidentsVerb, ListFilterArgs, ResolveArgs};
use crate::client::{block_on, connect, json_or_file};
use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};

/// Rows asked for at once.
const PAGE_ROWS: u32 = 500;

/// Instances, in order of their creation.
pub fn list(client: &ClientArgs, status: Option<&str>, filter: &ListFilterArgs, limit: usize, output: Output) -> Result<Exit, Failure> {
    let mut query = Query::new(QueryKind::Instances);
    query.status = status.map(str::to_owned);
    show(client, query, filter, limit, output, &["ID", "WORKFLOW", "STATUS", "RULE", "CREATED", "ERROR"], |row| {
        let error = row["error"]["code"].as_str().unwrap_or("").to_owned();
        vec![text(row, "id"), text(row, "workflow"), text(row, "status"), text(row, "rule"), at(&row["created_at_us"]), error]
    })
}

/// Incidents: list, one, resolve.
pub fn incidents(verb: &IncidentsVerb, output: Output) -> Result<Exit, Failure> {
    match verb {
        IncidentsVerb::List { client, filter, limit } => {
            let query = Query::new(QueryKind::Incidents);
            show(client, query, filter, *limit, output, &["ID", "WORKFLOW", "TASK", "CODE", "OPENED", "MESSAGE"], |row| {
                let error = |member: &str| row["error"][member].as_str().unwrap_or("").to_owned();
                vec![
                    text(row, "instance"),
                    text(row, "workflow"),
                    text(row, "task"),
                    error("code"),
                    at(&row["opened_at_us"]),
                    error("message"),
                ]
            })
        }
        IncidentsVerb::Show { client, id } => block_on(async {
            let reply = connect(client).await?.query(Query::new(QueryKind::Incident).id(*id)).await?;
            let incident: Value = reply.json().unwrap_or_default();
            output.json(&json!({"event": "incident", "incident": incident}));
            output.text(serde_json::to_string_pretty(&incident).unwrap_or_default());
            Ok(Exit::Success)
        }),
        IncidentsVerb::Resolve(args) => resolve(args, output),
    }
}

/// Schedules with their next runs.
pub fn schedules(client: &ClientArgs, output: Output) -> Result<Exit, Failure> {
    let columns = ["WORKFLOW", "VERSION", "CRON", "OFFSET", "MISSED", "NEXT", "LAST", "RUNS"];
    show(client, Query::new(QueryKind::Schedules), &ListFilterArgs::default(), usize::MAX, output, &columns, |row| {
        vec![
            text(row, "workflow"),
            row["version"].to_string(),
            text(row, "cron"),
            text(row, "offset"),
            text(row, "missed"),
            at(&row["next_at_us"]),
            at(&row["last_at_us"]),
            row["runs_count"].to_string(),
        ]
    })
}

/// Retries one failed instance, or all that the filter finds. Exit 1 when one of several was refused.
fn resolve(args: &ResolveArgs, output: Output) -> Result<Exit, Failure> {
    let mut body = json!({});
    if let Some(input) = &args.input {
        body["input"] = json_or_file("--input", input)?;
    }
    let mut command = Command::new(CommandKind::RetryInstance).body(body.to_string());
    command.reason.clone_from(&args.reason);
    command.if_match = args.to_version;
    let say = |id: Uuid, what: &str| {
        output.text(format!("{id} {what}"));
        output.json(&json!({"event": "operated", "instance": id, "outcome": what}));
    };
    block_on(async {
        let client = connect(&args.client).await?;
        if let Some(id) = args.id {
            client.command(command.id(id)).await?;
            say(id, "retried");
            return Ok(Exit::Success);
        }
        // All are found before the first is retried: one that fails again is not found twice.
        let rows = rows(&client, Query::new(QueryKind::Incidents), &args.filter, usize::MAX).await?;
        let found = rows.iter().filter_map(|row| row["instance"].as_str()?.parse::<Uuid>().ok());
        let mut exit = Exit::Success;
        for id in found {
            if args.dry_run {
                say(id, "would be retried");
                continue;
            }
            match client.command(command.clone().id(id)).await {
                Ok(_) => say(id, "retried"),
                Err(error) => {
                    say(id, &format!("refused: {error}"));
                    exit = Exit::FailedOutcome;
                }
            }
        }
        Ok(exit)
    })
}

/// Prints the rows of a list as a table, or as JSON lines.
fn show(
    client: &ClientArgs,
    query: Query,
    filter: &ListFilterArgs,
    limit: usize,
    output: Output,
    columns: &[&str],
    cells: impl Fn(&Value) -> Vec<String>,
) -> Result<Exit, Failure> {
    let rows = block_on(async { rows(&connect(client).await?, query, filter, limit).await })?;
    if output.json {
        rows.iter().for_each(|row| output.json(row));
        return Ok(Exit::Success);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(columns.to_vec());
    rows.iter().for_each(|row| _ = table.add_row(cells(row)));
    write_line(&table.to_string());
    Ok(Exit::Success)
}

/// The rows of a list, page by page, at most `limit`.
async fn rows(client: &Client, mut query: Query, filter: &ListFilterArgs, limit: usize) -> Result<Vec<Value>, Failure> {
    query.name.clone_from(&filter.workflow);
    query.limit = Some(PAGE_ROWS);
    query.filter = filter_of(filter)?.map(Into::into);
    let mut found = Vec::new();
    while found.len() < limit {
        let page = client.query(query.clone()).await?;
        let document: Value = page.json().unwrap_or_default();
        let rows = document.as_array().or_else(|| document["items"].as_array()).cloned().unwrap_or_default();
        found.extend(rows);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The filter as the node takes it. Errors: an instant that is none.
fn filter_of(filter: &ListFilterArgs) -> Result<Option<String>, Failure> {
    let mut members = Map::new();
    let texts = [("rule", &filter.rule), ("key", &filter.key), ("code", &filter.code), ("task", &filter.task)];
    for (name, text) in texts {
        if let Some(text) = text {
            members.insert(name.to_owned(), json!(text));
        }
    }
    if let Some(message) = filter.message {
        members.insert("message".to_owned(), json!(message));
    }
    for (name, flag, text) in [("from_us", "--from", &filter.from), ("until_us", "--until", &filter.until)] {
        if let Some(text) = text {
            members.insert(name.to_owned(), json!(instant_us(flag, text)?));
        }
    }
    Ok((!members.is_empty()).then(|| Value::Object(members).to_string()))
}

/// Microseconds since the epoch of an RFC 3339 instant. Errors: it is none.
pub fn instant_us(flag: &str, text: &str) -> Result<u64, Failure> {
    let instant = text.parse::<jiff::Timestamp>().ok().and_then(|instant| u64::try_from(instant.as_microsecond()).ok());
    instant.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{flag}: `{text}` is no instant")).with_remedy("RFC 3339, such as 2030-01-31T12:00:00Z")
    })
}

fn text(row: &Value, member: &str) -> String {
    row[member].as_str().unwrap_or("").to_owned()
}

/// Microseconds since the epoch as RFC 3339, to the second.
fn at(us: &Value) -> String {
    let instant = us.as_i64().and_then(|us| jiff::Timestamp::from_second(us / 1_000_000).ok());
    instant.map_or_else(String::new, |instant| instant.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_json_object_of_what_was_said() {
        let filter = ListFilterArgs { key: Some("t-7".into()), from: Some("2026-01-01T00:00:00Z".into()), ..ListFilterArgs::default() };
        let said: Value = serde_json::from_str(&filter_of(&filter).ok().flatten().unwrap()).unwrap();
        assert_eq!(said, json!({"key": "t-7", "from_us": 1_767_225_600_000_000_u64}));
        assert!(filter_of(&ListFilterArgs::default()).is_ok_and(|said| said.is_none()));
        assert!(filter_of(&ListFilterArgs { until: Some("tomorrow".into()), ..ListFilterArgs::default() }).is_err());
        assert_eq!(at(&json!(1_767_225_600_000_000_u64)), "2026-01-01T00:00:00Z");
    }
}
