/* The other parts of path_calls.c: extended attributes, inode flags, file systems, handles, watches. */
#include "calls.h"
#include "path_calls.h"
#include <linux/xattr.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/statfs.h>

struct attribute_args { uint64_t value; uint32_t size, flags; };
static const char *const attributes[] = {
    "user.one", "user.two", "user.", "one", "", "trusted.one", "security.capability", "system.posix_acl_access",
    "security.other", "user.a name of two hundred and fifty-five bytes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "user.a name of too many bytes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
};
enum { ATTRIBUTES = sizeof attributes / sizeof *attributes };

static int may_spoil(const char *name) { return geteuid() || !is_elsewhere(name) || !strncmp(name, "/proc/self/cwd/", 15); }

static void bytes(const char *buffer, long length) {
    printf("    ");
    for (long i = 0; i < length && i < 300; i++)
        printf(buffer[i] > 32 && buffer[i] < 127 ? "%c" : "\\%02x", buffer[i] & 255);
    puts("");
}

static void list(const char *label, long length, const char *buffer) {
    say(label, length);
    if (length > 0)
        bytes(buffer, length);
}

static void xattrs(void) {
    char label[1024], buffer[70000], *value = malloc(70000);
    memset(value, 'v', 70000);
    for (int name = 0; name < NAMES; name++) {
        const char *path = names[name];
        if (!may_spoil(path) || !strcmp(path, ".."))
            continue;
        for (int i = 0; i < ATTRIBUTES; i++) {
            snprintf(label, sizeof label, "setxattr %s %.30s", path, attributes[i]);
            say(label, syscall(SYS_setxattr, path, attributes[i], value, 10L, 0));
            say(label, syscall(SYS_setxattr, path, attributes[i], value, 5L, XATTR_CREATE));
            say(label, syscall(SYS_lsetxattr, path, attributes[i], value, 7L, XATTR_REPLACE));
            say(label, syscall(SYS_lsetxattr, path, attributes[i], value, 0L, 0));
            snprintf(label, sizeof label, "getxattr %s %.30s", path, attributes[i]);
            for (long size = 0; size < 20; size += 5) {
                memset(buffer, '#', 64);
                list(label, syscall(size % 2 ? SYS_lgetxattr : SYS_getxattr, path, attributes[i], buffer, size), buffer);
                if (buffer[size] != '#')
                    puts("too much");
            }
        }
        say("set", syscall(SYS_setxattr, path, "user.one", value, 10L, 0));
        for (long size = 0; size < 70000; size = size * 3 + 7) {
            snprintf(label, sizeof label, "listxattr %s %ld", path, size);
            list(label, syscall(SYS_listxattr, path, buffer, size), buffer);
            list(label, syscall(SYS_llistxattr, path, buffer, size), buffer);
        }
        for (int i = 0; i < ATTRIBUTES; i++) {
            snprintf(label, sizeof label, "removexattr %s %.30s", path, attributes[i]);
            say(label, syscall(i % 2 ? SYS_lremovexattr : SYS_removexattr, path, attributes[i]));
        }
    }
    static const long sizes[] = { 0, 1, 3000, 65535, 65536, 65537, 1L << 40 };
    for (int i = 0; i < 7; i++) {
        snprintf(label, sizeof label, "a value of %ld", sizes[i]);
        say(label, syscall(SYS_setxattr, "file", "user.big", value, sizes[i], 0));
        say(label, syscall(SYS_getxattr, "file", "user.big", buffer, sizes[i]));
        say(label, syscall(SYS_getxattr, "file", "user.big", NULL, sizes[i]));
        say(label, syscall(SYS_listxattr, "file", buffer, sizes[i]));
        say(label, syscall(SYS_setxattr, "file", "user.big", value, 1L, 1 << i));
    }
    CALL(SYS_removexattr, "file", "user.big");
}

