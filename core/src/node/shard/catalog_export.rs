//! The catalog of a namespace as it can be applied again, now or at a version that is kept, in pages.

use std::fmt::Write;

use distric_model::Namespace;
use distric_wire::Code;
use serde_json::Value;

use crate::node::meta::CatalogSource;
use crate::node::question::Answer;
use crate::node::refusal::Refusal;

/// Bytes of rules and workflows on one page, at most, unless a single one is larger.
const PAGE_BYTES_MAX: usize = 512 << 10;

/// Where a page begins: version, kind and id of the last item before it. `VERSION:rule:ID`, `VERSION:workflow:ID`.
struct Cursor<'a> {
    version: u64,
    /// Whether all rules were given.
    is_workflow: bool,
    id: &'a str,
}

impl<'a> Cursor<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let version = parts.next()?.parse().ok()?;
        let is_workflow = match parts.next()? {
            "rule" => false,
            "workflow" => true,
            _ => return None,
        };
        Some(Self { version, is_workflow, id: parts.next()? })
    }
}

/// One page. Below the largest answer of this node, since items come in frames of the same size.
pub(super) fn page(catalog: &CatalogSource, namespace: &Namespace, version: u64, after: Option<&str>, frame_bytes_max: usize) -> Answer {
    let cursor = match after.map(Cursor::parse) {
        None => None,
        Some(Some(cursor)) => Some(cursor),
        Some(None) => {
            let refusal = Refusal::new(Code::BadArgument, "the cursor is not one that this node gave out").field("cursor");
            return Answer::Rejected(Box::new(refusal));
        }
    };
    let version = cursor.as_ref().map_or(version, |cursor| cursor.version);
    let Some(source) = catalog.namespace_at(namespace, version) else {
        let (newest, oldest) = (catalog.version, catalog.oldest());
        return Answer::Absent(format!("version {version} is not kept: the catalog has version {newest}, and versions from {oldest} on"));
    };
    let mut text = format!("{{\"catalog_version\":{version},\"oldest_version\":{}", catalog.oldest());
    if cursor.is_none() {
        let _ = write!(text, ",\"options\":{}", source.options);
    }
    let bytes_max = PAGE_BYTES_MAX.min(frame_bytes_max / 2);
    let is_after = |is_workflow: bool, id: &str| cursor.as_ref().is_none_or(|cursor| (cursor.is_workflow, cursor.id) < (is_workflow, id));
    let rules = source.rules.iter().map(|(id, rule)| (false, id, rule.body.to_string()));
    let workflows = source.workflows.iter().filter(|(_, record)| !record.retired).map(|(id, record)| {
        let latest = record.latest();
        let mut body: Value = serde_json::from_str(&record.versions[&latest].body).unwrap_or_default();
        if let Some(members) = body.as_object_mut() {
            members.insert("version".to_owned(), latest.into());
        }
        (true, id, body.to_string())
    });
    text.push_str(",\"rules\":[");
    let (mut in_workflows, mut is_first, mut last) = (false, true, None);
    for (is_workflow, id, body) in rules.chain(workflows).filter(|(is_workflow, id, _)| is_after(*is_workflow, id)) {
        if is_workflow && !in_workflows {
            text.push_str("],\"workflows\":[");
            (in_workflows, is_first) = (true, true);
        }
        if let Some((is_workflow, id)) = &last
            && text.len() + body.len() > bytes_max
        {
            text.push_str(if in_workflows { "]}" } else { "],\"workflows\":[]}" });
            return Answer::Part(text.into_bytes(), version, format!("{version}:{}:{id}", if *is_workflow { "workflow" } else { "rule" }));
        }
        if !std::mem::take(&mut is_first) {
            text.push(',');
        }
        text.push_str(&body);
        last = Some((is_workflow, id.clone()));
    }
    text.push_str(if in_workflows { "]}" } else { "],\"workflows\":[]}" });
    Answer::Document(text.into_bytes(), Some(version))
}
