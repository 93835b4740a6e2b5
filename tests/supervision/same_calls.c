/* The same calls in the same trees, confined or not: every line must come out the same.
 *
 *   same_calls SEED TREES CALLS
 *
 * Goes into t0, t1, ... in turn, makes CALLS calls there with names and flags drawn from SEED, and
 * prints what each gave: "NR CALL NAME DIRFD FLAGS -> RESULT ERRNO DETAILS". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ITEMS(list) (sizeof list / sizeof *list)
static const char *const components[] = {
    "f", "d", "d/f", "d/e", "l_f", "l_d", "l_abs", "l_dang", "l_loop", "l_up", "sub", "fifo",
    "sock", "noexec", "noexec/f", "ro", "st", "st/mine", "st/his", "st/l", "..", ".", "n1", "n2",
    "d/n1", "l_d/n2", "sub/sub2/x", "l_noexec/f", "secret", "l_secret", "l_slash", "l_dangd",
    "name with space", "nl\nx", "\xff\xfe", "x (deleted)", "deep",
};
static const char *const in_proc[] = {
    "/proc/self", "/proc/thread-self", "/proc/self/cwd", "/proc/self/cwd/f", "/proc/self/root",
    "/proc/self/", "/proc/self/nowhere", "/proc/self/fd", "/proc/self/status", "/proc/self/task",
    "/proc/self/cwd/l_dang", "/proc/mounts", "/proc/net", "/proc/self/ns/user", "/proc/self/maps",
    "/proc/self/environ", "/proc/1/environ", "/proc/1/cwd", "/proc/self/attr/current",
    "/proc/self/../self/cwd/f", "/dev/null", "/proc/self/task/../cwd/d/",
};
static unsigned long state;
static char tree[4096];
static int known[4];

static unsigned long next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
}

static void draw_name(char *name) {
    name[0] = 0;
    switch (next() % 40) {
    case 0: return;
    case 1: strcpy(name, "/"); return;
    case 2: memset(name, 'z', 300); name[300] = 0; return;
    case 3: for (int i = 0; i < 1400; i++) memcpy(name + 3 * i, "../", 4); return;
    case 4: sprintf(name, "/proc/self/fd/%lu%s", 3 + next() % 4, next() % 2 ? "" : "/f"); return;
    case 5: strcpy(name, in_proc[next() % ITEMS(in_proc)]); return;
    }
    if (next() % 5 == 0)
        sprintf(name, "%s/", tree);
    for (int left = 1 + (next() % 4 == 0) + (next() % 8 == 0), first = 1; left; left--, first = 0) {
        if (!first)
            strcat(name, next() % 10 ? "/" : "//");
        strcat(name, components[next() % ITEMS(components)]);
    }
    if (next() % 8 == 0)
        strcat(name, "/");
    if (next() % 30 == 0)
        strcat(name, "/.");
    if (strstr(name, "..") && strstr(name, "../..")) /* stay among the trees */
        strcpy(name, "d/..");
}

static int draw_directory(void) {
    switch (next() % 10) {
    case 5: case 6: case 7: return known[next() % 4];
    case 8: return (int)(3 + next() % 5);
    case 9: return -1;
    default: return AT_FDCWD;
    }
}

static int draw_open_flags(int at_random) {
    static const int flags[] = { O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW,
                                 O_CLOEXEC, O_NOATIME, O_TMPFILE };
    int drawn = O_NONBLOCK | (int)(next() % 4 == 3 ? next() % 4 : next() % 3);
    for (unsigned long left = next() % 4; left; left--)
        drawn |= flags[next() % ITEMS(flags)];
    if (at_random)
        drawn |= O_CREAT;
    if (drawn & O_CREAT) /* its meaning changed in Linux 6.4 */
        drawn &= ~O_DIRECTORY;
    return drawn;
}

static void show(const char *text) {
    for (; *text; text++)
        if (*text > ' ' && *text < 127)
            putchar(*text);
        else
            printf("\\x%02x", *text & 255);
}

/* What a descriptor is, as far as both sides can know. */
static void look(long fd, struct stat *info, char *details) {
    fstat((int)fd, info);
    sprintf(details, "flags %o %d", fcntl((int)fd, F_GETFL) & ~O_NOFOLLOW,
            fcntl((int)fd, F_GETFD));
    if (S_ISREG(info->st_mode) && (fcntl((int)fd, F_GETFL) & O_ACCMODE) == O_WRONLY)
        (void)!write((int)fd, "hello", next() % 6);
    close((int)fd);
}

/* Only the trees may be changed, by root, too: no name that could lead anywhere else will do. */
static int is_outside(const char *name) {
    if (strstr(name, ".."))
        return 1;
    return name[0] == '/' && strncmp(name, tree, strlen(tree)) && strncmp(name, "/proc/self/cwd/", 15);
}

