//! The state writer: makes checkpoints durable, copies them to files for other nodes, and takes in those that were fetched.
//!
//! Lives on: one thread; calls block, and nobody waits for it to acknowledge a message. A failed write is final, as for the log.
//! Files for and from other nodes lie in a directory of their own, which is emptied at every start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use distric_lane::Sleeper;
use distric_model::GroupId;
use distric_raft::{Install, LogIndex, Position, Snapshot};
use distric_raft_store::{DeviceError, SnapshotFile, StateStore, write_snapshot};
use distric_wire::Flags;
use distric_wire::peer::SnapshotChunk;

use super::clock;
use super::control::Control;
use super::mesh::{Inbox, Post, StateLetter, StateReply};
use crate::node::checkpoint::{Checkpoint, Restored};
use crate::node::consensus::Export;

/// How much of a snapshot goes into one answer, bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
/// How long the writer sleeps at most, microseconds: a stop is noticed then, should its bell be lost.
const SLEEP_US_MAX: u64 = 500_000;
/// Between two tries to hand over what a full lane did not take, microseconds.
const OVERFLOW_RETRY_US: u64 = 200;

/// What the thread is started with.
pub struct StateWriter {
    /// The checkpoints.
    pub store: Box<dyn StateStore>,
    /// Where files for other nodes lie.
    pub transfer_dir: PathBuf,
    /// The file that is kept for each group.
    pub exported: BTreeMap<GroupId, (Snapshot, File)>,
}

/// Runs until the raft core is done, or the device fails.
pub fn run(mut writer: StateWriter, mut post: Post, mut inbox: Inbox<StateLetter>, sleeper: &Sleeper, control: &Control) {
    loop {
        while let Some(letter) = inbox.pop() {
            match writer.on_letter(letter) {
                Ok(reply) => post.reply_of_state(reply),
                Err(error) => return control.fail("state writer", error.to_string()),
            }
            post.ring();
        }
        let flushed = post.ring();
        if inbox.is_empty() {
            if control.log_is_closed() {
                return;
            }
            if sleeper.prepare(|| inbox.is_empty()) {
                sleeper.wait(Some(if flushed { SLEEP_US_MAX } else { OVERFLOW_RETRY_US }));
            }
        }
    }
}

impl StateWriter {
    /// Errors: final, of a write.
    fn on_letter(&mut self, letter: StateLetter) -> Result<StateReply, DeviceError> {
        match letter {
            StateLetter::Checkpoint(checkpoint) => self.on_checkpoint(&checkpoint),
            StateLetter::Export(export) => Ok(self.on_export(export)),
            StateLetter::Install { group, install, path } => self.on_install(group, install, &path),
            StateLetter::Chunk { conn, group, position, offset } => Ok(StateReply::Chunk(conn, self.chunk(group, position, offset))),
        }
    }

    fn on_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<StateReply, DeviceError> {
        let Checkpoint { group, snapshot, changes } = checkpoint;
        // One that a fetched snapshot has overtaken is not news; what is there counts then.
        let began_ns = clock::mono_ns();
        self.store.commit(*group, snapshot, changes)?;
        let took_us = (clock::mono_ns() - began_ns) / 1_000;
        let stored = self.store.snapshot(*group).unwrap_or(snapshot).clone();
        tracing::debug!(target: "distric_core::state_writer", event = "checkpoint", group = %group, index = stored.position.index.0, records = changes.len(), took_us, "checkpoint");
        Ok(StateReply::Checkpointed { group: *group, snapshot: stored, took_us })
    }

    /// Nothing of this node depends on the file, so an error is only said.
    fn on_export(&mut self, export: Export) -> StateReply {
        let Export { group, to, at_least } = export;
        let snapshot = match self.exported.get(&group) {
            Some((snapshot, _)) if snapshot.position.index >= at_least => Some(snapshot.clone()),
            _ => self.export(group, at_least).unwrap_or_else(|error| {
                tracing::warn!(target: "distric_core::state_writer", group = %group, error = %error, "a snapshot for another node cannot be made");
                None
            }),
        };
        StateReply::Exported { group, to, snapshot }
    }

