"""How a process becomes the resident server, and gives way to the next version of it."""

from __future__ import annotations

import gc
import os

from certexec.errors import RunError
from certexec.kernel.credentials import forbid_attach
from certexec.kernel.digest import stay_with_openssl
from certexec.kernel.procfs import in_initial_user_namespace, keep_view_as, settle_in
from certexec.run.layout import SYSTEM
from certexec.run.resident import REPLACED, RESIDENT, Resident
from certexec.run.server import STDERR, Settings, self_test
from certexec.run.server_socket import GIVEN, NOTE, SOCKET, inherited, is_ours, listen, note
from certexec.run.warm import VIEW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.layout import Layout


def stay(settings: Settings, layout: Layout = SYSTEM) -> int:
    """Be the resident server until told to end; returns the exit code.

    ``settings``: how the modules of a run are loaded.

    1. what the one who started it lives under is undone, as binfmt/server.h does it;
    2. modules, and a view of /proc that stays, under a number that children keep;
    3. the socket; a new version takes it over.

    Raises CertexecError.
    """
    if os.geteuid() != 0 or not in_initial_user_namespace():
        raise RunError("not-root", "the resident server is for the machine's root")
    # 1.
    forbid_attach()
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.umask(0o077)
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    if null > STDERR:
        os.close(null)
    # 2.
    self_test(settings)
    stay_with_openssl()
    import certexec.policy.landlock
    import certexec.run.landlock  # noqa: F401 - loaded where a policy asks for it

    settle_in()
    keep_view_as(VIEW)
    gc.collect()
    gc.freeze()
    # 3.
    version = os.readlink(layout.current)
    given = inherited(GIVEN)
    listener = listen() if given is None else given
    note(os.path.basename(version))
    if Resident(listener, layout, version).run() == REPLACED:
        os.dup2(listener.fileno(), GIVEN)
        os.set_inheritable(GIVEN, True)
        os.chdir("/")
        python, server = f"{layout.current}/python", f"{layout.current}/serve.py"
        os.execve(python, ["python", "-I", "-S", server, RESIDENT], {})  # noqa: S606
    os.unlink(NOTE)
    if is_ours():
        os.unlink(SOCKET)
    return 0
