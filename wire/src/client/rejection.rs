//! The one form of every refusal.

use crate::code::Code;
use crate::tlv::structs::tlv_struct;

tlv_struct! {
    /// Why a request was refused. Its frame repeats the request's message id, or has 0 where that could not be read.
    struct Rejection<'a> = 0x400B {
        /// A [`Code`], possibly one that this version does not know.
        1 code: required u16,
        /// The code's stable name.
        2 name: required &'a str,
        /// The reason in words, for people.
        3 reason: required &'a str,
        /// The limit that was hit.
        4 limit_name: optional &'a str,
        /// That limit's value, in the unit of its name.
        5 limit_value: optional u64,
        /// Waiting this long helps, milliseconds.
        6 retry_after_ms: optional u64,
        /// `host:port` of the node that leads.
        7 leader_address: optional &'a str,
        /// Name or path of the field meant.
        8 field: optional &'a str,
        /// Line in a document sent, from 1.
        9 line: optional u32,
        /// Column in that line, from 1.
        10 column: optional u32,
    }
}

impl<'a> Rejection<'a> {
    /// A rejection with a code and words, and nothing else.
    pub fn new(code: Code, reason: &'a str) -> Self {
        Self { code: code.number(), name: code.name(), reason, ..Self::default() }
    }

    /// The same with a limit, if there is one.
    #[must_use]
    pub fn limited(self, limit: Option<(&'a str, u64)>) -> Self {
        Self { limit_name: limit.map(|(name, _)| name), limit_value: limit.map(|(_, value)| value), ..self }
    }

    /// The code, `None` when this version does not know it.
    pub const fn known_code(&self) -> Option<Code> {
        Code::from_number(self.code)
    }
}
