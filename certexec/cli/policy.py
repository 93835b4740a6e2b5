"""``certexec policy``: check, explain, try and tidy policies, and print one to start from."""

from __future__ import annotations

import click

from certexec.cli import (
    policy_check,
    policy_diff,
    policy_explain,
    policy_fmt,
    policy_import,
    policy_merge,
    policy_review,
    policy_score,
    policy_template,
    policy_test,
)

MODULES = (
    policy_check, policy_diff, policy_explain, policy_fmt, policy_import, policy_merge,
    policy_review, policy_score, policy_template, policy_test,
)  # fmt: skip


@click.group(name="policy", no_args_is_help=True)
def command() -> None:
    """Check, explain, try and tidy policies, and print one to start from.

    The language is described in certexec.policy(5).
    """


for _module in MODULES:
    command.add_command(_module.command)
