"""The kernel's names for capabilities and resource limits, with their numbers.

A capability stands in a certificate by name and number; the pair must be one of this table.
"""

from __future__ import annotations

CAPABILITIES = {
    # include/uapi/linux/capability.h, without CAP_ and in lower case; 40 since Linux 5.9
    name: number
    for number, name in enumerate(
        (
            "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid",
            "setuid", "setpcap", "linux_immutable", "net_bind_service", "net_broadcast",
            "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio",
            "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
            "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write",
            "audit_control", "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm",
            "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
        )
    )
}  # fmt: skip

RLIMITS = {
    # include/uapi/asm-generic/resource.h, without RLIMIT_ and in lower case
    name: number
    for number, name in enumerate(
        (
            "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
            "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
        )
    )
}  # fmt: skip
RLIMIT_NAMES = {number: name for name, number in RLIMITS.items()}
