/* Times single system calls: argv[1] rounds each; prints "name nanoseconds" (median of 9 batches). */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BATCHES = 9 };
static long rounds;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e9 + at.tv_nsec;
}

static int by_size(const void *one, const void *other) {
    double left = *(const double *)one, right = *(const double *)other;
    return left < right ? -1 : left > right;
}

/* The call's time alone, without what has to be undone after it. */
static void measure(const char *name, void (*call)(void), void (*undo)(void)) {
    double batch[BATCHES];
    for (int number = 0; number < BATCHES; number++) {
        double spent = 0;
        if (undo)
            for (long i = 0; i < rounds; i++) {
                double start = now();
                call();
                spent += now() - start;
                undo();
            }
        else {
            double start = now();
            for (long i = 0; i < rounds; i++)
                call();
            spent = now() - start;
        }
        batch[number] = spent / rounds;
    }
    qsort(batch, BATCHES, sizeof *batch, by_size);
    printf("%s %.1f\n", name, batch[BATCHES / 2]);
    fflush(stdout);
}

static int opened;
static struct stat status;
static void unselected(void) { syscall(SYS_getpid); }
static void by_registers(void) { opened = syscall(SYS_pidfd_open, getpid(), 0); }
static void opens(void) { opened = open("/usr/bin/env", O_RDONLY | O_CLOEXEC); }
static void closes(void) { close(opened); }
static void stats(void) { stat("/usr/bin/env", &status); }

int main(int count, char **argv) {
    rounds = count > 1 ? atol(argv[1]) : 1000;
    measure("unselected", unselected, 0);
    measure("registers", by_registers, closes);
    measure("openat", opens, closes);
    measure("stat", stats, 0);
    return 0;
}
