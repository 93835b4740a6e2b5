/* race MEANS GOAL ...: makes a call over and over while another thread or process exchanges what
 * the call is about, and looks at what came of it. */
#include "race.h"
#include <arpa/inet.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <stddef.h>

const char *kind, *goal, *good, *evil;
char **more;
static char *page;
static const char *path;
static char good_name[PAGE], evil_name[PAGE]; /* what the goal is about, by its real names */
static long number;
enum { PATIENCE = 2000 }; /* further tries */

static int is(const char *name) { return !strcmp(goal, name); }

/* ---- what came of it ---- */

static enum outcome of_content(int fd) {
    char text[64] = { 0 };
    if (fd < 0)
        return refused(errno);
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    return size > 0 && strstr(text, "secret") ? ESCAPED : PASSED;
}

/* It was made: where it was permitted to be made, or elsewhere? */
static enum outcome of_making(int result, int (*take_away)(const char *)) {
    if (result < 0)
        return refused(errno);
    return take_away(good_name) == 0 ? PASSED : ESCAPED;
}

static enum outcome of_child(pid_t child) {
    int status = 0;
    if (child < 0)
        return refused(errno);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return of_status(status);
}

/* ---- the goals ---- */

static enum outcome read_file(void) { return of_content(open(path, O_RDONLY)); }

static enum outcome write_file(void) {
    int flags = O_RDWR | O_CREAT | O_APPEND;
    return of_content(number % 2 ? open(path, flags, 0644) : openat(AT_FDCWD, path, flags, 0644));
}

static enum outcome open_again(void) { /* openat2 with its flags in memory */
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, evil_name, page, sizeof(struct open_how));
    if (fd < 0)
        return refused(errno);
    int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
    close(fd);
    return mode == O_RDONLY ? PASSED : ESCAPED;
}

static enum outcome make_directory(void) { return of_making(mkdir(path, 0755), rmdir); }
static enum outcome make_node(void) { return of_making(mknod(path, S_IFIFO | 0600, 0), unlink); }

static enum outcome make_socket(void) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    enum outcome outcome = of_making(bind(fd, (void *)&address, sizeof address), unlink);
    close(fd);
    return outcome;
}

static enum outcome make_symlink(void) { return of_making(symlink("to", path), unlink); }

static enum outcome make_link(void) { /* a hard link to what must not be reached */
    static char made[PAGE];
    snprintf(made, sizeof made, "%s/linked", good);
    if (linkat(AT_FDCWD, path, AT_FDCWD, made, AT_SYMLINK_FOLLOW) < 0)
        return refused(errno);
    enum outcome result = of_content(open(made, O_RDONLY));
    unlink(made);
    return result;
}

static enum outcome change_mode(void) {
    struct stat info;
    mode_t mode = 0600 | (mode_t)(number % 8);
    if (chmod(path, mode) < 0)
        return refused(errno);
    return stat(good_name, &info) == 0 && (info.st_mode & 0777) == mode ? PASSED : ESCAPED;
}

static enum outcome cut_file(void) {
    struct stat info;
    off_t size = 1 + number % 50;
    if (truncate(path, size) < 0)
        return refused(errno);
    return stat(good_name, &info) == 0 && info.st_size == size ? PASSED : ESCAPED;
}

static enum outcome execute(void) {
    char *argv[] = { "prog", NULL }, *none[] = { NULL };
    pid_t child = vfork();
    if (child == 0) {
        execve(path, argv, none);
        _exit(errno == EPERM ? BLOCKED_CODE : ODD_CODE);
    }
    return of_child(child);
}

static enum outcome execute_with(void) { /* with an argument that was not judged */
    char *argv[] = { "prog", page, NULL }, *none[] = { NULL };
    pid_t child = vfork();
    if (child == 0) {
        execve(good_name, argv, none);
        _exit(errno == EPERM ? BLOCKED_CODE : ODD_CODE);
    }
    return of_child(child);
}

static enum outcome enter(void) { /* a child enters a directory and looks where it is */
    pid_t child = vfork();
    if (child == 0) {
        if (chdir(path) < 0)
            _exit(refused(errno) == BLOCKED ? BLOCKED_CODE : ODD_CODE);
        char here[PAGE] = "";
        syscall(SYS_getcwd, here, sizeof here);
        _exit(!strncmp(here, evil, strlen(evil)) ? ESCAPED_CODE : PASSED_CODE);
    }
    return of_child(child);
}

