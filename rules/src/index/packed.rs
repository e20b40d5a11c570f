//! Reading a MessagePack payload once, from token to token, into slots: as [`scan`](super::scan) does for JSON, and with its fate for everything
//! odd. The full reader decides about errors and about members of one name, so that one place words errors.

use distric_model::limits::NESTING_MAX;

use crate::index::slots::{Content, Seen, Trie};
use crate::index::structure::Undecided;
use crate::packed::{Token, Tokens};

type Scanned<T> = Result<T, Undecided>;

/// Reads a payload into slots.
pub(crate) fn scan(payload: &[u8], trie: &Trie, seen: &mut Seen) -> Scanned<()> {
    let mut reader = Reader { tokens: Tokens::new(payload), trie, seen };
    // A payload that is no map has no fields.
    match reader.next()? {
        Token::Members(count) => reader.members(Trie::ROOT, count, NESTING_MAX)?,
        other => reader.skip(other, NESTING_MAX)?,
    }
    reader.tokens.end().map_err(|_| Undecided)
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    trie: &'a Trie,
    seen: &'a mut Seen,
}

impl<'a> Reader<'a> {
    #[inline]
    fn next(&mut self) -> Scanned<Token<'a>> {
        self.tokens.read().map_err(|_| Undecided)
    }

    fn members(&mut self, node: u32, count: usize, levels: usize) -> Scanned<()> {
        let levels = levels.checked_sub(1).ok_or(Undecided)?;
        self.seen.objects_count += 1;
        let object = self.seen.objects_count;
        for _ in 0..count {
            let name = self.tokens.name().map_err(|_| Undecided)?;
            let trie = self.trie;
            let value = self.next()?;
            match trie.link(node, name.as_bytes()) {
                None => self.skip(value, levels)?,
                Some(link) => {
                    // Of two members with one name the last counts, and the first may have filled slots already.
                    if std::mem::replace(&mut self.seen.met[link.number], object) == object {
                        return Err(Undecided);
                    }
                    self.value(link.node, value, true, levels)?;
                }
            }
        }
        Ok(())
    }

    /// A value that paths lead to. An element of a list is not direct: it is a leaf of the path that leads to the list.
    fn value(&mut self, node: u32, value: Token<'a>, direct: bool, levels: usize) -> Scanned<()> {
        let slot = self.trie.slot(node);
        let content = match value {
            Token::Members(count) => {
                if let Some(slot) = slot.filter(|_| direct) {
                    self.seen.add_node(slot);
                }
                return self.members(node, count, levels);
            }
            Token::List(count) => {
                let levels = levels.checked_sub(1).ok_or(Undecided)?;
                if let Some(slot) = slot.filter(|_| direct) {
                    self.seen.add(slot, Content::List(u32::try_from(count).map_err(|_| Undecided)?), true);
                }
                for _ in 0..count {
                    let item = self.next()?;
                    self.value(node, item, false, levels)?;
                }
                return Ok(());
            }
            Token::Null => Content::Null,
            Token::Bool(b) => Content::Bool(b),
            // As JSON's numbers are: the double nearest to it.
            Token::Whole(number) => Content::Number(number as f64),
            Token::Natural(number) => Content::Number(number as f64),
            Token::Number(number) => Content::Number(number),
            Token::Text(_) if slot.is_none() => return Ok(()),
            Token::Text(text) => Content::Text(self.seen.own(text)),
        };
        if let Some(slot) = slot {
            self.seen.add(slot, content, direct);
        }
        Ok(())
    }

    /// A value that no path leads to: checked, and forgotten.
    fn skip(&mut self, value: Token<'a>, levels: usize) -> Scanned<()> {
        match value {
            Token::List(count) => {
                let levels = levels.checked_sub(1).ok_or(Undecided)?;
                for _ in 0..count {
                    let item = self.next()?;
                    self.skip(item, levels)?;
                }
            }
            Token::Members(count) => {
                let levels = levels.checked_sub(1).ok_or(Undecided)?;
                for _ in 0..count {
                    self.tokens.name().map_err(|_| Undecided)?;
                    let member = self.next()?;
                    self.skip(member, levels)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
