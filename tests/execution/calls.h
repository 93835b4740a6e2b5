/* What calls.c and calls_more.c share: printing results so that two runs can be compared. */
#ifndef CALLS_H
#define CALLS_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL(...) say(#__VA_ARGS__, syscall(__VA_ARGS__))
#define BAD ((void *)8L)
#define KERNEL ((void *)0xffff800000000000UL)

extern char home[4096], self[64];

/* Prints text with what differs from run to run replaced. */
__attribute__((unused)) static void text(const char *bytes, long length) {
    char copy[8192];
    length = length > 8000 ? 8000 : length;
    memcpy(copy, bytes, length);
    copy[length] = 0;
    for (char *at = copy; *at;) {
        if (strncmp(at, home, strlen(home)) == 0) {
            printf("HOME");
            at += strlen(home);
        } else if (strncmp(at, self, strlen(self)) == 0) {
            printf("PID");
            at += strlen(self);
        } else
            putchar(*at++);
    }
}

__attribute__((unused)) static long say(const char *label, long result) {
    int error = errno;
    printf("%.120s = %ld %s\n", label, result, result < 0 ? strerrorname_np(error) : "");
    return result;
}

__attribute__((unused)) static void describe(const char *label, long fd) {
    struct stat info;
    say(label, fd);
    if (fd < 0)
        return;
    fstat(fd, &info);
    /* O_NOFOLLOW may come or go: the supervisor, which has followed already, opens in its own way */
    printf("    flags %o fd %d type %o mode %o size %ld nlink %ld uid %d\n", fcntl(fd, F_GETFL) & ~O_NOFOLLOW,
           fcntl(fd, F_GETFD), info.st_mode & S_IFMT, info.st_mode & 07777,
           S_ISDIR(info.st_mode) ? 0 : (long)info.st_size, S_ISDIR(info.st_mode) ? 0 : (long)info.st_nlink, info.st_uid);
    close(fd);
}

/* The parts in calls_more.c. */
void pointers(void);
void lengths(void);
void restricted(void);
void sockets(void);
void deleted_directory(void);
void threads(void);
#endif
