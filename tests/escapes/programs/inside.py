# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Certificates that are executed inside: what runs gets what all policies permit, and is the one
# that was judged.

def execute(name, *arguments):
    try:
        pid = os.posix_spawn(name, [name, *arguments], {}, file_actions=QUIET)
    except OSError as error:
        return of(errno.errorcode[error.errno])
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return BLOCKED if os.WTERMSIG(status) in (9, 31) else ODD
    return {0: PASSED, 42: ESCAPED, 43: BLOCKED, 126: BLOCKED}.get(os.WEXITSTATUS(status), ODD)

NULL = os.open("/dev/null", os.O_RDWR)
QUIET = [(os.POSIX_SPAWN_DUP2, NULL, 2)]

def wider(number):
    "Execute a certificate whose policy permits more, and let it play."
    os.execv(MORE[0], ["children", "-", "-", *sys.argv[3:7]])

def exchange(first, second):
    while True:
        libc.renameat2(-100, first, -100, second, 2)

def exchanged(number):
    "A link leads now to the certificate that may be executed, now to another."
    if number == 0:
        for name, target in (("link0", MORE[0]), ("link1", MORE[1])):
            if os.path.lexists(f"{GOOD}/{name}"):
                os.unlink(f"{GOOD}/{name}")
            os.symlink(target, f"{GOOD}/{name}")
        in_background(exchange, *(f"{GOOD}/link{n}".encode() for n in (0, 1)))
    return execute(f"{GOOD}/link{number % 2}", "read", f"{GOOD}/file")

def renamed_over(number):
    "Another certificate takes the name of the one that a rule names."
    if number == 0:
        with open(MORE[1], "rb") as file:
            data = file.read()
        for count in range(2):
            with open(f"{MORE[0]}.{count}", "wb") as file:
                file.write(data)
            os.chmod(f"{MORE[0]}.{count}", 0o755)
        os.rename(f"{MORE[0]}.0", MORE[0])
    if number == 1:
        os.rename(f"{MORE[0]}.1", MORE[0])
    return execute(MORE[0], "read", f"{GOOD}/file")

play(globals()[KIND])