static void at_xattrs(void) {
    char label[1024], buffer[256];
    static const char *const paths[] = { "file", "link", "", NULL, "inner", "missing", "/proc/self/cwd/file" };
    static const int fds[] = { AT_FDCWD, 7, 8, 9, 10, 99, -1 };
    static const unsigned flags[] = { 0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, 1 };
    struct { struct attribute_args args; long more; } big = { { (uint64_t)(uintptr_t)"value", 5, 0 }, 0 };
    for (int fd = 0; fd < 7; fd++)
        for (int path = 0; path < 7; path++)
            for (int i = 0; i < 5; i++) {
                snprintf(label, sizeof label, "xattrat %d %s %x", fds[fd], paths[path] ? paths[path] : "NULL", flags[i]);
                struct attribute_args args = { (uint64_t)(uintptr_t)"value", 5, 0 };
                say(label, syscall(SYS_setxattrat, fds[fd], paths[path], flags[i], "user.at", &args, sizeof args));
                args.value = (uint64_t)(uintptr_t)buffer;
                args.size = sizeof buffer;
                list(label, syscall(SYS_getxattrat, fds[fd], paths[path], flags[i], "user.at", &args, sizeof args), buffer);
                list(label, syscall(SYS_listxattrat, fds[fd], paths[path], flags[i], buffer, sizeof buffer), buffer);
                say(label, syscall(SYS_removexattrat, fds[fd], paths[path], flags[i], "user.at"));
            }
    static const long sizes[] = { 0, 15, 16, 17, 24, 4096, 4097 };
    for (int turn = 0; turn < 2; turn++, big.more = 1)
        for (int i = 0; i < 7; i++) {
            if (sizes[i] > (long)sizeof big && sizes[i] <= 4096)
                continue;
            snprintf(label, sizeof label, "struct of %ld", sizes[i]);
            say(label, syscall(SYS_setxattrat, AT_FDCWD, "file", 0, "user.at", &big, sizes[i]));
            say(label, syscall(SYS_getxattrat, AT_FDCWD, "file", 0, "user.at", &big, sizes[i]));
        }
    big.args.flags = 1;
    CALL(SYS_getxattrat, AT_FDCWD, "file", 0, "user.at", &big, 16L);
    CALL(SYS_setxattrat, AT_FDCWD, "file", 0, "user.at", &big, 16L);
    struct { uint64_t xflags; uint32_t each[4]; long more; } attr = { 0 };
    for (int fd = 0; fd < 7; fd++)
        for (int path = 0; path < 7; path++)
            for (int i = 0; i < 5; i++) {
                snprintf(label, sizeof label, "file_getattr %d %s %x", fds[fd], paths[path] ? paths[path] : "NULL", flags[i]);
                memset(&attr, '#', sizeof attr);
                long done = say(label, syscall(SYS_file_getattr, fds[fd], paths[path], &attr, 24L, flags[i]));
                printf("    %lx\n", (long)attr.xflags);
                if (done == 0)
                    say("  set", syscall(SYS_file_setattr, fds[fd], paths[path], &attr, 24L, flags[i]));
            }
    for (int i = 0; i < 7; i++) {
        if (sizes[i] > (long)sizeof attr && sizes[i] <= 4096)
            continue;
        snprintf(label, sizeof label, "file_attr of %ld", sizes[i]);
        say(label, syscall(SYS_file_getattr, AT_FDCWD, "file", &attr, sizes[i], 0));
        say(label, syscall(SYS_file_setattr, AT_FDCWD, "file", &attr, sizes[i], 0));
    }
    attr.more = 1;
    CALL(SYS_file_setattr, AT_FDCWD, "file", &attr, 32L, 0);
    attr.xflags = ~0UL;
    CALL(SYS_file_setattr, AT_FDCWD, "file", &attr, 24L, 0);
}

