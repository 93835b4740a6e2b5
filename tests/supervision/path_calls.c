/* The calls that change names and attributes, one line for what came of each.
 *
 *   path_calls PART
 *
 * Run bare and under a policy that permits everything but looks at it, in a directory that
 * fill_directory() prepared: the two outputs must be equal. Only raw system calls, so that the C
 * library adds nothing. What a part spoils it makes anew, as far as it may. */
#include "calls.h"
#include "path_calls.h"

char home[4096], self[64];

const char *const names[] = {
    "file", "dir", "link", "dlink", "loop", "loop/x", "dangling", "missing", "missing/x", "file/x",
    "file/", "dir/", "dir/.", "dlink/", "dlink/inner", "missing/", "link/", "", ".", "..", "/", "dir/..",
    "dir/../file", "chain", "absolute", "noperm", "closed", "closed/x", "readonly", "theirs", "theirs-dir",
    "theirs-dir/new", "sticky/theirs", "sticky/mine", "sticky/link", "sock", "fifo", "empty", "empty/", "hidden/x", "two words",
    "\xff\xfe", "/proc/self/comm", "/proc/self/cwd/file", "/proc/self/exe", "/proc/self", "/proc/self/fd/7",
    "/proc/self/fd/9/inner", "/dev/fd/7", "/proc/self/status", "/proc/1", "dir-to-self/comm", "/proc/version",
};
const int NAMES = sizeof names / sizeof *names;

int is_elsewhere(const char *name) { return name[0] == '/' || !strncmp(name, "dir-to", 6); }

/* Where ids differ this directory is root's, yet open to the process itself: whoever makes a name in
 * it for the process is refused for another reason than the process would be. */
static int is_own_list(const char *name) { return !strcmp(name, "/proc/self/fd/7") || !strcmp(name, "/dev/fd/7"); }

/* Makes anew what a part may have spoiled. */
static void mend(void) {
    static const char *const files[] = { "file", "dir/inner", "readonly", "noperm", "sticky/mine", "two words" };
    static const struct { const char *name, *to; } links[] = {
        { "link", "file" }, { "dlink", "dir" }, { "loop", "loop" }, { "dangling", "nothing" }, { "chain", "link" },
    };
    struct stat info;
    mkdir("dir", 0755);
    mkdir("empty", 0755);
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
        if (lstat(files[i], &info) < 0 && errno == ENOENT)
            close(open(files[i], O_CREAT | O_WRONLY, i == 2 ? 0444 : i == 3 ? 0 : 0644));
    for (unsigned i = 0; i < sizeof links / sizeof *links; i++)
        if (lstat(links[i].name, &info) < 0)
            (void)!symlink(links[i].to, links[i].name);
    if (lstat("fifo", &info) < 0)
        mkfifo("fifo", 0644);
}

void state(const char *name) {
    struct stat info = { 0 };
    if (is_elsewhere(name) || lstat(name, &info) < 0)
        return;
    printf("    %s: %o %d:%d %ld %ld\n", name, info.st_mode, info.st_uid, info.st_gid,
           S_ISDIR(info.st_mode) ? 0 : (long)info.st_nlink, S_ISDIR(info.st_mode) ? 0 : (long)info.st_size);
}

static void renames(void) {
    char label[512];
    static const unsigned flags[] = { 2, 1, 4, 0, 5, 3, 6, 8 };
    for (int from = 0; from < NAMES; from++)
        for (int to = 0; to < NAMES; to++)
            for (int i = 0; i < 8; i++) {
                const char *old = names[from], *new = names[to];
                if (is_own_list(new) || is_own_list(old) || (from + to + i) % (i > 3 ? 9 : 3))
                    continue;
                snprintf(label, sizeof label, "rename %s %s %x", old, new, flags[i]);
                long done = say(label, syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, flags[i]));
                if (done < 0)
                    continue;
                state(old);
                state(new);
                if (from != to)
                    say("  and back", syscall(SYS_renameat2, AT_FDCWD, new, AT_FDCWD, old, flags[i] == 2 ? 2 : 0));
                if (flags[i] == 4)
                    unlink(new);
                mend();
            }
    for (int from = 0; from < NAMES; from++) {
        if (is_own_list(names[from]))
            continue;
        snprintf(label, sizeof label, "rename %s fresh", names[from]);
        if (say(label, syscall(SYS_rename, names[from], "fresh")) == 0)
            say("  back", syscall(SYS_rename, "fresh", names[from]));
        snprintf(label, sizeof label, "renameat %s dir/fresh", names[from]);
        if (say(label, syscall(SYS_renameat, AT_FDCWD, names[from], 9, "fresh")) == 0)
            say("  back", syscall(SYS_renameat, 9, "fresh", AT_FDCWD, names[from]));
        mend();
    }
}

