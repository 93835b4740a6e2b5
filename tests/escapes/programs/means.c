/* Every means by which something else can change what a call is about, while it is being made. */
#include "race.h"
#include <linux/aio_abi.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>

enum { HEAD_START = 5000 }; /* microseconds: so that it is at work when the first call is made */
static volatile int stop;
static char *page, *there;      /* there: where the exchanged word lies */
static struct target target;
static pthread_t thread;
static pid_t child, parent;
static int file = -1, ends[2] = { -1, -1 }, uffd = -1;
static char names[4][PAGE];
static volatile pid_t idle_tid;

static int is(const char *name) { return !strcmp(kind, name); }

static void store(char *where, int turn) {
    if (target.width == 2)
        *(volatile uint16_t *)where = (uint16_t)target.words[turn];
    else
        *(volatile uint32_t *)where = target.words[turn];
}

/* ---- memory ---- */

static void *by_storing(void *where) {
    for (unsigned turn = 0; !stop; turn++)
        store(where, turn & 1);
    return NULL;
}

static void *by_reading_a_pipe(void *unused) { /* the kernel writes into the argument's page */
    while (!stop)
        (void)!read(ends[0], there, target.width);
    return unused;
}

static void *by_writing_a_pipe(void *unused) {
    /* one word behind the other, so that vmsplice can give both pages away */
    char *words = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(words, &target.words[0], target.width);
    memcpy(words + target.width, &target.words[1], target.width);
    struct iovec piece = { words, 0 };
    for (size_t turn = 0; !stop; turn++) {
        piece.iov_len = (1 + turn % 2) * target.width; /* so that it may rest with either word */
        (void)!(is("vmsplice") ? vmsplice(ends[1], &piece, 1, 0)
                               : write(ends[1], words, piece.iov_len));
    }
    return unused;
}

static void *by_aio(void *unused) {
    aio_context_t context = 0;
    if (syscall(SYS_io_setup, 8, &context) < 0)
        die("io_setup");
    while (!stop)
        for (int turn = 0; turn < 2; turn++) {
            struct iocb block = { .aio_fildes = (uint32_t)file, .aio_lio_opcode = IOCB_CMD_PREAD,
                                  .aio_buf = (uintptr_t)there, .aio_nbytes = target.width,
                                  .aio_offset = (int64_t)(turn * (int)target.width) };
            struct iocb *blocks[] = { &block };
            struct io_event event;
            if (syscall(SYS_io_submit, context, 1, blocks) == 1)
                syscall(SYS_io_getevents, context, 1, 1, &event, NULL);
        }
    return unused;
}

static void *by_remapping(void *unused) { /* another page comes to lie where the argument was */
    int files[2];
    for (int turn = 0; turn < 2; turn++) {
        char image[PAGE];
        memcpy(image, target.image, PAGE);
        store(image + target.place, turn);
        files[turn] = memfd_create("page", 0);
        if (write(files[turn], image, PAGE) != PAGE)
            die("a memory file");
    }
    for (unsigned turn = 0; !stop; turn++)
        if (mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, files[turn & 1], 0)
            == MAP_FAILED)
            die("mmap");
    return unused;
}

/* The page is there with one word, goes, and whoever faults then is served late, with another. */
static void *by_late_faults(void *unused) {
    static char images[2][PAGE] __attribute__((aligned(PAGE)));
    for (int turn = 0; turn < 2; turn++) {
        memcpy(images[turn], target.image, PAGE);
        store(images[turn] + target.place, turn);
    }
    unsigned seed = 1;
    while (!stop) {
        struct uffd_msg message;
        struct pollfd one = { uffd, POLLIN, 0 };
        struct uffdio_copy copy = { (uintptr_t)page, (uintptr_t)images[0], PAGE, 0, 0 };
        ioctl(uffd, UFFDIO_COPY, &copy);
        usleep((useconds_t)rand_r(&seed) % 500);
        madvise(page, PAGE, MADV_DONTNEED);
        if (ppoll(&one, 1, &(struct timespec){ 0, 100000 }, NULL) > 0)
            (void)!read(uffd, &message, sizeof message);
        copy = (struct uffdio_copy){ (uintptr_t)page, (uintptr_t)images[1], PAGE, 0, 0 };
        ioctl(uffd, UFFDIO_COPY, &copy);
        usleep((useconds_t)rand_r(&seed) % 200);
        madvise(page, PAGE, MADV_DONTNEED);
    }
    return unused;
}

static void *idle(void *unused) {
    idle_tid = (pid_t)syscall(SYS_gettid);
    while (!stop)
        usleep(1000);
    return unused;
}

/* ---- memory, from another process ---- */

