//! Checkpoints of the meta machine: one record per rule, workflow version and line of history, written when it changed.
//!
//! Form: a key is a tag byte, then namespace and id, each behind its length, then a number; so that what others refer to comes
//! first. A value is MessagePack, a structure being an array. New fields go last with a default; tags are never used again.
//! Invariant: a restored machine has the cluster, catalog and history of the original. Checked by: `tests.rs` beside this file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_exec::RestoreError;
use distric_model::{Change, Namespace, NodeId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{
    CatalogChange, CatalogSource, GossipKeys, Init, Meta, NamespaceSource, Past, Replaced, RuleRecord, Trial, TrialMode, WorkflowRecord,
    WorkflowVersion,
};
use crate::node::peer::Member;

/// The form that this build writes. It reads all forms up to it.
const FORMAT: u32 = 3;

const HEADER: u8 = 1;
const NAMESPACE: u8 = 2;
const RULE: u8 = 3;
const WORKFLOW: u8 = 4;
const VERSION: u8 = 5;
const HISTORY: u8 = 6;
/// From format 2 on.
const PAST: u8 = 7;
/// From format 3 on.
const TRIAL: u8 = 8;
const TRIAL_RULE: u8 = 9;

/// What changed since the last checkpoint, which holds at most what the log has had since then. Nothing before the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    is_tracking: bool,
    records: BTreeSet<Record>,
}

/// A record by what it is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Record {
    Namespace(Namespace),
    Rule(Namespace, Arc<str>),
    Workflow(Namespace, Arc<str>),
    Version(Namespace, Arc<str>, u64),
    History(u64),
    Past(u64),
    Trial,
    TrialRule(Arc<str>),
}

#[derive(Serialize, Deserialize)]
struct HeaderRecord {
    format: u32,
    cluster: Option<Init>,
    catalog_version: u64,
    #[serde(default)]
    members: Vec<Member>,
    #[serde(default)]
    removed: Vec<NodeId>,
    #[serde(default)]
    now_us: Timestamp,
    #[serde(default)]
    gossip_keys: GossipKeys,
    #[serde(default)]
    reserved: u64,
    #[serde(default)]
    revision: u64,
}

#[derive(Serialize, Deserialize)]
struct TrialValue {
    version: u64,
    namespace: Namespace,
    base_version: u64,
    mode: TrialMode,
    share: u32,
    started_at_us: Timestamp,
    author: Option<Arc<str>>,
    reason: Option<Arc<str>>,
    options: Arc<str>,
    is_outdated: bool,
}

#[derive(Serialize, Deserialize)]
struct RuleValue {
    version: u64,
    created_at_us: Timestamp,
    updated_at_us: Timestamp,
    body: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct VersionValue {
    created_at_us: Timestamp,
    catalog_version: u64,
    body: Arc<str>,
}

impl Dirty {
    /// Notes what a change of the catalog touched, the line of history that it pushed out, and the changes that cannot be taken back
    /// any more.
    pub fn note(&mut self, change: &CatalogChange, forgotten: Option<u64>, not_kept: &[u64]) {
        if !self.is_tracking {
            return;
        }
        let namespace = &change.namespace;
        self.records.insert(Record::Namespace(namespace.clone()));
        let rules = change.rules_changed.iter().chain(&change.rules_removed);
        self.records.extend(rules.map(|id| Record::Rule(namespace.clone(), id.clone())));
        let workflows = change.workflows_changed.iter().map(|(id, _)| id).chain(&change.workflows_removed);
        self.records.extend(workflows.map(|id| Record::Workflow(namespace.clone(), id.clone())));
        let versions = change.workflows_changed.iter();
        self.records.extend(versions.map(|(id, number)| Record::Version(namespace.clone(), id.clone(), *number)));
        self.note_version(change.version, forgotten, not_kept);
    }

