"""The entry of the policy server: ``python -I -S serve.py``, started by the launcher.

With --resident it is the one that stays, started by root (certexec.run.stay).

The launcher has made this process the server's own: root's ids when the certificate is
set-user-ID, a session of its own, "/" as directory, an empty environment, /dev/null on 0 to 2 and
the socket to the launcher on 3. What a run needs is imported from beside this file and from nowhere
else, so that an upgrade cannot mix versions.
"""

import gc
import os
import sys
from marshal import loads

SOCKET = 3
"""The descriptor on which the launcher leaves its socket (binfmt/launch.c)."""
FAILED = 125
HERE = os.path.dirname(os.path.realpath(__file__))
TREE = f"{HERE}/lib"


def load(part: str) -> None:
    """Execute all modules of one part of the run path from one file (certexec.run.bundle).

    To find, open and unmarshal a hundred small files is a third of the time that the server needs
    to start. Without the file, or where another interpreter made it, modules are imported one by
    one, as those are that are in no bundle.
    """
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import MAGIC_NUMBER

    try:
        with open(f"{HERE}/bundle/{part}", "rb") as file:
            data = file.read()
    except OSError:
        return
    if not data.startswith(MAGIC_NUMBER):
        return
    found = loads(memoryview(data)[len(MAGIC_NUMBER) :])  # noqa: S302 - root's file, like this one
    # 1. the modules, all of them first: a package's own code may import what is in it
    for name, is_package, _ in found:
        stem = f"{TREE}/{name.replace('.', '/')}"
        module = sys.modules[name] = type(sys)(name)
        module.__file__ = f"{stem}/__init__.py" if is_package else f"{stem}.py"
        module.__package__ = name if is_package else name.rpartition(".")[0]
        module.__spec__ = ModuleSpec(name, None, is_package=is_package)
        if is_package:
            module.__path__ = [stem]
    # 2. their code, each after what it imports
    for name, _, code in found:
        module = sys.modules[name]
        exec(code, module.__dict__)  # noqa: S102 - as the import system does
        above, _, last = name.rpartition(".")
        if above:
            setattr(sys.modules[above], last, module)


def main() -> int:
    """Serve one execution; --self-test: only prove that all can be loaded; --resident: stay."""
    gc.disable()  # until something runs for long: start-up makes many objects and no garbage
    sys.path.insert(0, TREE)
    sys.dont_write_bytecode = True
    if sys.argv[1:] == ["--bundle"]:  # while a version is set up, by the interpreter it is for
        from certexec.run.bundle import make

        make(f"{HERE}/bundle")
        return 0
    load("start")
    from certexec.run.server import Settings, self_test, serve

    settings = Settings()
    settings.before_supervision = lambda: load("supervise")
    if sys.argv[1:] == ["--self-test"]:
        return self_test(settings)
    if sys.argv[1:] == ["--resident"]:
        from certexec.run.stay import stay

        return stay(settings)
    return serve(SOCKET, settings)


if __name__ == "__main__":
    try:
        code = main()
    except BaseException as problem:  # noqa: B036 - nothing may leave here but an exit code
        code = FAILED
        # for set-up, which asks whether it works; in a run 2 is /dev/null
        os.write(2, f"{type(problem).__name__}: {problem}\n".encode("utf-8", "replace"))
    # no interpreter shutdown: the program may be running already, and nothing needs flushing
    os._exit(code)
