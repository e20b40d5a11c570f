//! Pages: what the groups and shards answer, merged into what the client gets.
//!
//! A page goes only as far as every part has looked: one id is the position for all groups.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::node::question::Rows;

pub(super) fn rows_of<T: Serialize>(items: &[T], id: impl Fn(&T) -> Uuid, next_cursor: Option<&str>) -> Rows {
    let rows = items.iter().map(|item| (id(item), serde_json::to_vec(item).expect("views are plain data with text keys"))).collect();
    Rows { rows, scanned_to: next_cursor.and_then(|cursor| Uuid::try_parse(cursor).ok()) }
}

/// Merges pages that all start at one position: in order of id, as far as every part has looked, at most `limit` rows.
pub(super) fn merge_rows(parts: Vec<Rows>, limit: usize) -> Rows {
    let scanned_to = parts.iter().filter_map(|part| part.scanned_to).min();
    let mut rows: Vec<(Uuid, Vec<u8>)> =
        parts.into_iter().flat_map(|part| part.rows).filter(|(id, _)| scanned_to.is_none_or(|to| *id <= to)).collect();
    rows.sort_unstable_by_key(|(id, _)| *id);
    let cut = rows.len() > limit;
    rows.truncate(limit);
    let scanned_to = if cut { rows.last().map(|(id, _)| *id) } else { scanned_to };
    Rows { rows, scanned_to }
}

pub(super) fn merge(parts: Vec<Rows>, limit: usize) -> (Vec<u8>, Option<String>) {
    let merged = merge_rows(parts, limit);
    let next_cursor = merged.scanned_to.map(|id| id.to_string());
    let mut body = b"{\"items\":[".to_vec();
    for (n, (_, row)) in merged.rows.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    body.extend_from_slice(b"],\"next_cursor\":");
    body.extend_from_slice(json!(next_cursor).to_string().as_bytes());
    body.push(b'}');
    (body, next_cursor)
}

/// One row per worker: the sums of what each group leases from it.
pub(super) fn finish_workers(parts: Vec<Value>) -> Value {
    let mut workers: BTreeMap<String, Value> = BTreeMap::new();
    for row in parts
        .into_iter()
        .filter_map(|part| match part {
            Value::Array(rows) => Some(rows),
            _ => None,
        })
        .flatten()
    {
        let id = row["id"].as_str().unwrap_or_default().to_owned();
        match workers.get_mut(&id) {
            None => {
                workers.insert(id, row);
            }
            Some(known) => {
                for sum in ["credit_granted", "credit_in_use"] {
                    known[sum] = json!(known[sum].as_u64().unwrap_or(0) + row[sum].as_u64().unwrap_or(0));
                }
            }
        }
    }
    json!({ "items": workers.into_values().collect::<Vec<_>>() })
}

/// All lists as one.
pub(super) fn finish_list(parts: Vec<Value>) -> Value {
    let rows = parts.into_iter().filter_map(|part| match part {
        Value::Array(rows) => Some(rows),
        _ => None,
    });
    json!({ "items": rows.flatten().collect::<Vec<_>>() })
}

pub(super) fn finish_status(parts: Vec<Value>) -> Value {
    let (consensus, shards): (Vec<Value>, Vec<Value>) = parts.into_iter().partition(|part| part["replicas"].is_array());
    let consensus = consensus.into_iter().next().unwrap_or_default();
    let first = shards.first().cloned().unwrap_or_default();
    let gossip = shards.iter().map(|part| part["gossip"].clone()).find(Value::is_object);
    let replicas: BTreeMap<u64, &Value> =
        consensus["replicas"].as_array().into_iter().flatten().filter_map(|row| Some((row["number"].as_u64()?, row))).collect();
    let mut groups: Vec<Value> = shards
        .into_iter()
        .filter_map(|mut part| match part["groups"].take() {
            Value::Array(groups) => Some(groups),
            _ => None,
        })
        .flatten()
        .map(|mut group| {
            let replica = group["number"].as_u64().and_then(|number| replicas.get(&number));
            if let (Some(members), Some(replica)) = (group.as_object_mut(), replica.and_then(|replica| replica.as_object())) {
                replica.iter().filter(|(name, _)| *name != "number").for_each(|(name, value)| {
                    members.entry(name.clone()).or_insert_with(|| value.clone());
                });
            }
            group
        })
        .collect();
    groups.sort_unstable_by_key(|group| group["number"].as_u64());
    let leader = groups.first().map(|meta| meta["leader"].clone()).unwrap_or_default();
    json!({
        "cluster": first["cluster"], "node": first["node"], "leader": leader, "catalog_version": first["catalog_version"], "groups": groups,
        "members": consensus["members"], "workers": first["workers"], "gossip": gossip,
    })
}

pub(super) fn finish_nodes(parts: Vec<Value>) -> Value {
    let (consensus, shards): (Vec<Value>, Vec<Value>) = parts.into_iter().partition(|part| part["replicas"].is_array());
    let first = shards.first().cloned().unwrap_or_default();
    let own = json!({
        "id": first["node"], "name": first["name"], "role": "coordinator", "status": "active", "address": first["address"],
        "version": first["version"], "shards": first["shards"],
    });
    let heard = shards.iter().find_map(|part| part["gossip"]["members"].as_array().cloned());
    let others =
        consensus.first().and_then(|part| part["members"].as_array()).into_iter().flatten().filter(|member| member["self"] == false);
    let others = others.map(|member| {
        let told = heard.as_ref().and_then(|heard| heard.iter().find(|seat| seat["node"] == member["node"]));
        let linked = if member["linked"] == true { "active" } else { "unreachable" };
        // Gossip asks everybody; the link is this node's own experience.
        let status = told.and_then(|seat| seat["state"].as_str()).unwrap_or(linked).to_owned();
        json!({
            "id": member["node"], "name": member["name"], "role": "coordinator", "status": status, "address": member["wire_address"],
            "version": null, "shards": null,
        })
    });
    let mut items: Vec<Value> = std::iter::once(own).chain(others).collect();
    items.sort_unstable_by_key(|item| item["id"].as_str().unwrap_or_default().to_owned());
    json!({ "items": items })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ids: &[u128], scanned_to: Option<u128>) -> Rows {
        let rows = ids.iter().map(|id| (Uuid::from_u128(*id), id.to_string().into_bytes())).collect();
        Rows { rows, scanned_to: scanned_to.map(Uuid::from_u128) }
    }

    #[test]
    fn a_merged_page_goes_only_as_far_as_every_group_has_looked() {
        let (body, next) = merge(vec![part(&[1, 5, 9], Some(9)), part(&[2, 6], None)], 10);
        assert_eq!(String::from_utf8(body).unwrap(), format!(r#"{{"items":[1,2,5,6,9],"next_cursor":"{}"}}"#, Uuid::from_u128(9)));
        assert!(next.is_some());
        let (body, next) = merge(vec![part(&[1, 5], Some(5)), part(&[2, 8], None)], 10);
        assert!(String::from_utf8(body).unwrap().starts_with(r#"{"items":[1,2,5],"#), "8 is beyond what the first group has looked at");
        assert_eq!(next, Some(Uuid::from_u128(5).to_string()));
        let (_, next) = merge(vec![part(&[1, 2, 3], None)], 2);
        assert_eq!(next, Some(Uuid::from_u128(2).to_string()));
        let (_, next) = merge(vec![part(&[1], None), part(&[], None)], 2);
        assert_eq!(next, None);
    }
}
