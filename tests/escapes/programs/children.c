/* children - - ROUNDS FIRST GOOD EVIL: executed by a program that may read more, it makes children
 * by every flag; none of them may do what the former program might. */
#include "attack.h"
#include <pthread.h>

const char *kind = "children", *goal = "", *good, *evil;
static char name[PAGE];
static volatile int *said; /* 0: nothing, else an outcome and one */

static int look(void *unused) {
    char text[16] = { 0 };
    int fd = open(name, O_RDONLY), outcome = fd < 0 ? BLOCKED : PASSED;
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0 && strstr(text, "secret"))
        outcome = ESCAPED;
    if (fd >= 0)
        close(fd);
    *said = outcome + 1;
    return unused != NULL;
}

static void *look_in_thread(void *unused) {
    look(unused);
    return NULL;
}

int main(int argc, char **argv) {
    static const int flags[] = { 0, CLONE_VM | CLONE_VFORK, CLONE_PARENT, CLONE_UNTRACED, CLONE_FILES,
        CLONE_FS, CLONE_VM, CLONE_PTRACE, CLONE_VM | CLONE_SIGHAND, CLONE_IO, CLONE_SYSVSEM,
        CLONE_NEWUSER, CLONE_THREAD, CLONE_PARENT | CLONE_VM, CLONE_PARENT | CLONE_VFORK,
        CLONE_UNTRACED | CLONE_VFORK | CLONE_VM, CLONE_VM | CLONE_FILES | CLONE_FS };
    enum { KINDS = sizeof flags / sizeof *flags, STACK = 16 * PAGE };
    long count[OUTCOMES] = { 0 }, number;
    if (argc < 7)
        return 2;
    good = argv[5], evil = argv[6];
    snprintf(name, PAGE, "%s/file", evil);
    said = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (number = 0; number < atol(argv[3]) && !(atoi(argv[4]) && count[ESCAPED]); number++) {
        int flag = flags[number % KINDS];
        pthread_t thread;
        *said = 0;
        if (flag == CLONE_THREAD) {
            pthread_create(&thread, NULL, look_in_thread, NULL);
            pthread_join(thread, NULL);
            count[*said - 1]++;
            continue;
        }
        pid_t child = clone(look, stack + STACK, flag | SIGCHLD, NULL);
        if (child < 0) {
            count[refused(errno)]++;
            continue;
        }
        if (!(flag & CLONE_PARENT))
            waitpid(child, NULL, __WALL);
        for (int wait = 0; !*said && wait < 1000; wait++)
            usleep(1000);
        if (flag & CLONE_PARENT)
            usleep(2000); /* nobody tells when it has left our stack */
        count[*said ? *said - 1 : ODD]++;
    }
    printf("tries %ld passed %ld blocked %ld odd %ld escaped %ld\n", number, count[PASSED],
           count[BLOCKED], count[ODD], count[ESCAPED]);
    return 0;
}