static void places(void) { /* statfs, handles, watches */
    char label[512];
    struct statfs found;
    struct { unsigned room; int type; char more[200]; } handle;
    static const int handle_flags[] = { 0, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, 0x200, 1, 2, 0x202, 0x1002, 0x401, 0x10000, 0x100 };
    static const unsigned rooms[] = { 128, 0, 4, 129, 1000 };
    int watcher = inotify_init1(0), marker = fanotify_init(FAN_REPORT_FID, 0);
    for (int name = 0; name < NAMES; name++) {
        const char *path = names[name];
        memset(&found, 0, sizeof found);
        snprintf(label, sizeof label, "statfs %s", path);
        say(label, syscall(SYS_statfs, path, &found));
        printf("    %lx %ld\n", (long)found.f_type, (long)found.f_namelen);
        for (int i = 0; i < 11; i++)
            for (int room = 0; room < (i ? 2 : 5); room++) {
                long mount = 0;
                memset(&handle, 0, sizeof handle);
                handle.room = rooms[room];
                snprintf(label, sizeof label, "name_to_handle_at %s %x %u", path, handle_flags[i], rooms[room]);
                say(label, syscall(SYS_name_to_handle_at, AT_FDCWD, path, &handle, &mount, handle_flags[i]));
                struct stat info = { 0 };
                syscall(SYS_newfstatat, AT_FDCWD, path, &info, handle_flags[i] & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
                printf("    %u %d %ld %d\n", handle.room, handle.type, strncmp(path, "/proc", 5) ? mount : 0,
                       handle.type == 1 && !memcmp(handle.more, &info.st_ino, 4));
                if (room == 0)
                    say(label, syscall(SYS_name_to_handle_at, 7, path, &handle, &mount, handle_flags[i]));
            }
        static const unsigned masks[] = {
            IN_MODIFY, IN_DONT_FOLLOW, IN_DONT_FOLLOW | IN_ATTRIB, IN_ONLYDIR | IN_CREATE, IN_ONLYDIR | IN_DONT_FOLLOW | IN_CREATE,
            IN_MASK_ADD | IN_OPEN, IN_MASK_CREATE | IN_OPEN, IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN, 0, 0x08000000, IN_ONESHOT,
        };
        for (int i = 0; i < 11; i++) {
            snprintf(label, sizeof label, "inotify_add_watch %s %x", path, masks[i]);
            say(label, syscall(SYS_inotify_add_watch, watcher, path, masks[i]));
        }
        static const unsigned marks[] = { FAN_MARK_ADD, FAN_MARK_ADD | FAN_MARK_DONT_FOLLOW, FAN_MARK_ADD | FAN_MARK_ONLYDIR,
            FAN_MARK_REMOVE, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MARK_FLUSH, 0, 0x10000 };
        for (int i = 0; i < 9; i++) {
            snprintf(label, sizeof label, "fanotify_mark %s %x", path, marks[i]);
            say(label, syscall(SYS_fanotify_mark, marker, marks[i], (long)FAN_OPEN, AT_FDCWD, path));
        }
    }
    int fds[] = { AT_FDCWD, 7, 8, 9, 10, 99, -1, watcher, marker };
    for (int i = 0; i < 9; i++) {
        snprintf(label, sizeof label, "watch by %d", fds[i]);
        say(label, syscall(SYS_inotify_add_watch, fds[i], "file", IN_MODIFY));
        say(label, syscall(SYS_inotify_add_watch, fds[i], "missing", IN_MODIFY));
        say(label, syscall(SYS_fanotify_mark, fds[i], FAN_MARK_ADD, (long)FAN_OPEN, AT_FDCWD, "missing"));
        say(label, syscall(SYS_fanotify_mark, marker, FAN_MARK_ADD, (long)FAN_OPEN, fds[i], NULL));
        say(label, syscall(SYS_fanotify_mark, marker, FAN_MARK_ADD, (long)FAN_OPEN, fds[i], ""));
        say(label, syscall(SYS_fanotify_mark, marker, FAN_MARK_ADD, (long)FAN_OPEN, fds[i], "inner"));
        say(label, syscall(SYS_fanotify_mark, marker, FAN_MARK_ADD | FAN_MARK_ONLYDIR, (long)FAN_OPEN, fds[i], NULL));
        say(label, syscall(SYS_fanotify_mark, marker, FAN_MARK_ADD, 0L, fds[i], "missing"));
        say(label, syscall(SYS_fanotify_mark, marker, FAN_MARK_ADD, -1L, fds[i], "missing"));
        say(label, syscall(SYS_name_to_handle_at, fds[i], "inner", &handle, &found, 0));
        handle.room = 128;
        say(label, syscall(SYS_name_to_handle_at, fds[i], "", &handle, &found, AT_EMPTY_PATH));
    }
    fcntl(watcher, F_SETFL, O_NONBLOCK);
    char events[4096];
    while (read(watcher, events, sizeof events) > 0)
        ; /* what the looks above did */
    CALL(SYS_inotify_add_watch, watcher, "dir", IN_CREATE | IN_DELETE);
    mkdir("dir/watched", 0700);
    rmdir("dir/watched");
    printf("events of %ld bytes\n", (long)read(watcher, events, sizeof events));
    void *bad[] = { NULL, BAD, KERNEL, (void *)-1L };
    for (int i = 0; i < 4; i++) {
        handle.room = 128;
        CALL(SYS_statfs, bad[i], &found);
        CALL(SYS_statfs, "file", bad[i]);
        CALL(SYS_name_to_handle_at, AT_FDCWD, bad[i], &handle, &found, 0);
        CALL(SYS_name_to_handle_at, AT_FDCWD, bad[i], &handle, &found, AT_EMPTY_PATH);
        CALL(SYS_name_to_handle_at, AT_FDCWD, "file", bad[i], &found, 0);
        CALL(SYS_name_to_handle_at, AT_FDCWD, "missing", bad[i], &found, 0);
        CALL(SYS_name_to_handle_at, AT_FDCWD, "file", &handle, bad[i], 0);
        CALL(SYS_inotify_add_watch, watcher, bad[i], IN_OPEN);
        CALL(SYS_inotify_add_watch, 99, bad[i], IN_OPEN);
        CALL(SYS_inotify_add_watch, 7, bad[i], IN_OPEN);
        CALL(SYS_fanotify_mark, marker, FAN_MARK_ADD, (long)FAN_OPEN, AT_FDCWD, bad[i]);
        CALL(SYS_setxattr, bad[i], "user.x", "v", 1L, 0);
        CALL(SYS_setxattr, "file", bad[i], "v", 1L, 0);
        CALL(SYS_setxattr, "missing", bad[i], "v", 1L, 0);
        CALL(SYS_setxattr, "file", "user.x", bad[i], 1L, 0);
        CALL(SYS_setxattr, "file", "user.x", bad[i], 0L, 0);
        CALL(SYS_setxattr, "file", "user.x", "value", 3L, 0);
        CALL(SYS_getxattr, "file", "user.x", bad[i], 10L);
        CALL(SYS_getxattr, "file", "user.x", bad[i], 0L);
        CALL(SYS_getxattr, bad[i], "user.x", label, 10L);
        CALL(SYS_getxattr, "file", bad[i], label, 10L);
        CALL(SYS_listxattr, "file", bad[i], 100L);
        CALL(SYS_listxattr, "file", bad[i], 0L);
        CALL(SYS_listxattr, bad[i], label, 100L);
        CALL(SYS_removexattr, bad[i], "user.x");
        CALL(SYS_removexattr, "file", bad[i]);
        CALL(SYS_getxattrat, AT_FDCWD, "file", 0, "user.x", bad[i], 16L);
        CALL(SYS_listxattrat, 7, bad[i], AT_EMPTY_PATH, label, 100L);
        CALL(SYS_file_getattr, AT_FDCWD, "file", bad[i], 24L, 0);
        CALL(SYS_file_setattr, AT_FDCWD, "missing", bad[i], 24L, 0);
        CALL(SYS_file_getattr, AT_FDCWD, bad[i], &handle, 24L, 0);
    }
}

int still_more_calls(char part) {
    switch (part) {
    case 'x': xattrs(); break;
    case 'a': at_xattrs(); break;
    case 'w': places(); break;
    default: return mount_calls(part);
    }
    return 0;
}
