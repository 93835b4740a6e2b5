"""Policies to start from.

``starting_policy`` is what a dynamically linked program needs to start, to read its own
installation and the usual system files, to talk to its terminal and to end: ls, cat, id, grep,
``sh -c`` and ``python3 -c`` run under it. It gives no network, no child processes and no file to
write; comments say what to add for these. ``permit_all`` confines nothing.
"""

from __future__ import annotations

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.format import quote
from certexec.policy.header_path import check_header

_COLUMN = 4
"""names of calls in one comment line of permit_all"""

_STARTING = """\
Policy: {program}, Emulation: native
# A policy to start from, for certexec (certexec.policy(5)). What no rule permits is denied with
# EPERM. For file names the first rule that matches decides; "match" means "this and everything
# below it". Add what the program needs, and take away what it does not: "certexec policy check
# --lint" shows what a rule does not mean, "certexec run --log FILE" what was denied.

# --- starting and ending ---------------------------------------------------------------------
# the loader and the C library set up threads, random numbers and limits
	native-arch_prctl: permit
	native-set_tid_address: permit
	native-set_robust_list: permit
	native-rseq: permit
	native-getrandom: permit
	native-futex: permit
	native-getrlimit: permit
	native-exit: permit
	native-exit_group: permit
	native-restart_syscall: permit

# --- its own memory --------------------------------------------------------------------------
	native-brk: permit
	native-mmap: permit
	native-munmap: permit
	native-mremap: permit
	native-mprotect: permit
	native-madvise: permit
	native-membarrier: permit

# --- what it has open ------------------------------------------------------------------------
# which files it may open is further down; these work on what is open already
	native-read: permit
	native-readv: permit
	native-pread64: permit
	native-preadv: permit
	native-write: permit
	native-writev: permit
	native-pwrite64: permit
	native-pwritev: permit
	native-lseek: permit
	native-close: permit
	native-closefrom: permit
	native-dup: permit
	native-dup2: permit
	native-fcntl: permit
	native-ioctl: permit
	native-fstat: permit
	native-fstatfs: permit
	native-getdents: permit
	native-fadvise64: permit
	native-sendfile: permit
	native-copy_file_range: permit
	native-poll: permit
	native-select: permit
	native-pipe: permit
	native-eventfd: permit
	native-epoll_create: permit
	native-epoll_ctl: permit
	native-epoll_wait: permit

# --- signals, time and sleep (it cannot send signals: for that add native-kill) ---------------
	native-sigaction: permit
	native-sigprocmask: permit
	native-sigreturn: permit
	native-sigsuspend: permit
	native-sigpending: permit
	native-sigtimedwait: permit
	native-sigaltstack: permit
	native-pause: permit
	native-alarm: permit
	native-getitimer: permit
	native-setitimer: permit
	native-nanosleep: permit
	native-gettimeofday: permit
	native-clock_gettime: permit
	native-clock_getres: permit
	native-time: permit
	native-times: permit

# --- who and where it is ---------------------------------------------------------------------
	native-getpid: permit
	native-getppid: permit
	native-gettid: permit
	native-getpgrp: permit
	native-getpgid: permit
	native-getsid: permit
	native-getuid: permit
	native-geteuid: permit
	native-getgid: permit
	native-getegid: permit
	native-getresuid: permit
	native-getresgid: permit
	native-getgroups: permit
	native-getpriority: permit
	native-getrusage: permit
	native-getcpu: permit
	native-sched_getaffinity: permit
	native-sched_yield: permit
	native-sysinfo: permit
	native-uname: permit
	native-umask: permit
	native-getcwd: permit
	native-chdir: permit
	native-fchdir: permit
	native-statfs: permit

# --- files it may read -----------------------------------------------------------------------
# programs and libraries, with all that distributions install beside them
	native-fsread: filename eq "/" then permit
	native-fsread: filename match "/usr" then permit
	native-fsread: filename match "/bin" then permit
	native-fsread: filename match "/sbin" then permit
	native-fsread: filename match "/lib*" then permit
{own}# how libraries are found
	native-fsread: filename match "/etc/ld.so.*" then permit
	native-fsread: filename match "/etc/ld-musl-*" then permit
	native-fsread: filename match "/etc/alternatives" then permit
# language, time zone, names of users and groups
	native-fsread: filename match "/etc/locale.*" then permit
	native-fsread: filename eq "/etc/localtime" then permit
	native-fsread: filename eq "/etc/nsswitch.conf" then permit
	native-fsread: filename eq "/etc/passwd" then permit
	native-fsread: filename eq "/etc/group" then permit
	native-fsread: filename match "/etc/terminfo" then permit
	native-fsread: filename match "/etc/python3*" then permit
	native-fsread: filename eq "/etc/selinux/config" then permit
# the kernel's description of the machine, and of processes (the kernel guards what is private)
	native-fsread: filename eq "/proc" then permit
	native-fsread: filename re "^/proc/(self|thread-self|filesystems|meminfo|cpuinfo|stat)$" \
then permit
	native-fsread: filename re "^/proc/(self|[0-9]+)(/task/[0-9]+)?(/(maps|stat|status|statm\
|cmdline|comm|exe|cwd|root|fd|mounts|mountinfo|cgroup|limits|task))?$" then permit
	native-fsread: filename match "/proc/sys/kernel/*" then permit
	native-fsread: filename eq "/proc/sys/vm/overcommit_memory" then permit
	native-fsread: filename match "/sys/devices/system/cpu" then permit
# devices that hold no data, and the terminal
	native-fsread: filename re "^/dev/(null|zero|full|random|urandom|tty|pts/[0-9]+)$" then permit
	native-fsread: filename eq "/dev" then permit
	native-fsread: filename eq "/dev/pts" then permit
# the directory in which it is started: its list of names, not its files
	native-fsread: filename eq "$CWD" then permit
# what is not there is said not to be there, without a line in the log
	native-fsread: filename match "/<non-existent filename>*" then deny[enoent]
	native-fsread: filename eq "" then deny[enoent]
# what it is here to read, for example:
#	native-fsread: filename match "$CWD" and filename nsub "/." then permit
#	native-fsread: filename match "$HOME/documents" then permit

# --- files it may write: none but these ------------------------------------------------------
	native-fswrite: filename re "^/dev/(null|full|tty|pts/[0-9]+)$" then permit
# for example:
#	native-fswrite: filename match "/var/lib/thing" then permit
#	native-rename: permit

# --- denied without a line in the log --------------------------------------------------------
# C libraries ask a name service that is mostly not there, ls asks for extended attributes
	native-socket: deny[eafnosupport]
	native-connect: deny[econnrefused]
	native-getpeername: deny[enotsock]
	native-getxattr: deny[eopnotsupp]
	native-lgetxattr: deny[eopnotsupp]
	native-fgetxattr: deny[eopnotsupp]
	native-listxattr: deny[eopnotsupp]
	native-llistxattr: deny[eopnotsupp]
	native-flistxattr: deny[eopnotsupp]

# --- not given; take the "#" away for what is needed ------------------------------------------
# child processes (native-tfork: threads; vfork and posix_spawn need native-vfork)
#	native-fork: permit
#	native-vfork: permit
#	native-tfork: permit
#	native-execve: permit
#	native-wait4: permit
#	native-waitid: permit
#	native-setpgid: permit
# network (instead of the denials above)
#	native-socket: permit
#	native-connect: sockaddr match "inet-*:443" then permit
#	native-setsockopt: permit
#	native-getsockopt: permit
#	native-getsockname: permit
#	native-getpeername: permit
#	native-sendto: permit
#	native-recvfrom: permit
#	native-sendmsg: permit
#	native-recvmsg: permit
#	native-shutdown: permit
"""

