//! The gates of a group's keys: who waits, who is inside. State only; what happens is in `keeper`.

use std::collections::{BTreeMap, BTreeSet};

use distric_model::{Change, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::GateKey;
use crate::definition::GateRule;
use crate::machine::checkpoint::record::encode;
use crate::machine::checkpoint::tracked::Tracked;
use crate::machine::timers::TimerKey;
use crate::octets::Octets;

/// One key with its rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::machine) struct Gate {
    pub key: GateKey,
    pub rule: GateRule,
    /// For a rate: the theoretical arrival time of the next start (GCRA, ITU-T I.371).
    pub rate_at: Timestamp,
    /// For a debounce: when the first one of those that wait came.
    pub first_at: Timestamp,
    /// When something happens here by itself.
    pub timer: Option<TimerKey>,
    /// Bytes of the inputs that wait for a batch.
    pub input_bytes: u64,
}

/// One instance at a gate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::machine) struct Asker {
    pub gate: u64,
    pub instance: InstanceId,
    pub place: u8,
    pub round: u32,
    pub stand: Stand,
    pub input: Octets,
    /// The asker that its input has gone with.
    pub rides_on: Option<u64>,
}

/// Where an asker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::machine) enum Stand {
    /// Waits.
    Waiting,
    /// Is let in.
    Inside,
    /// Is inside, and was told to end.
    Ending,
    /// Its input has gone with another one's, whose group has not acknowledged that yet.
    Riding,
}

/// What one asker is charged beside its texts, and a gate.
const ASKER_BYTES: u64 = 200;
const GATE_BYTES: u64 = 360;

impl Gate {
    pub fn bytes(&self) -> u64 {
        self.key.bytes() * 2 + GATE_BYTES
    }
}

impl Asker {
    pub fn bytes(&self) -> u64 {
        self.input.len() as u64 + ASKER_BYTES
    }
}

/// All gates of a group; gates and askers are numbered in the order in which they came.
#[derive(Debug, Default, Serialize)]
pub(in crate::machine) struct Gates {
    gates: Tracked<u64, Gate>,
    askers: Tracked<u64, Asker>,
    #[serde(skip)]
    by_key: BTreeMap<GateKey, u64>,
    #[serde(skip)]
    by_stand: BTreeMap<(u64, Stand), BTreeSet<u64>>,
    #[serde(skip)]
    by_instance: BTreeMap<(InstanceId, u64), u64>,
    waiting_count: u64,
}

impl Gates {
    /// The gates of a checkpoint. Errors: the number of an asker without a gate.
    pub fn restored(gates: BTreeMap<u64, Gate>, askers: BTreeMap<u64, Asker>) -> Result<Self, u64> {
        let mut restored = Self::default();
        gates.into_iter().for_each(|(number, gate)| restored.open(number, gate));
        for (number, asker) in askers {
            if restored.gates.get(&asker.gate).is_none() {
                return Err(number);
            }
            restored.add(number, asker);
        }
        restored.gates.mark_stored();
        restored.askers.mark_stored();
        Ok(restored)
    }

    /// Tells what changed since the last call.
    pub fn take_changes(&mut self, out: &mut Vec<Change>, gate_key: impl Fn(&u64) -> Vec<u8>, asker_key: impl Fn(&u64) -> Vec<u8>) {
        self.gates.take_changes(out, gate_key, |_, gate, _| encode(gate));
        self.askers.take_changes(out, asker_key, |_, asker, _| encode(asker));
    }

    pub fn number_of(&self, key: &GateKey) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    pub fn gate(&self, number: u64) -> Option<&Gate> {
        self.gates.get(&number)
    }

    pub fn gate_mut(&mut self, number: u64) -> Option<&mut Gate> {
        self.gates.get_mut(&number)
    }

    pub fn open(&mut self, number: u64, gate: Gate) {
        self.by_key.insert(gate.key.clone(), number);
        self.gates.insert(number, gate);
    }

    pub fn close(&mut self, number: u64) -> Option<Gate> {
        let gate = self.gates.remove(&number)?;
        self.by_key.remove(&gate.key);
        Some(gate)
    }

    pub fn add(&mut self, number: u64, asker: Asker) {
        self.by_stand.entry((asker.gate, asker.stand)).or_default().insert(number);
        self.by_instance.insert((asker.instance, asker.gate), number);
        self.waiting_count += u64::from(asker.stand == Stand::Waiting);
        self.askers.insert(number, asker);
    }

    pub fn remove(&mut self, number: u64) -> Option<Asker> {
        let asker = self.askers.remove(&number)?;
        self.leave_stand(number, &asker);
        self.by_instance.remove(&(asker.instance, asker.gate));
        Some(asker)
    }

    pub fn set_stand(&mut self, number: u64, stand: Stand) {
        self.set_ride(number, stand, None);
    }

    /// As [`Self::set_stand`], and whom it rides on.
    pub fn set_ride(&mut self, number: u64, stand: Stand, rides_on: Option<u64>) {
        let Some(before) = self.askers.get(&number).cloned() else { return };
        self.leave_stand(number, &before);
        self.by_stand.entry((before.gate, stand)).or_default().insert(number);
        self.waiting_count += u64::from(stand == Stand::Waiting);
        if let Some(asker) = self.askers.get_mut(&number) {
            asker.stand = stand;
            asker.rides_on = rides_on;
        }
    }

    pub fn asker(&self, number: u64) -> Option<&Asker> {
        self.askers.get(&number)
    }

    /// The asker that is this instance at this gate.
    pub fn find(&self, instance: InstanceId, gate: u64) -> Option<u64> {
        self.by_instance.get(&(instance, gate)).copied()
    }

    /// The first that stands so.
    pub fn first(&self, gate: u64, stand: Stand) -> Option<u64> {
        self.by_stand.get(&(gate, stand))?.first().copied()
    }

    /// Those that stand so, in the order in which they came.
    pub fn standing(&self, gate: u64, stand: Stand) -> impl Iterator<Item = u64> {
        self.by_stand.get(&(gate, stand)).into_iter().flatten().copied()
    }

    pub fn count(&self, gate: u64, stand: Stand) -> usize {
        self.by_stand.get(&(gate, stand)).map_or(0, BTreeSet::len)
    }

    /// Those who are inside, told to end or not.
    pub fn inside_count(&self, gate: u64) -> usize {
        self.count(gate, Stand::Inside) + self.count(gate, Stand::Ending)
    }

    /// Whether nobody is here.
    pub fn is_empty(&self, gate: u64) -> bool {
        [Stand::Waiting, Stand::Inside, Stand::Ending, Stand::Riding].into_iter().all(|stand| self.count(gate, stand) == 0)
    }

    /// Gates, and starts that wait at them.
    pub fn counts(&self) -> (usize, u64) {
        (self.gates.len(), self.waiting_count)
    }

    fn leave_stand(&mut self, number: u64, asker: &Asker) {
        self.waiting_count -= u64::from(asker.stand == Stand::Waiting);
        let place = (asker.gate, asker.stand);
        if let Some(numbers) = self.by_stand.get_mut(&place) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_stand.remove(&place);
            }
        }
    }
}
