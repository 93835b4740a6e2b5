/* Every emulated call with odd registers and odd bytes behind them.
 *
 *   odd_calls SEED COUNT
 *
 * Ends with 3 when the supervisor is gone (ENOSYS), with 4 when a number leaks that is no errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096 };
static const int calls[] = {
    SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_stat, SYS_lstat, SYS_newfstatat, SYS_statx,
    SYS_access, SYS_faccessat, SYS_faccessat2, SYS_readlink, SYS_readlinkat, SYS_mkdir, SYS_mkdirat,
    SYS_rmdir, SYS_unlink, SYS_unlinkat, SYS_connect, SYS_bind, SYS_rename, SYS_renameat2, SYS_link,
    SYS_linkat, SYS_symlink, SYS_symlinkat, SYS_mknod, SYS_mknodat, SYS_getxattr, SYS_lgetxattr,
    SYS_listxattr, SYS_llistxattr, 464 /* getxattrat */, 465 /* listxattrat */, SYS_statfs,
    SYS_name_to_handle_at, SYS_inotify_add_watch, SYS_fanotify_mark,
};
/* As root these could spoil what is outside of here, whatever the bytes come out as. */
static const int changes[] = {
    SYS_chmod, SYS_fchmodat, 452 /* fchmodat2 */, SYS_chown, SYS_lchown, SYS_fchownat, SYS_truncate,
    SYS_utime, SYS_utimes, SYS_futimesat, SYS_utimensat, SYS_setxattr, SYS_lsetxattr, SYS_removexattr,
    463 /* setxattrat */, 466 /* removexattrat */, 468, 469 /* file_getattr, file_setattr */, SYS_mount,
    SYS_umount2, SYS_move_mount, SYS_mount_setattr, SYS_acct, SYS_swapon, SYS_swapoff, SYS_chdir,
};
static const char *const names[] = {
    "", "x", "./y", "a\nb", "\xff\xfe", "x (deleted)", "//", "..", "/proc/self", "/proc/self/fd",
    "/proc/self/fd/0", "/proc/self/fd/3/x", "/proc/thread-self", "/proc/self/root/nowhere",
    "/proc/self/cwd/x", "/proc/self/task", "/proc/self/ns/mnt", "/proc/self/exe", "/proc/0",
    "/proc/-1", "/proc/99999999999999999999", "/proc/1/mem", "/proc/self/map_files", "/dev/tty",
    "/dev/full/x", "/nowhere/x", "/etc/passwd/", "/etc/passwd/x", "/sys/nowhere",
};
#define ITEMS(list) (sizeof list / sizeof *list)
static unsigned long state;
static char *page;

static unsigned long next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
}

static unsigned long any_register(void) {
    switch (next() % 16) {
    case 0: return 0;
    case 1: return ~0UL;
    case 2: return (unsigned long)-100;
    case 3: return 0xffffff9c;
    case 4: return next() << 11 ^ next();
    case 5: return (unsigned long)page + PAGE - next() % 64; /* the next page cannot be read */
    case 6: return next() % 64;
    case 7: return 1UL << next() % 64;
    case 8: return 0x1100;
    case 9: return 0x7fffffffffffffff;
    case 10: return 0x8000000000000000;
    case 11: return 0xffffffffff600000;
    default: return (unsigned long)page + next() % 4000;
    }
}

static void fill_page(void) {
    for (int at = 0; at < PAGE; at += 8)
        ((unsigned long *)page)[at / 8] = next() << 11 ^ next();
    for (int i = 0; i < 6; i++)
        strcpy(page + next() % 3900, names[next() % ITEMS(names)]);
    if (next() % 8 == 0)
        memset(page, next() % 2 ? '/' : 'a', PAGE);
    if (next() % 4 == 0) {
        static const short families[] = { 1, 2, 10, 16, 0 };
        memcpy(page + next() % 3800, &families[next() % 5], 2);
    }
}

int main(int argc, char **argv) {
    char here[PAGE];
    state = strtoul(argv[1], 0, 0) * 2654435761u + 1;
    if (argc < 3 || !getcwd(here, sizeof here) || !here[1])
        return 2; /* never in the root directory */
    page = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + PAGE, PAGE, PROT_NONE);
    for (long i = atol(argv[2]); i > 0; i--) {
        unsigned long a[6];
        int nr = geteuid() && next() % 3 == 0 ? changes[next() % ITEMS(changes)]
                                              : calls[next() % ITEMS(calls)];
        static const int by_first[] = {
            SYS_open, SYS_creat, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_mkdir, SYS_rmdir,
            SYS_unlink, SYS_rename, SYS_link, SYS_symlink, SYS_mknod, SYS_getxattr, SYS_lgetxattr,
            SYS_listxattr, SYS_llistxattr, SYS_statfs, SYS_chmod, SYS_chown, SYS_lchown, SYS_truncate,
            SYS_utime, SYS_utimes, SYS_setxattr, SYS_lsetxattr, SYS_removexattr, SYS_umount2,
        };
        int first = 0;
        for (unsigned k = 0; k < ITEMS(by_first); k++)
            first |= nr == by_first[k];
        fill_page();
        for (int k = 0; k < 6; k++)
            a[k] = any_register();
        if (next() % 2) { /* something that may even succeed */
            strcpy(page, names[next() % ITEMS(names)]);
            a[!first] = (unsigned long)page;
            if (!first)
                a[0] = next() % 3 ? (unsigned long)AT_FDCWD : next() % 8;
            if (next() % 2) { /* a second one */
                strcpy(page + 512, names[next() % ITEMS(names)]);
                a[first ? 1 : next() % 2 ? 2 : 3] = (unsigned long)(page + 512);
            }
        }
        if (nr == SYS_open)
            a[1] |= O_NONBLOCK;
        if (nr == SYS_openat)
            a[2] |= O_NONBLOCK;
        if (nr == SYS_openat2 && next() % 3) {
            unsigned long *how = (unsigned long *)(page + 2048);
            how[0] = (next() % 3 ? next() & 0x7fffff : next()) | O_NONBLOCK;
            how[1] = next() % 4 ? 0 : next() & 07777;
            how[2] = next() % 2 ? 0 : next() % 64;
            how[3] = 0;
            a[2] = (unsigned long)how;
            a[3] = next() % 3 ? 24 : next() % 64;
        }
        if ((nr == SYS_connect || nr == SYS_bind) && next() % 2) {
            a[0] = 3 + next() % 6;
            a[2] = next() % 140;
        }
        if (syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]) == -1) {
            if (errno == ENOSYS || errno >= 512) {
                printf("%s: call %d with %lx %lx %lx %lx\n", strerror(errno), nr, a[0], a[1], a[2],
                       a[3]);
                return errno == ENOSYS ? 3 : 4;
            }
        }
        if (next() % 16 == 0) {
            static const int families[] = { AF_UNIX, AF_INET, AF_INET6 };
            int fd = socket(families[next() % 3],
                            (next() % 2 ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
            if (fd > 20)
                close(fd);
        }
        if (i % 64 == 0)
            syscall(SYS_close_range, 12, ~0U, 0);
    }
    return 0;
}
