from collections.abc import Callable, Iterable
from typing import Any

NSIG: int
SIG_DFL: int
SIG_IGN: int
SIGCHLD: int
SIGPIPE: int
SIGXFSZ: int

def signal(signalnum: int, handler: int | Callable[[int, Any], None], /) -> Any: ...
SIG_BLOCK: int
SIG_SETMASK: int

def pthread_sigmask(how: int, mask: Iterable[int], /) -> set[int]: ...
def siginterrupt(signalnum: int, flag: bool, /) -> None: ...
def set_wakeup_fd(fd: int, *, warn_on_full_buffer: bool = ...) -> int: ...
