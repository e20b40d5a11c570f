//! Bad bytes: each is refused by name, as early as it shows, and nothing is waited for or allocated on its word.

mod support {
    pub mod malformed;
    pub mod samples;
    pub mod tools;
    pub use tools::LIMITS;
}

use distric_wire::client::{Submit, SubmitBatch};
use distric_wire::{AnyMessage, DecodeError, Flags, FrameError, FrameLimits, HEADER_BYTES, Problem, bytes_needed, encode, parse};
use support::LIMITS;
use support::malformed::{malformed, nested, refusal, sealed, submit_with};
use support::samples::samples;
use support::tools::field;

fn submit_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    encode(&Submit { payload: b"{\"total\":12}", ..Submit::default() }, 7, 1, Flags::NONE, &mut frame);
    frame
}

fn decode_error(frame: &[u8]) -> DecodeError {
    let (frame, _) = parse(frame, LIMITS).unwrap().unwrap();
    AnyMessage::decode(frame.header.message_type, frame.payload).unwrap_err()
}

#[test]
fn a_frame_cut_at_any_byte_asks_for_more() {
    for sample in samples() {
        for end in 0..sample.frame.len() {
            assert_eq!(parse(&sample.frame[..end], LIMITS), Ok(None), "cut at {end}");
            let needed = bytes_needed(&sample.frame[..end], LIMITS).unwrap();
            assert!(needed > 0 && end + needed <= sample.frame.len(), "cut at {end}, {needed} needed");
        }
        assert_eq!(bytes_needed(&sample.frame, LIMITS), Ok(0));
    }
}

#[test]
fn pipelined_frames_come_out_one_by_one() {
    let samples = samples();
    let stream: Vec<u8> = samples.iter().flat_map(|sample| sample.frame.clone()).collect();
    let mut at = 0;
    for sample in &samples {
        let (frame, consumed) = parse(&stream[at..], LIMITS).unwrap().expect("the stream holds whole frames");
        assert_eq!(frame.header.message_type, sample.message_type);
        assert_eq!(&stream[at..at + consumed], sample.frame);
        at += consumed;
    }
    assert_eq!(at, stream.len());
}

#[test]
fn an_oversized_length_is_refused_by_the_header_alone() {
    let mut frame = submit_frame();
    frame[10..14].copy_from_slice(&(LIMITS.frame_bytes_max + 1).to_be_bytes());
    let refused = FrameError::TooLarge { payload_bytes: LIMITS.frame_bytes_max + 1, limit: LIMITS.frame_bytes_max, message_id: 7 };
    assert_eq!(parse(&frame[..HEADER_BYTES], LIMITS), Err(refused.clone()));
    assert_eq!(bytes_needed(&frame[..HEADER_BYTES], LIMITS), Err(refused.clone()));
    assert_eq!(refused.message_id(), Some(7));
    frame[10..14].copy_from_slice(&LIMITS.frame_bytes_max.to_be_bytes());
    assert_eq!(parse(&frame[..HEADER_BYTES], LIMITS), Ok(None), "the limit itself is legal");
}

#[test]
fn strangers_have_the_smaller_limit() {
    let payload = vec![b' '; FrameLimits::UNAUTHENTICATED.frame_bytes_max as usize];
    let mut frame = Vec::new();
    encode(&Submit { payload: &payload, ..Submit::default() }, 7, 1, Flags::NONE, &mut frame);
    assert!(matches!(parse(&frame, FrameLimits::UNAUTHENTICATED), Err(FrameError::TooLarge { limit: 65_536, .. })));
    assert!(matches!(parse(&frame, LIMITS), Ok(Some(_))));
}

#[test]
fn a_wrong_magic_shows_at_its_first_wrong_byte() {
    assert_eq!(parse(b"G", LIMITS), Err(FrameError::WrongMagic { found: 0x4700_0000 }));
    assert_eq!(parse(b"DIS!", LIMITS), Err(FrameError::WrongMagic { found: 0x4449_5321 }));
    assert_eq!(parse(b"DIST", LIMITS), Ok(None));
    assert!(matches!(parse(&[b'x'; 64], LIMITS), Err(FrameError::WrongMagic { .. })));
}

#[test]
fn every_flipped_bit_of_a_frame_is_noticed() {
    let frame = submit_frame();
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A longer length within the limit only makes the reader wait; everything else is an error.
        match parse(&damaged, LIMITS) {
            Err(_) => {}
            Ok(None) => assert!((10 * 8..14 * 8).contains(&bit), "bit {bit}"),
            Ok(Some(_)) => panic!("bit {bit} went unnoticed"),
        }
    }
}

