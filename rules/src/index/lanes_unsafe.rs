//! A block of text compared sixteen bytes at a time, with the vectors that every x86-64 processor has.

use std::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_setzero_si128,
};

use crate::index::structure::{BLOCK, Masks};

/// One bit for each byte of the block, as comparing byte by byte would give.
#[inline]
pub(crate) fn masks(block: &[u8; BLOCK]) -> Masks {
    // SAFETY: the function needs SSE2 and nothing else, and SSE2 is a part of x86-64.
    unsafe { with_sse2(block) }
}

#[target_feature(enable = "sse2")]
#[inline]
fn with_sse2(block: &[u8; BLOCK]) -> Masks {
    let (halves, _) = block.as_chunks::<8>();
    let (lanes, _) = halves.as_chunks::<2>();
    let mut masks = Masks::default();
    let mut rare = _mm_setzero_si128();
    for (i, [low, high]) in lanes.iter().enumerate() {
        let lane = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
        // The bit in which `[` and `{`, `]` and `}` differ.
        let braces = _mm_or_si128(lane, all(0x20));
        let braces = _mm_or_si128(is(braces, b'{'), is(braces, b'}'));
        let operators = _mm_or_si128(braces, _mm_or_si128(is(lane, b':'), is(lane, b',')));
        rare = _mm_or_si128(rare, _mm_or_si128(is(lane, b'\\'), at_most(lane, 0x1f)));
        masks.quotes |= bits(is(lane, b'"')) << (16 * i);
        masks.operators |= bits(operators) << (16 * i);
        masks.space |= bits(at_most(lane, b' ')) << (16 * i);
    }
    masks.has_rare = bits(rare) != 0;
    masks
}

#[target_feature(enable = "sse2")]
#[inline]
fn all(byte: u8) -> __m128i {
    _mm_set1_epi8(byte as i8)
}

#[target_feature(enable = "sse2")]
#[inline]
fn is(lane: __m128i, byte: u8) -> __m128i {
    _mm_cmpeq_epi8(lane, all(byte))
}

#[target_feature(enable = "sse2")]
#[inline]
fn at_most(lane: __m128i, byte: u8) -> __m128i {
    _mm_cmpeq_epi8(_mm_max_epu8(lane, all(byte)), all(byte))
}

#[target_feature(enable = "sse2")]
#[inline]
fn bits(lane: __m128i) -> u64 {
    u64::from(_mm_movemask_epi8(lane) as u32)
}