static void sibling(void) {
    struct iovec local = { &target.words[0], target.width }, remote = { there, target.width };
    int fd = -1;
    if (is("proc-mem")) {
        char name[64];
        snprintf(name, sizeof name, "/proc/%d/mem", parent);
        if ((fd = open(name, O_RDWR)) < 0)
            die(name);
    }
    if (is("ptrace")) {
        int status;
        if (ptrace(PTRACE_SEIZE, idle_tid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, idle_tid, 0, 0) < 0
            || waitpid(idle_tid, &status, __WALL) != idle_tid)
            die("ptrace");
    }
    for (unsigned turn = 0;; turn++) {
        local.iov_base = &target.words[turn & 1];
        if (is("shared"))
            store(there, turn & 1);
        else if (is("shared-file") || is("private-file"))
            (void)!pwrite(file, local.iov_base, target.width, (off_t)target.place);
        else if (is("vm-writev"))
            process_vm_writev(parent, &local, 1, &remote, 1, 0);
        else if (is("proc-mem"))
            (void)!pwrite(fd, local.iov_base, target.width, (off_t)(uintptr_t)there);
        else { /* poke: a word of eight bytes, of which the exchanged ones are a part */
            char word[8];
            memcpy(word, target.image + (target.place & ~7UL), 8);
            memcpy(word + (target.place & 7), local.iov_base, target.width);
            long value;
            memcpy(&value, word, 8);
            ptrace(PTRACE_POKEDATA, idle_tid, (void *)((uintptr_t)there & ~7UL), (void *)value);
        }
    }
}

static int in_own_memory(void *unused) { /* clone(CLONE_VM): a process, not a thread */
    by_storing(there);
    return unused != NULL;
}

/* ---- names ---- */

static const char *base(const char *path) { return strrchr(path, '/') + 1; }

static int is_name(void) {
    static const char *all[] = { "last", "component", "chain", "exchange", "dotdot", "dirfd",
                                 "dirfd-process", "cwd", "cwd-process", "self-fd", "self-cwd",
                                 "thread-cwd", NULL };
    for (const char **each = all; *each; each++)
        if (is(*each))
            return 1;
    return 0;
}

static int moves_cwd(void) { return strstr(kind, "cwd") != NULL; }

static void *by_names(void *unused) {
    int own = -1;
    if (moves_cwd() || strstr(kind, "fd"))
        own = open(good, O_RDONLY | O_DIRECTORY);
    for (unsigned turn = 0; !stop; turn++)
        if (moves_cwd())
            (void)!fchdir(turn & 1 ? own : DIRECTORY_FD);
        else if (strstr(kind, "fd"))
            dup2(turn & 1 ? own : DIRECTORY_FD, SLOT);
        else if (is("dotdot"))
            rename(names[turn & 1], names[~turn & 1]);
        else
            syscall(SYS_renameat2, AT_FDCWD, names[0], AT_FDCWD, names[1], 2 /* RENAME_EXCHANGE */);
    return unused;
}

static int names_in_process(void *unused) {
    by_names(unused);
    return 0;
}

static void prepare_names(const char *tail) {
    char room[PAGE];
    for (int i = 0; i < 2; i++) {
        snprintf(names[i], PAGE, "%s/way%d", good, i);
        unlink(names[i]);
        rmdir(names[i]);
    }
    if (is("last")) {
        snprintf(room, PAGE, "%s/%s", good, tail);
        (void)!symlink(room, names[0]);
        snprintf(room, PAGE, "%s/%s", evil, tail);
        (void)!symlink(room, names[1]);
    } else if (is("exchange")) { /* a directory gives its place to a link */
        mkdir(names[0], 0755);
        snprintf(room, PAGE, "%s/%s", names[0], tail);
        close(open(room, O_CREAT | O_WRONLY, 0644));
        (void)!symlink(evil, names[1]);
    } else if (is("dotdot")) { /* a directory is moved away under the one who says ".." */
        mkdir(names[0], 0755);
        if (chdir(names[0]) < 0)
            die("chdir");
        snprintf(names[1], PAGE, "%s/way0", evil);
    } else {
        (void)!symlink(good, names[0]);
        (void)!symlink(evil, names[1]);
    }
    snprintf(names[2], PAGE, "%s/via", good);
    unlink(names[2]);
    if (is("chain"))
        (void)!symlink(base(names[0]), names[2]);
    if (moves_cwd() && chdir(good) < 0)
        die("chdir");
    dup2(DIRECTORY_FD, SLOT);
}

