/* The other parts of calls.c: bad pointers, long names, openat2, sockets, threads. */
#include "calls.h"

void pointers(void) {
    char buffer[64], *edge, *nowrite;
    struct stat info;
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "sock" };
    edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + 4096, 4096);
    nowrite = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *bad[] = { NULL, BAD, KERNEL, (void *)-1L };
    for (int i = 0; i < 4; i++) {
        CALL(SYS_openat, AT_FDCWD, bad[i], O_RDONLY);
        CALL(SYS_open, bad[i], O_CREAT | O_WRONLY, 0600);
        CALL(SYS_stat, bad[i], &info);
        CALL(SYS_stat, "file", bad[i]);
        CALL(SYS_newfstatat, AT_FDCWD, "file", bad[i], 0);
        CALL(SYS_statx, AT_FDCWD, "file", 0, STATX_MODE, bad[i]);
        CALL(SYS_access, bad[i], 0);
        CALL(SYS_readlink, bad[i], buffer, 64);
        CALL(SYS_readlink, "link", bad[i], 64);
        CALL(SYS_mkdir, bad[i], 0700);
        CALL(SYS_unlink, bad[i]);
        CALL(SYS_rmdir, bad[i]);
        CALL(SYS_openat2, AT_FDCWD, "file", bad[i], sizeof(struct open_how));
        int one = socket(AF_UNIX, SOCK_STREAM, 0);
        CALL(SYS_connect, one, bad[i], sizeof address);
        CALL(SYS_bind, one, bad[i], sizeof address);
        close(one);
    }
    strcpy(edge + 4096 - 5, "file"); /* its NUL is the last byte there is */
    describe("a name at the edge", syscall(SYS_openat, AT_FDCWD, edge + 4096 - 5, O_RDONLY));
    memcpy(edge + 4096 - 4, "file", 4);
    CALL(SYS_openat, AT_FDCWD, edge + 4096 - 4, O_RDONLY);
    CALL(SYS_stat, "file", nowrite);
    CALL(SYS_readlink, "link", nowrite, 64);
    CALL(SYS_readlink, "link", edge + 4096 - 2, 64);
    CALL(SYS_stat, "file", edge + 4096 - 8);
    CALL(SYS_readlink, "link", buffer, -1);
    CALL(SYS_readlink, "file", buffer, 0);
}

void lengths(void) {
    char *path = malloc(20000), label[64];
    static const int sizes[] = { 255, 256, 4094, 4095, 4096, 4097, 9000 };
    for (int i = 0; i < 7; i++) {
        memset(path, 'x', sizes[i]);
        path[sizes[i]] = 0;
        snprintf(label, sizeof label, "a name of %d", sizes[i]);
        describe(label, syscall(SYS_openat, AT_FDCWD, path, O_RDONLY));
        if (sizes[i] < 300) {
            describe(label, syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT, 0600));
            say(label, syscall(SYS_unlink, path));
        }
        for (int at = 0; at < sizes[i]; at++) /* ././././file, as long */
            path[at] = at % 2 ? '/' : '.';
        memcpy(path + sizes[i] - 5, "/file", 5);
        if (sizes[i] % 2 == 0)
            path[0] = '.', path[1] = '/', path[2] = '/';
        describe(label, syscall(SYS_openat, AT_FDCWD, path, O_RDONLY));
        say(label, syscall(SYS_access, path, R_OK));
        say(label, syscall(SYS_mkdir, path, 0700));
    }
    for (int depth = 1; depth < 600; depth++) /* deeper than any name is long */
        if (mkdir("deep", 0700) || chdir("deep"))
            break;
    describe("at the bottom", syscall(SYS_openat, AT_FDCWD, "leaf", O_CREAT | O_RDWR, 0600));
    CALL(SYS_access, "leaf", 0);
    CALL(SYS_unlink, "leaf");
    free(path);
    for (int depth = 1; depth < 600; depth++)
        if (chdir("..") || rmdir("deep"))
            break;
    if (chdir(home))
        abort();
}

/* With ".." the kernel says EAGAIN when anybody on the machine renames or mounts meanwhile. */
static long open_restricted(const char *path, struct open_how *how) {
    long result = -1;
    for (int tries = 0; tries < 1000; tries++) {
        result = syscall(SYS_openat2, AT_FDCWD, path, how, sizeof *how);
        if (result >= 0 || errno != EAGAIN)
            break;
        usleep(100);
    }
    return result;
}

