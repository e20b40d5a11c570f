//! Structure: where the tokens of a JSON text begin, found 64 bytes at a time.
//!
//! In: the text.  Out: positions of every `{ } [ ] : ,` outside strings, of both quotes of every string, and of the first byte of everything
//! else that is no space; whether that makes JSON is for the reader to say. A quote after an odd run of backslashes is part of its string.
//! On x86-64 the bytes of a block are compared sixteen at a time (`lanes_unsafe`), elsewhere one by one.
//! Source: Langdale and Lemire 2019, "Parsing gigabytes of JSON per second", section 3.1.

#[cfg(target_arch = "x86_64")]
use crate::index::lanes_unsafe::masks;

#[cfg(not(target_arch = "x86_64"))]
use self::masks_bytewise as masks;

/// The full reader must decide.
#[derive(Debug)]
pub(crate) struct Undecided;

/// Bytes that are looked at together.
pub(crate) const BLOCK: usize = 64;
/// Tokens behind the last one, so that a reader may look ahead: they are at the end of the text.
const LOOKAHEAD: usize = 2;
/// So many positions may be kept from message to message.
const KEPT_MAX: usize = 1 << 18;

/// Tokens of one text; the buffer is used again.
#[derive(Debug, Default)]
pub(crate) struct Structure {
    positions: Vec<u32>,
    count: usize,
    has_escapes: bool,
}

impl Structure {
    /// Finds the tokens of a text. Undecided: a control character in a string, a string without end, or a text too long to number.
    pub fn find(&mut self, text: &str) -> Result<(), Undecided> {
        let bytes = text.as_bytes();
        let end = u32::try_from(bytes.len()).map_err(|_| Undecided)?;
        let needed = bytes.len() + BLOCK + LOOKAHEAD;
        if self.positions.len() < needed {
            self.positions.resize(needed, 0);
        }
        self.count = 0;
        self.has_escapes = false;
        let mut state = State::default();
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let mut from = 0;
        for block in blocks {
            self.add(state.tokens(block)?, from);
            from += BLOCK as u32;
        }
        let mut last = [b' '; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        self.add(state.tokens(&last)?, from);
        self.positions[self.count..self.count + LOOKAHEAD].fill(end);
        self.has_escapes = state.has_escapes;
        if state.inside == 0 { Ok(()) } else { Err(Undecided) }
    }

    #[inline]
    fn add(&mut self, tokens: u64, from: u32) {
        let Some(to) = self.positions.get_mut(self.count..self.count + BLOCK) else { return };
        let mut left = tokens;
        let mut i = 0;
        while left != 0 {
            to[i % BLOCK] = from + left.trailing_zeros();
            left &= left - 1;
            i += 1;
        }
        self.count += i;
    }

    /// The positions in order, then twice the end of the text.
    pub fn positions(&self) -> &[u32] {
        &self.positions[..self.count + LOOKAHEAD]
    }

    /// Whether there is a backslash in the text.
    pub fn has_escapes(&self) -> bool {
        self.has_escapes
    }

    /// Lets a buffer go that one long message has made large.
    pub fn shrink(&mut self) {
        if self.positions.len() > KEPT_MAX {
            *self = Self::default();
        }
    }
}

/// One bit for each byte of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Masks {
    pub quotes: u64,
    /// `{ } [ ] : ,`
    pub operators: u64,
    /// The space and everything below it.
    pub space: u64,
    /// Whether there is a backslash or something below the space.
    pub has_rare: bool,
}

/// What goes over from block to block.
#[derive(Debug, Default)]
struct State {
    /// All bits, when the last block ended in a string.
    inside: u64,
    /// One, when the last byte was the odd backslash that takes the next byte's meaning.
    escapes: u64,
    /// One, when the last byte was of a token that is neither a string nor an operator.
    scalar: u64,
    has_escapes: bool,
}

impl State {
    #[inline]
    fn tokens(&mut self, block: &[u8; BLOCK]) -> Result<u64, Undecided> {
        let masks = masks(block);
        let mut space = masks.space;
        let mut controls = 0;
        let mut escaped = std::mem::take(&mut self.escapes);
        if masks.has_rare {
            let rare = Rare::of(block);
            space &= !rare.controls | rare.blanks;
            controls = rare.controls;
            self.has_escapes |= rare.backslashes != 0;
            (escaped, self.escapes) = escaped_by(rare.backslashes, escaped);
        }
        let quotes = masks.quotes & !escaped;
        // From each opening quote to before its closing one.
        let inside = prefix_xor(quotes) ^ self.inside;
        self.inside = ((inside as i64) >> 63) as u64;
        if controls & inside != 0 {
            return Err(Undecided);
        }
        let operators = masks.operators & !inside;
        let scalars = !(operators | space | inside | quotes);
        let starts = scalars & !(scalars << 1 | self.scalar);
        self.scalar = scalars >> 63;
        Ok(operators | quotes | starts)
    }
}

