"""certexec completion: scripts that shells accept, and completions that they get."""

import shutil
import subprocess

import pytest

from certexec.cli.main import main
from tests.cli.conftest import Script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_in_the_shell_s_language(script: Script, shell: str) -> None:
    script(f"certexec completion {shell}\nstdout _CERTEXEC_COMPLETE")
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script.stdout, text=True, timeout=30)
        assert checked.returncode == 0


def test_another_shell_is_refused(script: Script) -> None:
    script("? certexec completion tcsh\n? certexec completion")
    assert script.stderr.startswith("certexec: error: missing argument '{bash|zsh|fish}'. Choose")
    assert len(script.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [("certexec ver", "verify"), ("certexec sign --allow-e", "--allow-everyone"),
     ("certexec trust ", "remove"), ("certexec policy imp", "import"),
     ("certexec policy import --pl", "--pledge"), ("certexec policy import --from app", "apparmor"),
     ("certexec policy import --from ", "firejail"), ("certexec sign --unmatched ", "ask")],
)  # fmt: skip
def test_verbs_and_options_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, expected: str
) -> None:
    monkeypatch.setenv("_CERTEXEC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit):
        main([])
    assert f"plain,{expected}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    ["certexec verify hel", "certexec run hel", "certexec inspect hel", "certexec sign hel",
     "certexec sign -k hel", "certexec sign --spec hel", "certexec trust add hel",
     "certexec trust list --trust hel", "certexec key passwd hel", "certexec key list hel",
     "certexec policy check hel", "certexec policy test hel", "certexec policy template hel",
     "certexec run --log hel", "certexec policy import hel",
     "certexec policy import --include-dir hel", "certexec agent --append hel"],
)  # fmt: skip
def test_names_of_files_are_left_to_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    monkeypatch.setenv("_CERTEXEC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out in ("file,hel\n", "dir,hel\n")