    fn export(&mut self, group: GroupId, at_least: LogIndex) -> Result<Option<Snapshot>, DeviceError> {
        if self.store.snapshot(group).is_none_or(|snapshot| snapshot.position.index < at_least) {
            return Ok(None);
        }
        let path = self.transfer_dir.join(format!("for-others-{}", group.0));
        let failed = |source| DeviceError::Io { op: "open snapshot", path: path.clone(), source };
        // Whoever still reads the old file goes on with it no longer than its next question.
        self.exported.remove(&group);
        let Some(snapshot) = write_snapshot(&*self.store, group, &path)? else { return Ok(None) };
        let file = File::open(&path).map_err(failed)?;
        self.exported.insert(group, (snapshot.clone(), file));
        tracing::info!(target: "distric_core::state_writer", event = "snapshot_made", group = %group, index = snapshot.position.index.0, "a snapshot for another node");
        Ok(Some(snapshot))
    }

    fn chunk(&self, group: GroupId, position: Position, offset: u64) -> Vec<u8> {
        let (total_bytes, data) = self.read_chunk(group, position, offset).unwrap_or_else(|error| {
            tracing::warn!(target: "distric_core::state_writer", group = %group, error = %error, "a snapshot for another node cannot be read");
            (0, Vec::new())
        });
        let mut frame = Vec::new();
        let chunk = SnapshotChunk { group: group.0, offset, total_bytes, data: &data };
        distric_wire::encode(&chunk, 0, clock::wall().as_us(), Flags::NONE, &mut frame);
        frame
    }

    fn read_chunk(&self, group: GroupId, position: Position, offset: u64) -> io::Result<(u64, Vec<u8>)> {
        let Some((_, file)) = self.exported.get(&group).filter(|(snapshot, _)| snapshot.position == position) else {
            return Ok((0, Vec::new()));
        };
        let total_bytes = file.metadata()?.len();
        let count = usize::try_from(total_bytes.saturating_sub(offset)).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let mut data = vec![0; count];
        file.read_exact_at(&mut data, offset)?;
        Ok((total_bytes, data))
    }

    /// Only a file that was read to its end, fits what was offered and makes a machine replaces what is here.
    fn on_install(&mut self, group: GroupId, install: Install, path: &Path) -> Result<StateReply, DeviceError> {
        let checked = self.machine_of(group, &install.snapshot, path);
        let state = match checked {
            Ok((file, state)) => {
                let mut records = file.records()?;
                let replaced = self.store.replace(group, file.snapshot(), file.bytes(), &mut records)?;
                replaced.then_some(state)
            }
            Err(reason) => {
                tracing::error!(target: "distric_core::state_writer", event = "snapshot_unusable", group = %group, from = %install.from, reason, "a snapshot of another node is of no use");
                None
            }
        };
        if let Err(error) = fs::remove_file(path) {
            tracing::debug!(target: "distric_core::state_writer", error = %error, "a fetched snapshot stays until the next start");
        }
        if state.is_some() {
            let index = install.snapshot.position.index.0;
            tracing::info!(target: "distric_core::state_writer", event = "snapshot_installed", group = %group, index, from = %install.from, "caught up by a snapshot");
        }
        Ok(StateReply::Installed { group, install, state })
    }

    fn machine_of(&self, group: GroupId, wanted: &Snapshot, path: &Path) -> Result<(SnapshotFile, Restored), String> {
        let file = SnapshotFile::open(path).map_err(|error| error.to_string())?;
        if file.group() != group || file.snapshot() != wanted {
            return Err(format!("it is that of {} at {}, wanted was {}", file.group(), file.snapshot().position, wanted.position));
        }
        let records: Vec<(Vec<u8>, Vec<u8>)> =
            file.records().and_then(Iterator::collect::<Result<_, _>>).map_err(|error| error.to_string())?;
        let state = Restored::of(group, records.iter().map(|(key, value)| (&key[..], &value[..]))).map_err(|error| error.to_string())?;
        Ok((file, state))
    }
}