    /// Notes the line and the past of a version.
    pub fn note_version(&mut self, version: u64, forgotten: Option<u64>, not_kept: &[u64]) {
        if !self.is_tracking {
            return;
        }
        self.records.insert(Record::History(version));
        self.records.extend(forgotten.map(Record::History));
        self.records.insert(Record::Past(version));
        self.records.extend(not_kept.iter().copied().map(Record::Past));
    }

    /// Notes that a line of the history says something else.
    pub fn note_history(&mut self, version: u64) {
        if self.is_tracking {
            self.records.insert(Record::History(version));
        }
    }

    /// Notes that the trial is another one; with the rules of `whole`, if they came or go as well.
    pub fn note_trial(&mut self, whole: Option<&Trial>) {
        if !self.is_tracking {
            return;
        }
        self.records.insert(Record::Trial);
        self.records.extend(whole.into_iter().flat_map(|trial| trial.rules.keys().cloned().map(Record::TrialRule)));
    }
}

impl Meta {
    /// Appends to `out` every record that is new, different or gone since the last call; the first time, every record there is.
    ///
    /// To be called between two entries. Shape: O(what changed).
    pub fn take_changes(&mut self, out: &mut Vec<Change>) {
        let header = HeaderRecord {
            format: FORMAT,
            cluster: self.cluster.clone(),
            catalog_version: self.catalog.version,
            members: self.members.values().cloned().collect(),
            removed: self.removed.iter().copied().collect(),
            now_us: self.now,
            gossip_keys: self.gossip_keys,
            reserved: self.catalog.reserved,
            revision: self.catalog.revision,
        };
        out.push(Change::put(vec![HEADER], encode(&header)));
        let records = match self.dirty.is_tracking {
            true => std::mem::take(&mut self.dirty.records),
            false => self.all_records(),
        };
        self.dirty.is_tracking = true;
        out.extend(records.into_iter().map(|record| Change { key: record.key(), value: self.value_of(&record) }));
    }

    /// Makes the machine whose checkpoint these records are, in ascending order of keys.
    ///
    /// Errors: [`RestoreError`]; never a panic, whatever the records hold.
    pub fn restore<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: impl IntoIterator<Item = (K, V)>) -> Result<Self, RestoreError> {
        let mut records = records.into_iter();
        let header: HeaderRecord = match records.next() {
            Some((key, value)) if key.as_ref() == [HEADER] => decode(key.as_ref(), value.as_ref())?,
            _ => return Err(RestoreError::NoHeader),
        };
        if header.format > FORMAT {
            return Err(RestoreError::UnknownFormat { format: header.format });
        }
        let members = header.members.into_iter().map(|member| (member.node, member)).collect();
        let removed = header.removed.into_iter().collect();
        let (cluster, now, gossip_keys) = (header.cluster, header.now_us, header.gossip_keys);
        let mut meta = Self { cluster, members, removed, now, gossip_keys, ..Self::default() };
        let (version, reserved) = (header.catalog_version, header.reserved);
        // Before format 3 every change made a version.
        let revision = header.revision.max(version);
        let mut catalog = CatalogSource { version, namespaces: BTreeMap::new(), past: Past::default(), trial: None, reserved, revision };
        let mut last_key = vec![HEADER];
        for (key, value) in records {
            let (key, value) = (key.as_ref(), value.as_ref());
            if key <= &last_key[..] {
                return Err(RestoreError::out_of_order(key));
            }
            last_key.clear();
            last_key.extend_from_slice(key);
            read(&mut meta, &mut catalog, key, value)?;
        }
        for (namespace, source) in &catalog.namespaces {
            if let Some((id, _)) = source.workflows.iter().find(|(_, record)| record.versions.is_empty()) {
                let key = Record::Workflow(namespace.clone(), id.clone()).key();
                return Err(RestoreError::bad(&key, "none of its versions is there"));
            }
        }
        meta.catalog = Arc::new(catalog);
        meta.dirty.is_tracking = true;
        Ok(meta)
    }

