# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# What every Python attack finds: its arguments, and how tries are counted and told (attack.h).
KIND, GOAL, ROUNDS, FIRST, GOOD, EVIL, *MORE = sys.argv[1:]
ROUNDS, FIRST = int(ROUNDS), FIRST == "1"
PASSED, BLOCKED, ODD, ESCAPED = "passed", "blocked", "odd", "escaped"
REFUSED = {"EPERM", "EACCES", "ENOSYS", "EBUSY", "EOPNOTSUPP", "ENOTSUP", "ESRCH", "ENXIO"}
PLACE = 9  # the forbidden directory, opened before we were confined
libc.syscall.restype = ctypes.c_long

def of(word):
    "Judge what why() said: an errno is a denial, a result an escape."
    if isinstance(word, str) and word != "ok":
        return BLOCKED if word in REFUSED else ODD
    return ESCAPED

def content(fd, close=True):
    "Judge what a descriptor that was got gives to read."
    if isinstance(fd, str):
        return of(fd)
    try:
        return ESCAPED if b"secret" in os.pread(fd, 64, 0) else PASSED
    except OSError as error:
        return of(errno.errorcode[error.errno])
    finally:
        if close:
            os.close(fd)

def taken(name):
    "Judge what opening a name comes to."
    return content(why(os.open, name, os.O_RDONLY))

def worst(outcomes):
    outcomes = list(outcomes)
    for one in (ESCAPED, BLOCKED, PASSED):
        if one in outcomes:
            return one
    return ODD

def in_child(function, *arguments):
    "Make a try in a child: it says the outcome by its exit status, or is killed."
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            code = (PASSED, BLOCKED, ODD, ESCAPED).index(function(*arguments))
        except OSError as error:
            code = 1 if errno.errorcode.get(error.errno) in REFUSED else 2
        except BaseException:
            import traceback
            os.write(2, traceback.format_exc().encode())
            code = 2
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return BLOCKED if os.WTERMSIG(status) in (9, 31) else ODD
    return (PASSED, BLOCKED, ODD, ESCAPED)[os.WEXITSTATUS(status)]

def in_background(function, *arguments):
    "Run something in a child that ends with us, however soon that is."
    parent = os.getpid()
    if os.fork() == 0:
        libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() == parent:
            function(*arguments)
        os._exit(0)

def play_in_crowd(attempt, size):
    "Make the tries in many children at once; each ends at its first escape where one is enough."
    children = []
    for part in range(size):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            counts = dict.fromkeys((PASSED, BLOCKED, ODD, ESCAPED), 0)
            for number in range(part, ROUNDS, size):
                counts[attempt(number)] += 1
                if FIRST and counts[ESCAPED]:
                    break
            os.write(writer, struct.pack("4i", *counts.values()))
            os._exit(0)
        os.close(writer)
        children.append(reader)
    told = [struct.unpack("4i", os.read(reader, 16)) for reader in children]
    words = (PASSED, BLOCKED, ODD, ESCAPED)
    tell({word: sum(one[place] for one in told) for place, word in enumerate(words)})

def tell(counts):
    "Tell the tally, and end."
    sys.stderr.flush()
    print("tries", sum(counts.values()), *(part for pair in counts.items() for part in pair),
          flush=True)
    os._exit(0)

def play(attempt):
    "Make the tries and tell their count."
    counts = dict.fromkeys((PASSED, BLOCKED, ODD, ESCAPED), 0)
    tries = 0
    while tries < ROUNDS and not (FIRST and counts[ESCAPED]):
        counts[attempt(tries)] += 1
        tries += 1
    tell(counts)
