//! Checkpoints in memory, for tests and simulations. A clone is a copy of the disk as it is.

use std::collections::BTreeMap;

use distric_model::{Change, GroupId};
use distric_raft::Snapshot;

use super::{OwnedRecord, RecordIter, StateStore, is_news};
use crate::error::DeviceError;
use crate::identity::Identity;

/// A [`StateStore`] in memory; what it was told is durable at once.
#[derive(Clone, Debug, Default)]
pub struct MemoryStateStore {
    groups: BTreeMap<GroupId, (Snapshot, Records)>,
    identity: Option<Identity>,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

impl MemoryStateStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StateStore for MemoryStateStore {
    fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    fn snapshot(&self, group: GroupId) -> Option<&Snapshot> {
        self.groups.get(&group).map(|(snapshot, _)| snapshot)
    }

    fn commit(&mut self, group: GroupId, snapshot: &Snapshot, changes: &[Change]) -> Result<bool, DeviceError> {
        if !is_news(self.snapshot(group), snapshot) {
            return Ok(false);
        }
        let (stored, records) = self.groups.entry(group).or_insert_with(|| (snapshot.clone(), BTreeMap::new()));
        *stored = snapshot.clone();
        for change in changes {
            match &change.value {
                Some(value) => records.insert(change.key.clone(), value.clone()),
                None => records.remove(&change.key),
            };
        }
        Ok(true)
    }

    fn replace(
        &mut self,
        group: GroupId,
        snapshot: &Snapshot,
        _bytes: u64,
        records: &mut dyn Iterator<Item = Result<OwnedRecord, DeviceError>>,
    ) -> Result<bool, DeviceError> {
        if !is_news(self.snapshot(group), snapshot) {
            return Ok(false);
        }
        let records = records.collect::<Result<_, _>>()?;
        self.groups.insert(group, (snapshot.clone(), records));
        Ok(true)
    }

    fn read(&self, group: GroupId, with: &mut dyn FnMut(&mut RecordIter<'_>)) -> Result<(), DeviceError> {
        let records = self.groups.get(&group).into_iter().flat_map(|(_, records)| records);
        with(&mut records.map(|(key, value)| (&key[..], &value[..])));
        Ok(())
    }

    fn identity(&self) -> Option<Identity> {
        self.identity
    }

    fn set_identity(&mut self, identity: Identity) -> Result<(), DeviceError> {
        match self.identity {
            Some(found) if found != identity => Err(DeviceError::ForeignIdentity { found, given: identity }),
            _ => {
                self.identity = Some(identity);
                Ok(())
            }
        }
    }
}
