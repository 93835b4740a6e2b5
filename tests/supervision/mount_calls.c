/* The other parts of path_calls.c: mounts, and what concerns the whole machine. */
#include "calls.h"
#include "path_calls.h"
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/statfs.h>

/* Prints what is mounted in this directory. */
static void table(void) {
    char line[2048], *at;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (fgets(line, sizeof line, mounts)) {
        char root[1024], point[1024], options[200];
        if (sscanf(line, "%*d %*d %*s %1023s %1023s %199s", root, point, options) != 3)
            continue;
        if (strncmp(point, home, strlen(home)) || !point[strlen(home)])
            continue;
        at = strstr(line, " - ");
        printf("    %s %s %s ", strstr(root, home) ? "in HOME" : root, point + strlen(home), options);
        printf("%.8s\n", at ? at + 3 : "");
    }
    fclose(mounts);
}

static void clear(void) {
    static const char *const points[] = { "dir/sub", "dir/sub", "dir", "dir", "empty", "empty", "file", "place", "other", "place", "other" };
    for (int i = 0; i < 11; i++)
        umount2(points[i], MNT_DETACH);
}

static void mounts(void) {
    char label[512];
    static const unsigned long kinds[] = {
        MS_BIND, MS_BIND | MS_REC, MS_MOVE, MS_REMOUNT | MS_BIND | MS_RDONLY, MS_PRIVATE, MS_SLAVE | MS_REC,
        MS_SHARED | MS_PRIVATE, MS_BIND | MS_RDONLY, 0, MS_NOUSER, 0xC0ED0000 | MS_BIND, MS_REMOUNT,
    };
    static const char *const sources[] = { "dir", "file", "dlink", "missing", "", NULL, "link", "closed/x", "/proc/self/cwd/dir", "loop" };
    static const char *const targets[] = { "empty", "file", "missing", "dlink", "closed/x", "", "/proc/self/cwd/empty", "link", "." };
    mkdir("dir/sub", 0755);
    mkdir("place", 0755);
    mkdir("other", 0755);
    for (int kind = 0; kind < 12; kind++)
        for (int source = 0; source < 10; source++)
            for (int target = 0; target < 9; target++) {
                snprintf(label, sizeof label, "mount %s %s %lx", sources[source] ? sources[source] : "NULL", targets[target], kinds[kind]);
                if (say(label, syscall(SYS_mount, sources[source], targets[target], NULL, kinds[kind], NULL)) == 0) {
                    table();
                    say("  umount", syscall(SYS_umount2, targets[target], 0));
                    clear();
                }
            }
    static const struct { const char *kind, *data; } fresh[] = {
        { "tmpfs", "size=64k,mode=711" }, { "tmpfs", NULL }, { "ramfs", "" }, { "tmpfs", "nonsense=1" },
    };
    for (int i = 0; i < 4; i++) {
        snprintf(label, sizeof label, "mount %s %s", fresh[i].kind, fresh[i].data ? fresh[i].data : "NULL");
        say(label, syscall(SYS_mount, "some name", "place", fresh[i].kind, MS_NOSUID, fresh[i].data));
        state("place");
        table();
        say("  changed", syscall(SYS_mount, NULL, "place", NULL, MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOSUID, NULL));
        say("  again", syscall(SYS_mount, NULL, "place", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL));
        table();
        say("  moved", syscall(SYS_mount, "place", "other", NULL, MS_MOVE, NULL));
        table();
        if (chdir("other") == 0) {
            say("  busy", syscall(SYS_umount2, ".", 0));
            say("  busy", syscall(SYS_umount2, "../other", 0));
            if (chdir(home))
                abort();
        }
        int inside = open("other", O_RDONLY);
        say("  busy", syscall(SYS_umount2, "other", 0));
        close(inside);
        say("  done", syscall(SYS_umount2, "dir/../other/.", 0));
        say("  gone", syscall(SYS_umount2, "other", 0));
        clear();
    }
    if (mount("none", "place", "tmpfs", 0, NULL) == 0) {
        (void)!symlink("place", "way");
        CALL(SYS_umount2, "way", UMOUNT_NOFOLLOW);
        CALL(SYS_umount2, "way", 0x10);
        CALL(SYS_umount2, "way", 0);
        unlink("way");
    }
    void *bad[] = { NULL, BAD, KERNEL };
    for (int i = 0; i < 3; i++) {
        CALL(SYS_umount2, bad[i], 0);
        CALL(SYS_mount, "dir", bad[i], NULL, MS_BIND, NULL);
        if (i) {
            CALL(SYS_mount, bad[i], "empty", NULL, MS_BIND, NULL);
            CALL(SYS_mount, "x", "empty", bad[i], 0, NULL);
        }
    }
}

