/* abi32 KIND GOAL ...: the 32-bit ABI under a policy that admits it. A 64-bit program enters by
 * int 0x80, with rubbish in the upper halves of its registers, while a thread exchanges what lies
 * in memory. KIND says what is exchanged: the argument itself ("memory"), a word in the array of
 * arguments ("array"), or nothing ("register"). */
#include "attack.h"
#include <pthread.h>
#include <stddef.h>

const char *kind, *goal, *good, *evil;
char **more;
static char *low; /* memory that 32-bit pointers reach */
static volatile uint32_t *exchanged;
static uint32_t words[2]; /* words[0] is permitted */
static volatile int ended;

enum { OPEN = 5, EXECVE = 11, KILL = 37, MMAP = 90, SOCKETCALL = 102, CLONE = 120, TKILL = 238,
       TGKILL = 270, CONNECT = 362 }; /* their numbers in the 32-bit table */
enum { PATIENCE = 2000 }; /* further tries */
enum { CALL_SOCKET = 1, CALL_CONNECT = 3, UNTRACED = 0x00800000 };

static long enter(uint32_t number, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    const uint64_t rubbish = 0xdeadbeef00000000;
    uint64_t result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "0"(number | rubbish), "b"(a | rubbish), "c"(b | rubbish),
                       "d"(c | rubbish), "S"(d | rubbish)
                     : "memory", "r8", "r9", "r10", "r11");
    int value = (int)result;
    if (value < 0 && value > -4096) {
        errno = -value;
        return -1;
    }
    return value;
}

static uint32_t at(const void *place) { return (uint32_t)(uintptr_t)place; }

static void *exchange(void *unused) {
    while (!ended)
        *exchanged = words[1], *exchanged = words[0];
    return unused;
}

/* ---- what came of it ---- */

static enum outcome of_content(long fd) {
    char text[64] = { 0 };
    if (fd < 0)
        return refused(errno);
    ssize_t size = read((int)fd, text, sizeof text - 1);
    close((int)fd);
    return size > 0 && strstr(text, "secret") ? ESCAPED : PASSED;
}

static enum outcome of_peer(int fd, long result) {
    struct sockaddr_un peer = { 0 };
    socklen_t size = sizeof peer;
    enum outcome found = result < 0 ? refused(errno) : ODD;
    if (result == 0 && getpeername(fd, (void *)&peer, &size) == 0)
        found = strncmp(peer.sun_path, evil, strlen(evil)) ? PASSED : ESCAPED;
    close(fd);
    return found;
}

/* ---- the goals ---- */

static enum outcome read_file(void) { return of_content(enter(OPEN, at(low), O_RDONLY, 0, 0)); }

static enum outcome execute(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        enter(EXECVE, at(low), at(low + 2 * PAGE), 0, 0);
        _exit(refused(errno) == BLOCKED ? BLOCKED_CODE : ODD_CODE);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return of_status(status);
}

static enum outcome connect_by_address(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return of_peer(fd, enter(CONNECT, (uint32_t)fd, at(low), sizeof(struct sockaddr_un), 0));
}

static enum outcome connect_by_array(void) {
    uint32_t *array = (void *)low;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    array[0] = (uint32_t)fd, array[2] = sizeof(struct sockaddr_un);
    return of_peer(fd, enter(SOCKETCALL, CALL_CONNECT, at(array), 0, 0));
}

static enum outcome make_socket(void) {
    int domain = 0;
    socklen_t size = sizeof domain;
    long fd = enter(SOCKETCALL, CALL_SOCKET, at(low), 0, 0);
    if (fd < 0)
        return refused(errno);
    getsockopt((int)fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    close((int)fd);
    return domain == AF_INET ? ESCAPED : PASSED;
}

static enum outcome map_to_execute(void) {
    uint32_t *array = (void *)low;
    array[0] = 0, array[1] = PAGE, array[3] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    array[4] = (uint32_t)-1, array[5] = 0;
    long place = enter(MMAP, at(array), 0, 0, 0);
    if (place == -1)
        return refused(errno);
    /* what may be executed counts, not whether somebody does */
    char line[256], wanted[32];
    int found = 0;
    snprintf(wanted, sizeof wanted, "%08x-", (uint32_t)place);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, wanted) == line && strstr(line, " r-xp ");
    if (maps)
        fclose(maps);
    munmap((void *)(uintptr_t)(uint32_t)place, PAGE);
    return found ? ESCAPED : PASSED;
}

static enum outcome fork_untraced(void) {
    long child = enter(CLONE, UNTRACED | SIGCHLD, 0, 0, 0);
    if (child < 0)
        return refused(errno);
    if (child == 0)
        _exit(ESCAPED_CODE);
    int status = 0;
    while (waitpid((pid_t)child, &status, 0) < 0 && errno == EINTR)
        ;
    return of_status(status);
}

