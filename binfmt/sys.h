/* The launcher's door to Linux on x86-64: raw system calls and the few constants it needs. Nothing
 * comes from libc or from kernel headers, so plain gcc builds it anywhere. Numbers and layouts are
 * kernel ABI: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi. */
#ifndef CERTEXEC_SYS_H
#define CERTEXEC_SYS_H

#ifndef __x86_64__
#error "the launcher is written for x86-64"
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef int s32;
typedef long s64;

enum call {
    SYS_write = 1, SYS_close = 3, SYS_fstat = 5, SYS_poll = 7, SYS_mmap = 9, SYS_rt_sigaction = 13,
    SYS_rt_sigprocmask = 14, SYS_pread64 = 17, SYS_getpid = 39, SYS_socket = 41,
    SYS_connect = 42, SYS_sendmsg = 46,
    SYS_recvmsg = 47, SYS_socketpair = 53, SYS_getsockopt = 55, SYS_clone = 56, SYS_execve = 59, SYS_wait4 = 61,
    SYS_fcntl = 72, SYS_chdir = 80, SYS_umask = 95, SYS_setsid = 112, SYS_getgroups = 115,
    SYS_setgroups = 116, SYS_setresuid = 117, SYS_getresuid = 118, SYS_setresgid = 119,
    SYS_getresgid = 120, SYS_setfsuid = 122, SYS_setfsgid = 123, SYS_capget = 125,
    SYS_capset = 126, SYS_personality = 135, SYS_fstatfs = 138, SYS_getpriority = 140, SYS_setpriority = 141,
    SYS_sched_setscheduler = 144, SYS_sched_getscheduler = 145, SYS_prctl = 157,
    SYS_sched_setaffinity = 203, SYS_clock_gettime = 228, SYS_exit_group = 231, SYS_ioprio_set = 251, SYS_openat = 257,
    SYS_dup3 = 292, SYS_prlimit64 = 302, SYS_seccomp = 317, SYS_getrandom = 318,
    SYS_execveat = 322, SYS_statx = 332, SYS_close_range = 436, SYS_openat2 = 437,
    SYS_landlock_create_ruleset = 444, SYS_landlock_add_rule = 445,
    SYS_landlock_restrict_self = 446,
};
enum error { E_PERM = 1, E_NOENT = 2, E_NOEXEC = 8, E_BADF = 9, E_ACCES = 13, E_INVAL = 22,
             E_TXTBSY = 26, E_PIPE = 32, E_CONNRESET = 104, E_LARGEST = 4095 };
enum auxiliary { AT_NULL = 0, AT_EXECFD = 2, AT_FLAGS = 8, AT_UID = 11, AT_EUID = 12, AT_GID = 13,
                 AT_EGID = 14, AT_SECURE = 23, AT_RANDOM = 25, AT_FLAGS_PRESERVE_ARGV0 = 1 };
enum { AT_FDCWD = -100, AT_EMPTY_PATH = 0x1000, AT_SYMLINK_NOFOLLOW = 0x100, O_RDWR = 2,
       O_NONBLOCK = 04000, O_NOFOLLOW = 0400000, O_CLOEXEC = 02000000,
       O_PATH = 010000000, RESOLVE_NO_SYMLINKS = 4,
       F_GETFD = 1, F_SETFD = 2, F_SETFL = 4, F_SETSIG = 10, F_SETLEASE = 1024, F_RDLCK = 0,
       F_DUPFD_CLOEXEC = 1030, FD_CLOEXEC = 1, SIG_URG = 23, CLOCK_REALTIME = 0,
       S_IFMT = 0170000, S_IFREG = 0100000, S_ISUID = 04000, S_ISGID = 02000,
       S_IWOTHERS = 022, STATX_BASIC = 0x7ff, STATX_BIRTH = 0x800, STATX_MOUNT = 0x1000,
       STATX_MOUNT_UNIQUE = 0x4000,
       PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS = 0x22 };
