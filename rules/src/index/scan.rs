//! Reading a payload once, from left to right, into slots: nothing that no rule names becomes a value.
//!
//! Accepts a part of what the full reader (`payload::parse`) accepts, and sees in it exactly what that one sees. Everything else, errors
//! and duplicate members included, is left to the full reader, so there is one place that words errors.
//! A tape of the whole document would be as fast for what rules use, and would cost a copy and a dependency with other number rules.

use distric_model::limits::NESTING_MAX;
use serde_json::Value;

use crate::index::slots::{Content, Seen, Span, Trie};

/// The full reader must decide.
#[derive(Debug)]
pub(crate) struct Undecided;

type Scanned<T> = Result<T, Undecided>;

/// Reads JSON text into slots.
pub(crate) fn scan(text: &str, trie: &Trie, seen: &mut Seen) -> Scanned<()> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, trie, seen };
    reader.space();
    // A payload that is no object has no fields.
    if reader.peek() == b'{' {
        reader.object(Trie::ROOT, NESTING_MAX)?
    } else {
        reader.skip(NESTING_MAX)?
    }
    reader.space();
    if reader.at == reader.bytes.len() { Ok(()) } else { Err(Undecided) }
}

/// Reads a parsed payload into slots.
pub(crate) fn read_value(payload: &Value, trie: &Trie, seen: &mut Seen) {
    if payload.is_object() {
        read_node(payload, trie, Trie::ROOT, true, seen);
    }
}

