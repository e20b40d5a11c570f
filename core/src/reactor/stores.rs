//! Opening what a node has on disk: its log, its checkpoints, and whose they are.

use std::io;
use std::path::{Path, PathBuf};

use distric_model::{ClusterId, GroupId, NodeId, Slot};
use distric_raft::{Membership, Recovered};
use distric_raft_store::{
    GroupWrite, Identity, LmdbOptions, LmdbStateStore, LmdbStore, LogStore, SegmentOptions, SegmentStore, StateOptions, StateStore,
};

use super::peers::book::Book;
use super::peers::join;
use super::{StartError, clock};
use crate::config::{Config, LogStoreKind};
use crate::node::checkpoint::Restored;
use crate::node::draw::Draws;
use crate::node::peer::Member;

/// The stores as found, founded or to be filled.
pub struct Opened {
    /// The log.
    pub log: Box<dyn LogStore>,
    /// The checkpoints.
    pub state: Box<dyn StateStore>,
    /// Where snapshots for and from other nodes lie; empty.
    pub transfer_dir: PathBuf,
    /// Whose they are.
    pub identity: Identity,
    /// What they hold.
    pub groups: Vec<OpenGroup>,
    /// Who the other members are, as far as known.
    pub members: Vec<Member>,
    /// The node founded its cluster, or is about to.
    pub is_founder: bool,
}

/// What the stores hold of one group.
pub struct OpenGroup {
    /// The group.
    pub group: GroupId,
    /// Its log, and where its checkpoint stands.
    pub recovered: Recovered,
    /// The machine made from the checkpoint.
    pub state: Option<Restored>,
}

/// Opens log and checkpoints, checks that they belong together, and founds or joins a cluster where there is nothing yet.
///
/// | log | checkpoints | what happens |
/// |---|---|---|
/// | empty, without owner | empty | a cluster is founded, or one is joined |
/// | with owner | of the same owner, or empty | the node goes on |
/// | with owner | of another | refused: a directory was mixed up |
/// | of a group gone | of that group there | refused: its votes and promises are gone |
/// | begins behind an entry that no checkpoint holds | too old or gone | refused when the group is opened |
/// | ends before the checkpoint | newer | a snapshot was being installed: the log begins anew behind it |
/// | torn at its end | any | what was never acknowledged is dropped |
/// | a record damaged | any | refused, with its name |
pub fn open_store(
    config: &Config,
    data_dir: &Path,
    boot: u64,
    record: impl Fn(NodeId) -> Member,
    draws: &mut Draws,
) -> Result<Opened, StartError> {
    let mut store = open_log(config, data_dir)?;
    let mut groups = store.recover()?;
    let found = store.identity();
    let mut state = open_state(config, data_dir)?;
    if found.is_none()
        && let Some(group) = state.groups().first()
    {
        return Err(StartError::LogGone { data_dir: data_dir.to_owned(), group: *group });
    }
    let mut members = Book::of(data_dir).read();
    let joins = !config.cluster.join.is_empty();
    let identity = match found {
        Some(identity) => identity,
        None => {
            let (wall, slot) = (clock::wall(), Slot::truncate(0));
            let node = NodeId::new(wall, slot, draws.draw());
            let cluster = if joins {
                let host = join::ask(&config.cluster.join, node, boot, &record(node)).map_err(|reason| StartError::Join { reason })?;
                tracing::info!(target: "distric_core::peers", event = "cluster_joined", cluster = %host.cluster, through = %host.node, "found the cluster to join");
                members = host.members;
                host.cluster
            } else {
                ClusterId::new(wall, slot, draws.draw())
            };
            // The book first: an identity without one could not find its cluster again.
            if let Err(source) = Book::of(data_dir).write(&members) {
                return Err(StartError::System { what: "write the address book", source });
            }
            let identity = Identity { cluster, node };
            store.set_identity(identity)?;
            identity
        }
    };
    state.set_identity(identity)?;
    // A directory that belongs to a cluster and has no log was on its way into it; one that knows others joined them.
    let is_founder = !joins && members.iter().all(|member| member.node == identity.node);
    if groups.is_empty() && is_founder {
        // Group 0 of a new cluster, with this node as its only voter. Its first leader mints the cluster and opens the others.
        let membership = Membership::new(vec![identity.node], Vec::new()).expect("one voter is a membership");
        let founding = Recovered::founding(&membership);
        let write = GroupWrite {
            group: GroupId::META,
            hard_state: Some(founding.hard_state),
            entries: founding.tail.clone(),
            ..GroupWrite::default()
        };
        store.write(&[write])?;
        groups.push((GroupId::META, founding));
    } else if groups.iter().all(|(group, _)| *group != GroupId::META) {
        groups.push((GroupId::META, Recovered::default()));
    }
    if let Some(group) = state.groups().into_iter().find(|group| groups.iter().all(|(known, _)| known != group)) {
        return Err(StartError::LogGone { data_dir: data_dir.to_owned(), group });
    }
    let groups = groups.into_iter().map(|(group, recovered)| with_checkpoint(&*state, group, recovered)).collect::<Result<_, _>>()?;
    let transfer_dir = data_dir.join("transfer");
    let emptied = std::fs::remove_dir_all(&transfer_dir).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let made = emptied.and_then(|()| std::fs::create_dir(&transfer_dir));
    made.map_err(|source| StartError::System { what: "empty the directory for snapshots on their way", source })?;
    Ok(Opened { log: store, state, transfer_dir, identity, groups, members, is_founder })
}

