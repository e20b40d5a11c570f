//! `distric workflows why ID`.

use distric_sdk::Query;
use distric_wire::client::QueryKind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::ClientArgs;
use crate::client::{block_on, connect};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Paint};

/// Says what an instance waits for, and each of its open tasks.
pub fn run(client: &ClientArgs, id: Uuid, output: Output) -> Result<Exit, Failure> {
    block_on(async {
        let client = connect(client).await?;
        let reply = client.query(Query::new(QueryKind::WhyInstance).id(id)).await?;
        let why: Value = reply.json().unwrap_or_default();
        output.json(&json!({"event": "why", "why": why}));
        output.text(format!("{} {}", output.paint(Paint::Strong, &id.to_string()), text_of(&why["status"])));
        for blocker in why["blockers"].as_array().into_iter().flatten() {
            output.text(format!("  {}", sentence(blocker)));
        }
        for task in why["tasks"].as_array().into_iter().flatten() {
            let blockers = task["blockers"].as_array().into_iter().flatten().map(sentence);
            output.text(format!("  {} {}: {}", text_of(&task["name"]), text_of(&task["status"]), blockers.collect::<Vec<_>>().join("; ")));
        }
        Ok(Exit::Success)
    })
}

/// One blocker in words; one of a kind that this version does not know, as it stands.
fn sentence(blocker: &Value) -> String {
    let kind = text_of(&blocker["kind"]);
    let gate = &blocker["gate"];
    match kind.as_str() {
        "waiting_for_key" => {
            let key = text_of(&blocker["key"]);
            let rule = text_of(&blocker["rule"]);
            if gate.is_null() {
                return format!("waiting for key `{key}` ({rule}), which has not answered yet");
            }
            let ahead = gate["ahead_count"].as_u64().map_or_else(String::new, |ahead| format!(", {ahead} ahead of it"));
            match rule.as_str() {
                "concurrency" | "ordering_key" => {
                    format!("waiting for key `{key}` {}/{} ({rule}){ahead}", gate["inside_count"], gate["limit"])
                }
                _ => format!("waiting for key `{key}` ({rule}), {} wait{ahead}", gate["waiting_count"]),
            }
        }
        "paused" => format!("paused: {}", text_of(&blocker["reason"])),
        "no_room" => text_of(&blocker["message"]),
        "came_back" => text_of(&blocker["reason"]),
        "no_worker_offers_type" => format!("no worker offers the type `{}`", text_of(&blocker["task_type"])),
        _ => {
            let members = blocker.as_object().into_iter().flatten().filter(|(name, _)| *name != "kind");
            let members = members.map(|(name, value)| format!("{name} {}", text_of(value)));
            format!("{} {}", kind.replace('_', " "), members.collect::<Vec<_>>().join(", ")).trim_end().to_owned()
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_a_sentence() {
        let gate = json!({"inside_count": 5, "limit": 5, "waiting_count": 3, "ahead_count": 2});
        let blocker = |rule: &str, gate: Value| json!({"kind": "waiting_for_key", "key": "tenant-7", "rule": rule, "gate": gate});
        let cases = [
            (blocker("concurrency", gate.clone()), "waiting for key `tenant-7` 5/5 (concurrency), 2 ahead of it"),
            (blocker("rate_limit", gate), "waiting for key `tenant-7` (rate_limit), 3 wait, 2 ahead of it"),
            (blocker("batch", Value::Null), "waiting for key `tenant-7` (batch), which has not answered yet"),
            (json!({"kind": "paused", "reason": "r"}), "paused: r"),
            (json!({"kind": "waiting_until", "until_us": 7}), "waiting until until_us 7"),
            (json!({"kind": "placing"}), "placing"),
            (json!({"kind": "no_room", "needs": {"memory_mib": 4}, "message": "needs 4 MiB memory"}), "needs 4 MiB memory"),
            (json!({"kind": "came_back", "reason": "its worker was lost"}), "its worker was lost"),
        ];
        for (blocker, expected) in cases {
            assert_eq!(sentence(&blocker), expected);
        }
    }
}
