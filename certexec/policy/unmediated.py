"""What sandboxes that look at files and sockets leave alone: calls by their names in rules (pure).

AppArmor and firejail (without seccomp) let a program make every call that is about no file name
and no socket. A policy lists what it permits: these are the calls that programs make in earnest.
"""

from __future__ import annotations

CALLS = tuple(
    (
        "arch_prctl set_tid_address set_robust_list get_robust_list rseq getrandom futex exit "
        "exit_group restart_syscall prctl membarrier "
        "brk mmap munmap mremap mprotect madvise msync mincore mlock munlock mlockall munlockall "
        "memfd_create "
        "read readv pread64 preadv write writev pwrite64 pwritev lseek close fstat fstatfs "
        "fadvise64 getdents fsync fdatasync sync_file_range ftruncate fallocate sendfile splice "
        "tee copy_file_range readahead ioctl dup dup2 closefrom pipe "
        "poll select epoll_create epoll_ctl epoll_wait eventfd signalfd timerfd_create "
        "timerfd_settime timerfd_gettime inotify_init inotify_rm_watch "
        "sigaction sigprocmask sigreturn sigaltstack sigsuspend sigpending sigtimedwait pause "
        "alarm getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun "
        "timer_delete clock_gettime clock_getres gettimeofday time times nanosleep "
        "fork vfork tfork wait4 waitid setpgid setsid getpid getppid gettid getpgid getpgrp getsid "
        "getuid geteuid getgid getegid getresuid getresgid getgroups getpriority getrusage "
        "getrlimit setrlimit getcpu getcwd chdir fchdir umask uname sysinfo sched_yield "
        "sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler "
        "sched_get_priority_max sched_get_priority_min "
        "semget semop semtimedop semctl shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl"
    ).split()
)
ON_SOCKETS = tuple(
    "accept listen getpeername getsockname getsockopt setsockopt shutdown send recv recvfrom "
    "recvmsg".split()
)
"""What may be done with sockets that are open."""
FCNTL = "F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETOWN F_GETOWN"
F_DUPFD_CLOEXEC = "<unknown>: 1030"
"""How this command, which systrace did not know, reads in rules."""