fn with_checkpoint(store: &dyn StateStore, group: GroupId, mut recovered: Recovered) -> Result<OpenGroup, StartError> {
    let Some(snapshot) = store.snapshot(group) else { return Ok(OpenGroup { group, recovered, state: None }) };
    recovered.checkpoint = Some(snapshot.clone());
    let mut made = None;
    store.read(group, &mut |records| made = Some(Restored::of(group, records)))?;
    let state = made.transpose().map_err(|source| StartError::Checkpoint { group, source })?;
    Ok(OpenGroup { group, recovered, state })
}

fn open_state(config: &Config, data_dir: &Path) -> Result<Box<dyn StateStore>, StartError> {
    let options = StateOptions { map_bytes: config.storage.map_bytes_initial, map_bytes_max: config.storage.map_bytes_max };
    Ok(Box::new(LmdbStateStore::open(&data_dir.join("state"), options)?))
}

fn open_log(config: &Config, data_dir: &Path) -> Result<Box<dyn LogStore>, StartError> {
    let lmdb = (data_dir.join("log"), "lmdb");
    let segment = (data_dir.join("log-segment"), "segment");
    let kind = config.storage.log.unwrap_or(if lmdb.0.exists() { LogStoreKind::Lmdb } else { LogStoreKind::Segment });
    let ((dir, set), (other_dir, made_with)) = match kind {
        LogStoreKind::Lmdb => (lmdb, segment),
        LogStoreKind::Segment => (segment, lmdb),
    };
    // An empty log beside the real one would start a new node with the place of the old.
    if other_dir.exists() {
        return Err(StartError::OtherLog { data_dir: data_dir.to_owned(), set, made_with });
    }
    let bytes_max = config.storage.map_bytes_max;
    Ok(match kind {
        LogStoreKind::Lmdb => {
            let map_bytes = config.storage.map_bytes_initial;
            Box::new(LmdbStore::open(&dir, LmdbOptions { map_bytes, map_bytes_max: bytes_max, ..LmdbOptions::default() })?)
        }
        LogStoreKind::Segment => {
            Box::new(SegmentStore::open(&dir, SegmentOptions { log_bytes_max: bytes_max, ..SegmentOptions::default() })?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_keeps_the_log_store_it_was_made_with() {
        let dir = tempfile::tempdir().unwrap();
        let config = |store: Option<&str>| {
            let flags = store.map(|store| ("storage.log".to_owned(), "--set".to_owned(), store.to_owned())).into_iter().collect();
            crate::config::load(&crate::config::Sources { flags, ..Default::default() }).unwrap().config
        };
        for (made_with, other) in [("segment", "lmdb"), ("lmdb", "segment")] {
            let data_dir = dir.path().join(made_with);
            drop(open_log(&config(Some(made_with)), &data_dir).unwrap());
            drop(open_log(&config(Some(made_with)), &data_dir).unwrap());
            drop(open_log(&config(None), &data_dir).unwrap());
            let error = open_log(&config(Some(other)), &data_dir).err().unwrap().to_string();
            assert!(error.contains("storage.log") && error.contains(made_with), "{error}");
        }
        let data_dir = dir.path().join("new");
        drop(open_log(&config(None), &data_dir).unwrap());
        assert!(data_dir.join("log-segment").exists() && !data_dir.join("log").exists());
    }
}
