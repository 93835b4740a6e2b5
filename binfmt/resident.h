/* Step 4, first: a resident policy server is asked, where there is one. Part of launch.c.
 *
 * Nothing is believed but what root's process says (SO_PEERCRED), and until its REPLY has come
 * nothing is lost: whatever is not as it must be (no server, another one's, a dead, slow or foreign
 * one, a version that speaks otherwise) only means that a server of our own is started. It says at
 * once that it is at work; from then on it may take its time, and its end is seen at the socket. */
#ifndef RESIDENT_SOCKET
#define RESIDENT_SOCKET "/run/certexec/server.sock"
#endif
enum { RESIDENT_PATIENCE = 1000 }; /* milliseconds; a busy machine answers in a few */

static int is_at_work(s32 channel) {
    struct { u16 family; char path[sizeof RESIDENT_SOCKET]; } address = { AF_UNIX, RESIDENT_SOCKET };
    struct { s32 pid; u32 uid, gid; } peer = { 0, ~0U, ~0U };
    struct { s32 fd; u16 events, seen; } wait = { channel, POLLIN, 0 };
    struct ready ready = { 0, 0 };
    u32 size = sizeof peer;
    /* The socket does not block: a crowd that waits there must not keep us. */
    if (sys(SYS_connect, channel, &address, sizeof address) < 0
        || sys(SYS_getsockopt, channel, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != 0
        || say_hello() < 0 || sys(SYS_poll, &wait, 1, RESIDENT_PATIENCE) != 1
        || take_packet(&ready, sizeof ready, 0) != sizeof ready || ready.magic != READY_MAGIC
        || sys(SYS_fcntl, channel, F_SETFL, 0) < 0)
        return 0;
    sys(SYS_prctl, PR_SET_PTRACER, ready.pid); /* for Yama, where descendants of it count, too */
    return 1;
}

/* Gives the length of its answer, 0 for none; then the certificate is still ours to pass on. */
static u64 ask_resident(struct reply *reply) {
    s32 channel = (s32)sys(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK);
    long length = 0;
    self.channel = channel;
    if (channel > 2 && is_at_work(channel))
        length = take_packet(reply, sizeof *reply, &self.program);
    if (length > 0) {
        sys(SYS_close, self.certificate);
        return (u64)length;
    }
    if (channel >= 0)
        sys(SYS_close, channel);
    return 0;
}
