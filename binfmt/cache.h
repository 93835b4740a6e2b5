/* Step 4, before a server is started: a plan that root has kept for this certificate. Part of launch.c.
 *
 * docs/plan-format.md describes an entry, certexec/run/cache_entry.py writes it. It holds a plan and
 * what the verdict was built on, and counts only if all of that is as it was: then the plan goes the
 * way of every other. In any other case, whatever it is, the entry is left alone and a server is
 * asked; nothing here refuses. The numbers:
 *
 *   a. the file: root's, undamaged, for this certificate and kind of invoker
 *   b. the time, the boot, and what else the kernel says
 *   c. the invoker is on the list
 *   d. the program: opened once, leased where we may, and unchanged
 *   e. certificate, trust store, accounts, policy: unchanged, reached by the same mounts
 *   f. the plan: with this invoker's ids, validated as any other; its trees are there */
#ifndef CERTEXEC_STATE
#define CERTEXEC_STATE "/run/certexec"
#endif
#define CACHE_MAGIC 0x3148434143435843UL /* "CXCCACH1" */
enum { CACHE_VERSION = 1, CACHE_SIZE_MAX = 1 << 20, /* bytes */
       FOR_CAPABLE = 1, EUID_FOLLOWS = 2, EGID_FOLLOWS = 4, CACHE_FLAGS = 7,
       OBJECT_LINK = 1, OBJECT_ABSENT = 2, OBJECT_PLACE = 4,
       LIST_EVERYONE = 0, LIST_USER = 1, LIST_GROUP = 2,
       PASS_PREFIX = 1, PASS_PLAIN = 2, PLAIN_MAX = 128, /* bytes of a value */
       CERTIFICATE = 0, PROGRAM = 1, BOOT = 0,
       TMPFS = 0x01021994 };
struct entry {
    u64 magic, version, size, sum, flags, uid, gid, not_before, not_after;
    u64 systems[2];             /* f_fsid of the certificate's and the program's */
    struct table plan;          /* count: bytes */
    struct table objects;       /* struct object: the certificate, the program, the rest */
    struct table texts;         /* struct pair: a file, and what it must say */
    struct table listed;        /* struct line: the first that fits decides, none denies */
    struct table passed;        /* struct pair: a variable's name, PASS_* */
    u64 memory;                 /* f_fsid of the tmpfs that it was written to, or 0 */
};
struct object { u64 path; u32 flags, mode, uid, gid, major, minor; u64 inode, mount, size;
                s64 birth, changed, modified; };
struct pair { u64 first, second; };
struct line { u32 allow, kind, number, spare; };
_Static_assert(sizeof(struct entry) == 176 && sizeof(struct object) == 80, "entry layout");

static const struct entry *kept;
#define ENTRY_TEXT(offset) ((const char *)kept + (offset))
#define ENTRY_TABLE(table) ((const void *)((const u8 *)kept + (table).offset))

/* ---- a. the file ---- */

static u64 hexadecimal(char *line, u64 at, u64 value, int digits) {
    while (digits--)
        line[at++] = "0123456789abcdef"[value >> 4 * digits & 15];
    return at;
}

/* For everybody, or else for this invoker alone. A name decides nothing: an entry says itself for
 * which certificate and for whom it is, and only who wrote it counts. In another user namespace the
 * files of root outside are not root's. */
