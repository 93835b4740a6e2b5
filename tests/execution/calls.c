/* Does many calls that take names or addresses and prints what came of each, one line a call.
 *
 * tests/execution/test_policy_enforcement.py runs it bare and under a policy that permits
 * everything but looks at it: the two outputs must be equal. Started in a directory that
 * fill_directory() there prepared. Only raw system calls, so that the C library adds nothing. */
#include "calls.h"

char home[4096], self[64];

static const char *names[] = {
    "file", "dir", "link", "dlink", "loop", "loop/x", "dangling", "dangling/x", "missing", "missing/x",
    "file/x", "file/", "file/.", "dir/", "dir/.", "dlink/", "dlink/inner", "missing/", "link/", "", ".",
    "..", "/", "//", "///etc//", "dir/..", "dir/../file", "./file", "dir//sub", "dir/sub/../../file",
    "chain", "absolute", "up/file", "noperm", "closed", "closed/x", "closed/..", "readonly", "theirs",
    "theirs-dir/new", "sticky/theirs", "sock", "/dev/null", "/dev/null/", "/dev/full", "hidden/../file",
    "dir/dangling-up", "two words", "new\nline", "\xff\xfe", "/proc", "/proc/self", "/proc/self/",
    "/proc/self/status", "/proc/self/nothing", "/proc/thread-self", "/proc/thread-self/comm",
    "/proc/self/exe", "/proc/self/cwd", "/proc/self/cwd/", "/proc/self/cwd/file", "/proc/self/root/etc/passwd",
    "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/7", "/proc/self/fd/9/inner", "/proc/self/fd/999",
    "/dev/fd/7", "/dev/stdin", "/proc/self/task", "/proc/self/maps", "/proc/1", "/proc/1/exe", "/proc/1/maps",
    "/proc/1/cwd/x", "/proc/4194304", "/proc/mounts", "/proc/net", "/proc/sys/kernel/ostype", "/sys",
    "/proc/self/fdinfo/7", "/proc/self/ns/net", "/proc/self/../self/comm", "/proc/../etc/passwd",
    "dir-to-proc/self/comm", "dir-to-self/comm", "/dev/pts", "/proc/self/attr",
};
enum { NAMES = sizeof names / sizeof *names };

static const struct { const char *label; int flags; } ways[] = {
#define WAY(flags) { #flags, flags }
    WAY(O_RDONLY), WAY(O_WRONLY), WAY(O_RDWR), WAY(O_ACCMODE), WAY(O_RDONLY | O_CLOEXEC),
    WAY(O_RDONLY | O_DIRECTORY), WAY(O_RDONLY | O_NOFOLLOW), WAY(O_RDONLY | O_NOFOLLOW | O_DIRECTORY),
    WAY(O_RDONLY | O_NONBLOCK), WAY(O_WRONLY | O_APPEND), WAY(O_WRONLY | O_NOFOLLOW), WAY(O_WRONLY | O_DIRECTORY),
    WAY(O_RDONLY | O_NOATIME), WAY(O_RDONLY | O_LARGEFILE | O_NOCTTY), WAY(O_RDWR | O_SYNC | O_DSYNC),
    WAY(O_RDWR | O_TMPFILE), WAY(O_WRONLY | O_TMPFILE | O_EXCL), WAY(O_RDONLY | O_TMPFILE),
    WAY(O_RDONLY | 0x40000000),
#undef WAY
};

static const int creations[] = {
    O_CREAT | O_WRONLY, O_CREAT | O_RDONLY, O_CREAT | O_EXCL | O_RDWR, O_CREAT | O_TRUNC | O_WRONLY,
    O_CREAT | O_NOFOLLOW | O_WRONLY, O_CREAT | O_APPEND | O_WRONLY,
    O_TRUNC | O_RDONLY, O_TRUNC | O_WRONLY,
};

static int is_fixed(const char *name) { /* what a creation there would make disappear or spoil */
    return name[0] == '/' || strncmp(name, "dir-to", 6) == 0;
}

/* To the process itself everything about this directory is permitted, which nobody asks for. */
static int is_own_list(const char *name) { return strcmp(name, "/proc/self/fd") == 0; }

