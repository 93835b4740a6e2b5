/* Tries to change what another name than the judged one leads to.
 *
 *   path_races KIND COUNT PERMITTED OTHER
 *
 * One thread exchanges what a name leads to, as fast as it can, between the directories PERMITTED
 * and OTHER; the other one makes each call COUNT times. For "way" and "leaf" somebody else, who is
 * not confined, exchanges (that is KIND "exchange"), lest the supervisor serves both in turn.
 * Descriptor 9 is OTHER, opened before we
 * were confined (for "magic" its file). Prints a line for each call: its name, how often it was
 * done, denied, ended otherwise, and told what it must not tell. Whether something was changed that
 * must not be, who looks at OTHER afterwards sees. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

enum { PASSED = 9, SLOT = 200, SIZE = 4096 };
static volatile int stop;
static char permitted[SIZE], other[SIZE], shared[SIZE], one[SIZE], two[SIZE];
static const char *kind, *leaf;
static int directory, watcher;

static int is(const char *name) { return !strcmp(kind, name); }

static void *exchange(void *unused) {
    for (int turn = 0; !stop; turn ^= 1) {
        if (is("memory"))
            memcpy(shared, turn ? one : two, SIZE);
        else if (is("way") || is("leaf"))
            break;
        else if (is("cwd"))
            (void)!fchdir(turn ? directory : PASSED);
        else
            dup2(turn ? directory : PASSED, SLOT);
    }
    return unused;
}

static long rename_old(int fd, const char *name) { return renameat(fd, name, AT_FDCWD, "/nowhere/x"); }
static long rename_from(int fd, const char *name) {
    char to[SIZE + 9];
    snprintf(to, sizeof to, "%s/moved", permitted);
    return renameat(fd, name, AT_FDCWD, to);
}
static long rename_to(int fd, const char *name) {
    char from[SIZE + 9];
    snprintf(from, sizeof from, "%s/spare", permitted);
    return renameat(AT_FDCWD, from, fd, name);
}
static long exchanged(int fd, const char *name) {
    char with[SIZE + 9];
    snprintf(with, sizeof with, "%s/spare", permitted);
    return renameat2(fd, name, AT_FDCWD, with, 2);
}
static long link_from(int fd, const char *name) {
    char to[SIZE + 9];
    snprintf(to, sizeof to, "%s/linked", permitted);
    return linkat(fd, name, AT_FDCWD, to, AT_SYMLINK_FOLLOW);
}
static long link_to(int fd, const char *name) {
    char from[SIZE + 9];
    snprintf(from, sizeof from, "%s/spare", permitted);
    return linkat(AT_FDCWD, from, fd, name, 0);
}
static long symlink_to(int fd, const char *name) { return symlinkat("nothing", fd, name); }
static long mknod_at(int fd, const char *name) { return mknodat(fd, name, S_IFIFO | 0600, 0); }
static long chmod_at(int fd, const char *name) { return fchmodat(fd, name, 0666, 0); }
static long chown_at(int fd, const char *name) { return fchownat(fd, name, -1, getegid(), 0); }
static long utime_at(int fd, const char *name) { return utimensat(fd, name, NULL, 0); }
static long truncate_at(int fd, const char *name) { return fd == AT_FDCWD ? truncate(name, 6) : -2; }
static long setxattr_at(int fd, const char *name) {
    return fd == AT_FDCWD ? syscall(SYS_setxattr, name, "user.new", "x", 1L, 0) : -2;
}
static long removexattr_at(int fd, const char *name) {
    return fd == AT_FDCWD ? syscall(SYS_removexattr, name, "user.which") : -2;
}
static long getxattr_at(int fd, const char *name) {
    char value[9] = { 0 };
    if (fd != AT_FDCWD)
        return -2;
    long done = syscall(SYS_getxattr, name, "user.which", value, 8L);
    return done >= 0 && !strncmp(value, "secret", 6) ? 1000 : done;
}
static long statfs_at(int fd, const char *name) {
    char found[200];
    return fd == AT_FDCWD ? syscall(SYS_statfs, name, found) : -2;
}
static long handle_at(int fd, const char *name) {
    struct { unsigned room; int type; char bytes[128]; } handle = { 128, 0, "" };
    struct stat secret;
    int mount;
    if (syscall(SYS_name_to_handle_at, fd, name, &handle, &mount, AT_SYMLINK_FOLLOW))
        return -1;
    stat(two, &secret);
    return handle.type == 1 && !memcmp(handle.bytes, &secret.st_ino, 4) ? 1000 : 0;
}
static long watch_at(int fd, const char *name) {
    char path[64], text[512] = { 0 }, secret[64];
    struct stat info;
    if (fd != AT_FDCWD)
        return -2;
    long number = inotify_add_watch(watcher, name, IN_MODIFY);
    if (number < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", watcher);
    int list = open(path, O_RDONLY);
    (void)!read(list, text, sizeof text - 1);
    close(list);
    inotify_rm_watch(watcher, (int)number);
    stat(two, &info);
    snprintf(secret, sizeof secret, " ino:%lx ", (long)info.st_ino);
    return strstr(text, secret) ? 1000 : 0;
}

enum { FROM = 1, MAKES = 2, FOLLOWS = 4 };
static const struct { const char *name; long (*make)(int, const char *); int what; } calls[] = {
    { "rename-old", rename_old, FROM }, { "rename-from", rename_from, FROM },
    { "rename-to", rename_to, MAKES }, { "exchange", exchanged, FROM },
    { "link-from", link_from, FROM | FOLLOWS }, { "link-to", link_to, MAKES },
    { "symlink", symlink_to, MAKES }, { "mknod", mknod_at, MAKES },
    { "chmod", chmod_at, FROM | FOLLOWS }, { "chown", chown_at, FROM | FOLLOWS },
    { "utime", utime_at, FROM | FOLLOWS }, { "truncate", truncate_at, FROM | FOLLOWS },
    { "setxattr", setxattr_at, FROM | FOLLOWS }, { "removexattr", removexattr_at, FROM | FOLLOWS },
    { "getxattr", getxattr_at, FROM | FOLLOWS }, { "handle", handle_at, FROM | FOLLOWS },
    { "watch", watch_at, FROM | FOLLOWS },
};

/* Puts the permitted directory in order again, by names that nobody exchanges. */
static void tidy(void) {
    char path[SIZE + 9], file[SIZE + 9];
    static const char *const made[] = { "linked", "made" };
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", permitted, made[i]);
        unlink(path);
    }
    snprintf(file, sizeof file, "%s/file", permitted);
    snprintf(path, sizeof path, "%s/moved", permitted);
    rename(path, file);
    snprintf(path, sizeof path, "%s/spare", permitted);
    close(open(path, O_CREAT | O_WRONLY, 0666));
    syscall(SYS_setxattr, file, "user.which", "public", 6L, 0);
}

