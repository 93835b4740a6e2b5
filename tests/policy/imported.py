"""What the tests of imported profiles share: the policy that was made, and what it permits."""

from certexec.cli.presets import load_presets
from certexec.policy.question import ask
from certexec.policy.syntax import parse_policy
from tests.policy.common import ALICE, USERS


def policy_and_notes(imported):
    file = parse_policy(
        imported.text, name="x", users=USERS, privileged=True, presets=load_presets()
    )
    return file.policies[0], " ".join(imported.notes)


def permits(policy, call: str, **arguments: str) -> bool:
    values = {name: text.split("|") for name, text in arguments.items()}
    return ask(policy, call, values, ALICE).action == "permit"


def opens(policy, path: str, flags: str = "ro") -> bool:
    return permits(policy, "openat", filename=path, oflags=flags)
