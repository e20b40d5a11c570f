//! Compression of payloads: one LZ4 frame (the LZ4 Frame Format, version 1.6.x), with its content size given.
//!
//! The content size is required, so that what a small payload becomes is known, and refused, before it is unpacked.
//! Only the frame's own header is read here; `lz4_flex` does the rest. Invariant: neither the output nor the block
//! buffers of the decoder are larger than the frame limit (or one smallest block, 64 KiB, if that is more).

use std::io::{Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::error::Problem;

/// Payloads up to this size are sent as they are, bytes: below, a frame fits few packets and compression only costs time.
pub const COMPRESS_ABOVE_BYTES: usize = 4 << 10;

/// First bytes of an LZ4 frame.
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// The smallest block size that the LZ4 frame format knows.
const LZ4_BLOCK_BYTES_MIN: u64 = 64 << 10;
/// Bits of the FLG byte.
const FLG_VERSION_MASK: u8 = 0xc0;
const FLG_VERSION_01: u8 = 0x40;
const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
const FLG_DICTIONARY: u8 = 0x01;
/// Bit of a block's size: its bytes are stored as they are.
const LZ4_BLOCK_UNCOMPRESSED: u32 = 1 << 31;
/// Magic, FLG, BD, content size, header checksum.
const LZ4_HEADER_BYTES: usize = 4 + 1 + 1 + 8 + 1;

/// Appends `payload` as one LZ4 frame: independent blocks of 64 KiB, content size, no content checksum (the frame has a CRC).
pub(crate) fn compress(payload: &[u8], out: &mut Vec<u8>) {
    // 64 KiB, not the encoder's own choice of up to 4 MiB: every reader must make room for a block.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB).content_size(Some(payload.len() as u64));
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(payload).expect("writing to a Vec cannot fail");
    encoder.finish().expect("the content size given is the payload's");
}

/// Writes the content of the LZ4 frame `packed` into `out`, cleared first.
pub(crate) fn decompress(packed: &[u8], limit: u32, out: &mut Vec<u8>) -> Result<(), Problem> {
    out.clear();
    let content_bytes = check_frame(packed, limit)?;
    let mut decoder = FrameDecoder::new(packed);
    out.resize(content_bytes, 0);
    let mut filled = 0;
    while filled < content_bytes {
        match decoder.read(&mut out[filled..]) {
            Ok(0) => return Err(bad("it ends before its content size")),
            Ok(count) => filled += count,
            Err(_) => return Err(bad("a block does not decode")),
        }
    }
    // One more read takes the end mark and, where present, the content checksum.
    match decoder.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(bad("it goes on after its content size")),
        Err(_) => Err(bad("its end does not decode")),
    }
}

/// Whether bytes begin as what [`pack`] makes.
pub fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&LZ4_MAGIC)
}

/// Appends `bytes` as one LZ4 frame, as payloads are compressed; for records that are kept.
pub fn pack(bytes: &[u8], out: &mut Vec<u8>) {
    compress(bytes, out);
}

/// What [`pack`] made, unpacked. Errors: in words, when it is no whole LZ4 frame or becomes larger than `bytes_max`.
pub fn unpack(packed: &[u8], bytes_max: u32) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    decompress(packed, bytes_max, &mut out).map_err(|problem| problem.to_string())?;
    Ok(out)
}

