"""The compiled doors to the kernel, where there are any: certexec/kernel/_doors.pyx.

They do what the Python beside them does (libc.py, notify.py, memory.py), without ctypes in between.
``pip install`` compiles them where it finds a C compiler and Python's headers. Where they are
missing, or are for another kind of interpreter, Python does the same by itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

compiled: ModuleType | None
try:
    from certexec.kernel import _doors as compiled
except ImportError:
    compiled = None
