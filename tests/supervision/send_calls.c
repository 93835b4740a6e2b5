/* Sends of all kinds, one line for what came of each.
 *
 *   send_calls PART
 *
 * Run bare and under a policy that permits everything but looks at it: the two outputs must be
 * equal. Raw system calls, in the directory that test_path_calls.py lays out. */
#include "calls.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <signal.h>
#include <sys/time.h>

#ifndef MSG_PROBE
#define MSG_PROBE 0x10
#endif
char home[4096], self[64];
static char block[300000];
static volatile int signals;
enum { WAYS = 3 };
static const char *const ways[] = { "sendto", "sendmsg", "sendmmsg" };

static void count(int number) { signals += number == SIGPIPE ? 100 : 1; }

static void handle(int number, int flags) {
    struct sigaction action = { .sa_handler = count, .sa_flags = flags };
    sigaction(number, &action, NULL);
}

static long transmit(int way, int fd, const void *data, size_t size, int flags, const void *name, int length) {
    struct iovec piece = { (void *)data, size };
    struct mmsghdr message = { .msg_hdr = { .msg_name = (void *)name, .msg_namelen = (socklen_t)length, .msg_iov = &piece, .msg_iovlen = 1 } };
    if (way == 0)
        return syscall(SYS_sendto, fd, data, size, flags, name, length);
    if (way == 1)
        return syscall(SYS_sendmsg, fd, &message, flags);
    long sent = syscall(SYS_sendmmsg, fd, &message, 1, flags);
    return sent == 1 ? (long)message.msg_len : sent;
}

/* What has come: how many, how long, which bytes. */
static void drain(int fd) {
    static char got[300000];
    for (;;) {
        long size = recv(fd, got, sizeof got, MSG_DONTWAIT);
        if (size < 0)
            break;
        unsigned sum = 0;
        for (long i = 0; i < size; i++)
            sum = sum * 31 + (unsigned char)got[i];
        printf("    got %ld %x\n", size, sum);
        if (size == 0)
            break;
    }
    if (signals)
        printf("    signals %d\n", signals);
    signals = 0;
}

static void attempt(const char *what, int fd, int to, size_t size, int flags, const void *name, int length) {
    char label[200];
    for (int way = 0; way < WAYS; way++) {
        snprintf(label, sizeof label, "%s %s %zu bytes, flags %x, name of %d", ways[way], what, size, (unsigned)flags, name ? length : -9);
        say(label, transmit(way, fd, block, size, flags, name, length));
        drain(to);
    }
}

