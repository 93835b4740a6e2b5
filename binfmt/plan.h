/* What crosses between launcher and policy server: the plan, and the messages around it.
 * docs/plan-format.md describes both; certexec/run/plan.py and channel.py are the other side. */
#ifndef CERTEXEC_PLAN_H
#define CERTEXEC_PLAN_H
#include "sys.h"

/* The plan: one block, little endian, every table 8-aligned, the last byte zero. */
#define PLAN_MAGIC 0x314e414c50435843UL /* "CXCPLAN1" */
enum { PLAN_VERSION = 1,
       PLAN_SIZE_MAX = 8 << 20, /* bytes: more than the 6 MiB of strings that exec ever takes */
       FILTER_MAX = 4096 };     /* instructions: BPF_MAXINSNS of linux/bpf_common.h */
enum plan_flag {
    PLAN_PRIVILEGED = 1 << 0,   /* identities and capabilities change; never no_new_privs */
    PLAN_LISTENER = 1 << 1,     /* a supervisor receives the filter's listener */
    PLAN_ENV = 1 << 2,          /* the environment is replaced by the table */
    PLAN_ARGV = 1 << 3,         /* the arguments after argv[0] are replaced by the table */
    PLAN_TRACED = 1 << 4,       /* the supervisor has seized the launcher (tells, changes nothing) */
    PLAN_AMBIENT = 1 << 5,      /* ambient capabilities are raised, otherwise there are none */
    PLAN_KEEP_PROGRAM_FD = 1 << 6, /* a script: the interpreter opens its descriptor by /dev/fd */
    PLAN_GROUPS = 1 << 7,       /* supplementary groups are set, otherwise left */
    PLAN_CAPS = 1 << 8,         /* capability sets are set, otherwise left as uid 0 has them */
    PLAN_NICE = 1 << 9,
    PLAN_UMASK = 1 << 10,
    PLAN_OOM = 1 << 11,
    PLAN_LOG = 1 << 12,         /* SECCOMP_FILTER_FLAG_LOG; never with a listener */
    PLAN_LANDLOCK = 1 << 13,    /* the program gets a Landlock domain */
    PLAN_NESTED = 1 << 14,      /* inside a confined tree: no filter, and the ids that it has */
    PLAN_FLAGS = (1 << 15) - 1,
};
struct table { u64 offset, count; };
struct plan {
    u64 magic, version, size, flags, ruid, euid, rgid, egid;
    struct capability_half capabilities[2]; /* low and high words, as capset(2) takes them */
    u64 ambient, bounding;
    s64 nice;
    u64 umask, oom_score_adj;   /* offset of the decimal text with its newline */
    struct table groups;        /* u32 gid, strictly ascending */
    struct table limits;        /* struct plan_limit */
    struct table env, argv;     /* u64 offset of a NUL-terminated string */
    struct table filter;        /* struct instruction */
    struct table patches;       /* struct patch */
    struct table trees;         /* struct tree */
    u64 handled;                /* struct landlock_ruleset_attr: the rights that a domain handles */
};
struct plan_limit { u64 resource; struct limit value; };
struct patch { u32 index, which; }; /* which: 0 = the nonce's low half, 1 = its high half */
struct tree { u64 path, rights, device, inode; }; /* path: offset of a NUL-terminated string */
enum { JUMP_IF_EQUAL = 0x15 };      /* BPF_JMP | BPF_JEQ | BPF_K */
_Static_assert(sizeof(struct plan) == 248, "plan layout");

/* The messages: each is one packet of a SOCK_SEQPACKET socket. */
enum { READY_MAGIC = 0x31535843, HELLO_MAGIC = 0x31485843, REPLY_MAGIC = 0x31525843,
       PROTOCOL_VERSION = 1, TEXT_MAX = 1024, HELLO_SECURE = 1, HELLO_RUN_FORM = 2,
       REPLY_REFUSE = 0, REPLY_PLAN = 1, REPLY_HEAD = 20,
       EXIT_INTERNAL = 125, EXIT_REFUSED = 126, EXIT_NOT_FOUND = 127 };
struct ready { u32 magic, pid; };                           /* "CXS1", server to launcher */
struct hello { u32 magic, version, flags, argc,             /* "CXH1", launcher to server */
               ruid, euid, suid, rgid, egid, sgid; };
struct reply { u32 magic, version, kind, exit_code, length; /* "CXR1", server to launcher */
               char text[TEXT_MAX]; };                      /* a plan: length is the plan's */
_Static_assert(sizeof(struct reply) == REPLY_HEAD + TEXT_MAX, "reply layout");
#endif
