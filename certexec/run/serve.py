"""The entry of the policy server: ``python -I -S serve.py``, started by the launcher.

The launcher has made this process the server's own: root's ids when the certificate is
set-user-ID, a session of its own, "/" as directory, an empty environment, /dev/null on 0 to 2 and
the socket to the launcher on 3. Everything that may be needed is imported before the first byte
is read, from beside this file and from nowhere else, so that an upgrade cannot mix versions.
"""

import gc
import os
import sys

SOCKET = 3
"""The descriptor on which the launcher leaves its socket (binfmt/launch.c)."""
FAILED = 125
TREE = os.path.dirname(os.path.realpath(__file__)) + "/lib"


def main() -> int:
    """Serve one execution, or with --self-test only prove that everything can be loaded."""
    gc.disable()  # until something runs for long: start-up makes many objects and no garbage
    sys.path.insert(0, TREE)
    sys.dont_write_bytecode = True
    from certexec.run.server import Settings, self_test, serve

    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    return serve(SOCKET, Settings())


if __name__ == "__main__":
    try:
        code = main()
    except BaseException as problem:  # noqa: B036 - nothing may leave here but an exit code
        code = FAILED
        # for set-up, which asks whether it works; in a run 2 is /dev/null
        os.write(2, f"{type(problem).__name__}: {problem}\n".encode("utf-8", "replace"))
    # no interpreter shutdown: the program may be running already, and nothing needs flushing
    os._exit(code)
