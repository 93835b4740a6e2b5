"""The attacks that come to a forbidden file by another name or another call."""

from __future__ import annotations

from tests.escapes.attack import Attack

READ = "to read a forbidden file"
ANYTHING = ('fsread: filename re "^" then permit', 'fswrite: filename re "^" then permit')
GOOD_LINKS = ('link: filename match "<GOOD>/*" and filename[1] match "<GOOD>/*" then permit',)
ROOT = ("--setuid", "root")


def named(kind: str, name: str, wants: str, defence: str, *more: str, **options: object) -> Attack:
    """Return an attack of programs/names.py."""
    return Attack(name, wants, "names.py", (kind, "-", *more), defence, **options)


NAMES = [
    named("proc_links", "names/proc-links", f"{READ} by links in /proc and by ..",
          "judged_by_text",
          rules=('fsread: filename match "/proc/*" then permit',)),
    named("relative", "names/relative", f"{READ} relative to a forbidden directory",
          "judged_by_text", rules=('fsread: filename match "*file" and '
                                   'filename match "<GOOD>/*" then permit',
                                   'fsread: filename eq "file" then permit',
                                   'fsread: filename eq "../evil/file" then permit')),
    named("openat2", "names/openat2", f"{READ} by RESOLVE_IN_ROOT and RESOLVE_BENEATH",
          "scope_forgotten", rules=('fsread: filename eq "/file" then permit',
                                    'fsread: filename eq "<GOOD>/file" then permit')),
    named("reopened", "names/o-path", f"{READ} by opening an O_PATH descriptor again",
          "judged_by_text", "8",
          rules=('fsread: filename match "/proc/*" then permit',
                 'fsread: filename match "/dev/fd/*" then permit',
                 'fsread: filename eq "" then permit'),
          before='os.dup2(os.open("<EVIL>/file", os.O_PATH), 8)'),
    named("link_by_descriptor", "names/tmpfile", "to put a file into the forbidden place",
          "links_by_old_name", rules=(
              'link: filename[1] match "<EVIL>/*" then deny[eperm]',
              'link: filename sub "non-existent" then permit',
          ), without=("linkat",)),
    named("hard_link", "names/hard-link", "to give a forbidden file a permitted name",
          "links_by_new_name", rules=GOOD_LINKS, without=("linkat",)),
    named("exchange", "names/exchange", "to bring a forbidden file out by an exchange",
          "exchange_one_way", rules=('rename: filename match "<GOOD>/*" then permit',),
          without=("renameat", "renameat2")),
    named("handle", "names/handle", "a handle of a forbidden file", "handles_free",
          rules=('name_to_handle_at: filename match "<GOOD>/*" then permit',)),
    named("own_proc", "names/own-proc", "the supervisor's /proc/self", "proc_of_supervisor",
          rules=ANYTHING),
    named("other_mount", "names/other-mount", f"{READ} through another mount table",
          "mounts_ignored", rules=('fsread: filename match "<GOOD>/*" then permit',
                                   'fsread: filename match "/proc/*" then permit')),
    named("own_namespace", "names/own-namespace", f"{READ} from a namespace or root of its own",
          "namespaces_continued"),
]
