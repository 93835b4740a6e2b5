/* certexec's launcher: what the kernel starts when somebody executes a certificate.
 *
 * It asks a policy server, or finds what one has said before (cache.h), applies that plan, and
 * executes the program in its own place: same pid, parent and terminal. It judges nothing. Whatever is not exactly as it must be
 * ends with one line on stderr and exit 125 (certexec's own fault), 126 (refused) or 127 (not
 * found); then nothing was run and no privilege is left, because the process is gone.
 *
 * Two ways in: by binfmt_misc with flags POC(F), argv = [interpreter, path as typed, argv[0], ...]
 * and AT_EXECFD the open certificate (with a set-user-ID one, ruid is the invoker's and euid 0);
 * or `launch --run SOCKET argv[0] ...` by `certexec run`, with a server already there, never
 * privileged. The steps are numbered as in docs/plan-format.md. No libc, no relocations. */
#include "plan.h"

#ifndef CERTEXEC_HOME
#define CERTEXEC_HOME "/usr/libexec/certexec"
#endif
#define PYTHON CERTEXEC_HOME "/current/python"
#define SERVER CERTEXEC_HOME "/current/serve.py"
#define INSIDE "a certificate was executed inside a confined program"
#define NORETURN __attribute__((noreturn, noinline))
enum { NESTED_PROBE = 0x43584543, ASK_PLAN = 0, ASK_PROGRAM = 1, RETRIES_TEXT_BUSY = 2000 };

static struct {
    char **argv, **envp;        /* the program's, argv[0] as typed */
    const char *reason;         /* the word for a refusal at this step (certexec/reasons.py) */
    u64 argc, nonce;            /* nonce: opens the launch gate, once the filter stands */
    u32 run_form, secure, ruid, euid, rgid, egid;
    u32 nested;                 /* a supervisor around us has judged the certificate */
    u32 gated, late_nofile;     /* late: the final limit waits until the listener exists */
    s32 certificate, channel, server_end, program, message; /* the last: nested, what came */
    s32 between;                /* the server's parent, until it is reaped */
    s32 domain;                 /* the Landlock ruleset, once it is made */
    u32 kept;                   /* the plan comes from the cache: there is no server */
    long server;                /* the server's pid; its parent writes it into our memory */
    struct limit nofile, final; /* RLIMIT_NOFILE: the invoker's, and what the program gets */
    u32 *groups;                /* room to read them back */
    char **passed;              /* the invoker's variables beside the plan's, where it is kept */
    u64 passed_count;
    struct instruction *filter;
} self;
static const struct plan *plan;
static const u8 *block;         /* the same bytes */

/* ---- saying no ---- */

static u64 append(char *line, u64 at, const char *text) {
    while (*text && at < TEXT_MAX - 1)
        line[at++] = *text++;
    return at;
}

/* Composes at most TEXT_MAX - 1 bytes: before, text, and an error's name where it is negative. */
static u64 compose(char *line, const char *before, const char *text, long error) {
    char digits[] = "errno 0000";
    u64 at = append(line, append(line, 0, before), text);
    if (error >= 0)
        return at;
    for (u64 place = sizeof digits - 2, rest = (u64)-error; place > 5; place--, rest /= 10)
        digits[place] = (char)('0' + rest % 10);
    at = append(line, at, ": ");
    return append(line, at, error == -E_PERM ? "EPERM" : error == -E_NOENT ? "ENOENT"
                  : error == -E_NOEXEC ? "ENOEXEC" : error == -E_ACCES ? "EACCES"
                  : error == -E_INVAL ? "EINVAL" : error == -E_TXTBSY ? "ETXTBSY" : digits);
}

/* One write, then the end, both through the gate: before the filter nobody looks at the nonce. */
static NORETURN void end(int code, const char *text, long error) {
    static char line[TEXT_MAX + 1];
    u64 all = ~0UL, length = compose(line, "certexec: ", text, error);
    if (self.reason) /* the server's texts hold theirs */
        length = append(line, append(line, append(line, length, " ("),
                        code == EXIT_INTERNAL ? "internal" : self.reason), ")");
    line[length++] = '\n';
    if (!self.gated) /* a full pipe's end, a limit or a terminal must not turn this into a signal */
        sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, 8);
    gate(SYS_write, 2, line, length);
    for (;;)
        gate(SYS_exit_group, code);
}