/* The calls that change names and attributes. */
static long change(int operation, const char *name, const char *other, int directory, long *flags, const char **call) {
    static const int renames[] = { 0, 0, 0, 1, 2, 2, 4, 5, 3 };
    static const int owners[] = { -1, -1, 61001, 61003, 0 };
    static const int kinds[] = { 0, S_IFREG, S_IFIFO, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFDIR };
    int at = (next() % 2 ? AT_SYMLINK_NOFOLLOW : 0) | (next() % 3 ? 0 : AT_EMPTY_PATH);
    int mode = (int)(next() & 07777) | 0700, second = draw_directory();
    struct timespec times[2] = { { (long)(next() % 99), 5 }, { (long)(next() % 99), next() % 9 ? 7 : UTIME_OMIT } };
    *flags = at;
    switch (operation) {
    case 22: case 23: case 24:
        *call = "renameat2";
        *flags = renames[next() % ITEMS(renames)];
        return syscall(SYS_renameat2, directory, name, second, other, *flags);
    case 25: *call = "rename"; return syscall(SYS_rename, name, other);
    case 26:
        *call = "linkat";
        *flags = next() % 2 ? AT_SYMLINK_FOLLOW : 0;
        return syscall(SYS_linkat, directory, name, second, other, *flags);
    case 27: *call = "link"; return syscall(SYS_link, name, other);
    case 28: *call = "symlinkat"; return syscall(SYS_symlinkat, other, directory, name);
    case 29: *call = "fchmodat2"; return syscall(452, directory, name, mode, at);
    case 30: *call = "chmod"; return syscall(SYS_chmod, name, mode);
    case 31:
        *call = "fchownat";
        return syscall(SYS_fchownat, directory, name, owners[next() % 5], owners[next() % 5], at);
    case 32: *call = "truncate"; return syscall(SYS_truncate, name, (long)(next() % 99) - 2);
    case 33: *call = "utimensat"; return syscall(SYS_utimensat, directory, name, times, at);
    case 34: *call = "utime"; return syscall(SYS_utime, name, next() % 2 ? 0 : times);
    default:
        *call = "mknodat";
        *flags = kinds[next() % ITEMS(kinds)] | mode;
        return syscall(SYS_mknodat, directory, name, *flags, 0x103);
    }
}

