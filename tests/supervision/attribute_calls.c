/* The other parts of path_calls.c: modes, owners, sizes, times, nodes, and arguments that are bad. */
#include "calls.h"
#include "path_calls.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <utime.h>

static const int at_flags[] = { 0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, 0x400, 0x800, 1 };
enum { FLAGS = 7 };
static const int fds[] = { AT_FDCWD, 7, 8, 9, 10, 99, -1 };

/* Root may change what others need: no name that could lead out of here will do for it. */
static int is_ours(const char *name) {
    if (geteuid())
        return 1;
    if (name[0] == '/')
        return !strncmp(name, "/proc/self/fd/", 14) || !strncmp(name, "/proc/self/cwd/", 15) || !strncmp(name, "/dev/fd/", 8);
    return strcmp(name, "..") && strncmp(name, "dir-to", 6);
}

static void modes(void) {
    char label[512];
    static const int drawn[] = { 0, 0644, 0755, 04755, 02755, 06777, 01777, 0107777, 0200644 };
    for (int name = 0; name < NAMES; name++) {
        if (!is_ours(names[name]))
            continue;
        for (int i = 0; i < 9; i++) {
            snprintf(label, sizeof label, "chmod %s %o", names[name], drawn[i]);
            say(label, syscall(SYS_chmod, names[name], drawn[i]));
            state(names[name]);
            state("file");
        }
        for (int i = 0; i < FLAGS; i++) {
            snprintf(label, sizeof label, "fchmodat2 %s %x", names[name], at_flags[i]);
            say(label, syscall(SYS_fchmodat2, AT_FDCWD, names[name], 0640 + i, at_flags[i]));
            state(names[name]);
            for (int fd = 0; fd < 7; fd++)
                if (i < 4 && (*names[name] == 0 || fd == 3)) {
                    snprintf(label, sizeof label, "fchmodat2 %d %s %x", fds[fd], names[name], at_flags[i]);
                    say(label, syscall(SYS_fchmodat2, fds[fd], names[name], 0750, at_flags[i]));
                    say(label, syscall(SYS_fchmodat, fds[fd], names[name], 0755));
                }
        }
    }
}

static void owners(void) {
    char label[512];
    const int me = (int)geteuid(), mine = (int)getegid();
    const int ids[][2] = { { -1, -1 }, { me, mine }, { me, -1 }, { -1, mine }, { 61002, -1 }, { -1, 61002 }, { -2, -1 }, { 0, 0 } };
    for (int name = 0; name < NAMES; name++) {
        if (!is_ours(names[name]))
            continue;
        for (int i = 0; i < 8; i++) {
            syscall(SYS_chmod, "file", 06755);
            snprintf(label, sizeof label, "chown %s %d", names[name], i);
            say(label, syscall(SYS_chown, names[name], ids[i][0], ids[i][1]));
            state(names[name]);
            snprintf(label, sizeof label, "lchown %s %d", names[name], i);
            say(label, syscall(SYS_lchown, names[name], ids[i][0], ids[i][1]));
            state(names[name]);
        }
        for (int i = 0; i < FLAGS; i++)
            for (int fd = 0; fd < 7; fd++) {
                snprintf(label, sizeof label, "fchownat %d %s %x", fds[fd], names[name], at_flags[i]);
                say(label, syscall(SYS_fchownat, fds[fd], names[name], me, mine, at_flags[i]));
            }
    }
}

static volatile int caught;
static void catch_one(int signal) { caught += signal; }

