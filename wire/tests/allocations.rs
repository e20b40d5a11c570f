//! What decoding may cost: nothing for a message, and never more than the frame limit for a compressed one.

mod support {
    pub mod counting_allocator_unsafe;
    pub mod malformed;
    pub mod samples;
    pub mod tools;
    pub use tools::LIMITS;
}

use distric_wire::client::Submit;
use distric_wire::{AnyMessage, Flags, FrameLimits, encode, encode_compressed, parse};
use support::LIMITS;
use support::counting_allocator_unsafe::{Counting, allocations};
use support::malformed::{malformed, refusal};
use support::samples::{AT_US, samples};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decoding_allocates_nothing() {
    for sample in samples() {
        if sample.case == "compressed" {
            continue;
        }
        let (count, _) = allocations(|| {
            let (frame, _) = parse(&sample.frame, LIMITS).unwrap().unwrap();
            let message = AnyMessage::decode(frame.header.message_type, frame.payload).unwrap().unwrap();
            if let AnyMessage::Submit(submit) = message {
                assert!(submit.headers.iter().all(|(key, _)| !key.is_empty()));
            }
        });
        assert_eq!(count, 0, "type {:#06x}", sample.message_type);
    }
}

#[test]
fn encoding_into_a_buffer_with_room_allocates_nothing() {
    let mut out = Vec::with_capacity(4096);
    let (count, _) = allocations(|| encode(&Submit { payload: &[b'x'; 300], ..Submit::default() }, 1, AT_US, Flags::NONE, &mut out));
    assert_eq!(count, 0);
}

#[test]
fn no_bad_frame_makes_room_beyond_the_frame_limit() {
    for case in malformed() {
        let (_, largest_bytes) = allocations(|| assert!(refusal(&case.frame).is_some()));
        assert!(largest_bytes < 4096, "{}: {largest_bytes}", case.name);
    }
}

#[test]
fn unpacking_makes_room_for_the_limit_and_no_more() {
    let payload = vec![b'x'; 60_000];
    let mut bytes = Vec::new();
    encode_compressed(&Submit { payload: &payload, ..Submit::default() }, 1, AT_US, Flags::NONE, &mut bytes);
    assert!(bytes.len() < 1_000);
    let limits = FrameLimits { frame_bytes_max: 64 << 10 };
    let (_, largest_bytes) = allocations(|| {
        let (frame, _) = parse(&bytes, limits).unwrap().unwrap();
        let mut scratch = Vec::new();
        assert!(frame.decompressed(&mut scratch, limits).unwrap().len() > payload.len());
    });
    // One block of 64 KiB with the decoder's own margin.
    assert!(largest_bytes <= 128 << 10, "{largest_bytes}");
    let small = FrameLimits { frame_bytes_max: 32 << 10 };
    let (_, largest_bytes) = allocations(|| {
        let (frame, _) = parse(&bytes, small).unwrap().unwrap();
        assert!(frame.decompressed(&mut Vec::new(), small).is_err());
    });
    assert!(largest_bytes < 1024, "{largest_bytes}");
}
