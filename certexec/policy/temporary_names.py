"""Names of temporary files: which part was chosen, and is another next time (pure).

What mkstemp(3), mktemp(1), compilers, Perl, Python and Ruby make is told by its form; elsewhere by
what is hardly a word. Numbers are any number, of processes or of the time.
"""

from __future__ import annotations

import re

RANDOM = 6
"""characters that mkstemp(3) and its like choose."""
LONG_RANDOM = 10
"""characters that mktemp(1) and Perl's File::Temp choose."""
PYTHON_RANDOM = 8
"""characters that Python chooses: small letters, digits and "_"."""

_PYTHON = re.compile(r"^tmp[a-z0-9_]{8}")
_RUBY = re.compile(r"^(.*)[0-9]{8}-[0-9]+-[a-z0-9]{1,7}(?=$|\.)")
"""A date, a process, and a number to the base 36."""
_WHOLE = re.compile(r"^(?!cc)[a-z0-9_]{8}$")
"""The first name that Python tries; a compiler's begins with "cc"."""
_COMPILER = re.compile(r"^cc[A-Za-z0-9]{6}$")
_PREFIXED = re.compile(r"^(.+[-._])[a-z0-9_]{8}$")
_PERL = re.compile(rf"^(.*[-.])?[A-Za-z0-9_]{{{LONG_RANDOM}}}$")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANY_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LOWER_SUFFIXES = re.compile(r"(?:\.[a-z][a-z0-9]{0,4})+$")
_LAST_PART = re.compile(r"[A-Za-z0-9]*$")
_LAST_CHARACTERS = re.compile(r"[A-Za-z0-9_]*$")
_ODD = re.compile(r"[0-9][A-Za-z]|[a-z][A-Z]")
"""What words and numbers joined by "_" hardly have."""
_SMALL = re.compile(r"[a-z0-9_]*[0-9_][a-z0-9_]*")
_NUMBERED_WORD = re.compile(r"^[a-z]*[0-9]{3,}$")
_MIXED = re.compile(r"[A-Z0-9]")
"""What is hardly a word."""


def regex_of_new(name: str, sure: bool = False) -> str:
    """Return the regular expression of a temporary file's name: what was chosen is any.

    ``sure``: nothing that may be a word was.
    """
    if _PYTHON.match(name):
        return "tmp[a-z0-9_]{8}" + _any_numbers(name[11:])
    if _WHOLE.match(name) and not (sure and name.isalpha()):
        return "[a-z0-9_]{8}"
    ruby = _RUBY.match(name)
    if ruby:
        start = _any_numbers(ruby.group(1))
        return f"{start}[0-9]+-[0-9]+-[a-z0-9]+" + _any_numbers(name[ruby.end() :])
    if _UUID.search(name):
        return _ANY_UUID.join(map(_any_numbers, _UUID.split(name)))
    # what was chosen stands before the suffixes, of which there may be none
    stem = _LOWER_SUFFIXES.sub("", name)
    first = name.partition(".")[0]
    found = [(each, _chosen(each)) for each in dict.fromkeys((first, stem, name))]
    found = [(each, chosen) for each, chosen in found if chosen]
    clear = [one for one in found if _MIXED.search(one[0][-RANDOM:]) or _COMPILER.match(one[0])]
    likely = [one for one in found if one[0] != first or stem == first]
    for each, chosen in clear if sure else (*clear, *likely):
        return chosen + _any_numbers(name[len(each) :])
    return _any_numbers(name)


def _chosen(stem: str) -> str:
    """Return the regular expression of a name that ends with what was chosen, "" for another."""
    prefixed = _PREFIXED.match(stem)
    if prefixed:
        return _any_numbers(prefixed.group(1)) + "[a-z0-9_]{8}"
    perl = _PERL.match(stem)
    if perl:
        return _any_numbers(perl.group(1) or "") + f"[A-Za-z0-9_]{{{LONG_RANDOM}}}"
    part = _last(_LAST_PART, stem)
    if len(part) < RANDOM:
        part = _last(_LAST_CHARACTERS, stem)  # Perl and Python choose a "_", too
        if not _ODD.search(part[-PYTHON_RANDOM:]):
            return ""
    if len(part) < RANDOM or _NUMBERED_WORD.match(part):
        return ""
    small = len(part) >= PYTHON_RANDOM and _SMALL.fullmatch(part[-PYTHON_RANDOM:])
    length = PYTHON_RANDOM if small else RANDOM
    before, word = _any_numbers(stem[: -len(part)]), part[:-length]
    if word and not (word.isalpha() and word == word.lower()):
        return before + f"[A-Za-z0-9_]{{{len(part)}}}"  # no word: chosen as well
    return before + word + f"[A-Za-z0-9_]{{{length}}}"


def _last(pattern: re.Pattern[str], stem: str) -> str:
    found = pattern.search(stem)
    return found.group() if found else ""


def _any_numbers(text: str) -> str:
    return re.sub(r"[0-9]+", "[0-9]+", literal_regex(text))


def literal_regex(text: str) -> str:
    """Return a regular expression for just this text."""
    return "".join("\\" + one if one in "\\^$.[]|()*+?{}" else one for one in text)