static void datagrams(void) {
    static const size_t sizes[] = { 0, 1, 1000, 65507, 65508, 65527, 65536, 200000 };
    static const int lengths[] = { 0, 1, 2, 7, 8, 15, 16, 24, 27, 28, 128, 129, -1 };
    static const int flags[] = { MSG_DONTWAIT, MSG_OOB, MSG_CONFIRM, MSG_DONTROUTE, MSG_EOR, MSG_PROBE, MSG_ZEROCOPY, MSG_FASTOPEN, 0x08000000, (int)0x80000000 };
    for (int family = 0; family < 3; family++) {
        int domain = family ? AF_INET6 : AF_INET;
        int to = socket(domain, SOCK_DGRAM, 0), from = socket(domain, SOCK_DGRAM, 0), peer = socket(domain, SOCK_DGRAM, 0);
        struct sockaddr_storage name = { 0 }, odd;
        struct sockaddr_in *four = (void *)&name;
        struct sockaddr_in6 *six = (void *)&name;
        socklen_t size = family ? sizeof *six : sizeof *four;
        name.ss_family = (sa_family_t)domain;
        if (!family)
            four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else if (family == 1)
            six->sin6_addr = (struct in6_addr)IN6ADDR_LOOPBACK_INIT;
        else
            memcpy(&six->sin6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
        if (bind(to, (void *)&name, size) < 0) {
            puts("no such loopback");
            continue;
        }
        getsockname(to, (void *)&name, &size);
        bind(peer, (void *)&name, 0);
        for (int i = 0; i < 8; i++)
            attempt("to a socket", from, to, sizes[i], 0, &name, (int)size);
        for (int i = 0; i < 13; i++)
            attempt("to a length", from, to, 9, 0, &name, lengths[i]);
        for (int i = 0; i < 10; i++)
            attempt("with a flag", from, to, 9, flags[i], &name, (int)size);
        static const int families[] = { AF_UNSPEC, AF_UNIX, AF_NETLINK, AF_INET, AF_INET6, 77 };
        for (int i = 0; i < 6; i++) {
            odd = name;
            odd.ss_family = (sa_family_t)families[i];
            attempt("to another family", from, to, 9, 0, &odd, sizeof odd);
        }
        attempt("to nobody", from, to, 9, 0, NULL, 0);
        attempt("more", from, to, 9, MSG_MORE, &name, (int)size);
        attempt("the rest", from, to, 9, 0, &name, (int)size);
        say("connect", connect(from, (void *)&name, size));
        attempt("to the peer", from, to, 9, 0, NULL, 0);
        attempt("to the peer by name", from, to, 9, 0, &name, (int)size);
        attempt("to the peer by unspecified", from, to, 9, 0, &odd, 0);
        odd.ss_family = AF_UNSPEC;
        attempt("to the peer by unspecified", from, to, 9, 0, &odd, (int)size);
        shutdown(from, SHUT_WR);
        attempt("after the end", from, to, 9, 0, NULL, 0);
        close(to);
        attempt("to a closed one", from, peer, 9, 0, &name, (int)size);
        close(from), close(peer);
    }
}

static int unix_name(struct sockaddr_un *name, const char *path) {
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    memcpy(name->sun_path, path, strlen(path) + (strlen(path) < 108));
    return (int)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

static void local_datagrams(void) {
    static const char *const paths[] = { "own", "./own", "dir/../own", "way", "sock", "file", "dir", "missing", "missing/x", "closed/x", "dangling", "loop", "link", "theirs", "/proc/self/cwd/own", "" };
    struct sockaddr_un name;
    int to = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0), length = unix_name(&name, "own");
    CALL(SYS_bind, to, &name, length);
    (void)!symlink("own", "way");
    for (int i = 0; i < 16; i++) {
        length = unix_name(&name, paths[i]);
        printf("%s:\n", paths[i]);
        attempt("to a path", from, to, 9, 0, &name, length);
        int stream = socket(AF_UNIX, SOCK_STREAM, 0), packets = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        attempt("from a stream", stream, to, 9, MSG_NOSIGNAL, &name, length);
        attempt("from packets", packets, to, 9, 0, &name, length);
        close(stream), close(packets);
    }
    length = unix_name(&name, "own");
    static const int lengths[] = { 0, 1, 2, 3, 5, 6, 7, 109, 110, 111, 128, 129, -1 };
    for (int i = 0; i < 13; i++)
        attempt("to a length", from, to, 9, 0, &name, lengths[i]);
    static const size_t sizes[] = { 0, 1, 100000, 212000, 213000, 300000 };
    for (int i = 0; i < 6; i++)
        attempt("of a size", from, to, sizes[i], 0, &name, length);
    static const int flags[] = { MSG_DONTWAIT, MSG_OOB, MSG_MORE, MSG_EOR, MSG_ZEROCOPY, MSG_FASTOPEN };
    for (int i = 0; i < 6; i++)
        attempt("with a flag", from, to, 9, flags[i], &name, length);
    attempt("to nobody", from, to, 9, 0, NULL, 0);
    for (int i = 0; i < 300; i++) /* until its queue is full */
        if (say("fill", transmit(i % WAYS, from, block, 10, MSG_DONTWAIT, &name, length)) < 0)
            break;
    drain(to);
    struct sockaddr_un hidden = { .sun_family = AF_UNIX };
    snprintf(hidden.sun_path + 1, 60, "send-%d", getpid());
    int abstract = socket(AF_UNIX, SOCK_DGRAM, 0), third = socket(AF_UNIX, SOCK_DGRAM, 0);
    CALL(SYS_bind, abstract, &hidden, 40);
    attempt("to an abstract name", from, abstract, 9, 0, &hidden, 40);
    attempt("to an abstract name", from, abstract, 9, 0, &hidden, 41);
    CALL(SYS_connect, to, &hidden, 40);
    attempt("to one that is connected elsewhere", third, to, 9, 0, &name, length);
    CALL(SYS_connect, third, &hidden, 40);
    attempt("to the peer", third, abstract, 9, 0, NULL, 0);
    attempt("to another than the peer", third, to, 9, 0, &name, length);
    close(abstract);
    attempt("to one that is gone", third, to, 9, 0, NULL, 0);
    attempt("to one that is gone", third, to, 9, 0, &hidden, 40);
    unlink("own"), unlink("way");
}

static void streams(void) {
    int ends[2], kinds[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
    struct sockaddr_un name;
    int length = unix_name(&name, "sock");
    for (int kind = 0; kind < 3; kind++) {
        printf("kind %d\n", kind);
        socketpair(AF_UNIX, kinds[kind], 0, ends);
        attempt("a pair", ends[0], ends[1], 9, 0, NULL, 0);
        attempt("a pair", ends[0], ends[1], 0, 0, NULL, 0);
        attempt("by name", ends[0], ends[1], 9, 0, &name, length);
        attempt("out of band", ends[0], ends[1], 3, MSG_OOB, NULL, 0);
        attempt("end of record", ends[0], ends[1], 3, MSG_EOR, NULL, 0);
        attempt("long", ends[0], ends[1], 150000, MSG_DONTWAIT, NULL, 0);
        attempt("too long", ends[0], ends[1], 300000, MSG_DONTWAIT, NULL, 0);
        close(ends[1]);
        ends[1] = open("/dev/null", O_RDONLY);
        attempt("broken", ends[0], ends[1], 9, 0, NULL, 0);
        attempt("broken, quietly", ends[0], ends[1], 9, MSG_NOSIGNAL, NULL, 0);
        attempt("broken by name", ends[0], ends[1], 9, 0, &name, length);
        close(ends[0]), close(ends[1]);
        int alone = socket(AF_UNIX, kinds[kind], 0);
        attempt("alone", alone, alone, 9, 0, NULL, 0);
        close(alone);
    }
    struct sockaddr_in inet = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof inet;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    attempt("not connected", client, client, 9, 0, NULL, 0);
    attempt("not connected, by name", client, client, 9, 0, &inet, sizeof inet);
    bind(server, (void *)&inet, sizeof inet);
    listen(server, 9);
    getsockname(server, (void *)&inet, &size);
    connect(client, (void *)&inet, size);
    int peer = accept(server, NULL, NULL);
    attempt("TCP", client, client, 9, 0, NULL, 0);
    attempt("TCP by name", client, client, 9, 0, &inet, sizeof inet);
    attempt("TCP out of band", client, client, 9, MSG_OOB, NULL, 0);
    usleep(1000);
    drain(peer);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    attempt("TCP, fast", late, late, 9, MSG_FASTOPEN, &inet, sizeof inet);
    close(late);
    shutdown(client, SHUT_WR);
    attempt("TCP after the end", client, client, 9, 0, NULL, 0);
    attempt("TCP after the end, quietly", client, client, 9, MSG_NOSIGNAL, NULL, 0);
}

static void netlinks(void) {
    struct { struct nlmsghdr head; struct rtgenmsg body; } ask = {
        { sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { AF_UNSPEC } };
    struct sockaddr_nl kernel = { .nl_family = AF_NETLINK }, group = { .nl_family = AF_NETLINK, .nl_groups = 1 }, other = { .nl_family = AF_NETLINK, .nl_pid = 0x7fffff00 };
    const struct { const void *name; int length; } names[] = {
        { NULL, 0 }, { &kernel, sizeof kernel }, { &group, sizeof group }, { &other, sizeof other }, { &kernel, 11 }, { &kernel, 2 }, { block, 12 },
    };
    static char answer[65536];
    char label[60];
    for (int protocol = 0; protocol <= NETLINK_USERSOCK; protocol += NETLINK_USERSOCK)
        for (int i = 0; i < 7; i++)
            for (int way = 0; way < WAYS; way++) {
                int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
                snprintf(label, sizeof label, "%s netlink %d %d", ways[way], protocol, i);
                if (say(label, transmit(way, fd, &ask, sizeof ask, 0, names[i].name, names[i].length)) > 0)
                    printf("    answer %d %d\n", recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0, ((struct nlmsghdr *)answer)->nlmsg_type);
                memset(answer, 0, sizeof answer);
                close(fd);
            }
}

static void bad_pointers(void) {
    int ends[2], from = socket(AF_INET, SOCK_DGRAM, 0), file = open("file", O_RDONLY);
    struct sockaddr_in name = { AF_INET, htons(9), { htonl(INADDR_LOOPBACK) }, { 0 } };
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + 4096, 4096);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    const void *bad[] = { NULL, BAD, KERNEL, (void *)-1L, edge + 4090 };
    const int fds[] = { ends[0], from, -1, 99, file, 8 };
    for (int i = 0; i < 5; i++)
        for (int f = 0; f < 6; f++)
            for (int way = 0; way < WAYS; way++) {
                printf("pointer %d descriptor %d way %d\n", i, f, way);
                say("data", transmit(way, fds[f], bad[i], 20, MSG_DONTWAIT | MSG_NOSIGNAL, &name, sizeof name));
                say("data, alone", transmit(way, fds[f], bad[i], 20, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0));
                say("no data", transmit(way, fds[f], bad[i], 0, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0));
                say("name", transmit(way, fds[f], block, 20, MSG_DONTWAIT | MSG_NOSIGNAL, bad[i], sizeof name));
                say("header", syscall(way == 1 ? SYS_sendmsg : SYS_sendmmsg, fds[f], bad[i], way == 1 ? MSG_DONTWAIT : 2, MSG_DONTWAIT));
                drain(ends[1]);
            }
    static const size_t counts[] = { 0, 1, 3, 1024, 1025 };
    static struct iovec many[1025];
    for (int i = 0; i < 1025; i++)
        many[i] = (struct iovec){ block + i, 2 };
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 8; k++) {
            struct msghdr header = { .msg_iov = many, .msg_iovlen = counts[i] };
            many[1] = (struct iovec){ block, 2 };
            if (k == 1) header.msg_iov = BAD;
            if (k == 2) many[1].iov_len = (size_t)-1;
            if (k == 3) many[1].iov_base = BAD;
            if (k == 4) header.msg_control = BAD, header.msg_controllen = 16;
            if (k == 5) header.msg_control = block, header.msg_controllen = (size_t)1 << 31;
            if (k == 6) header.msg_name = &name, header.msg_namelen = (socklen_t)-1;
            if (k == 7) header.msg_flags = MSG_OOB | MSG_DONTWAIT;
            printf("%zu pieces, %d\n", counts[i], k);
            CALL(SYS_sendmsg, ends[0], &header, MSG_DONTWAIT);
            CALL(SYS_sendmsg, from, &header, MSG_DONTWAIT);
            drain(ends[1]);
        }
}

/* Sends control messages made of `kinds`: the letters say what. */
static void control(int fd, const char *kinds, int to) {
    static char room[8192] __attribute__((aligned(8)));
    size_t used = 0;
    char label[100];
    struct iovec piece = { "x", 1 };
    for (const char *kind = kinds; *kind; kind++) {
        struct cmsghdr *head = (void *)(room + used);
        int numbers = *kind == 'm' ? 253 : *kind == 'M' ? 254 : *kind == '0' ? 0 : 1;
        struct ucred who = { getpid(), getuid(), getgid() };
        memset(head, 0, 32);
        *head = (struct cmsghdr){ CMSG_LEN(4 * (size_t)numbers), SOL_SOCKET, SCM_RIGHTS };
        for (int i = 0; i < numbers; i++)
            memcpy(CMSG_DATA(head) + 4 * i, &(int){ *kind == 'b' ? 999 : *kind == 'n' ? -1 : *kind == 'o' ? 8 : 7 }, 4);
        if (*kind >= 'A' && *kind <= 'G') {
            *head = (struct cmsghdr){ CMSG_LEN(sizeof who), SOL_SOCKET, SCM_CREDENTIALS };
            if (*kind == 'B') who.uid = geteuid();
            if (*kind == 'C') who.uid = 0;
            if (*kind == 'D') who.gid = 4711;
            if (*kind == 'E') who.pid = 0x7ffffff;
            if (*kind == 'F') who.uid = (uid_t)-1;
            if (*kind == 'G') head->cmsg_len -= 4;
            memcpy(CMSG_DATA(head), &who, sizeof who);
        } else if (*kind == 'l')
            head->cmsg_level = 77;
        else if (*kind == 't')
            head->cmsg_type = 77;
        else if (*kind == 's')
            head->cmsg_len = 15;
        else if (*kind == 'z')
            head->cmsg_len = 1 << 20;
        used += *kind == 's' || *kind == 'z' ? 16 : CMSG_ALIGN(head->cmsg_len);
    }
    struct msghdr header = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = room, .msg_controllen = used };
    snprintf(label, sizeof label, "control %s", kinds);
    say(label, syscall(SYS_sendmsg, fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL));
    char byte[4], got[8192] __attribute__((aligned(8)));
    struct iovec into = { byte, sizeof byte };
    struct msghdr answer = { .msg_iov = &into, .msg_iovlen = 1, .msg_control = got, .msg_controllen = sizeof got };
    long size = recvmsg(to, &answer, MSG_DONTWAIT);
    if (size < 0)
        return;
    printf("    got %ld flags %x\n", size, answer.msg_flags);
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&answer); head; head = CMSG_NXTHDR(&answer, head)) {
        if (head->cmsg_level != SOL_SOCKET)
            continue;
        if (head->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(head), sizeof who);
            printf("    from %d %d\n", who.uid, who.gid);
        } else if (head->cmsg_type == SCM_RIGHTS) {
            struct stat info = { 0 }, own = { 0 };
            size_t numbers = (head->cmsg_len - CMSG_LEN(0)) / 4;
            for (size_t i = 0; i < numbers; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(head) + 4 * i, 4);
                fstat(fd, &info);
                fstat(7, &own);
                if (i == 0)
                    printf("    %zu descriptors, mode %o flags %o, the same %d\n", numbers, info.st_mode, fcntl(fd, F_GETFL), info.st_ino == own.st_ino);
                close(fd);
            }
        }
    }
}

