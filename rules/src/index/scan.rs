//! Reading a payload once, from token to token, into slots: nothing that no rule names becomes a value, and no byte of a skipped string is
//! looked at again once the structure is known.
//!
//! Accepts a part of what the full reader (`payload::parse`) accepts, and sees in it exactly what that one sees. Everything else, errors
//! and duplicate members included, is left to the full reader, so there is one place that words errors.
//! A tape of the whole document would copy what is skipped, and would cost a dependency with other number rules.

use distric_model::limits::NESTING_MAX;
use serde_json::Value;

use crate::index::slots::{Content, Link, Seen, Span, Trie};
use crate::index::structure::{Structure, Undecided};

type Scanned<T> = Result<T, Undecided>;

/// Reads JSON text, whose tokens are known, into slots.
pub(crate) fn scan(text: &str, trie: &Trie, structure: &Structure, seen: &mut Seen) -> Scanned<()> {
    let tokens = structure.positions();
    let mut reader = Reader { text, bytes: text.as_bytes(), tokens, next: 0, has_escapes: structure.has_escapes(), trie, seen };
    // A payload that is no object has no fields.
    if reader.peek() == b'{' {
        reader.object(Trie::ROOT, NESTING_MAX)?
    } else {
        reader.skip(NESTING_MAX)?
    }
    if reader.at() == text.len() { Ok(()) } else { Err(Undecided) }
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
    /// Where tokens begin, and then the end of the text.
    tokens: &'a [u32],
    next: usize,
    has_escapes: bool,
    trie: &'a Trie,
    seen: &'a mut Seen,
}

impl<'a> Reader<'a> {
    /// Where the next token begins.
    #[inline]
    fn at(&self) -> usize {
        // The last token is the end; nobody goes beyond it.
        self.tokens.get(self.next).copied().unwrap_or(u32::MAX) as usize
    }

    /// The first byte of the next token; zero, which begins none, at the end.
    #[inline]
    fn peek(&self) -> u8 {
        self.bytes.get(self.at()).copied().unwrap_or(0)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Scanned<()> {
        if self.peek() != byte {
            return Err(Undecided);
        }
        self.next += 1;
        Ok(())
    }

    /// The members of an object; the next token opens it.
    fn object(&mut self, node: u32, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        self.next += 1;
        self.seen.objects_count += 1;
        let object = self.seen.objects_count;
        if self.peek() == b'}' {
            self.next += 1;
            return Ok(());
        }
        loop {
            match self.name(node)? {
                None => self.skip(levels)?,
                Some(link) => {
                    // Of two members with one name the last counts, and the first may have filled slots already.
                    if std::mem::replace(&mut self.seen.met[link.number], object) == object {
                        return Err(Undecided);
                    }
                    self.value(link.node, true, levels)?;
                }
            }
            match self.peek() {
                b',' => self.next += 1,
                b'}' => {
                    self.next += 1;
                    return Ok(());
                }
                _ => return Err(Undecided),
            }
        }
    }

    /// The name of a member and its colon; the member itself, when some path goes there.
    #[inline]
    fn name(&mut self, node: u32) -> Scanned<Option<&'a Link>> {
        let trie = self.trie;
        // Without escapes a name is what lies between its quotes: three tokens are looked at together.
        if !self.has_escapes
            && let Some(&[open, close, colon]) = self.tokens.get(self.next..).and_then(|tokens| tokens.first_chunk())
        {
            if self.byte(open) != b'"' || self.byte(colon) != b':' {
                return Err(Undecided);
            }
            self.next += 3;
            let name = self.bytes.get(open as usize + 1..close as usize).ok_or(Undecided)?;
            return Ok(trie.link(node, name));
        }
        let name = self.string()?;
        let link = if name.own {
            let link = trie.link(node, &self.seen.own.as_bytes()[name.start..name.end]);
            self.seen.own.truncate(name.start);
            link
        } else {
            trie.link(node, &self.bytes[name.start..name.end])
        };
        self.expect(b':')?;
        Ok(link)
    }

    #[inline]
    fn byte(&self, at: u32) -> u8 {
        self.bytes.get(at as usize).copied().unwrap_or(0)
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
        self.next += 1;
        let mut items_count = 0;
        if self.peek() == b']' {
            self.next += 1;
            return Ok(());
        }
        loop {
            self.value(node, false, levels)?;
            items_count += 1;
            match self.peek() {
                b',' => self.next += 1,
                b']' => break,
                _ => return Err(Undecided),
            }
        }
        self.next += 1;
        if slot.is_some() {
            self.seen.entries[place].content = Content::List(items_count);
        }
        Ok(())
    }

    /// A value that no path leads to: checked, and forgotten.
    #[inline]
    fn skip(&mut self, levels: usize) -> Scanned<()> {
        match self.peek() {
            b'"' => self.skip_string(),
            b't' => self.word("true", Content::Null).map(drop),
            b'f' => self.word("false", Content::Null).map(drop),
            b'n' => self.word("null", Content::Null).map(drop),
            b'{' => self.skip_members(levels),
            b'[' => self.skip_items(levels),
            _ => self.skip_number(),
        }
    }

    #[inline]
    fn skip_string(&mut self) -> Scanned<()> {
        // The structure has a closing quote for every opening one.
        if !self.has_escapes {
            self.expect(b'"')?;
            self.next += 1;
            return Ok(());
        }
        let span = self.string()?;
        if span.own {
            self.seen.own.truncate(span.start);
        }
        Ok(())
    }

    fn skip_members(&mut self, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        self.next += 1;
        if self.peek() == b'}' {
            self.next += 1;
            return Ok(());
        }
        loop {
            self.skip_string()?;
            self.expect(b':')?;
            self.skip(levels)?;
            match self.peek() {
                b',' => self.next += 1,
                _ => return self.expect(b'}'),
            }
        }
    }

