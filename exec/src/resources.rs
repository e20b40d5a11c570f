//! Resources as definitions write them and people read them: processors in decimals or thousandths, memory with its unit.

use distric_model::resources::{CPU_MILLIS_MAX, MEMORY_MIB_MAX, Needs};
use distric_rules::document::{Cursor, NodeValue, Problems};
use serde_json::{Value, json};

/// Needs as a definition writes them; `null` when nothing is needed.
pub(crate) fn needs_json(needs: Needs) -> Value {
    let mut members = serde_json::Map::new();
    if needs.cpu_millis > 0 {
        members.insert("cpu".into(), json!(format!("{}m", needs.cpu_millis)));
    }
    if needs.memory_mib > 0 {
        members.insert("memory".into(), json!(format!("{}MiB", needs.memory_mib)));
    }
    if members.is_empty() { Value::Null } else { Value::Object(members) }
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
    fn amounts_read_as_people_write_them() {
        assert_eq!((cpu_text(250), cpu_text(2_000), cpu_text(1_500)), ("0.25 cpu".into(), "2 cpu".into(), "1.5 cpu".into()));
        assert_eq!((memory_text(4_096), memory_text(1_536), memory_text(0)), ("4 GiB".into(), "1536 MiB".into(), "0 MiB".into()));
        assert_eq!(
            ["4GiB", "512 MiB", "1TiB", "4", "GiB", "-1GiB", "4gb"].map(memory_mib_of).map(|mib| mib.unwrap_or(0)),
            [4_096, 512, 1 << 20, 0, 0, 0, 0]
        );
    }
}
