"""The resident server as a service of systemd: started by the first certificate that is executed.

The socket is systemd's, so that nobody ever finds it missing while the server changes. Nothing in
the service holds it back: its children live in the control groups of those whom they serve.
"""

from __future__ import annotations

import os

from certexec.run import child, deploy
from certexec.run.server_socket import BACKLOG, SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.layout import Layout

SOCKET_UNIT, SERVICE_UNIT = "certexec.socket", "certexec.service"
_SYSTEMCTL = ("/usr/bin/systemctl", "/bin/systemctl")
_SOCKET_TEXT = f"""\
# "certexec setup" writes this file.
[Unit]
Description=Policy server of executed certificates (socket)
Documentation=man:certexec-server(8)

[Socket]
ListenSequentialPacket={SOCKET}
SocketMode=0666
DirectoryMode=0755
Backlog={BACKLOG}
PassCredentials=yes
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""
_SERVICE_TEXT = """\
# "certexec setup" writes this file. Sandboxing options do not belong here: the server serves those
# who live as it does, and all others start a server of their own.
[Unit]
Description=Policy server of executed certificates
Documentation=man:certexec-server(8)
Requires=certexec.socket
After=certexec.socket

[Service]
ExecStart={current}/python -I -S {current}/serve.py --resident
# running programs keep their supervisors
KillMode=process
Restart=on-failure
LimitNOFILE=65536
TasksMax=infinity
OOMScoreAdjust=-500
"""


def texts(layout: Layout) -> dict[str, str]:
    """Return the content of both units by name."""
    return {
        SOCKET_UNIT: _SOCKET_TEXT, SERVICE_UNIT: _SERVICE_TEXT.format(current=layout.current),
    }  # fmt: skip


def _systemctl(*arguments: str) -> str:
    """Run systemctl; returns a complaint, "" when it went well."""
    for path in _SYSTEMCTL:
        if os.access(path, os.X_OK):
            outcome = child.run([path, *arguments])
            return "" if outcome.code == 0 else outcome.complaint
    return "there is no systemctl"


def install(layout: Layout, report: deploy.Report) -> None:
    """Write the units where systemd runs, and let it listen. Raises OSError, TrustError."""
    if not os.path.isdir(layout.booted):
        return
    fresh = []
    for name, text in texts(layout).items():
        path = f"{layout.units}/{name}"
        if deploy.read_text(path) != text:
            deploy.ensure_directory(layout.units, report)
            deploy.replace_file(path, text.encode())
            report.changes.append(f'wrote "{path}"')
            fresh.append(name)
    if fresh or not os.path.exists(SOCKET):
        complaint = (
            _systemctl("daemon-reload")
            or _systemctl("stop", SERVICE_UNIT)
            or _systemctl("enable", SOCKET_UNIT)
            or _systemctl("restart", SOCKET_UNIT)
        )
        if complaint:
            report.notes.append(f"systemd does not start the resident server: {complaint}")
        else:
            report.changes.append(f'systemd listens at "{SOCKET}"')


def remove(layout: Layout, report: deploy.Report) -> None:
    """Take the units away, and end the server. Raises OSError."""
    there = [name for name in (SOCKET_UNIT, SERVICE_UNIT) if os.path.lexists(_path(layout, name))]
    if not there:
        return
    if os.path.isdir(layout.booted):
        complaint = _systemctl("disable", "--now", *there)
        if complaint:
            report.notes.append(f"systemd still has the resident server: {complaint}")
    for name in there:
        os.unlink(_path(layout, name))
        report.changes.append(f'removed "{_path(layout, name)}"')
    if os.path.isdir(layout.booted):
        _systemctl("daemon-reload")


def _path(layout: Layout, name: str) -> str:
    return f"{layout.units}/{name}"
