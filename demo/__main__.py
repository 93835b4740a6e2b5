"""Play the acts in order; each shows one thing and checks that it is so."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from demo.acts import LeftOutError, acts
from demo.stage import RUN_ONLY, Stage, stage


def title(act: Callable[[Stage], None]) -> str:
    """Return the first line of an act's docstring."""
    return (act.__doc__ or act.__name__).splitlines()[0].rstrip(".")


def main() -> int:
    """Return 0 when every act went as announced."""
    failed = 0
    with stage() as place:
        say = "typed by name through the kernel" if place.mode != RUN_ONLY else '"certexec run"'
        print(f"# certexec on Linux {os.uname().release}, {place.mode}: {say}\n", flush=True)
        for act in acts(place):
            print(f"## {title(act)}", flush=True)
            try:
                act(place)
            except LeftOutError as reason:
                print(f"   left out: {reason}")
            except AssertionError as problem:
                print(f"   FAILED: {problem}")
                failed += 1
            print(flush=True)
    print("all acts went as announced" if not failed else f"{failed} acts FAILED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