static int exchange_for_others(void) {
    (void)!(symlink(permitted, "way") | symlink(other, "way2") | link("file", "leaf"));
    snprintf(two, SIZE, "%s/file", other);
    (void)!symlink(two, "leaf2");
    puts("ready");
    fflush(stdout);
    while (is("exchange")) {
        renameat2(AT_FDCWD, "way", AT_FDCWD, "way2", 2);
        renameat2(AT_FDCWD, "leaf", AT_FDCWD, "leaf2", 2);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    kind = argv[1];
    strcpy(permitted, argv[3]);
    strcpy(other, argv[4]);
    if (is("exchange") || is("none"))
        return chdir(permitted) < 0 ? 3 : exchange_for_others();
    directory = open(is("magic") ? strcat(strcpy(one, permitted), "/file") : permitted, O_RDONLY);
    watcher = inotify_init1(0);
    if (directory < 0 || dup2(directory, SLOT) != SLOT || chdir(permitted) < 0)
        return 3;
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        long count = atol(argv[2]), done = 0, denied = 0, ended = 0, told = 0;
        pthread_t thread;
        if ((is("leaf") || is("magic")) && !(calls[i].what & FOLLOWS))
            continue;
        leaf = calls[i].what & MAKES ? "made" : "file";
        snprintf(one, SIZE, "%s/%s", permitted, leaf);
        snprintf(two, SIZE, "%s/%s", other, leaf);
        memcpy(shared, one, SIZE);
        if (is("cwd") || is("dirfd") || is("magic"))
            (void)!fchdir(is("magic") ? open(permitted, O_RDONLY) : directory);
        char way[20];
        snprintf(way, sizeof way, "way/%s", leaf);
        int fd = is("dirfd") ? SLOT : AT_FDCWD;
        const char *name = is("memory") ? shared : is("way") ? way : is("leaf") ? "leaf"
                         : is("magic") ? "/proc/self/fd/200" : leaf;
        tidy();
        stop = 0;
        pthread_create(&thread, 0, exchange, 0);
        for (long round = 0; round < count || (round < 20 * count && !(done && denied)); round++) {
            long result = calls[i].make(fd, name);
            if (result == -2)
                break;
            done += result >= 0;
            told += result == 1000;
            denied += result < 0 && errno == EPERM;
            ended += result < 0 && errno != EPERM;
            if (result >= 0 && (calls[i].what & MAKES || i < 8))
                tidy();
        }
        stop = 1;
        pthread_join(thread, 0);
        if (done + denied + ended)
            printf("%s %ld %ld %ld %ld\n", calls[i].name, done, denied, ended, told);
    }
    return 0;
}