static enum outcome connect_inet(void) {
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int result = connect(fd, (struct sockaddr *)page, sizeof(struct sockaddr_in));
    enum outcome outcome = result < 0 ? refused(errno) : PASSED;
    if (result == 0 && getpeername(fd, (struct sockaddr *)&peer, &size) == 0
        && ntohs(peer.sin_port) == atoi(more[1]))
        outcome = ESCAPED;
    struct linger now = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* leave no port behind */
    close(fd);
    return outcome;
}

static enum outcome connect_unix(void) {
    struct sockaddr_un address = { .sun_family = AF_UNIX }, peer = { 0 };
    const void *given = &address;
    socklen_t size = sizeof address, length = sizeof peer;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (exchanges_names())
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    else {
        given = page;
        size = *(socklen_t *)(page + PAGE / 2); /* setup left it there */
    }
    int result = connect(fd, given, size);
    enum outcome outcome = result < 0 ? refused(errno) : PASSED;
    if (result == 0 && getpeername(fd, (struct sockaddr *)&peer, &length) == 0
        && memmem(&peer, length, "evil", 4))
        outcome = ESCAPED;
    close(fd);
    return outcome;
}

static enum outcome bind_unix(void) {
    struct sockaddr_un name = { 0 };
    socklen_t length = sizeof name;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int result = bind(fd, (void *)page, *(socklen_t *)(page + PAGE / 2));
    enum outcome outcome = result < 0 ? refused(errno) : PASSED;
    if (result == 0 && getsockname(fd, (struct sockaddr *)&name, &length) == 0
        && memmem(&name, length, "evil", 4))
        outcome = ESCAPED;
    close(fd);
    return outcome;
}

static char text[16] = "hello";
static struct iovec piece = { text, sizeof text };
static struct sockaddr_in both[2]; /* the permitted address, the other */

/* A datagram: whoever must not get one answers. What is exchanged is its address, or in a header the
 * pointer to it. */
static enum outcome send_to(void) {
    char answer[16] = { 0 };
    struct mmsghdr message = { .msg_hdr = { page, sizeof(struct sockaddr_in), &piece, 1 } };
    struct mmsghdr *given = is("header") ? (void *)page : &message;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), flags = 0;
    long result = !strcmp(more[2], "sendto")
        ? sendto(fd, text, sizeof text, 0, (void *)page, sizeof(struct sockaddr_in))
        : !strcmp(more[2], "sendmsg") ? sendmsg(fd, &given->msg_hdr, 0)
                                      : sendmmsg(fd, given, 1, 0);
    enum outcome outcome = result < 0 ? refused(errno) : PASSED;
    if (result > 0) { /* both answer at once; wait for whichever it was */
        struct timeval patience = { 1, 0 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (recv(fd, answer, sizeof answer, flags) > 0 && !memcmp(answer, "secret", 6))
            outcome = ESCAPED;
    }
    close(fd);
    return outcome;
}

/* ---- what the page holds ---- */

enum shape { PATH, HOW, ARGUMENT, INET, UNIX, HEADER };
static const struct goal {
    const char *name, *tail;
    enum outcome (*attempt)(void);
    enum shape shape;
} goals[] = {
    { "read", "file", read_file, PATH },       { "write", "file", write_file, PATH },
    { "as-root", "roots", read_file, PATH },
    { "openat2", "file", open_again, HOW },    { "mkdir", "new", make_directory, PATH },
    { "mknod", "new", make_node, PATH },       { "symlink", "new", make_symlink, PATH },
    { "socket", "new", make_socket, PATH },
    { "link", "file", make_link, PATH },       { "chmod", "own", change_mode, PATH },
    { "truncate", "own", cut_file, PATH },
    { "exec", "prog", execute, PATH },         { "argv", "prog", execute_with, ARGUMENT },
    { "chdir", "", enter, PATH },              { "connect", "", connect_inet, INET },
    { "unix", "sock", connect_unix, UNIX },    { "abstract", "sock", connect_unix, UNIX },
    { "bind", "name", bind_unix, UNIX },       { "send", "", send_to, INET },
    { "header", "", send_to, HEADER },
};