static void sizes(void) {
    char label[512];
    static const long lengths[] = { 0, 3, 5000, -1, 1L << 62, 0x7fffffffffffffff };
    for (int name = 0; name < NAMES; name++)
        for (int i = 0; i < 6 && is_ours(names[name]); i++) {
            snprintf(label, sizeof label, "truncate %s %ld", names[name], lengths[i]);
            say(label, syscall(SYS_truncate, names[name], lengths[i]));
            state(names[name]);
        }
    struct rlimit limit = { 4096, RLIM_INFINITY };
    signal(SIGXFSZ, catch_one);
    setrlimit(RLIMIT_FSIZE, &limit);
    for (int turn = 0; turn < 3; turn++) {
        CALL(SYS_truncate, "file", 4096);
        CALL(SYS_truncate, "file", 4097);
        CALL(SYS_truncate, "file", 1L << 40);
        CALL(SYS_truncate, "missing", 4097);
        CALL(SYS_truncate, "dir", 4097);
        CALL(SYS_truncate, "readonly", 4097);
        CALL(SYS_truncate, "file", 10);
        state("file");
        printf("caught %d\n", caught);
        if (turn == 1)
            signal(SIGXFSZ, SIG_IGN);
        else {
            limit.rlim_cur = 100;
            setrlimit(RLIMIT_FSIZE, &limit);
        }
    }
    fflush(stdout);
    signal(SIGXFSZ, SIG_DFL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        syscall(SYS_truncate, "file", 4097);
        _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    printf("ended by %d\n", WTERMSIG(status));
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    CALL(SYS_truncate, "file", 4097);
}

static void show_times(const char *name) {
    struct stat info = { 0 };
    if (stat(name, &info) < 0)
        return;
    printf("    %s:", name);
    const struct timespec *each[] = { &info.st_atim, &info.st_mtim };
    for (int i = 0; i < 2; i++)
        if (each[i]->tv_sec > 1700000000)
            printf(" now");
        else
            printf(" %ld.%09ld", (long)each[i]->tv_sec, each[i]->tv_nsec);
    puts("");
}

static void times(void) {
    char label[512];
    static const struct timespec drawn[][2] = {
        { { 1000, 5 }, { 2000, 999999999 } }, { { 0, UTIME_NOW }, { 0, UTIME_NOW } },
        { { 0, UTIME_OMIT }, { 77, 0 } }, { { 99, 1 }, { 0, UTIME_OMIT } }, { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } },
        { { 0, UTIME_NOW }, { 3000, 4 } }, { { 1, 1000000000 }, { 1, 0 } }, { { 1, 0 }, { 1, -1 } }, { { -5, 0 }, { -6, 7 } },
    };
    static const struct { long pair[4]; } timevals[] = {
        { { 500, 6, 700, 8 } }, { { 500, 1000000, 0, 0 } }, { { 0, 0, 0, -1 } }, { { 1, 999999, 2, 0 } },
    };
    static const struct utimbuf whole = { 123, 456 };
    for (int name = 0; name < NAMES; name++) {
        if (!is_ours(names[name]))
            continue;
        for (int i = -1; i < 9; i++)
            for (int flags = 0; flags < (i == 0 ? FLAGS : 2); flags++) {
                snprintf(label, sizeof label, "utimensat %s %d %x", names[name], i, at_flags[flags]);
                say(label, syscall(SYS_utimensat, AT_FDCWD, names[name], i < 0 ? NULL : drawn[i], at_flags[flags]));
                show_times(names[name]);
            }
        for (int i = -1; i < 4; i++) {
            snprintf(label, sizeof label, "utimes %s %d", names[name], i);
            say(label, syscall(SYS_utimes, names[name], i < 0 ? NULL : &timevals[i]));
            show_times(names[name]);
            say(label, syscall(SYS_futimesat, 9, names[name], i < 0 ? NULL : &timevals[i]));
            show_times(names[name]);
        }
        snprintf(label, sizeof label, "utime %s", names[name]);
        say(label, syscall(SYS_utime, names[name], &whole));
        say(label, syscall(SYS_utime, names[name], NULL));
    }
    for (int fd = 0; fd < 7; fd++)
        for (int i = -1; i < 9; i++)
            for (int flags = 0; flags < FLAGS; flags++) {
                snprintf(label, sizeof label, "utimensat %d %d %x", fds[fd], i, at_flags[flags]);
                say(label, syscall(SYS_utimensat, fds[fd], NULL, i < 0 ? NULL : drawn[i], at_flags[flags]));
                say(label, syscall(SYS_utimensat, fds[fd], "", i < 0 ? NULL : drawn[i], at_flags[flags]));
                say(label, syscall(SYS_utimensat, fds[fd], "inner", i < 0 ? NULL : drawn[i], at_flags[flags]));
                if (i < 4)
                    say(label, syscall(SYS_futimesat, fds[fd], NULL, i < 0 ? NULL : &timevals[i]));
                show_times("file");
            }
}

