//! The system calls that a plugin may make: a list of what is allowed, and an error for everything else.
//!
//! Not on the list, among others: processes (`fork`, `execve`, `clone` without a thread), sockets without the grant, signals to others,
//! `ptrace`, mounts, namespaces, keys, `bpf`, `perf_event_open`, and io_uring, which would go around the list.

use std::collections::BTreeMap;

use rustix::process::getpid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter,
    SeccompRule as Rule, TargetArch,
};

use crate::spec::Grants;

/// Why a plugin cannot be held to the list on this machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// A processor that this list was not written for.
    #[error("no list of system calls for this processor")]
    Architecture,
    /// The list does not compile, or the kernel does not take it.
    #[error("{0}")]
    Seccomp(#[from] seccompiler::Error),
    /// As above.
    #[error("{0}")]
    Backend(#[from] seccompiler::BackendError),
}

type Rules = BTreeMap<i64, Vec<Rule>>;

/// Holds this thread, and every thread that it starts, to the list; sets NO_NEW_PRIVS. Not to be undone.
pub(crate) fn enter(grants: &Grants) -> Result<(), FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| FilterError::Architecture)?;
    let filter = SeccompFilter::new(rules(grants)?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch)?;
    // The C library starts threads with clone3, whose flags no filter can see, and falls back to clone when that does not exist.
    let absent = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    for filter in [absent, filter] {
        seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    }
    Ok(())
}

fn rules(grants: &Grants) -> Result<Rules, FilterError> {
    let mut rules: Rules = ALWAYS.iter().map(|number| (*number, Vec::new())).collect();
    // clone3 passes here, so that the other filter's answer is the one that counts.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Signals only to itself: abort and raise.
    rules.insert(libc::SYS_tgkill, only(0, Width::Qword, Op::Eq, getpid().as_raw_nonzero().get() as u64)?);
    // What a C library asks of descriptors that might be terminals.
    let questions = [libc::TCGETS, libc::FIONREAD].map(|question| only(1, Width::Dword, Op::Eq, question));
    let [first, second] = questions;
    rules.insert(libc::SYS_ioctl, first?.into_iter().chain(second?).collect());
    if grants.threads {
        let thread = libc::CLONE_THREAD as u64;
        rules.insert(libc::SYS_clone, only(0, Width::Dword, Op::MaskedEq(thread), thread)?);
    }
    if grants.write.is_empty() {
        let changing = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u64;
        rules.insert(libc::SYS_openat, only(2, Width::Dword, Op::MaskedEq(changing), 0)?);
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_open, only(1, Width::Dword, Op::MaskedEq(changing), 0)?);
    } else {
        rules.extend(WRITING.iter().map(|number| (*number, Vec::new())));
    }
    if grants.network {
        rules.extend(NETWORK.iter().map(|number| (*number, Vec::new())));
        let families = [libc::AF_INET, libc::AF_INET6].map(|family| only(0, Width::Dword, Op::Eq, family as u64));
        let [first, second] = families;
        rules.insert(libc::SYS_socket, first?.into_iter().chain(second?).collect());
    }
    Ok(rules)
}

/// The call is allowed when this argument compares like that.
fn only(argument: u8, width: Width, op: Op, value: u64) -> Result<Vec<Rule>, FilterError> {
    Ok(vec![Rule::new(vec![Condition::new(argument, width, op, value)?])?])
}

/// Computing, memory, reading, time, waiting, its own end.
const ALWAYS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fadvise64,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_membarrier,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pause,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
];

/// Changing files: only with a grant to write, and then only where Landlock allows it.
const WRITING: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_utimensat,
    libc::SYS_fchmod,
    libc::SYS_umask,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_renameat,
];

/// Connections: only with the grant, and only IPv4 and IPv6.
const NETWORK: &[i64] = &[
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_around_the_list_is_not_on_it() {
        let every = Grants { write: vec!["/".into()], network: true, threads: true, ..Grants::default() };
        let rules = rules(&every).unwrap();
        for number in [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_kill,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_memfd_create,
            libc::SYS_process_vm_writev,
        ] {
            assert!(!rules.contains_key(&number), "system call {number} is allowed");
        }
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let rules = rules(&Grants::default()).unwrap();
        for number in [libc::SYS_socket, libc::SYS_connect, libc::SYS_clone, libc::SYS_unlinkat, libc::SYS_ftruncate] {
            assert!(!rules.contains_key(&number), "system call {number} is allowed");
        }
        assert!(!rules[&libc::SYS_openat].is_empty(), "opening is limited to reading");
    }
}
