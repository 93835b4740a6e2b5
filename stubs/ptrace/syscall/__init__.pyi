SYSCALL_NAMES: dict[int, str]
SYSCALL_PROTOTYPES: dict[str, tuple[str, tuple[tuple[str, str], ...]]]

class SyscallArgument: ...