static void fill(struct target *target, enum shape shape) {
    memset(target, 0, sizeof *target);
    memcpy(&target->words[0], "good", 4);
    memcpy(&target->words[1], "evil", 4);
    target->width = 4;
    char *image = target->image;
    if (shape == PATH) { /* slashes in front until the word is aligned */
        size_t ahead = (4 - (strlen(good) - 4) % 4) % 4;
        memset(image, '/', ahead);
        strcpy(image + ahead, good_name);
        target->place = ahead + strlen(good) - 4;
    } else if (shape == HOW) {
        target->place = offsetof(struct open_how, flags);
        target->words[0] = O_RDONLY, target->words[1] = O_RDWR;
    } else if (shape == HEADER) {
        struct mmsghdr *message = (void *)image;
        for (int i = 0; i < 2; i++)
            both[i] = (struct sockaddr_in){ AF_INET, htons((uint16_t)atoi(more[i])), { htonl(INADDR_LOOPBACK) }, { 0 } };
        message->msg_hdr = (struct msghdr){ &both[0], sizeof both[0], &piece, 1, NULL, 0, 0 };
        target->place = 0; /* msg_name: the two pointers differ in their low halves */
        target->words[0] = (uint32_t)(uintptr_t)&both[0], target->words[1] = (uint32_t)(uintptr_t)&both[1];
    } else if (shape == ARGUMENT)
        strcpy(image, "good");
    else if (shape == INET) {
        struct sockaddr_in *address = (void *)image;
        *address = (struct sockaddr_in){ AF_INET, htons((uint16_t)atoi(more[0])),
                                         { htonl(INADDR_LOOPBACK) }, { 0 } };
        target->place = offsetof(struct sockaddr_in, sin_port), target->width = 2;
        target->words[0] = address->sin_port, target->words[1] = htons((uint16_t)atoi(more[1]));
    } else {
        struct sockaddr_un *address = (void *)image;
        address->sun_family = AF_UNIX;
        size_t at = offsetof(struct sockaddr_un, sun_path), length;
        if (is("unix")) { /* the word wherever it falls */
            strcpy(image + at, good_name);
            target->place = at + strlen(good) - 4;
            length = at + strlen(good_name) + 1;
        } else { /* abstract: a NUL, then the word at an aligned place */
            snprintf(image + at + 2, 64, "good-%s", more[0]);
            image[at + 1] = '-';
            target->place = at + 2;
            length = at + 2 + strlen(image + at + 2);
        }
        *(socklen_t *)(image + PAGE / 2) = (socklen_t)length;
    }
}

int main(int argc, char **argv) {
    if (argc < 7)
        return 2;
    kind = argv[1], goal = argv[2], good = argv[5], evil = argv[6], more = argv + 7;
    long rounds = atol(argv[3]), count[OUTCOMES] = { 0 };
    int first = atoi(argv[4]);
    const struct goal *chosen = NULL;
    for (size_t i = 0; i < sizeof goals / sizeof *goals; i++)
        if (is(goals[i].name))
            chosen = &goals[i];
    if (!chosen)
        return 2;
    snprintf(good_name, PAGE, "%s/%s", good, chosen->tail);
    snprintf(evil_name, PAGE, "%s/%s", evil, chosen->tail);
    if (!*chosen->tail)
        good_name[strlen(good)] = evil_name[strlen(evil)] = 0;
    struct target target;
    fill(&target, chosen->shape);
    page = start_exchange(&target);
    path = exchanges_names() ? way_in(chosen->tail) : page;
    /* a few more where nothing was exchanged yet: else they would show nothing */
    for (number = 0; !(first && count[ESCAPED])
                     && (number < rounds || (number < rounds + PATIENCE
                                             && (!count[PASSED] || !count[BLOCKED])));
         number++) {
        if (number % 64 == 0)
            before_call();
        count[chosen->attempt()]++;
    }
    stop_exchange();
    printf("tries %ld passed %ld blocked %ld odd %ld escaped %ld\n", number, count[PASSED],
           count[BLOCKED], count[ODD], count[ESCAPED]);
    return 0;
}
