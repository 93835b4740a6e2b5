# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Programs that must not be executed, and what programs may do to others of their tree.

def executed(*ways):
    "Try to execute in a child; what runs ends with 0 or 42."
    pid = os.fork()
    if pid == 0:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1)
        try:
            ways[0]()
        except OSError as error:
            os._exit(43 if errno.errorcode[error.errno] in REFUSED else 44)
        os._exit(44)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return BLOCKED if os.WTERMSIG(status) == 9 else ODD
    return {43: BLOCKED, 44: ODD}.get(os.WEXITSTATUS(status), ESCAPED)

def at(fd, name, flags=0x1000):
    argv = (ctypes.c_char_p * 2)(b"prog", None)
    call(322, fd, name, argv, None, flags)

def memory_file(number):
    "A program in a memory file, executed by descriptor or by magic link."
    fd = os.memfd_create("prog")
    with open("/bin/true", "rb") as file:
        os.write(fd, file.read())
    outcome = executed((lambda: at(fd, b""), lambda: os.execv(f"/proc/self/fd/{fd}", ["prog"]),
                        lambda: os.execv(f"/dev/fd/{fd}", ["prog"]),
                        lambda: at(-100, f"/proc/thread-self/fd/{fd}".encode(), 0))[number % 4])
    os.close(fd)
    return outcome

def by_other_names(number):
    "A forbidden program by descriptor, by links in /proc, by the loader and as an interpreter."
    if number == 0:
        with open(f"{GOOD}/script", "w") as file:
            file.write(f"#!{EVIL}/prog\n")
        os.chmod(f"{GOOD}/script", 0o755)
    ways = (lambda: at(PLACE, b"prog", 0), lambda: os.execv(f"/proc/self/fd/{PLACE}/prog", ["x"]),
            lambda: os.execv(f"{GOOD}/../evil/prog", ["x"]),
            lambda: os.execv("/lib64/ld-linux-x86-64.so.2", ["x", f"{EVIL}/prog"]),
            lambda: os.execv(f"{GOOD}/script", ["x"]),
            lambda: os.execv(f"/proc/self/root{EVIL}/prog", ["x"]))
    return executed(ways[number % len(ways)])

def set_user_id(number):
    "A set-user-ID file inside a tree that holds a grant."
    return executed(lambda: os.execv(MORE[0], ["x"]))

def preload(number):
    "Whoever runs us gave us a variable for each try. Had LD_PRELOAD been heeded, we would not run."
    return ESCAPED if variable(number).encode() in os.environb else BLOCKED

def memory_of_other(number):
    "A program under another policy has read what we must not: take it out of its memory."
    global reader, where
    if number == 0:
        out = os.pipe()
        reader = os.fork()
        if reader == 0:
            os.dup2(out[1], 1)
            os.execv(MORE[0], ["reader", f"{EVIL}/file"])
        os.close(out[1])
        where = int(os.read(out[0], 64))
    buffer = ctypes.create_string_buffer(16)
    local = struct.pack("QQ", ctypes.addressof(buffer), 8)
    remote = struct.pack("QQ", where, 8)
    ways = (lambda: call(310, reader, local, 1, remote, 1, 0),
            lambda: call(311, reader, local, 1, remote, 1, 0),
            lambda: call(101, 0x4206, reader, 0, 0), lambda: call(101, 16, reader, 0, 0))
    outcome = of(why(ways[number % 4]))
    if number == ROUNDS - 1 or outcome == ESCAPED:
        os.kill(reader, 9)
    return outcome

def become(number):
    "Execute a program with a policy of its own, and let it play."
    os.execv(MORE[0], ["children", "-", "-", *sys.argv[3:7]])

play(globals()[KIND])