static void controls(void) {
    static const char *const kinds[] = { "", "r", "rr", "m", "M", "mr", "0", "b", "rb", "br", "n", "o", "rl", "l", "t", "rt", "s", "rs", "z", "rz", "sr", "A", "B", "C", "D", "E", "F", "G", "AA", "Ar", "rA", "CA", "Al" };
    int type[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET }, ends[2], on = 1;
    dup2(open("file", O_RDONLY), 7);
    for (int kind = 0; kind < 3; kind++)
        for (int passes = 0; passes < 2; passes++) {
            socketpair(AF_UNIX, type[kind], 0, ends);
            if (passes)
                setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
            for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
                control(ends[0], kinds[i], ends[1]);
            close(ends[0]), close(ends[1]);
        }
    struct sockaddr_in name = { AF_INET, 0, { htonl(INADDR_LOOPBACK) }, { 0 } };
    socklen_t size = sizeof name;
    int to = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0);
    bind(to, (void *)&name, sizeof name);
    getsockname(to, (void *)&name, &size);
    connect(from, (void *)&name, size);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        control(from, kinds[i], to);
    int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        control(netlink, kinds[i], netlink);
}

static void several(void) {
    struct sockaddr_in name = { AF_INET, 0, { htonl(INADDR_LOOPBACK) }, { 0 } }, odd = { .sin_family = 77 };
    socklen_t size = sizeof name;
    int to = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0), ends[2];
    bind(to, (void *)&name, sizeof name);
    getsockname(to, (void *)&name, &size);
    static struct mmsghdr list[1100];
    static struct iovec pieces[1100];
    static const int lengths[] = { 0, 1, 2, 3, 4, 5, 50 };
    for (int wrong = 0; wrong < 8; wrong++)
        for (int i = 0; i < 7; i++) {
            for (int k = 0; k < 1100; k++) {
                pieces[k] = (struct iovec){ block, (size_t)k };
                list[k] = (struct mmsghdr){ .msg_hdr = { &name, sizeof name, pieces + k, 1, NULL, 0, 0 }, .msg_len = 4711 };
            }
            struct msghdr *third = &list[2].msg_hdr;
            if (wrong == 1) third->msg_name = BAD;
            if (wrong == 2) pieces[2].iov_len = 100000;
            if (wrong == 3) third->msg_iov = BAD;
            if (wrong == 4) pieces[2].iov_base = BAD;
            if (wrong == 5) third->msg_name = &odd;
            if (wrong == 6) third->msg_control = BAD, third->msg_controllen = 20;
            if (wrong == 7) third->msg_flags = MSG_EOR | MSG_OOB;
            printf("wrong %d\n", wrong);
            CALL(SYS_sendmmsg, from, list, lengths[i], 0);
            for (int k = 0; k < lengths[i] + 1; k++)
                printf(" %u", list[k].msg_len);
            puts("");
            drain(to);
        }
    for (int k = 0; k < 1100; k++) {
        pieces[k] = (struct iovec){ block, 1 };
        list[k] = (struct mmsghdr){ .msg_hdr = { &name, sizeof name, pieces + k, 1, NULL, 0, 0 } };
    }
    CALL(SYS_sendmmsg, from, list, 1100, 0);
    CALL(SYS_sendmmsg, from, list, 1, 0x80000000);
    CALL(SYS_sendmmsg, -1, list, 0, 0);
    CALL(SYS_sendmmsg, open("file", O_RDONLY), list, 0, 0);
    drain(to);
    struct mmsghdr *fixed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(fixed, list, 4 * sizeof *list);
    mprotect(fixed, 4096, PROT_READ);
    CALL(SYS_sendmmsg, from, fixed, 4, 0);
    drain(to);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    for (int k = 0; k < 5; k++) {
        pieces[k] = (struct iovec){ block, k == 2 ? 300000 : 7 };
        list[k] = (struct mmsghdr){ .msg_hdr = { NULL, 0, pieces + k, 1, NULL, 0, 0 }, .msg_len = 4711 };
    }
    CALL(SYS_sendmmsg, ends[0], list, 5, MSG_DONTWAIT);
    printf(" %u %u %u %u\n", list[0].msg_len, list[1].msg_len, list[2].msg_len, list[3].msg_len);
    close(ends[1]);
    CALL(SYS_sendmmsg, ends[0], list, 5, 0);
    printf(" signals %d\n", signals);
}