#[test]
fn an_unknown_version_carries_the_message_id() {
    let mut frame = submit_frame();
    frame[4..6].copy_from_slice(&2_u16.to_be_bytes());
    assert_eq!(parse(&frame, LIMITS), Err(FrameError::UnknownVersion { version: 2, message_id: 7 }));
}

#[test]
fn a_payload_cut_at_any_byte_is_refused_or_is_a_shorter_message() {
    let frame = &samples()[0].frame;
    let payload = &frame[HEADER_BYTES..];
    for end in 0..payload.len() {
        match Submit::decode(&payload[..end]) {
            Ok(message) => assert_eq!(message.payload_bytes(), end, "a cut between fields"),
            Err(error) => assert!(matches!(error.problem, Problem::Truncated { .. } | Problem::Missing), "{error}"),
        }
    }
}

#[test]
fn unknown_tags_and_unknown_types_are_skipped() {
    let frame = submit_with(&[
        field(0x10, 500, b"a tag of tomorrow"),
        field(0x7f, 501, b"a type of tomorrow"),
        field(0x7f, 1, b"a type of tomorrow under a tag of today"),
        field(0x20, 502, &nested(31)),
        field(0x10, 500, b"tags that are not ours may come twice"),
    ]);
    let (frame, _) = parse(&frame, LIMITS).unwrap().unwrap();
    assert_eq!(Submit::decode(frame.payload), Ok(Submit { payload: b"{}", ..Submit::default() }));
}

#[test]
fn nesting_is_bounded_however_it_is_wrapped() {
    assert_eq!(decode_error(&submit_with(&[field(0x20, 999, &nested(32))])).problem, Problem::TooDeep { limit: 32 });
    assert_eq!(decode_error(&submit_with(&[field(0x21, 999, &nested(32))])).problem, Problem::TooDeep { limit: 32 });
    assert_eq!(decode_error(&submit_with(&[field(0x20, 999, &nested(5_000))])).problem, Problem::TooDeep { limit: 32 });
    // Many shallow ones are no bomb.
    let shallow: Vec<u8> = (0..10_000).flat_map(|_| nested(2)).collect();
    let frame = submit_with(&[field(0x20, 999, &shallow)]);
    assert!(refusal(&frame).is_none());
}

#[test]
fn counts_are_bounded() {
    let headers = |count: u16| {
        let pairs: Vec<u8> =
            (0..count).flat_map(|at| [field(0x10, 2 * at, format!("h{at}").as_bytes()), field(0x10, 2 * at + 1, b"")].concat()).collect();
        submit_with(&[field(0x21, 6, &pairs)])
    };
    assert!(refusal(&headers(64)).is_none());
    let error = decode_error(&headers(65));
    assert_eq!((error.tag, error.field, error.limit()), (Some(6), "headers", Some(("headers_max", 64))));
    let batch = |count: u16| {
        let items: Vec<u8> = (0..count).flat_map(|at| field(0x11, at, b"")).collect();
        sealed(0x4006, 0, &field(0x20, 1, &items))
    };
    let frame = batch(1024);
    let (frame, _) = parse(&frame, LIMITS).unwrap().unwrap();
    assert_eq!(SubmitBatch::decode(frame.payload).unwrap().messages.len(), 1024);
    assert_eq!(decode_error(&batch(1025)).limit(), Some(("batch_messages_max", 1024)));
}

#[test]
fn a_bad_item_of_a_batch_does_not_hold_up_the_others() {
    let items = [field(0x11, 0, &field(0x11, 8, b"{}")), field(0x11, 1, b"garbage")].concat();
    let frame = sealed(0x4006, 0, &field(0x20, 1, &items));
    let (frame, _) = parse(&frame, LIMITS).unwrap().unwrap();
    let batch = SubmitBatch::decode(frame.payload).unwrap();
    let decoded: Vec<bool> = batch.messages.iter().map(|item| Submit::decode(item).is_ok()).collect();
    assert_eq!(decoded, [true, false]);
}

#[test]
fn every_malformed_frame_is_refused_with_the_field_it_is_about() {
    for case in malformed() {
        let (_, words, message_id, ends) = refusal(&case.frame).unwrap_or_else(|| panic!("{} was accepted", case.name));
        assert!(!words.is_empty());
        assert!(message_id == Some(7) || case.name == "wrong_magic", "{}", case.name);
        assert!(!ends || case.name.contains("magic") || words.starts_with("frame"), "{}: {words}", case.name);
    }
    let error = decode_error(&submit_with(&[field(0x11, 1, b"shop")]));
    assert_eq!(error.to_string(), "Submit field 1 (namespace): is of type 0x11, expected str (0x10)");
}