    fn all_records(&self) -> BTreeSet<Record> {
        let mut records = BTreeSet::new();
        for (namespace, source) in &self.catalog.namespaces {
            records.insert(Record::Namespace(namespace.clone()));
            records.extend(source.rules.keys().map(|id| Record::Rule(namespace.clone(), id.clone())));
            for (id, workflow) in &source.workflows {
                records.insert(Record::Workflow(namespace.clone(), id.clone()));
                records.extend(workflow.versions.keys().map(|number| Record::Version(namespace.clone(), id.clone(), *number)));
            }
        }
        records.extend(self.history.iter().map(|change| Record::History(change.version)));
        records.extend(self.catalog.past.iter().map(|replaced| Record::Past(replaced.version)));
        if let Some(trial) = &self.catalog.trial {
            records.insert(Record::Trial);
            records.extend(trial.rules.keys().cloned().map(Record::TrialRule));
        }
        records
    }

    /// What a record says now; `None` when it is gone.
    fn value_of(&self, record: &Record) -> Option<Vec<u8>> {
        let source = |namespace: &Namespace| self.catalog.namespaces.get(namespace);
        match record {
            Record::Namespace(namespace) => Some(encode(&source(namespace)?.options)),
            Record::Rule(namespace, id) => Some(encode(&RuleValue::of(source(namespace)?.rules.get(id)?))),
            Record::Trial => {
                let trial = self.catalog.trial.as_ref()?;
                Some(encode(&TrialValue {
                    version: trial.version,
                    namespace: trial.namespace.clone(),
                    base_version: trial.base_version,
                    mode: trial.mode,
                    share: trial.share,
                    started_at_us: trial.started_at_us,
                    author: trial.author.clone(),
                    reason: trial.reason.clone(),
                    options: trial.options.clone(),
                    is_outdated: trial.is_outdated,
                }))
            }
            Record::TrialRule(id) => Some(encode(&RuleValue::of(self.catalog.trial.as_ref()?.rules.get(id)?))),
            Record::Workflow(namespace, id) => Some(encode(&source(namespace)?.workflows.get(id)?.retired)),
            Record::Version(namespace, id, number) => {
                let version = source(namespace)?.workflows.get(id)?.versions.get(number)?;
                let (created_at_us, catalog_version) = (version.created_at_us, version.catalog_version);
                Some(encode(&VersionValue { created_at_us, catalog_version, body: version.body.clone() }))
            }
            Record::History(version) => {
                let place = self.history.binary_search_by_key(version, |change| change.version).ok()?;
                self.history.get(place).map(encode)
            }
            Record::Past(version) => self.catalog.past.of(*version).map(|replaced| encode(&**replaced)),
        }
    }
}

impl RuleValue {
    fn of(rule: &RuleRecord) -> Self {
        let (created_at_us, updated_at_us) = (rule.created_at_us, rule.updated_at_us);
        Self { version: rule.version, created_at_us, updated_at_us, body: rule.body.clone() }
    }

    fn record(self) -> RuleRecord {
        let Self { version, created_at_us, updated_at_us, body } = self;
        RuleRecord { version, created_at_us, updated_at_us, body }
    }
}

