"""Each program with a policy of its own, learned, merged over runs, kept when stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.execution.world import ALICE, World
from tests.learning.study import BASH, Study
from tests.learning.test_programs import world as world

WORK = "cat words | sort > sorted; python() { :; }; cat sorted; rm sorted"


def words(study: Study) -> None:
    study.empty()
    (study.place / "words").write_text("b\na\n")


@pytest.mark.timeout(120)
def test_each_program_gets_a_policy_and_together_they_do_the_work(world: World) -> None:
    study = Study(world, "own")
    words(study)
    learned = study.learn_script(WORK, options=())
    headers = [line for line in learned.splitlines() if line.startswith("Policy: ")]
    assert headers == [
        f"Policy: {path}, Emulation: native"
        for path in (BASH, "/usr/bin/cat", "/usr/bin/rm", "/usr/bin/sort")
    ]
    assert '--no-inherit' in study.said
    certificate = study.sign(learned, "--no-inherit", "--log", "full")
    words(study)
    world.logged()
    done = study.script(certificate, WORK)
    assert (done.returncode, done.stdout) == (0, "a\nb\n"), done.stderr
    assert world.logged() == [], learned
    # what one of them may, another may not
    done = study.script(certificate, "rm words; echo evil > words; sort words; cat words")
    assert done.stdout == "b\na\n"  # sort took it from its input, cat by name
    assert (study.place / "words").read_text() == "b\na\n"
    assert world.logged() != []


@pytest.mark.timeout(120)
def test_a_second_run_adds_what_the_first_did_not_do(world: World) -> None:
    study = Study(world, "append")
    words(study)
    first = study.learn_script("cat words")
    out = study.home / "kept"
    out.write_text(first.replace("\tinclude base 1", "# mine\n\tinclude base 1"))
    os.chown(out, ALICE, ALICE)

    def again(script: str) -> str:
        done = world.run(
            sys.executable, "-P", "-m", "certexec.cli.main", "learn", "-a", "-o", str(out),
            "--inherit", "--", BASH, "-c", script, uid=ALICE, cwd=study.place,
            env={**study.environment(), "PYTHONPATH": str(world.package)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return out.read_text()

    same = again("cat words")
    assert same == out.read_text() and "# mine\n" in same
    assert again("cat words") == same
    more = again("cat words; mkdir new; echo x > new/file")
    assert set(same.splitlines()) <= set(more.splitlines()) and more.count("# mine") == 1
    assert 'native-fswrite: filename match "$CWD/new" then permit' in more


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_the_learning_gets_what_was_seen(world: World, number: int) -> None:
    study = Study(world, f"stopped-{number}")
    words(study)
    out = study.home / "learned"
    process = world.start(
        sys.executable, "-P", "-m", "certexec.cli.main", "learn", "-o", str(out), "--inherit",
        "--", BASH, "-c", "cat words; trap '' INT; touch ready; sleep 60", cwd=study.place,
        env={**study.environment(), "PYTHONPATH": str(world.package)}, start_new_session=True,
    )  # fmt: skip
    while not (study.place / "ready").exists():
        time.sleep(0.02)
    assert not out.exists() and list(study.home.iterdir()) == []
    learner = learner_of(world)
    for _ in range(2):
        os.kill(learner, number)
        time.sleep(0.3)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert 'filename eq "$CWD/words" then permit' in out.read_text()
    assert [one.name for one in study.home.iterdir()] == ["learned"]
    assert world.settle() == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_one_signal_to_the_learner_ends_the_whole_tree(world: World, number: int) -> None:
    """Also what the program left behind, for which nothing else would wait but the learner."""
    study = Study(world, f"told-{number}")
    words(study)
    out = study.home / "learned"
    process = world.start(
        sys.executable, "-P", "-m", "certexec.cli.main", "learn", "-o", str(out), "--inherit",
        "--", BASH, "-c", "(cat words; touch ready; sleep 1000; touch late) & wait",
        cwd=study.place, env={**study.environment(), "PYTHONPATH": str(world.package)},
        start_new_session=True,
    )  # fmt: skip
    while not any("sleep 1000" in one and "bash" not in one for one in world.processes().values()):
        time.sleep(0.02)
    os.kill(learner_of(world), number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert 'filename eq "$CWD/words" then permit' in out.read_text()
    assert not (study.place / "late").exists()
    assert world.settle() == {}


def learner_of(world: World) -> int:
    """Return the process that watches: the first of those that were told to learn."""
    found = [pid for pid, line in world.processes().items() if "cli.main learn" in line]
    return min(found, key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().split()[21]))
