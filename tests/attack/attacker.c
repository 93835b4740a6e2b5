/* Changes files while certificates run, by every way that a file can change under a reader.
 *
 * usage: attacker KIND UID SPARE [PATH GOOD EVIL]...   PATH is attacked; GOOD and EVIL hold what it
 * shall and shall not contain; SPARE is a file with GOOD's bytes elsewhere, or "-". Descriptor 3 is
 * a SOCK_SEQPACKET socket: a packet announces a round, so that the change can fall into every
 * moment of it. The good bytes come back when the next round begins. At the end of the socket the
 * counters are printed, as one line of JSON. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CONTROL = 3, TARGETS = 4, PAGE = 4096, STYLES = 4, SCANNED = 24 };
struct packet { uint32_t round, span; int32_t pid; uint32_t spare; }; /* span: microseconds */
struct target {
    const char *path;
    char aside[4096];                /* where a replacement is prepared: the same directory */
    const char *evil_path;
    char *good, *evil;
    size_t size, first, last;        /* the bytes differ within [first, last) */
    int is_evil;
};
static struct target targets[TARGETS];
static int target_count;
static const char *kind;
static struct packet now;
static unsigned long changes, busy, denied, found; /* of files; refused by the kernel; memory files */
static uint64_t seed;

static uint32_t chance(uint32_t below) { /* xorshift */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return below ? (uint32_t)(seed >> 16) % below : 0;
}

