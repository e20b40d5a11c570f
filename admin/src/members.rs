//! `distric-admin members`: who gossip holds alive, as one coordinator sees it.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use distric_sdk::{Client, Query, QueryKind};
use distric_server::cli::ClientArgs;
use distric_server::client::connect;
use distric_server::exit::{Exit, Failure};
use distric_server::output::{Output, Paint};
use distric_server::signals;
use serde_json::{Value, json};

/// Between two looks of `--watch`. Loads are told about once a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Puts what follows on an empty screen.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows the members, once or until a signal.
pub async fn run(args: &ClientArgs, watch: bool, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    if !watch {
        show(&view(&client).await?, output);
        return Ok(Exit::Success);
    }
    let mut stopped = signals::listen().map_err(|error| Failure::new(Exit::Environment, format!("cannot listen to signals: {error}")))?;
    let mut shown = Value::Null;
    loop {
        let now = view(&client).await?;
        if now != shown {
            if output.color {
                output.text(CLEAR);
            }
            show(&now, output);
            shown = now;
        }
        tokio::select! {
            () = signals::first(&mut stopped) => return Ok(Exit::Success),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What a coordinator says about gossip.  Errors: it takes no part.
pub async fn gossip(client: &Client) -> Result<Value, Failure> {
    let reply = client.query(Query::new(QueryKind::ClusterStatus)).await?;
    let mut status: Value = reply.json().map_err(|error| Failure::new(Exit::FailedOutcome, format!("the status is no JSON: {error}")))?;
    match status["gossip"].take() {
        Value::Null => Err(Failure::new(Exit::Unavailable, "this coordinator takes no part in gossip, or has just started")
            .with_remedy("gossip.enabled: true; or ask another one with --addr")),
        gossip => Ok(gossip),
    }
}

/// What is shown, as a document: nothing that changes all the time without meaning anything.
async fn view(client: &Client) -> Result<Value, Failure> {
    let gossip = gossip(client).await?;
    let part = |name: &str| gossip[name].clone();
    Ok(json!({
        "verdict": part("verdict"), "sealed": part("sealed"), "active": part("active"), "suspected": part("suspected"),
        "failed": part("failed"), "left": part("left"), "members": part("members"),
    }))
}

fn show(view: &Value, output: Output) {
    output.json(view);
    output.text(headline(view, output));
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["NAME", "ID", "ROLE", "ZONE", "STATE", "INCARNATION", "LOAD", "ADDRESS", "VERSION", "KEY"]);
    for member in view["members"].as_array().into_iter().flatten() {
        table.add_row(row(member, output));
    }
    output.text(table.to_string());
}

fn headline(view: &Value, output: Output) -> String {
    let verdict = view["verdict"].as_str().unwrap_or("none");
    let partition = if verdict == "none" { "no partition".to_owned() } else { output.paint(Paint::Bad, &format!("partition: {verdict}")) };
    let seal = if view["sealed"] == true { "sealed".to_owned() } else { output.paint(Paint::Bad, "not sealed") };
    let count = |state: &str| format!("{} {state}", view[state]);
    format!("{}; {partition}; {seal}", ["active", "suspected", "failed", "left"].map(count).join(", "))
}

fn row(member: &Value, output: Output) -> [String; 10] {
    let text = |name: &str| member[name].as_str().unwrap_or_default().to_owned();
    let state = match member["state"].as_str().unwrap_or_default() {
        "active" => output.paint(Paint::Good, "active"),
        other => output.paint(if other == "left" { Paint::Dim } else { Paint::Bad }, other),
    };
    let key = member["keys"]["sealing"].as_u64().map_or_else(|| "none".to_owned(), |id| id.to_string());
    let (incarnation, load) = (member["incarnation"].to_string(), load(member));
    [text("name"), text("node"), text("role"), text("zone"), state, incarnation, load, text("address"), text("version"), key]
}

/// `3/64 running, 2 queued, cpu 41 %, memory 63 %`; a coordinator runs no tasks.
fn load(member: &Value) -> String {
    let of = |name: &str| member["load"][name].as_u64().unwrap_or_default();
    let machine = format!("cpu {} %, memory {} %", of("cpu_permille") / 10, of("memory_permille") / 10);
    if member["role"] == "worker" {
        format!("{}/{} running, {} queued, {machine}", of("running"), member["capacity"], of("queued"))
    } else {
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_one_row_and_a_cut_is_told_first() {
        let output = Output { json: false, color: false };
        let member = json!({
            "node": "01", "name": "w1", "role": "worker", "state": "suspected", "incarnation": 3, "address": "127.0.0.1:9", "zone": "eu",
            "capacity": 64, "version": "0.1.0", "keys": { "sealing": 2 },
            "load": { "running": 3, "queued": 2, "cpu_permille": 415, "memory_permille": 630 },
        });
        let expected =
            ["w1", "01", "worker", "eu", "suspected", "3", "3/64 running, 2 queued, cpu 41 %, memory 63 %", "127.0.0.1:9", "0.1.0", "2"];
        assert_eq!(row(&member, output), expected);
        let view = json!({ "verdict": "minority", "sealed": false, "active": 1, "suspected": 0, "failed": 4, "left": 0 });
        assert_eq!(headline(&view, output), "1 active, 0 suspected, 4 failed, 0 left; partition: minority; not sealed");
    }
}