static void new_mounts(void) {
    char label[512];
    mkdir("place", 0755);
    mkdir("other", 0755);
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOEXEC };
    static const unsigned flags[] = { 0, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 0x10 };
    static const char *const paths[] = { "place", "dir", "missing", "dlink", "", "." };
    if (mount("none", "place", "tmpfs", 0, NULL) < 0)
        puts("no mounts");
    for (int path = 0; path < 6; path++)
        for (int i = 0; i < 5; i++) {
            snprintf(label, sizeof label, "mount_setattr %s %x", paths[path], flags[i]);
            if (strcmp(paths[path], "missing") && paths[path][0] != 'p')
                continue; /* the directory's own mount is everybody's */
            say(label, syscall(SYS_mount_setattr, AT_FDCWD, paths[path], flags[i], &attr, sizeof attr));
        }
    static const long sizes[] = { 0, 31, 32, 4097 };
    for (int i = 0; i < 4; i++)
        CALL(SYS_mount_setattr, AT_FDCWD, "place", 0, &attr, sizes[i]);
    attr.attr_set = 0;
    CALL(SYS_mount_setattr, AT_FDCWD, "missing", 0, &attr, sizeof attr);
    attr.attr_set = 1UL << 60;
    CALL(SYS_mount_setattr, AT_FDCWD, "place", 0, &attr, sizeof attr);
    attr = (struct mount_attr){ .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = 7 };
    CALL(SYS_mount_setattr, AT_FDCWD, "place", 0, &attr, sizeof attr);
    CALL(SYS_mount_setattr, AT_FDCWD, "place", 0, BAD, sizeof attr);
    table();
    static const unsigned moves[] = { 0, 0x11, 0x4, 0x40, 0x100, 0x300, 0x1000 };
    static const char *const from[] = { "place", "dir", "missing", "", "closed/x" };
    static const char *const to[] = { "other", "missing", "file", "", "closed/x" };
    for (int i = 0; i < 7; i++)
        for (int f = 0; f < 5; f++)
            for (int t = 0; t < 5; t++) {
                snprintf(label, sizeof label, "move_mount %s %s %x", from[f], to[t], moves[i]);
                if (say(label, syscall(SYS_move_mount, AT_FDCWD, from[f], AT_FDCWD, to[t], moves[i])) == 0) {
                    table();
                    say("  and back", syscall(SYS_move_mount, AT_FDCWD, to[t], AT_FDCWD, from[f], 0));
                }
            }
    int copy = (int)syscall(SYS_open_tree, AT_FDCWD, "place", OPEN_TREE_CLONE | O_CLOEXEC);
    if (copy >= 0) {
        attr = (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY };
        CALL(SYS_mount_setattr, copy, "", AT_EMPTY_PATH, &attr, sizeof attr);
        CALL(SYS_move_mount, copy, "", AT_FDCWD, "other", MOVE_MOUNT_F_EMPTY_PATH);
        CALL(SYS_move_mount, copy, "", AT_FDCWD, "dir", MOVE_MOUNT_F_EMPTY_PATH);
        table();
    }
    CALL(SYS_move_mount, 99, "", AT_FDCWD, "other", MOVE_MOUNT_F_EMPTY_PATH);
    CALL(SYS_move_mount, 7, "", AT_FDCWD, "other", MOVE_MOUNT_F_EMPTY_PATH);
    CALL(SYS_move_mount, AT_FDCWD, BAD, AT_FDCWD, "other", 0);
    CALL(SYS_move_mount, AT_FDCWD, "place", AT_FDCWD, BAD, 0);
    clear();
}