enum { AF_UNIX = 1, SOCK_SEQPACKET = 5, SOCK_CLOEXEC = 02000000, SOCK_NONBLOCK = 04000,
       SOL_SOCKET = 1, SO_PEERCRED = 17, SCM_RIGHTS = 1, POLLIN = 1,
       MSG_CTRUNC = 8, MSG_TRUNC = 0x20, MSG_NOSIGNAL = 0x4000, MSG_CMSG_CLOEXEC = 0x40000000 };
enum { CLONE_VM = 0x100, WALL = 0x40000000, SIG_SETMASK = 2, SIGNALS = 64, SCHED_OTHER = 0,
       CAPABILITIES = 64, CAPABILITY_VERSION_3 = 0x20080522 };
enum { PR_SET_KEEPCAPS = 8, PR_CAPBSET_READ = 23, PR_CAPBSET_DROP = 24, PR_GET_SECUREBITS = 27,
       PR_SET_TIMERSLACK = 29, PR_SET_CHILD_SUBREAPER = 36, PR_GET_CHILD_SUBREAPER = 37,
       PR_SET_NO_NEW_PRIVS = 38, PR_GET_NO_NEW_PRIVS = 39, PR_CAP_AMBIENT = 47,
       PR_SET_PTRACER = 0x59616d61, AMBIENT_IS_SET = 1, AMBIENT_RAISE = 2, AMBIENT_CLEAR_ALL = 4 };
enum { RLIMIT_STACK = 3, RLIMIT_CORE = 4, RLIMIT_NOFILE = 7, RLIMIT_NICE = 13, RLIMIT_RTPRIO = 14,
       RLIMITS = 16 };
enum { SECCOMP_SET_MODE_FILTER = 1, SECCOMP_LOG = 2, SECCOMP_NEW_LISTENER = 8,
       SECCOMP_WAIT_KILLABLE_RECV = 32 };

struct limit { u64 soft, hard; };
struct piece { const void *base; u64 length; };
struct message { void *name; u64 name_length; struct piece *pieces; u64 piece_count;
                 void *control; u64 control_length, flags; };
struct rights { u64 length; s32 level, type, fd, spare; };
struct status { u64 device, inode, links; u32 mode, uid, gid, spare; u64 special; s64 size;
                u64 rest[11]; };
struct moment { s64 seconds, nanoseconds; }; /* in statx the second has 32 bits and a pad of 0 */
struct extended_status { u32 mask, block; u64 attributes; u32 links, uid, gid; u16 mode, spare;
                         u64 inode, size, blocks, known; struct moment accessed, birth, changed,
                         modified; u32 special[2], major, minor; u64 mount, rest[13]; };
struct file_system { u64 type, counts[6], id, rest[7]; };
struct capability_header { u32 version; s32 pid; };
struct capability_half { u32 effective, permitted, inheritable; };
struct instruction { u16 code; u8 jt, jf; u32 k; };
struct filter_program { u16 length; struct instruction *instructions; };
struct how { u64 flags, mode, resolve; };
struct ruleset { u64 handled; };
struct beneath { u64 rights; s32 parent; } __attribute__((packed));
enum { LANDLOCK_PATH_BENEATH = 1 };
_Static_assert(sizeof(struct beneath) == 12 && sizeof(struct message) == 56 && sizeof(struct status) == 144
               && sizeof(struct extended_status) == 256 && sizeof(struct file_system) == 120,
               "kernel layouts");

static inline __attribute__((always_inline)) long
sys6(long n, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    long result;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result)
                     : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
/* sys(number, up to five arguments), the rest 0. gate() passes the nonce as the sixth. */
#define SYS_FILL(f, n, a, b, c, d, e, ...) \
    sys6((n), (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (f))
#define sys(...) SYS_FILL(0, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define gate(...) SYS_FILL(self.nonce, __VA_ARGS__, 0, 0, 0, 0, 0, 0)

/* gcc may call these two by itself, freestanding or not. */
void *memcpy(void *to, const void *from, u64 count) {
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return start;
}

void *memset(void *to, int byte, u64 count) {
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(byte) : "memory");
    return start;
}

static int same_bytes(const void *one, const void *other, u64 count) {
    const u8 *a = one, *b = other;
    while (count && *a == *b)
        a++, b++, count--;
    return !count;
}
#endif
