//! Fetching a snapshot from another coordinator, on a connection of its own: chunk after chunk, at a bounded pace, and on from where it
//! was when the connection breaks.
//!
//! Lives on: a thread that exists as long as the fetch. Calls block.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use distric_model::GroupId;
use distric_model::limits::FRAME_BYTES_HARD_CAP;
use distric_raft::Install;
use distric_wire::peer::FetchSnapshot;
use distric_wire::{Flags, FrameLimits, PeerMessage, bytes_needed, parse};

use super::hello::{self, Me};
use crate::reactor::clock;

/// The pace of a fetch at most, bytes per second: it shares disk and network with what clients wait for.
pub const FETCH_BYTES_PER_SECOND_MAX: u64 = 64 << 20;
/// So many tries in a row may bring nothing.
const BARREN_TRIES_MAX: u32 = 5;
/// Between two tries, milliseconds.
const RETRY_MS: u64 = 200;
/// Longest wait for an answer, milliseconds.
const ANSWER_MS_MAX: u64 = 5_000;

/// One fetch.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// This node.
    pub me: Me,
    /// Where the other is.
    pub address: Arc<str>,
    /// The group.
    pub group: GroupId,
    /// What to fetch, from whom.
    pub install: Install,
    /// Where to put it.
    pub path: PathBuf,
}

impl Fetch {
    /// Fetches all of it. `is_wanted` is asked before every chunk. Errors: in words, for the log.
    pub fn run(&self, is_wanted: impl Fn() -> bool) -> Result<(), String> {
        let mut file = File::create(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?;
        let mut offset = 0;
        let mut barren_tries = 0;
        loop {
            let before = offset;
            match self.fetch_on(&mut file, &mut offset, &is_wanted) {
                Ok(()) => return Ok(()),
                Err(Broken::ForGood(reason)) => return Err(reason),
                Err(Broken::ForNow(reason)) => {
                    barren_tries = if offset > before { 0 } else { barren_tries + 1 };
                    if barren_tries >= BARREN_TRIES_MAX {
                        return Err(reason);
                    }
                    std::thread::sleep(Duration::from_millis(RETRY_MS));
                }
            }
        }
    }

    fn fetch_on(&self, file: &mut File, offset: &mut u64, is_wanted: &impl Fn() -> bool) -> Result<(), Broken> {
        let now = |error: String| Broken::ForNow(error);
        let mut stream = super::connect(&self.address).map_err(|error| now(error.to_string()))?;
        stream.set_read_timeout(Some(Duration::from_millis(ANSWER_MS_MAX))).map_err(|error| now(error.to_string()))?;
        let mut bytes = Vec::new();
        hello::hello(&self.me, Some(self.install.from), true, clock::now().wall.as_us(), &mut bytes);
        stream.write_all(&bytes).map_err(|error| now(error.to_string()))?;
        let mut reader = Reader { stream, bytes: Vec::new() };
        reader.next(|frame| hello::answered(&frame)).map_err(now)?.map_err(now)?;
        let began = Instant::now();
        let from = *offset;
        loop {
            if !is_wanted() {
                return Err(Broken::ForGood("the node stops".to_owned()));
            }
            let position = self.install.snapshot.position;
            let ask = FetchSnapshot { group: self.group.0, last_term: position.term.0, last_index: position.index.0, offset: *offset };
            bytes.clear();
            distric_wire::encode(&ask, 0, clock::now().wall.as_us(), Flags::NONE, &mut bytes);
            reader.stream.write_all(&bytes).map_err(|error| now(error.to_string()))?;
            let wanted = *offset;
            let (total_bytes, count) = reader
                .next(|frame| {
                    let chunk = match PeerMessage::decode(frame.header.message_type, frame.payload) {
                        Ok(Some(PeerMessage::SnapshotChunk(chunk))) if chunk.group == self.group.0 && chunk.offset == wanted => chunk,
                        _ => return Err("the answer is no chunk of this snapshot".to_owned()),
                    };
                    file.write_all(chunk.data).map_err(|error| format!("{}: {error}", self.path.display()))?;
                    Ok((chunk.total_bytes, chunk.data.len() as u64))
                })
                .map_err(now)?
                .map_err(Broken::ForGood)?;
            *offset += count;
            if total_bytes == 0 {
                return Err(Broken::ForGood("it is not kept any more".to_owned()));
            }
            if *offset >= total_bytes {
                return file.sync_all().map_err(|error| Broken::ForGood(error.to_string()));
            }
            if count == 0 {
                return Err(Broken::ForGood(format!("nothing comes after {offset} of {total_bytes} bytes")));
            }
            let due = Duration::from_micros((*offset - from) * 1_000_000 / FETCH_BYTES_PER_SECOND_MAX);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

enum Broken {
    /// The connection; another try may do.
    ForNow(String),
    /// Another try would bring the same.
    ForGood(String),
}

struct Reader {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Reader {
    /// Reads one frame and lends it. Errors: the connection's, or bytes that are no frame.
    fn next<T>(&mut self, take: impl FnOnce(distric_wire::Frame<'_>) -> T) -> Result<T, String> {
        let limits = FrameLimits { frame_bytes_max: FRAME_BYTES_HARD_CAP };
        self.bytes.clear();
        loop {
            if let Some((frame, _)) = parse(&self.bytes, limits).map_err(|error| error.to_string())? {
                return Ok(take(frame));
            }
            let needed = bytes_needed(&self.bytes, limits).map_err(|error| error.to_string())?;
            let start = self.bytes.len();
            self.bytes.resize(start + needed, 0);
            self.stream.read_exact(&mut self.bytes[start..]).map_err(|error| error.to_string())?;
        }
    }
}