_PERMIT_ALL = """\
Policy: {program}, Emulation: native
# !!! UNSAFE: THIS POLICY CONFINES NOTHING !!!
# It permits every system call of Linux x86-64 by name. The certificate still proves which program
# runs, but the program may do whatever its identity may: read, write, execute, connect, trace.
# Use it to find out whether a problem is the policy's, and then write one.
	native-fsread: true then permit
	native-fswrite: true then permit
"""


def starting_policy(program: str) -> str:
    """Return a commented policy for the program with this absolute path.

    Raises PolicyError("policy-syntax") for a path that a header cannot hold.
    """
    check_header(program)
    directory = program.rpartition("/")[0]
    own = ""
    if directory and not directory.startswith(("/usr/", "/bin", "/sbin")):
        pattern = quote(_literal(directory))
        own = f"# its own directory\n\tnative-fsread: filename match {pattern} then permit\n"
    return _STARTING.format(program=program, own=own)


def permit_all(program: str) -> str:
    """Return a policy that permits every system call. Raises as ``starting_policy``."""
    check_header(program)
    rules = "".join(f"\tnative-{name}: permit\n" for name in sorted(NUMBERS))
    return _PERMIT_ALL.format(program=program) + rules


def _literal(path: str) -> str:
    """Return the pattern that matches just this path: fnmatch(3)'s special characters escaped."""
    return "".join("\\" + one if one in "*?[]\\" else one for one in path)
