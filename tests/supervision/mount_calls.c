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

int mount_calls(char part) {
    switch (part) {
    case 'b': mounts(); break;
    case 'v': new_mounts(); break;
    case 'c': machine(); break;
    default: return 2;
    }
    return 0;
}
