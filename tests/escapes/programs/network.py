# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Addresses that are written in other ways, and descriptors that travel.
PORTS = [int(word) for word in MORE[:2]]
FORBIDDEN = ("127.0.0.1", PORTS[1]) if len(PORTS) == 2 else None

def reached(client):
    try:
        return ESCAPED if client.getpeername()[1] == PORTS[1] else PASSED
    except OSError:
        return BLOCKED
    finally:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

def mapped(number):
    "An IPv4 address inside an IPv6 one."
    with socket.socket(socket.AF_INET6) as client:
        done = why(client.connect, ("::ffff:127.0.0.1", PORTS[1]))
        return reached(client) if done == "ok" else of(done)

def unspecified(number):
    "Connect where that is permitted, dissolve it with AF_UNSPEC, connect elsewhere."
    with socket.socket(socket.AF_INET, (socket.SOCK_STREAM, socket.SOCK_DGRAM)[number % 2]) as one:
        why(one.connect, ("127.0.0.1", PORTS[0]))
        why(call, 42, one.fileno(), struct.pack("=H14x", 0), 16)
        address = struct.pack("=HH4s8x", (2, 0)[number // 2 % 2], socket.htons(PORTS[1]),
                              socket.inet_aton("127.0.0.1"))
        done = why(call, 42, one.fileno(), address, 16)
        return reached(one) if done in (0, "ok") else of(done)

def sends_unspecified(number):
    "udp_sendmsg takes an address without a family for one of its own."
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(0.2)
        address = struct.pack("=HH4s8x", 0, socket.htons(PORTS[1]), socket.inet_aton("127.0.0.1"))
        done = why(call, 44, one.fileno(), b"hello", 5, 0, address, 16)
        if done != 5:
            return of(done)
        return ESCAPED if why(one.recv, 9) == b"secret" else PASSED

def own_descriptors(number):
    "Numbers that are none here, but are some of the supervisor's."
    one, other = socket.socketpair()
    with one, other:
        own = {int(name) for name in os.listdir("/proc/self/fd")}
        fd = [fd for fd in range(40) if fd not in own][number % 30]
        done = why(socket.send_fds, one, [b"x"], [fd])
        return ESCAPED if done == 1 else BLOCKED if done == "EBADF" else of(done)

def told(*control):
    "Whom the receiver of a message takes for its sender: the uid."
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        done = why(one.sendmsg, [b"x"], control)
        if done != 1:
            return of(done)
        for _, kind, data in other.recvmsg(9, 99)[1]:
            if kind == socket.SCM_CREDENTIALS:
                return ESCAPED if struct.unpack("3i", data)[1] == 0 else BLOCKED
    return ODD

def claimed(number):
    return told((socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", os.getpid(), 0, 0)))

def untold(number):
    return told()

def passed(number):
    "A forbidden directory comes through a socket, from another process of the tree."
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            socket.send_fds(theirs, [b"x"], [PLACE])
            os._exit(0)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(pid, 0)
        outcome = content(why(os.open, "file", os.O_RDONLY, dir_fd=fds[0]))
        os.close(fds[0])
        return outcome

def routed(number):
    "A routing header names the first hop: what goes to a permitted address comes to that one."
    hop = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    header = bytes([0, 2, 4, 0, 0, 0, 0, 0]) + hop
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        if number % 2:
            return of(why(one.setsockopt, 0, 4, b"\1\1\1\1"))  # IP_OPTIONS, to the same end
        done = why(one.setsockopt, 41, 57, header)
        return of(done) if done != "ok" else of(why(one.connect, ("::1", PORTS[0])))

play(globals()[KIND])