const char *way_in(const char *tail) {
    static char way[PAGE];
    const char *slash = *tail ? "/" : "";
    if (is("last"))
        return names[0];
    if (is("dotdot"))
        snprintf(way, PAGE, "..%s%s", slash, tail);
    else if (is("chain"))
        snprintf(way, PAGE, "%s%s%s", names[2], slash, tail);
    else if (is("cwd") || is("cwd-process"))
        snprintf(way, PAGE, "%s", tail);
    else if (is("self-cwd") || is("thread-cwd"))
        snprintf(way, PAGE, "/proc/%s/cwd%s%s", is("self-cwd") ? "self" : "thread-self", slash,
                 tail);
    else if (strstr(kind, "fd"))
        snprintf(way, PAGE, "/proc/self/fd/%d%s%s", SLOT, slash, tail);
    else
        snprintf(way, PAGE, "%s%s%s", names[0], slash, tail);
    return way;
}

int exchanges_names(void) { return is_name(); }

/* ---- start and stop ---- */

static char *new_page(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (is("shared"))
        flags = MAP_SHARED | MAP_ANONYMOUS;
    if (is("shared-file") || is("private-file") || is("aio")) {
        char name[PAGE];
        snprintf(name, PAGE, "%s/bytes", good);
        file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
        if (file < 0)
            die(name);
        char both[8];
        memcpy(both, &target.words[0], target.width);
        memcpy(both + target.width, &target.words[1], target.width);
        if (is("aio"))
            (void)!pwrite(file, both, 2 * target.width, 0);
        else {
            (void)!pwrite(file, target.image, PAGE, 0);
            flags = is("shared-file") ? MAP_SHARED : MAP_PRIVATE;
        }
    }
    char *made = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags,
                      flags & MAP_ANONYMOUS ? -1 : file, 0);
    if (made == MAP_FAILED)
        die("mmap");
    if (flags & MAP_ANONYMOUS && !is("uffd"))
        memcpy(made, target.image, PAGE);
    return made;
}

static void start_late_faults(void) {
    uffd = ioctl(UFFD_DEVICE, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = { UFFD_API, 0, 0 };
    struct uffdio_register region = { { (uintptr_t)page, PAGE }, UFFDIO_REGISTER_MODE_MISSING, 0 };
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0 || ioctl(uffd, UFFDIO_REGISTER, &region) < 0)
        die("userfaultfd");
}

static void in_process(int (*function)(void *), int flags) {
    char *stack = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    child = clone(function, stack + 16 * PAGE, flags | SIGCHLD, NULL);
    if (child < 0)
        die("clone");
}

char *start_exchange(struct target *wanted) {
    target = *wanted;
    parent = getpid();
    if (is_name()) {
        char tail[64] = "file";
        if (!strcmp(goal, "exec"))
            strcpy(tail, "prog");
        else if (!strcmp(goal, "chmod") || !strcmp(goal, "truncate"))
            strcpy(tail, "own");
        else if (!strcmp(goal, "unix"))
            strcpy(tail, "sock");
        prepare_names(tail);
        if (strstr(kind, "-process"))
            in_process(names_in_process, CLONE_VM | (moves_cwd() ? CLONE_FS : CLONE_FILES));
        else
            pthread_create(&thread, NULL, by_names, NULL);
        usleep(HEAD_START);
        return NULL;
    }
    page = new_page();
    there = page + target.place;
    if (is("ptrace")) {
        pthread_create(&thread, NULL, idle, NULL);
        while (!idle_tid)
            usleep(1000);
    }
    if (is("thread"))
        pthread_create(&thread, NULL, by_storing, there);
    else if (is("clone-vm"))
        in_process(in_own_memory, CLONE_VM);
    else if (is("remap"))
        pthread_create(&thread, NULL, by_remapping, NULL);
    else if (is("aio"))
        pthread_create(&thread, NULL, by_aio, NULL);
    else if (is("uffd")) {
        start_late_faults();
        pthread_create(&thread, NULL, by_late_faults, NULL);
    } else if (is("pipe") || is("vmsplice")) {
        if (pipe(ends) < 0)
            die("pipe");
        pthread_t writer;
        pthread_create(&thread, NULL, by_reading_a_pipe, NULL);
        pthread_create(&writer, NULL, by_writing_a_pipe, NULL);
    } else {
        if ((child = fork()) < 0)
            die("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            sibling();
        }
    }
    usleep(HEAD_START);
    return page;
}

void before_call(void) {
    if (child > 0 && kill(child, 0) < 0)
        die("whoever exchanges ended");
}

void stop_exchange(void) {
    stop = 1;
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, __WALL);
    }
    if (is("dotdot")) {
        pthread_join(thread, NULL);
        rename(names[1], names[0]);
    }
}
