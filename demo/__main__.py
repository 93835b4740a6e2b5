"""Play the acts in order; each shows one thing and checks that it is so."""

from __future__ import annotations

import os
import sys

from demo.acts import ACTS, LeftOutError
from demo.stage import RUN_ONLY, stage


def main() -> int:
    """Return 0 when every act went as announced."""
    failed = 0
    with stage() as place:
        say = "typed by name through the kernel" if place.mode != RUN_ONLY else '"certexec run"'
        print(f"# certexec on Linux {os.uname().release}, {place.mode}: {say}\n", flush=True)
        for act in ACTS:
            print(f"## {act.__doc__.splitlines()[0]}", flush=True)  # type: ignore[union-attr]
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
