//! Signatures of webhook bodies: `X-Distric-Signature: t=<Unix seconds>,v1=<hexadecimal HMAC-SHA256>`.
//!
//! What is signed is the time, a full stop and the body as sent: `"{t}.{body}"`. The time is signed so that a receiver
//! can refuse a delivery that somebody recorded and plays again later.

use std::fmt::Write as _;

use aws_lc_rs::hmac;

/// The header that carries a signature.
pub const SIGNATURE_HEADER: &str = "x-distric-signature";

/// Why a delivery is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not of the form `t=...,v1=...`.
    #[error("signature is not of the form t=<Unix seconds>,v1=<hexadecimal HMAC-SHA256>")]
    Malformed,
    /// Made too long ago, or in the future.
    #[error("signature was made at {at_s}, more than the tolerated seconds away from {now_s}")]
    Stale {
        /// When the signature says it was made, Unix seconds.
        at_s: u64,
        /// The receiver's time, Unix seconds.
        now_s: u64,
    },
    /// Another secret, or another body.
    #[error("signature does not belong to this body and secret")]
    Mismatch,
}

/// The value of [`SIGNATURE_HEADER`] for `body`, signed at `at_s` (Unix seconds).
pub fn sign(secret: &[u8], at_s: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(format!("{at_s}.").as_bytes());
    context.update(body);
    let mut text = format!("t={at_s},v1=");
    for byte in context.sign().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Checks a delivery as a receiver does, in constant time: `now_s` in Unix seconds, `tolerance_s` either way.
///
/// Errors: [`SignatureError`], for the first thing that is wrong. Unknown parts of the value are skipped.
pub fn verify(secret: &[u8], value: &str, body: &[u8], now_s: u64, tolerance_s: u64) -> Result<(), SignatureError> {
    let part = |name: &str| value.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let at_s: u64 = part("t").and_then(|text| text.parse().ok()).ok_or(SignatureError::Malformed)?;
    let tag = part("v1").and_then(bytes_of_hex).ok_or(SignatureError::Malformed)?;
    if at_s.abs_diff(now_s) > tolerance_s {
        return Err(SignatureError::Stale { at_s, now_s });
    }
    let mut signed = format!("{at_s}.").into_bytes();
    signed.extend_from_slice(body);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), &signed, &tag).map_err(|_| SignatureError::Mismatch)
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    if !(text.len() == 64 && text.is_ascii()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_any_hmac_gives() {
        // Golden: Python's hmac.new(b"s3cret", b'1700000000.{"a":1}', "sha256").hexdigest().
        let golden = "t=1700000000,v1=1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940";
        assert_eq!(sign(b"s3cret", 1_700_000_000, br#"{"a":1}"#), golden);
    }

    #[test]
    fn a_receiver_believes_only_the_signed_body_in_time() {
        let value = sign(b"s3cret", 1_000, b"body");
        assert_eq!(verify(b"s3cret", &value, b"body", 1_250, 300), Ok(()));
        assert_eq!(verify(b"s3cret", &format!("{value},v2=x"), b"body", 1_000, 300), Ok(()));
        assert_eq!(verify(b"s3cret", &value, b"bodY", 1_000, 300), Err(SignatureError::Mismatch));
        assert_eq!(verify(b"other", &value, b"body", 1_000, 300), Err(SignatureError::Mismatch));
        assert_eq!(verify(b"s3cret", &value, b"body", 2_000, 300), Err(SignatureError::Stale { at_s: 1_000, now_s: 2_000 }));
        for bad in ["", "t=1", "v1=00", "t=x,v1=00", "t=1,v1=zz", &format!("t=1,v1={}", "\u{e9}".repeat(32))] {
            assert_eq!(verify(b"s3cret", bad, b"body", 1, 300), Err(SignatureError::Malformed), "{bad}");
        }
    }
}
