/* Tries to be given what another name or address than the judged one leads to.
 *
 *   races KIND COUNT PERMITTED OTHER
 *
 * One thread exchanges what the call is about, as fast as it can, between something permitted and
 * something else; the other one makes the call. PERMITTED and OTHER are directories with a file
 * "file" in them (the other one's says "secret"), or two ports. Where the exchange needs one,
 * descriptor 9 is OTHER (for "magic" its file), opened before we were confined.
 * It goes on until something was permitted and something denied, up to 100 times COUNT.
 * Prints: how often permitted, denied, fooled, ended otherwise. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PASSED = 9, SLOT = 200, SIZE = 4096 };
static volatile int stop;
static char permitted[SIZE], other[SIZE], shared[SIZE];
static struct sockaddr_in address;
static unsigned short port, other_port;
static int directory;
static const char *kind;

static int is(const char *name) { return !strcmp(kind, name); }

static void *exchange(void *unused) {
    for (int turn = 0; !stop; turn ^= 1) {
        if (is("memory"))
            memcpy(shared, turn ? permitted : other, SIZE);
        else if (is("symlink") || is("create")) {
            unlink("new");
            if (symlink(turn ? permitted : other, "new") == 0)
                rename("new", "link");
        } else if (is("dirfd") || is("magic"))
            dup2(turn ? directory : PASSED, SLOT);
        else if (is("cwd"))
            (void)!fchdir(turn ? directory : PASSED);
        else
            address.sin_port = htons(turn ? port : other_port);
    }
    return unused;
}

static int attempt(long round) {
    if (is("memory"))
        return open(shared, O_RDONLY);
    if (is("symlink"))
        return open("link", O_RDONLY);
    if (is("create"))
        return open("link", O_RDWR | O_CREAT | (round % 2 ? O_TRUNC : 0), 0644);
    if (is("dirfd"))
        return openat(SLOT, "file", O_RDONLY);
    if (is("magic"))
        return open("/proc/self/fd/200", O_RDONLY);
    if (is("cwd"))
        return open("file", O_RDONLY);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int is_fooled(int fd) {
    char text[64] = { 0 };
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    if (is("address"))
        return getpeername(fd, (struct sockaddr *)&peer, &size) == 0
               && ntohs(peer.sin_port) == other_port;
    return read(fd, text, sizeof text - 1) > 0 && strstr(text, "secret") != 0;
}

int main(int argc, char **argv) {
    long count = atol(argv[2]), result[4] = { 0 };
    pthread_t thread;
    kind = argv[argc > 1];
    if (is("address")) {
        port = (unsigned short)atoi(argv[3]);
        other_port = (unsigned short)atoi(argv[4]);
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        snprintf(permitted, SIZE, "%s/file", argv[3]);
        snprintf(other, SIZE, "%s/file", argv[4]);
        memcpy(shared, permitted, SIZE);
        directory = open(is("magic") ? permitted : argv[3], O_RDONLY);
        if (directory < 0 || dup2(directory, SLOT) != SLOT || chdir(argv[3]) < 0)
            return 2;
        unlink("link");
        if (symlink(permitted, "link") < 0)
            return 3;
    }
    pthread_create(&thread, 0, exchange, 0);
    /* On a busy machine the other thread may not have run yet, or be kept in the middle of a turn. */
    for (long round = 0; round < count || (round < 100 * count && !(result[0] && result[1])); round++) {
        int fd = attempt(round);
        if (fd < 0)
            result[errno == EPERM ? 1 : 3]++;
        else {
            result[is_fooled(fd) ? 2 : 0]++;
            close(fd);
        }
    }
    stop = 1;
    pthread_join(thread, 0);
    printf("%ld %ld %ld %ld\n", result[0], result[1], result[2], result[3]);
    return 0;
}
