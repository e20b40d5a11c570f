//! Many Submits in one frame, and one answer for all of them.

use crate::client::{Rejection, Response};
use crate::error::DecodeError;
use crate::tlv::structs::tlv_struct;
use crate::tlv::views::Items;

tlv_struct! {
    /// Many messages. Each stands alone: one that is refused does not hold up the others, and a batch is no transaction.
    struct SubmitBatch<'a> = 0x4006 {
        /// Each the payload of a [`crate::client::Submit`], not yet looked at.
        1 messages: required Items<'a>,
    }
}

tlv_struct! {
    /// The answer to a [`SubmitBatch`]: one item per message, in the same order.
    struct BatchResponse<'a> = 0x4007 {
        /// Each the payload of a [`BatchItem`].
        1 items: required Items<'a>,
    }
}

tlv_struct! {
    /// One outcome in a [`BatchResponse`]; exactly one field is present.
    struct BatchItem<'a> {
        /// The payload of a [`Response`].
        1 response: optional &'a [u8],
        /// The payload of a [`Rejection`].
        2 rejection: optional &'a [u8],
    }
}

/// A [`BatchItem`], read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BatchOutcome<'a> {
    /// The message was taken in.
    Response(Response<'a>),
    /// The message was refused.
    Rejection(Rejection<'a>),
}

impl<'a> BatchOutcome<'a> {
    /// Reads the payload of a [`BatchItem`]; with both fields present the rejection counts.
    /// Errors: [`DecodeError`]; an item with neither field misses its `response`.
    pub fn decode(item: &'a [u8]) -> Result<Self, DecodeError> {
        let item = BatchItem::decode(item)?;
        match (item.response, item.rejection) {
            (_, Some(rejection)) => Ok(Self::Rejection(Rejection::decode(rejection)?)),
            (Some(response), None) => Ok(Self::Response(Response::decode(response)?)),
            (None, None) => {
                Err(DecodeError { message: BatchItem::NAME, tag: Some(1), field: "response", problem: crate::error::Problem::Missing })
            }
        }
    }

    /// The payload of a [`BatchItem`] that holds this outcome.
    pub fn to_item(&self) -> Vec<u8> {
        let mut inner = Vec::new();
        let item = match self {
            Self::Response(response) => {
                response.encode_payload(&mut inner);
                BatchItem { response: Some(&inner), rejection: None }
            }
            Self::Rejection(rejection) => {
                rejection.encode_payload(&mut inner);
                BatchItem { response: None, rejection: Some(&inner) }
            }
        };
        let mut out = Vec::with_capacity(item.payload_bytes());
        item.encode_payload(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    #[test]
    fn an_item_holds_a_response_or_a_rejection() {
        for outcome in [
            BatchOutcome::Response(Response { outcome: 1, ..Response::default() }),
            BatchOutcome::Rejection(Rejection::new(Code::Overloaded, "full")),
        ] {
            assert_eq!(BatchOutcome::decode(&outcome.to_item()), Ok(outcome));
        }
        assert_eq!(BatchOutcome::decode(&[]).unwrap_err().to_string(), "BatchItem field 1 (response): is required, but missing");
    }
}
