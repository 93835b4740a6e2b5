"""Names that were seen become patterns, and none that lets in what is precious."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.policy.learned_paths import (
    DIRS,
    EXECUTE,
    FULL,
    KEPT_OUT,
    NONE,
    READ,
    WRITE,
    Paths,
    Pattern,
    Places,
    numbers_in,
)
from certexec.policy.operators import make_test

HOME, CWD = "/home/u", "/home/u/work"
PLACES = Places(CWD, HOME, "u", (HOME, "/root"))


def holds(pattern: Pattern, path: str, start: str = CWD) -> bool:
    data = pattern.data.replace("$CWD", start).replace("$HOME", HOME).replace("$USER", "u")
    if any(part in path for part in pattern.without):
        return False
    return make_test(pattern.operator, data.encode())(path.encode())


def paths(level=FULL, **seen) -> Paths:
    return Paths(PLACES, level, **seen)


def test_alone_a_name_stands_for_itself():
    assert paths(NONE).pattern(f"{CWD}/x", READ) == Pattern("eq", f"{CWD}/x")
    assert paths(DIRS).pattern(f"{CWD}/x", READ) == Pattern("eq", f"{CWD}/x")
    assert paths().pattern(f"{CWD}/x", READ) == Pattern("eq", "$CWD/x")
    assert paths().pattern(f"{HOME}/x", READ) == Pattern("eq", "$HOME/x")
    assert paths().pattern("/var/mail/u", READ) == Pattern("eq", "/var/mail/$USER")


def test_four_files_of_a_directory_are_its_tree_but_not_where_many_have_theirs():
    four = [f"/opt/tool/share/{one}" for one in "abcd"]
    assert paths(read=four).pattern(four[0], READ) == Pattern("match", "/opt/tool/share", "tree")
    assert paths(read=four[:3]).pattern(four[0], READ).operator == "eq"
    assert paths(read=four).pattern(four[0], WRITE).operator == "eq"
    assert paths(NONE, read=four).pattern(four[0], READ).operator == "eq"
    for shared in ("/etc", HOME, "/tmp", "/root", "/", "/etc/ssh", f"{HOME}/.ssh", "/proc/sys"):
        several = [f"{shared.rstrip('/')}/{one}" for one in "abcd"]
        assert paths(read=several).pattern(several[0], READ).operator == "eq", shared


def test_the_tree_that_it_was_started_in_is_not_for_what_is_hidden():
    four = [f"{CWD}/{one}" for one in ("a", "b", "c", "d", ".env")]
    seen = paths(read=four)
    pattern = seen.pattern(four[0], READ)
    assert holds(pattern, f"{CWD}/e") and not holds(pattern, f"{CWD}/.git/config")
    assert seen.pattern(four[4], READ).operator == "eq"


@pytest.mark.parametrize("start", [HOME, "/home", f"{HOME}/.ssh", "/etc", "/etc/ssh"])
def test_wherever_it_is_started_the_tree_of_the_start_holds_no_keys(start):
    four = [f"{CWD}/{one}" for one in "abcd"]
    written = [f"{CWD}/{one}.conf" for one in "abc"]
    seen = paths(read=four, written=[*written, f"{CWD}/Ab12Xy"])
    for name, use, new in ((four[0], READ, 0), (written[0], WRITE, 0), (f"{CWD}/Ab12Xy", WRITE, 1)):
        pattern = seen.pattern(name, use, bool(new))
        assert pattern.data.startswith("$CWD") and pattern.operator == "match"
        for key in (f"{HOME}/.ssh/id_rsa", f"{HOME}/.netrc", f"{HOME}/.ssh/x.conf",
                    "/etc/shadow", "/etc/ssh/ssh_host_key", "/etc/ssh/x.conf"):  # fmt: skip
            assert not holds(pattern, key, start), (pattern, key)


def test_what_is_hidden_in_a_tree_keeps_its_name_wherever_it_is():
    four = [f"{CWD}/sub/{one}" for one in "abcd"]
    hidden = [f"{CWD}/sub/deep/.x/{one}" for one in "ab"]
    seen = paths(read=[*four, *hidden])
    assert seen.pattern(four[0], READ) == Pattern("match", "$CWD/sub", "tree", KEPT_OUT)
    assert seen.pattern(hidden[0], READ) == Pattern("eq", "$CWD/sub/deep/.x/a")
    at_home = [f"{HOME}/doc/{one}" for one in ("a", "b", "c", "d", "x/.e")]
    seen = paths(read=at_home)
    assert seen.pattern(at_home[0], READ) == Pattern("match", "$HOME/doc", "tree", ("/.",))
    assert seen.pattern(at_home[4], READ).operator == "eq"


def test_a_hidden_directory_deep_in_the_work_is_a_tree_of_its_own():
    four = [f"{CWD}/{one}" for one in "abcd"]
    hidden = [f"{CWD}/.venv/lib/site/{one}" for one in "abcd"]
    seen = paths(read=[*four, *hidden])
    assert seen.pattern(four[0], READ).data == "$CWD"
    assert seen.pattern(hidden[0], READ).data == "$CWD/.venv/lib/site"
    shallow = [f"{CWD}/.config/{one}" for one in "abcd"]
    assert paths(read=shallow).pattern(shallow[0], READ).operator == "eq"


def test_a_start_that_is_hidden_itself_is_named_where_names_are_widened():
    start = f"{HOME}/.local/src/x"
    four = [f"{start}/{one}" for one in "abcd"]
    seen = Paths(PLACES._replace(cwd=start), FULL, read=four)
    pattern = seen.pattern(four[0], READ)
    assert pattern == Pattern("match", "$HOME/.local/src/x", "tree")
    assert seen.pattern(f"{start}/x", WRITE) == Pattern("eq", "$CWD/x")


def test_what_it_made_itself_is_its_own_when_it_was_used():
    seen = paths(made=[f"{CWD}/out"], written=[f"{CWD}/out", f"{CWD}/out/x"])
    assert seen.pattern(f"{CWD}/out/x", WRITE) == Pattern("match", "$CWD/out", "made")
    assert seen.pattern(f"{CWD}/out/x", EXECUTE) == Pattern("eq", "$CWD/out/x")
    unused = paths(made=[f"{CWD}/out"], written=[f"{CWD}/out"])
    assert unused.pattern(f"{CWD}/out", WRITE) == Pattern("eq", "$CWD/out")
    precious = paths(made=[f"{HOME}/.ssh"], written=[f"{HOME}/.ssh/config"])
    assert precious.pattern(f"{HOME}/.ssh/config", WRITE).operator == "eq"


@pytest.mark.parametrize(
    ("one", "other", "stranger"),
    [
        ("/tmp/ccAb12Xy.s", "/tmp/ccQQQQQQ.s", "/tmp/ccAb12Xy.o"),
        ("/tmp/tmpabcd1234", "/tmp/tmp_zzzzzzz", "/tmp/tmpabcd1234/x"),
        ("/tmp/3atcukes", "/tmp/zzzz0000", "/tmp/3atcukes/x"),
        ("/tmp/ccAb12Xy.ltrans0.o", "/tmp/ccZZZZZZ.ltrans0.o", "/tmp/other"),
        ("/var/tmp/sh-thd.Qw3rty", "/var/tmp/sh-thd.AAAAAA", "/var/tmp/x/sh-thd.AAAAAA"),
        (f"{CWD}/ctl.qAlfuA4ONR12345x", f"{CWD}/ctl.wkvQvKBxNcZZZZZ9", f"{CWD}/ctl.x"),
        (f"{CWD}/conf4711.sh", f"{CWD}/conf99.sh", f"{CWD}/conf.sh"),
        (f"{CWD}/stA1b2C3", f"{CWD}/stZZZZZ9", f"{CWD}/s"),
    ],
)  # fmt: skip
def test_a_new_name_is_another_next_time(one, other, stranger):
    pattern = paths().pattern(one, WRITE, new=True)
    assert pattern.why == "new"
    assert holds(pattern, one) and holds(pattern, other) and not holds(pattern, stranger)
    assert paths().pattern(other, WRITE, new=True) == pattern
    assert paths(DIRS).pattern(one, WRITE, new=True).operator == "eq"


def test_a_file_in_a_temporary_directory_that_is_not_new_keeps_its_name():
    assert paths().pattern("/tmp/ccAb12Xy.s", READ) == Pattern("eq", "/tmp/ccAb12Xy.s")


def test_versions_digests_and_processes():
    assert paths().pattern("/opt/x/libz.so.1.2", READ).data == "/opt/x/libz.so.*"
    name = f"{CWD}/.git/objects/ab/{'c' * 38}"
    assert holds(paths().pattern(name, WRITE), f"{CWD}/.git/objects/cd/{'e' * 38}")
    pattern = paths().pattern("/proc/12/stat", READ)
    assert holds(pattern, "/proc/99/stat") and not holds(pattern, "/proc/99/mem")


def test_three_files_of_one_suffix_are_that_suffix():
    seen = [f"{CWD}/{one}.o" for one in "abc"]
    pattern = paths(written=seen).pattern(seen[0], WRITE)
    assert pattern == Pattern("match", "$CWD/*.o", "suffix", KEPT_OUT)
    assert not holds(pattern, f"{CWD}/Makefile")
    assert paths(written=[f"{HOME}/{one}.o" for one in "abc"]).pattern(
        f"{HOME}/a.o", WRITE
    ).operator == "eq"


def test_special_characters_stand_for_themselves():
    four = [f"/opt/[x]*/{one}" for one in "abcd"]
    pattern = paths(read=four).pattern(four[0], READ)
    assert holds(pattern, "/opt/[x]*/e") and not holds(pattern, "/opt/xy/e")
    made = paths(made=["/tmp/a.b+123456"], written=["/tmp/a.b+123456/x"])
    assert holds(made.pattern("/tmp/a.b+123456/x", WRITE), "/tmp/a.b+999999/y")
    assert not holds(made.pattern("/tmp/a.b+123456/x", WRITE), "/tmp/aXb+999999/y")


PRECIOUS = (
    "/etc/shadow", "/etc/passwd", "/etc/cron.d/x", f"{HOME}/.ssh/id_ed25519", f"{HOME}/.bashrc",
    f"{HOME}/.aws/credentials", "/root/.profile", "/etc/ssl/private/key", "/usr/bin/su",
    f"{HOME}/.config/autostart/x.desktop", "/proc/1/mem", "/home/other/x",
)  # fmt: skip
NAMES = st.sampled_from(
    "a b c d e f.txt .hidden .ssh x12 tmp sub lib.so.1 etc bin passwd cron.d .bashrc".split()
)
TOPS = st.sampled_from(["/etc", "/tmp", "/usr/share", HOME, CWD, "/root", "/var/lib/x", "/proc/12"])
SOME = st.sets(
    st.builds(
        lambda top, parts: "/".join([top, *parts]), TOPS, st.lists(NAMES, min_size=1, max_size=4)
    ),
    max_size=25,
)  # fmt: skip


@given(SOME, SOME, SOME, st.sampled_from([READ, WRITE, EXECUTE]), st.sampled_from([DIRS, FULL]))
def test_each_pattern_permits_its_name_and_nothing_precious(read, written, made, use, level):
    seen = paths(level, read=read, written=written, made=made)
    for path in read | written | made:
        pattern = seen.pattern(path, use, path in made)
        assert holds(pattern, path), pattern
        for precious in PRECIOUS:
            if precious not in read | written | made:
                assert not holds(pattern, precious), (pattern, path)


def test_what_has_no_name_has_any_number():
    pattern = paths().pattern("pipe:[4711]", READ)
    assert pattern.why == "unnamed" and holds(pattern, "pipe:[1]")
    assert not holds(pattern, "socket:[1]") and not holds(pattern, "/pipe:[1]")
    for level in (NONE, DIRS):
        assert paths(level).pattern("pipe:[4711]", READ).operator == "eq"


def test_a_thread_in_proc_has_any_number():
    pattern = paths().pattern("/proc/12/task/13/stat", READ)
    assert holds(pattern, "/proc/98/task/99/stat") and not holds(pattern, "/proc/98/task/99/mem")
    pattern = paths().pattern("/proc/self/task/13/stat", READ)
    assert holds(pattern, "/proc/self/task/99/stat") and not holds(pattern, "/proc/9/task/9/stat")
    assert paths().pattern("/proc/self/stat", READ).operator == "eq"


def test_a_number_in_the_names_of_new_files_is_another_one_next_time():
    new = [f"{CWD}/conf4711.dir", f"{CWD}/conf4711subs.sh", "/opt/v100/x4711/y"]
    assert numbers_in(new) == {"4711"}
    seen = paths(
        made=new[:1], written=[*new, f"{CWD}/conf4711.dir/f"], numbers=numbers_in(new),
    )  # fmt: skip
    own = seen.pattern(f"{CWD}/conf4711.dir/f", WRITE)
    assert own == Pattern("match", "$CWD/conf[0-9]*.dir", "made")
    assert holds(own, f"{CWD}/conf99.dir/f") and not holds(own, f"{CWD}/conf99.dip/f")
    # also where it was only asked for, or removed: "rm -f conf$$"
    assert seen.pattern(f"{CWD}/conf4711", WRITE) == Pattern("match", "$CWD/conf[0-9]*", "new")
    assert seen.pattern(f"{CWD}/conf4711subs.sh", WRITE, new=True).data == "$CWD/conf[0-9]*subs.sh"
    assert seen.pattern(f"{CWD}/conf4712", WRITE).operator == "eq"


def test_a_directory_whose_name_was_chosen_is_its_own_next_time_and_one_with_a_word_is_that():
    for name, glob in (
        ("confT5pV9q", "conf??????"), ("confloYngj", "conf??????"), ("TestResults", "TestResults"),
        ("of-Result", "of-Result"), ("of-RESULT", "of-RESULT"),
    ):  # fmt: skip
        seen = paths(made=[f"{CWD}/{name}"], written=[f"{CWD}/{name}/x"])
        assert seen.pattern(f"{CWD}/{name}/x", WRITE).data == f"$CWD/{glob}"


def test_a_directory_without_a_name_is_nobody_s_own():
    seen = paths(made=["", f"{CWD}/b"], written=["", f"{CWD}/b", f"{CWD}/b/x"])
    assert seen.pattern(f"{CWD}/b/x", WRITE).data == "$CWD/b"


def test_what_it_made_in_a_tree_that_it_reads_needs_no_rule_for_reading():
    four = [f"{CWD}/{one}" for one in "abcd"]
    seen = paths(read=[*four, f"{CWD}/out/x"], made=[f"{CWD}/out"], written=[f"{CWD}/out/x"])
    assert seen.pattern(f"{CWD}/out/x", READ) == seen.pattern(four[0], READ)
    assert seen.pattern(f"{CWD}/out/x", WRITE).why == "made"


def test_a_word_in_capitals_is_no_chosen_name_and_the_topmost_directory_has_one_slash():
    assert paths().pattern(f"{CWD}/README", WRITE, new=True) == Pattern("eq", "$CWD/README")
    assert paths().pattern("/core.123", WRITE, new=True).data == "/core.[0-9]*"


def test_digits_of_what_was_chosen_are_no_number():
    digest = "0123456789abcdef" * 2
    assert numbers_in(["/w/pid.5032cx", "/w/x-4711-Ab1234", f"/w/{digest}.tmp"]) == {"4711"}
    seen = paths(numbers=["4711", "503", "123"])
    assert seen.pattern(f"{CWD}/pid.503Xcx", WRITE, new=True).data == "$CWD/pid.??????"
    assert seen.pattern(f"{CWD}/x-4711-Ab123z", WRITE, new=True).data == "$CWD/x-[0-9]*-??????"


@pytest.mark.parametrize(
    ("one", "pattern"),
    [
        ("tmp94_ehh24", "tmp????????"), ("tmpsxacaccf", "tmp????????"),
        ("tmp1234ab_c.json", "tmp????????.json"), (".x.toml.ab_cd1_f", ".x.toml.????????"),
        ("lock-file0012", "lock-file[0-9]*"), ("x-some_new", ""),
    ],
)
def test_what_python_chose_is_any_of_that_length(one: str, pattern: str) -> None:
    name = f"{CWD}/{one}"
    seen = paths(created=[name], numbers=numbers_in([name]))
    made = paths(made=[name], written=[f"{name}/x"], numbers=numbers_in([name]))
    assert seen.pattern(name, WRITE, new=True).data == f"$CWD/{pattern or one}"
    assert made.pattern(f"{name}/x", WRITE).data == f"$CWD/{pattern or one}"
    assert seen.pattern(f"{CWD}/tmp94_ehh25", READ).operator == "eq"


def test_a_terminal_has_another_number_next_time():
    pattern = paths().pattern("/dev/pts/3", WRITE)
    assert holds(pattern, "/dev/pts/12") and not holds(pattern, "/dev/pts/ptmx")
    assert paths(level=NONE).pattern("/dev/pts/3", WRITE) == Pattern("eq", "/dev/pts/3")


def test_a_new_digest_with_a_suffix_is_any_of_that_length():
    name = f"{CWD}/{'0a1b2c3d' * 5}.tmp"
    pattern = paths(created=[name], numbers=numbers_in([name])).pattern(name, WRITE)
    assert holds(pattern, f"{CWD}/{'ffffffff' * 5}.tmp") and not holds(pattern, f"{CWD}/x.tmp")
    assert paths().pattern(name, READ).operator == "eq"
