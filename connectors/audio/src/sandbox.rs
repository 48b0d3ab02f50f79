//! What holds a child: limits on its time, memory and files, the files of its request and no other (Landlock), and
//! the system calls that decoding needs and no other (seccomp). All of it is irrevocable and set before the child
//! touches a byte of media.
//!
//! The limits hold everywhere. Landlock and seccomp are as the kernel has them; [`allowed`] finds out what it has.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use alloc::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::error::AudioError;
use crate::limits::Limits;
use crate::protocol::Request;

/// Files that a child may hold open: the standard three, its input, a header's, its output, and some to spare.
const FILES_MAX: u64 = 16;

/// The rules of Landlock that are asked for. An older kernel sets those that it knows.
const LANDLOCK: ABI = ABI::V6;

/// The system calls that a child may make whatever their arguments: its pipes, its file, memory without code, clocks,
/// and its end. Opening is here because Landlock decides about files.
const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Puts this process under the limits of its request, and lets it have only the request's files.
pub(crate) fn enter(request: &Request) -> Result<(), AudioError> {
    limit(request.limits()).map_err(AudioError::io("setting the limits"))?;
    let reads = request.reads().map(input).collect::<Result<Vec<_>, _>>()?;
    let writes = request.writes().map(output).transpose()?;
    close_files(reads, writes).map_err(failed("closing the files"))?;
    close_calls().map_err(failed("closing the system calls"))
}

/// Limits on resources, which the kernel enforces.
fn limit(limits: &Limits) -> io::Result<()> {
    // The hard limit kills; it lies above the soft one, so that the signal names the cause.
    let cpu =
        Rlimit { current: Some(limits.cpu_seconds), maximum: Some(limits.cpu_seconds.saturating_add(2)) };
    setrlimit(Resource::Cpu, cpu)?;
    setrlimit(Resource::As, fixed(limits.memory_bytes))?;
    setrlimit(Resource::Nofile, fixed(FILES_MAX))?;
    setrlimit(Resource::Core, fixed(0))?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

fn fixed(value: u64) -> Rlimit {
    Rlimit { current: Some(value), maximum: Some(value) }
}

/// The file to read, by its identity and not by its name.
fn input(path: &Path) -> Result<PathFd, AudioError> {
    PathFd::new(path).map_err(failed("opening the input"))
}

/// The file to write, which is made where it is not there: a file can be allowed only once it exists.
fn output(path: &Path) -> Result<PathFd, AudioError> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(AudioError::io("creating the merged file"))?;
    PathFd::new(path).map_err(failed("opening the merged file"))
}

/// From here on nothing can be opened but these, no port, and no signal sent outside.
fn close_files(reads: Vec<PathFd>, writes: Option<PathFd>) -> Result<(), RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    for file in reads {
        rules = rules.add_rule(PathBeneath::new(file, AccessFs::ReadFile))?;
    }
    if let Some(file) = writes {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
        rules = rules.add_rule(PathBeneath::new(file, access))?;
    }
    rules.restrict_self().map(drop)
}

/// From here on only the calls that decoding needs are made. Others fail as on a kernel that does not have them, which
/// a C library of another version takes as it comes.
fn close_calls() -> Result<(), seccompiler::Error> {
    // An architecture that the filter's compiler does not know is one without a filter.
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = SeccompFilter::new(rules()?, unknown, SeccompAction::Allow, architecture)?;
    match seccompiler::apply_filter(&BpfProgram::try_from(filter)?) {
        // The kernel has no filters, or what contains this process does not let it have them.
        Err(seccompiler::Error::Seccomp(_)) => Ok(()),
        other => other,
    }
}

/// The calls, and those that depend on an argument.
fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let only = |argument, operator, value: u64| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        Ok::<_, BackendError>(vec![SeccompRule::new(vec![condition])?])
    };
    let bits = |bits: libc::c_int| SeccompCmpOp::MaskedEq(u64::from(bits.cast_unsigned()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    // No memory can be run but the program's own.
    rules.insert(libc::SYS_mmap, only(2, bits(libc::PROT_EXEC), 0)?);
    rules.insert(libc::SYS_mprotect, only(2, bits(libc::PROT_EXEC), 0)?);
    // To abort is to send oneself a signal.
    rules.insert(libc::SYS_tgkill, only(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?);
    Ok(rules)
}

/// Tries what a child must not be able to do, and names what it could.
pub(crate) fn allowed() -> Vec<String> {
    // Of all there is, these are on every system and harmless to touch.
    let nowhere = "/nonexistent/program";
    let attempts: [(&str, io::Result<()>); 7] = [
        ("read other files", File::open("/").map(drop)),
        ("write other files", File::options().write(true).open("/dev/null").map(drop)),
        ("open sockets", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("become another program", Err(Command::new(nowhere).exec())),
        ("start programs", Command::new(nowhere).status().map(drop)),
        ("start threads", std::thread::Builder::new().spawn(|| ()).map(drop)),
        ("change its limits", setrlimit(Resource::Core, fixed(0)).map_err(io::Error::from)),
    ];
    let refused = |tried: &io::Result<()>| {
        let kind = tried.as_ref().map_err(io::Error::kind);
        matches!(kind, Err(io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported))
    };
    attempts.into_iter().filter(|(_, tried)| !refused(tried)).map(|(what, _)| what.to_owned()).collect()
}

fn failed<E: core::fmt::Display>(doing: &str) -> impl FnOnce(E) -> AudioError + '_ {
    move |cause| AudioError::Io { doing: doing.to_owned(), cause: cause.to_string() }
}
