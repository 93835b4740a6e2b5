/* Times fork+exec of commands in turn, as a shell starts them: vfork, exec, wait. One line of
 * nanoseconds for each round, a column for each command. Usage: start ROUNDS PATH... */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long once(char *path) {
    char *argv[] = { path, 0 }, *environment[] = { "PATH=/usr/bin:/bin", 0 };
    int status = -1;
    pid_t child;
    long long start = now();
    if (posix_spawn(&child, path, 0, 0, argv, environment) != 0 || waitpid(child, &status, 0) != child
        || status != 0) {
        fprintf(stderr, "start: %s ended with %#x\n", path, status);
        exit(1);
    }
    return now() - start;
}

int main(int argc, char **argv) {
    enum { WARM_UP = 20 }; /* rounds that are not counted: page cache, first-use costs */
    for (long round = -WARM_UP; argc > 2 && round < atol(argv[1]); round++) {
        for (int i = 2; i < argc; i++) {
            long long taken = once(argv[i]);
            if (round >= 0)
                printf("%lld%c", taken, i + 1 < argc ? ' ' : '\n');
        }
    }
    return argc > 2 ? 0 : 2;
}
