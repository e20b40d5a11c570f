//! Shutting this process in, before the plugin is opened or the program run. Nothing here can be undone.
//!
//! Order: limits, privileges, files, system calls; each step needs something that a later one takes away. What the machine does not
//! offer is told, and lowers the level that was reached; whether that is enough, the spec decides.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior, set_parent_process_death_signal, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::spec::{Isolation, Spec};
use crate::syscalls::{self, Held};

/// What every guest may read: the system's libraries and what its C library looks up.
const READABLE: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/sys/devices/system/cpu",
];

/// What one with the network may read besides.
const READABLE_FOR_NETWORK: &[&str] =
    &["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/ssl", "/usr/share/ca-certificates"];

/// Where a program may also write: what goes there is gone.
const WRITABLE_FOR_PROGRAMS: &[&str] = &["/dev/null"];

/// Who is to be shut in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest<'a> {
    /// A library in this process.
    Plugin,
    /// A program that this process becomes.
    Program {
        /// Most processes that it may be.
        processes: usize,
        /// Directories whose programs it may run.
        runs: &'a [PathBuf],
    },
}

impl Guest<'_> {
    /// Whether it may start processes.
    pub(crate) fn forks(self) -> bool {
        matches!(self, Self::Program { processes, .. } if processes > 1)
    }
}

/// How far this process is shut in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) isolation: Isolation,
    /// What is missing for the next level; empty at the last.
    pub(crate) lacks: String,
}

/// Shuts this process in as far as the machine allows. Must be called while it has one thread.
pub(crate) fn enter(spec: &Spec, guest: Guest<'_>) -> Reached {
    let reached = |isolation, lacks: String| Reached { isolation, lacks };
    if let Err(error) = limits(spec, guest).and_then(|()| privileges()) {
        return reached(Isolation::None, format!("limits and privileges: {error}"));
    }
    let files = files(spec, guest);
    let held = Held { files: files.is_ok(), signals: files == Ok(Signals::Held) };
    if let Err(error) = syscalls::enter(&spec.grants, guest, held) {
        return reached(Isolation::Process, format!("seccomp: {error}"));
    }
    match files {
        Ok(_) => reached(Isolation::Full, String::new()),
        Err(lacks) => reached(Isolation::Syscalls, lacks),
    }
}

fn limits(spec: &Spec, guest: Guest<'_>) -> io::Result<()> {
    // The parent is gone: so is this process, even in the middle of a loop.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limits = &spec.limits;
    let file_bytes = if spec.grants.write.is_empty() { 0 } else { limits.file_bytes };
    let hard = [
        (Resource::Nofile, limits.files),
        (Resource::Fsize, file_bytes),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ];
    for (resource, most) in hard {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    if guest == Guest::Plugin {
        limit_memory(limits.memory_bytes)?;
    }
    if !spec.grants.threads && !guest.forks() {
        // Behind the list of system calls, which root is not above of; root is above this.
        setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    Ok(())
}

/// How much address space this process may have, bytes.
pub(crate) fn limit_memory(bytes: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) })?)
}

/// How many threads the user of this process may have, all its processes together, before this one can start no more. Root is above this.
pub(crate) fn limit_processes(most: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::Nproc, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// How much processor time this process may have used at the end of the next call.
pub(crate) fn limit_cpu(cpu_s: u64) {
    // Raising a soft limit below no hard one cannot fail; and time on the wall is bounded by the worker whatever happens here.
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(cpu_until(cpu_s)), maximum: None });
}

/// How much processor time this process may use from now on, each of its children as much: a signal then, and its end a second later.
pub(crate) fn limit_cpu_hard(cpu_s: u64) {
    let until = cpu_until(cpu_s);
    // As above.
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(until), maximum: Some(until.saturating_add(1)) });
}

fn cpu_until(cpu_s: u64) -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    (used.tv_sec as u64).saturating_add(1).saturating_add(cpu_s)
}

/// Gives up what this process does not need to look after another: its privileges, and being looked into.
pub(crate) fn humble() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    privileges()
}

fn privileges() -> io::Result<()> {
    set_no_new_privs(true)?;
    for capability in CapabilitySet::all().iter() {
        // Not permitted for those who have none to begin with, and unknown ones do not exist.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

/// Whether signals to others are held back by the kernel itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signals {
    Held,
    Free,
}

/// Landlock: version 3 is the least that also stops truncation, and all of it is required for the level.
fn files(spec: &Spec, guest: Guest<'_>) -> Result<Signals, String> {
    let words = |error: landlock::RulesetError| format!("landlock: {error}");
    let abi = ABI::V3;
    let read = AccessFs::from_read(abi);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(words)?
        .create()
        .map_err(words)?;
    let network: &[&str] = if spec.grants.network { READABLE_FOR_NETWORK } else { &[] };
    let system = READABLE.iter().chain(network).map(|path| (Path::new(path), read, false));
    let granted = spec.grants.read.iter().map(|path| (path.as_path(), read, true));
    let changing = spec.grants.write.iter().map(|path| (path.as_path(), AccessFs::from_all(abi) & !AccessFs::Execute, true));
    let own = std::iter::once((spec.path.as_path(), read, true));
    let (runs, writable): (&[PathBuf], &[&str]) = match guest {
        Guest::Plugin => (&[], &[]),
        Guest::Program { runs, .. } => (runs, WRITABLE_FOR_PROGRAMS),
    };
    let runs = runs.iter().map(|path| (path.as_path(), read, false));
    let writable = writable.iter().map(|path| (Path::new(path), AccessFs::WriteFile.into(), false));
    for (path, access, must_exist) in system.chain(granted).chain(changing).chain(own).chain(runs).chain(writable) {
        let fd = match PathFd::new(path) {
            Ok(fd) => fd,
            Err(_) if !must_exist => continue,
            Err(error) => return Err(format!("landlock: the grant {} cannot be used: {error}", path.display())),
        };
        // A file takes only the rights that files have.
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
        rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(words)?;
    }
    let status = rules.restrict_self().map_err(words)?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err("landlock: this kernel has not all of version 3".to_owned());
    }
    further(spec).map_err(words)
}

/// What newer kernels can hold back besides, as far as this one can: signals, abstract sockets, TCP. The list of system calls has these too.
fn further(spec: &Spec) -> Result<Signals, landlock::RulesetError> {
    let scoped = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(Scope::from_all(ABI::V6));
    let signals = match scoped.and_then(|rules| rules.create()?.restrict_self()) {
        Ok(status) if status.ruleset == RulesetStatus::FullyEnforced => Signals::Held,
        _ => Signals::Free,
    };
    if !spec.grants.network {
        let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessNet::from_all(ABI::V4))?;
        rules.create()?.restrict_self()?;
    }
    Ok(signals)
}
