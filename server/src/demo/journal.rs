//! The client's own journal: what it was told is safe, on its own disk before it believes it.
//!
//! In: acknowledgements.  Out: a file of JSON lines; an acknowledgement counts once its line is flushed with `fdatasync`.
//! A thread of its own writes what has arrived while the last flush ran, so that one flush serves many.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use uuid::Uuid;

/// Acknowledgements that may wait for the disk; more wait in line.
const LINES_WAITING_MAX: usize = 1_024;

/// One acknowledged message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Position in the stream.
    pub event: usize,
    /// Its idempotency key.
    pub key: String,
    /// The id that the node gave it.
    pub message_id: Uuid,
    /// The instances that it started.
    pub instances: Vec<Uuid>,
    /// Whether the node said that it had it already.
    pub repeat: bool,
}

/// The open journal.
pub struct Journal {
    path: PathBuf,
    lines: Option<Sender<Acknowledged>>,
    flushed: watch::Receiver<u64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Journal {
    /// Opens or creates a journal. Errors: the system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (lines, waiting) = channel(LINES_WAITING_MAX);
        let (count, flushed) = watch::channel(0);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || write(file, waiting, &count))?;
        Ok(Self { path: path.to_owned(), lines: Some(lines), flushed, thread: Some(thread) })
    }

    /// Hands an acknowledgement to the writer. It counts when [`Self::flushed`] says so.
    pub fn sender(&self) -> Sender<Acknowledged> {
        self.lines.clone().expect("a journal takes lines until it is closed")
    }

    /// How many lines this journal has made durable since it was opened.
    pub fn flushed(&self) -> watch::Receiver<u64> {
        self.flushed.clone()
    }

    /// Flushes what was handed over and closes. All senders must be gone. Errors: the disk's.
    pub fn close(mut self) -> io::Result<()> {
        self.lines = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(io::Error::other("the journal's thread ended with a panic")),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn write(mut file: File, mut waiting: Receiver<Acknowledged>, count: &watch::Sender<u64>) -> io::Result<()> {
    let mut batch = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        batch.clear();
        let mut lines = 1;
        append(&mut batch, &first)?;
        while let Ok(next) = waiting.try_recv() {
            append(&mut batch, &next)?;
            lines += 1;
        }
        file.write_all(&batch)?;
        file.sync_data()?;
        count.send_modify(|flushed| *flushed += lines);
    }
    Ok(())
}

fn append(batch: &mut Vec<u8>, line: &Acknowledged) -> io::Result<()> {
    serde_json::to_writer(&mut *batch, line)?;
    batch.push(b'\n');
    Ok(())
}

/// Reads a journal back. The last line may be torn: it was never counted.
pub fn read(path: &Path) -> io::Result<Vec<Acknowledged>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_read_back_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acknowledged.jsonl");
        let journal = Journal::open(&path).unwrap();
        let sender = journal.sender();
        let line = |event| Acknowledged { event, key: format!("k{event}"), message_id: Uuid::nil(), instances: vec![], repeat: false };
        for event in 0..100 {
            sender.blocking_send(line(event)).unwrap();
        }
        drop(sender);
        let flushed = journal.flushed();
        journal.close().unwrap();
        assert_eq!(*flushed.borrow(), 100);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"event\":1").unwrap();
        let back = read(&path).unwrap();
        assert_eq!((back.len(), &back[99]), (100, &line(99)));
    }
}
