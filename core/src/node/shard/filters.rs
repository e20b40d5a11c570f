//! Filters of lists: a JSON object in a query, checked.

use distric_exec::machine::InstanceFilter;
use distric_model::{MessageId, Timestamp};
use distric_wire::Code;
use serde::Deserialize;
use uuid::Uuid;

use crate::node::question::PageRequest;
use crate::node::refusal::Refusal;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListFilter {
    rule: Option<String>,
    message: Option<Uuid>,
    key: Option<String>,
    code: Option<String>,
    task: Option<String>,
    from_us: Option<u64>,
    until_us: Option<u64>,
}

/// The filter of a query. Errors: it is no object of known members.
pub(super) fn filter_of(bytes: Option<&[u8]>) -> Result<InstanceFilter, Refusal> {
    let bad = |reason: String| Refusal::new(Code::BadArgument, reason).field("filter");
    let filter: ListFilter = match bytes {
        None => ListFilter::default(),
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| bad(format!("the filter is none: {error}")))?,
    };
    let message = filter.message.map(MessageId::from_uuid).transpose().map_err(|error| bad(format!("message: {error}")))?;
    Ok(InstanceFilter {
        rule: filter.rule,
        message,
        key: filter.key,
        code: filter.code,
        task: filter.task,
        from: filter.from_us.map(Timestamp::from_us),
        until: filter.until_us.map(Timestamp::from_us),
        ..InstanceFilter::default()
    })
}

/// All that a page of instances is asked to contain only.
pub(super) fn whole_filter(page: &PageRequest) -> InstanceFilter {
    InstanceFilter {
        namespace: Some(page.namespace.clone()),
        status: page.status.clone(),
        workflow: page.workflow.clone(),
        ..page.more.clone()
    }
}
