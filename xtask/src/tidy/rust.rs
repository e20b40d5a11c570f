//! Rust text as far as the rules need it: tokens with lines, paths with their `use` groups expanded, and what is test code.
//!
//! Comments and the insides of literals are not tokens, so a rule may be named in words without being broken.

use super::tree::Tree;

/// One identifier, number, `::`, or single other character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its text; literals are `""`.
    pub text: &'a str,
    /// Its line, from 1.
    pub line: usize,
}

/// One Rust file.
#[derive(Debug)]
pub struct RustFile<'a> {
    /// Where it is.
    pub path: &'a str,
    /// What it says.
    pub text: &'a str,
    /// Its tokens.
    pub tokens: Vec<Token<'a>>,
    /// For each token whether it belongs to test code.
    pub in_test: Vec<bool>,
}

impl<'a> RustFile<'a> {
    /// All Rust files of the tree.
    pub fn all(tree: &'a Tree) -> Vec<Self> {
        let mut files: Vec<Self> = tree.ending(".rs").map(|(path, text)| Self::new(path, text)).collect();
        let modules: Vec<String> = files.iter().flat_map(RustFile::test_modules).collect();
        for file in &mut files {
            if is_test_path(file.path) || modules.iter().any(|module| is_of_module(file.path, module)) {
                file.in_test.fill(true);
            }
        }
        files
    }

    fn new(path: &'a str, text: &'a str) -> Self {
        let tokens = tokens(text);
        let in_test = test_items(&tokens);
        Self { path, text, tokens, in_test }
    }

    /// Whether all of it is test code.
    pub fn is_test(&self) -> bool {
        is_test_path(self.path) || (!self.tokens.is_empty() && self.in_test.iter().all(|test| *test))
    }

    /// The tokens outside test code, with their positions.
    pub fn code(&self) -> impl Iterator<Item = (usize, Token<'a>)> + '_ {
        self.tokens.iter().copied().enumerate().filter(|(at, _)| !self.in_test[*at])
    }

    /// Whether these tokens stand at this position.
    pub fn reads(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| self.tokens.get(at + n).is_some_and(|token| token.text == *word))
    }

    /// Every path outside test code, `use` groups expanded, with the line of its last segment: `use a::{b, c::d}` is `a::b`, `a::c::d`.
    pub fn paths(&self) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if !self.in_test[at] && is_word(self.tokens[at].text) {
                at = self.path_from(at, "", &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    /// Reads one path or group member. Returns the position after it.
    fn path_from(&self, mut at: usize, before: &str, found: &mut Vec<(String, usize)>) -> usize {
        let mut path = before.to_owned();
        let mut line = self.tokens[at].line;
        loop {
            match self.tokens.get(at) {
                Some(token) if is_word(token.text) => {
                    path = if path.is_empty() { token.text.to_owned() } else { format!("{path}::{}", token.text) };
                    line = token.line;
                    at += 1;
                }
                Some(token) if token.text == "{" && !path.is_empty() && at > 0 && self.tokens[at - 1].text == "::" => {
                    return self.group_from(at + 1, &path, found);
                }
                _ => break,
            }
            match self.tokens.get(at) {
                Some(token) if token.text == "::" => at += 1,
                _ => break,
            }
        }
        found.push((path, line));
        at
    }

    fn group_from(&self, mut at: usize, before: &str, found: &mut Vec<(String, usize)>) -> usize {
        while let Some(token) = self.tokens.get(at) {
            if token.text == "}" {
                return at + 1;
            }
            at = if is_word(token.text) { self.path_from(at, before, found) } else { at + 1 };
        }
        at
    }

    /// Paths without `.rs` of the modules that this file declares for tests only.
    fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let (dir, name) = stem.rsplit_once('/').unwrap_or(("", stem));
        let below = if ["mod", "lib", "main"].contains(&name) { dir } else { stem };
        let mut modules = Vec::new();
        for at in 0..self.tokens.len() {
            if self.in_test[at] && self.tokens[at].text == "mod" && self.tokens.get(at + 2).is_some_and(|token| token.text == ";") {
                modules.push(format!("{below}/{}", self.tokens[at + 1].text));
            }
        }
        modules
    }
}

fn is_of_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Files that only tests and measurements are made of.
fn is_test_path(path: &str) -> bool {
    path.starts_with("testing/")
        || path.starts_with("benches/")
        || path.contains("/tests/")
        || path.starts_with("tests/")
        || path.contains("/benches/")
        || path.ends_with("/tests.rs")
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Cuts a text into tokens.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        let rest = &text[at..];
        match bytes[at] {
            b'\n' | b' ' | b'\t' | b'\r' => at += 1,
            b'/' if rest.starts_with("//") => at += rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => at += block_comment(rest),
            b'"' => at += quoted(rest),
            b'\'' => at += char_or_lifetime(rest),
            _ if literal_prefix(rest).is_some() => at += literal_prefix(rest).unwrap_or(1),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                at += rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len()).max(1);
                found.push(Token { text: &text[start..at], line });
            }
            b':' if rest.starts_with("::") => {
                at += 2;
                found.push(Token { text: "::", line });
            }
            _ => {
                at += rest.chars().next().map_or(1, char::len_utf8);
                found.push(Token { text: &text[start..at], line });
            }
        }
        if matches!(bytes[start], b'"') || literal_prefix(rest).is_some() {
            found.push(Token { text: "", line });
        }
        line += text[start..at].matches('\n').count();
    }
    found
}

