# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# At the supervisor: end it, stop it, slow it down, read it, starve it. Each attack needs its
# number, which a UNIX socket tells of who connected in our place.
ME = os.getpid()
OTHER = supervisor() if KIND not in ("starve", "killed", "domain", "answer_ourselves") else 0
assert OTHER != ME, "nobody supervises us"
ZEROS = b"\0" * 128

def signals(number):
    s, what = OTHER, (9, 19, 15, 24, 25, 31)[number % 6]
    ways = [lambda: os.kill(s, what), lambda: call(234, s, s, what), lambda: call(200, s, what),
            lambda: call(129, s, what, ZEROS), lambda: call(297, s, s, what, ZEROS),
            lambda: os.kill(-s, what), lambda: os.kill(-1, what) if ROUNDS < 0 else call(62, -s, 9)]
    return of(why(ways[number % len(ways)]))

def pidfds(number):
    "A pidfd by number, and the one of who connected in our place (SO_PEERPIDFD)."
    if number % 2:
        fd = why(call, 434, OTHER, 0)
    else:
        name = b"\0pidfd-%d" % ME
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(name)
            server.listen()
            client.connect(name)
            accepted, _ = server.accept()
            fd = why(accepted.getsockopt, socket.SOL_SOCKET, 77)
    if isinstance(fd, str):
        return of(fd)
    done = why(call, (424, 438)[number // 2 % 2], fd, 0, 0, 0)
    os.close(fd)
    return of(done)

def limits(number):
    "One signal of XCPU, one byte of memory, no descriptor: a limit is as good as a bullet."
    limit = struct.pack("QQ", 1, 1)
    return of(why(call, 302, OTHER, (0, 1, 7, 9, 13, 14)[number % 6], limit, 0))

def schedule(number):
    s, one = OTHER, struct.pack("i", 0)
    ways = [lambda: call(144, s, 5, one), lambda: call(203, s, 8, ZEROS),
            lambda: call(141, 0, s, 19), lambda: call(141, 2, 0, 19),
            lambda: call(251, 1, s, 0x6000), lambda: call(142, s, one),
            lambda: call(256, s, 8, ZEROS, ZEROS)]
    return of(why(ways[number % len(ways)]))

def trace(number):
    s = OTHER
    buffer = ctypes.create_string_buffer(64)
    local = struct.pack("QQ", ctypes.addressof(buffer), 8)
    remote = struct.pack("QQ", MAPPED, 8)
    ways = [lambda: call(101, 16, s, 0, 0), lambda: call(101, 0x4206, s, 0, 0),
            lambda: call(310, s, local, 1, remote, 1, 0),
            lambda: call(311, s, local, 1, remote, 1, 0)]
    return of(why(ways[number % len(ways)]))
# where the interpreter, which is the supervisor's too, is mapped
with open("/proc/self/maps") as maps:
    MAPPED = int(maps.readline().partition("-")[0], 16)

def files(number):
    "The supervisor's directory in /proc, by every name."
    s = OTHER
    names = ["mem", "maps", "environ", "fd", "fd/0", "task", "cwd", "root/etc/passwd", "exe",
             f"task/{s}/mem", "fdinfo", "ns/mnt"]
    bases = [f"/proc/{s}", f"/proc/self/../{s}", f"/proc/self/root/proc/{s}",
             f"/proc/thread-self/../../../{s}", f"/proc/{ME}/../{s}"]
    name = f"{bases[number % len(bases)]}/{names[number % len(names)]}"
    flags = os.O_RDWR if name.endswith("mem") else os.O_RDONLY
    fd = why(os.open, name, flags | os.O_NONBLOCK)
    if isinstance(fd, int):
        os.close(fd)
    return of(fd)

def asynchronous(number):
    "F_SETOWN and F_SETSIG: input that comes makes the kernel signal whomever we named."
    reader, writer = socket.socketpair()
    with reader, writer:
        for which in (number % 64 + 1, 9):
            done = why(fcntl.fcntl, reader, 10, which)
            fcntl.fcntl(reader, 15, struct.pack("ii", number % 2, OTHER))
            fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
            writer.send(b"x")
            reader.recv(1)
    return BLOCKED if why(os.stat, "/nowhere") == "ENOENT" and done == "EPERM" else ESCAPED

def unreadable(number):
    "Who is not dumpable cannot be read by a supervisor of the same uid."
    done = why(call, 157, 4, 0, 0, 0, 0)
    if libc.prctl(3, 0, 0, 0, 0) == 0:
        return ESCAPED
    return of(done)

def starve(number):
    "Calls that block hold descriptors of the supervisor: when it has none left, who judges?"
    def hold():
        while True:  # turned away for want of descriptors: once more
            why(os.open, f"{GOOD}/fifo", os.O_WRONLY)
            time.sleep(0.002)
    if number == 0:
        if not os.path.exists(f"{GOOD}/fifo"):
            os.mkfifo(f"{GOOD}/fifo")
        for _ in range(int(MORE[0])):
            in_background(hold)
    # names that need many descriptors to be looked up, and names that need few
    names = (f"/proc/self/fd/{PLACE}/file", f"{EVIL}/file", f"{GOOD}/../evil/file")
    return taken(names[number % 3])

def killed(number):
    "Somebody outside ends the supervisor; do we run on without one?"
    if number == 0:
        print("ready", flush=True)
        end = time.monotonic() + 5
        while why(os.stat, f"{GOOD}/nowhere") == "ENOENT" and time.monotonic() < end:
            time.sleep(0.01)
    fd = why(os.open, f"{EVIL}/file", os.O_RDONLY)
    return ODD if fd == "EPERM" else content(fd)  # EPERM: there still is one

def domain(number):
    "A Landlock domain of our own that would not bind whoever opens in our place."
    def child():
        libc.prctl(38, 1, 0, 0, 0)
        attributes = struct.pack("Q", 4)  # READ_FILE
        ruleset = call(444, attributes, 8, 0)
        done = why(call, 446, ruleset, 0)
        if done not in (0, "ok"):
            return of(done)
        return ESCAPED if isinstance(why(os.open, f"{GOOD}/file", 0), int) else PASSED
    return in_child(child)

def answer_ourselves(number):
    "A second filter with a listener of its own: its owner would answer in the supervisor's place."
    def child():
        libc.prctl(38, 1, 0, 0, 0)
        # load nr; openat: notify; else allow
        program = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 257, 6, 0, 0, 0x7FC00000,
                              6, 0, 0, 0x7FFF0000)
        buffer = ctypes.create_string_buffer(program)
        header = struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer))
        return of(why(call, 317, 1, 8, header))
    return in_child(child)

play(globals()[KIND])