static void *read_slowly(void *end) {
    static char got[65536];
    unsigned sum = 0;
    long size, all = 0;
    usleep(50000);
    while ((size = read(*(int *)end, got, sizeof got)) > 0) {
        for (long i = 0; i < size; i++)
            sum = sum * 31 + (unsigned char)got[i];
        all += size;
    }
    printf("    read %ld %x\n", all, sum);
    return NULL;
}

static void waits(void) {
    enum { LONG = 9 << 20 };
    char *text = malloc(LONG);
    struct timeval limit = { 0, 30000 }, none = { 0, 0 };
    struct itimerval soon = { { 0, 0 }, { 0, 60000 } };
    int ends[2], kinds[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
    pthread_t reader;
    for (int i = 0; i < LONG; i++)
        text[i] = (char)(i * 7 + i / 4096);
    for (int way = 0; way < WAYS; way++) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        pthread_create(&reader, NULL, read_slowly, &ends[1]);
        say(ways[way], transmit(way, ends[0], text, LONG, 0, NULL, 0));
        close(ends[0]);
        pthread_join(reader, NULL);
        close(ends[1]);
    }
    handle(SIGALRM, SA_RESTART);
    for (int limited = 0; limited < 2; limited++) /* nobody reads: it ends in the middle */
        for (int way = 0; way < WAYS; way++) {
            socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
            setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, limited ? &limit : &none, sizeof limit);
            if (!limited)
                setitimer(ITIMER_REAL, &soon, NULL);
            say(limited ? "out of time" : "interrupted", transmit(way, ends[0], text, LONG, 0, NULL, 0));
            close(ends[0]);
            drain(ends[1]);
            close(ends[1]);
        }
    for (int kind = 0; kind < 3; kind++)
        for (int restarts = 0; restarts < 2; restarts++)
            for (int limited = 0; limited < 2; limited++)
                for (int way = 0; way < WAYS; way++) {
                    printf("kind %d restarts %d limited %d\n", kind, restarts, limited);
                    socketpair(AF_UNIX, kinds[kind], 0, ends);
                    long all = 0, size;
                    while ((size = transmit(way, ends[0], text, 20000, MSG_DONTWAIT, NULL, 0)) > 0)
                        all += size;
                    printf("    filled %ld\n", all);
                    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, limited ? &limit : &none, sizeof limit);
                    if (limited)
                        say("  in time", transmit(way, ends[0], text, 20000, 0, NULL, 0));
                    limit.tv_sec = 5;
                    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, limited ? &limit : &none, sizeof limit);
                    limit.tv_sec = 0;
                    handle(SIGALRM, restarts ? SA_RESTART : 0);
                    if (restarts && !limited)
                        pthread_create(&reader, NULL, read_slowly, &ends[1]);
                    setitimer(ITIMER_REAL, &soon, NULL);
                    say("  waited", transmit(way, ends[0], text, 20000, 0, NULL, 0));
                    printf("    %d\n", signals > 0 || (restarts && !limited));
                    setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
                    shutdown(ends[0], SHUT_WR);
                    if (restarts && !limited) {
                        if (kinds[kind] == SOCK_DGRAM)
                            shutdown(ends[1], SHUT_RD);
                        pthread_join(reader, NULL);
                    }
                    signals = 0;
                    close(ends[0]), close(ends[1]);
                }
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    if (argc < 2 || !getcwd(home, sizeof home))
        return 2;
    snprintf(self, sizeof self, "/proc/%d/", getpid());
    for (unsigned i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 11 + i / 256);
    handle(SIGPIPE, 0);
    switch (argv[1][0]) {
    case 'd': datagrams(); break;
    case 'l': local_datagrams(); break;
    case 's': streams(); break;
    case 'n': netlinks(); break;
    case 'p': bad_pointers(); break;
    case 'c': controls(); break;
    case 'm': several(); break;
    case 'w': waits(); break;
    default: return 2;
    }
    return 0;
}
