//! JSON (RFC 8259) to a positioned tree. Strict: no comments, no trailing commas, no duplicate keys.

use distric_model::limits::NESTING_MAX;

use super::{DOCUMENT_NODES_MAX, Fault, Key, Node, NodeValue, Position, duplicate_key, scalar};

/// Reads one JSON document; nothing but white space may follow it.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    read(text, true)
}

/// As [`parse`], for a text that nobody sees: its nodes have no places.
pub(super) fn parse_without_places(text: &str) -> Result<Node, Fault> {
    read(text, false)
}

fn read(text: &str, has_places: bool) -> Result<Node, Fault> {
    let mut reader = Reader { text, offset: 0, at: Position { line: 1, column: 1 }, nodes_count: 0, has_places };
    reader.skip_space();
    let root = reader.value(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(root),
        Some(c) => Err(reader.fault(format!("{c:?} follows the document"), "the end of the text")),
    }
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
    at: Position,
    nodes_count: usize,
    has_places: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.offset..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.offset += c.len_utf8();
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn skip(&mut self) {
        self.next();
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.next();
        }
    }

    /// Where the next node starts, as the node says it.
    fn place(&self) -> Position {
        if self.has_places { self.at } else { Position::default() }
    }

    fn fault(&self, message: impl Into<String>, expected: &str) -> Fault {
        Fault::new(self.at, message, Some(expected))
    }

    fn unexpected(&self, expected: &str) -> Fault {
        match self.peek() {
            Some(c) => self.fault(format!("{c:?} does not belong here"), expected),
            None => self.fault("the text ends too early", expected),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        let at = self.place();
        self.nodes_count += 1;
        if self.nodes_count > DOCUMENT_NODES_MAX {
            return Err(self.fault("the text has more values than DOCUMENT_NODES_MAX", &format!("at most {DOCUMENT_NODES_MAX}")));
        }
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => NodeValue::String(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('t' | 'f' | 'n') => self.word()?,
            _ => return Err(self.unexpected("a JSON value")),
        };
        Ok(Node { value, at })
    }

    fn open(&mut self, depth: usize) -> Result<(), Fault> {
        if depth >= NESTING_MAX {
            return Err(self.fault("the text nests deeper than NESTING_MAX", &format!("at most {NESTING_MAX} levels")));
        }
        self.next();
        self.skip_space();
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<NodeValue, Fault> {
        self.open(depth)?;
        let mut members: Vec<(Key, Node)> = Vec::new();
        if self.peek() == Some('}') {
            self.next();
            return Ok(NodeValue::Map(members));
        }
        loop {
            if self.peek() != Some('"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let at = self.place();
            let key = Key { text: self.string()?, at };
            self.skip_space();
            if self.peek() != Some(':') {
                return Err(self.unexpected("`:` after the key"));
            }
            self.next();
            self.skip_space();
            members.push((key, self.value(depth + 1)?));
            self.skip_space();
            match self.peek() {
                Some(',') => self.skip(),
                Some('}') => break self.skip(),
                _ => return Err(self.unexpected("`,` or `}`")),
            }
            self.skip_space();
        }
        match duplicate_key(&members) {
            Some(fault) => Err(fault),
            None => Ok(NodeValue::Map(members)),
        }
    }

    fn array(&mut self, depth: usize) -> Result<NodeValue, Fault> {
        self.open(depth)?;
        let mut items = Vec::new();
        if self.peek() == Some(']') {
            self.next();
            return Ok(NodeValue::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(',') => self.skip(),
                Some(']') => break self.skip(),
                _ => return Err(self.unexpected("`,` or `]`")),
            }
            self.skip_space();
        }
        Ok(NodeValue::List(items))
    }

    fn word(&mut self) -> Result<NodeValue, Fault> {
        for (word, value) in [("true", NodeValue::Bool(true)), ("false", NodeValue::Bool(false)), ("null", NodeValue::Null)] {
            if self.text[self.offset..].starts_with(word) {
                word.chars().for_each(|_| self.skip());
                return Ok(value);
            }
        }
        Err(self.unexpected("a JSON value"))
    }

    fn number(&mut self) -> Result<NodeValue, Fault> {
        let (at, start) = (self.at, self.offset);
        while matches!(self.peek(), Some('0'..='9' | '+' | '-' | '.' | 'e' | 'E')) {
            self.next();
        }
        let text = &self.text[start..self.offset];
        let fault =
            |message: &str| Fault::new(at, format!("{message}: `{}`", text.chars().take(40).collect::<String>()), Some("a JSON number"));
        if !is_json_number(text) {
            return Err(fault("not a number of JSON"));
        }
        match scalar::number(text) {
            Ok(Some(number)) => Ok(NodeValue::Number(number)),
            Ok(None) => Err(fault("not a number of JSON")),
            Err(message) => Err(fault(message)),
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.next();
        let mut out = String::new();
        loop {
            let rest = &self.text[self.offset..];
            let plain = rest.bytes().position(|byte| !(b' '..0x80).contains(&byte) || matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.offset += plain;
            self.at.column += plain as u32;
            let at = self.at;
            match self.next() {
                Some('"') => return Ok(out),
                Some('\\') => out.push(self.escape(at)?),
                Some(c) if c < ' ' => return Err(Fault::new(at, format!("the character {c:?} inside a string"), Some("its escape"))),
                Some(c) => out.push(c),
                None => return Err(self.unexpected("`\"` at the end of the string")),
            }
        }
    }

    fn escape(&mut self, at: Position) -> Result<char, Fault> {
        let fault = || Fault::new(at, "an escape that JSON does not know", Some(r#"one of \" \\ \/ \b \f \n \r \t \uXXXX"#));
        Ok(match self.next().ok_or_else(fault)? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let lone = || Fault::new(at, "half of a surrogate pair", Some("both halves"));
                let high = self.hex4().ok_or_else(fault)?;
                if (0xd800..0xdc00).contains(&high) {
                    if self.next() != Some('\\') || self.next() != Some('u') {
                        return Err(lone());
                    }
                    let low = self.hex4().ok_or_else(fault)?;
                    let code = 0x1_0000 + ((high - 0xd800) << 10) + low.wrapping_sub(0xdc00);
                    char::from_u32(code).filter(|_| (0xdc00..0xe000).contains(&low)).ok_or_else(lone)?
                } else {
                    char::from_u32(high).ok_or_else(lone)?
                }
            }
            _ => return Err(fault()),
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |code, _| Some(code * 16 + self.next()?.to_digit(16)?))
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?`
pub(crate) fn is_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    digits(whole) && (whole.len() == 1 || !whole.starts_with('0')) && fraction.is_none_or(digits) && exponent.is_none_or(digits)
}
