"""Of a temporary file's name what was chosen is any, and the rest stands for itself."""

import re

import pytest

from certexec.policy.temporary_names import regex_of_new


@pytest.mark.parametrize(
    ("one", "other", "stranger"),
    [
        ("tmp.4fr5AbCdEf", "tmp.abcdefghij", "other.4fr5AbCdEf"),  # mktemp(1)
        ("tmp.4fr5AbCdEf.txt", "tmp.abcdefghij.txt", "tmp.abcdefghij.sh"),
        ("NH_YX6ilVn", "v0jxAbCdEf", "v0jxAbCdE"),  # File::Temp
        ("foo20261122-26983-evx0kc", "foo20270101-7-1th6y", "bar20270101-7-1th6y"),  # Ruby
        ("psm_1a2b3c4d", "psm_00000000", "psn_00000000"),
        ("sem.FhILsW", "sem.zZ09aA", "sem_zZ09aA"),
        ("sem.mp-j9s14gcz", "sem.mp-________", "sem.mq-________"),
        ("ccabcdef.ltrans0.ltrans.o", "ccZZZZZZ.ltrans1.ltrans.o", "ccZZZZZZ.s"),
        ("session.Abc123", "session.zzzzzz", "sessiom.zzzzzz"),
        ("abcX0nF1.dat", "abc_0nF1.dat", "Xbc_0nF1.dat"),  # File::Temp with five
        ("parx9_gM.df", "par9x_gM.df", "rapx9_gM.df"),
        ("preab1cd_2x", "pre________1"[:11], "prab1cd_2xy"),  # Python, with a prefix
        ("go-build123456789", "go-build4200", "go-built4200"),
        ("tmpabcd1234.whl", "tmp_zzzzzzz.whl", "tmp_zzzzzzz.exe"),
        (f"a{'-'.join(['0f8fad5b', 'd9cb', '469f', 'a165', '70867728950e'])}.json",
         f"a{'-'.join(['00000000', '0000', '0000', '0000', '000000000000'])}.json", "a.json"),
    ],
)  # fmt: skip
def test_the_next_name_fits_and_another_s_does_not(one: str, other: str, stranger: str) -> None:
    regex = regex_of_new(one)
    for name, fits in ((one, True), (other, True), (stranger, False)):
        assert bool(re.fullmatch(regex, name)) is fits, regex


@pytest.mark.parametrize(
    "name", ["lock", "redis.sock", "x11-unix", "vim-abc", "data.json", "my_lock_1"]
)
def test_a_name_of_words_stays(name: str) -> None:
    assert re.sub(r"\\|\[0-9\]\+", "", regex_of_new(name)) == re.sub("[0-9]", "", name)