static void check(int holds, int code, const char *text, long error) {
    if (!holds)
        end(code, text, error);
}
static void need(long result, const char *text) { check(result >= 0, EXIT_REFUSED, text, result); }
#define require(holds, text) check((holds), EXIT_REFUSED, text, 0)
#define expect(holds, text) check((holds), EXIT_INTERNAL, text, 0) /* certexec is to blame */

void __stack_chk_fail(void);
NORETURN void __stack_chk_fail(void) {
    end(EXIT_INTERNAL, "the launcher's stack was damaged", 0);
}

/* One packet, with a descriptor unless fd is -1. */
static long send_packet(int channel, const void *data, u64 size, s32 fd) {
    struct rights rights = { 20, SOL_SOCKET, SCM_RIGHTS, fd, 0 };
    struct piece piece = { data, size };
    struct message message = { .pieces = &piece, .piece_count = 1, .control = &rights,
                               .control_length = fd < 0 ? 0 : sizeof rights };
    return gate(SYS_sendmsg, channel, &message, MSG_NOSIGNAL);
}

#include "server.h"

/* ---- 1. what the kernel laid on the stack: no call is made here ---- */

static void read_stack(u64 *stack) {
    u64 argc = stack[0], flags = 0, *aux;
    char **argv = (char **)(stack + 1), **env = argv + argc + 1;
    self.certificate = -1;
    self.envp = env;
    while (*env)
        env++;
    for (aux = (u64 *)(env + 1); aux[0] != AT_NULL; aux += 2) {
        if (aux[0] == AT_EXECFD) self.certificate = (s32)aux[1];
        if (aux[0] == AT_FLAGS) flags = aux[1];
        if (aux[0] == AT_SECURE) self.secure = aux[1] != 0;
        if (aux[0] == AT_UID) self.ruid = (u32)aux[1];
        if (aux[0] == AT_EUID) self.euid = (u32)aux[1];
        if (aux[0] == AT_GID) self.rgid = (u32)aux[1];
        if (aux[0] == AT_EGID) self.egid = (u32)aux[1];
    }
    self.run_form = self.certificate < 0;
    expect(!self.run_form || (argc >= 4 && same_bytes(argv[1], "--run", 6)),
           "the launcher is started by executing a certificate, not by hand");
    self.argv = argv + (self.run_form ? 3 : 2);
    self.argc = argc - (self.run_form ? 3 : 2);
    if (!self.run_form) {
        self.reason = "kernel-unsupported";
        require(flags & AT_FLAGS_PRESERVE_ARGV0 && argc >= 3,
                "the binfmt_misc entry lacks flag P; run `certexec setup`");
        return;
    }
    require(self.euid == self.ruid, "`certexec run` grants no identity");
    for (char *digit = argv[2]; *digit; digit++) {
        expect(*digit >= '0' && *digit <= '9' && self.channel < 1 << 24, "not a descriptor");
        self.channel = self.channel * 10 + (*digit - '0');
    }
    expect(self.channel > 2, "the policy server's socket may not stand in for standard ones");
}

/* ---- 2. nested? The very first call. Then who we are, by the kernel's word ---- */

/* No kernel knows this option; a certexec filter around us never lets it through unseen. There the
 * supervisor answers with a descriptor. Somebody else's filter could, too: so what has a privilege
 * from its certificate's file, or was started by hand, takes none. */
static void ask_whether_nested(void) {
    long answer = sys(SYS_prctl, NESTED_PROBE, ASK_PLAN);
    self.nested = answer >= 0 && !self.run_form;
    self.message = (s32)answer;
    require(answer == -E_INVAL || self.nested, INSIDE);
}