static void nodes(void) {
    char label[512];
    static const int kinds[] = { 0, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFDIR, S_IFLNK, 0170000, 0200000 | S_IFIFO };
    static const int masks[] = { 0, 022, 0777 };
    for (int name = 0; name < NAMES; name++)
        for (int kind = 0; kind < 10; kind++) {
            if (!strcmp(names[name], "/proc/self/fd/7") || !strcmp(names[name], "/dev/fd/7"))
                continue;
            snprintf(label, sizeof label, "mknod %s %o", names[name], kinds[kind]);
            if (say(label, syscall(SYS_mknod, names[name], kinds[kind] | 0644, makedev(1, 3))))
                continue;
            state(names[name]);
            unlink(names[name]);
        }
    for (int mask = 0; mask < 3; mask++) {
        syscall(SYS_umask, masks[mask]);
        for (int kind = 0; kind < 6; kind++) {
            snprintf(label, sizeof label, "mknodat %o under %o", kinds[kind], masks[mask]);
            say(label, syscall(SYS_mknodat, 9, "fresh", kinds[kind] | 07777, 0));
            state("dir/fresh");
            unlink("dir/fresh");
        }
    }
    syscall(SYS_umask, 022);
    for (int fd = 0; fd < 7; fd++) {
        snprintf(label, sizeof label, "mknodat %d", fds[fd]);
        say(label, syscall(SYS_mknodat, fds[fd], "fresh", S_IFIFO | 0644, 0));
        say(label, syscall(SYS_mknodat, fds[fd], "fresh/", S_IFIFO | 0644, 0));
        say(label, syscall(SYS_mknodat, fds[fd], "", S_IFIFO | 0644, 0));
        unlink("fresh");
        unlink("dir/fresh");
    }
}

/* In a directory that was removed a rename fails for the one or the other reason. */
static int removed;

static void both_names(const char *name, const char *fresh) {
    char buffer[64];
    struct stat info;
    if (strncmp(name, "/proc/self/fd/", 14) && !removed) { /* nor in that one */
        CALL(SYS_rename, name, fresh);
        CALL(SYS_rename, fresh, name);
    }
    CALL(SYS_link, name, fresh);
    CALL(SYS_unlink, fresh);
    CALL(SYS_symlink, name, fresh);
    CALL(SYS_unlink, fresh);
    CALL(SYS_mknod, fresh, S_IFIFO | 0600, 0);
    CALL(SYS_unlink, fresh);
    CALL(SYS_chmod, name, 0700);
    CALL(SYS_lchown, name, -1, -1);
    CALL(SYS_truncate, name, 2L);
    CALL(SYS_utimensat, AT_FDCWD, name, NULL, 0);
    CALL(SYS_setxattr, name, "user.z", "z", 1L, 0);
    CALL(SYS_getxattr, name, "user.z", buffer, 64L);
    CALL(SYS_removexattr, name, "user.z");
    memset(&info, 0, sizeof info);
    lstat(name, &info);
    printf("    %o %ld\n", info.st_mode, S_ISREG(info.st_mode) ? (long)info.st_size : 0);
}

static void *with_own_directory(void *unused) { /* CLONE_FS undone: cwd and umask of one thread */
    if (unshare(CLONE_FS))
        abort();
    syscall(SYS_fchdir, 9);
    umask(0777);
    both_names("inner", "thread");
    CALL(SYS_mknod, "fifo", S_IFIFO | 0666, 0);
    state("fifo");
    return unused;
}

static void *with_own_descriptors(void *unused) {
    if (unshare(CLONE_FILES))
        abort();
    dup2(8, 9);
    CALL(SYS_renameat, 9, "file", 9, "dir/moved");
    CALL(SYS_renameat, 9, "dir/moved", 9, "file");
    CALL(SYS_fchmodat, 9, "file", 0611);
    CALL(SYS_utimensat, 7, NULL, NULL, 0);
    close(7);
    CALL(SYS_utimensat, 7, NULL, NULL, 0);
    CALL(SYS_fchownat, 7, "", -1, -1, AT_EMPTY_PATH);
    return unused;
}