static void machine(void) {
    void *bad[] = { NULL, BAD, KERNEL };
    static const char *const paths[] = { "file", "missing", "dir", "", "loop" };
    for (int i = 0; i < 5; i++) {
        CALL(SYS_acct, paths[i]);
        CALL(SYS_swapon, paths[i], 0);
        CALL(SYS_swapon, paths[i], 0x800000);
        CALL(SYS_swapoff, paths[i]);
    }
    for (int i = 0; i < 3; i++) {
        CALL(SYS_acct, bad[i]);
        CALL(SYS_swapon, bad[i], 0);
        CALL(SYS_swapoff, bad[i]);
    }
}

/* Prints what fspick gave, and makes the file system read-only by it. */
static void pick(const char *label, int fd) {
    char link[64], to[64] = "";
    if (say(label, fd) < 0)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    (void)!readlink(link, to, sizeof to - 1);
    printf("    %s %d\n", to, fcntl(fd, F_GETFD));
    CALL(SYS_fsconfig, fd, FSCONFIG_SET_FLAG, "ro", NULL, 0);
    CALL(SYS_fsconfig, fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
    table();
    close(fd);
}

static void picks(void) {
    char label[100];
    static const unsigned flags[] = { 0, 1, 2, 4, 8, 15, 16 };
    static const char *const paths[] = { "place", "way", "dir", "place/x", "missing", "", "file", "loop", "closed/x" };
    mkdir("place", 0755);
    (void)!symlink("place", "way");
    if (mount("none", "place", "tmpfs", 0, NULL) < 0)
        puts("no mounts");
    for (int path = 0; path < 9; path++)
        for (int i = 0; i < 7; i++) {
            snprintf(label, sizeof label, "fspick %s %x", paths[path], flags[i]);
            pick(label, (int)syscall(SYS_fspick, AT_FDCWD, paths[path], flags[i]));
        }
    int on = open("place", O_RDONLY), copy = (int)syscall(SYS_open_tree, AT_FDCWD, "place", OPEN_TREE_CLONE | O_CLOEXEC);
    pick("by descriptor", (int)syscall(SYS_fspick, on, "", 8));
    if (copy >= 0)
        pick("detached", (int)syscall(SYS_fspick, copy, "", 8));
    CALL(SYS_fspick, 99, "", 8);
    CALL(SYS_fspick, AT_FDCWD, BAD, 0);
    close(on);
    unlink("way");
    clear();
}

static void quotas(void) {
    static const unsigned commands[] = {
        0x800001, 0x800002, 0x800003, 0x800004, 0x800005, 0x800006, 0x800007, 0x800008, 0x800009, 0x80000a,
        0x5801, 0x5802, 0x5803, 0x5804, 0x5805, 0x5806, 0x5807, 0x5808, 0x5809, 0,
    };
    static const char *const devices[] = { NULL, "file", "dir", "missing", "", "loop", "/dev/null", "closed/x", "fifo", BAD, KERNEL };
    void *data[] = { "file", "missing", BAD };
    char label[100];
    for (int i = 0; i < 20; i++)
        for (int type = 0; type < 5; type += 2)
            for (int device = 0; device < 11; device++)
                for (int k = 0; k < 3; k++) {
                    snprintf(label, sizeof label, "quotactl %x %d %d %d", commands[i], type, device, k);
                    say(label, syscall(SYS_quotactl, commands[i] << 8 | (unsigned)type, devices[device], getuid(), data[k]));
                }
    static const char *const libraries[] = { "file", "missing", BAD };
    for (int i = 0; i < 3; i++)
        CALL(SYS_uselib, libraries[i]);
}

int mount_calls(char part) {
    switch (part) {
    case 'b': mounts(); break;
    case 'v': new_mounts(); break;
    case 'c': machine(); break;
    case 'f': picks(); break;
    case 'q': quotas(); break;
    default: return 2;
    }
    return 0;
}
