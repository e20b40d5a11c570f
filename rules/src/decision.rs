//! What the catalog is asked with, and what it answers: plain values that go into the log.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::packed;
use crate::retry::RetryPolicy;

/// What a message carries beside its payload. Rules read it as `$namespace`, `$event_type`, `$source`, `$timestamp`, `$headers.x`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// The namespace that the message was sent to.
    pub namespace: &'a str,
    /// The event type; when absent, the payload's member `event_type` is it.
    pub event_type: Option<&'a str>,
    /// Who sent it, in the sender's words.
    pub source: Option<&'a str>,
    /// The sender's time, microseconds since the Unix epoch. Rules see it as RFC 3339 text in UTC.
    pub timestamp_us: Option<u64>,
    /// Headers; rules compare their names without regard to ASCII case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The content type of the payload: see [`PayloadFormat::of`]; one that is not known is taken for JSON.
    pub content_type: Option<&'a str>,
}

/// What one version of the catalog says about one message. Replicas replay it; they do not evaluate again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The version of the catalog that decided.
    pub catalog_version: u64,
    /// Ids of all matching rules in the order of evaluation: priority, then id, after the rules they come `after`.
    pub rules: Vec<Arc<str>>,
    /// The same rules by their places in the catalog that decided ([`crate::Catalog::id_at`]): for counters, not for the log.
    #[serde(skip)]
    pub places: Vec<u32>,
    /// The payload after the transforms of all matching rules; absent when none of them has any.
    pub derived: Option<Value>,
    /// What to start, in the order of the rules.
    pub actions: Vec<Action>,
    /// The envelope's event type, else the payload's when that is a string.
    pub event_type: Option<Arc<str>>,
    /// Templates and expressions that had no value for this message. They count as null, and nothing else stops.
    pub notes: Vec<Note>,
}

/// One workflow to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The rule that asks for it.
    pub rule: Arc<str>,
    /// The workflow to start.
    pub workflow: Arc<str>,
    /// The pinned version; `None` is the latest one.
    pub version: Option<u64>,
    /// Parameters, an object, with templates filled in.
    pub params: Value,
    /// Limit for the whole workflow, milliseconds.
    pub timeout_ms: Option<u64>,
    /// Default for the workflow's tasks.
    pub retry: Option<RetryPolicy>,
    /// Instances with one key run one after another.
    pub ordering_key: Option<String>,
    /// At most so many instances with this key run at once.
    pub concurrency: Option<(String, u32)>,
    /// Wait before the start, milliseconds.
    pub delay_ms: u64,
}

/// A template or expression of a matching rule that could not be evaluated for this message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The rule.
    pub rule: Arc<str>,
    /// Where in the rule: `transform[1]`, `actions[0].params`.
    pub path: String,
    /// Why it has no value.
    pub message: String,
}

/// In which form a payload is, as its content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFormat {
    /// JSON text (RFC 8259).
    Json,
    /// MessagePack, as far as JSON can say the same: maps with texts as keys; no binary data, no extension types.
    MessagePack,
}

impl PayloadFormat {
    /// The form that a content type names, parameters and case aside: `application/json`, anything that ends in `+json`, and no content
    /// type at all are JSON; `application/msgpack`, `application/x-msgpack`, `application/vnd.msgpack` and anything that ends in `+msgpack` are
    /// MessagePack. `None`: another one, which rules cannot read.
    pub fn of(content_type: Option<&str>) -> Option<Self> {
        const JSON: [&str; 2] = ["application/json", "+json"];
        const PACKED: [&str; 4] = ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack", "+msgpack"];
        let Some(content_type) = content_type else { return Some(Self::Json) };
        let essence = content_type.split(';').next().unwrap_or_default().trim().as_bytes();
        let is = |name: &&str| match name.as_bytes() {
            suffix @ [b'+', ..] => essence.len() > suffix.len() && essence[essence.len() - suffix.len()..].eq_ignore_ascii_case(suffix),
            whole => essence.eq_ignore_ascii_case(whole),
        };
        if JSON.iter().any(is) {
            return Some(Self::Json);
        }
        PACKED.iter().any(is).then_some(Self::MessagePack)
    }

    /// The payload as JSON text: as it is when it is JSON, which is not checked, else written anew.
    ///
    /// Errors: it is not of this form, or says what JSON cannot; with the byte. Checked by `rules/tests/packed.rs`.
    pub fn to_json(self, payload: &[u8]) -> Result<Cow<'_, [u8]>, PayloadError> {
        match self {
            Self::Json => Ok(Cow::Borrowed(payload)),
            Self::MessagePack => {
                let mut text = Vec::with_capacity(payload.len() + payload.len() / 2);
                packed::write_json(payload, &mut text)?;
                Ok(Cow::Owned(text))
            }
        }
    }
}

/// The payload is no document that can be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON (RFC 8259), or a number beyond the range of a double.
    #[error("the payload is not valid JSON at byte {offset}: {message}")]
    NotJson {
        /// Byte of the payload, from 0, at which reading failed.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
    /// Not MessagePack, or something in it that JSON cannot say.
    #[error("the payload is not MessagePack that rules can read at byte {offset}: {message}")]
    NotMessagePack {
        /// Byte of the payload, from 0, at which reading failed.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
    /// Deeper than `NESTING_MAX`.
    #[error("the payload nests deeper than {limit} levels")]
    TooDeep {
        /// The limit, levels.
        limit: usize,
    },
}
