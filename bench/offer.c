/*
 * Starts a program so many times a second, however long each start takes, and says how long each
 * took from the moment when it was due until it had ended.
 *
 *   offer RATE SECONDS PROGRAM
 *
 * Writes a line for each start: the nanoseconds, -1 for one that had not ended in time, and its
 * wait status. A generator in Python adds to each what its own turns take, and its fork is
 * that of a large process; this one shares its memory until the exec, and waits in the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#define PATIENCE 3 /* times the duration in which all of it must have ended */
#define SECOND 1000000000LL

struct start {
	pid_t pid;
	int status;
	int64_t ended; /* nanoseconds after it was due; -1: not yet */
};

static int64_t now(void)
{
	struct timespec moment;
	clock_gettime(CLOCK_MONOTONIC, &moment);
	return moment.tv_sec * SECOND + moment.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	double rate = atof(argv[1]), seconds = atof(argv[2]);
	size_t count = rate * seconds, made = 0, oldest = 0;
	struct start *starts = calloc(count + 1, sizeof *starts);
	char *command[] = { argv[3], NULL };
	char *environment[] = { "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", NULL };
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (!starts || sigprocmask(SIG_BLOCK, &child, NULL))
		return 2;
	posix_spawnattr_t attributes;
	posix_spawnattr_init(&attributes);
	sigset_t none;
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	int64_t began = now(), last = began + (int64_t)(PATIENCE * seconds * SECOND);
	while ((made < count || oldest < made) && now() < last) {
		int64_t due = began + (int64_t)(made / rate * SECOND);
		while (made < count && due <= now()) {
			struct start *one = &starts[made];
			one->ended = -1;
			if (posix_spawn(&one->pid, argv[3], NULL, &attributes, command, environment))
				one->pid = 0, one->ended = 0, one->status = 255 << 8;
			made++;
			due = began + (int64_t)(made / rate * SECOND);
		}
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid > 0) {
			/* the oldest end first, so it is near */
			for (size_t at = oldest; at < made; at++) {
				if (starts[at].pid != pid || starts[at].ended >= 0)
					continue;
				starts[at].ended = now() - began - (int64_t)(at / rate * SECOND);
				starts[at].status = status;
				break;
			}
			while (oldest < made && starts[oldest].ended >= 0)
				oldest++;
			continue;
		}
		int64_t left = (made < count ? due : last) - now();
		if (left > 0) {
			struct timespec timeout = { left / SECOND, left % SECOND };
			sigtimedwait(&child, NULL, &timeout);
		}
	}
	for (size_t at = 0; at < count; at++) {
		if (at >= made || starts[at].ended < 0) { /* too late: the queue only grew */
			if (at < made && starts[at].pid > 0)
				kill(starts[at].pid, SIGKILL), waitpid(starts[at].pid, NULL, 0);
			puts("-1 0");
		} else {
			printf("%lld %d\n", (long long)starts[at].ended, starts[at].status);
		}
	}
	return 0;
}
