"""Error names."""

import errno

from certexec.policy.errnos import NUMBERS, SAME, number
from tests.policy.common import BSD_NUMBER


def test_every_name_of_the_original_gives_a_linux_error():
    assert set(NUMBERS) == set(BSD_NUMBER) - {""}
    for name, code in NUMBERS.items():
        assert code in errno.errorcode, name


def test_names_that_linux_has_give_its_own_number():
    assert len(SAME) == 73
    for name, code in SAME.items():
        assert code == getattr(errno, name.upper())
    assert number("EAGAIN") == number("ewouldblock") == 11


def test_bsd_only_names_give_the_nearest_error():
    assert number("EFTYPE") == errno.EINVAL
    assert number("EPROCLIM") == errno.EAGAIN
    assert number("ENEEDAUTH") == errno.EACCES
    assert set(NUMBERS) - set(SAME) == {
        "eproclim", "ebadrpc", "erpcmismatch", "eprogunavail", "eprogmismatch", "eprocunavail",
        "eftype", "eauth", "eneedauth", "eipsec", "elast",
    }


def test_unknown_names_are_told_from_look_alikes():
    assert number("EBOGUS") is None
    assert number("") is None
    assert number("enotbl\u212a") is None, "KELVIN SIGN is no k"