fn read_node(value: &Value, trie: &Trie, node: u32, direct: bool, seen: &mut Seen) {
    let slot = trie.slot(node);
    let content = match value {
        Value::Object(members) => {
            if let Some(slot) = slot.filter(|_| direct) {
                seen.add_node(slot);
            }
            for link in trie.links(node) {
                if let Some(member) = members.get(&link.name) {
                    read_node(member, trie, link.node, true, seen);
                }
            }
            return;
        }
        Value::Array(items) => {
            if let Some(slot) = slot.filter(|_| direct) {
                seen.add(slot, Content::List(items.len() as u32), true);
            }
            items.iter().for_each(|item| read_node(item, trie, node, false, seen));
            return;
        }
        _ if slot.is_none() => return,
        Value::Null => Content::Null,
        Value::Bool(b) => Content::Bool(*b),
        Value::Number(number) => match number.as_f64() {
            Some(number) => Content::Number(number),
            None => return,
        },
        Value::String(text) => Content::Text(seen.own(text)),
    };
    if let Some(slot) = slot {
        seen.add(slot, content, direct);
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    trie: &'a Trie,
    seen: &'a mut Seen,
}

impl Reader<'_> {
    /// The next byte; zero, which no JSON has, at the end.
    #[inline]
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Scanned<()> {
        if self.peek() != byte {
            return Err(Undecided);
        }
        self.at += 1;
        Ok(())
    }

    /// The members of an object; the next byte opens it.
    fn object(&mut self, node: u32, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        self.at += 1;
        self.seen.objects_count += 1;
        let object = self.seen.objects_count;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.string()?;
            let trie = self.trie;
            let link = if name.own {
                let link = trie.link(node, &self.seen.own[name.start..name.end]);
                self.seen.own.truncate(name.start);
                link
            } else {
                trie.link(node, &self.text[name.start..name.end])
            };
            self.space();
            self.expect(b':')?;
            self.space();
            match link {
                None => self.skip(levels)?,
                Some(link) => {
                    // Of two members with one name the last counts, and the first may have filled slots already.
                    if std::mem::replace(&mut self.seen.met[link.number], object) == object {
                        return Err(Undecided);
                    }
                    self.value(link.node, true, levels)?;
                }
            }
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Undecided),
            }
            self.space();
        }
    }

    /// A value that paths lead to. An element of a list is not direct: it is a leaf of the path that leads to the list.
    fn value(&mut self, node: u32, direct: bool, levels: usize) -> Scanned<()> {
        let slot = self.trie.slot(node);
        let content = match self.peek() {
            b'{' => {
                if let Some(slot) = slot.filter(|_| direct) {
                    self.seen.add_node(slot);
                }
                return self.object(node, levels);
            }
            b'[' => return self.list(node, slot.filter(|_| direct), levels),
            b'"' => Content::Text(self.string()?),
            b't' => self.word("true", Content::Bool(true))?,
            b'f' => self.word("false", Content::Bool(false))?,
            b'n' => self.word("null", Content::Null)?,
            _ => Content::Number(self.number()?),
        };
        if let Some(slot) = slot {
            self.seen.add(slot, content, direct);
        }
        Ok(())
    }

    fn list(&mut self, node: u32, slot: Option<u32>, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        // The length is not known yet.
        let place = self.seen.entries.len();
        if let Some(slot) = slot {
            self.seen.add(slot, Content::List(0), true);
        }
        self.at += 1;
        self.space();
        let mut items_count = 0;
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(node, false, levels)?;
            items_count += 1;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(Undecided),
            }
            self.space();
        }
        self.at += 1;
        if slot.is_some() {
            self.seen.entries[place].content = Content::List(items_count);
        }
        Ok(())
    }

    /// A value that no path leads to: checked, and forgotten.
    fn skip(&mut self, levels: usize) -> Scanned<()> {
        match self.peek() {
            b'"' => {
                let span = self.string()?;
                if span.own {
                    self.seen.own.truncate(span.start);
                }
            }
            b't' => drop(self.word("true", Content::Null)?),
            b'f' => drop(self.word("false", Content::Null)?),
            b'n' => drop(self.word("null", Content::Null)?),
            b'{' => return self.skip_members(levels),
            b'[' => return self.skip_items(levels),
            _ => drop(self.number()?),
        }
        Ok(())
    }

    fn skip_members(&mut self, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        self.at += 1;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.string()?;
            if name.own {
                self.seen.own.truncate(name.start);
            }
            self.space();
            self.expect(b':')?;
            self.space();
            self.skip(levels)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                _ => break,
            }
            self.space();
        }
        self.expect(b'}')
    }

    fn skip_items(&mut self, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        self.at += 1;
        self.space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip(levels)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                _ => break,
            }
            self.space();
        }
        self.expect(b']')
    }

    fn word(&mut self, word: &str, content: Content) -> Scanned<Content> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(Undecided);
        }
        self.at += word.len();
        Ok(content)
    }

    /// A string; the next byte must open it.
    #[inline]
    fn string(&mut self) -> Scanned<Span> {
        self.expect(b'"')?;
        let start = self.at;
        let mut at = start;
        // Eight bytes at a time to the first quote, backslash or control character.
        while let Some(word) = self.bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes were asked for"));
            let stops = zero_bytes(word ^ (ONES * b'"' as u64)) | zero_bytes(word ^ (ONES * b'\\' as u64)) | below_space(word);
            if stops != 0 {
                return self.string_ends(start, at + stops.trailing_zeros() as usize / 8);
            }
            at += 8;
        }
        while at < self.bytes.len() && !matches!(self.bytes[at], b'"' | b'\\' | ..b' ') {
            at += 1;
        }
        self.string_ends(start, at)
    }

    #[inline]
    fn string_ends(&mut self, start: usize, end: usize) -> Scanned<Span> {
        match self.bytes.get(end) {
            Some(b'"') => {
                self.at = end + 1;
                Ok(Span { start, end, own: false })
            }
            Some(b'\\') => self.unescape(start, end),
            _ => Err(Undecided),
        }
    }

    #[cold]
    fn unescape(&mut self, start: usize, end: usize) -> Scanned<Span> {
        let own = self.seen.own.len();
        self.seen.own.push_str(&self.text[start..end]);
        self.at = end;
        loop {
            let plain = self.at;
            while !matches!(self.peek(), b'"' | b'\\' | ..b' ') {
                self.at += 1;
            }
            self.seen.own.push_str(&self.text[plain..self.at]);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(Span { start: own, end: self.seen.own.len(), own: true });
                }
                b'\\' => {
                    self.at += 1;
                    let c = self.escape()?;
                    self.seen.own.push(c);
                }
                _ => return Err(Undecided),
            }
        }
    }

    fn escape(&mut self) -> Scanned<char> {
        let byte = self.peek();
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => byte as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).ok_or(Undecided);
                }
                self.expect(b'\\')?;
                self.expect(b'u')?;
                let second = self.hex4()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(Undecided);
                }
                char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(Undecided)?
            }
            _ => return Err(Undecided),
        })
    }

    fn hex4(&mut self) -> Scanned<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(Undecided)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| Ok(code * 16 + char::from(*digit).to_digit(16).ok_or(Undecided)?))
    }

    /// A number as the double nearest to it.
    fn number(&mut self) -> Scanned<f64> {
        let start = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let mut mantissa = 0_u64;
        let whole = self.digits(&mut mantissa);
        if whole == 0 || (whole > 1 && self.bytes[self.at - whole] == b'0') {
            return Err(Undecided);
        }
        let mut fraction = 0;
        if self.peek() == b'.' {
            self.at += 1;
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return Err(Undecided);
            }
        }
        let has_exponent = matches!(self.peek(), b'e' | b'E');
        if has_exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            if self.digits(&mut 0) == 0 {
                return Err(Undecided);
            }
        }
        // Exact: a whole number of at most 53 bits, divided by an exact power of ten, is rounded once (Clinger 1990).
        let number = if !has_exponent && whole + fraction <= DIGITS_MAX && fraction < POWERS.len() && mantissa <= 1 << 53 {
            let number = mantissa as f64 / POWERS[fraction];
            if negative { -number } else { number }
        } else {
            self.text[start..self.at].parse::<f64>().map_err(|_| Undecided)?
        };
        if number.is_finite() { Ok(number) } else { Err(Undecided) }
    }

    /// Reads digits, adding them to the mantissa, which wraps when there are too many. Returns how many.
    #[inline]
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let start = self.at;
        while let digit @ b'0'..=b'9' = self.peek() {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        self.at - start
    }
}

/// Digits that always fit 64 bits.
const DIGITS_MAX: usize = 19;
/// Powers of ten that are doubles exactly.
const POWERS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that is zero; bytes above the lowest such one may be marked wrongly.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The high bit of each byte below the space, exact up to the lowest such one.
#[inline]
fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * b' ' as u64) & !word & HIGHS
}