static long open_entry(const struct status *certificate, int capable) {
    static char name[sizeof CERTEXEC_STATE + 64];
    u64 at = append(name, 0, CERTEXEC_STATE "/plans/");
    at = hexadecimal(name, at, certificate->device, 16);
    name[at++] = '-';
    at = hexadecimal(name, at, certificate->inode, 16);
    name[at++] = '-';
    name[at++] = capable ? '1' : '0';
    long fd = sys(SYS_openat, AT_FDCWD, name, O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd == -E_NOENT) {
        name[at++] = '-';
        hexadecimal(name, at, self.ruid, 8);
        fd = sys(SYS_openat, AT_FDCWD, name, O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }
    return fd;
}

/* Into private memory: what is judged, nobody else can change. */
static int read_entry(long fd) {
    struct status file;
    if (sys(SYS_fstat, fd, &file) != 0 || (file.mode & S_IFMT) != S_IFREG || file.uid != 0
        || file.mode & S_IWOTHERS || file.size < (s64)sizeof *kept || file.size > CACHE_SIZE_MAX
        || file.size % 8)
        return 0;
    u64 size = (u64)file.size, sum = 0xcbf29ce484222325UL, *word = map(size);
    kept = (const struct entry *)word;
    if (sys(SYS_pread64, fd, word, size, 0) != (long)size)
        return 0;
    for (u64 i = 0; i < size / 8; i++) {
        sum = (sum ^ (i == 3 ? 0 : word[i])) * 0x9e3779b97f4a7c15UL;
        sum ^= sum >> 29;
    }
    return kept->magic == CACHE_MAGIC && kept->version == CACHE_VERSION && kept->size == size
        && kept->sum == sum && !ENTRY_TEXT(size)[-1];
}

static int in_entry(struct table table, u64 item) {
    return table.offset % 8 == 0 && table.offset >= sizeof *kept && table.offset <= kept->size
        && table.count <= (kept->size - table.offset) / item;
}

static int texts_in_entry(struct table table, u64 item) { /* each row begins with a string's offset */
    for (u64 i = 0; i < table.count; i++)
        if (*(const u64 *)(ENTRY_TEXT(table.offset) + i * item) >= kept->size)
            return 0;
    return 1;
}

static int is_whole(void) {
    const struct pair *text = ENTRY_TABLE(kept->texts);
    if (!in_entry(kept->plan, 1) || !in_entry(kept->objects, sizeof(struct object))
        || !in_entry(kept->texts, sizeof(struct pair))
        || !in_entry(kept->listed, sizeof(struct line))
        || !in_entry(kept->passed, sizeof(struct pair)) || kept->objects.count <= PROGRAM
        || !texts_in_entry(kept->objects, sizeof(struct object))
        || !texts_in_entry(kept->texts, sizeof(struct pair))
        || !texts_in_entry(kept->passed, sizeof(struct pair)))
        return 0;
    for (u64 i = 0; i < kept->texts.count; i++)
        if (text[i].second >= kept->size)
            return 0;
    return 1;
}

static int is_for(int capable) {
    return !(kept->flags & ~(u64)CACHE_FLAGS) && !(kept->flags & FOR_CAPABLE) == !capable
        && (kept->uid == ~0UL || kept->uid == self.ruid)
        && (kept->gid == ~0UL || kept->gid == self.rgid);
}

/* ---- b. the time, and what the kernel says ---- */

static int is_time(void) {
    struct moment now = { 0, 0 };
    return sys(SYS_clock_gettime, CLOCK_REALTIME, &now) == 0 && now.seconds > 0
        && (u64)now.seconds >= kept->not_before && (u64)now.seconds <= kept->not_after;
}

static u64 length_of(const char *text) {
    u64 length = 0;
    while (text[length])
        length++;
    return length;
}

static int file_says(const char *path, const char *wanted) {
    static char content[4096];
    u64 length = length_of(wanted);
    long fd = sys(SYS_openat, AT_FDCWD, path, O_CLOEXEC), got;
    if (fd < 0)
        return 0;
    got = sys(SYS_pread64, fd, content, sizeof content, 0);
    sys(SYS_close, fd);
    for (long at = 0; length && at + (long)length <= got; at++)
        if (same_bytes(content + at, wanted, length))
            return 1;
    return 0;
}

/* A tmpfs ends with the boot, and each has a random number: what lies where it was written needs no
 * look at the boot's name, which the kernel takes long to say. */
static int is_of_this_boot(s32 fd) {
    struct file_system found;
    return kept->memory && sys(SYS_fstatfs, fd, &found) == 0 && found.type == TMPFS
        && found.id == kept->memory;
}

static int kernel_says_so(int of_this_boot) {
    const struct pair *text = ENTRY_TABLE(kept->texts);
    for (u64 i = of_this_boot ? BOOT + 1 : BOOT; i < kept->texts.count; i++)
        if (!file_says(ENTRY_TEXT(text[i].first), ENTRY_TEXT(text[i].second)))
            return 0;
    return 1;
}

/* ---- c. the list ---- */

static int is_listed(void) {
    static u32 groups[256]; /* somebody in more of them asks a server */
    const struct line *line = ENTRY_TABLE(kept->listed);
    long count = -1;
    for (u64 i = 0; i < kept->listed.count; i++) {
        int fits = line[i].kind == LIST_EVERYONE
            || (line[i].kind == LIST_USER && line[i].number == self.ruid)
            || (line[i].kind == LIST_GROUP && line[i].number == self.rgid);
        if (line[i].kind == LIST_GROUP && !fits) {
            if (count < 0)
                count = sys(SYS_getgroups, sizeof groups / sizeof *groups, groups);
            if (count < 0)
                return 0;
            for (long j = 0; j < count; j++)
                fits |= groups[j] == line[i].number;
        }
        if (fits)
            return line[i].allow == 1;
    }
    return 0;
}

/* ---- d. and e. what the verdict was built on ---- */

static s64 nanoseconds(struct moment moment) {
    return moment.seconds * 1000000000 + (s64)moment.nanoseconds;
}

/* By name, or through an open descriptor. */
static int is_unchanged(const struct object *was, s32 fd) {
    struct extended_status now;
    long result = sys(SYS_statx, fd < 0 ? AT_FDCWD : fd, fd < 0 ? ENTRY_TEXT(was->path) : "",
                      fd >= 0 ? AT_EMPTY_PATH : was->flags & OBJECT_LINK ? AT_SYMLINK_NOFOLLOW : 0,
                      STATX_BASIC | STATX_BIRTH | STATX_MOUNT | STATX_MOUNT_UNIQUE, &now);
    if (was->flags & OBJECT_ABSENT)
        return result == -E_NOENT;
    if (result != 0 || now.mode != was->mode || now.uid != was->uid || now.gid != was->gid
        || now.major != was->major || now.minor != was->minor || now.inode != was->inode
        || now.mount != was->mount
        || (now.mask & STATX_BIRTH ? nanoseconds(now.birth) : -1) != was->birth)
        return 0;
    return was->flags & OBJECT_PLACE
        || (now.size == was->size && nanoseconds(now.changed) == was->changed
            && nanoseconds(now.modified) == was->modified);
}

static int is_on(s32 fd, u64 system) {
    struct file_system found;
    return sys(SYS_fstatfs, fd, &found) == 0 && found.id == system;
}

/* The lease keeps writers out until the kernel does, at exec: so what is examined is what runs.
 * Root's files can be leased by root alone; elsewhere root is the only one who could write. */
static int take_program(void) {
    const struct object *object = ENTRY_TABLE(kept->objects);
    self.program = (s32)sys(SYS_openat, AT_FDCWD, ENTRY_TEXT(object[PROGRAM].path),
                            O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return self.program > 2
        && (self.euid != 0 || (sys(SYS_fcntl, self.program, F_SETSIG, SIG_URG) == 0
                               && sys(SYS_fcntl, self.program, F_SETLEASE, F_RDLCK) == 0))
        && is_unchanged(object + PROGRAM, self.program) && is_on(self.program, kept->systems[1]);
}

static int all_unchanged(void) {
    const struct object *object = ENTRY_TABLE(kept->objects);
    if (!is_unchanged(object + CERTIFICATE, self.certificate)
        || !is_on(self.certificate, kept->systems[0]))
        return 0;
    for (u64 i = PROGRAM + 1; i < kept->objects.count; i++)
        if (!is_unchanged(object + i, -1))
            return 0;
    return 1;
}

/* ---- f. the plan ---- */

static u64 name_length(const char *variable) {
    u64 length = 0;
    while (variable[length] && variable[length] != '=')
        length++;
    return length;
}

static int is_plain(const char *value) {
    u64 length = 0;
    for (; value[length]; length++) {
        char c = value[length];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '+' && c <= ':' && c != '/')
              || c == '_' || c == '@'))
            return 0;
    }
    return length <= PLAIN_MAX;
}

