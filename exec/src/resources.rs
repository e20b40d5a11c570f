//! Resources: processors and memory that tasks need, and what workers have of them.
//!
//! In: what definitions, workers and the log say.  Out: whether it fits.  Whole numbers only: thousandths of a processor, and MiB.
//! What nobody limits is not counted: a worker that states no memory has room for every task's memory.

use distric_rules::document::{Cursor, NodeValue, Problems};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Most processors that one task or worker can state, thousandths: 4,096 processors.
pub const CPU_MILLIS_MAX: u64 = 4_096_000;
/// Most memory that one task or worker can state, MiB: 64 TiB.
pub const MEMORY_MIB_MAX: u64 = 64 << 20;

/// What a task needs for itself while a worker has it; 0 of what it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Needs {
    /// Processors, thousandths.
    pub cpu_millis: u64,
    /// Memory, MiB.
    pub memory_mib: u64,
}

/// What a worker has for tasks; absent: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors, thousandths.
    pub cpu_millis: Option<u64>,
    /// Memory, MiB.
    pub memory_mib: Option<u64>,
}

/// What a worker says to one group of what tasks of others take there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Grows with everything that the worker's process says of this; an older word does not count.
    pub number: u64,
    /// What is taken.
    pub taken: Needs,
}

impl Needs {
    /// Whether nothing is needed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis), memory_mib: self.memory_mib.saturating_add(other.memory_mib) }
    }

    /// What is left of it without the other; 0 of what the other exceeds.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis), memory_mib: self.memory_mib.saturating_sub(other.memory_mib) }
    }

    /// With both within what can be stated: what comes from outside adds up without end.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { cpu_millis: self.cpu_millis.min(CPU_MILLIS_MAX), memory_mib: self.memory_mib.min(MEMORY_MIB_MAX) }
    }

    /// As a definition writes it; `null` when nothing is needed.
    pub fn to_json(self) -> Value {
        let mut members = serde_json::Map::new();
        if self.cpu_millis > 0 {
            members.insert("cpu".into(), json!(format!("{}m", self.cpu_millis)));
        }
        if self.memory_mib > 0 {
            members.insert("memory".into(), json!(format!("{}MiB", self.memory_mib)));
        }
        if members.is_empty() { Value::Null } else { Value::Object(members) }
    }
}

impl Capacity {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// With both within what can be stated.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.map(|cpu| cpu.min(CPU_MILLIS_MAX)),
            memory_mib: self.memory_mib.map(|memory| memory.min(MEMORY_MIB_MAX)),
        }
    }

    /// What is free of it beside what is taken; absent of what is not limited.
    #[must_use]
    pub fn without(self, taken: Needs) -> Self {
        Self {
            cpu_millis: self.cpu_millis.map(|cpu| cpu.saturating_sub(taken.cpu_millis)),
            memory_mib: self.memory_mib.map(|memory| memory.saturating_sub(taken.memory_mib)),
        }
    }

    /// Whether a task has room in it. One that needs nothing always has.
    pub fn fits(self, needs: Needs) -> bool {
        let cpu_fits = needs.cpu_millis == 0 || self.cpu_millis.is_none_or(|cpu| needs.cpu_millis <= cpu);
        cpu_fits && (needs.memory_mib == 0 || self.memory_mib.is_none_or(|memory| needs.memory_mib <= memory))
    }

    /// The greater of the shares that are taken, millionths; 0 where nothing is limited.
    pub fn share_ppm(self, taken: Needs) -> u64 {
        let share = |taken: u64, of: Option<u64>| of.map_or(0, |of| taken.saturating_mul(1_000_000) / of.max(1));
        let cpu = share(taken.cpu_millis, self.cpu_millis);
        cpu.max(share(taken.memory_mib, self.memory_mib))
    }
}

/// Memory for people: `4 GiB`, `1536 MiB`.
pub fn memory_text(mib: u64) -> String {
    if mib > 0 && mib.is_multiple_of(1024) { format!("{} GiB", mib / 1024) } else { format!("{mib} MiB") }
}

