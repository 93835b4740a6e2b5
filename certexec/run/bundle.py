"""The modules of a run in two files: what every start executes, and what supervision adds to it.

Made while a version is set up, by the interpreter that will read it, from the compiled modules
beside their sources; ``load`` in run/serve.py executes it. A bundle is the interpreter's magic
number (PEP 3147) and the marshalled list of (module, is a package, code), in the order in which
the modules were completed: each comes after all that it imports.

A module of its own, and none of the run path: it runs once for each version.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

COMPILED_HEADER = 16
"""bytes in front of the code in a compiled module (PEP 552)."""
_FILE_MODE = 0o644


def make(directory: str) -> None:
    """Import what a run imports, and write ``start`` and ``supervise`` into a new directory.

    Nothing of the run path may have been imported before. Raises OSError, ImportError.
    """
    # the two that importing this module has completed already
    completed = [sys.modules["certexec"], sys.modules["certexec.run"]]
    execute = SourceFileLoader.exec_module

    def record(self: SourceFileLoader, module: ModuleType) -> None:
        execute(self, module)
        completed.append(module)

    os.mkdir(directory)
    try:
        SourceFileLoader.exec_module = record  # type: ignore[assignment]
        import certexec.run.server
        from certexec.trust.keys import probe_library

        probe_library()
        _write(f"{directory}/start", completed)
        completed.clear()
        import certexec.run.supervise  # noqa: F401

        _write(f"{directory}/supervise", completed)
    finally:
        SourceFileLoader.exec_module = execute  # type: ignore[method-assign]


def _write(path: str, modules: list[ModuleType]) -> None:
    entries = [
        (module.__name__, hasattr(module, "__path__"), _code(str(module.__file__)))
        for module in modules
        if _is_ours(module.__name__)
    ]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with open(descriptor, "wb") as file:
        file.write(MAGIC_NUMBER + marshal.dumps(entries))


def _is_ours(name: str) -> bool:
    """Tell what a version copies from what belongs to the interpreter and may change with it."""
    return name.split(".")[0] in ("certexec", "cryptography")


def _code(source: str) -> CodeType:
    with open(cache_from_source(source), "rb") as file:
        code: CodeType = marshal.loads(file.read()[COMPILED_HEADER:])  # noqa: S302 - our own
    return code
