//! The system calls that a plugin or a program may make: a list of what is allowed, and an error for everything else.
//!
//! Not on the list, among others: processes of a plugin (`fork`, `execve`, `clone` without a thread), leaving the process group, sockets without the
//! grant, signals to others, `ptrace`, mounts, namespaces, keys, `bpf`, `perf_event_open`, files without a place (`memfd_create`), and io_uring, which
//! would go around the list.

use std::collections::BTreeMap;

use rustix::process::getpid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter,
    SeccompRule as Rule, TargetArch,
};

use crate::sandbox::Guest;
use crate::spec::Grants;

/// Why a guest cannot be held to the list on this machine.
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

/// What Landlock already holds back, so that a program's list may leave it to that. A plugin's does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Files, by their place.
    pub(crate) files: bool,
    /// Signals to processes outside.
    pub(crate) signals: bool,
}

/// Holds this thread, and every thread that it starts, to the list; sets NO_NEW_PRIVS. Not to be undone.
pub(crate) fn enter(grants: &Grants, guest: Guest<'_>, held: Held) -> Result<(), FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| FilterError::Architecture)?;
    let filter = SeccompFilter::new(rules(grants, guest, held)?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch)?;
    // The C library starts threads with clone3, whose flags no filter can see, and falls back to clone when that does not exist.
    let absent = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    for filter in [absent, filter] {
        seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    }
    Ok(())
}

fn rules(grants: &Grants, guest: Guest<'_>, held: Held) -> Result<Rules, FilterError> {
    let mut rules: Rules = free(ALWAYS);
    // clone3 passes here, so that the other filter's answer is the one that counts.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Signals only to itself: abort and raise.
    rules.insert(libc::SYS_tgkill, only(0, Width::Qword, Op::Eq, getpid().as_raw_nonzero().get() as u64)?);
    // Limits only of itself: another process of the same user could be starved by them.
    rules.insert(libc::SYS_prlimit64, only(0, Width::Dword, Op::Eq, 0)?);
    // What a C library asks of descriptors that might be terminals.
    rules.insert(libc::SYS_ioctl, one_of(1, &[libc::TCGETS, libc::FIONREAD])?);
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
        rules.extend(free(WRITING));
    }
    if grants.network {
        rules.extend(free(NETWORK));
        rules.insert(libc::SYS_socket, one_of(0, &[libc::AF_INET as u64, libc::AF_INET6 as u64])?);
    }
    if let Guest::Program { .. } = guest {
        program(&mut rules, grants, guest, held)?;
    }
    Ok(rules)
}

/// What a program may beyond a plugin: to be run at all, to run others as far as its limit goes, and what shells and their tools need.
fn program(rules: &mut Rules, grants: &Grants, guest: Guest<'_>, held: Held) -> Result<(), FilterError> {
    rules.extend(free(PROGRAM));
    rules.insert(
        libc::SYS_ioctl,
        one_of(1, &[libc::TCGETS, libc::FIONREAD, libc::FIOCLEX, libc::FIONBIO, libc::TIOCGWINSZ, libc::TIOCGPGRP])?,
    );
    rules.insert(libc::SYS_prctl, only(0, Width::Dword, Op::Eq, libc::PR_SET_NAME as u64)?);
    // To its own group, which is of what it started.
    rules.insert(libc::SYS_kill, if held.signals { Vec::new() } else { only(0, Width::Dword, Op::Eq, 0)? });
    if held.signals {
        rules.extend(free(&[libc::SYS_tgkill, libc::SYS_tkill]));
    }
    if held.files {
        // Landlock knows where it may write: to /dev/null even without a grant, which no list of numbers can tell from other files.
        rules.insert(libc::SYS_openat, Vec::new());
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_open, Vec::new());
    }
    if guest.forks() {
        rules.extend(free(FORKING));
        let thread = libc::CLONE_THREAD as u64;
        let namespaces = (libc::CLONE_NEWNS
            | libc::CLONE_NEWCGROUP
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET) as u64;
        let refused = if grants.threads { namespaces } else { namespaces | thread };
        rules.insert(libc::SYS_clone, only(0, Width::Dword, Op::MaskedEq(refused), 0)?);
    }
    Ok(())
}

/// These calls, whatever their arguments.
fn free(numbers: &[i64]) -> Rules {
    numbers.iter().map(|number| (*number, Vec::new())).collect()
}

/// The call is allowed when this argument is one of these.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<Rule>, FilterError> {
    let rules = values.iter().map(|value| only(argument, Width::Dword, Op::Eq, *value));
    Ok(rules.collect::<Result<Vec<_>, _>>()?.concat())
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

/// What a program needs to be run, and what shells and their tools do within their own processes.
const PROGRAM: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_pipe2,
    libc::SYS_umask,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getcpu,
    libc::SYS_getpriority,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_delete,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigpending,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getpgrp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_alarm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getdents,
];

/// Processes, and waiting for them; `clone` beside them, without new namespaces.
const FORKING: &[i64] = &[
    libc::SYS_wait4,
    libc::SYS_waitid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: Guest<'_> = Guest::Program { processes: 16, runs: &[] };
    const HELD: Held = Held { files: true, signals: true };

    #[test]
    fn what_would_go_around_the_list_is_not_on_it() {
        let every = Grants { write: vec!["/".into()], network: true, threads: true, ..Grants::default() };
        let plugin = rules(&every, Guest::Plugin, HELD).unwrap();
        let shell = rules(&every, SHELL, HELD).unwrap();
        let never = [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_memfd_create,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_send_signal,
            libc::SYS_rt_sigqueueinfo,
        ];
        for number in never {
            assert!(!plugin.contains_key(&number) && !shell.contains_key(&number), "system call {number} is allowed");
        }
        for number in [libc::SYS_execve, libc::SYS_kill, libc::SYS_wait4] {
            assert!(!plugin.contains_key(&number) && shell.contains_key(&number), "system call {number}");
        }
        for leaving_its_group in [libc::SYS_setsid, libc::SYS_setpgid] {
            assert!(!shell.contains_key(&leaving_its_group), "system call {leaving_its_group} is allowed");
        }
        assert!(!shell[&libc::SYS_clone].is_empty() && !shell[&libc::SYS_prlimit64].is_empty(), "their arguments are looked at");
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let nothing = Grants::default();
        let alone = Guest::Program { processes: 1, runs: &[] };
        for rules in [rules(&nothing, Guest::Plugin, HELD).unwrap(), rules(&nothing, alone, Held::default()).unwrap()] {
            for number in [libc::SYS_socket, libc::SYS_connect, libc::SYS_clone, libc::SYS_unlinkat, libc::SYS_ftruncate, libc::SYS_wait4] {
                assert!(!rules.contains_key(&number), "system call {number} is allowed");
            }
            assert!(!rules[&libc::SYS_openat].is_empty(), "opening is limited to reading");
        }
        assert!(!rules(&nothing, alone, Held::default()).unwrap()[&libc::SYS_kill].is_empty(), "signals stay in the group");
    }
}
