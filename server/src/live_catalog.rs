//! The catalog of a running node, as the verbs see it.

use std::collections::BTreeMap;

use distric_rules::{Catalog, RuleSet};
use distric_sdk::{Client, Query, QueryKind, Reply};
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};

/// Pages of one export, at most: far more than a node keeps.
const PAGES_MAX: usize = 10_000;

/// All rules and workflows of a namespace at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The version.
    pub version: u64,
    /// The document that can be applied again: options and `rules`.
    pub rules: Map<String, Value>,
    /// The newest definitions in service.
    pub workflows: Vec<Value>,
}

impl Exported {
    /// Fetches the catalog, as of `version` or as it is.
    ///
    /// Errors: the node's; `not_found` when it does not keep that version.
    pub async fn fetch(client: &Client, version: Option<u64>) -> Result<Self, Failure> {
        let mut rules = Vec::new();
        let mut workflows = Vec::new();
        let mut document = Map::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let mut query = Query::new(QueryKind::CatalogExport);
            (query.version, query.cursor) = (version, cursor);
            let reply = client.query(query).await?;
            let mut page = json_of(&reply)?;
            if let Some(Value::Object(options)) = page.get_mut("options").map(Value::take) {
                document.extend(options);
            }
            let mut take = |list: &str| page.get_mut(list).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            rules.extend(take("rules"));
            workflows.extend(take("workflows"));
            match reply.next_cursor {
                Some(next) => cursor = Some(next),
                None => {
                    document.insert("rules".to_owned(), Value::Array(rules));
                    let version = page["catalog_version"].as_u64().unwrap_or_default();
                    return Ok(Self { version, rules: document, workflows });
                }
            }
        }
        Err(Failure::new(Exit::Unavailable, "the node's export does not end"))
    }

    /// The rules as a checked set. Errors: when this program does not know what the node's rules say.
    pub fn rule_set(&self) -> Result<RuleSet, Failure> {
        RuleSet::from_json(&Value::Object(self.rules.clone())).map_err(|problems| {
            Failure::new(Exit::BadInput, "this program does not read the node's rules; is it older than the node?").with_findings(problems)
        })
    }

    /// The rules compiled under their version.
    pub fn compiled(&self) -> Result<Catalog, Failure> {
        Catalog::compile(self.version, &self.rule_set()?)
            .map_err(|problems| Failure::new(Exit::BadInput, "the node's rules do not compile here").with_findings(problems))
    }
}

/// The document of a reply.
pub fn json_of(reply: &Reply) -> Result<Value, Failure> {
    reply.json().map_err(|error| Failure::new(Exit::FailedOutcome, format!("the node's answer is no JSON: {error}")))
}

/// A member of a document, before and after.
pub type MemberChange = (String, Value, Value);

/// What differs between two documents of rules: by id, and in the options.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Rules that only the second has.
    pub added: Vec<String>,
    /// Rules that only the first has.
    pub removed: Vec<String>,
    /// Rules of both, with the members that differ: name, before, after.
    pub changed: Vec<(String, Vec<MemberChange>)>,
    /// Members of the documents beside `rules`.
    pub options: Vec<(String, Value, Value)>,
}

impl Difference {
    /// Compares two rule sets in their canonical form.
    pub fn between(before: &RuleSet, after: &RuleSet) -> Self {
        let (before, after) = (before.to_json(), after.to_json());
        let rules = |document: &Value| -> BTreeMap<String, Value> {
            let items = document["rules"].as_array().into_iter().flatten();
            items.map(|rule| (rule["id"].as_str().unwrap_or_default().to_owned(), rule.clone())).collect()
        };
        let (old, new) = (rules(&before), rules(&after));
        let changed = new.iter().filter_map(|(id, rule)| {
            let members = members_between(old.get(id)?, rule, &[]);
            (!members.is_empty()).then(|| (id.clone(), members))
        });
        Self {
            added: new.keys().filter(|id| !old.contains_key(*id)).cloned().collect(),
            removed: old.keys().filter(|id| !new.contains_key(*id)).cloned().collect(),
            changed: changed.collect(),
            options: members_between(&before, &after, &["rules"]),
        }
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && self.options.is_empty()
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let members = |list: &[(String, Value, Value)]| -> Vec<Value> {
            list.iter().map(|(name, before, after)| json!({"member": name, "before": before, "after": after})).collect()
        };
        let changed: Vec<Value> = self.changed.iter().map(|(id, list)| json!({"id": id, "members": members(list)})).collect();
        json!({"added": self.added, "removed": self.removed, "changed": changed, "options": members(&self.options)})
    }

    /// Lines for people: `+`, `-` and `~`.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.added.iter().map(|id| format!("+ {id}")).collect();
        lines.extend(self.removed.iter().map(|id| format!("- {id}")));
        let member = |(name, before, after): &(String, Value, Value)| format!("    {name}: {before} -> {after}");
        for (id, members) in &self.changed {
            lines.push(format!("~ {id}"));
            lines.extend(members.iter().map(member));
        }
        for (name, before, after) in &self.options {
            lines.push(format!("~ option {name}: {before} -> {after}"));
        }
        lines
    }
}

fn members_between(before: &Value, after: &Value, except: &[&str]) -> Vec<(String, Value, Value)> {
    let empty = Map::new();
    let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).filter(|name| !except.contains(&name.as_str())).collect();
    names.sort();
    names.dedup();
    let at = |members: &Map<String, Value>, name: &String| members.get(name).cloned().unwrap_or(Value::Null);
    names.into_iter().map(|name| (name.clone(), at(old, name), at(new, name))).filter(|(_, old, new)| old != new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_rules_and_members() {
        let set = |value: Value| RuleSet::from_json(&value).unwrap();
        let before = set(json!({"rules": [{"id": "a"}, {"id": "b", "priority": 1}], "fail_fast": true}));
        let after = set(json!({"rules": [{"id": "b", "priority": 2}, {"id": "c"}]}));
        let difference = Difference::between(&before, &after);
        assert_eq!((difference.added.as_slice(), difference.removed.as_slice()), (&["c".to_owned()][..], &["a".to_owned()][..]));
        assert_eq!(difference.lines(), ["+ c", "- a", "~ b", "    priority: 1 -> 2", "~ option fail_fast: true -> null"]);
        assert!(Difference::between(&after, &after).is_empty());
    }
}
