# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# A right is lost for good: by a line "after", by giving adoption up, by "certexec drop". Is it?
import threading

ADOPT = 0x43584144

def run(*argv):
    "Execute a program in a child, without a copy of us in between."
    pid = os.posix_spawn(argv[0], argv, os.environ)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return BLOCKED if os.WTERMSIG(status) in (9, 31) else ODD
    return {0: PASSED, 42: ESCAPED, 43: BLOCKED, 126: BLOCKED}.get(os.WEXITSTATUS(status), ODD)

def executed(*argv):
    try:
        return run(*argv)
    except OSError as error:
        return of(errno.errorcode[error.errno])

def in_thread(function):
    got = []
    thread = threading.Thread(target=lambda: got.append(function()))
    thread.start()
    thread.join()
    return got[0]

def cloned(flags, function):
    "A child by clone(2) itself, in a namespace of its own where that is permitted."
    reader, writer = os.pipe()
    pid = why(call, 56, flags | 17, 0, 0, 0, 0)
    if pid == 0:
        os.write(writer, function().encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 16).decode() if isinstance(pid, int) else ""
    os.close(reader)
    if isinstance(pid, int):
        why(os.waitpid, pid, 0x40000000)
        return said or BLOCKED
    return of(pid)

def every_way(number, function, *argv):
    "By itself, a child, a thread, a child by flags, and by executing."
    ways = (function, lambda: in_child(function), lambda: in_thread(function),
            lambda: cloned((0, 0x400, 0x8000, 0x10000000)[number // 5 % 4], function),
            lambda: executed(*argv))
    return ways[number % len(ways)]()

def after(number):
    "Since getpgrp was called nothing may be opened any more."
    if number == 0:
        os.getpgrp()
    return every_way(number, lambda: taken(f"{EVIL}/file"), MORE[0], "read", f"{EVIL}/file")

def adopt(number):
    "Who has given adoption up gets no other policy."
    if number == 0:
        assert libc.prctl(ADOPT, None, 0, 0, 0) == 0
    def again():
        return of(why(call, 157, ADOPT, MORE[1].encode(), 0, 0, 0))
    return every_way(number, again, MORE[0], "adopt", MORE[1])

def drop(number):
    "A call that was dropped; also in what a set-user-ID file, or a certificate, runs."
    more = (lambda: executed(MORE[0], "ask"), lambda: executed(MORE[2], "ask"))
    if number % 7 < 2:
        return more[number % 7]()
    return every_way(number // 2, lambda: of(why(call, 121, 0)), MORE[0], "ask")

def drop_first():
    "Become ourselves again, without getpgid."
    sys.path.insert(0, MORE[1])
    from certexec.run.drop import drop_and_execute
    os.environ["DROPPED"] = "1"
    drop_and_execute(["getpgid"], 1, MORE[3], sys.orig_argv[1:])

with open("/proc/self/status") as status:
    CONFINED = "\nSeccomp:\t0\n" not in status.read()
if KIND == "drop" and CONFINED and "DROPPED" not in os.environ:
    drop_first()
play(globals()[KIND])
