//! Tokens of an expression, one at a time, so that a template can find where its expression ends.

use super::{ExprError, ExprErrorKind, position_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    End,
    /// A name or a word such as `in`, `true`; the parser tells them apart.
    Word,
    /// A name between backticks, for fields that are no words.
    QuotedWord,
    Int,
    Uint,
    Double,
    Text,
    /// An operator or a bracket: its text says which.
    Mark,
}

/// A token is a range of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

const MARKS_OF_TWO: [&str; 6] = ["==", "!=", "<=", ">=", "&&", "||"];
const MARKS_OF_ONE: &str = "()[]{}.,?:+-*/%!<>";

/// The token at or after byte `from`, which must be a character boundary. `base` is what error positions count from.
pub(super) fn next_token(text: &str, from: usize) -> Result<Token, ExprError> {
    let start = skip_blank(text, from);
    let rest = &text[start..];
    let Some(first) = rest.chars().next() else {
        return Ok(Token { kind: TokenKind::End, start, end: start });
    };
    let token = |kind, bytes: usize| Ok(Token { kind, start, end: start + bytes });
    if let Some((prefix_bytes, raw)) = string_prefix(rest) {
        return token(TokenKind::Text, prefix_bytes + string_bytes(text, start, prefix_bytes, raw)?);
    }
    if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
        return number(text, start);
    }
    if first.is_ascii_alphabetic() || first == '_' || first == '$' {
        return token(TokenKind::Word, 1 + rest[1..].find(|c: char| !is_word(c)).unwrap_or(rest.len() - 1));
    }
    if first == '`' {
        return match rest[1..].find(['`', '\n']) {
            Some(length) if length > 0 && rest[1 + length..].starts_with('`') => token(TokenKind::QuotedWord, length + 2),
            _ => Err(syntax(text, start, "a name that starts with ` does not end with `".into())),
        };
    }
    if MARKS_OF_TWO.iter().any(|mark| rest.starts_with(mark)) {
        return token(TokenKind::Mark, 2);
    }
    if MARKS_OF_ONE.contains(first) {
        return token(TokenKind::Mark, 1);
    }
    let hint = match first {
        '=' => " (comparison is `==`)",
        '&' => " (and is `&&`)",
        '|' => " (or is `||`)",
        _ => "",
    };
    Err(syntax(text, start, format!("unexpected character `{}`{hint}", first.escape_default())))
}

/// The text that a string token stands for.
pub(super) fn string_value(text: &str, token: Token) -> Result<String, ExprError> {
    let written = &text[token.start..token.end];
    let (prefix_bytes, raw) = string_prefix(written).expect("a text token starts as a string does");
    let quote_bytes = quote_bytes(&written[prefix_bytes..]);
    let body_start = token.start + prefix_bytes + quote_bytes;
    let body = &text[body_start..token.end - quote_bytes];
    if raw || !body.contains('\\') {
        return Ok(body.to_owned());
    }
    let mut value = String::with_capacity(body.len());
    let mut at = 0;
    while let Some(offset) = body[at..].find('\\') {
        value.push_str(&body[at..at + offset]);
        at += offset;
        let (character, bytes) =
            escaped(&body[at..]).ok_or_else(|| syntax(text, body_start + at, "this escape is not known in a string".into()))?;
        value.push(character);
        at += bytes;
    }
    value.push_str(&body[at..]);
    Ok(value)
}

/// A syntax error at byte `at`.
pub(super) fn syntax(text: &str, at: usize, message: String) -> ExprError {
    let (line, column) = position_of(text, at);
    ExprError { message, line, column, kind: ExprErrorKind::Syntax }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn skip_blank(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']).len();
        at += blank;
        if !text[at..].starts_with("//") {
            return at;
        }
        at += text[at..].find('\n').unwrap_or(text.len() - at);
    }
}

/// The bytes before the quote, and whether escapes are off; `None` when no string starts here.
fn string_prefix(rest: &str) -> Option<(usize, bool)> {
    match rest.as_bytes() {
        [b'"' | b'\'', ..] => Some((0, false)),
        [b'r' | b'R', b'"' | b'\'', ..] => Some((1, true)),
        _ => None,
    }
}

/// Three quotes or one.
fn quote_bytes(quoted: &str) -> usize {
    if quoted.starts_with("\"\"\"") || quoted.starts_with("'''") { 3 } else { 1 }
}

/// The length of a string with its quotes, without its prefix.
fn string_bytes(text: &str, start: usize, prefix_bytes: usize, raw: bool) -> Result<usize, ExprError> {
    let quoted = &text[start + prefix_bytes..];
    let quote = &quoted[..quote_bytes(quoted)];
    let bytes = quoted.as_bytes();
    let mut at = quote.len();
    while at < bytes.len() {
        if bytes[at..].starts_with(quote.as_bytes()) {
            return Ok(at + quote.len());
        }
        match bytes[at] {
            b'\\' if !raw => at += 2,
            b'\n' if quote.len() == 1 => break,
            _ => at += 1,
        }
    }
    Err(syntax(text, start, "this string does not end".into()))
}

/// The character that an escape stands for, and the bytes of the escape.
fn escaped(escape: &str) -> Option<(char, usize)> {
    let digits = |from: usize, count: usize, radix: u32| {
        let digits = escape.get(from..from + count)?;
        let all_digits = digits.chars().all(|c| c.is_digit(radix));
        let code = if all_digits { u32::from_str_radix(digits, radix).ok()? } else { return None };
        Some((char::from_u32(code)?, from + count))
    };
    let simple = match escape.as_bytes().get(1)? {
        b'a' => '\x07',
        b'b' => '\x08',
        b'f' => '\x0c',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'v' => '\x0b',
        b @ (b'\\' | b'\'' | b'"' | b'`' | b'?') => char::from(*b),
        b'x' | b'X' => return digits(2, 2, 16),
        b'u' => return digits(2, 4, 16),
        b'U' => return digits(2, 8, 16),
        b'0'..=b'3' => return digits(1, 3, 8),
        _ => return None,
    };
    Some((simple, 2))
}

fn number(text: &str, start: usize) -> Result<Token, ExprError> {
    let bytes = text.as_bytes();
    let digits_end = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut kind = TokenKind::Int;
    let mut end;
    if bytes[start] == b'0' && matches!(bytes.get(start + 1), Some(b'x' | b'X')) {
        end = start + 2;
        while bytes.get(end).is_some_and(u8::is_ascii_hexdigit) {
            end += 1;
        }
    } else {
        end = digits_end(start);
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            kind = TokenKind::Double;
            end = digits_end(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            kind = TokenKind::Double;
            end += 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if !bytes.get(end).is_some_and(u8::is_ascii_digit) {
                return Err(syntax(text, start, "this number has no digits in its exponent".into()));
            }
            end = digits_end(end);
        }
    }
    if kind == TokenKind::Int && matches!(bytes.get(end), Some(b'u' | b'U')) {
        kind = TokenKind::Uint;
        end += 1;
    }
    if text[end..].starts_with(is_word) {
        return Err(syntax(text, start, "a number is followed by a letter".into()));
    }
    Ok(Token { kind, start, end })
}