static void places_of_ones_own(void) {
    static void *(*const bodies[])(void *) = { with_own_directory, with_own_descriptors };
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, bodies[i], NULL);
        pthread_join(thread, NULL);
    }
    both_names("file", "dir/fresh"); /* the others keep theirs */
    CALL(SYS_renameat, 9, "inner", 9, "outer");
    CALL(SYS_renameat, 9, "outer", 9, "inner");
    both_names("/proc/self/cwd/file", "/proc/self/fd/9/fresh");
    both_names("/proc/thread-self/cwd/dir/inner", "/proc/thread-self/root/nowhere/x");
    int gone = open("short-lived", O_CREAT | O_RDWR, 0600);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", gone);
    unlink("short-lived");
    both_names(path, "fresh");
    int pair[2];
    if (pipe(pair) || mkdir("doomed", 0700) || chdir("doomed") || rmdir("../doomed"))
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", pair[0]);
    removed = 1;
    both_names(path, "fresh");
    both_names("x", "y");
    both_names(".", "y");
    both_names("..", "y");
    both_names("../file", "y");
    both_names("/proc/self/cwd/x", "/proc/self/cwd/y");
    CALL(SYS_rename, "/nowhere", "y");
    CALL(SYS_rename, "x", "y");
    CALL(SYS_fchownat, AT_FDCWD, "", -1, -1, AT_EMPTY_PATH);
}

static void bad_pointers(void) {
    void *bad[] = { NULL, BAD, KERNEL, (void *)-1L };
    for (int i = 0; i < 4; i++) {
        CALL(SYS_rename, bad[i], "fresh");
        CALL(SYS_rename, "file", bad[i]);
        CALL(SYS_rename, "missing/x", bad[i]);
        CALL(SYS_rename, "missing", bad[i]);
        CALL(SYS_rename, "closed/x", bad[i]);
        CALL(SYS_renameat2, AT_FDCWD, bad[i], AT_FDCWD, "fresh", 77);
        CALL(SYS_renameat2, AT_FDCWD, "file", AT_FDCWD, bad[i], 77);
        CALL(SYS_link, bad[i], "fresh");
        CALL(SYS_link, "file", bad[i]);
        CALL(SYS_link, "missing", bad[i]);
        CALL(SYS_linkat, AT_FDCWD, bad[i], AT_FDCWD, "fresh", AT_EMPTY_PATH);
        CALL(SYS_linkat, AT_FDCWD, bad[i], AT_FDCWD, "fresh", 1);
        CALL(SYS_symlink, bad[i], "fresh");
        CALL(SYS_symlink, "x", bad[i]);
        CALL(SYS_symlink, "", bad[i]);
        CALL(SYS_chmod, bad[i], 0644);
        CALL(SYS_fchmodat2, AT_FDCWD, bad[i], 0644, AT_EMPTY_PATH);
        CALL(SYS_fchmodat2, 7, bad[i], 0644, 1);
        CALL(SYS_chown, bad[i], -1, -1);
        CALL(SYS_fchownat, 7, bad[i], -1, -1, AT_EMPTY_PATH);
        CALL(SYS_truncate, bad[i], 0);
        CALL(SYS_truncate, bad[i], -1);
        CALL(SYS_mknod, bad[i], S_IFIFO, 0);
        CALL(SYS_mknod, bad[i], S_IFDIR, 0);
        CALL(SYS_utime, bad[i], NULL);
        CALL(SYS_utimes, bad[i], NULL);
        CALL(SYS_utimensat, 7, bad[i], NULL, 0);
        CALL(SYS_utimensat, AT_FDCWD, bad[i], NULL, 0);
        CALL(SYS_utimensat, AT_FDCWD, bad[i], NULL, AT_EMPTY_PATH);
        if (i) {
            CALL(SYS_utime, "file", bad[i]);
            CALL(SYS_utimes, "missing", bad[i]);
            CALL(SYS_futimesat, 9, "inner", bad[i]);
            CALL(SYS_utimensat, AT_FDCWD, "missing", bad[i], 77);
            CALL(SYS_utimensat, 7, NULL, bad[i], 0);
        }
        struct timespec none[] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };
        CALL(SYS_utimensat, AT_FDCWD, bad[i], none, 77);
    }
}

int more_calls(char part) {
    switch (part) {
    case 'm': modes(); break;
    case 'o': owners(); break;
    case 't': sizes(); break;
    case 'u': times(); break;
    case 'n': nodes(); break;
    case 'p': bad_pointers(); break;
    case 'd': places_of_ones_own(); break;
    default: return still_more_calls(part);
    }
    return 0;
}
