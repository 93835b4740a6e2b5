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


@pytest.mark.parametrize(
    ("words", "expected"),
    [("certexec ver", "verify"), ("certexec sign --allow-e", "--allow-everyone"),
     ("certexec trust ", "remove")],
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