/// Length of a block comment, nested ones included.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a quoted string that begins here.
fn quoted(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a prefixed or raw string that begins here: `b"…"`, `r"…"`, `br#"…"#`, `c"…"`. A raw identifier is none.
fn literal_prefix(rest: &str) -> Option<usize> {
    let letters = rest.find(|c: char| !matches!(c, 'b' | 'c' | 'r')).filter(|n| (1..=2).contains(n))?;
    let after = &rest[letters..];
    if !rest[..letters].contains('r') {
        return after.starts_with('"').then(|| letters + quoted(after));
    }
    let hashes = after.find(|c| c != '#').unwrap_or(after.len());
    let body = after.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |n| n + end.len());
    Some(letters + hashes + 1 + length)
}

/// Length of a character literal or of a lifetime's quote and name.
fn char_or_lifetime(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[2..].find(['\'']).map_or(rest.len(), |n| if rest[2..].starts_with('\'') { 4 } else { n + 3 }),
        Some((at, c)) => match chars.next() {
            Some((after, '\'')) => after + 1,
            _ if c.is_alphabetic() || c == '_' => {
                rest[at..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(rest.len(), |n| at + n)
            }
            _ => 1,
        },
        None => 1,
    }
}

/// Marks the items under a `#[cfg(test)]` in any of its forms, and the whole file under `#![cfg(test)]`.
fn test_items(tokens: &[Token<'_>]) -> Vec<bool> {
    let mut marks = vec![false; tokens.len()];
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut at = 0;
    while at < tokens.len() {
        if word(at) != "#" {
            at += 1;
            continue;
        }
        let inner = word(at + 1) == "!";
        let open = at + 1 + usize::from(inner);
        if word(open) != "[" {
            at += 1;
            continue;
        }
        let close = closing(tokens, open);
        if !asks_for_tests(&tokens[open..close]) {
            at = close;
            continue;
        }
        let end = if inner { tokens.len() } else { item_end(tokens, close) };
        marks[at..end].fill(true);
        at = end;
    }
    marks
}

/// `cfg(test)`, `cfg(all(test, …))`; not `cfg(not(test))`. Also `test` itself, as an attribute of a function.
fn asks_for_tests(attribute: &[Token<'_>]) -> bool {
    let words: Vec<&str> = attribute.iter().map(|token| token.text).collect();
    if words == ["[", "test", "]"] {
        return true;
    }
    words.get(1) == Some(&"cfg") && (2..words.len()).any(|n| words[n] == "test" && !(words[n - 1] == "(" && words[n - 2] == "not"))
}

/// The position after the item that follows: after its `;`, or after its braces.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "}" => return at,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// The position after the bracket that closes the one here.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text).into_iter().map(|token| token.text).filter(|text| !text.is_empty()).collect()
    }

    #[test]
    fn comments_and_literals_are_no_words() {
        assert_eq!(words("a // b\n/* c /* d */ e */ \"f\\\"g\" h"), ["a", "h"]);
        assert_eq!(words(r###"a r#"b "c" d"# e br"f" g b"h" i c"j" k"###), ["a", "e", "g", "i", "k"]);
        assert_eq!(words(r"x 'a' '\'' '\n' '\u{1f}' '\\' y"), ["x", "y"]);
        assert_eq!(
            words("fn f<'a>(b: &'a str, c: &'static u8)"),
            ["fn", "f", "<", ">", "(", "b", ":", "&", "str", ",", "c", ":", "&", "u8", ")"]
        );
        assert_eq!(words("rb bcr r#type"), ["rb", "bcr", "r", "#", "type"]);
        assert_eq!(words("'é' ä '…' b"), ["ä", "b"]);
    }

    #[test]
    fn lines_go_on_through_literals() {
        let found = tokens("a \"x\ny\" b\n/* \n */ c");
        let lines: Vec<_> = found.iter().filter(|token| !token.text.is_empty()).map(|token| (token.text, token.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 2), ("c", 4)]);
    }

    #[test]
    fn groups_are_expanded_to_paths() {
        let file = RustFile::new("a/src/b.rs", "use std::{fs, io::{self, Read},\n time::Instant};\nfn f() { std::thread::spawn(g) }");
        let paths = file.paths();
        for (path, line) in
            [("std::fs", 1), ("std::io::self", 1), ("std::io::Read", 1), ("std::time::Instant", 2), ("std::thread::spawn", 3)]
        {
            assert!(paths.contains(&(path.to_owned(), line)), "{path} is not in {paths:?}");
        }
    }

    #[test]
    fn what_tests_are_made_of_is_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\n#[cfg(not(test))]\nfn c() {}\n\
                    #[cfg(all(test, not(loom)))]\n#[allow(x)]\nfn d(e: [u8; 3]) { f() }\nfn g() {}\n#[test]\nfn h() {}";
        let file = RustFile::new("a/src/b.rs", text);
        let names: Vec<_> = file.code().map(|(_, token)| token.text).filter(|text| text.len() == 1 && is_word(text)).collect();
        assert_eq!(names, ["a", "c", "g"]);
    }

    #[test]
    fn a_module_declared_for_tests_makes_its_files_test_code() {
        let tree = Tree::of(&[
            ("a/src/b.rs", "#[cfg(test)]\nmod world;\nmod other;"),
            ("a/src/b/world.rs", "fn w() {}"),
            ("a/src/b/world/deep.rs", "fn w() {}"),
            ("a/src/b/other.rs", "fn w() {}"),
            ("a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod samples;"),
            ("a/src/samples/mod.rs", "fn w() {}"),
            ("a/tests/x.rs", "fn w() {}"),
        ]);
        let tests: Vec<_> = RustFile::all(&tree).iter().filter(|file| file.is_test()).map(|file| file.path).collect();
        assert_eq!(tests, ["a/src/b/world.rs", "a/src/b/world/deep.rs", "a/src/samples/mod.rs", "a/tests/x.rs"]);
    }
}