/// Checks that `packed` is one whole LZ4 frame within the limit, without unpacking. Returns its content size.
///
/// The decoder of `lz4_flex` takes a frame without its end mark for a whole one, and makes room for one block of the size
/// that the frame claims; so both are looked at here.
fn check_frame(packed: &[u8], limit: u32) -> Result<usize, Problem> {
    let Some((header, mut rest)) = packed.split_first_chunk::<LZ4_HEADER_BYTES>() else { return Err(bad("its header is cut")) };
    let [_, _, _, _, flg, bd, size @ .., _] = *header;
    if header[..4] != LZ4_MAGIC {
        return Err(bad("it does not begin with the LZ4 frame magic"));
    }
    if flg & FLG_VERSION_MASK != FLG_VERSION_01 {
        return Err(bad("its version is not 01"));
    }
    if flg & FLG_CONTENT_SIZE == 0 {
        return Err(bad("its content size is missing"));
    }
    if flg & FLG_DICTIONARY != 0 {
        return Err(bad("it uses a dictionary"));
    }
    let content_bytes = u64::from_le_bytes(size);
    if content_bytes > u64::from(limit) {
        return Err(Problem::DecompressedTooLarge { content_bytes, limit });
    }
    // Block sizes are 64 KiB, 256 KiB, 1 MiB, 4 MiB, numbered 4 to 7.
    let block_bytes_max = match (bd >> 4) & 7 {
        number @ 4..=7 => LZ4_BLOCK_BYTES_MIN << (2 * (number - 4)),
        _ => return Err(bad("its block size is unknown")),
    };
    if block_bytes_max > LZ4_BLOCK_BYTES_MIN.max(u64::from(limit)) {
        return Err(bad("its blocks may be larger than frame_bytes_max"));
    }
    let block_checksum_bytes = if flg & FLG_BLOCK_CHECKSUM == 0 { 0 } else { 4 };
    let content_checksum_bytes = if flg & FLG_CONTENT_CHECKSUM == 0 { 0 } else { 4 };
    loop {
        let Some((mark, after)) = rest.split_first_chunk::<4>() else { return Err(bad("it ends early")) };
        let block_bytes = u32::from_le_bytes(*mark) & !LZ4_BLOCK_UNCOMPRESSED;
        if u32::from_le_bytes(*mark) == 0 {
            return if after.len() == content_checksum_bytes {
                Ok(content_bytes as usize)
            } else {
                Err(bad("it does not end at its end mark"))
            };
        }
        let Some((_, next)) = after.split_at_checked(block_bytes as usize + block_checksum_bytes) else { return Err(bad("it ends early")) };
        rest = next;
    }
}

const fn bad(what: &'static str) -> Problem {
    Problem::BadCompression { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 1 << 20;

    fn packed(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(payload, &mut out);
        out
    }

    fn unpacked(bytes: &[u8], limit: u32) -> Result<Vec<u8>, Problem> {
        let mut out = Vec::new();
        decompress(bytes, limit, &mut out)?;
        Ok(out)
    }

    #[test]
    fn content_survives_at_every_block_boundary() {
        for bytes in [0, 1, 4096, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 300_000, 1 << 20] {
            let payload: Vec<u8> = (0..bytes).map(|i: usize| (i / 7) as u8).collect();
            assert!(unpacked(&packed(&payload), LIMIT) == Ok(payload), "{bytes} bytes");
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_announced_size_and_makes_no_room() {
        let bomb = packed(&vec![0; 4 << 20]);
        assert!(bomb.len() < 64 << 10, "a bomb is small: {}", bomb.len());
        let mut out = Vec::new();
        assert_eq!(decompress(&bomb, LIMIT, &mut out), Err(Problem::DecompressedTooLarge { content_bytes: 4 << 20, limit: LIMIT }));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn a_bomb_that_lies_about_its_size_is_refused() {
        let payload = vec![0; 200_000];
        let info = FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB).content_size(Some(200_000));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&payload).unwrap();
        let mut lying = encoder.finish().unwrap();
        assert!(unpacked(&lying, LIMIT) == Ok(payload), "linked blocks are legal");
        lying[6..14].copy_from_slice(&100_u64.to_le_bytes());
        assert!(matches!(unpacked(&lying, LIMIT), Err(Problem::BadCompression { .. })), "the header checksum no longer fits");
    }

    #[test]
    fn a_frame_without_a_content_size_is_refused() {
        let mut encoder = FrameEncoder::new(Vec::new());
        encoder.write_all(&[7; 5000]).unwrap();
        assert_eq!(unpacked(&encoder.finish().unwrap(), LIMIT), Err(bad("its content size is missing")));
    }

    #[test]
    fn cut_and_extended_frames_are_refused() {
        let whole = packed(&[42; 10_000]);
        for end in 0..whole.len() {
            assert!(matches!(unpacked(&whole[..end], LIMIT), Err(Problem::BadCompression { .. })), "cut at {end}");
        }
        let mut extended = whole;
        extended.push(0);
        assert_eq!(unpacked(&extended, LIMIT), Err(bad("it does not end at its end mark")));
    }

    #[test]
    fn blocks_larger_than_the_limit_are_refused() {
        let info = FrameInfo::new().block_size(BlockSize::Max4MB).content_size(Some(10));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&[1; 10]).unwrap();
        assert_eq!(unpacked(&encoder.finish().unwrap(), 64 << 10), Err(bad("its blocks may be larger than frame_bytes_max")));
    }
}