static int may_pass(const char *variable, u64 length) {
    const struct pair *rule = ENTRY_TABLE(kept->passed);
    for (u64 i = 0; i < kept->passed.count; i++) {
        const char *name = ENTRY_TEXT(rule[i].first);
        u64 wanted = length_of(name);
        if ((rule[i].second & PASS_PREFIX ? wanted <= length : wanted == length)
            && same_bytes(variable, name, wanted))
            return !(rule[i].second & PASS_PLAIN) || is_plain(variable + length + 1);
    }
    return 0;
}

static int has_name(const char *variable, const char *name, u64 length) {
    return same_bytes(variable, name, length) && variable[length] == '=';
}

/* The invoker's variables that pass: of equal names the first, and never one that the plan sets. */
static void choose_variables(void) {
    const u64 *set = (const u64 *)(block + plan->env.offset);
    u64 count = 0;
    while (self.envp[count])
        count++;
    self.passed = map((count + 1) * sizeof *self.passed);
    for (u64 i = 0; i < count; i++) {
        const char *variable = self.envp[i];
        u64 length = name_length(variable);
        int passes = length && variable[length] && may_pass(variable, length);
        for (u64 j = 0; passes && j < i; j++)
            passes = !has_name(self.envp[j], variable, length);
        for (u64 j = 0; passes && j < plan->env.count; j++)
            passes = !has_name((const char *)block + set[j], variable, length);
        if (passes)
            self.passed[self.passed_count++] = self.envp[i];
    }
}

