//! Refusals: why a request was not done, as a value that can travel between cores and become a frame.

use std::borrow::Cow;

use distric_wire::Code;
use distric_wire::client::Rejection;

/// Why a request was not done. State is unchanged by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// Why, in words.
    pub reason: Cow<'static, str>,
    /// The limit that was met, and its value.
    pub limit: Option<(&'static str, u64)>,
    /// When waiting helps: how long, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The field or path it is about.
    pub field: Option<Cow<'static, str>>,
    /// Where in a document, 1-based line and column.
    pub at: Option<(u32, u32)>,
}

impl Refusal {
    /// A code and its reason.
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into(), limit: None, retry_after_ms: None, field: None, at: None }
    }

    /// The same with a limit.
    #[must_use]
    pub fn limit(self, name: &'static str, value: u64) -> Self {
        Self { limit: Some((name, value)), ..self }
    }

    /// The same with a hint when to try again.
    #[must_use]
    pub fn retry_after_ms(self, ms: u64) -> Self {
        Self { retry_after_ms: Some(ms), ..self }
    }

    /// The same with the field it is about.
    #[must_use]
    pub fn field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// As the wire says it.
    pub fn to_wire(&self) -> Rejection<'_> {
        Rejection {
            retry_after_ms: self.retry_after_ms,
            field: self.field.as_deref(),
            line: self.at.map(|(line, _)| line),
            column: self.at.map(|(_, column)| column),
            ..Rejection::new(self.code, &self.reason).limited(self.limit)
        }
    }
}

impl From<&distric_exec::Refusal> for Refusal {
    fn from(refusal: &distric_exec::Refusal) -> Self {
        use distric_exec::RefusalCode as From;
        let code = match refusal.code {
            From::DedupeFull => Code::DedupeFull,
            From::StorageFull => Code::StorageFull,
            From::NotFound => Code::NotFound,
            From::Conflict => Code::Conflict,
            From::BadDefinition => Code::BadCatalog,
            From::BadArgument => Code::BadArgument,
        };
        Self {
            code,
            reason: Cow::Owned(refusal.reason.clone()),
            limit: refusal.limit,
            retry_after_ms: refusal.retry_after_ms,
            field: None,
            at: None,
        }
    }
}