/* Who connects in our place is seen as the peer: the supervisor. */
static pid_t supervisor(void) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int length = snprintf(address.sun_path + 1, 64, "abi32-%d", getpid());
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(server, (void *)&address, size) || listen(server, 1)
        || connect(client, (void *)&address, size))
        die("meeting the supervisor");
    struct ucred peer;
    socklen_t room = sizeof peer;
    int fd = accept(server, NULL, NULL);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &room);
    close(fd), close(client), close(server);
    return peer.pid;
}

static enum outcome reach_supervisor(void) {
    static pid_t its;
    static long turn;
    if (!its)
        its = supervisor();
    uint32_t pid = (uint32_t)its;
    long result = -1;
    switch (turn++ % 3) { /* signal 0: whether one may */
    case 0: result = enter(KILL, pid, 0, 0, 0); break;
    case 1: result = enter(TKILL, pid, 0, 0, 0); break;
    case 2: result = enter(TGKILL, pid, pid, 0, 0); break;
    }
    return result < 0 ? refused(errno) : ESCAPED;
}

/* ---- how it begins ---- */

static void name_in_low_memory(size_t head, const char *tail) {
    char *good_name = low + head;
    sprintf(good_name, "%s/%s", good, tail);
    /* both names have one length, and their last four letters differ: "good" and "evil" */
    exchanged = (void *)(good_name + strlen(good) - 4);
    memcpy(&words[0], good + strlen(good) - 4, 4);
    memcpy(&words[1], evil + strlen(evil) - 4, 4);
}

static void begin_read(void) { name_in_low_memory(0, "file"); }

static void begin_execute(void) {
    uint32_t *arguments = (void *)(low + 2 * PAGE);
    strcpy(low + 3 * PAGE, "prog");
    arguments[0] = at(low + 3 * PAGE);
    name_in_low_memory(0, "prog");
}

static void begin_address(void) {
    *(sa_family_t *)low = AF_UNIX;
    name_in_low_memory(offsetof(struct sockaddr_un, sun_path), "sock");
}

static void begin_array(void) {
    for (int i = 0; i < 2; i++) {
        struct sockaddr_un *address = (void *)(low + PAGE + i * 256);
        address->sun_family = AF_UNIX;
        sprintf(address->sun_path, "%s/sock", i ? evil : good);
        words[i] = at(address);
    }
    exchanged = (void *)(low + 4);
}

static void begin_socket(void) {
    uint32_t *array = (void *)low;
    array[1] = SOCK_STREAM, array[2] = 0;
    words[0] = AF_UNIX, words[1] = AF_INET;
    exchanged = array;
}

static void begin_map(void) {
    words[0] = PROT_READ, words[1] = PROT_READ | PROT_EXEC;
    exchanged = (void *)(low + 8);
}

static const struct goal {
    const char *kind, *name;
    void (*begin)(void);
    enum outcome (*attempt)(void);
    int turns; /* permitted and forbidden things take turns */
} goals[] = {
    { "memory", "read", begin_read, read_file, 1 },
    { "memory", "exec", begin_execute, execute, 1 },
    { "memory", "connect", begin_address, connect_by_address, 1 },
    { "array", "connect", begin_array, connect_by_array, 1 },
    { "array", "socket", begin_socket, make_socket, 1 },
    { "array", "map", begin_map, map_to_execute, 0 },
    { "register", "untraced", NULL, fork_untraced, 0 },
    { "register", "signal", NULL, reach_supervisor, 0 },
};

int main(int argc, char **argv) {
    if (argc < 7)
        return 2;
    kind = argv[1], goal = argv[2], good = argv[5], evil = argv[6], more = argv + 7;
    long rounds = atol(argv[3]), count[OUTCOMES] = { 0 }, number;
    int first = atoi(argv[4]);
    const struct goal *chosen = NULL;
    for (size_t i = 0; i < sizeof goals / sizeof *goals; i++)
        if (!strcmp(goals[i].kind, kind) && !strcmp(goals[i].name, goal))
            chosen = &goals[i];
    /* shared: what a child executes is exchanged from here */
    low = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT,
               -1, 0);
    if (!chosen || low == MAP_FAILED)
        return 2;
    pthread_t thread;
    if (chosen->begin) {
        chosen->begin();
        *exchanged = words[0];
        if (pthread_create(&thread, NULL, exchange, NULL))
            die("a thread");
    }
    /* a few more where nothing was exchanged yet: else they would show nothing */
    for (number = 0; !(first && count[ESCAPED])
                     && (number < rounds || (chosen->turns && number < rounds + PATIENCE
                                             && (!count[PASSED] || !count[BLOCKED])));
         number++)
        count[chosen->attempt()]++;
    ended = 1;
    if (chosen->begin)
        pthread_join(thread, NULL);
    printf("tries %ld passed %ld blocked %ld odd %ld escaped %ld\n", number, count[PASSED],
           count[BLOCKED], count[ODD], count[ESCAPED]);
    return 0;
}