    fn skip_items(&mut self, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        self.next += 1;
        if self.peek() == b']' {
            self.next += 1;
            return Ok(());
        }
        loop {
            self.skip(levels)?;
            match self.peek() {
                b',' => self.next += 1,
                _ => return self.expect(b']'),
            }
        }
    }

    fn word(&mut self, word: &str, content: Content) -> Scanned<Content> {
        let at = self.at();
        if !self.bytes[at..].starts_with(word.as_bytes()) {
            return Err(Undecided);
        }
        self.ends_at(at + word.len())?;
        Ok(content)
    }

    /// The token that is being read is a scalar and must be over here.
    #[inline]
    fn ends_at(&mut self, end: usize) -> Scanned<()> {
        self.next += 1;
        match self.bytes.get(end) {
            None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r') => Ok(()),
            _ => Err(Undecided),
        }
    }

    /// A string; its two quotes must be the next tokens.
    #[inline]
    fn string(&mut self) -> Scanned<Span> {
        let start = self.at() + 1;
        self.expect(b'"')?;
        let end = self.at();
        self.next += 1;
        // The structure has a closing quote for every opening one.
        if self.has_escapes && self.bytes[start..end].contains(&b'\\') {
            return self.unescape(start, end);
        }
        Ok(Span { start, end, own: false })
    }

    #[cold]
    fn unescape(&mut self, start: usize, end: usize) -> Scanned<Span> {
        let own = self.seen.own.len();
        let mut rest = &self.text[start..end];
        while let Some(at) = rest.find('\\') {
            self.seen.own.push_str(&rest[..at]);
            let (c, length) = escape(&rest.as_bytes()[at..])?;
            self.seen.own.push(c);
            rest = &rest[at + length..];
        }
        self.seen.own.push_str(rest);
        Ok(Span { start: own, end: self.seen.own.len(), own: true })
    }

    /// A number as the double nearest to it.
    fn number(&mut self) -> Scanned<f64> {
        let start = self.at();
        let mut mantissa = 0;
        let number = Number::read(self.bytes, start, &mut mantissa)?;
        self.ends_at(number.end)?;
        // Exact: a whole number of at most 53 bits, divided by an exact power of ten, is rounded once (Clinger 1990).
        let value = if !number.has_exponent
            && number.whole + number.fraction <= DIGITS_MAX
            && number.fraction < POWERS.len()
            && mantissa <= 1 << 53
        {
            let value = mantissa as f64 / POWERS[number.fraction];
            if self.bytes[start] == b'-' { -value } else { value }
        } else {
            self.text[start..number.end].parse::<f64>().map_err(|_| Undecided)?
        };
        if value.is_finite() { Ok(value) } else { Err(Undecided) }
    }

    /// A number that nobody needs: checked only, unless it may be beyond a double.
    fn skip_number(&mut self) -> Scanned<()> {
        let number = Number::read(self.bytes, self.at(), &mut 0)?;
        if number.has_exponent || number.whole > DIGITS_MAX {
            return self.number().map(drop);
        }
        self.ends_at(number.end)
    }
}

/// The parts of a number.
struct Number {
    end: usize,
    /// Digits before and after the point.
    whole: usize,
    fraction: usize,
    has_exponent: bool,
}

impl Number {
    /// Reads a number, adding its digits to the mantissa, which wraps when there are too many.
    #[inline]
    fn read(bytes: &[u8], start: usize, mantissa: &mut u64) -> Scanned<Self> {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let mut at = start + usize::from(byte(start) == b'-');
        let whole = digits(bytes, at, mantissa);
        if whole == 0 || (whole > 1 && bytes[at] == b'0') {
            return Err(Undecided);
        }
        at += whole;
        let mut fraction = 0;
        if byte(at) == b'.' {
            fraction = digits(bytes, at + 1, mantissa);
            if fraction == 0 {
                return Err(Undecided);
            }
            at += 1 + fraction;
        }
        let has_exponent = matches!(byte(at), b'e' | b'E');
        if has_exponent {
            at += 1;
            at += usize::from(matches!(byte(at), b'+' | b'-'));
            match digits(bytes, at, &mut 0) {
                0 => return Err(Undecided),
                count => at += count,
            }
        }
        Ok(Self { end: at, whole, fraction, has_exponent })
    }
}

/// How many digits there are from here on.
#[inline]
fn digits(bytes: &[u8], from: usize, mantissa: &mut u64) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    for (count, byte) in rest.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return count;
        }
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    rest.len()
}

/// The character that an escape at the start of these bytes stands for, and how many bytes it has.
fn escape(bytes: &[u8]) -> Scanned<(char, usize)> {
    let plain = match bytes.get(1).ok_or(Undecided)? {
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = hex4(bytes, 2)?;
            if !(0xd800..0xdc00).contains(&first) {
                return Ok((char::from_u32(first).ok_or(Undecided)?, 6));
            }
            let second = if bytes.get(6..8) == Some(b"\\u") { hex4(bytes, 8)? } else { 0 };
            if !(0xdc00..0xe000).contains(&second) {
                return Err(Undecided);
            }
            return Ok((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(Undecided)?, 12));
        }
        _ => return Err(Undecided),
    };
    Ok((plain, 2))
}

fn hex4(bytes: &[u8], from: usize) -> Scanned<u32> {
    let digits = bytes.get(from..from + 4).ok_or(Undecided)?;
    digits.iter().try_fold(0, |code, digit| Ok(code * 16 + char::from(*digit).to_digit(16).ok_or(Undecided)?))
}

/// Digits that always fit 64 bits.
const DIGITS_MAX: usize = 19;
/// Powers of ten that are doubles exactly.
const POWERS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];
