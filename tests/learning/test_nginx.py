"""A learned policy is short, and the same each time."""

from __future__ import annotations

import shutil

import pytest

from tests.execution.world import World
from tests.isolation import skip_or_fail
from tests.learning.study import PATH, Study
from tests.learning.test_programs import HERE, act_hostile, free_port
from tests.learning.test_programs import world as world

LINES_MAX = 60


def directly(study: Study, port: str) -> list[str]:
    """Return how nginx is run by itself, on a configuration in the study's directory."""
    text = (HERE / "nginx.sh").read_text()
    conf = text.partition("<<X\n")[2].partition("\nX\n")[0]
    (study.place / "site").mkdir()
    (study.place / "site" / "short").write_text("short\n")
    (study.place / "logs").mkdir(mode=0o777)
    (study.place / "logs").chmod(0o777)
    conf = conf.replace("$PWD", str(study.place)).replace("$1", port)
    (study.place / "conf").write_text(f"daemon off; {conf}")
    where = str(study.place)
    return ["/usr/sbin/nginx", "-p", where, "-c", f"{where}/conf", "-e", f"{where}/logs/error"]


@pytest.mark.timeout(200)
def test_nginx_needs_sixty_lines_and_the_same_in_three_runs(world: World) -> None:
    if not all(shutil.which(tool, path=PATH) for tool in ("nginx", "wrk")):
        skip_or_fail("nginx or wrk is not installed")
    study, port = Study(world, "nginx-alone"), free_port()
    words = directly(study, port)
    learned = []
    for _ in range(3):
        load = world.start(
            "/bin/sh", "-c",
            f"until [ -s {study.place}/pid ]; do sleep 0.02; done;"
            f"wrk -t1 -c8 -d1s http://127.0.0.1:{port}/short | grep requests;"
            f"kill -QUIT $(cat {study.place}/pid)", env=study.environment(),
        )  # fmt: skip
        learned.append(study.learn(*words))
        out, err = load.communicate()
        assert "requests in" in out, err
    assert learned[0] == learned[1] == learned[2]
    assert len(learned[0].splitlines()) <= LINES_MAX


MAKEFILE = """\
all:
\tgcc -o tool tool.c
install:
\tmkdir -p $(PREFIX)/bin $(PREFIX)/share/tool
\tinstall -m 755 tool $(PREFIX)/bin/tool
\tinstall -m 644 tool.c $(PREFIX)/share/tool/tool.c
"""
CONFIGURE = """\
#!/bin/sh
echo 'int main(){return 0;}' > conftest.c
gcc -o conftest conftest.c && ./conftest && echo the compiler works
echo x > conf$$.file; cp conf$$.file conf$$.dir; rm -f conftest conftest.c conf$$*
sed "s,@PREFIX@,$1," Makefile.in > Makefile
"""
TROJAN = """\
echo '* * * * * root true' > {outside}/cron
echo evil >> {outside}/profile
cp /bin/true {outside}/bin/tool
"""
WORK = 'sh configure "$1" && make -s all && make -s install && ls -R "$1"'


@pytest.mark.timeout(200)
def test_a_trojaned_build_as_root_does_not_reach_outside_its_prefix(world: World) -> None:
    study = Study(world, "build", uid=0)
    outside = world.directory("outside")
    (outside / "bin").mkdir()
    (outside / "profile").write_text("mine\n")
    prefix = study.home / "prefix"

    def unpack(more: str = "") -> None:
        study.empty()
        shutil.rmtree(prefix, ignore_errors=True)
        for name, text in (
            ("configure", CONFIGURE + more), ("tool.c", "int main(){return 7;}\n"),
            ("Makefile.in", f"PREFIX=@PREFIX@\n{MAKEFILE}"),
        ):  # fmt: skip
            (study.place / name).write_text(text)

    unpack()
    learned = study.learn_script(WORK, str(prefix))
    certificate = study.sign(learned)
    unpack()
    world.logged()
    done = study.script(certificate, WORK, str(prefix))
    assert done.returncode == 0 and "the compiler works" in done.stdout, done
    assert (prefix / "bin" / "tool").exists()
    assert world.logged() == [], learned
    # the same commands, with a line more in what was downloaded
    unpack(TROJAN.format(outside=outside))
    study.script(certificate, WORK, str(prefix))
    assert world.logged() != []
    assert not (outside / "cron").exists() and not (outside / "bin" / "tool").exists()
    assert (outside / "profile").read_text() == "mine\n"
    act_hostile(study, certificate)
