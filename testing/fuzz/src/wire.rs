//! The binary protocol.

use distric_wire::{AnyMessage, Flags, FrameError, FrameLimits, HEADER_BYTES, Header, bytes_needed, parse};

/// Limits small enough that a fuzzer reaches them.
const LIMITS: FrameLimits = FrameLimits { frame_bytes_max: 256 << 10 };
/// Where the CRC stands in a header.
const CRC_AT: usize = HEADER_BYTES - 4;

/// A stream of frames. A wrong CRC is put right first, since no fuzzer guesses one.
pub fn frame(data: &[u8]) {
    let mut stream = data.to_vec();
    let mut at = 0;
    loop {
        match parse(&stream[at..], LIMITS) {
            Ok(None) => {
                let needed = bytes_needed(&stream[at..], LIMITS).expect("what may still become a frame has a length");
                assert!(needed > 0 && needed <= HEADER_BYTES + LIMITS.frame_bytes_max as usize, "{needed} bytes needed");
                return;
            }
            Ok(Some((frame, consumed))) => {
                assert!(consumed >= HEADER_BYTES && at + consumed <= stream.len(), "{consumed} bytes consumed");
                let mut scratch = Vec::new();
                if let Ok(payload) = frame.decompressed(&mut scratch, LIMITS) {
                    assert!(payload.len() <= LIMITS.frame_bytes_max as usize, "{} bytes", payload.len());
                    read_and_write(frame.header.message_type, payload);
                }
                at += consumed;
            }
            Err(FrameError::WrongCrc { computed, .. }) => stream[at + CRC_AT..at + HEADER_BYTES].copy_from_slice(&computed.to_be_bytes()),
            Err(error) => {
                let reason = error.to_string();
                let mut payload = Vec::new();
                error.rejection(&reason).encode_payload(&mut payload);
                return;
            }
        }
    }
}

/// One payload; the first byte chooses which message it is taken for.
pub fn message(data: &[u8]) {
    let Some((first, payload)) = data.split_first() else { return };
    let (message_type, ..) = AnyMessage::TABLE[usize::from(*first) % AnyMessage::TABLE.len()];
    read_and_write(message_type, payload);
}

/// The content of a compressed frame.
pub fn compressed(data: &[u8]) {
    let mut header = Header {
        version: distric_wire::VERSION_1,
        message_type: 0x4001,
        flags: Flags::COMPRESSED,
        payload_bytes: u32::try_from(data.len()).expect("fuzz inputs are small"),
        ..Header::default()
    };
    header.crc32 = header.crc32_of(data);
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(data);
    frame(&bytes);
}

/// What can be read is written, and read again as the same.
fn read_and_write(message_type: u16, payload: &[u8]) {
    match AnyMessage::decode(message_type, payload) {
        Ok(None) => {}
        Ok(Some(message)) => {
            let mut again = Vec::new();
            message.encode_payload(&mut again);
            assert_eq!(message.payload_bytes(), again.len(), "{}", message.name());
            let read_again = AnyMessage::decode(message_type, &again).expect("we read what we write").expect("the type is known");
            assert_eq!(read_again, message);
        }
        Err(error) => {
            let reason = error.to_string();
            let mut rejection = Vec::new();
            error.rejection(&reason).encode_payload(&mut rejection);
            assert!(!reason.is_empty(), "an error has words");
        }
    }
}
