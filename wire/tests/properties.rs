//! Properties of every message, driven by its table: any values survive, and no bytes bring the reader down.

mod support {
    pub mod malformed;
    pub mod samples;
    pub mod tools;
    pub use tools::LIMITS;
}

use std::sync::Arc;

use distric_wire::task::TaskRef;
use distric_wire::tlv::FieldSpec;
use distric_wire::{AnyMessage, Flags, Headers, Items, Strs, TaskRefs, U32s, U64s, Uuids, encode_compressed, parse};
use proptest::prelude::*;
use support::LIMITS;
use support::malformed::{refusal, sealed};
use support::samples::{encode_any, samples};
use support::tools::field;

/// The bytes of a field of this type, as its writer would make them.
fn field_bytes(spec: FieldSpec, message: &'static str) -> BoxedStrategy<Vec<u8>> {
    let tag = spec.tag;
    let of = move |code: u8, value: BoxedStrategy<Vec<u8>>| value.prop_map(move |value| field(code, tag, &value)).boxed();
    let raw = |bytes: usize| proptest::collection::vec(any::<u8>(), bytes).boxed();
    let text = || ".{0,12}".prop_map(String::into_bytes).boxed();
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40).boxed();
    let list = |code: u8, item: BoxedStrategy<Vec<u8>>| {
        proptest::collection::vec(item, 0..6)
            .prop_map(move |items| items.iter().enumerate().flat_map(|(at, one)| field(code, at as u16, one)).collect::<Vec<u8>>())
            .boxed()
    };
    let task_ref = || (raw(16), raw(8)).prop_map(|(id, token)| [field(0x08, 1, &id), field(0x04, 2, &token)].concat()).boxed();
    match spec.type_name {
        "u8" => of(0x01, raw(1)),
        "u16" => of(0x02, raw(2)),
        "u32" => of(0x03, raw(4)),
        "u64" => of(0x04, raw(8)),
        "i64" => of(0x05, raw(8)),
        // A bool that is false by default is not sent when false.
        "bool" if spec.required || spec.name == "retryable" => of(0x07, any::<bool>().prop_map(|yes| vec![u8::from(yes)]).boxed()),
        "bool" => of(0x07, Just(vec![1]).boxed()),
        "uuid" => of(0x08, raw(16)),
        "str" => of(0x10, text()),
        "bytes" => of(0x11, bytes()),
        "array<str>" => of(0x20, list(0x10, text())),
        "array<uuid>" => of(0x20, list(0x08, raw(16))),
        "array<u32>" => of(0x20, list(0x03, raw(4))),
        // Not empty, because an empty default is not sent.
        "array<u64>" => of(0x20, raw(8).prop_map(|bytes| field(0x04, 0, &bytes)).boxed()),
        "array<bytes>" if message.starts_with("Reconcile") => of(0x20, list(0x11, task_ref())),
        "array<bytes>" => of(0x20, list(0x11, bytes())),
        // Not empty, because an empty map is not sent.
        "map<str,str>" => {
            let pairs = proptest::collection::btree_map(".{0,8}", ".{0,8}", 1..6);
            let value = pairs.prop_map(|pairs| {
                pairs
                    .iter()
                    .flat_map(|(key, value)| [key, value])
                    .enumerate()
                    .flat_map(|(at, text)| field(0x10, at as u16, text.as_bytes()))
                    .collect()
            });
            of(0x21, value.boxed())
        }
        other => panic!("no strategy for {other}"),
    }
}

/// Any message's type and payload, every optional field there or not.
fn any_payload() -> impl Strategy<Value = (u16, Vec<u8>)> {
    proptest::sample::select(AnyMessage::TABLE).prop_flat_map(|(message_type, name, fields)| {
        let fields: Vec<BoxedStrategy<Vec<u8>>> = fields
            .iter()
            .map(|spec| {
                let present = if spec.required { Just(true).boxed() } else { any::<bool>().boxed() };
                (present, field_bytes(*spec, name)).prop_map(|(present, bytes)| if present { bytes } else { Vec::new() }).boxed()
            })
            .collect();
        fields.prop_map(move |fields| (message_type, fields.concat()))
    })
}