static void check_identity(void) {
    struct status file;
    u32 now[6], want[6] = { self.ruid, self.euid, self.euid, self.rgid, self.egid, self.egid };
    memset(now, 0xff, sizeof now); /* no id: what is not read cannot fit */
    self.reason = "nested";
    ask_whether_nested();
    self.reason = "setuid-denied";
    sys(SYS_getresuid, now, now + 1, now + 2);
    sys(SYS_getresgid, now + 3, now + 4, now + 5);
    /* exec makes the saved and the file system ids follow the effective ones. */
    require(same_bytes(now, want, sizeof now) && (u32)sys(SYS_setfsuid, -1) == self.euid
            && (u32)sys(SYS_setfsgid, -1) == self.egid,
            "the launcher's user and group ids do not fit together");
    require(self.egid == self.rgid || self.nested,
            "the effective group id is not the invoker's");
    require(self.euid == self.ruid || self.euid == 0 || self.nested,
            "the effective user id is neither the invoker's nor 0");
    /* AT_SECURE without an identity: set-user-ID under a tracer, file capabilities, an LSM. */
    require(self.secure == (self.euid != self.ruid || self.egid != self.rgid),
            "the kernel withheld the identity (tracing?), or the certificate's file has capabilities");
    if (self.run_form)
        return;
    need(sys(SYS_fstat, self.certificate, &file), "the certificate cannot be examined");
    require((file.mode & S_IFMT) == S_IFREG, "the certificate is not a regular file");
    require(!(file.mode & S_ISGID), "the certificate's file is set-group-ID");
    require(!self.nested || !(file.mode & S_ISUID), INSIDE); /* it has a privilege to lose */
    if (self.nested)
        return; /* whatever the ids are, the program around us had them */
    require(!(file.mode & S_ISUID) || (file.uid == 0 && file.gid == 0),
            "the certificate's file is set-user-ID, but not owned by root:root");
    require(!self.secure || file.mode & S_ISUID,
            "the effective user id is 0, but the certificate's file is not set-user-ID");
    require(!self.secure || sys(SYS_prctl, PR_GET_SECUREBITS) == 0,
            "the invoker runs with changed securebits");
}

/* ---- 3. descriptors ---- */

static void tidy_descriptors(void) {
    sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &self.nofile);
    struct limit raised = { self.nofile.hard, self.nofile.hard };
    expect(sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &raised) == 0, "the limit on files is stuck");
    if (!self.run_form && self.certificate <= 2) { /* the invoker had closed a standard one */
        s32 moved = (s32)sys(SYS_fcntl, self.certificate, F_DUPFD_CLOEXEC, 3);
        expect(moved > 2, "no descriptor for the certificate");
        sys(SYS_close, self.certificate);
        self.certificate = moved;
    }
    /* A program that gained a privilege must find 0 to 2 open; any other finds them as they were. */
    for (int fd = 0; fd <= 2; fd++)
        expect(sys(SYS_fcntl, fd, F_GETFD) != -E_BADF
               || sys(SYS_openat, AT_FDCWD, "/dev/null",
                      O_RDWR | (self.secure ? 0 : O_CLOEXEC)) == fd,
               "\"/dev/null\" cannot be opened");
    expect(sys(SYS_fcntl, self.run_form ? self.channel : self.certificate, F_SETFD, FD_CLOEXEC)
           == 0, "the policy server's socket is not open");
}

/* ---- 4. the policy server is a grandchild: nobody ever has to wait for it ---- */

static u8 stacks[2][8192] __attribute__((aligned(16)));

/* Starts a process that runs body(), which never returns. It shares our memory until it execs or
 * ends, on a stack of its own: that saves copying page tables, a tenth of the whole launch. Its
 * exit signal is 0: no SIGCHLD is ever sent, and an ignored SIGCHLD does not reap behind us. */
static long spawn(int stack, void (*body)(void)) {
    long result;
    register u64 parent_tid __asm__("r10") = 0;
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\tcall *%[body]\n\tud2\n1:"
                     : "=a"(result)
                     : "0"(SYS_clone), "D"(CLONE_VM), "S"(stacks[stack] + sizeof stacks[stack]),
                       "d"(0), "r"(parent_tid), [body] "r"(body)
                     : "rcx", "r11", "memory");
    return result;
}

static void run_server(void) {
    become_server(self.server_end, self.secure);
}

static void run_parent_of_server(void) {
    self.server = spawn(1, run_server);
    sys(SYS_exit_group, self.server < 0);
}

/* The server's parent must be gone before the program comes: it never started that child. */
static void reap(void) {
    s32 status = 1, between = self.between;
    self.between = 0;
    if (between > 0)
        sys(SYS_wait4, between, &status, WALL);
    expect(between == 0 || status == 0, "no process for the policy server");
}

