/* Starts launchers as `certexec run` does, from a process that is small and quick to copy.
 *
 * usage: starter LAUNCHER CERTIFICATE. Descriptor 3 is a SOCK_SEQPACKET socket: for each packet
 * that comes, a child of our parent makes the socket pair of a launch, opens the certificate, sends
 * its pid with both descriptors (or none and an errno), and becomes the launcher. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CONTROL = 3 };

static void send_two(const int report[2], const int fds[2]) {
    union { struct cmsghdr head; char room[CMSG_SPACE(2 * sizeof(int))]; } control = { 0 };
    struct iovec piece = { (void *)report, 2 * sizeof(int) };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
    if (report[1] == 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(&control.head), fds, 2 * sizeof(int));
    }
    if (sendmsg(CONTROL, &message, MSG_NOSIGNAL) < 0)
        _exit(125);
}

static void launch(char *launcher, char *certificate) {
    int pair[2], fds[2], report[2] = { getpid(), 0 };
    char number[12];
    fds[1] = open(certificate, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fds[1] < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        report[1] = errno;
    fds[0] = pair[1];
    send_two(report, fds);
    if (report[1] != 0)
        _exit(125);
    close(CONTROL);
    close(fds[0]);
    close(fds[1]);
    fcntl(pair[0], F_SETFD, 0);
    snprintf(number, sizeof number, "%d", pair[0]);
    char *argv[] = { launcher, "--run", number, certificate, NULL }, *none[] = { NULL };
    execve(launcher, argv, none);
    _exit(125);
}

int main(int argc, char **argv) {
    char packet[8];
    if (argc != 3)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(CONTROL, packet, sizeof packet) > 0) {
        long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (child == 0)
            launch(argv[1], argv[2]);
        if (child < 0)
            return 1;
    }
    return 0;
}