static void die(const char *what) {
    fprintf(stderr, "attacker: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- time ---- */

static void finish(void) {
    printf("{\"changes\": %lu, \"busy\": %lu, \"denied\": %lu, \"found\": %lu}\n",
           changes, busy, denied, found);
    fflush(stdout);
    _exit(0);
}

/* Waits; 1 when a new packet came before the time was over. microseconds < 0: until one comes. */
static int interrupted(long microseconds) {
    struct pollfd one = { CONTROL, POLLIN, 0 };
    struct timespec time = { microseconds / 1000000, microseconds % 1000000 * 1000 };
    if (ppoll(&one, 1, microseconds < 0 ? NULL : &time, NULL) <= 0)
        return 0;
    struct packet next;
    if (read(CONTROL, &next, sizeof next) != sizeof next)
        finish();
    now = next;
    return 1;
}

/* ---- ways to change a file ---- */

static int open_to_write(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 && errno == ETXTBSY)
        busy++;
    return fd;
}

static int write_all(int fd, const char *data, size_t from, size_t to) {
    while (from < to) {
        ssize_t done = pwrite(fd, data + from, to - from, (off_t)from);
        if (done <= 0)
            return 0;
        from += (size_t)done;
    }
    return 1;
}

static int by_rewriting(struct target *t, const char *data) {
    uint32_t style = chance(STYLES);
    int fd = open_to_write(t->path, O_WRONLY | (style == 0 ? O_TRUNC : 0));
    if (fd < 0)
        return 0;
    if (style == 3) { /* backwards, so that the late bytes come first */
        for (size_t at = t->size; at > 0;) {
            size_t from = at > PAGE ? at - PAGE : 0;
            write_all(fd, data, from, at);
            at = from;
        }
    } else if (style == 2)
        write_all(fd, data, t->first, t->last);
    else
        write_all(fd, data, 0, t->size);
    close(fd);
    return 1;
}

static int by_renaming(struct target *t, const char *data) {
    unlink(t->aside);
    if (data == t->evil && chance(12) == 0) {
        if (symlink(t->evil_path, t->aside) != 0)
            return 0;
    } else {
        int fd = open(t->aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
        if (fd < 0)
            die("a replacement cannot be made");
        fchmod(fd, 0755);
        write_all(fd, data, 0, t->size);
        close(fd);
    }
    return rename(t->aside, t->path) == 0;
}

static char *map_file(const char *path, size_t size) {
    int fd = open_to_write(path, O_RDWR);
    if (fd < 0)
        return NULL;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

static void store(struct target *t, char *memory, const char *data) {
    if (chance(2))
        memcpy(memory, data, t->size);
    else
        memcpy(memory + t->first, data + t->first, t->last - t->first);
}

static int by_mapping(struct target *t, const char *data) {
    char *memory = map_file(t->path, t->size);
    if (memory == NULL)
        return 0;
    store(t, memory, data);
    munmap(memory, t->size);
    return 1;
}

static void put(struct target *t, int evil) {
    const char *data = evil ? t->evil : t->good;
    int done = strcmp(kind, "rename") == 0 ? by_renaming(t, data)
             : strcmp(kind, "mmap") == 0 ? by_mapping(t, data) : by_rewriting(t, data);
    if (done) {
        t->is_evil = evil;
        changes += (unsigned long)evil;
    }
}

/* The good bytes must be back for the round to have a chance; 0 when the next round came first. */
static int restore(struct target *t) {
    while (t->is_evil) {
        put(t, 0);
        if (t->is_evil && interrupted(100)) /* still being executed */
            return 0;
    }
    return 1;
}

/* ---- what to do in a round ---- */

/* Keep a writable mapping and store into it again and again, until the next round or the end. */
static int hold_mapping(struct target *t, long microseconds) {
    char *memory = map_file(t->path, t->size);
    if (memory == NULL)
        return 0;
    int next = 0;
    for (long spent = 0; spent < microseconds && !next;) {
        long pause = 20 + (long)chance(400);
        store(t, memory, t->evil);
        changes++;
        next = interrupted(pause);
        store(t, memory, t->good);
        if (!next)
            next = interrupted(pause);
        spent += 2 * pause;
    }
    munmap(memory, t->size);
    return next;
}

/* Gives back 1 when the next round has begun. */
static int change_files(void) {
    struct target *t = &targets[chance((uint32_t)target_count)];
    uint32_t way = chance(100);
    long span = (long)now.span + 1;
    for (int i = 0; i < target_count; i++)
        if (!restore(&targets[i]))
            return 1;
    if (way < 65) { /* one change, at any moment of the round */
        if (interrupted((long)chance((uint32_t)span)))
            return 1;
        put(t, 1);
    } else if (way < 80) { /* a short one, or a few */
        for (int i = 0; i < 3; i++) {
            if (interrupted((long)chance((uint32_t)span)))
                return 1;
            put(t, 1);
            if (interrupted((long)chance(300)))
                return 1;
            put(t, 0);
        }
    } else if (way < 95 || strcmp(kind, "mmap") != 0) { /* on and on, whatever happens */
        for (;;) {
            put(t, 1);
            if (interrupted((long)chance((uint32_t)span / 2)))
                return 1;
            put(t, 0);
            if (interrupted((long)chance((uint32_t)span)))
                return 1;
        }
    } else
        return !interrupted((long)chance((uint32_t)span)) ? hold_mapping(t, 20 * span) : 1;
    return 0;
}

/* A mapping that stays writable while the program is executed. */
static int change_mapped(void) {
    return restore(&targets[0]) ? hold_mapping(&targets[0], 20 * (long)now.span) : 1;
}

/* Look for the copy in memory among the launcher's descriptors, and write to it by any means. */
static int change_copy(void) {
    struct target *t = &targets[0];
    int pid = now.pid;
    char path[64], name[64];
    if (chance(5) < 2)
        return change_files(); /* refusals are part of the picture, too */
    if (!restore(t))
        return 1;
    uint32_t when = chance(now.span + 1) / 4;
    for (int pass = 0; pass < 100000; pass++) {
        for (int fd = 3; fd < SCANNED; fd++) {
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
            ssize_t length = readlink(path, name, sizeof name - 1);
            if (length < 7 || memcmp(name, "/memfd:", 7) != 0)
                continue;
            found++;
            if (interrupted((long)chance(when + 1)))
                return 1;
            chmod(path, 0777);
            int copy = open_to_write(path, O_RDWR);
            if (copy < 0)
                return 0;
            char *memory = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_SHARED, copy, 0);
            if (memory != MAP_FAILED) {
                store(t, memory, t->evil);
                munmap(memory, t->size);
                changes++;
            } else if (write_all(copy, t->evil, 0, t->size))
                changes++;
            else {
                denied++;
                if (ftruncate(copy, 0) == 0
                    || fallocate(copy, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0)
                    changes++;
            }
            if (chance(8) == 0 && interrupted(100 * (long)now.span)) { /* exec finds it busy */
                close(copy);
                return 1;
            }
            close(copy);
            return 0;
        }
        if (interrupted(0))
            return 1;
        if (kill(pid, 0) != 0)
            return 0;
    }
    return 0;
}

/* Put a link to an equal file elsewhere in its place, and change that one while it runs. */
static char *spare;
static int change_elsewhere(void) {
    struct target *t = &targets[0];
    long span = (long)now.span + 1;
    if (by_renaming(t, t->good) == 0)
        die("the file cannot be put back");
    if (interrupted((long)chance((uint32_t)span)))
        return 1;
    unlink(t->aside);
    char *memory = map_file(spare, t->size);
    if (memory == NULL)
        die("the spare file cannot be mapped");
    memcpy(memory, t->good, t->size);
    if (symlink(spare, t->aside) == 0 && rename(t->aside, t->path) == 0)
        changes++;
    int next = 0;
    while (!next) {
        next = interrupted((long)chance(400));
        memcpy(memory + t->first, t->evil + t->first, t->last - t->first);
        if (!next)
            next = interrupted((long)chance(200));
        memcpy(memory, t->good, t->size);
    }
    munmap(memory, t->size);
    return 1;
}

/* Begin to write with nothing but a pinned page left of it: no mapping, no open file. The bytes
 * come from a page that is missing, so we decide when the write goes on. */
static int fault_fd = -1;
static char *missing;
static struct iovec from_missing, to_target;

static void prepare_pin(void) {
    struct uffdio_api api = { .api = UFFD_API };
    missing = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = { .range = { (uintptr_t)missing, PAGE },
                                     .mode = UFFDIO_REGISTER_MODE_MISSING };
    fault_fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fault_fd < 0 || ioctl(fault_fd, UFFDIO_API, &api) != 0
        || ioctl(fault_fd, UFFDIO_REGISTER, &range) != 0)
        die("userfaultfd");
}

static void *write_slowly(void *unused) {
    process_vm_writev(getpid(), &from_missing, 1, &to_target, 1, 0);
    return unused;
}

static int change_pinned(void) {
    struct target *t = &targets[0];
    struct uffd_msg event;
    pthread_t thread;
    char page[PAGE];
    if (!restore(t))
        return 1;
    if (chance(5) == 0) { /* as in change_copy() */
        int next = interrupted((long)chance(now.span + 1));
        put(t, 1);
        return next;
    }
    char *memory = map_file(t->path, t->size);
    if (memory == NULL)
        return 0;
    size_t length = t->last % PAGE ? t->last % PAGE : PAGE, start = t->last - length;
    if (start < t->first)
        start = t->first, length = t->last - start;
    madvise(missing, PAGE, MADV_DONTNEED);
    from_missing = (struct iovec){ missing, length };
    to_target = (struct iovec){ memory + start, length };
    if (pthread_create(&thread, NULL, write_slowly, NULL) != 0)
        die("pthread_create");
    if (read(fault_fd, &event, sizeof event) != sizeof event)
        die("no fault");
    munmap(memory, t->size); /* and the file is closed: nobody counts us as a writer any more */
    int next = 0;
    if (chance(3) == 0)
        next = interrupted((long)chance(now.span + 1));
    else { /* until the kernel says that it is being executed, and a little longer */
        int probe = 0;
        while (!next && (probe = open_to_write(t->path, O_WRONLY)) >= 0) {
            close(probe);
            next = interrupted(10);
        }
        next = next || interrupted((long)chance(600));
    }
    memset(page, 0, sizeof page);
    memcpy(page, t->evil + start, length);
    struct uffdio_copy copy = { .dst = (uintptr_t)missing, .src = (uintptr_t)page, .len = PAGE };
    if (ioctl(fault_fd, UFFDIO_COPY, &copy) != 0)
        die("UFFDIO_COPY");
    pthread_join(thread, NULL);
    t->is_evil = 1;
    changes++;
    return next;
}

/* ---- the rest ---- */

static char *read_whole(const char *path, size_t *size) {
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file) != 0)
        die(path);
    char *data = malloc((size_t)file.st_size);
    if (data == NULL || read(fd, data, (size_t)file.st_size) != file.st_size)
        die(path);
    close(fd);
    *size = (size_t)file.st_size;
    return data;
}

