//! What a run of workflows found out, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::{Counts, WorkflowOptions};
use crate::report::{Latency, percentiles};

/// Resident memory of the servers together, bytes; zeros when no process was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Before the workers came.
    pub before: u64,
    /// With all workers connected.
    pub connected: u64,
    /// At the end of the measurement.
    pub after: u64,
}

/// The result of a run. Serialises to the JSON that `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkflowReport {
    /// Tasks of the workflow.
    pub steps: u32,
    /// Instances open at a time.
    pub in_flight: u32,
    /// Sessions of workers per coordinator.
    pub workers: u32,
    /// Length of the measurement, seconds.
    pub duration_s: f64,
    /// Instances that completed inside of the measurement.
    pub completed: u64,
    /// Instances that ended otherwise inside of the measurement.
    pub failed: u64,
    /// Completed instances per second.
    pub instances_per_second: f64,
    /// From the start's request to the event of the end, at the client.
    pub latency_us: Latency,
    /// From a task's return to the start of the next task of the same instance.
    pub hand_over_us: Latency,
    /// Median of write and flush of 4 KiB on the named directory's disk, microseconds.
    pub flush_us: Option<u64>,
    /// CPU time of the servers per completed instance, microseconds; resolution 10 ms over the whole measurement.
    pub server_cpu_us_per_instance: Option<f64>,
    /// CPU time of this process (clients and workers) per completed instance, microseconds.
    pub client_cpu_us_per_instance: Option<f64>,
    /// Instances that were parked.
    pub parked: u64,
    /// How long it took to start them, seconds.
    pub parked_s: Option<f64>,
    /// The servers' memory.
    pub memory: Memory,
    /// What a connected worker costs the servers, bytes.
    pub bytes_per_worker: Option<u64>,
    /// What a parked instance costs the servers, bytes.
    pub bytes_per_parked: Option<u64>,
}

impl WorkflowReport {
    pub(super) fn new(
        options: &WorkflowOptions,
        flush_us: Option<u64>,
        counts: &Counts,
        parked_s: Option<f64>,
        (server_cpu_us, client_cpu_us): (u64, u64),
        memory: Memory,
    ) -> Self {
        let duration_s = options.duration_ms as f64 / 1_000.0;
        let per_instance = |cpu_us: u64| (counts.completed > 0).then(|| cpu_us as f64 / counts.completed as f64);
        let has_servers = !options.server_pids.is_empty();
        let share = |from: u64, to: u64, count: u64| (has_servers && count > 0).then(|| to.saturating_sub(from) / count);
        Self {
            steps: options.steps,
            in_flight: options.in_flight,
            workers: options.workers,
            duration_s,
            completed: counts.completed,
            failed: counts.failed,
            instances_per_second: counts.completed as f64 / duration_s,
            latency_us: Latency::of(&counts.latency_us),
            hand_over_us: Latency::of(&counts.hand_over_us),
            flush_us,
            server_cpu_us_per_instance: if has_servers { per_instance(server_cpu_us) } else { None },
            client_cpu_us_per_instance: per_instance(client_cpu_us),
            parked: options.park,
            parked_s,
            memory,
            bytes_per_worker: share(memory.before, memory.connected, if options.park == 0 { u64::from(options.workers) } else { 0 }),
            bytes_per_parked: share(memory.connected, memory.after, options.park),
        }
    }
}

/// A table of names and values.
impl fmt::Display for WorkflowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<22} {value}");
        if let Some(parked_s) = self.parked_s {
            line("parked", format!("{} instances in {parked_s:.1} s, {:.0} per second", self.parked, self.parked as f64 / parked_s))?;
        } else {
            line("workflow", format!("{} tasks in a row, {} instances open, {} workers", self.steps, self.in_flight, self.workers))?;
            line("measured", format!("{:.1} s", self.duration_s))?;
            line("instances/s", format!("{:.0} ({} completed, {} not)", self.instances_per_second, self.completed, self.failed))?;
            line("end to end, ms", percentiles(&self.latency_us))?;
            if self.hand_over_us.count > 0 {
                line("task to task, ms", percentiles(&self.hand_over_us))?;
            }
        }
        if let Some(us) = self.flush_us {
            line("flush, ms", format!("p50 {:.3}", us as f64 / 1_000.0))?;
        }
        if let (Some(us), None) = (self.server_cpu_us_per_instance, self.parked_s) {
            line("server CPU", format!("{us:.1} \u{b5}s per instance"))?;
        }
        if let (Some(us), None) = (self.client_cpu_us_per_instance, self.parked_s) {
            line("client and worker CPU", format!("{us:.1} \u{b5}s per instance"))?;
        }
        if self.memory.after > 0 {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let Memory { before, connected, after } = self.memory;
            line("server memory, MiB", format!("{:.1} before, {:.1} with workers, {:.1} after", mib(before), mib(connected), mib(after)))?;
        }
        if let Some(bytes) = self.bytes_per_worker.filter(|_| self.workers > 1) {
            line("memory per worker", format!("{bytes} bytes"))?;
        }
        if let Some(bytes) = self.bytes_per_parked {
            line("memory per instance", format!("{bytes} bytes"))?;
        }
        Ok(())
    }
}