fn read(meta: &mut Meta, catalog: &mut CatalogSource, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
    let missing = |what: &str| RestoreError::bad(key, format!("its {what} is missing"));
    let mut parts = Parts { key, rest: &key[1..] };
    match key[0] {
        NAMESPACE => {
            let source = NamespaceSource { options: decode(key, value)?, ..NamespaceSource::default() };
            catalog.namespaces.insert(parts.namespace()?, source);
        }
        RULE => {
            let source = catalog.namespaces.get_mut(&parts.namespace()?).ok_or_else(|| missing("namespace"))?;
            source.rules.insert(parts.text()?, decode::<RuleValue>(key, value)?.record());
        }
        WORKFLOW => {
            let source = catalog.namespaces.get_mut(&parts.namespace()?).ok_or_else(|| missing("namespace"))?;
            let record = WorkflowRecord { versions: BTreeMap::new(), retired: decode(key, value)? };
            source.workflows.insert(parts.text()?, record);
        }
        VERSION => {
            let source = catalog.namespaces.get_mut(&parts.namespace()?).ok_or_else(|| missing("namespace"))?;
            let record = source.workflows.get_mut(&parts.text()?).ok_or_else(|| missing("workflow"))?;
            let VersionValue { created_at_us, catalog_version, body } = decode(key, value)?;
            record.versions.insert(parts.number()?, WorkflowVersion { created_at_us, catalog_version, body });
        }
        HISTORY => {
            parts.number()?;
            meta.history.push_back(decode(key, value)?);
        }
        PAST => {
            let version = parts.number()?;
            let replaced: Replaced = decode(key, value)?;
            if replaced.version != version || version == 0 || version > catalog.version.max(catalog.reserved) {
                return Err(RestoreError::bad(key, "it is not of the version in its key"));
            }
            catalog.past.push(replaced);
        }
        TRIAL => {
            let TrialValue { version, namespace, base_version, mode, share, started_at_us, author, reason, options, is_outdated } =
                decode(key, value)?;
            let rules = BTreeMap::new();
            let trial = Trial { version, namespace, base_version, mode, share, started_at_us, author, reason, options, rules, is_outdated };
            catalog.trial = Some(Arc::new(trial));
        }
        TRIAL_RULE => {
            let trial = catalog.trial.as_mut().ok_or_else(|| missing("trial"))?;
            Arc::make_mut(trial).rules.insert(parts.text()?, decode::<RuleValue>(key, value)?.record());
        }
        _ => return Err(RestoreError::bad(key, "there is no such kind of record")),
    }
    Ok(())
}

impl Record {
    /// Names are within their limits, which the proposer checked: 203 bytes at most.
    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        let text = |key: &mut Vec<u8>, text: &str| {
            key.extend_from_slice(&(text.len() as u16).to_be_bytes());
            key.extend_from_slice(text.as_bytes());
        };
        match self {
            Self::Namespace(namespace) => {
                key.push(NAMESPACE);
                text(&mut key, namespace.as_str());
            }
            Self::Rule(namespace, id) | Self::Workflow(namespace, id) => {
                key.push(if matches!(self, Self::Rule(..)) { RULE } else { WORKFLOW });
                text(&mut key, namespace.as_str());
                text(&mut key, id);
            }
            Self::Version(namespace, id, number) => {
                key.push(VERSION);
                text(&mut key, namespace.as_str());
                text(&mut key, id);
                key.extend_from_slice(&number.to_be_bytes());
            }
            Self::History(version) => {
                key.push(HISTORY);
                key.extend_from_slice(&version.to_be_bytes());
            }
            Self::Past(version) => {
                key.push(PAST);
                key.extend_from_slice(&version.to_be_bytes());
            }
            Self::Trial => key.push(TRIAL),
            Self::TrialRule(id) => {
                key.push(TRIAL_RULE);
                text(&mut key, id);
            }
        }
        key
    }
}

/// The parts of a key, one after another.
struct Parts<'a> {
    key: &'a [u8],
    rest: &'a [u8],
}

impl Parts<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| RestoreError::bad(self.key, "its key is too short"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn text(&mut self) -> Result<Arc<str>, RestoreError> {
        let length = usize::from(u16::from_be_bytes(self.bytes()?));
        let bytes = self.rest.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = bytes.ok_or_else(|| RestoreError::bad(self.key, "its key has no such name"))?;
        self.rest = &self.rest[length..];
        Ok(Arc::from(text))
    }

    fn namespace(&mut self) -> Result<Namespace, RestoreError> {
        let text = self.text()?;
        Namespace::new(&text).map_err(|error| RestoreError::bad(self.key, error.to_string()))
    }

    fn number(&mut self) -> Result<u64, RestoreError> {
        Ok(u64::from_be_bytes(self.bytes()?))
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("plain data always encodes")
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, RestoreError> {
    rmp_serde::from_slice(value).map_err(|error| RestoreError::bad(key, error.to_string()))
}
