"""The kernel's handler for certificates: registered now, at the next boot, and the right one.

Now: on binfmt_misc itself, mounted where it is not. At the next boot: by systemd-binfmt, from an
entry of binfmt.d(5). The right one: flag F makes the kernel keep the launcher that was there when
the handler was registered, so after an upgrade it must be registered again.
"""

from __future__ import annotations

import os

from certexec.errors import KernelError, RunError
from certexec.kernel import binfmt
from certexec.kernel.libc import syscall
from certexec.kernel.ownership import check_chain, root_owners
from certexec.run import deploy, probe, server_state, units
from certexec.run.layout import ENTRY_FILE, Layout

_SUCCESSOR = f"{binfmt.NAME}-next"
"""The second name under which a handler stands while the first is registered again."""
_ENTRY_HEAD = """\
# Certificates of certexec (binfmt.d(5)); "certexec setup" writes this file.
# P: argv[0] as typed, O: the certificate as an open file, C: its set-user-ID bit counts,
# F: the launcher is opened when this is registered.
"""
_PTRACE = 101
_PTRACE_TRACEME = 0
_MFD_EXEC = 0x10
_SIGKILL = 9
_NO_ANSWER = 1


def entry_text(layout: Layout) -> str:
    """Return the content of the entry for systemd-binfmt."""
    return f"{_ENTRY_HEAD}{binfmt.registration(layout.launcher)}\n"


def _exec_probe() -> None:
    """In a child: be traced, and execute a file that is a certificate by its first bytes only."""
    try:
        syscall(_PTRACE, _PTRACE_TRACEME, 0, 0, 0)
        try:
            fd = os.memfd_create("certexec-probe", _MFD_EXEC)
        except OSError:
            fd = os.memfd_create("certexec-probe", 0)  # before Linux 6.3 there was no flag
        os.write(fd, binfmt.MAGIC)
        os.execve(fd, ["certexec-probe"], {})  # noqa: S606
    finally:
        os._exit(_NO_ANSWER)


def started_launcher() -> os.stat_result | None:
    """Return the file that the kernel really starts for a certificate; None: cannot tell.

    A child executes eight bytes of magic under ptrace. At the exec stop /proc/PID/exe is the
    launcher that the handler holds, whatever stands at its path by now; the child is killed there,
    before the launcher's first instruction.
    """
    try:
        pid = os.fork()
    except OSError as error:
        raise RunError("internal", f"cannot start a child: {error.strerror}") from None
    if pid == 0:
        _exec_probe()
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        return None
    try:
        return os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    finally:
        os.kill(pid, _SIGKILL)
        os.waitpid(pid, 0)


def is_fresh(layout: Layout) -> bool | None:
    """Tell whether the handler starts the installed launcher; None: cannot tell."""
    started = started_launcher()
    if started is None:
        return None
    try:
        return os.path.samestat(started, os.stat(layout.launcher))
    except OSError:
        return False


def _register(layout: Layout) -> None:
    """Register the handler, or replace it without a moment in which there is none.

    A name can be taken once only, and the kernel asks the newest handler first: so the new one
    first stands beside the old one under a second name.
    """
    binfmt.unregister(_SUCCESSOR)
    if binfmt.read_entry() is not None:
        binfmt.register(layout.launcher, _SUCCESSOR)
        binfmt.unregister()
    binfmt.register(layout.launcher)
    binfmt.unregister(_SUCCESSOR)


def activate(layout: Layout, report: deploy.Report, again: bool = False) -> None:
    """Make the kernel start the installed launcher for certificates, from now on.

    ``again``: register even if all looks right. Raises KernelError, TrustError.
    """
    os.close(check_chain(os.path.dirname(layout.launcher), root_owners()))
    if binfmt.mount():
        report.changes.append(f'mounted binfmt_misc on "{binfmt.MOUNT_POINT}"')
        deploy.note_created(layout, f"mount {deploy.boot_id()}")
    entry = binfmt.read_entry()
    if again or entry is None or entry.problems(layout.launcher) or not is_fresh(layout):
        _register(layout)
        what = "registered" if entry is None else "registered again"
        report.changes.append(f'{what} the handler "{binfmt.NAME}"')
    if not binfmt.switched_on():
        report.notes.append(
            "binfmt_misc is switched off as a whole: "
            f'"echo 1 > {binfmt.MOUNT_POINT}/status" switches it on'
        )
    for other in binfmt.conflicts():
        report.notes.append(
            f'the handler "{other.name}" ("{other.interpreter}") may take certificates too'
        )


