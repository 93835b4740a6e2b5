# ruff: noqa: F821, E731 - a piece of a program: stage and common.py stand before it
# Trees that a policy leaves to the kernel's Landlock: a forbidden file by other names and ways.

def hard_link(number):
    made = f"{GOOD}/linked"
    done = why(os.link, f"{EVIL}/file", made)
    if done != "ok":
        return BLOCKED if done == "EXDEV" else of(done)
    try:
        return taken(made)
    finally:
        why(os.unlink, made)

def renamed(number):
    made = f"{GOOD}/moved"
    done = why(os.rename, f"{EVIL}/file", made)
    if done != "ok":
        return BLOCKED if done == "EXDEV" else of(done)
    outcome = taken(made)
    why(os.rename, made, f"{EVIL}/file")
    return outcome

def symbolic_link(number):
    made = f"{GOOD}/leads"
    why(os.unlink, made)
    why(os.symlink, f"{EVIL}/file", made)
    return taken(made)

def mounted(number):
    "The forbidden directory over a permitted one, in a user and a mount namespace of its own."
    def child():
        for flags in (0x10000000, 0x20000):  # CLONE_NEWUSER, CLONE_NEWNS
            done = why(call, 272, flags)
            if done not in (0, "ok"):
                return of(done)
        done = why(call, 165, EVIL.encode(), GOOD.encode(), 0, 0x1000, 0)  # MS_BIND
        return taken(f"{GOOD}/file") if done in (0, "ok") else of(done)
    return in_child(child)

def by_name(number):
    names = (f"{EVIL}/file", f"/proc/self/root{EVIL}/file", f"{GOOD}/../evil/file",
             f"/proc/self/fd/{PLACE}/file", f"/proc/thread-self/cwd/..{EVIL}/file")
    return taken(names[number % len(names)])

def by_descriptor(number):
    return content(why(os.open, "file", os.O_RDONLY, dir_fd=PLACE))

WAYS = (by_name, by_descriptor, hard_link, renamed, symbolic_link, mounted)

def trees(number):
    return WAYS[number % len(WAYS)](number // len(WAYS))

play(globals()[KIND])
