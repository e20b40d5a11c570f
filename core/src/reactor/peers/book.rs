//! The address book: where the members were when this node last heard of it. Read at the start, before group 0 can be.
//!
//! A hint, not a promise: what it says is checked by the hello of whoever answers there. So it is written without a flush.

use std::io;
use std::path::{Path, PathBuf};

use crate::node::peer::Member;

/// Its file in the data directory.
const FILE: &str = "members.json";

/// The book of one data directory.
#[derive(Clone, Debug)]
pub struct Book(PathBuf);

impl Book {
    /// The book in a data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self(data_dir.join(FILE))
    }

    /// What it says; nothing when there is none or it cannot be read.
    pub fn read(&self) -> Vec<Member> {
        let Ok(bytes) = std::fs::read(&self.0) else { return Vec::new() };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(target: "distric_core::peers", file = %self.0.display(), error = %error, "the address book cannot be read; the members are learnt anew");
            Vec::new()
        })
    }

    /// Replaces it.
    pub fn write(&self, members: &[Member]) -> io::Result<()> {
        let temporary = self.0.with_extension("tmp");
        std::fs::write(&temporary, serde_json::to_vec_pretty(members).expect("records are plain data"))?;
        std::fs::rename(&temporary, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_model::{NodeId, Slot, Timestamp};

    #[test]
    fn a_book_is_found_again_and_a_torn_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::of(dir.path());
        assert!(book.read().is_empty());
        let node = NodeId::new(Timestamp::from_us(1), Slot::truncate(0), 7);
        let member = crate::node::shard::own_record(node, "a", "127.0.0.1:1", "127.0.0.1:2");
        book.write(std::slice::from_ref(&member)).unwrap();
        assert_eq!(book.read(), [member]);
        std::fs::write(dir.path().join(FILE), "[{").unwrap();
        assert!(book.read().is_empty());
    }
}