/* The plan in the entry, made this invoker's; what it must not be here, a server's plan may be. */
static int take_plan(void) {
    const u64 foreign = PLAN_LISTENER | PLAN_TRACED | PLAN_KEEP_PROGRAM_FD | PLAN_NESTED;
    struct plan *own = (struct plan *)((u8 *)kept + kept->plan.offset);
    if (kept->plan.count < sizeof *own || own->magic != PLAN_MAGIC || own->version != PLAN_VERSION
        || own->size != kept->plan.count || own->flags & foreign
        || (own->flags & PLAN_PRIVILEGED && (self.euid != 0 || kept->uid != self.ruid)))
        return 0;
    own->ruid = self.ruid;
    own->rgid = self.rgid;
    if (kept->flags & EUID_FOLLOWS)
        own->euid = self.ruid;
    if (kept->flags & EGID_FOLLOWS)
        own->egid = self.rgid;
    plan = own;
    block = (const u8 *)own;
    return 1;
}

static int try_entry(const struct status *certificate, int capable) {
    long fd = open_entry(certificate, capable);
    if (fd < 0)
        return 0;
    int good = read_entry(fd) && is_whole() && is_for(capable); /* a. */
    int of_this_boot = good && is_of_this_boot((s32)fd);
    sys(SYS_close, fd);
    if (!good || !is_time() || !kernel_says_so(of_this_boot)    /* b. */
        || !is_listed()                                         /* c. */
        || !take_program() || !all_unchanged() || !take_plan()) /* d., e., f. */
        return 0;
    self.reason = "unsupported";
    validate();
    long error = 0;
    if (has(PLAN_LANDLOCK) && make_domain(&error))
        return 0;
    if (has(PLAN_ENV))
        choose_variables();
    return 1;
}

static int take_kept_plan(void) {
    struct capability_header header = { CAPABILITY_VERSION_3, 0 };
    struct capability_half mine[2] = { { 0 } };
    struct status certificate;
    if (sys(SYS_fstat, self.certificate, &certificate) != 0
        || sys(SYS_capget, &header, mine) != 0)
        return 0;
    self.program = -1;
    self.domain = -1;
    if (try_entry(&certificate, self.euid == 0 || mine[0].permitted | mine[1].permitted))
        return 1;
    if (self.program >= 0)
        sys(SYS_close, self.program);
    if (self.domain >= 0)
        sys(SYS_close, self.domain);
    self.program = self.domain = -1;
    plan = 0;
    block = 0;
    return 0;
}
