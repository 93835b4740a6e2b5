# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Single calls of this program are made as root; nothing else may come of that.
import threading


def read_roots(number):
    "What lies open to root alone, right after a call that was made as root."
    if number % 3 == 0:
        why(os.stat, f"{GOOD}/roots")
    name = (f"{EVIL}/roots", f"{GOOD}/../evil/roots", f"/proc/self/fd/{PLACE}/roots")[number % 3]
    return taken(name)

def execute(number):
    "Who may be given root's calls executes nothing: it could be traced then."
    pid = os.fork()
    if pid == 0:
        why(os.stat, f"{GOOD}/roots")
        done = (lambda: why(os.execv, f"{GOOD}/prog", ["prog"]),
                lambda: why(call, 322, -100, f"{GOOD}/prog".encode(), 0, 0, 0),
                lambda: why(os.execv, "/proc/self/exe", ["python", "-c", ""]))[number % 3]()
        os._exit(43 if done in REFUSED else 44)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return BLOCKED if os.WTERMSIG(status) == 9 else ODD
    return {43: BLOCKED, 44: ODD}.get(os.WEXITSTATUS(status), ESCAPED)

def as_thread(number):
    "This thread has given its uid up, the others have not."
    return taken(f"{EVIL}/roots")

def give_up_and_play():
    ids = int(MORE[0])
    call(117, ids, ids, ids)  # this thread's alone
    play(as_thread)

if KIND == "as_thread":
    threading.Thread(target=give_up_and_play).start()
    while True:  # the thread that the process is called after is root's, and reads
        why(os.stat, f"{EVIL}/roots")
        time.sleep(0.0005)
play(globals()[KIND])
