//! One frame: header and payload, checked.
//!
//! In: the bytes received so far.  Out: a [`Frame`] that borrows from them, or "need more", or a [`FrameError`].
//! Invariant: a length is compared with the limit before anyone waits for, or makes room for, that many bytes.
//! Start reading at [`parse`].

use crate::compress;
use crate::error::{DecodeError, FrameError};
use crate::header::{Flags, HEADER_BYTES, Header, MAGIC, VERSION_1};
use crate::message::Message;

/// A whole frame whose CRC was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload as sent: compressed when the header says so. Messages are decoded from [`Frame::decompressed`].
    pub payload: &'a [u8],
}

/// How large a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Most bytes of a payload, as sent and decompressed.
    pub frame_bytes_max: u32,
}

impl FrameLimits {
    /// The default for a connection before its Hello was accepted.
    pub const UNAUTHENTICATED: Self = Self { frame_bytes_max: distric_model::limits::FRAME_BYTES_MAX_UNAUTHENTICATED };
    /// The default after it.
    pub const AUTHENTICATED: Self = Self { frame_bytes_max: distric_model::limits::FRAME_BYTES_MAX };
}

/// Takes the frame at the start of `buffer`.
///
/// Returns the frame and how many bytes it takes, or `Ok(None)` when more bytes are needed (how many: [`bytes_needed`]).
/// Errors: [`FrameError`], as early as the bytes show it: a wrong magic by its first wrong byte, all else by the header
/// except the CRC. The stream has no known next frame after an error.
pub fn parse(buffer: &[u8], limits: FrameLimits) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some(header) = parse_header(buffer, limits)? else { return Ok(None) };
    let Some((payload, _)) = buffer[HEADER_BYTES..].split_at_checked(header.payload_bytes as usize) else { return Ok(None) };
    let computed = header.crc32_of(payload);
    if computed != header.crc32 {
        return Err(FrameError::WrongCrc { found: header.crc32, computed, message_id: header.message_id });
    }
    Ok(Some((Frame { header, payload }, HEADER_BYTES + payload.len())))
}

/// How many bytes of the frame at the start of `buffer` are still to come: at most the limit plus a header, so that a
/// reader may make room for them. Zero when the frame is whole. Errors: as [`parse`], without the CRC.
pub fn bytes_needed(buffer: &[u8], limits: FrameLimits) -> Result<usize, FrameError> {
    match parse_header(buffer, limits)? {
        None => Ok(HEADER_BYTES - buffer.len()),
        Some(header) => Ok((HEADER_BYTES + header.payload_bytes as usize).saturating_sub(buffer.len())),
    }
}

/// The header at the start of `buffer`, everything about it checked that needs no payload.
fn parse_header(buffer: &[u8], limits: FrameLimits) -> Result<Option<Header>, FrameError> {
    let Some((header, magic)) = Header::read(buffer) else {
        let magic_bytes = MAGIC.to_be_bytes();
        let seen = buffer.len().min(magic_bytes.len());
        if buffer[..seen] != magic_bytes[..seen] {
            let mut found = [0; 4];
            found[..seen].copy_from_slice(&buffer[..seen]);
            return Err(FrameError::WrongMagic { found: u32::from_be_bytes(found) });
        }
        return Ok(None);
    };
    let Header { version, flags, payload_bytes, message_id, .. } = header;
    if magic != MAGIC {
        return Err(FrameError::WrongMagic { found: magic });
    }
    if version != VERSION_1 {
        return Err(FrameError::UnknownVersion { version, message_id });
    }
    if payload_bytes > limits.frame_bytes_max {
        return Err(FrameError::TooLarge { payload_bytes, limit: limits.frame_bytes_max, message_id });
    }
    if flags.contains(Flags::ENCRYPTED) {
        return Err(FrameError::Encrypted { message_id });
    }
    Ok(Some(header))
}

impl Frame<'_> {
    /// The payload that messages are decoded from: the payload itself, or, when it was sent compressed, its content,
    /// written into `scratch` (cleared first). At most `limits.frame_bytes_max` bytes are made room for.
    ///
    /// Errors: `BadCompression` and `DecompressedTooLarge`, see [`crate::error::Problem`].
    pub fn decompressed<'b>(&'b self, scratch: &'b mut Vec<u8>, limits: FrameLimits) -> Result<&'b [u8], DecodeError> {
        if !self.header.flags.contains(Flags::COMPRESSED) {
            return Ok(self.payload);
        }
        compress::decompress(self.payload, limits.frame_bytes_max, scratch).map_err(|problem| DecodeError::whole("Frame", problem))?;
        Ok(scratch)
    }
}

/// Appends one whole frame. `flags` may be [`Flags::URGENT`]; the compressed bit is [`encode_compressed`]'s to set.
///
/// Panics: when the payload is 4 GiB or larger, which no legal frame is.
pub fn encode<'a, M: Message<'a>>(message: &M, message_id: u64, timestamp_us: u64, flags: Flags, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(HEADER_BYTES + message.payload_bytes());
    out.extend_from_slice(&[0; HEADER_BYTES]);
    message.encode_payload(out);
    let flags = flags.without(Flags::COMPRESSED);
    seal(Header { version: VERSION_1, message_type: M::TYPE, flags, message_id, timestamp_us, ..Header::default() }, start, out);
}

/// As [`encode`], with the payload as one LZ4 frame when it is above [`compress::COMPRESS_ABOVE_BYTES`] and becomes
/// smaller by it. Only towards a peer that announced [`crate::client::FEATURE_LZ4`].
pub fn encode_compressed<'a, M: Message<'a>>(message: &M, message_id: u64, timestamp_us: u64, flags: Flags, out: &mut Vec<u8>) {
    let bytes = message.payload_bytes();
    if bytes > compress::COMPRESS_ABOVE_BYTES {
        let mut payload = Vec::with_capacity(bytes);
        message.encode_payload(&mut payload);
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        compress::compress(&payload, out);
        if out.len() - start - HEADER_BYTES < payload.len() {
            let flags = flags.with(Flags::COMPRESSED);
            return seal(
                Header { version: VERSION_1, message_type: M::TYPE, flags, message_id, timestamp_us, ..Header::default() },
                start,
                out,
            );
        }
        out.truncate(start);
    }
    encode(message, message_id, timestamp_us, flags, out);
}

/// Writes the header over the [`HEADER_BYTES`] zeros at `start`, with the length of what follows them and its CRC.
fn seal(mut header: Header, start: usize, out: &mut [u8]) {
    let (head, payload) = out[start..].split_at_mut(HEADER_BYTES);
    header.payload_bytes = u32::try_from(payload.len()).expect("a payload is far below 4 GiB: frames are capped at FRAME_BYTES_HARD_CAP");
    header.crc32 = header.crc32_of(payload);
    head.copy_from_slice(&header.to_bytes());
}
