//! Encode and decode of a 400-byte Submit: the frame with its CRC, all usual fields, as a client sends it.
//!
//! Bar: each under 200 ns on one core; that decoding allocates nothing is asserted by `wire/tests/allocations.rs`.
//! Run: `cargo bench -p distric-benches --bench wire`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distric_wire::client::{Response, Submit};
use distric_wire::{Flags, FrameLimits, HEADER_BYTES, Headers, Strs, Uuids, encode, parse};
use uuid::Uuid;

/// Bytes of the whole frame.
const FRAME_BYTES: usize = 400;
const AT_US: u64 = 1_700_000_000_000_000;

/// An order event with the fields that clients usually send.
fn order(payload: &[u8]) -> Submit<'_> {
    Submit {
        event_type: Some("order.created"),
        source: Some("checkout"),
        headers: Headers::of(&[("region", "eu"), ("tier", "gold")]),
        payload,
        routing_key: Some("customer-7"),
        idempotency_key: Some("01890a5d-ac96-774b-bcce-b302099a8057"),
        ..Submit::default()
    }
}

/// A JSON payload that makes the order's frame [`FRAME_BYTES`] long.
fn payload() -> Vec<u8> {
    let mut payload = br#"{"order_id":"o-1","customer":"customer-7","total":129.5,"currency":"EUR","note":""#.to_vec();
    let missing = FRAME_BYTES - framed(&order(&payload)).len();
    payload.extend(std::iter::repeat_n(b'x', missing - 2));
    payload.extend(b"\"}");
    assert_eq!(framed(&order(&payload)).len(), FRAME_BYTES, "the bar is set for frames of this size");
    payload
}

fn framed(submit: &Submit<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(submit, 1, AT_US, Flags::NONE, &mut out);
    out
}

fn submit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("submit_400_bytes");
    group.throughput(Throughput::Bytes(FRAME_BYTES as u64));
    let payload = payload();
    let submit = order(&payload);
    let mut out = Vec::with_capacity(2 * FRAME_BYTES);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode(black_box(&submit), 1, AT_US, Flags::NONE, &mut out);
            black_box(out.len())
        });
    });
    let frame = framed(&submit);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let (frame, consumed) = parse(black_box(&frame), FrameLimits::AUTHENTICATED).expect("our own frame").expect("whole");
            let submit = Submit::decode(frame.payload).expect("our own message");
            black_box((submit.payload.len(), submit.headers.len(), consumed))
        });
    });
    group.bench_function("decode_payload_only", |bencher| {
        let payload = &frame[HEADER_BYTES..];
        bencher.iter(|| black_box(Submit::decode(black_box(payload)).expect("our own message")).payload.len());
    });
    group.finish();
}

fn response(criterion: &mut Criterion) {
    let instances = [Uuid::from_u128(1)];
    let response = Response {
        outcome: 1,
        message_id: Uuid::from_u128(2),
        catalog_version: 12,
        rules: Strs::of(&["large_orders"]),
        workflows: Strs::of(&["fulfil_order"]),
        instances: Uuids::of(&instances),
    };
    let mut out = Vec::with_capacity(1024);
    criterion.bench_function("response/encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode(black_box(&response), 1, AT_US, Flags::NONE, &mut out);
            black_box(out.len())
        });
    });
}

criterion_group!(benches, submit, response);
criterion_main!(benches);