/// Refuses, asks for more or accepts; must come back in any case.
fn read(bytes: &[u8]) {
    let _ = refusal(bytes);
    for (message_type, ..) in AnyMessage::TABLE {
        let _ = AnyMessage::decode(*message_type, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_message_survives_encoding_and_decoding((message_type, payload) in any_payload(), message_id: u64) {
        let message = AnyMessage::decode(message_type, &payload).unwrap().unwrap();
        let mut frame = Vec::new();
        encode_any(&message, message_id, Flags::NONE, &mut frame);
        let (again, consumed) = parse(&frame, LIMITS).unwrap().unwrap();
        prop_assert_eq!(consumed, frame.len());
        prop_assert_eq!(again.header.message_id, message_id);
        prop_assert_eq!(again.payload, &payload[..]);
        prop_assert_eq!(message.payload_bytes(), payload.len());
        prop_assert_eq!(AnyMessage::decode(message_type, again.payload).unwrap().unwrap(), message);
    }

    #[test]
    fn fields_may_come_in_any_order((message_type, payload) in any_payload(), turn in any::<prop::sample::Index>()) {
        let mut fields = support::tools::split(&payload);
        let turn = if fields.is_empty() { 0 } else { turn.index(fields.len()) };
        fields.rotate_left(turn);
        let turned: Vec<u8> = fields.into_iter().flat_map(|(code, tag, value)| field(code, tag, value)).collect();
        prop_assert_eq!(AnyMessage::decode(message_type, &turned), AnyMessage::decode(message_type, &payload));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
        for (message_type, ..) in AnyMessage::TABLE {
            read(&sealed(*message_type, 0, &bytes));
        }
        read(&sealed(0x4001, 1, &bytes));
    }

    #[test]
    fn mutated_payloads_never_panic((message_type, mut payload) in any_payload(), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for (at, byte) in edits {
            if !payload.is_empty() {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
        }
        read(&payload);
        // What is accepted in spite of the edits is written and read back as the same.
        if let Ok(Some(message)) = AnyMessage::decode(message_type, &payload) {
            let mut again = Vec::new();
            message.encode_payload(&mut again);
            prop_assert_eq!(message.payload_bytes(), again.len());
            let decoded = AnyMessage::decode(message_type, &again).unwrap().unwrap();
            prop_assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn mutated_frames_never_panic(which in any::<prop::sample::Index>(), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>()) {
        let samples = samples();
        let mut frame = samples[which.index(samples.len())].frame.clone();
        for (at, byte) in edits {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        read(&frame);
        read(&frame[..cut.index(frame.len())]);
    }

    #[test]
    fn compressed_frames_survive(seed in proptest::collection::vec(any::<u8>(), 1..64), repeats in 1_usize..2_000) {
        let payload = seed.repeat(repeats);
        let submit = distric_wire::client::Submit { payload: &payload, ..Default::default() };
        let mut frame = Vec::new();
        encode_compressed(&submit, 1, 1, Flags::NONE, &mut frame);
        let (frame, _) = parse(&frame, LIMITS).unwrap().unwrap();
        let mut scratch = Vec::new();
        let content = frame.decompressed(&mut scratch, LIMITS).unwrap();
        prop_assert!(distric_wire::client::Submit::decode(content).unwrap() == submit);
    }

    #[test]
    fn lent_and_owned_views_are_equal_to_what_the_wire_gives(texts in proptest::collection::btree_map(".{0,8}", ".{0,8}", 0..9), numbers in proptest::collection::vec(any::<u32>(), 0..9)) {
        let keys: Vec<&str> = texts.keys().map(String::as_str).collect();
        let shared: Vec<Arc<str>> = keys.iter().map(|key| Arc::from(*key)).collect();
        prop_assert_eq!(Strs::of(&keys), Strs::of_owned(&shared));
        let owned: Vec<(String, String)> = texts.clone().into_iter().collect();
        let lent: Vec<(&str, &str)> = owned.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        prop_assert_eq!(Headers::of(&lent), Headers::of_owned(&owned));
        let items: Vec<Vec<u8>> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let slices: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(Items::of(&slices), Items::of_owned(&items));

        let terms: Vec<u64> = numbers.iter().map(|number| u64::from(*number) << 20).collect();
        let ids: Vec<uuid::Uuid> = numbers.iter().map(|number| uuid::Uuid::from_u128(u128::from(*number))).collect();
        let refs: Vec<TaskRef> = ids.iter().map(|id| TaskRef { task_id: *id, fencing_token: 1 }).collect();
        let response = distric_wire::client::Response { rules: Strs::of_owned(&shared), workflows: Strs::of(&keys), instances: Uuids::of(&ids), ..Default::default() };
        let reconcile = distric_wire::task::Reconcile { group: 1, tasks: TaskRefs::of(&refs) };
        let welcome = distric_wire::task::WorkerWelcome { groups: U32s::of(&numbers), coordinators: Headers::of(&lent), terms: U64s::of(&terms) };
        let submit = distric_wire::client::Submit { headers: Headers::of_owned(&owned), ..Default::default() };
        for message in [AnyMessage::from(response), reconcile.into(), welcome.into(), submit.into()] {
            let mut payload = Vec::new();
            message.encode_payload(&mut payload);
            prop_assert_eq!(AnyMessage::decode(message.message_type(), &payload).unwrap().unwrap(), message);
        }
        prop_assert_eq!(Headers::of(&lent).find("no such key, it is too long"), None);
        for (key, value) in &lent {
            prop_assert_eq!(submit.headers.find(key), Some(*value));
        }
    }
}
