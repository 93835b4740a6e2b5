"""The arguments of the calls of which registers tell everything that rules ask for."""

from __future__ import annotations

_SOCKET = (("sockdom", 0), ("socktype", 1))
_PROT = (("prot", 2),)


def ids(kind: str, *registers: int) -> tuple[tuple[str, int], ...]:
    """Return the arguments for user (kind "uid") or group ids in these registers."""
    found = tuple((kind, register) for register in registers)
    return found + (ids("uname", *registers) if kind == "uid" else ())


REGISTER_ARGUMENTS: dict[str, tuple[tuple[str, int], ...]] = {
    "socket": _SOCKET,
    "socketpair": _SOCKET,
    "fcntl": (("cmd", 1),),
    "mmap": _PROT,
    "mprotect": _PROT,
    "pkey_mprotect": _PROT,
    "fchmod": (("fd", 0), ("mode", 1)),
    "fchown": (("fd", 0), ("uid", 1), ("gid", 2)),
    "setuid": ids("uid", 0),
    "setgid": ids("gid", 0),
    # Of these rules see the real, the effective and the saved id, as far as there are any.
    "setreuid": ids("uid", 0, 1),
    "setregid": ids("gid", 0, 1),
    "setresuid": ids("uid", 0, 1, 2),
    "setresgid": ids("gid", 0, 1, 2),
    "setfsuid": ids("uid", 0),
    "setfsgid": ids("gid", 0),
    "kill": (("pidname", 0), ("signame", 1)),
    "tkill": (("signame", 1),),
    "tgkill": (("signame", 2),),
    "rt_sigqueueinfo": (("signame", 1),),
    "rt_tgsigqueueinfo": (("signame", 2),),
    "pidfd_send_signal": (("signame", 1),),
}
"""Call to (argument, register), in the order of their indexes in rules."""
