/* Processes and threads that are killed, stopped, signalled and exec while calls of theirs wait.
 *
 *   storm SECONDS
 *
 * What each of them is told must be about itself; a line on stderr says where it was not. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN = 16 };

static void nothing(int signal) { (void)signal; }

static void complain(const char *what) {
    if (errno != EINTR)
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
}

static void check_own_stat(void) {
    char text[32] = { 0 };
    int fd = open("/proc/self/stat", O_RDONLY);
    if (fd < 0) {
        complain("own stat");
        return;
    }
    if (read(fd, text, 20) > 0 && atoi(text) != getpid())
        fprintf(stderr, "the stat of somebody else\n");
    close(fd);
}

static void check_kinds(void) {
    struct stat info;
    if (stat("/etc/passwd", &info) < 0)
        complain("stat of a file");
    else if (!S_ISREG(info.st_mode))
        fprintf(stderr, "the answer to somebody else's stat\n");
    if (stat("/", &info) < 0)
        complain("stat of a directory");
    else if (!S_ISDIR(info.st_mode))
        fprintf(stderr, "the answer to somebody else's stat\n");
}

static void check_own_link(void) {
    char text[64] = { 0 };
    if (readlink("/proc/self", text, 63) > 0 && atoi(text) != getpid())
        fprintf(stderr, "the link of somebody else\n");
}

static void connect_somewhere(void) {
    struct sockaddr_in address = { AF_INET, htons(9), { htonl(INADDR_LOOPBACK) }, { 0 } };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)!connect(fd, (struct sockaddr *)&address, sizeof address);
    close(fd);
}

static void *work(void *number) {
    unsigned seed = (unsigned)(long)number + (unsigned)getpid();
    char mine[32];
    snprintf(mine, sizeof mine, "of-%d", getpid());
    for (;;)
        switch (rand_r(&seed) % 10) {
        case 0: case 1: check_own_stat(); break;
        case 2: case 3: check_kinds(); break;
        case 4: check_own_link(); break;
        case 5: close(open("fifo", rand_r(&seed) % 2 ? O_RDONLY : O_WRONLY)); break;
        case 6: connect_somewhere(); break;
        case 7: close(open(mine, O_CREAT | O_RDWR, 0600)); unlink(mine); break;
        case 8: access("/etc/shadow", R_OK); break;
        default:
            if (rand_r(&seed) % 20 == 0 && vfork() == 0) {
                execl("/bin/true", "true", (char *)0);
                _exit(1);
            }
        }
    return 0;
}

static void live(unsigned seed) {
    struct sigaction action = { .sa_handler = nothing, .sa_flags = seed % 2 ? SA_RESTART : 0 };
    pthread_t thread;
    sigaction(SIGUSR2, &action, 0);
    signal(SIGCHLD, SIG_IGN);
    for (unsigned i = 1; i < 1 + seed % 4; i++)
        pthread_create(&thread, 0, work, (void *)(long)(seed * 7 + i));
    if (seed % 5 == 0) { /* an exec while other threads wait for answers */
        usleep(seed % 30000);
        execl("/proc/self/exe", "storm", "again", (char *)0);
    }
    work((void *)(long)seed);
}

int main(int argc, char **argv) {
    pid_t children[CHILDREN] = { 0 };
    unsigned seed = 1;
    if (argc > 1 && !strcmp(argv[1], "again"))
        live((unsigned)getpid() | 1);
    time_t end = time(0) + atoi(argv[1]);
    mkfifo("fifo", 0600);
    while (time(0) < end) {
        pid_t *child = &children[rand_r(&seed) % CHILDREN];
        if (!*child) {
            if ((*child = fork()) == 0)
                live(seed);
        } else
            switch (rand_r(&seed) % 4) {
            case 0: kill(*child, SIGUSR2); break;
            case 1: kill(*child, SIGSTOP); usleep(500); kill(*child, SIGCONT); break;
            default: kill(*child, SIGKILL); waitpid(*child, 0, 0); *child = 0;
            }
        usleep(2000);
    }
    for (int i = 0; i < CHILDREN; i++)
        if (children[i]) {
            kill(children[i], SIGKILL);
            waitpid(children[i], 0, 0);
        }
    struct stat info;
    printf("%s\n", stat("/", &info) == 0 ? "served" : strerror(errno));
    fflush(stdout);
    getchar();
    return 0;
}