/// Processors for people: `2 cpu`, `0.25 cpu`.
pub fn cpu_text(millis: u64) -> String {
    let (whole, rest) = (millis / 1_000, millis % 1_000);
    if rest == 0 {
        return format!("{whole} cpu");
    }
    let digits = format!("{rest:03}");
    format!("{whole}.{} cpu", digits.trim_end_matches('0'))
}

const CPU_EXPECTED: &str = "a number of processors such as 2 or 0.5, or thousandths such as 500m";
const MEMORY_EXPECTED: &str = "memory with its unit, such as 512MiB or 4GiB";

/// Reads `resources: { cpu, memory }` of a task.
pub(crate) fn read(cursor: &Cursor<'_>, problems: &mut Problems) -> Needs {
    let mut needs = Needs::default();
    let Some(members) = cursor.map(problems, &["cpu", "memory"]) else { return needs };
    if let Some(cpu) = members.get("cpu") {
        match cpu_millis_of(&cpu) {
            Some(millis) if (1..=CPU_MILLIS_MAX).contains(&millis) => needs.cpu_millis = millis,
            Some(_) => cpu.error(problems, "the number of processors is out of range", Some(&format!("1m to {CPU_MILLIS_MAX}m"))),
            None => cpu.error(problems, "not a number of processors", Some(CPU_EXPECTED)),
        }
    }
    if let Some(memory) = members.get("memory") {
        match memory.node.as_str().and_then(memory_mib_of) {
            Some(mib) if (1..=MEMORY_MIB_MAX).contains(&mib) => needs.memory_mib = mib,
            Some(_) => memory.error(problems, "the memory is out of range", Some(&format!("1MiB to {MEMORY_MIB_MAX}MiB"))),
            None => memory.error(problems, "not an amount of memory", Some(MEMORY_EXPECTED)),
        }
    }
    needs
}

fn cpu_millis_of(cursor: &Cursor<'_>) -> Option<u64> {
    let of_number = |cpus: f64| (cpus.is_finite() && cpus >= 0.0).then(|| (cpus * 1_000.0).round().min(1e15) as u64);
    match &cursor.node.value {
        NodeValue::Number(number) => number.as_f64().and_then(of_number),
        NodeValue::String(text) => {
            let digits = text.trim().strip_suffix('m')?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        }
        _ => None,
    }
}

fn memory_mib_of(text: &str) -> Option<u64> {
    let units: [(&str, u64); 3] = [("MiB", 1), ("GiB", 1 << 10), ("TiB", 1 << 20)];
    let (digits, scale) = units.into_iter().find_map(|(unit, scale)| Some((text.trim().strip_suffix(unit)?.trim_end(), scale)))?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse::<u64>().ok())?.map(|amount| amount.saturating_mul(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_fits_and_what_is_not_needed_does_too() {
        let capacity = Capacity { cpu_millis: Some(1_000), memory_mib: None };
        let needs = |cpu_millis, memory_mib| Needs { cpu_millis, memory_mib };
        assert!(capacity.fits(needs(1_000, u64::MAX)) && !capacity.fits(needs(1_001, 0)));
        let full = capacity.without(needs(5_000, 7));
        assert_eq!(full, Capacity { cpu_millis: Some(0), memory_mib: None });
        assert!(full.fits(Needs::default()) && full.fits(needs(0, 1)));
        assert_eq!((capacity.share_ppm(needs(250, 9)), Capacity::default().share_ppm(needs(250, 9))), (250_000, 0));
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!((cpu_text(250), cpu_text(2_000), cpu_text(1_500)), ("0.25 cpu".into(), "2 cpu".into(), "1.5 cpu".into()));
        assert_eq!((memory_text(4_096), memory_text(1_536), memory_text(0)), ("4 GiB".into(), "1536 MiB".into(), "0 MiB".into()));
        assert_eq!(
            ["4GiB", "512 MiB", "1TiB", "4", "GiB", "-1GiB", "4gb"].map(memory_mib_of).map(|mib| mib.unwrap_or(0)),
            [4_096, 512, 1 << 20, 0, 0, 0, 0]
        );
    }
}