/// Each bit is the parity of the bits up to it.
#[inline]
fn prefix_xor(mut bits: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << distance;
    }
    bits
}

/// Bytes that few blocks have.
struct Rare {
    backslashes: u64,
    /// Everything below the space.
    controls: u64,
    /// Those of them that are space in JSON.
    blanks: u64,
}

impl Rare {
    #[cold]
    fn of(block: &[u8; BLOCK]) -> Self {
        let mask = |fits: fn(u8) -> bool| block.iter().enumerate().fold(0, |mask, (i, byte)| mask | u64::from(fits(*byte)) << i);
        Self {
            backslashes: mask(|byte| byte == b'\\'),
            controls: mask(|byte| byte < b' '),
            blanks: mask(|byte| matches!(byte, b'\t' | b'\n' | b'\r')),
        }
    }
}

/// The bytes whose meaning a backslash before them takes, and whether the first byte of the next block is one.
fn escaped_by(backslashes: u64, first: u64) -> (u64, u64) {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !first;
    let follows = backslashes << 1 | first;
    let odd_starts = backslashes & !EVEN & !follows;
    let (from_even, carry) = odd_starts.overflowing_add(backslashes);
    ((EVEN ^ from_even << 1) & follows, u64::from(carry))
}

/// Compares byte by byte.
#[cfg_attr(all(target_arch = "x86_64", not(test)), expect(dead_code, reason = "elsewhere there is no other way"))]
fn masks_bytewise(block: &[u8; BLOCK]) -> Masks {
    let mut masks = Masks::default();
    for (i, byte) in block.iter().enumerate() {
        let bit = |is: bool| u64::from(is) << i;
        masks.quotes |= bit(*byte == b'"');
        masks.operators |= bit(matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b','));
        masks.space |= bit(*byte <= b' ');
        masks.has_rare |= *byte == b'\\' || *byte < b' ';
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<Vec<usize>> {
        let mut structure = Structure::default();
        structure.find(text).ok()?;
        let (positions, ends) = structure.positions().split_at(structure.positions().len() - LOOKAHEAD);
        assert!(ends.iter().all(|end| *end as usize == text.len()));
        Some(positions.iter().map(|at| *at as usize).collect())
    }

    /// The same, one byte after the other.
    fn expected(text: &str) -> Option<Vec<usize>> {
        let mut at = Vec::new();
        let (mut is_inside, mut is_escaped, mut was_scalar) = (false, false, false);
        for (i, byte) in text.bytes().enumerate() {
            let is_quote = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            let is_operator = !is_inside && b"{}[]:,".contains(&byte);
            let is_scalar = !(is_inside || is_quote || is_operator || b" \t\n\r".contains(&byte));
            if is_inside && byte < b' ' {
                return None;
            }
            if is_quote || is_operator || (is_scalar && !was_scalar) {
                at.push(i);
            }
            is_inside ^= is_quote;
            was_scalar = is_scalar;
        }
        (!is_inside).then_some(at)
    }

    #[test]
    fn tokens_are_those_of_one_byte_after_the_other() {
        let mut state = 7_u64;
        let mut draw = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        let parts = [
            "\"",
            "\\",
            "\\\\",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            " ",
            "\n",
            "\t",
            "\r",
            "1",
            "true",
            "a",
            "é",
            "\u{1}",
            "\u{7f}",
            "0123456789",
        ];
        let mut found_count = 0;
        for _ in 0..20_000 {
            let plain = draw(3) > 0;
            let text: String = (0..draw(60)).map(|_| parts[draw(if plain { parts.len() - 3 } else { parts.len() })]).collect();
            assert_eq!(found(&text), expected(&text), "{text:?}");
            found_count += usize::from(expected(&text).is_some());
        }
        assert!(found_count > 5_000, "{found_count} are too few to say anything");
        let long = format!("{{\"a\":\"{}\\\"\",\"b\":[1, 2]}}", "x".repeat(200));
        assert_eq!(found(&long), expected(&long));
    }

    #[test]
    fn both_ways_to_compare_agree_on_every_byte() {
        for start in 0..=u8::MAX {
            let block: [u8; BLOCK] = std::array::from_fn(|i| start.wrapping_add(i as u8 * 3));
            assert_eq!(masks(&block), masks_bytewise(&block), "{start}");
            assert_eq!(masks(&[start; BLOCK]), masks_bytewise(&[start; BLOCK]), "{start}");
        }
    }
}
