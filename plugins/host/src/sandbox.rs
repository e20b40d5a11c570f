//! Shutting this process in, before the plugin is opened. Nothing here can be undone.
//!
//! Order: limits, privileges, files, system calls; each step needs something that a later one takes away. What the machine does not
//! offer is told, and lowers the level that was reached; whether that is enough, the spec decides.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior, set_parent_process_death_signal, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::spec::{Isolation, Spec};
use crate::syscalls;

/// What every plugin may read: the system's libraries and what its C library looks up.
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

/// What a plugin with the network may read besides.
const READABLE_FOR_NETWORK: &[&str] =
    &["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/ssl", "/usr/share/ca-certificates"];

/// How far this process is shut in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) isolation: Isolation,
    /// What is missing for the next level; empty at the last.
    pub(crate) lacks: String,
}

/// Shuts this process in as far as the machine allows. Must be called while it has one thread.
pub(crate) fn enter(spec: &Spec) -> Reached {
    let reached = |isolation, lacks: String| Reached { isolation, lacks };
    if let Err(error) = limits(spec).and_then(|()| privileges()) {
        return reached(Isolation::None, format!("limits and privileges: {error}"));
    }
    let files = files(spec);
    if let Err(error) = syscalls::enter(&spec.grants) {
        return reached(Isolation::Process, format!("seccomp: {error}"));
    }
    match files {
        Ok(()) => reached(Isolation::Full, String::new()),
        Err(lacks) => reached(Isolation::Syscalls, lacks),
    }
}

fn limits(spec: &Spec) -> io::Result<()> {
    // The worker is gone: so is this process, even in the middle of a loop.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limits = &spec.limits;
    let file_bytes = if spec.grants.write.is_empty() { 0 } else { limits.file_bytes };
    let hard = [
        (Resource::As, limits.memory_bytes),
        (Resource::Nofile, limits.files),
        (Resource::Fsize, file_bytes),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ];
    for (resource, most) in hard {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    if !spec.grants.threads {
        // Behind the list of system calls, which root is not above of; root is above this.
        setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    Ok(())
}

/// How much processor time this process may have used at the end of the next call.
pub(crate) fn limit_cpu(cpu_s: u64) {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let until = (used.tv_sec as u64).saturating_add(1).saturating_add(cpu_s);
    // Raising a soft limit below no hard one cannot fail; and time on the wall is bounded by the worker whatever happens here.
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(until), maximum: None });
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

/// Landlock: version 3 is the least that also stops truncation, and all of it is required for the level.
fn files(spec: &Spec) -> Result<(), String> {
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
    for (path, access, must_exist) in system.chain(granted).chain(changing).chain(own) {
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

/// What newer kernels can hold back besides, as far as this one can: TCP, signals, abstract sockets. The list of system calls has these too.
fn further(spec: &Spec) -> Result<(), landlock::RulesetError> {
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).scope(Scope::from_all(ABI::V6))?;
    if !spec.grants.network {
        rules = rules.handle_access(AccessNet::from_all(ABI::V4))?;
    }
    rules.create()?.restrict_self().map(drop)
}
