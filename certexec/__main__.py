"""``python -m certexec``: the command, where its directory is not in $PATH."""

import sys

from certexec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