static void one_call(long number) {
    char name[8192], other[8192] = "", details[4300] = "";
    const char *call = "";
    struct stat info = { 0 };
    long flags = 0, result = -1;
    int operation = (int)(next() % 38), directory, mode = (int)(next() & 07777);
    draw_name(name);
    directory = draw_directory();
    if (next() % 8 == 0)
        umask((mode_t)(next() & 0777));
    errno = 0;
    switch (operation) {
    case 0: case 1: case 2: case 3: case 4: case 5:
        flags = draw_open_flags(next() % 3 == 0);
        if (operation == 5) {
            struct open_how how = { (unsigned)flags, 0, next() % 3 ? 0 : next() & 0x1f };
            if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))
                how.mode = (unsigned)mode;
            call = "openat2";
            result = syscall(SYS_openat2, directory, name, &how, sizeof how);
        } else if (operation == 4) {
            call = "open";
            result = syscall(SYS_open, name, flags, mode);
        } else {
            call = "openat";
            result = syscall(SYS_openat, directory, name, flags, mode);
        }
        if (result >= 0)
            look(result, &info, details);
        break;
    case 6:
        if (stat(name, &info) == 0 && S_ISFIFO(info.st_mode))
            break; /* would wait for a reader */
        call = "creat";
        result = syscall(SYS_creat, name, mode);
        if (result >= 0)
            look(result, &info, details);
        break;
    case 7: call = "stat"; result = syscall(SYS_stat, name, &info); break;
    case 8: call = "lstat"; result = syscall(SYS_lstat, name, &info); break;
    case 9: case 10:
        flags = (next() % 2 ? AT_SYMLINK_NOFOLLOW : 0) | (next() % 3 ? 0 : AT_EMPTY_PATH);
        call = "newfstatat";
        result = syscall(SYS_newfstatat, directory, name, &info, flags);
        break;
    case 11: {
        struct statx found = { 0 };
        flags = (next() % 2 ? AT_SYMLINK_NOFOLLOW : 0) | (next() % 3 ? 0 : AT_EMPTY_PATH);
        call = "statx";
        result = syscall(SYS_statx, directory, name, flags, STATX_BASIC_STATS, &found);
        info.st_mode = found.stx_mode;
        info.st_uid = found.stx_uid;
        info.st_size = (long)found.stx_size;
        info.st_nlink = found.stx_nlink;
        break;
    }
    case 12:
        flags = (long)(next() % 10 ? next() % 8 : next() % 64);
        call = "access";
        result = syscall(SYS_access, name, flags);
        break;
    case 13:
        flags = (long)(next() % 8);
        call = "faccessat";
        result = syscall(SYS_faccessat, directory, name, flags);
        break;
    case 14:
        flags = (next() % 3 ? 0 : AT_SYMLINK_NOFOLLOW) | (next() % 3 ? 0 : AT_EACCESS);
        call = "faccessat2";
        result = syscall(SYS_faccessat2, directory, name, mode & 7, flags);
        break;
    case 15: case 16: {
        long size = next() % 6 ? 4096 : (long)(next() % 12) - 2;
        char own[20], *at;
        flags = size;
        if (operation == 15) {
            call = "readlink";
            result = syscall(SYS_readlink, name, details, size);
        } else {
            call = "readlinkat";
            result = syscall(SYS_readlinkat, directory, name, details, size);
        }
        sprintf(own, "%d", getpid());
        if (strstr(name, "/proc/") && (at = strstr(details, own))) { /* pids differ */
            *at = 0;
            result = 0;
        }
        if ((at = strchr(details, '[')))
            *at = 0;
        break;
    }
    case 17:
        call = "mkdir";
        result = next() % 2 ? syscall(SYS_mkdir, name, mode)
                            : syscall(SYS_mkdirat, directory, name, mode);
        break;
    case 18: call = "rmdir"; result = syscall(SYS_rmdir, name); break;
    case 19: case 20:
        if (!strncmp(name, "/dev/", 5))
            break;
        flags = next() % 2 ? AT_REMOVEDIR : 0;
        call = operation == 19 ? "unlink" : "unlinkat";
        result = operation == 19 ? syscall(SYS_unlink, name)
                                 : syscall(SYS_unlinkat, directory, name, flags);
        break;
    case 21: {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int kind = next() % 2 ? SOCK_STREAM : SOCK_DGRAM, binds = next() % 2 != 0;
        int fd = socket(AF_UNIX, kind | SOCK_NONBLOCK, 0);
        size_t length = strlen(name);
        if (length > sizeof address.sun_path)
            break; /* cut off, it would name something outside the trees */
        memcpy(address.sun_path, name, length);
        flags = (long)(sizeof address.sun_family + length + (length < sizeof address.sun_path));
        call = binds ? "bind" : "connect";
        result = binds ? bind(fd, (struct sockaddr *)&address, (socklen_t)flags)
                       : connect(fd, (struct sockaddr *)&address, (socklen_t)flags);
        int error = errno;
        close(fd);
        errno = error;
        flags = 0;
        break;
    }
    default:
        draw_name(other);
        if (!is_outside(name) && !is_outside(other))
            result = change(operation, name, other, directory, &flags, &call);
        if (result >= 0 && strncmp(name, "/proc/", 6))
            lstat(name, &info);
    }
    int error = errno;
    printf("%ld %s ", number, call);
    show(strncmp(name, tree, strlen(tree)) ? name : name + strlen(tree));
    putchar(' ');
    show(strncmp(other, tree, strlen(tree)) ? other : other + strlen(tree));
    printf(" %d %lo -> ", directory, flags);
    if (result < 0)
        printf("-1 %d", error);
    else if (!strncmp(name, "/proc/", 6))
        printf("0 kind %o", info.st_mode & S_IFMT);
    else {
        int is_directory = S_ISDIR(info.st_mode);
        printf("0 mode %o uid %d links %ld size %ld ", info.st_mode, info.st_uid,
               is_directory ? 0L : (long)info.st_nlink, is_directory ? 0L : info.st_size);
        show(strncmp(details, tree, strlen(tree)) ? details : details + strlen(tree));
    }
    putchar('\n');
}

int main(int argc, char **argv) {
    char top[2048];
    long trees = atol(argv[2]), calls = atol(argv[3]);
    if (argc != 4 || !getcwd(top, sizeof top) || !top[1])
        return 2; /* never in the root directory */
    for (long i = 0; i < trees; i++) {
        syscall(SYS_close_range, 3, ~0U, 0);
        umask(022);
        sprintf(tree, "%s/t%ld", top, i);
        if (chdir(tree) < 0)
            return 3;
        state = (strtoul(argv[1], 0, 0) * 1000 + (unsigned long)i) * 2654435761u + 88172645463325252;
        printf("tree %ld\n", i);
        known[0] = open(".", O_RDONLY | O_DIRECTORY);
        known[1] = open("d", O_RDONLY);
        known[2] = open("f", O_RDONLY);
        known[3] = open("sub", O_RDONLY | O_DIRECTORY);
        for (long number = 0; number < calls; number++) {
            one_call(number);
            if (next() % 40 == 0)
                (void)!fchdir(known[next() % 3 ? 0 : 3]);
        }
    }
    return 0;
}
