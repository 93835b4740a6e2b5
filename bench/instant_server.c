/* A policy server without judgement: answers every launch with the plan and the program that lie
 * beside it. What is left of a launch with it is mechanism: binfmt_misc, launcher, execveat. */
#include "plan.h"

#ifndef BESIDE
#error "BESIDE is the directory of plan and program"
#endif
enum { CHUNK = 65536, CHANNEL = 3 };

static void send_packet(const void *data, u64 length, int fd) {
    struct rights rights = { 20, SOL_SOCKET, SCM_RIGHTS, fd, 0 };
    struct piece piece = { data, length };
    struct message message = { .pieces = &piece, .piece_count = 1, .control = &rights,
                               .control_length = fd < 0 ? 0 : 24 };
    if (sys(SYS_sendmsg, CHANNEL, &message, MSG_NOSIGNAL) < 0)
        sys(SYS_exit_group, 1);
}

__attribute__((force_align_arg_pointer, noreturn)) void _start(void) {
    static u8 plan[CHUNK];
    struct hello hello;
    struct rights rights;
    struct piece piece = { &hello, sizeof hello };
    struct message message = { .pieces = &piece, .piece_count = 1, .control = &rights,
                               .control_length = sizeof rights };
    sys(SYS_recvmsg, CHANNEL, &message, MSG_CMSG_CLOEXEC);
    long file = sys(SYS_openat, AT_FDCWD, BESIDE "/plan", O_CLOEXEC);
    long length = sys(SYS_pread64, file, plan, sizeof plan, 0);
    long program = sys(SYS_openat, AT_FDCWD, BESIDE "/program", O_CLOEXEC);
    if (length <= 0 || program < 0)
        sys(SYS_exit_group, 1);
    struct reply reply = { .magic = REPLY_MAGIC, .version = PROTOCOL_VERSION, .kind = REPLY_PLAN,
                           .length = (u32)length };
    send_packet(&reply, REPLY_HEAD, (int)program);
    send_packet(plan, (u64)length, -1);
    for (;;)
        sys(SYS_exit_group, 0);
}