void restricted(void) {
    static const uint64_t resolve[] = { 0, 1, 2, 4, 8, 16, 24, 32, 64, 2 | 4 | 8 };
    static const char *paths[] = { "file", "link", "dlink/inner", "dir/../file", "../", "/etc/passwd", "absolute",
                                   "missing", "/proc/self/cwd/file", "dir/missing", "up/file", "" };
    char label[128];
    for (int i = 0; i < 10; i++)
        for (int j = 0; j < 12; j++) {
            struct open_how how = { .flags = O_RDONLY, .resolve = resolve[i] };
            if (resolve[i] == 32)
                continue; /* RESOLVE_CACHED: always EAGAIN under a supervisor, which is allowed */
            snprintf(label, sizeof label, "openat2 %s resolve %lx", paths[j], (long)resolve[i]);
            describe(label, open_restricted(paths[j], &how));
            how.flags = O_CREAT | O_WRONLY | O_EXCL;
            how.mode = 0644;
            describe(label, open_restricted(paths[j], &how));
            unlink("missing");
            unlink("dir/missing");
        }
    struct { struct open_how how; char more[8]; } big = { .how = { .flags = O_RDONLY } };
    CALL(SYS_openat2, AT_FDCWD, "file", &big, 0);
    CALL(SYS_openat2, AT_FDCWD, "file", &big, 23);
    CALL(SYS_openat2, AT_FDCWD, "file", &big, 5000);
    describe("openat2 of a longer struct", syscall(SYS_openat2, AT_FDCWD, "file", &big, sizeof big));
    big.more[3] = 1;
    CALL(SYS_openat2, AT_FDCWD, "file", &big, sizeof big);
    static const uint64_t flags[] = { O_RDONLY | 0x40000000, 1UL << 40, O_PATH | O_WRONLY, O_PATH | O_CREAT,
                                      O_TMPFILE | O_RDONLY, O_DIRECTORY | O_CREAT };
    for (int i = 0; i < 6; i++) {
        struct open_how how = { .flags = flags[i] };
        snprintf(label, sizeof label, "openat2 flags %lx", (long)flags[i]);
        say(label, syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how));
    }
    struct open_how moded = { .flags = O_RDONLY, .mode = 0600 };
    CALL(SYS_openat2, AT_FDCWD, "file", &moded, sizeof moded);
    moded = (struct open_how){ .flags = O_CREAT | O_RDWR, .mode = 010000 };
    CALL(SYS_openat2, AT_FDCWD, "file", &moded, sizeof moded);
}

static long unix_address(struct sockaddr_un *address, const char *path) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path, path, sizeof address->sun_path);
    return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}

