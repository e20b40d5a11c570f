//! The last words of a plugin: a bounded piece of text that forgets its beginning.

use std::collections::VecDeque;

/// How much of what a plugin wrote is told with a failure, bytes.
pub(crate) const TAIL_BYTES_MAX: usize = 2_048;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<u8>);

impl Tail {
    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        let excess = (self.0.len() + bytes.len()).saturating_sub(TAIL_BYTES_MAX);
        self.0.drain(..excess.min(self.0.len()));
        self.0.extend(bytes);
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: &str) {
        self.push(text.as_bytes());
        self.push(b"\n");
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The text; what is not UTF-8 or not printable is replaced.
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text.trim().chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let mut tail = Tail::default();
        tail.line("first");
        tail.push(&[b'x'; 3 * TAIL_BYTES_MAX]);
        tail.push(b"last \x1b[0m\xff\n");
        let text = tail.text();
        assert!(text.len() <= TAIL_BYTES_MAX + 8 && !text.contains("first") && text.ends_with("last \u{fffd}[0m\u{fffd}"), "{text}");
        tail.clear();
        assert_eq!(tail.text(), "");
    }
}