static void links(void) {
    char label[512];
    static const int flags[] = { 0, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_FOLLOW, 0x100, 1 };
    for (int from = 0; from < NAMES; from++)
        for (int to = 0; to < NAMES; to++)
            for (int i = 0; i < 2 && !is_own_list(names[to]) && (from + to) % 2; i++) {
                snprintf(label, sizeof label, "link %s %s %x", names[from], names[to], flags[i]);
                if (say(label, syscall(SYS_linkat, AT_FDCWD, names[from], AT_FDCWD, names[to], flags[i])))
                    continue;
                state(names[to]);
                unlink(names[to]);
            }
    for (int from = 0; from < NAMES; from++)
        for (int i = 0; i < 6; i++) {
            snprintf(label, sizeof label, "link %s fresh %x", names[from], flags[i]);
            if (say(label, syscall(SYS_linkat, AT_FDCWD, names[from], 9, "fresh", flags[i])) == 0)
                state("dir/fresh");
            unlink("dir/fresh");
            for (int fd = 7; fd < 11; fd++) {
                if (fd % 2 == 0 && flags[i] & AT_EMPTY_PATH) /* somebody else opened it: nobody can tell */
                    continue;
                snprintf(label, sizeof label, "link %d %s fresh %x", fd, names[from], flags[i]);
                if (say(label, syscall(SYS_linkat, fd, names[from], AT_FDCWD, "fresh", flags[i])) == 0)
                    state("fresh");
                unlink("fresh");
            }
        }
    for (int from = 0; from < NAMES; from++) {
        snprintf(label, sizeof label, "link %s", names[from]);
        say(label, syscall(SYS_link, names[from], "fresh"));
        state("fresh");
        unlink("fresh");
    }
    /* without a name, and without one any more */
    int nameless = open(".", O_TMPFILE | O_RDWR, 0600);
    for (int follow = 0; follow < 2; follow++) {
        snprintf(label, sizeof label, "/proc/self/fd/%d", nameless);
        long done = follow ? syscall(SYS_linkat, AT_FDCWD, label, AT_FDCWD, "fresh", AT_SYMLINK_FOLLOW)
                           : syscall(SYS_linkat, nameless, "", AT_FDCWD, "fresh", AT_EMPTY_PATH);
        say(follow ? "link a temporary file by its magic link" : "link a temporary file", done);
        state("fresh");
    }
    unlink("fresh");
    int gone = open("short-lived", O_CREAT | O_EXCL | O_RDWR, 0600);
    unlink("short-lived");
    snprintf(label, sizeof label, "/proc/self/fd/%d", gone);
    say("link a deleted file", syscall(SYS_linkat, AT_FDCWD, label, AT_FDCWD, "fresh", AT_SYMLINK_FOLLOW));
    say("link a deleted file", syscall(SYS_linkat, gone, "", AT_FDCWD, "fresh", AT_EMPTY_PATH));
    close(gone);
    close(nameless);
}

static void symlinks(void) {
    char label[512], *big = malloc(8200);
    static const char *const targets[] = { "file", "", "/nowhere", "x/", "two words", "\xff" };
    for (int to = 0; to < NAMES; to++)
        for (int i = 0; i < 6 && !is_own_list(names[to]); i++) {
            snprintf(label, sizeof label, "symlink %s %s", targets[i], names[to]);
            if (say(label, syscall(SYS_symlink, targets[i], names[to])))
                continue;
            state(names[to]);
            unlink(names[to]);
        }
    for (int size = 4094; size < 4098; size++) {
        memset(big, 'x', size);
        big[size] = 0;
        say("a long target", syscall(SYS_symlinkat, big, AT_FDCWD, "fresh"));
        state("fresh");
        say("a long name", syscall(SYS_symlinkat, "x", AT_FDCWD, big));
        say("a long name", syscall(SYS_rename, "file", big));
        say("a long name", syscall(SYS_rename, big, "fresh"));
        say("a long name", syscall(SYS_link, big, "fresh"));
        unlink("fresh");
    }
    static const int fds[] = { 7, 8, 9, 10, 99, -1 };
    for (int i = 0; i < 6; i++) {
        snprintf(label, sizeof label, "symlinkat %d", fds[i]);
        say(label, syscall(SYS_symlinkat, "target", fds[i], "fresh"));
        say(label, syscall(SYS_symlinkat, "target", fds[i], ""));
        say(label, syscall(SYS_symlinkat, "target", fds[i], "inner/"));
        say(label, syscall(SYS_renameat, fds[i], "fresh", fds[5 - i], "fresher"));
        say(label, syscall(SYS_renameat, fds[i], "fresh", AT_FDCWD, "fresher"));
        state("fresh");
        state("fresher");
        unlink("fresh");
        unlink("fresher");
        unlink("dir/fresh");
    }
}

int main(int argc, char **argv) {
    if (getcwd(home, sizeof home) == NULL || argc != 2)
        return 1;
    snprintf(self, sizeof self, "%d", getpid());
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    for (int fd = 3; fd < 20; fd++)
        if (fd != 8 && fd != 10) /* opened for their names alone before we were confined */
            close(fd);
    umask(022);
    mend();
    dup2(open("file", O_RDWR), 7);
    dup2(open("dir", O_RDONLY), 9);
    close(3);
    switch (argv[1][0]) {
    case 'r': renames(); break;
    case 'l': links(); break;
    case 's': symlinks(); break;
    default: return more_calls(argv[1][0]);
    }
    return 0;
}
