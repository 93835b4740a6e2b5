"""From a certificate's policy file to the filter for its tree, with every policy it can get to."""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.compile import compile_policy, compile_reach, table_for
from certexec.policy.elevation import elevations as elevations_of
from certexec.policy.elevation import refuse_ungranted
from certexec.policy.model import parts
from certexec.policy.operators import needs_expansion
from certexec.policy.reach import Reach, changes_policies
from certexec.policy.select import (
    admit_foreign,
    ask_about_unmatched,
    select_policy,
    select_with_foreign,
)
from certexec.policy.tree import TreeOptions
from certexec.policy.unsupported import unsupported_in
from certexec.run.inside import gather
from certexec.run.policy_directory import load_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from certexec.policy.compile import Compiled
    from certexec.policy.decisions import Table
    from certexec.policy.elevation import Elevate
    from certexec.policy.landlock import Landlocked
    from certexec.policy.model import Policy, PolicyFile, Rule, Subject
    from certexec.run.inside import Inside, Look


NO_GRANT = '"as" needs a certificate of the program itself'
"""Why a policy that is come by is left out: what it asks for was granted to nobody."""


def _flaws(policy: Policy) -> list[tuple[Rule | Policy, str]]:
    return [
        *(
            flaw for part in parts(policy)
            for flaw in unsupported_in(part, inherit=True, detach=True)
        ),
        *((rule, NO_GRANT) for rule in elevations_of(parts(policy)).values()),
    ]


def left_out(file: PolicyFile, program: str) -> list[tuple[Policy, Rule | Policy, str]]:
    """Return the policies that ``confine`` leaves out, though programs would come under them.

    Each comes with the first thing in it that cannot be enforced, and why. For a certificate
    without inherit: otherwise no program comes under one of them. Raises PolicyError as
    ``select_policy`` does.
    """
    reached = Reach(select_policy(file, program), file.policies).policies[1:]
    return [
        (policy, *flaws[0]) for policy in file.policies
        if any(one is policy for one in reached) and (flaws := _flaws(policy))
    ]


def confine(
    file: PolicyFile,
    program: str,
    name: str,
    *,
    inherit: bool,
    full_log: bool,
    privileged: bool,
    capable: bool,
    may_exec: bool = True,
    log_all: bool = False,
    subject: Callable[[], Subject | None] | None = None,
    elevations: Collection[Elevate] = (),
    look: Look | None = None,
    foreign: bool = False,
    asks_unmatched: bool = False,
) -> tuple[Reach, Compiled, list[Inside]]:
    """Return the reachable policies and the filter for ``program`` under its policy in ``file``.

    The certificates that may be executed inside come last: their tables follow those of the
    reachable policies, in this order. ``look`` finds them; None: there are none.

    ``name`` is what the file is called in messages; ``inherit``: what is executed stays under the
    program's policy, unless a rule says otherwise; ``subject`` tells whom macros stand for, where
    that is known; ``foreign``: calls of the 32-bit ABI are admitted; ``asks_unmatched``: an agent
    is asked about what no rule matches; the rest is as in ``TreeOptions``. The policies of ``file``
    are set up for that.

    Raises PolicyError ("policy-mismatch", "policy-unsupported", "setuid-denied" for ``as``
    somebody who is not among ``elevations``) and TrustError("trust-unsafe").
    """
    ask_about_unmatched(file.policies, asks_unmatched)
    policy = select_with_foreign(file, program) if foreign else select_policy(file, program)
    refuse_ungranted(parts(policy), elevations, name)
    # who gives up what keeps others of the user's out would, by an exec, lend them such calls
    may_exec = may_exec and not elevations
    changes = may_exec and changes_policies(policy, inherit)
    reach = Reach(policy, ())
    if changes:
        # signed ones first: of two policies for one program the first counts
        signed = [one for one in file.policies if not _flaws(one)]
        others = [] if inherit else load_directory()
        ask_about_unmatched(others, asks_unmatched)
        if foreign:
            admit_foreign(others)
        reach = Reach(policy, [*signed, *others])
    inside = [] if look is None or not may_exec else gather(reach.policies, look)
    own_policies = changes or bool(inside)
    # one tree has one log
    certificates = [one.certificate for one in inside if one.certificate is not None]
    full_log = full_log or any(one.log == "full" for one in certificates)
    log_all = log_all or any(one.policy.log_all for one in certificates)
    options = TreeOptions(
        full_log=full_log,
        privileged=privileged,
        capable=capable,
        may_exec=may_exec,
        log_all=log_all,
        own_policies=own_policies,
        elevations=elevations,
    )
    if not own_policies:
        compiled = compile_policy(policy, options, name=name)
        if policy.landlock and policy.foreign is None and not (full_log or log_all):
            # a program that can change its uid changes what its macros stand for
            known = subject() if subject and not options.capable else None
            options.landlocked = _domain(policy, program, known)
            if options.landlocked is not None:
                with_domain = compile_policy(policy, options, name=name)
                # where the supervisor has to open everything itself, a domain is of no use
                if not (with_domain.needs_listener and options.capable):
                    compiled = with_domain
        return reach, compiled, []
    usable, tables = _tables_of(inside, options)
    compiled = compile_reach(reach, options, name=name, inside=tables if inside else None)
    return reach, compiled, usable


def _tables_of(inside: list[Inside], options: TreeOptions) -> tuple[list[Inside], list[Table]]:
    """Return the certificates whose policies fit into this tree, and their tables.

    To execute any other is refused.
    """
    fitting: list[Inside] = []
    tables: list[Table] = []
    for one in inside:
        if one.policy is None:
            continue
        try:
            tables.append(table_for(one.policy, options))
        except PolicyError:
            continue
        fitting.append(one)
    return fitting, tables


def _domain(policy: Policy, program: str, subject: Subject | None) -> Landlocked | None:
    """Return what the kernel can enforce by a Landlock domain, None where the supervisor has to."""
    # few policies get here: all others start without loading these
    from certexec.kernel.landlock import abi
    from certexec.policy.landlock import landlocked
    from certexec.run.landlock import can_start

    found, _ = landlocked(policy, abi(), subject)
    if found is None or any(needs_expansion(tree) for tree in found.trees):
        return None
    return found if can_start(found, program) else None