void sockets(void) {
    struct sockaddr_un address;
    struct sockaddr_in inet = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct stat info;
    static const char *targets[] = { "own", "link-to-own", "sock", "file", "missing", "missing/x", "dir",
                                     "closed/x", "/proc/self/cwd/own", "./dir/../own", "dangling", "loop" };
    static const int kinds[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
    char label[128];
    for (int kind = 0; kind < 3; kind++) {
        int listener = socket(AF_UNIX, kinds[kind], 0);
        long length = unix_address(&address, "own");
        syscall(SYS_umask, 027);
        say("bind own", syscall(SYS_bind, listener, &address, length));
        syscall(SYS_umask, 022);
        lstat("own", &info);
        printf("    %o\n", info.st_mode);
        say("bind again", syscall(SYS_bind, listener, &address, length));
        socklen_t size = sizeof address;
        memset(&address, 0, sizeof address);
        getsockname(listener, (struct sockaddr *)&address, &size);
        printf("    %u %s\n", size, address.sun_path);
        if (kinds[kind] != SOCK_DGRAM)
            CALL(SYS_listen, listener, 8);
        for (int i = 0; i < 12; i++) {
            int one = socket(AF_UNIX, kinds[kind], 0);
            length = unix_address(&address, targets[i]);
            snprintf(label, sizeof label, "connect %d %s", kind, targets[i]);
            say(label, syscall(SYS_connect, one, &address, length));
            say(label, syscall(SYS_connect, one, &address, length));
            size = sizeof address;
            memset(&address, 0, sizeof address);
            if (getpeername(one, (struct sockaddr *)&address, &size) == 0)
                printf("    peer %u %s\n", size, address.sun_path);
            close(one);
        }
        int second = socket(AF_UNIX, kinds[kind], 0);
        for (int i = 0; i < 12; i++) {
            if (strcmp(targets[i], "missing") == 0)
                continue;
            length = unix_address(&address, targets[i]);
            snprintf(label, sizeof label, "bind %d %s", kind, targets[i]);
            say(label, syscall(SYS_bind, second, &address, length));
        }
        close(second);
        close(listener);
        CALL(SYS_unlink, "own");
    }
    int abstract = socket(AF_UNIX, SOCK_STREAM, 0), one = socket(AF_UNIX, SOCK_STREAM, 0);
    unix_address(&address, "");
    snprintf(address.sun_path + 1, 50, "certexec-test-%d-%s", getpid(), home);
    CALL(SYS_bind, abstract, &address, 40);
    CALL(SYS_connect, one, &address, 40);
    CALL(SYS_listen, abstract, 4);
    CALL(SYS_connect, one, &address, 40);
    close(one);
    one = socket(AF_UNIX, SOCK_STREAM, 0);
    CALL(SYS_bind, one, &address, 40);
    CALL(SYS_bind, one, &address, 2); /* autobind */
    close(one);
    one = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(address.sun_path, 'x', sizeof address.sun_path); /* no NUL at all */
    CALL(SYS_connect, one, &address, sizeof address);
    CALL(SYS_bind, one, &address, sizeof address);
    close(one);
    for (int length = -1; length <= 200; length += length < 3 ? 1 : 43) {
        one = socket(AF_UNIX, SOCK_STREAM, 0);
        unix_address(&address, "sock");
        snprintf(label, sizeof label, "an address of %d", length);
        say(label, syscall(SYS_connect, one, &address, (long)length));
        close(one);
        one = socket(AF_INET, SOCK_STREAM, 0);
        say(label, syscall(SYS_connect, one, &inet, (long)length));
        close(one);
    }
    CALL(SYS_connect, 7, &inet, sizeof inet);
    CALL(SYS_connect, 99, &inet, sizeof inet);
    CALL(SYS_bind, -1, &inet, sizeof inet);

    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof inet;
    CALL(SYS_bind, server, &inet, sizeof inet);
    getsockname(server, (struct sockaddr *)&inet, &size);
    say("connect before listen", syscall(SYS_connect, client, &inet, sizeof inet));
    close(client);
    CALL(SYS_listen, server, 4);
    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long result = syscall(SYS_connect, client, &inet, sizeof inet);
    printf("nonblocking: %d\n", result == 0 || errno == EINPROGRESS);
    usleep(20000);
    say("connected by now", syscall(SYS_connect, client, &inet, sizeof inet));
    say("connected", syscall(SYS_connect, client, &inet, sizeof inet));
    printf("    flags %o\n", fcntl(client, F_GETFL)); /* its own, untouched */
    close(client);
    client = socket(AF_INET, SOCK_DGRAM, 0);
    CALL(SYS_connect, client, &inet, sizeof inet);
    inet.sin_family = AF_UNSPEC;
    CALL(SYS_connect, client, &inet, sizeof inet);
    inet.sin_family = AF_INET6;
    CALL(SYS_connect, client, &inet, sizeof inet);
    CALL(SYS_bind, client, &inet, sizeof inet);
    close(client);
    close(server);
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    client = socket(AF_INET6, SOCK_STREAM, 0);
    CALL(SYS_bind, client, &six, sizeof six);
    CALL(SYS_connect, client, &six, 24);
    CALL(SYS_bind, client, &six, 20);
    close(client);
    inet = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xC0000201), .sin_port = 0 };
    client = socket(AF_INET, SOCK_STREAM, 0);
    CALL(SYS_bind, client, &inet, sizeof inet);
    close(client);
}

