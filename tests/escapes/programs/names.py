# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Ways to a forbidden file by other names, other calls, links, handles and magic links.

def proc_links(number):
    me = os.getpid()
    ways = [f"/proc/self/fd/{PLACE}/file", f"/proc/thread-self/fd/{PLACE}/file",
            f"/proc/{me}/fd/{PLACE}/file", f"/proc/self/task/{me}/fd/{PLACE}/file",
            f"/dev/fd/{PLACE}/file", f"/proc/self/root{EVIL}/file", f"/proc/{me}/root{EVIL}/file",
            f"/proc/self/cwd{EVIL}/file", f"{GOOD}/../evil/file", f"{GOOD}/./..//evil/./file",
            f"/proc/self/root/proc/self/root{EVIL}/file", f"/proc/{os.getppid()}/root{EVIL}/file"]
    return taken(ways[number % len(ways)])

def relative(number):
    "Names that begin at a descriptor or a directory that somebody else opened."
    os.fchdir(PLACE)
    ways = [lambda: os.open("file", 0), lambda: os.open("file", 0, dir_fd=PLACE),
            lambda: os.open("../evil/file", 0), lambda: os.open("./file", os.O_RDWR),
            lambda: os.open("/proc/self/cwd/file", 0), lambda: os.open("own", os.O_WRONLY),
            lambda: os.open("new", os.O_CREAT | os.O_WRONLY)]
    return content(why(ways[number % len(ways)]))

def how(flags, resolve):
    return ctypes.create_string_buffer(struct.pack("QQQ", flags, 0, resolve), 24)

def openat2(number):
    "RESOLVE_IN_ROOT and RESOLVE_BENEATH make absolute names relative to a descriptor."
    ways = [(PLACE, b"/file", 0x10), (PLACE, b"file", 0x8), (PLACE, b"../../../file", 0x10),
            (-100, EVIL.encode() + b"/file", 0), (-100, EVIL.encode() + b"/file", 0x4),
            (PLACE, b"file", 0x2)]
    dirfd, name, resolve = ways[number % len(ways)]
    return content(why(call, 437, dirfd, name, how(0, resolve), 24))

def reopened(number):
    "An O_PATH descriptor of a forbidden file is opened for reading, executed, linked."
    fd = int(MORE[0])
    ways = [lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDONLY),
            lambda: os.open(f"/dev/fd/{fd}", os.O_RDONLY),
            lambda: os.open(f"/proc/thread-self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK),
            lambda: call(437, fd, b"", how(0, 0), 24)]
    return content(why(ways[number % len(ways)]))

def link_by_descriptor(number):
    "A file is made without a name in a permitted place and linked into the forbidden one."
    fd = os.open(GOOD, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"planted")
    name = f"{EVIL}/planted".encode()
    if number % 2:
        done = why(call, 265, fd, b"", -100, name, 0x1000)
    else:
        done = why(call, 265, -100, f"/proc/self/fd/{fd}".encode(), -100, name, 0x400)
    os.close(fd)
    return of(done)

def hard_link(number):
    "A forbidden file gets a permitted name."
    ways = [(-100, f"{EVIL}/file".encode(), 0), (PLACE, b"file", 0),
            (-100, f"/proc/self/fd/{PLACE}/file".encode(), 0x400)]
    fd, name, flags = ways[number % len(ways)]
    made = f"{GOOD}/linked"
    done = why(call, 265, fd, name, -100, made.encode(), flags)
    if done != 0:
        return of(done)
    outcome = taken(made)
    os.unlink(made)
    return outcome

def exchange(number):
    "renameat2(RENAME_EXCHANGE): what goes one way comes the other way."
    if number == 0:
        open(f"{GOOD}/mine", "w").close()
    done = why(call, 316, -100, f"{GOOD}/mine".encode(), PLACE, b"own", 2)
    if done != 0:
        return of(done)
    outcome = taken(f"{GOOD}/mine")
    why(call, 316, -100, f"{GOOD}/mine".encode(), PLACE, b"own", 2)
    return outcome

def handle(number):
    "name_to_handle_at gives a number by which the file can be opened without a name."
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount = ctypes.c_int()
    done = why(call, 303, -100, f"{EVIL}/file".encode(), buffer, ctypes.byref(mount), 0)
    return of(done)

def open_handle(number):
    "The same, by somebody who may open by handles."
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount = ctypes.c_int()
    base = os.open(GOOD, os.O_RDONLY)
    try:
        call(303, PLACE, b"file", buffer, ctypes.byref(mount), 0)
        return content(why(call, 304, PLACE, buffer, 0))
    except OSError as error:
        return of(errno.errorcode[error.errno])
    finally:
        os.close(base)

def own_proc(number):
    "/proc/self of whoever opens: is it us?"
    name = ("/proc/self/status", "/proc/thread-self/status")[number % 2]
    fd = why(os.open, name, 0)
    if isinstance(fd, str):
        return of(fd)
    text = os.read(fd, 4096).decode()
    os.close(fd)
    pid = int(text.partition("\nTgid:")[2].split()[0])
    return BLOCKED if pid == os.getpid() else ESCAPED

def other_mount(number):
    "A child covers a permitted file with a forbidden one, in a mount table of its own."
    def cover():
        if libc.unshare(0x10000000 | 0x20000) != 0:
            os._exit(1)
        if libc.mount(f"{EVIL}/file".encode(), f"{GOOD}/file".encode(), None, 4096, None) != 0:
            os._exit(2)
        os.write(told[1], b"x")
        time.sleep(60)
        os._exit(0)
    global told
    told = os.pipe()
    pid = os.fork()
    if pid == 0:
        cover()
    os.close(told[1])
    ready = os.read(told[0], 1)
    os.close(told[0])
    if not ready:
        return of("EPERM" if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) else "ok")
    outcome = taken(f"/proc/{pid}/root{GOOD}/file")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return outcome

def own_namespace(number):
    "A child with a user namespace, a mount table or a root directory of its own."
    def child():
        if libc.unshare(0x10000000 | (0x20000, 0)[number % 2]) != 0:
            return BLOCKED
        if number % 3 == 0:
            return taken(f"{EVIL}/file")
        os.fchdir(PLACE)
        done = why(os.chroot, ".")
        return taken("/file") if done == "ok" else of(done)
    return in_child(child)

play(globals()[KIND])
