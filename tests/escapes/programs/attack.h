/* What every attack program shares: how tries are counted, and how they are told.
 *
 * usage: PROGRAM KIND GOAL ROUNDS FIRST GOOD EVIL [MORE]. GOOD and EVIL are two directories of the
 * same length: what lies in the one is permitted, what lies in the other is not. FIRST 1: end at
 * the first escape. The last line that is printed is
 *     tries N passed N blocked N odd N escaped N
 * passed: the permitted thing happened; blocked: denied or killed; odd: ended otherwise. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum outcome { PASSED, BLOCKED, ODD, ESCAPED, OUTCOMES };
enum { PAGE = 4096, DIRECTORY_FD = 9, UFFD_DEVICE = 8, SLOT = 200 };
enum { ESCAPED_CODE = 42, BLOCKED_CODE = 43, PASSED_CODE = 0, ODD_CODE = 44 };

extern const char *kind, *goal, *good, *evil;
extern char **more;

static inline void die(const char *what) {
    fprintf(stderr, "%s %s: %s: %s\n", kind, goal, what, strerror(errno));
    exit(2);
}

static inline enum outcome refused(int error) {
    if (getenv("TELL"))
        fprintf(stderr, "%s\n", strerror(error));
    return error == EPERM || error == EACCES || error == ENOSYS || error == EBUSY ? BLOCKED : ODD;
}

/* How a child that made one try in our place ended: by one of the codes above, or killed. */
static inline enum outcome of_status(int status) {
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGSYS ? BLOCKED : ODD;
    switch (WEXITSTATUS(status)) {
    case ESCAPED_CODE: return ESCAPED;
    case BLOCKED_CODE: return BLOCKED;
    case PASSED_CODE: return PASSED;
    default: return ODD;
    }
}