static void add_target(char **argv) {
    struct target *t = &targets[target_count++];
    size_t other;
    t->path = argv[0];
    snprintf(t->aside, sizeof t->aside, "%s.aside", argv[0]);
    t->evil_path = argv[2];
    t->good = read_whole(argv[1], &t->size);
    t->evil = read_whole(argv[2], &other);
    if (other != t->size)
        die("the twins differ in size");
    while (t->first < t->size && t->good[t->first] == t->evil[t->first])
        t->first++;
    for (t->last = t->size; t->last > t->first && t->good[t->last - 1] == t->evil[t->last - 1];)
        t->last--;
}

int main(int argc, char **argv) {
    if (argc < 7 || (argc - 4) % 3 != 0 || (argc - 4) / 3 > TARGETS)
        return 2;
    kind = argv[1];
    int uid = atoi(argv[2]), next = 0;
    spare = argv[3];
    for (char **one = argv + 4; *one; one += 3)
        add_target(one);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    seed = (uint64_t)getpid() * 0x9E3779B97F4A7C15u ^ (uint64_t)time(NULL);
    int (*act)(void) = strcmp(kind, "memfd") == 0 ? change_copy
                     : strcmp(kind, "mapped") == 0 ? change_mapped
                     : strcmp(kind, "elsewhere") == 0 ? change_elsewhere
                     : strcmp(kind, "pin") == 0 ? change_pinned : change_files;
    if (act == change_pinned)
        prepare_pin();
    if (uid != 0 && (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0))
        die("cannot become another user");
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the change of ids took it away */
    for (;;)
        next = next || interrupted(-1) ? act() : 0;
}
