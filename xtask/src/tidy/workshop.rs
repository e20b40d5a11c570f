//! Words of the workshop: notes to oneself, ticket numbers, paths of one machine. None of them belongs into the work.

use super::finding::Finding;
use super::tree::Tree;

pub const NAME: &str = "workshop";

/// Written in halves, so that this file may list them. Compared without regard to case where they are all lower case.
const WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "a note to oneself"),
    (concat!("FIX", "ME"), "a note to oneself"),
    (concat!("XX", "X"), "a note to oneself"),
    (concat!("issue", " #"), "a ticket number"),
    (concat!("issue", "s/"), "a link to a ticket"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
];

pub fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.files() {
        for (n, line) in text.lines().enumerate() {
            for (word, what) in WORDS {
                if says(line, word) {
                    findings.push(Finding::new(path, n + 1, NAME, format!("`{word}` is {what}")));
                }
            }
        }
    }
}

/// Whether a line has the word, not as a part of a longer one.
fn says(line: &str, word: &str) -> bool {
    let lowered;
    let line = if word.chars().any(char::is_uppercase) {
        line
    } else {
        lowered = line.to_ascii_lowercase();
        &lowered
    };
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (first, last) = (word.chars().next(), word.chars().next_back());
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        !(letter(first) && letter(before)) && !(letter(last) && letter(after))
    })
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;

    #[test]
    fn each_word_is_found_in_any_file() {
        for (word, _) in WORDS {
            for path in ["a/src/b.rs", "docs/a.md", ".ci/run", "Cargo.toml"] {
                assert_eq!(said(check, &[(path, &format!("one\n see {word} here\n"))]).len(), 1, "{word} in {path}");
            }
        }
        assert_eq!(said(check, &[("a.md", concat!("see Is", "sue #7"))]).len(), 1);
    }

    #[test]
    fn longer_words_are_left_alone() {
        assert_eq!(said(check, &[("a.md", "the mastodon, TODOS, XXXL, network/x, frameworks")]), [""; 0]);
    }
}