static void opens(void) {
    char label[256];
    for (int name = 0; name < NAMES; name++)
        for (unsigned way = 0; way < sizeof ways / sizeof *ways; way++) {
            if (ways[way].flags & O_TMPFILE & ~O_DIRECTORY && names[name][0] == '/')
                continue;
            if (ways[way].flags & O_NOATIME && strncmp(names[name], "/proc/", 6) == 0)
                continue;
            snprintf(label, sizeof label, "openat %s %s", names[name], ways[way].label);
            describe(label, syscall(SYS_openat, AT_FDCWD, names[name], ways[way].flags, 0640));
        }
    for (int name = 0; name < NAMES; name++)
        for (unsigned i = 0; !is_fixed(names[name]) && i < sizeof creations / sizeof *creations; i++) {
            snprintf(label, sizeof label, "create %s %o", names[name], creations[i]);
            describe(label, syscall(SYS_open, names[name], creations[i], 0640));
            snprintf(label, sizeof label, "  was made: %s", names[name]);
            struct stat info;
            if (lstat("missing", &info) == 0 || lstat("nothing", &info) == 0 || lstat("theirs-dir/new", &info) == 0)
                printf("%s %o\n", label, info.st_mode);
            unlink("missing");
            unlink("nothing");
            unlink("theirs-dir/new");
        }
}

static void looks(void) {
    char label[256], buffer[512];
    struct stat info;
    struct statx extended;
    static const int flags[] = { 0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, 0x40 };
    for (int name = 0; name < NAMES; name++) {
        const char *path = names[name];
        for (int i = 0; i < 5; i++) {
            memset(&info, 0, sizeof info);
            snprintf(label, sizeof label, "newfstatat %s %x", path, flags[i]);
            say(label, syscall(SYS_newfstatat, AT_FDCWD, path, &info, flags[i]));
            printf("    %o %d %d %d %lx\n", info.st_mode, info.st_uid, info.st_gid,
                   S_ISREG(info.st_mode) && !is_fixed(path) ? (int)info.st_size : 0, (long)info.st_rdev);
            memset(&extended, 0, sizeof extended);
            snprintf(label, sizeof label, "statx %s %x", path, flags[i]);
            say(label, syscall(SYS_statx, AT_FDCWD, path, flags[i], STATX_BASIC_STATS | STATX_BTIME, &extended));
            printf("    %o %x\n", extended.stx_mode, extended.stx_mask & STATX_MODE);
        }
        memset(&info, 0, sizeof info);
        snprintf(label, sizeof label, "stat %s", path);
        say(label, syscall(SYS_stat, path, &info));
        printf("    %o\n", info.st_mode);
        snprintf(label, sizeof label, "lstat %s", path);
        say(label, syscall(SYS_lstat, path, &info));
        printf("    %o\n", info.st_mode);
        for (int mode = 0; mode <= 8 && !is_own_list(path); mode++) {
            snprintf(label, sizeof label, "access %s %d", path, mode);
            say(label, syscall(SYS_access, path, mode));
        }
        snprintf(label, sizeof label, "faccessat2 %s", path);
        if (!is_own_list(path))
            say(label, syscall(SYS_faccessat2, AT_FDCWD, path, W_OK, AT_EACCESS));
        say(label, syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, AT_SYMLINK_NOFOLLOW));
        say(label, syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, AT_EMPTY_PATH));
        say(label, syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, 0x10000));
        for (int size = 0; size <= 512; size += size == 0 ? 3 : size == 3 ? 509 : 512) {
            if (size == 3 && strncmp(path, "/proc/", 6) == 0)
                continue; /* a part of a number that is not the same twice */
            memset(buffer, '#', sizeof buffer);
            snprintf(label, sizeof label, "readlink %s %d", path, size);
            long length = say(label, syscall(SYS_readlink, path, buffer, size));
            if (length > 0) {
                printf("    ");
                text(buffer, length);
                printf(length < 512 && buffer[length] != '#' ? " too much\n" : "\n");
            }
        }
    }
}

