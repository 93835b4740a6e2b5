"""``certexec sign --spec FILE``: what shall be signed, kept in a TOML file beside the policy.

The keys are the long names of ``sign``'s options, without their dashes, besides ``binary`` (the
program) and ``invocation`` (who may run it, in order). A spec becomes words that stand before
those that were typed, so that each value goes through the same checks wherever it comes from: what
may be given once is overridden by the command line, what may be repeated is added to by it.
"""

from __future__ import annotations

import datetime
import difflib
import os
import shlex
import tomllib
from collections.abc import Mapping, Set
from typing import NoReturn

from certexec.cli.common import printable, read_bounded
from certexec.errors import CliError

MAX_FILE = 65536
"""bytes; as long as a certificate may be, which holds all that a spec says and the policy."""
CLOSE_MATCH = 0.6
"""How alike a mistyped key must be to be suggested (difflib's own default)."""

BINARY = "binary"
INVOCATION = "invocation"
TEXTS = (
    "policy", "policy-path", "out", "name", "setuid", "setgid", "umask", "valid-for", "integrity",
    "log", "note", "unmatched",
)  # fmt: skip
TIMES = ("not-before", "not-after")
NUMBERS = ("nice", "oom", "serial")
LISTS = (
    "key", "add-group", "cap", "elevate", "allow-user", "allow-group", "deny-user", "deny-group",
    "args", "time-window", "env", "emulation",
)  # fmt: skip
TABLES = ("rlimit", "set-env")
"""Lists of NAME=VALUE, which may be tables as well."""
FLAGS = ("no-groups", "no-caps", "allow-everyone", "require-tty", "no-args", "log-all")
SWITCHES = ("inherit",)
"""Flags that can be said either way."""
ARGUMENTS = ("fixed-args",)
KEYS = (
    BINARY, INVOCATION, *TEXTS, *TIMES, *NUMBERS, *LISTS, *TABLES, *FLAGS, *SWITCHES, *ARGUMENTS,
)  # fmt: skip
TYPED_ONLY = ("spec", "force", "dry-run", "passphrase-fd")
"""Options that are about one call of the command and not about the certificate."""
FILES = (BINARY, "key", "policy", "policy-path", "out")
"""Names of files: relative ones are taken from the spec's directory."""
EITHER = (("policy", "policy-path"), ("valid-for", "not-after"))
"""Two ways to say one thing: the typed one replaces the other as well."""
NO_CWD = "a certificate cannot name a working directory: the program starts in its caller's"
"""The answer to a wish that is likely, since systemd's units and other tools have it."""
ENTRIES = ("allow-user", "allow-group", "deny-user", "deny-group")


class _Spec:
    """One file while it is turned into words."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.words: list[str] = []

    def fail(self, message: str, hint: str = "") -> NoReturn:
        raise CliError("usage", printable(f'"{self.path}": {message}'), printable(hint))

    def text(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            self.fail(f'"{key}" must be a text in quotes')
        if "\0" in value:
            self.fail(f'"{key}" holds a NUL')
        return self.place(value) if key in FILES else value

    def place(self, name: str) -> str:
        """Take a relative file name from the spec's directory; "-" and key URIs stay."""
        scheme, colon, rest = name.partition(":")
        if colon and scheme == "file":
            return f"file:{self.place(rest)}"
        if name in ("", "-") or (colon and scheme in ("agent", "pkcs11")):
            return name
        return os.path.join(os.path.dirname(self.path), name)

    def texts(self, key: str, value: object) -> list[str]:
        """Read a list of texts; one text is a list of one."""
        return [self.text(key, one) for one in (value if isinstance(value, list) else [value])]

    def number(self, key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(f'"{key}" must be a whole number')
        return value

    def truth(self, key: str, value: object) -> bool:
        if not isinstance(value, bool):
            self.fail(f'"{key}" must be true or false')
        return value

    def time(self, key: str, value: object) -> str:
        """Read a time as the option does, or as TOML's own date."""
        if isinstance(value, datetime.date):
            return value.isoformat()
        return self.text(key, value)

    def assignments(self, key: str, value: object) -> list[str]:
        """Read a list of NAME=VALUE, or a table; a limit's value may be a number."""
        if not isinstance(value, dict):
            return self.texts(key, value)
        return [
            f"{name}={self.number(key, item)}"
            if key == "rlimit" and not isinstance(item, str)
            else f"{name}={self.text(key, item)}"
            for name, item in value.items()
        ]

    def entry(self, text: str) -> str:
        """Read one line of the invocation list and write it as an option."""
        word, _, who = text.strip().partition(" ")
        if word == "allow-everyone" and not who:
            return f"--{word}"
        if word not in ENTRIES or not who:
            self.fail(
                f'"{text}" is no line of the list of who may run it',
                f'write "allow-everyone", or one of {", ".join(ENTRIES)} and a name',
            )
        return f"--{word}={who.strip()}"

    def add(self, key: str, value: object) -> None:
        """Add the words of one key."""
        if key in FLAGS:
            self.words += [f"--{key}"] if self.truth(key, value) else []
        elif key in SWITCHES:
            self.words.append(f"--{key}" if self.truth(key, value) else f"--no-{key}")
        elif key in NUMBERS:
            self.words.append(f"--{key}={self.number(key, value)}")
        elif key in LISTS:
            self.words += [f"--{key}={one}" for one in self.texts(key, value)]
        elif key in TABLES:
            self.words += [f"--{key}={one}" for one in self.assignments(key, value)]
        elif key == INVOCATION:
            self.words += [self.entry(one) for one in self.texts(key, value)]
        elif key in TIMES:
            self.words.append(f"--{key}={self.time(key, value)}")
        elif key in ARGUMENTS and isinstance(value, list):
            self.words.append(f"--{key}={shlex.join(self.texts(key, value))}")
        elif key == BINARY:
            self.words.append(f"--spec-binary={self.text(key, value)}")
        elif key in KEYS:
            self.words.append(f"--{key}={self.text(key, value)}")
        elif key in TYPED_ONLY:
            self.fail(f'"{key}" is not for a spec', f'say "--{key}" on the command line')
        elif key == "cwd":
            self.fail(NO_CWD)
        else:
            close = difflib.get_close_matches(key, KEYS, 1, CLOSE_MATCH)
            hint = f'did you mean "{close[0]}"?' if close else f"the keys are {', '.join(KEYS)}"
            self.fail(f'there is no key "{key}"', hint)


def _read(path: str) -> Mapping[str, object]:
    data = read_bounded(path, MAX_FILE, "usage")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise CliError("usage", f'"{path}" is not UTF-8 text') from None
    except tomllib.TOMLDecodeError as error:
        message = printable(str(error))
        raise CliError(
            "usage", f'"{path}" is not TOML: {message[:1].lower()}{message[1:]}',
            'a spec holds lines such as: policy = "tcpdump.policy"',
        ) from None  # fmt: skip


def spec_words(path: str, typed: Set[str]) -> list[str]:
    """Read a spec and return it as words of ``certexec sign``'s command line.

    ``typed`` are the options that were typed, without dashes: they replace what says the same.
    The program comes as ``--spec-binary=PATH``. Raises CliError: "usage" for what is no spec,
    "not-found" or "unreadable".
    """
    replaced = {key for pair in EITHER if not typed.isdisjoint(pair) for key in pair}
    spec = _Spec(path)
    for key, value in _read(path).items():
        if key not in replaced:
            spec.add(key, value)
    return spec.words