static void start_server(void) {
    s32 pair[2], subreaper = 0;
    expect(sys(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0,
           "no socket for the policy server");
    self.channel = pair[0];
    self.server_end = pair[1];
    /* A subreaper would inherit the grandchild, and the program have a child it never started. */
    sys(SYS_prctl, PR_GET_CHILD_SUBREAPER, &subreaper);
    if (subreaper)
        sys(SYS_prctl, PR_SET_CHILD_SUBREAPER, 0);
    self.between = (s32)spawn(0, run_parent_of_server);
    /* Yama denies ptrace to descendants: it must know the server before that is asked. Elsewhere
     * nobody is waited for: a sleep less is a tenth of the whole launch. */
    s32 yama = !self.secure && sys(SYS_prctl, PR_SET_PTRACER, 0) != -E_INVAL;
    if (yama || subreaper || self.between < 0)
        reap();
    if (yama)
        sys(SYS_prctl, PR_SET_PTRACER, self.server);
    if (subreaper)
        sys(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
    sys(SYS_close, pair[1]);
}

/* ---- 5. and 6. the conversation ---- */

/* One packet into buffer; gives its length, 0 or an error for none. A descriptor is taken only where
 * fd is not null. */
static long take_packet(void *buffer, u64 size, s32 *fd) {
    struct rights rights = { 0 };
    struct piece piece = { buffer, size };
    struct message message = { .pieces = &piece, .piece_count = 1, .control = &rights };
    long length = -E_CONNRESET;
    /* Reset: it ended without reading us. Its last words may still be there, so read once more. */
    for (int attempt = 0; attempt < 2 && length == -E_CONNRESET; attempt++) {
        message.control_length = sizeof rights;
        length = sys(SYS_recvmsg, self.channel, &message, MSG_CMSG_CLOEXEC);
    }
    u32 given = message.control_length != 0;
    if (length > 0 && (message.flags & (MSG_TRUNC | MSG_CTRUNC)
                       || (given && !(fd && rights.length == 20 && rights.level == SOL_SOCKET
                                      && rights.type == SCM_RIGHTS))))
        return -E_INVAL;
    if (fd && length > 0)
        *fd = given ? rights.fd : -1;
    return length;
}

static u64 receive(void *buffer, u64 size, s32 *fd) {
    long length = take_packet(buffer, size, fd);
    if (length <= 0)
        reap(); /* it may never have started */
    expect(length != -E_INVAL, "the policy server's message is malformed");
    expect(length > 0, "certexec's policy server ended");
    return (u64)length;
}

/* A refusal may come in place of anything, and is carried out here. */
static u64 heed(struct reply *reply, u64 length) {
    if (length < REPLY_HEAD || reply->magic != REPLY_MAGIC || reply->kind != REPLY_REFUSE)
        return length;
    expect(reply->version == PROTOCOL_VERSION && reply->exit_code >= EXIT_INTERNAL
           && reply->exit_code <= EXIT_NOT_FOUND && reply->length > 0
           && reply->length == length - REPLY_HEAD && reply->length < TEXT_MAX,
           "the policy server's refusal is malformed");
    reply->text[reply->length] = 0;
    self.reason = 0;
    end((int)reply->exit_code, reply->text, 0);
}

static u64 receive_reply(struct reply *reply, s32 *fd) {
    u64 length = receive(reply, sizeof *reply, fd); /* first: it fills the buffer */
    return heed(reply, length);
}

static long say_hello(void) {
    struct hello hello = { HELLO_MAGIC, PROTOCOL_VERSION, /* the saved ids have been compared */
        (self.secure ? HELLO_SECURE : 0) | (self.run_form ? HELLO_RUN_FORM : 0), (u32)self.argc,
        self.ruid, self.euid, self.euid, self.rgid, self.egid, self.egid };
    return send_packet(self.channel, &hello, sizeof hello, self.certificate);
}

static void introduce(struct reply *buffer) {
    if (self.run_form) { /* the server was there before us */
        struct ready ready = { 0, 0 };
        u64 length = receive_reply(buffer, 0);
        memcpy(&ready, buffer, sizeof ready);
        expect(length == sizeof ready && ready.magic == READY_MAGIC,
               "the policy server did not start properly");
        sys(SYS_prctl, PR_SET_PTRACER, ready.pid); /* for Yama; elsewhere it fails, unneeded */
    }
    long sent = say_hello();
    /* If it ended, reading tells why; else it would wait for us as we for it. */
    check(sent >= 0 || sent == -E_PIPE || sent == -E_CONNRESET, EXIT_INTERNAL,
          "the policy server cannot be asked", sent);
    sys(SYS_close, self.certificate); /* the run form has none */
}

#include "resident.h"

/* Zeroed memory for good. A mapping costs more than all that is looked at for a kept plan. */
static void *map(u64 size) {
    static u8 room[24 << 10] __attribute__((aligned(8)));
    static u64 used;
    size = (size + 7) & ~7UL;
    if (size <= sizeof room - used) {
        used += size;
        return room + used - size;
    }
    long where = sys6(SYS_mmap, 0, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1UL, 0);
    expect(where > 0 || where < -E_LARGEST, "no memory for the plan");
    return (void *)where;
}

static int announces_plan(const struct reply *reply) {
    return reply->magic == REPLY_MAGIC && reply->version == PROTOCOL_VERSION
        && reply->kind == REPLY_PLAN && reply->length >= sizeof *plan
        && reply->length <= PLAN_SIZE_MAX;
}

/* The plan comes in packets into private memory: what gets validated, nobody else can change. */
static void fetch_plan(struct reply *reply) {
    u64 length = self.run_form ? 0 : ask_resident(reply);
    if (length)
        heed(reply, length);
    else {
        if (!self.run_form)
            start_server();
        introduce(reply);
        length = receive_reply(reply, &self.program);
    }
    expect(length == REPLY_HEAD && self.program >= 0 && announces_plan(reply),
           "the policy server's answer is malformed");
    u8 *memory = map(reply->length);
    for (u64 have = 0; have < reply->length;)
        have += receive(memory + have, reply->length - have, 0);
    block = memory;
    plan = (const struct plan *)memory;
    self.reason = "unsupported";
    require(plan->size == reply->length, "the plan's size is not the one announced");
}

#include "nested.h"

/* ---- 7. the whole plan is validated before anything of it is applied ---- */

static int fits(struct table table, u64 item) {
    return table.offset % 8 == 0 && table.offset >= sizeof *plan && table.offset <= plan->size
        && table.count <= (plan->size - table.offset) / item;
}

static int is_string(u64 offset) { /* the plan's last byte is NUL, so every string in it ends */
    return offset >= sizeof *plan && offset < plan->size;
}

static int strings_fit(struct table table) {
    const u64 *offset = (const u64 *)(block + table.offset);
    int good = fits(table, sizeof *offset);
    for (u64 i = 0; good && i < table.count; i++)
        good = is_string(offset[i]);
    return good;
}

static int has(u64 flag) {
    return (plan->flags & flag) != 0;
}

static void validate(void) {
    const u32 *group = (const u32 *)(block + plan->groups.offset);
    const struct instruction *filter = (const struct instruction *)(block + plan->filter.offset);
    const struct patch *patch = (const struct patch *)(block + plan->patches.offset);
    const struct tree *tree = (const struct tree *)(block + plan->trees.offset);
    const u32 no_id = ~0U; /* to the kernel (uid_t)-1 means: leave it */

    require(plan->magic == PLAN_MAGIC && plan->version == PLAN_VERSION
            && !(plan->flags & ~(u64)PLAN_FLAGS), "the plan is of another version");
    require(block[plan->size - 1] == 0 && fits(plan->groups, sizeof *group)
            && fits(plan->limits, sizeof(struct plan_limit)) && strings_fit(plan->env)
            && strings_fit(plan->argv) && fits(plan->filter, sizeof *filter)
            && fits(plan->patches, sizeof *patch) && fits(plan->trees, sizeof *tree)
            && (!has(PLAN_OOM) || is_string(plan->oom_score_adj)), "the plan's tables exceed it");
    for (u64 i = 0; i < plan->trees.count; i++)
        require(is_string(tree[i].path), "the plan's tables exceed it");
    require(has(PLAN_LANDLOCK) == (plan->handled != 0), "the plan's domain is not as it says");
    require(plan->ruid == self.ruid && plan->rgid == self.rgid, "the plan is for another invoker");
    require(plan->euid < no_id && plan->egid < no_id, "the plan's ids are out of range");
    for (u64 i = 0; i < plan->groups.count; i++)
        require(group[i] != no_id && (i == 0 || group[i - 1] < group[i]),
                "the plan's groups are not in order");

    require(has(PLAN_NESTED) == (int)self.nested, "the plan is for another place");
    if (self.nested) {
        require(plan->euid == self.euid && plan->egid == self.egid && plan->bounding == ~0UL
                && !has(PLAN_PRIVILEGED | PLAN_LISTENER | PLAN_GROUPS | PLAN_CAPS | PLAN_AMBIENT
                        | PLAN_LOG | PLAN_LANDLOCK),
                "the plan changes identity inside a confined program");
        require(plan->filter.count == 0 && plan->patches.count == 0,
                "the plan brings a filter into a confined program");
        return;
    }
    if (has(PLAN_PRIVILEGED)) {
        require(self.euid == 0 && !self.run_form,
                "the plan grants what the certificate's file does not give");
        require(has(PLAN_ENV), "the plan grants an identity and keeps the invoker's environment");
        require(has(PLAN_CAPS) || plan->euid == 0, "the plan leaves root's capabilities to a user");
        require(!has(PLAN_KEEP_PROGRAM_FD), "the plan grants an identity to a script");
        /* With it, older kernels would reset the effective ids at exec. */
        require(sys(SYS_prctl, PR_GET_NO_NEW_PRIVS) == 0, "no identity goes with no_new_privs");
    } else
        require(!self.secure && plan->euid == plan->ruid && plan->egid == plan->rgid
                && !has(PLAN_GROUPS | PLAN_CAPS | PLAN_AMBIENT) && plan->bounding == ~0UL,
                "the plan changes identity without saying so");

    require(plan->filter.count > 0 && plan->filter.count <= FILTER_MAX, "the plan has no filter");
    for (u64 i = 0; i < plan->patches.count; i++)
        require(patch[i].index < plan->filter.count && patch[i].which <= 1
                && filter[patch[i].index].code == JUMP_IF_EQUAL,
                "the plan's launch gate is not where it says");
}

#include "domain.h"
#include "cache.h"

/* ---- 8. everything that needs no gate ---- */

/* The vector for exec: `first` unless null, the table's strings, then more. */
static char **vector(char *first, struct table table, char **more, u64 count) {
    const u64 *offset = (const u64 *)(block + table.offset);
    char **list = map((table.count + count + 2) * sizeof *list), **next = list;
    if (first)
        *next++ = first;
    for (u64 i = 0; i < table.count; i++)
        *next++ = (char *)(block + offset[i]);
    for (u64 i = 0; i < count; i++)
        *next++ = more[i];
    return list; /* fresh memory: the terminating null is there */
}

static void set_limit(u64 resource, struct limit want) {
    struct limit now = { ~want.soft, ~want.hard };
    need(gate(SYS_prlimit64, 0, resource, &want), "a limit cannot be set");
    gate(SYS_prlimit64, 0, resource, 0, &now);
    require(same_bytes(&now, &want, sizeof now), "a limit was not set as certified");
}

static void set_oom_score(const char *text) {
    char now[8] = { 0 };
    u64 length = 0;
    while (text[length])
        length++;
    long fd = sys(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    need(sys(SYS_write, fd, text, length), "the oom score cannot be set");
    sys(SYS_pread64, fd, now, sizeof now, 0);
    require(same_bytes(now, text, length), "the oom score was not set as certified");
    sys(SYS_close, fd);
}

/* Needs CAP_SETPCAP, which a later step may give away; so it is read back at once. */
static void lower_bounding_set(void) {
    for (u64 bit = 0; bit < CAPABILITIES && sys(SYS_prctl, PR_CAPBSET_READ, bit) >= 0; bit++)
        if (!(plan->bounding >> bit & 1)) {
            need(sys(SYS_prctl, PR_CAPBSET_DROP, bit), "the bounding set cannot be lowered");
            require(sys(SYS_prctl, PR_CAPBSET_READ, bit) == 0, "the bounding set was not lowered");
        }
}

/* RLIMIT_NOFILE last. The listener will take the lowest free descriptor; where the program's limit
 * allows none (it inherits many), that limit is set after the listener exists, through the gate. */
static void apply_limits(void) {
    const struct plan_limit *limit = (const struct plan_limit *)(block + plan->limits.offset);
    self.final = self.nofile;
    for (u64 i = 0; i < plan->limits.count; i++)
        if (limit[i].resource == RLIMIT_NOFILE)
            self.final = limit[i].value;
        else
            set_limit(limit[i].resource, limit[i].value);
    if (has(PLAN_LISTENER)) {
        long lowest = sys(SYS_fcntl, self.channel, F_DUPFD_CLOEXEC, 0);
        expect(lowest > 2, "no descriptor for the listener");
        sys(SYS_close, lowest);
        self.late_nofile = (u64)lowest >= self.final.soft;
    }
    if (!self.late_nofile)
        set_limit(RLIMIT_NOFILE, self.final);
}

static void apply_settings(void) {
    self.reason = "setuid-denied";
    if (!self.nested) {
        self.filter = map(plan->filter.count * sizeof *self.filter);
        self.groups = map((plan->groups.count + 1) * sizeof *self.groups);
    }
    if (has(PLAN_ENV))
        self.envp = vector(0, plan->env, self.passed, self.passed_count);
    if (has(PLAN_ARGV))
        self.argv = vector(self.argv[0], plan->argv, 0, 0);
    if (has(PLAN_KEEP_PROGRAM_FD))
        need(sys(SYS_fcntl, self.program, F_SETFD, 0), "the script's descriptor cannot be kept");
    if (has(PLAN_GROUPS))
        need(sys(SYS_setgroups, plan->groups.count, block + plan->groups.offset),
             "the supplementary groups cannot be set");
    if (has(PLAN_PRIVILEGED))
        lower_bounding_set();
    else if (!self.nested) { /* a tree has it, or must not */
        need(sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1), "no_new_privs cannot be set");
        require(sys(SYS_prctl, PR_GET_NO_NEW_PRIVS) == 1, "no_new_privs was not set");
    }
    self.reason = "limit-failed";
    if (has(PLAN_NICE)) {
        need(sys(SYS_setpriority, 0, 0, plan->nice), "the nice value cannot be set");
        require(sys(SYS_getpriority, 0, 0) == 20 - plan->nice, "the nice value was not set");
    }
    if (has(PLAN_UMASK)) {
        sys(SYS_umask, plan->umask);
        require((u64)sys(SYS_umask, plan->umask) == plan->umask, "the umask was not set");
    }
    if (has(PLAN_OOM))
        set_oom_score((const char *)block + plan->oom_score_adj);
    apply_limits();
}

/* ---- 9. the filter, with this run's nonce in its launch gate ---- */

static s32 install_filter(void) {
    const struct patch *patch = (const struct patch *)(block + plan->patches.offset);
    struct filter_program program = { (u16)plan->filter.count, self.filter };
    self.reason = "kernel-unsupported";
    memcpy(self.filter, block + plan->filter.offset, plan->filter.count * sizeof *self.filter);
    expect(sys(SYS_getrandom, &self.nonce, sizeof self.nonce, 0) == sizeof self.nonce,
           "no random bytes");
    for (u64 i = 0; i < plan->patches.count; i++)
        self.filter[patch[i].index].k = (u32)(patch[i].which ? self.nonce >> 32 : self.nonce);
    long result = sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                      has(PLAN_LISTENER) ? SECCOMP_NEW_LISTENER | SECCOMP_WAIT_KILLABLE_RECV
                      : has(PLAN_LOG) ? SECCOMP_LOG : 0, &program);
    need(result, "the filter cannot be installed");
    self.gated = 1; /* from here on gate() is the only way to the kernel */
    return (s32)result;
}

/* ---- 10. the supervisor gets the listener; our copy is close-on-exec by birth ---- */

static void hand_over(s32 listener) {
    require(listener > 2, "the kernel gave no listener");
    need(send_packet(self.channel, "L", 1, listener), "the supervisor cannot be given the listener");
    self.reason = "limit-failed";
    if (self.late_nofile)
        set_limit(RLIMIT_NOFILE, self.final);
}

/* ---- 11. ids and capabilities: each step is read back ---- */

static void set_capabilities(void) {
    struct capability_header header = { CAPABILITY_VERSION_3, 0 };
    struct capability_half now[2];
    memset(now, 0xff, sizeof now); /* no kernel has them all: what is not read cannot fit */
    need(gate(SYS_capset, &header, plan->capabilities), "the capabilities cannot be set");
    gate(SYS_capget, &header, now);
    require(same_bytes(now, plan->capabilities, sizeof now),
            "the capabilities are not those certified");
}

static void set_ambient(void) {
    need(gate(SYS_prctl, PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL), "ambient capabilities cannot be cleared");
    for (u64 bit = 0; bit < CAPABILITIES; bit++) {
        long wanted = has(PLAN_AMBIENT) && plan->ambient >> bit & 1;
        if (wanted)
            need(gate(SYS_prctl, PR_CAP_AMBIENT, AMBIENT_RAISE, bit),
                 "an ambient capability cannot be set");
        long now = gate(SYS_prctl, PR_CAP_AMBIENT, AMBIENT_IS_SET, bit);
        if (now < 0 && !wanted)
            break; /* past the kernel's last capability */
        require(now == wanted, "the ambient capabilities are not those certified");
    }
}

static void change_identity(void) {
    u32 now[6], want[6] = { (u32)plan->ruid, (u32)plan->euid, (u32)plan->euid,
                            (u32)plan->rgid, (u32)plan->egid, (u32)plan->egid };
    memset(now, 0xff, sizeof now); /* no id: what is not read cannot fit */
    self.reason = "setuid-denied";
    if (has(PLAN_PRIVILEGED)) {
        /* What is certified is kept through the change of uid; then capset leaves only that. Where
         * ruid is 0 (root invoked it) exec gives root's permitted set back, within the bounding
         * set, as to any set-user-ID program: there the bounding set is the limit. */
        if (has(PLAN_CAPS) && plan->euid != 0)
            need(gate(SYS_prctl, PR_SET_KEEPCAPS, 1), "capabilities cannot be kept");
        need(gate(SYS_setresgid, plan->rgid, plan->egid, plan->egid), "the group id cannot be set");
        need(gate(SYS_setresuid, plan->ruid, plan->euid, plan->euid), "the user id cannot be set");
        if (has(PLAN_CAPS))
            set_capabilities();
        set_ambient();
    }
    gate(SYS_getresuid, now, now + 1, now + 2);
    gate(SYS_getresgid, now + 3, now + 4, now + 5);
    require(same_bytes(now, want, sizeof now), "the user and group ids are not those certified");
    if (has(PLAN_GROUPS)) { /* the kernel keeps them sorted, as the plan has them */
        u64 count = plan->groups.count;
        require(gate(SYS_getgroups, count + 1, self.groups) == (long)count
                && same_bytes(self.groups, block + plan->groups.offset, count * sizeof(u32)),
                "the supplementary groups are not those certified");
    }
}

/* ---- 12. the program ---- */

static NORETURN void execute(void) {
    u64 nonce = self.nonce;
    long error = -E_TXTBSY;
    for (volatile u64 *word = (volatile u64 *)self.filter, *past = word + plan->filter.count;
         word < past; word++)
        *word = 0;
    *(volatile u64 *)&self.nonce = 0;
    /* ETXTBSY: for a moment somebody's fork may still hold the file open for writing. */
    for (int attempt = 0; attempt < RETRIES_TEXT_BUSY && error == -E_TXTBSY; attempt++)
        error = sys6(SYS_execveat, (u64)self.program, (u64)"", (u64)self.argv, (u64)self.envp,
                     AT_EMPTY_PATH, nonce);
    self.nonce = nonce;
    self.reason = error == -E_NOENT ? "binary-missing" : "binary-unusable";
    end(error == -E_NOENT ? EXIT_NOT_FOUND : EXIT_REFUSED, "the program cannot be executed", error);
}

static NORETURN void launch(u64 *stack) {
    static struct reply reply;
    self.reason = "setuid-denied";
    read_stack(stack);
    check_identity();
    if (self.nested)
        fetch_nested_plan(&reply);
    else {
        tidy_descriptors();
        self.kept = !self.run_form && take_kept_plan();
        if (!self.kept) {
            fetch_plan(&reply);
            reap();
        }
    }
    if (!self.kept)
        validate();
    apply_settings();
    if (!self.nested) {
        enter_domain();
        s32 listener = install_filter();
        if (has(PLAN_LISTENER))
            hand_over(listener);
        change_identity();
    }
    execute();
}

/* ---- the entry: a random stack guard (its NUL byte stops strings), then the steps ---- */

u64 __stack_chk_guard;

__attribute__((noreturn, used, no_stack_protector)) static void entry(u64 *stack) {
    u64 *aux = stack + 1 + stack[0] + 1;
    while (*aux++)
        ;
    for (; aux[0] != AT_NULL; aux += 2)
        if (aux[0] == AT_RANDOM)
            __stack_chk_guard = *(u64 *)aux[1] & ~0xffUL;
    launch(stack);
}

__asm__(".text\n.globl _start\n.type _start, @function\n_start:\n"
        "    endbr64\n    xor %ebp, %ebp\n    mov %rsp, %rdi\n    and $-16, %rsp\n"
        "    call entry\n    ud2\n.size _start, . - _start\n");
