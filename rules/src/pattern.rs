//! Patterns over text: regular expressions in linear time, wildcards, RFC 3339 instants.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Longest regular expression, bytes.
pub const REGEX_BYTES_MAX: usize = 4_096;
/// Largest compiled regular expression, bytes. A counted repetition such as `(\d{99}){99}` is refused by it.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 256 << 10;
/// Memory that one regular expression may use for its lazily built automaton, bytes.
const REGEX_CACHE_BYTES: usize = 256 << 10;
/// Deepest nesting of a regular expression.
const REGEX_NESTING_MAX: u32 = 64;

/// A compiled regular expression: unanchored search, `$` only at the end of the text, `\d \w \s \b` ASCII.
///
/// Linear in the text (finite automata only: no look-around, no back-references).
#[derive(Clone)]
pub(crate) struct Pattern(Arc<Compiled>);

struct Compiled {
    regex: meta::Regex,
    matches_all: bool,
    literals: Vec<Box<[u8]>>,
}

thread_local! {
    /// Patterns that are in use, by their text: one text is compiled once, and what a reload does not change is not compiled again.
    static COMPILED: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    patterns: BTreeMap<Box<str>, Weak<Compiled>>,
    /// At this size those no longer in use are dropped.
    sweep_len: usize,
}

/// Fewer known patterns are not looked through for ones no longer in use.
const SWEEP_LEN_MIN: usize = 1_024;

impl Known {
    fn insert(&mut self, text: &str, pattern: &Arc<Compiled>) {
        if self.patterns.len() >= self.sweep_len {
            self.patterns.retain(|_, known| known.strong_count() > 0);
            self.sweep_len = (self.patterns.len() * 2).max(SWEEP_LEN_MIN);
        }
        self.patterns.insert(text.into(), Arc::downgrade(pattern));
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pattern")
    }
}

impl Pattern {
    /// Compiles. Errors: a message for the author: bad syntax, too long, too large when compiled.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > REGEX_BYTES_MAX {
            return Err(format!("the regular expression is longer than REGEX_BYTES_MAX ({REGEX_BYTES_MAX} bytes)"));
        }
        if let Some(known) = COMPILED.with_borrow(|known| known.patterns.get(text).and_then(Weak::upgrade)) {
            return Ok(Self(known));
        }
        let compiled = Arc::new(Compiled::new(text)?);
        COMPILED.with_borrow_mut(|known| known.insert(text, &compiled));
        Ok(Self(compiled))
    }

    /// Whether it matches somewhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.regex.is_match(text)
    }

    /// Whether it matches in every text.
    pub fn matches_all(&self) -> bool {
        self.0.matches_all
    }

    /// Bytes that it takes, without what it builds while it searches.
    pub fn program_bytes(&self) -> u64 {
        self.0.regex.memory_usage() as u64
    }

    /// Literals that every match includes: none, or the longest ones.
    pub fn literals(&self) -> &[Box<[u8]>] {
        &self.0.literals
    }
}

impl Compiled {
    fn new(text: &str) -> Result<Self, String> {
        let ascii = with_ascii_classes(text)?;
        let config = syntax::Config::new().nest_limit(REGEX_NESTING_MAX);
        let hir =
            syntax::parse_with(&ascii, &config).map_err(|error| format!("bad regular expression: {}", one_line(&error.to_string())))?;
        let limits = meta::Config::new()
            .nfa_size_limit(Some(REGEX_PROGRAM_BYTES_MAX))
            .hybrid_cache_capacity(REGEX_CACHE_BYTES)
            .onepass_size_limit(Some(REGEX_PROGRAM_BYTES_MAX))
            .dfa(false);
        let regex = meta::Builder::new().configure(limits).build_from_hir(&hir).map_err(|error| match error.size_limit() {
            Some(limit) => format!("the regular expression is larger than REGEX_PROGRAM_BYTES_MAX ({limit} bytes) when compiled"),
            None => format!("bad regular expression: {error}"),
        })?;
        Ok(Self { regex, matches_all: matches_all(&hir), literals: required_literals(&hir) })
    }
}

/// Most literals that are kept of one expression: the longest say the most, and each costs a look.
const LITERALS_MAX: usize = 3;
/// Bytes at which a literal is cut: the rest of a long one adds nothing.
const LITERAL_BYTES_MAX: usize = 32;

