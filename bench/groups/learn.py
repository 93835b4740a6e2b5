"""What ``certexec learn`` costs the program that is watched: nginx under wrk, beside nginx bare."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from bench.frame import OURS, UNPINNED, Bench, Limit, Line, spread_line

NAME = "learn"
ABOUT = "nginx under wrk while its policy is learned, as a multiple of nginx bare"
ORDER = 60
REQUESTS, PROCESSOR = "nginx under wrk", "nginx under wrk, processor time"
LIMITS = (Limit(REQUESTS, 2.5),)
PEERS = ()
PLACEMENTS = (UNPINNED,)
SECONDS = 3
"""of load in one run"""
ROUNDS = 8
"""a share of the rounds: a round takes seconds."""
STARTED = 60.0
"""seconds in which nginx must listen"""
WRK = ("-t1", "-c8", f"-d{SECONDS}s")
CONF = """\
daemon off; worker_processes 2; pid {0}/pid; error_log {0}/logs/error;
events {{ worker_connections 64; }}
http {{ access_log {0}/logs/access; client_body_temp_path {0}/a; proxy_temp_path {0}/b;
  fastcgi_temp_path {0}/c; uwsgi_temp_path {0}/d; scgi_temp_path {0}/e; sendfile on;
  server {{ listen 127.0.0.1:{1}; root {0}/site; }} }}
"""


def measure(bench: Bench) -> list[Line]:
    """Let wrk ask nginx for a small file, in turn bare and watched.

    The processor's time is that of nginx, of certexec, and of its start and its end, over the
    requests that were answered meanwhile: those of a longer run cost less.
    """
    for tool in ("/usr/sbin/nginx", "/usr/bin/wrk"):
        if not os.path.exists(tool):
            print(f"bench: {os.path.basename(tool)} is not installed")
            return []
    server = bench.once("learn", lambda: _Nginx(bench.place.path("nginx")))
    learn = (
        sys.executable, "-m", "certexec.cli.main", "learn", "-f", "-o", f"{server.place}.policy",
        "--inherit", "--",
    )  # fmt: skip
    rates: dict[bool, list[float]] = {False: [], True: []}
    costs: dict[bool, list[float]] = {False: [], True: []}
    for number in range(max(3, bench.rounds // ROUNDS) + 1):
        for watched in (False, True):
            rate, cost = server.load(learn if watched else ())
            if number:  # the first fills the page cache
                rates[watched].append(rate)
                costs[watched].append(cost)
    slower = [bare / ours for bare, ours in zip(rates[False], rates[True], strict=True)]
    dearer = [ours / bare for bare, ours in zip(costs[False], costs[True], strict=True)]
    return [
        spread_line(REQUESTS, OURS, "bare", slower, detail={
            "requests_per_second": _median(rates[True]),
            "base_requests_per_second": _median(rates[False]),
        }),
        spread_line(PROCESSOR, OURS, "bare", dearer, detail={
            "microseconds_per_request": _median(costs[True]) * 1e6,
            "base_microseconds_per_request": _median(costs[False]) * 1e6,
        }),
    ]  # fmt: skip


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


class _Nginx:
    """A server with one small file, on a port of its own."""

    def __init__(self, place: str) -> None:
        self.place = place
        shutil.rmtree(place, ignore_errors=True)
        for name in ("", "logs", "site"):
            os.mkdir(os.path.join(place, name))
        with open(f"{place}/site/short", "w") as file:
            file.write("short\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with open(f"{place}/conf", "w") as file:
            file.write(CONF.format(place, self.port))

    def load(self, before: Sequence[str]) -> tuple[float, float]:
        """Run the server once, behind the words ``before``, under load.

        Returns requests per second, and the seconds of processor time of each.
        """
        with self._running([*before, *self._command()]) as process:
            address = f"http://127.0.0.1:{self.port}/short"
            said = subprocess.run(
                ["/usr/bin/wrk", *WRK, address], capture_output=True, text=True, check=True
            ).stdout
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(said)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        answered = re.search(r"(\d+) requests in", said)
        assert rate is not None and answered is not None, said
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(before)} nginx ended with {process.returncode}")
        return float(rate[1]), (used.ru_utime + used.ru_stime) / int(answered[1])

    def _command(self) -> list[str]:
        return ["/usr/sbin/nginx", "-p", self.place, "-c", f"{self.place}/conf",
                "-e", f"{self.place}/logs/error"]  # fmt: skip

    @contextlib.contextmanager
    def _running(self, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Start it and wait until it listens; afterwards ask it to end, which is not awaited."""
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            end = time.monotonic() + STARTED
            while not self._listens():
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"nginx does not listen: {' '.join(words)}")
                time.sleep(0.01)
            yield process
            with open(f"{self.place}/pid") as file:
                os.kill(int(file.read()), signal.SIGQUIT)
        except BaseException:
            process.kill()
            process.wait()
            raise

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
