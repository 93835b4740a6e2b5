"""``certexec verify``: say whether certificates would be accepted on this machine."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple

import click

from certexec.certificate.envelope import MAX_SIZE
from certexec.cli import output
from certexec.cli.common import (
    describe,
    parse_time,
    printable,
    show_date,
    show_time,
    store_directory,
    trust_option,
)
from certexec.cli.main import COULD_NOT_TELL, EXIT_NO, EXIT_UNKNOWN
from certexec.cli.progress import Progress
from certexec.errors import CertexecError, CliError, unreadable
from certexec.run.certificate_files import NAMED, Item, expand
from certexec.run.memory import Memory
from certexec.run.once import Once
from certexec.run.parallel import in_order
from certexec.run.verify import Result, Verifier
from certexec.trust.store import by_kid, load_store

FINGERPRINT_PREFIX = "SHA256:"
SCHEMA = 2
"""of a JSON line; 1 was one object with a list."""
FEW = 16
"""files; so many are judged sooner than other processes are started for them."""
DAY = 86400
"""seconds"""
MAX_JOBS = 512
"""processes; more than any machine makes use of, and still fewer than users may have."""


class Told(NamedTuple):
    """What is to be printed of one file: first on standard error, on output, then on error."""

    code: int
    before: str
    result: str
    after: str


# -- one file --------------------------------------------------------------------------------------


def _exit_code(error: CertexecError | None) -> int:
    """0 valid, 1 not, 2 could not tell."""
    if error is None:
        return 0
    return EXIT_UNKNOWN if error.reason in COULD_NOT_TELL else EXIT_NO


class _Teller:
    """Says in words, or in JSON, what became of a file; knows the words that all have in common."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._words = {
            code: output.painted(word, color)
            for code, word, color in (
                (0, "OK", "green"), (EXIT_NO, "FAIL", "red"), (EXIT_UNKNOWN, "UNKNOWN", "red"),
            )
        }  # fmt: skip

    def tell(self, result: Result) -> Told:
        code = _exit_code(result.error)
        before = "".join(
            [output.note_lines(printable(text), odd=odd) for odd, text in result.notes]
        )
        if self._as_json:
            return Told(code, before, json.dumps(_as_json(result)) + "\n", "")
        if output.settings.quiet:
            return Told(code, before, "", "")
        path, word = printable(result.path), self._words[code]
        if result.error is None:
            assert result.verified is not None
            fingerprints = ", ".join([one.key.fingerprint for one in result.verified.signers])
            expiry = _date(result.verified.certificate.claims.exp // DAY)
            return Told(code, before, f"{path}: {word} ({fingerprints}, expires {expiry})\n", "")
        why = output.error_lines(f"{path}: {printable(result.error.message)}", result.error.hint)
        return Told(code, before, f"{path}: {word} ({result.error.reason})\n", why)


@lru_cache
def _date(day: int) -> str:
    return show_date(day * DAY)


def _as_json(result: Result) -> dict[str, object]:
    shown: dict[str, object] = {
        "schema": SCHEMA, "path": result.path, "ok": result.error is None,
    }  # fmt: skip
    if result.error is not None:
        return {**shown, **describe(result.error), "exit_code": _exit_code(result.error)}
    assert result.verified is not None
    certificate = result.verified.certificate
    return {
        **shown,
        "name": certificate.claims.sub,
        "serial": certificate.serial,
        "program": certificate.program.path,
        "grant": certificate.is_grant(),
        "valid_until": show_time(certificate.claims.exp),
        "signers": [
            {"name": one.name, "fingerprint": one.key.fingerprint}
            for one in result.verified.signers
        ],
    }


# -- all of them -----------------------------------------------------------------------------------


class _Counted:
    """Items on their way, and how many there were."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self.count = 0
        self.all = False

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self.count += 1
            yield item
        self.all = True


def _items(paths: tuple[str, ...]) -> Iterator[Item]:
    """Return the files, with standard input read already: no other process could."""
    for item in expand(paths):
        if item.how == NAMED and item.path == "-":
            try:
                data = sys.stdin.buffer.read(MAX_SIZE + 1)
            except OSError as error:
                raise unreadable("-", error) from None
            yield Item("-", data=data)
        else:
            yield item


def _results(
    items: Iterator[Item],
    verifier: Callable[[Memory], Verifier],
    as_json: bool,
    jobs: int,
) -> Iterator[Told | None]:
    """Judge all of them, in order: here where there are few, else in ``jobs`` processes."""
    first = list(islice(items, FEW))
    few = jobs == 1 or len(first) < FEW
    judge = verifier(Memory(None if few else Once())).judge

    tell = _Teller(as_json).tell

    def work(item: Item) -> Told | None:
        result = judge(item)
        return None if result is None else tell(result)

    def lost(item: Item, how: str) -> Told:
        error = CliError("internal", how, "run it again; if it happens again, report it")
        return tell(Result(item.path, None, error))

    if few:
        yield from map(work, chain(first, items))
    else:
        yield from in_order(chain(first, items), work, lost, jobs)


def _print(told: Told) -> None:
    if told.before:
        output.say_lines(told.before)
    sys.stdout.write(told.result)
    if told.after:
        sys.stdout.flush()  # where the result cannot be written, that is all there is to say
        output.say_lines(told.after)
    output.check()


def _processors() -> int:
    return min(len(os.sched_getaffinity(0)), MAX_JOBS)


@click.command(name="verify")
@click.argument("paths", nargs=-1, required=True, metavar="CERT|DIR...")
@trust_option
@click.option("--at", metavar="TIME", default="now", help="Judge as of this time (default: now).")
@click.option("--require-signer", metavar="FINGERPRINT", help="This key must be among the signers.")
@click.option("--no-binary", is_flag=True, help="Do not look at the program itself.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, MAX_JOBS), metavar="N", default=None,
    help="Judge in so many processes (default: one for each processor).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each certificate.")
@click.option("--html", "page", metavar="FILE", help="Write a report to FILE instead.")
def command(
    paths: tuple[str, ...],
    trust: str | None,
    at: str,
    require_signer: str | None,
    no_binary: bool,
    jobs: int | None,
    as_json: bool,
    page: str | None,
) -> int:
    """Say whether certificates would be accepted on this machine.

    A directory stands for every certificate in it and below, so that

        certexec verify --json /usr/local

    audits a tree: on all processors, hashing each file once, in the order of the names.
    Exit status: 0 all are valid, 1 one is not, 2 could not tell.
    """
    if require_signer is not None and not require_signer.startswith(FINGERPRINT_PREFIX):
        raise CliError(
            "usage", f'"{require_signer}" is not a fingerprint',
            'it begins with "SHA256:"; "certexec trust list" shows them',
        )  # fmt: skip
    if page is not None:
        if as_json:
            raise CliError("usage", '"--html" and "--json" exclude each other')
        from certexec.cli.report_file import check_report  # little else needs it: it takes long

        check_report(page)
    records: list[str] = []
    now = parse_time(at, int(time.time()))
    directory, owners = store_directory(trust)
    keys = by_kid(load_store(directory, owner_ok=owners))

    def verifier(memory: Memory) -> Verifier:
        return Verifier(keys, now, binary=not no_binary, signer=require_signer, memory=memory)

    items = _Counted(_items(paths))
    progress = Progress("verify", wanted=not output.settings.quiet)
    done = 0
    codes: set[int] = set()
    try:
        for told in _results(
            iter(items), verifier, as_json or page is not None, jobs or _processors()
        ):
            done += 1
            if told is not None:
                codes.add(told.code)
                if page is not None:
                    records.append(told.result)
                    told = told._replace(result="")
                if told.before or told.result or told.after:
                    progress.hide()
                    _print(told)
            progress.show(done, items.count, items.all)
    finally:
        progress.hide()
    if not codes:
        raise CliError("not-found", "there is no certificate in what was named")
    if page is not None:
        _report(page, records)
    return EXIT_NO if EXIT_NO in codes else max(codes)


def _report(page: str, records: list[str]) -> None:
    """Write the report about results, which are lines of JSON. Raises CliError("unreadable")."""
    from certexec.cli.report_file import write_verify_report

    report = write_verify_report(page, [json.loads(record) for record in records])
    bad = sum(1 for one in report.results if not one["ok"])
    output.done(
        f"{page}: {len(records)} certificate{'' if len(records) == 1 else 's'}, {bad} not valid"
        + (f", {len(report.changes)} changed" if report.before else "")
    )