void deleted_directory(void) {
    struct stat info;
    char buffer[64];
    if (mkdir("doomed", 0700) || chdir("doomed") || rmdir("../doomed"))
        abort();
    CALL(SYS_openat, AT_FDCWD, "x", O_CREAT | O_RDWR, 0600);
    describe("a deleted directory", syscall(SYS_openat, AT_FDCWD, ".", O_RDONLY));
    CALL(SYS_openat, AT_FDCWD, "..", O_PATH);
    CALL(SYS_close, 3);
    CALL(SYS_stat, ".", &info);
    CALL(SYS_mkdir, "x", 0700);
    CALL(SYS_unlink, "x");
    CALL(SYS_access, "x", 0);
    CALL(SYS_readlink, "x", buffer, 64);
    CALL(SYS_openat, AT_FDCWD, "/proc/self/cwd/x", O_CREAT | O_RDWR, 0600);
    if (chdir(home))
        abort();
    int gone = open("short-lived", O_CREAT | O_RDWR, 0600);
    unlink("short-lived");
    snprintf(buffer, sizeof buffer, "/proc/self/fd/%d", gone);
    describe("a deleted file through its descriptor", syscall(SYS_openat, AT_FDCWD, buffer, O_RDWR));
    say("a deleted file exists", syscall(SYS_access, buffer, R_OK));
    close(gone);
    int pair[2];
    if (pipe(pair))
        abort();
    snprintf(buffer, sizeof buffer, "/proc/self/fd/%d", pair[0]);
    describe("a pipe through its descriptor", syscall(SYS_openat, AT_FDCWD, buffer, O_WRONLY));
    int memory = memfd_create("memory", 0);
    snprintf(buffer, sizeof buffer, "/dev/fd/%d", memory);
    describe("a memory file through its descriptor", syscall(SYS_openat, AT_FDCWD, buffer, O_RDWR | O_TRUNC));
}

static void *in_thread(void *unused) {
    (void)unused;
    char buffer[64] = { 0 };
    int fd = syscall(SYS_openat, AT_FDCWD, "/proc/thread-self/comm", O_RDONLY);
    if (read(fd, buffer, 60) < 0)
        abort();
    close(fd);
    printf("in a thread: %s", buffer);
    long length = syscall(SYS_readlink, "/proc/thread-self", buffer, 64);
    char expected[64];
    snprintf(expected, sizeof expected, "%d/task/%ld", getpid(), syscall(SYS_gettid));
    printf("thread-self is %s\n", length == (long)strlen(expected) && !memcmp(buffer, expected, length) ? "right" : "wrong");
    return NULL;
}

static void *with_own_directory(void *unused) { /* CLONE_FS undone: cwd and umask of one thread */
    (void)unused;
    if (unshare(CLONE_FS) || chdir("dir"))
        abort();
    umask(0);
    describe("own directory of a thread", syscall(SYS_openat, AT_FDCWD, "inner", O_RDONLY));
    describe("own umask of a thread", syscall(SYS_openat, AT_FDCWD, "wide", O_CREAT | O_RDWR, 0666));
    CALL(SYS_unlink, "wide");
    return NULL;
}

static void *with_own_descriptors(void *unused) {
    (void)unused;
    if (unshare(CLONE_FILES))
        abort();
    close(7);
    describe("own descriptors of a thread", syscall(SYS_openat, 9, "inner", O_RDONLY));
    CALL(SYS_newfstatat, 7, "", BAD, AT_EMPTY_PATH);
    int one = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address;
    long length = unix_address(&address, "missing");
    say("connect in a thread", syscall(SYS_connect, one, &address, length));
    close(one);
    return NULL;
}

void threads(void) {
    static void *(*const bodies[])(void *) = { in_thread, with_own_directory, with_own_descriptors };
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, bodies[i], NULL);
        pthread_join(thread, NULL);
    }
    describe("the others keep theirs", syscall(SYS_openat, AT_FDCWD, "file", O_RDONLY));
    describe("all of them", syscall(SYS_openat, 8, "file", O_RDONLY));
    fflush(stdout);
    for (int way = 0; way < 2; way++) {
        pid_t child = way ? vfork() : fork();
        if (child == 0) {
            int fd = syscall(SYS_openat, AT_FDCWD, "file", O_RDONLY);
            _exit(fd < 0 ? 99 : fd);
        }
        int status;
        waitpid(child, &status, 0);
        printf("a child got %d\n", WEXITSTATUS(status));
    }
}