def deactivate(report: deploy.Report) -> None:
    """Remove the handler from the running kernel. Raises KernelError."""
    if not binfmt.mounted():
        return
    for name in (_SUCCESSOR, binfmt.NAME):
        if binfmt.unregister(name):
            report.changes.append(f'removed the handler "{name}"')


def unmount(layout: Layout, report: deploy.Report) -> None:
    """Unmount binfmt_misc if set-up mounted it and no handler is left. Raises KernelError."""
    ours = f"mount {deploy.boot_id()}" in deploy.created(layout)
    if ours and binfmt.mounted() and not binfmt.entries():
        try:
            binfmt.unmount()
        except KernelError as error:
            report.notes.append(error.message)
            return
        report.changes.append(f'unmounted "{binfmt.MOUNT_POINT}"')


def _is_ours(text: str) -> bool:
    return f":{binfmt.NAME}:M:" in text


def boot_entry(layout: Layout) -> str:
    """Return the path of an entry that registers the handler at boot, "" for none."""
    for directory in reversed(layout.entry_directories):
        text = deploy.read_text(f"{directory}/{ENTRY_FILE}")
        if text is not None:  # the later directory overrides the earlier one, whatever it says
            right = binfmt.registration(layout.launcher) in text.splitlines()
            return f"{directory}/{ENTRY_FILE}" if right else ""
    return ""


def write_boot_entry(layout: Layout, report: deploy.Report) -> None:
    """Write the entry for systemd-binfmt into the first directory that can be written.

    Raises TrustError when that directory can be written by anybody else.
    """
    if boot_entry(layout):
        return
    for directory in layout.entry_directories[1:]:
        path = f"{directory}/{ENTRY_FILE}"
        if os.path.lexists(path) and not _is_ours(deploy.read_text(path) or ""):
            report.notes.append(f'"{path}" keeps the handler from being registered at boot')
            return
    for directory in layout.entry_directories:
        path = f"{directory}/{ENTRY_FILE}"
        try:
            if deploy.ensure_directory(directory, report):
                deploy.note_created(layout, f"directory {directory}")
            deploy.replace_file(path, entry_text(layout).encode())
        except OSError:
            continue  # read-only, as /usr often is: the next directory may do
        report.changes.append(f'wrote "{path}"')
        return
    report.notes.append("the handler is not registered at boot: no binfmt.d directory is writable")


def remove_boot_entry(layout: Layout, report: deploy.Report) -> None:
    """Remove the entry for systemd-binfmt wherever it is ours. Raises OSError."""
    for directory in layout.entry_directories:
        path = f"{directory}/{ENTRY_FILE}"
        text = deploy.read_text(path)
        if text is not None and _is_ours(text):
            os.unlink(path)
            report.changes.append(f'removed "{path}"')


def set_up(layout: Layout) -> deploy.Report:
    """Install everything and register the handler; do nothing that is done already.

    Raises CertexecError.
    """
    deploy.need_root("certexec setup")
    report = deploy.Report()
    try:
        deploy.make_directories(layout, report)
        lock = deploy.Lock(layout)
        try:
            deploy.install_version(layout, report)
            write_boot_entry(layout, report)
            activate(layout, report)
            units.install(layout, report)
            server_state.wait_for_change(layout)
            deploy.sweep(layout, report)
            if probe.keeps_ids(no_new_privs=False) is False:
                report.notes.append("this kernel takes granted identities away at exec")
        finally:
            lock.release()
    except OSError as error:
        raise deploy.translated(error) from None
    return report


def take_down(layout: Layout, purge: bool = False) -> deploy.Report:
    """Take away what ``set_up`` made; ``purge``: the trusted keys too. Raises CertexecError."""
    deploy.need_root("certexec setup --remove")
    report = deploy.Report()
    lock = deploy.Lock(layout) if deploy.present(layout) else None
    try:
        deactivate(report)
        unmount(layout, report)
        remove_boot_entry(layout, report)
        units.remove(layout, report)
        if lock is not None:
            deploy.remove_files(layout, report, purge)
        elif purge:
            deploy.purge_keys(layout, report)
    except OSError as error:
        raise deploy.translated(error) from None
    finally:
        if lock is not None:
            lock.release()
    end_server(layout)
    return report


def end_server(layout: Layout) -> None:
    """See a server go whose version is gone, and take away what is left of it. Raises OSError."""
    server_state.wait_for_change(layout)
    if server_state.look(layout).pid == 0:
        server_state.forget()