fn required_literals(hir: &Hir) -> Vec<Box<[u8]>> {
    fn collect(hir: &Hir, found: &mut Vec<Box<[u8]>>) {
        match hir.kind() {
            HirKind::Literal(literal) => found.push(literal.0[..literal.0.len().min(LITERAL_BYTES_MAX)].into()),
            HirKind::Capture(capture) => collect(&capture.sub, found),
            HirKind::Repetition(repetition) if repetition.min > 0 => collect(&repetition.sub, found),
            HirKind::Concat(parts) => parts.iter().for_each(|part| collect(part, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(hir, &mut found);
    found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    found.dedup();
    found.truncate(LITERALS_MAX);
    found
}

/// Writes `\d \w \s \b` and their negations as ASCII classes: Unicode ones are several times larger and slower, and rules mean ASCII.
fn with_ascii_classes(text: &str) -> Result<String, String> {
    let parsed = ast::parse::ParserBuilder::new().nest_limit(REGEX_NESTING_MAX).build().parse(text);
    let tree = parsed.map_err(|error| format!("bad regular expression: {} at character {}", error.kind(), error.span().start.column))?;
    let mut found = ast::visit(&tree, Shorthands(Vec::new())).unwrap_or_default();
    found.sort_by_key(|(start, ..)| *start);
    let mut out = String::with_capacity(text.len() + found.len() * 8);
    let mut done = 0;
    for (start, end, replacement) in found {
        out.push_str(&text[done..start]);
        out.push_str(replacement);
        done = end;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Byte ranges of class shorthands in a regular expression, with what to write instead.
struct Shorthands(Vec<(usize, usize, &'static str)>);

impl Shorthands {
    fn perl(&mut self, class: &ast::ClassPerl) {
        let ascii = match (&class.kind, class.negated) {
            (ast::ClassPerlKind::Digit, false) => "[0-9]",
            (ast::ClassPerlKind::Digit, true) => "[^0-9]",
            (ast::ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ast::ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
            (ast::ClassPerlKind::Space, false) => r"[\t\n\x0B\x0C\r\x20]",
            (ast::ClassPerlKind::Space, true) => r"[^\t\n\x0B\x0C\r\x20]",
        };
        self.0.push((class.span.start.offset, class.span.end.offset, ascii));
    }
}

impl ast::Visitor for Shorthands {
    type Output = Vec<(usize, usize, &'static str)>;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<Self::Output, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::ClassPerl(class) => self.perl(class),
            Ast::Assertion(assertion) => {
                let ascii = match assertion.kind {
                    ast::AssertionKind::WordBoundary => r"(?-u:\b)",
                    ast::AssertionKind::NotWordBoundary => r"(?-u:\B)",
                    _ => return Ok(()),
                };
                self.0.push((assertion.span.start.offset, assertion.span.end.offset, ascii));
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Self::Err> {
        if let ast::ClassSetItem::Perl(class) = item {
            self.perl(class);
        }
        Ok(())
    }
}

/// Whether an unanchored search finds something in every text: an empty match is possible at the start or at the end.
fn matches_all(hir: &Hir) -> bool {
    let empty_anywhere = |hir: &Hir| hir.properties().minimum_len() == Some(0) && hir.properties().look_set().is_empty();
    let any = |hir: &Hir| match hir.kind() {
        HirKind::Repetition(repetition) => repetition.min == 0 && repetition.max.is_none() && is_any_char(&repetition.sub),
        _ => false,
    };
    let is = |hir: &Hir, look: Look| matches!(hir.kind(), HirKind::Look(l) if *l == look);
    match hir.kind() {
        HirKind::Look(Look::Start | Look::End) => true,
        HirKind::Concat(parts) => {
            let starts = parts.first().is_some_and(|part| is(part, Look::Start));
            let ends = parts.last().is_some_and(|part| is(part, Look::End));
            let inner = &parts[usize::from(starts)..parts.len() - usize::from(ends)];
            inner.iter().all(empty_anywhere) && (!(starts && ends) || inner.iter().any(any))
        }
        _ => empty_anywhere(hir),
    }
}

/// `(?s:.)`; also `.`, which leaves out line ends only.
fn is_any_char(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            let mut missing = class.clone();
            missing.negate();
            missing.iter().all(|range| range.start() == '\n' && range.end() == '\n')
        }
        _ => false,
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A whole-text pattern in which `*` stands for any text; `\*` is a star and `\\` a backslash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wildcard {
    /// The texts between the stars; one part means no star.
    parts: Vec<String>,
}

impl Wildcard {
    /// Reads a wildcard; every text is one.
    pub fn parse(text: &str) -> Self {
        let mut parts = vec![String::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let last = parts.last_mut().expect("there is always a part being written");
            match c {
                '*' => parts.push(String::new()),
                '\\' if matches!(chars.peek(), Some('*' | '\\')) => last.extend(chars.next()),
                c => last.push(c),
            }
        }
        Self { parts }
    }

    /// Whether the whole text fits. Leftmost search for each inner part: no backtracking.
    pub fn is_match(&self, text: &str) -> bool {
        let (first, rest) = self.parts.split_first().expect("a wildcard has a part");
        let Some((last, inner)) = rest.split_last() else {
            return text == first;
        };
        let Some(mut text) = text.strip_prefix(first.as_str()).and_then(|text| text.strip_suffix(last.as_str())) else {
            return false;
        };
        for part in inner {
            match text.find(part.as_str()) {
                Some(at) => text = &text[at + part.len()..],
                None => return false,
            }
        }
        true
    }

    /// Texts that every text that fits has in it.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(String::as_str).filter(|part| !part.is_empty())
    }

    /// Whether it is nothing but stars.
    pub fn matches_all(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(String::is_empty)
    }
}

/// Reads an RFC 3339 date and time (section 5.6), nanosecond precision; `None` when the text is none.
pub(crate) fn parse_instant(text: &str) -> Option<jiff::Timestamp> {
    let bytes = text.as_bytes();
    // jiff reads more than RFC 3339 allows (no seconds, zone names, a space before the offset), so the form is checked first.
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let is = |i: usize, among: &[u8]| bytes.get(i).is_some_and(|b| among.contains(b));
    let fixed = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].into_iter().all(digit)
        && is(4, b"-")
        && is(7, b"-")
        && is(10, b"Tt ")
        && is(13, b":")
        && is(16, b":");
    if !fixed {
        return None;
    }
    let mut at = 19;
    if is(at, b".") {
        at += 1;
        if !digit(at) {
            return None;
        }
        while digit(at) {
            at += 1;
        }
    }
    let zulu = is(at, b"Zz") && bytes.len() == at + 1;
    let offset =
        is(at, b"+-") && digit(at + 1) && digit(at + 2) && is(at + 3, b":") && digit(at + 4) && digit(at + 5) && bytes.len() == at + 6;
    if !zulu && !offset {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern).unwrap().is_match(text)
    }

    #[test]
    fn a_search_is_unanchored_and_dollar_is_the_end_of_the_text() {
        assert!(is_match("b+", "abba") && !is_match("^b", "abba"));
        assert!(is_match("a$", "ba") && !is_match("a$", "ba\n"));
        assert!(!is_match("^b$", "a\nb\nc"));
    }

    #[test]
    fn shorthand_classes_are_ascii() {
        for (pattern, yes, no) in [
            (r"^\d$", "7", "\u{0667}"),
            (r"^\w$", "_", "\u{e9}"),
            (r"^[\w.]$", ".", "\u{e9}"),
            (r"^\s$", "\t", "\u{a0}"),
            (r"^\D$", "\u{0667}", "7"),
            (r"^[^\d]$", "\u{0667}", "7"),
            (r"^[\D]$", "\u{0667}", "7"),
            (r"x\b", "x\u{e9}", "xy"),
            (r"^.$", "\u{e9}", "ab"),
            (r"^\\d$", r"\d", "7"),
        ] {
            assert!(is_match(pattern, yes) && !is_match(pattern, no), "{pattern}");
        }
    }

    #[test]
    fn bad_and_large_expressions_are_refused() {
        for (pattern, message) in [
            ("a(", "bad regular expression: unclosed group at character 2"),
            (r"(a)\1", "bad regular expression: backreferences are not supported at character 4"),
            ("(?=a)", "bad regular expression: look-around, including look-ahead and look-behind, is not supported at character 1"),
            (r"(\w{99}){99}", "the regular expression is larger than REGEX_PROGRAM_BYTES_MAX (262144 bytes) when compiled"),
        ] {
            assert_eq!(Pattern::compile(pattern).unwrap_err(), message);
        }
        assert!(Pattern::compile(&"a".repeat(REGEX_BYTES_MAX + 1)).unwrap_err().contains("REGEX_BYTES_MAX"));
        assert!(Pattern::compile(&"(".repeat(2_000)).is_err());
    }

    #[test]
    fn expressions_that_match_everything_are_known() {
        for pattern in ["", "a*", ".*", "^", "$", "^.*", ".*$", "^.*$", "(?s)^.*$", "a?|b", "(?:x*)*"] {
            assert!(Pattern::compile(pattern).unwrap().matches_all(), "{pattern}");
        }
        for pattern in ["a", "^$", "^a*$", ".", ".+", r"\b", "^.*x$"] {
            assert!(!Pattern::compile(pattern).unwrap().matches_all(), "{pattern}");
        }
    }

    #[test]
    fn wildcards_fit_the_whole_text() {
        for (pattern, yes, no) in [
            ("a*c", "abbc", "abcd"),
            ("*.test", "mail.test", "mail.tests"),
            ("abc", "abc", "abcd"),
            ("a*b*c", "a-b-b-c", "acb"),
            ("ab*ba", "abba", "aba"),
            (r"\*x\\", r"*x\", "ax"),
            ("*é*", "café au", "cafe"),
        ] {
            let wildcard = Wildcard::parse(pattern);
            assert!(wildcard.is_match(yes) && !wildcard.is_match(no), "{pattern}");
            assert!(!wildcard.matches_all());
        }
        assert!(Wildcard::parse("**").matches_all() && Wildcard::parse("*").is_match("") && !Wildcard::parse("").matches_all());
    }

    #[test]
    fn instants_are_rfc_3339_and_nothing_else() {
        let at = |text| parse_instant(text).map(jiff::Timestamp::as_microsecond);
        assert_eq!(at("1970-01-01T00:00:01Z"), Some(1_000_000));
        assert_eq!(at("1970-01-01T01:00:01.5+01:00"), Some(1_500_000));
        assert_eq!(at("1970-01-01t00:00:01z"), at("1970-01-01 00:00:01-00:00"));
        for text in [
            "1970-01-01",
            "1970-01-01T00:00Z",
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:01+01",
            "1970-01-01T00:00:01Z[UTC]",
            "1970-13-01T00:00:01Z",
            "1970-01-01T00:00:01.Z",
            "",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
