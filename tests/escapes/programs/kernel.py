# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Numbers, flags and interfaces of the kernel that a filter could overlook.
import mmap

FAR = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40)  # MAP_32BIT
LOW = ctypes.addressof(ctypes.c_char.from_buffer(FAR))
CODE = mmap.mmap(-1, 4096, prot=7)
CODE_AT = ctypes.addressof(ctypes.c_char.from_buffer(CODE))

def machine_code(code):
    CODE[: len(code)] = code
    return ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long,
                            ctypes.c_long)(CODE_AT)

def int80(number):
    "The 32-bit table: 5 is open there, and fstat here."
    # push rbx; mov rax,rdi; mov rbx,rsi; mov rcx,rdx; xor edx,edx; int 0x80; pop rbx; ret
    function = machine_code(bytes.fromhex("53 4889f8 4889f3 4889d1 31d2 cd80 5b c3"))
    name = f"{EVIL}/file".encode() + b"\0"
    FAR[: len(name)] = name
    def child():
        fd = function(5, LOW, 0, 0)
        return content(fd) if fd >= 0 else of(errno.errorcode.get(-fd, "?"))
    return in_child(child)

def x32(number):
    "Numbers with the bit of x32: no filter of ours names them, so none may come to the kernel."
    def child():
        done = why(call, 0x40000000 | (257, 2, 59, 520)[number % 4], -100, b"/etc/passwd", 0, 0)
        return ESCAPED if done == "ENOSYS" or not isinstance(done, str) else of(done)
    return in_child(child)

def io_uring(number):
    "Opens that pass no filter."
    fd = why(call, 425, 4, ctypes.create_string_buffer(120))
    if isinstance(fd, int):
        os.close(fd)
    return of(fd)

def children(number):
    "Children by every flag: whoever is not known to the supervisor must get nothing."
    flags = (0, 0x800000, 0x8000, 0x4000, 0x200, 0x400, 0x100, 0x2000, 0x8000 | 0x800000,
             0x200 | 0x400, 0x80000000, 0x40000)[number % 12]
    if flags & 0x100:
        return in_child(taken, f"{EVIL}/file")  # one that shares our stack needs more than Python
    reader, writer = os.pipe()
    pid = why(call, 56, flags | 17, 0, 0, 0, 0)
    if pid == 0:
        os.write(writer, taken(f"{EVIL}/file").encode())
        os._exit(0)
    os.close(writer)
    said = b""
    if isinstance(pid, int):
        said = os.read(reader, 16)
        why(os.waitpid, pid, 0x40000000)
    os.close(reader)
    return said.decode() or (of(pid) if isinstance(pid, str) else BLOCKED)

def untraced(number):
    "CLONE_UNTRACED: a child that no tracer is told of."
    pid = why(call, 56, 0x800000 | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    if isinstance(pid, int):
        os.waitpid(pid, 0)
    return of(pid)

def clone3(number):
    "The flags of clone3 lie in memory: a new user namespace that the policy does not permit."
    arguments = struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0)
    pid = why(call, 435, arguments, 64)
    if pid == 0:
        os._exit(0)
    if isinstance(pid, int):
        os.waitpid(pid, 0)
    return of(pid)

def gate(number):
    "The launch gate: the sixth argument that opens it is a secret number."
    words = [0, -1, 1, 0x6E6F6E632D636E6F, 0x2D636E6F6E6F6E63, os.getpid(), 0x2D636E6F, LOW]
    nonce = words[number] if number < len(words) else int.from_bytes(os.urandom(8), "little") >> 1
    return of(why(call, 179 + -64, 0, 0, 0, 0, 0, nonce) if GOAL == "getgroups" else
              why(call, 125, struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24),
                  0, 0, 0, nonce))

def gate_again(number):
    "What the launcher did, once more: execveat of an open file, with an empty name."
    def child():
        fd = os.open(f"{GOOD}/prog", os.O_PATH)
        where = (fd, 3, 4, 5, 6)[number % 5]
        if where != fd:
            os.dup2(fd, where)
        argv = (ctypes.c_char_p * 2)(b"prog", None)
        call(322, where, b"", argv, 0, 0x1000, (0, -1, number)[number % 3])
    pid = os.fork()
    if pid == 0:
        done = why(child)
        os._exit(43 if done in REFUSED else 44)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {0: ESCAPED, 43: BLOCKED}.get(code, ODD)

def owner(number):
    "What comes on a descriptor ends a process outside, which no rule lets us signal."
    victim, (one, other) = int(MORE[0]), socket.socketpair()
    with one, other:
        if number % 8 > 3:
            why(fcntl.fcntl, one, 10, 15)  # F_SETSIG
        name = (lambda: fcntl.fcntl(one, 8, victim),
                lambda: fcntl.fcntl(one, 15, struct.pack("ii", 1, victim)),
                lambda: fcntl.ioctl(one, 0x8901, struct.pack("i", victim)),
                lambda: fcntl.ioctl(one, 0x8902, struct.pack("i", victim)))[number % 4]
        done = why(name)
        if isinstance(done, str):
            return of(done)
        fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        other.send(b"x")
        return ESCAPED if os.read(7, 1) == b"" else ODD  # its end of the pipe is closed

def settings(number):
    "In namespaces of our own: the settings of the machine's, by who opens in our place."
    def child():
        if why(call, 272, 0x08000000 | 0x40000000) != 0:
            return ODD
        name = ("kernel/shmmni", "kernel/sem", "net/ipv4/conf", "kernel/ostype")[number % 4]
        return of(why(os.open, f"/proc/sys/{name}", number % 4 != 2 and os.O_WRONLY))
    return in_child(child)

play(globals()[KIND])
