//! Frames by patching: one Submit is encoded once, and copied with its number, routing key, id and time written over.

use distric_wire::client::Submit;
use distric_wire::{Flags, HEADER_BYTES, Header, Message, VERSION_1, encode};

use crate::MessageOptions;

/// Digits of the number in every payload.
const NUMBER_DIGITS: usize = 12;
/// Digits of a routing key.
const KEY_DIGITS: usize = 10;
/// Stand where the digits go; neither occurs elsewhere in a frame.
const NUMBER_MARK: &str = "#NUMBER-MARK";
const KEY_MARK: &str = "#KEY-MARK#";

const _: () = assert!(NUMBER_MARK.len() == NUMBER_DIGITS, "the mark is as long as what replaces it");
const _: () = assert!(KEY_MARK.len() == KEY_DIGITS, "the mark is as long as what replaces it");

/// A Submit frame to be filled in.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// Header and payload.
    frame: Vec<u8>,
    number_at: usize,
    key_at: Option<usize>,
    keys_count: u64,
}

impl Template {
    pub(crate) fn new(options: &MessageOptions) -> Self {
        let payload = payload(options.payload_bytes);
        let key = format!("key-{KEY_MARK}");
        let submit = Submit {
            namespace: options.namespace.as_deref(),
            event_type: Some(&options.event_type),
            payload: payload.as_bytes(),
            routing_key: options.routing_keys.map(|_| key.as_str()),
            ..Submit::default()
        };
        let mut frame = Vec::new();
        encode(&submit, 0, 0, Flags::NONE, &mut frame);
        let number_at = find(&frame, NUMBER_MARK).expect("the payload has the mark of its number");
        let key_at = find(&frame, KEY_MARK);
        Self { frame, number_at, key_at, keys_count: options.routing_keys.map_or(1, |count| u64::from(count.get())) }
    }

    /// Size of every frame made from it.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Appends the frame of message `number`.
    pub(crate) fn put(&self, number: u64, message_id: u64, timestamp_us: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        put_digits(number, &mut frame[self.number_at..self.number_at + NUMBER_DIGITS]);
        if let Some(at) = self.key_at {
            put_digits(number % self.keys_count, &mut frame[at..at + KEY_DIGITS]);
        }
        let (head, payload) = frame.split_at_mut(HEADER_BYTES);
        let mut header = Header {
            version: VERSION_1,
            message_type: Submit::TYPE,
            flags: Flags::NONE,
            payload_bytes: payload.len() as u32,
            message_id,
            timestamp_us,
            crc32: 0,
        };
        header.crc32 = header.crc32_of(payload);
        head.copy_from_slice(&header.to_bytes());
    }
}

/// A JSON object of `bytes` bytes, or of its fixed members when that is more.
fn payload(bytes: usize) -> String {
    let head = format!(r#"{{"id":"{NUMBER_MARK}","amount":125.5,"currency":"EUR","country":"DE","user":{{"age":42,"vip":true}},"pad":""#);
    let tail = r#""}"#;
    let pad = bytes.saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", "x".repeat(pad))
}

/// The number in decimal with leading zeros; its last digits when it has more.
fn put_digits(mut number: u64, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn find(frame: &[u8], mark: &str) -> Option<usize> {
    frame.windows(mark.len()).position(|window| window == mark.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use distric_wire::{FrameLimits, parse};

    use super::*;

    #[test]
    fn a_patched_frame_is_whole_and_has_the_size_that_was_asked_for() {
        let options = MessageOptions {
            routing_keys: NonZeroU32::new(3),
            payload_bytes: 300,
            namespace: Some("bench".to_owned()),
            ..MessageOptions::default()
        };
        let template = Template::new(&options);
        let mut bytes = b"before".to_vec();
        template.put(1_234_567, 8, 9, &mut bytes);
        let (frame, consumed) = parse(&bytes[6..], FrameLimits::AUTHENTICATED).unwrap().unwrap();
        assert_eq!((consumed, consumed), (bytes.len() - 6, template.frame_bytes()));
        assert_eq!((frame.header.message_id, frame.header.timestamp_us), (8, 9));
        let submit = Submit::decode(frame.payload).unwrap();
        assert_eq!((submit.payload.len(), submit.namespace, submit.event_type), (300, Some("bench"), Some("order.created")));
        assert_eq!(submit.routing_key, Some("key-0000000001"));
        let payload: serde_json::Value = serde_json::from_slice(submit.payload).unwrap();
        assert_eq!(payload["id"], "000001234567");
    }

    #[test]
    fn a_size_below_the_fixed_members_gives_the_fixed_members() {
        assert!(serde_json::from_str::<serde_json::Value>(&payload(1)).unwrap().is_object());
        assert_eq!(payload(1_000).len(), 1_000);
    }
}