static void changes(void) {
    char label[256];
    static const int masks[] = { 0, 022, 077, 0777 };
    for (int name = 0; name < NAMES; name++) {
        const char *path = names[name];
        if (is_fixed(path) || strcmp(path, "dir") == 0)
            continue;
        snprintf(label, sizeof label, "mkdir %s", path);
        if (say(label, syscall(SYS_mkdir, path, 0755)) == 0) {
            snprintf(label, sizeof label, "  rmdir %s", path);
            say(label, syscall(SYS_rmdir, path));
        }
        snprintf(label, sizeof label, "rmdir %s", path);
        if (strcmp(path, "empty"))
            say(label, syscall(SYS_rmdir, path));
        if (strstr("file link chain dangling sock absolute noperm readonly loop", path) && *path)
            continue;
        snprintf(label, sizeof label, "unlink %s", path);
        say(label, syscall(SYS_unlink, path));
        snprintf(label, sizeof label, "unlinkat %s", path);
        say(label, syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
        say(label, syscall(SYS_unlinkat, AT_FDCWD, path, 0x40));
    }
    for (int i = 0; i < 4; i++) {
        struct stat info;
        syscall(SYS_umask, masks[i]);
        for (int mode = 0; mode < 2; mode++) {
            CALL(SYS_mkdir, "made", mode ? 07777 : 0755);
            lstat("made", &info);
            printf("    %o\n", info.st_mode);
            CALL(SYS_rmdir, "made");
            describe("create under a umask", syscall(SYS_openat, AT_FDCWD, "made", O_CREAT | O_RDWR, mode ? 07777 : 0666));
            CALL(SYS_unlink, "made");
            describe("creat under a umask", syscall(SYS_creat, "made", mode ? 04755 : 0644));
            CALL(SYS_unlinkat, AT_FDCWD, "made", 0);
            describe("a temporary file under a umask", syscall(SYS_openat, AT_FDCWD, ".", O_TMPFILE | O_RDWR, 0666));
        }
    }
    syscall(SYS_umask, 022);
    CALL(SYS_unlink, "dlink");
    CALL(SYS_rmdir, "dir/sub");
    CALL(SYS_rmdir, "empty/");
    CALL(SYS_mkdir, "empty/", 0700);
    CALL(SYS_mkdir, "empty/a/b", 0700);
    CALL(SYS_mkdirat, 9, "below", 0711);
    CALL(SYS_unlinkat, 9, "below", AT_REMOVEDIR);
    CALL(SYS_mkdirat, 7, "below", 0711);
    CALL(SYS_mkdirat, 99, "below", 0711);
    CALL(SYS_unlinkat, 99, "below", 0);
}

static void directories(void) { /* 7: file, 8: O_PATH of the directory here, 9: dir */
    static const int fds[] = { AT_FDCWD, 7, 8, 9, 99, -1, -2 };
    static const char *relative[] = { "file", "inner", "", ".", "..", "/etc/passwd", "sub/../inner", "missing" };
    char label[256], buffer[64];
    struct stat info;
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 8; j++) {
            snprintf(label, sizeof label, "from %d %s", fds[i], relative[j]);
            describe(label, syscall(SYS_openat, fds[i], relative[j], O_RDONLY));
            for (int flags = 0; flags <= AT_EMPTY_PATH; flags += AT_EMPTY_PATH) {
                memset(&info, 0, sizeof info);
                say(label, syscall(SYS_newfstatat, fds[i], relative[j], &info, flags));
                printf("    %o\n", info.st_mode);
                say(label, syscall(SYS_faccessat2, fds[i], relative[j], R_OK, flags));
                say(label, syscall(SYS_faccessat, fds[i], relative[j], R_OK));
            }
            say(label, syscall(SYS_readlinkat, fds[i], relative[j], buffer, sizeof buffer));
        }
    CALL(SYS_newfstatat, 7, NULL, &info, AT_EMPTY_PATH);
    CALL(SYS_statx, 7, NULL, AT_EMPTY_PATH, STATX_MODE, NULL);
}

int main(int argc, char **argv) {
    if (getcwd(home, sizeof home) == NULL || argc != 2)
        return 1;
    snprintf(self, sizeof self, "%d", getpid());
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    for (int fd = 3; fd < 20; fd++)
        close(fd);
    dup2(open("file", O_RDWR), 7);
    dup2(open(".", O_PATH), 8);
    dup2(open("dir", O_RDONLY), 9);
    close(3);
    umask(022);
    switch (argv[1][0]) {
    case 'o': opens(); break;
    case 'l': looks(); break;
    case 'c': changes(); break;
    case 'd': directories(); deleted_directory(); break;
    case 'p': pointers(); break;
    case 'n': lengths(); break;
    case 'r': restricted(); break;
    case 's': sockets(); break;
    case 't': threads(); break;
    }
    return 0;
}
