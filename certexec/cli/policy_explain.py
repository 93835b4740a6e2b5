"""``certexec policy explain``: which layer enforces which rule, and what becomes of a call."""

from __future__ import annotations

import errno
import textwrap

import click

from certexec.certificate.model import ASK as CERTIFICATE_ASK
from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import (
    EXIT_FINE,
    SCHEMA,
    choose,
    count,
    count_rules,
    read_file,
    refuse,
    shown_name,
    unmatched_option,
    writable,
)
from certexec.errors import CertexecError, CliError, PolicyError
from certexec.kernel import landlock
from certexec.kernel.bpf import HIGH, INSTRUCTION_SIZE, WORD
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import call_of
from certexec.policy.compile import compile_table
from certexec.policy.evaluate import can_be_asked
from certexec.policy.explain import (
    INACTIVE,
    OVERRULED,
    REFUSED,
    CallUses,
    RuleLayers,
    Tree,
    Use,
    explain_call,
    explain_calls,
    explain_rules,
)
from certexec.policy.explain_foreign import ForeignUses, explain_foreign
from certexec.policy.guards import (
    ADOPT,
    AFTER,
    ASK,
    ASK_UNMATCHED,
    ASKED_UNMATCHED,
    BY_POLICY,
    DENIED,
    DENY,
    EXEC,
    FORK,
    KILL,
    KILLS,
    LANDLOCKED,
    LOG,
    MOVE,
    NESTED,
    PERMIT,
    PROTECTION,
    RIGHTS,
    RULES,
    UNMATCHED,
    UNSUPPORTED,
    Decision,
    Test,
)
from certexec.policy.model import Policy, Rule
from certexec.policy.names import FOREIGN_EMULATION
from certexec.policy.question import calls_of
from certexec.policy.select import ACTIVE_EMULATIONS, admit_foreign, ask_about_unmatched
from certexec.run.policy_directory import load_directory
from certexec.run.reached import reached, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_REFUSED = 1
_WIDTH = 100
"""characters of a line of calls"""
_NOTIFIED = {
    RULES: "judged by the rules",
    UNMATCHED: "denied with {error}, no rule speaks of it; the supervisor writes the log line",
    DENIED: "denied with {error}; the supervisor writes the log line",
    UNSUPPORTED: "denied with {error} and logged: it cannot be judged yet",
    ASK: "an agent is asked; without one it is denied",
    ASK_UNMATCHED: "an agent is asked; without one it is denied",
    LOG: "permitted; the supervisor writes the log line",
    EXEC: "permitted; the supervisor watches that no right grows",
    PROTECTION: "permitted unless it is aimed at the supervisor",
    FORK: "permitted; the supervisor notes whose child the new process is",
    ADOPT: "the supervisor changes the caller's policy, or takes its right to ask",
    AFTER: "permitted, until an after line takes it; the supervisor looks",
    NESTED: "answered by the supervisor, to certexec's launcher alone",
    KILLS: "the process is killed; the supervisor writes the log line",
    MOVE: "permitted; the supervisor looks from then on who sees other files by the same names",
    RIGHTS: "permitted; the supervisor reads each caller's rights anew from then on",
    BY_POLICY: "the policies that the tree can get to differ: the supervisor asks the caller's",
}
"""Why the supervisor is asked, to what happens then."""
UNASKED = [name for name in NUMBERS if not can_be_asked(name)]
"""The calls that nobody is asked about where no rule matches them."""


class Explained:
    """One policy of a file, as far as it could be compiled.

    Attributes:
        policy: which.
        tree: the decisions, None: see ``why``.
        instructions: the length of the filter.
        why: why the policy as a whole is refused, or "".
        rules: each with its layers.
        reached: the certificates that rules on exec name.
    """

    __slots__ = ("instructions", "policy", "reached", "rules", "tree", "why")

    def __init__(
        self, policy: Policy, others: list[Policy], *, setuid: bool, log: str, inherit: bool
    ) -> None:
        self.policy = policy
        self.tree: Tree | None = None
        self.instructions = 0
        self.why = ""
        self.rules: list[RuleLayers] = []
        self.reached = reached([policy, *([] if inherit else others)])
        inside = [one.policy for one in self.reached if one.policy is not None]
        if policy.detached:
            self.why = "a detached policy confines nothing"
        elif policy.emulation not in ACTIVE_EMULATIONS:
            self.why = f'the emulation "{policy.emulation}" is not that of this system'
        try:
            self.tree = Tree(
                policy, others, inherit=inherit, full_log=log == "full", privileged=setuid,
                abi=landlock.abi(), inside=inside if self.reached else None,
            )
            self.instructions = len(compile_table(self.tree.whole).bpf) // INSTRUCTION_SIZE
        except PolicyError as error:
            self.why = error.message
        if self.tree is not None:
            self.rules = list(explain_rules(self.tree))

    @property
    def refused(self) -> bool:
        """Whether signing would refuse this policy, or deny a call that a rule speaks of."""
        return bool(self.why) or any(one.why for one in self.rules)


@click.command(name="explain", short_help="Say which layer enforces what, and why.")
@click.argument("file")
@click.argument("syscall", required=False)
@click.option("--program", metavar="PATH", help="Whose policy, where the file holds several.")
@click.option("--emulation", type=click.Choice((FOREIGN_EMULATION,)),
              help="As in a certificate that admits the 32-bit ABI; of that part.")
@click.option("--setuid", is_flag=True, help="As in a certificate that grants an identity.")
@click.option("--log", type=click.Choice(("audit", "full")), default="audit", show_default=True,
              help="As in a certificate with this log.")
@click.option("--inherit/--no-inherit", default=True,
              help="As in a certificate with or without this option (default with).")
@unmatched_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: str, syscall: str | None, program: str | None, emulation: str | None, setuid: bool,
    log: str, inherit: bool, unmatched: str, as_json: bool,
) -> int:
    """Say which layer enforces each rule of FILE, or what becomes of one SYSCALL.

    Exit codes: 0 all of it is enforced, 1 something is refused, 2 no policy.
    """
    try:
        parsed = read_file(file)
        one = syscall is not None or program is not None
        policies = [choose(parsed, program, emulation)] if one else parsed.policies
        if not policies:
            raise CliError("usage", "the file holds no policy")
        directory = [] if inherit else load_directory()
        ask_about_unmatched([*parsed.policies, *directory], unmatched == CERTIFICATE_ASK)
        if emulation is not None:
            admit_foreign(parsed.policies)
            admit_foreign(directory)
        others = parsed.policies + directory
        explained = [
            Explained(policy, others, setuid=setuid, log=log, inherit=inherit)
            for policy in policies
        ]
        calls = [] if syscall is None else _calls(explained[0], syscall)
    except CertexecError as error:
        return refuse(error, as_json)
    refused = any(each.refused for each in explained)
    name = shown_name(file)
    if as_json:
        shown: dict[str, object] = {
            "schema": SCHEMA, "ok": not refused, "file": name,
            "options": {
                "setuid": setuid, "log": log, "inherit": inherit, "emulation": emulation,
                "unmatched": unmatched,
            },
        }
        if syscall is None:
            shown["policies"] = [_policy_json(each) for each in explained]
        else:
            shown |= {
                "program": explained[0].policy.path, "emulation": explained[0].policy.emulation,
                "syscall": syscall, "refused": explained[0].why or None,
                "calls": [
                    {**_call_json(each), "foreign": _foreign_json(explained[0], each.name)}
                    for each in calls
                ],
            }
        output.print_json(writable(shown))
    elif syscall is None:
        for index, each in enumerate(explained):
            _show_policy(each, first=index == 0)
    else:
        if explained[0].why:
            output.warn(printable(f"{name}: this policy is refused: {explained[0].why}"))
        for call in calls:
            _show_call(call)
            _show_foreign(explained[0], call.name)
    return EXIT_REFUSED if refused else EXIT_FINE


def _calls(explained: Explained, syscall: str) -> list[CallUses]:
    """Return what happens to the calls that a name means. Raises PolicyError."""
    if explained.tree is None:
        raise PolicyError("policy-unsupported", explained.why)
    tree = explained.tree
    return [explain_call(tree, name) for name in calls_of(explained.policy, syscall)]


# -- words -----------------------------------------------------------------------------------------


def decision_text(decision: Decision) -> str:
    """Say what happens to a call."""
    error = errno.errorcode.get(decision.errno, str(decision.errno))
    if decision == LANDLOCKED:
        return "permitted where the program's Landlock domain grants it, else denied with EACCES"
    if decision.kind == PERMIT:
        return "permitted"
    if decision.kind == DENY:
        return f"denied with {error}"
    if decision.kind == KILL:
        return "the process is killed"
    text = _NOTIFIED.get(decision.why, decision.why).format(error=error)
    logged = decision.log and decision.why not in (LOG, UNSUPPORTED, DENIED, UNMATCHED, KILLS)
    return text + (", and logged" if logged else "")


def registers_text(call: str, tests: list[Test]) -> str:
    """Write tests of argument registers as a person would: ``arg2 (oflags) & 0x241 = 0``.

    ``call``: of x86-64, which names them; "" for none.
    """
    described = call_of(call).arguments if call else ()
    names = {argument.register: argument.name for argument in described}
    words: dict[int, list[tuple[int, int]]] = {}
    for test in tests:
        shift = 32 if test.word == HIGH else 0
        words.setdefault(test.argument, []).append((test.mask << shift, test.value << shift))
    shown = []
    for argument, found in words.items():
        mask = sum(each for each, _ in found)
        value = sum(each for _, each in found)
        name = f" ({names[argument]})" if argument in names else ""
        masked = "" if mask in (WORD, WORD << 32 | WORD) else f" & {mask:#x}"
        shown.append(f"arg{argument}{name}{masked} = {value:#x}")
    return " and ".join(shown)


# -- for people ------------------------------------------------------------------------------------


def _show_policy(explained: Explained, *, first: bool) -> None:
    policy = explained.policy
    if not first:
        click.echo()
    click.echo(printable(
        f"{policy.path} ({policy.emulation}): {count_rules(policy.rules)}"
    ))
    if explained.why:
        click.echo(printable(f"refused: {explained.why}"))
    if explained.tree is None:
        return
    table = explained.tree.whole
    how = "with a supervisor" if table.needs_listener else "by the kernel alone"
    if explained.tree.policies > 1:
        how += f", with {count(explained.tree.policies - 1, 'other policy', 'other policies')}"
    click.echo(f"enforced {how}; {explained.instructions} filter instructions")
    for certificate in explained.reached:
        click.echo(printable(text_of(certificate)))
    if policy.foreign is not None:
        under = "these rules"
        if policy.foreign is not policy:
            under = f"the rules from line {policy.foreign.line} on"
        click.echo(f"calls of the 32-bit ABI are admitted, under {under}")
    if explained.tree.unfit:
        click.echo(_wrapped("not left to Landlock: ", explained.tree.unfit))
    if policy.no_dotdot:
        click.echo(f"{policy.no_dotdot:5}  no-dotdot: every file name is looked at")
    for line in policy.afters:
        click.echo(printable(f"{line.rule.line:5}  {line}"))
    if policy.adopts:
        click.echo(_wrapped("may ask for the policies of: ", printable(", ".join(policy.adopts))))
    for one in explained.rules:
        click.echo(printable(f"{one.rule.line:5}  {one.rule.told}"))
        for layer, calls in one.layers.items():
            click.echo(_layer_text(layer, calls, one.why))
    guarded = list(dict.fromkeys(use.call for use in explain_calls(table) if use.guard))
    click.echo(_wrapped("certexec's own in front of the rules: ", ", ".join(guarded)))
    if policy.asks_unmatched:
        click.echo("what no rule matches: an agent is asked; without one it is denied")
        click.echo(_wrapped("denied unasked where no rule permits them: ", ", ".join(UNASKED)))
    else:
        click.echo(f"what no rule speaks of: {decision_text(table.default)}")


def _layer_text(layer: str, calls: list[str], why: str) -> str:
    if layer == INACTIVE:
        return "         inactive: the name means no system call here"
    if layer == REFUSED:
        return _wrapped("         refused: ", f"{why} ({', '.join(calls)})")
    told = ", ".join(calls)
    if layer == OVERRULED:
        told += " (another rule, or certexec, decides before)"
    return _wrapped(f"         {layer}: ", told)


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(
        printable(text), _WIDTH, initial_indent=head, subsequent_indent=" " * 11,
        break_long_words=False, break_on_hyphens=False,
    )


def _show_call(call: CallUses) -> None:
    click.echo(f"{call.name} ({call.number})")
    if call.note:
        click.echo(f"  {call.note}")
    if call.differs:
        click.echo(f"  {_NOTIFIED[BY_POLICY]}; by this one:")
    if call.guards:
        click.echo("  certexec's own, in front of every rule:")
        for use in call.guards:
            tests = registers_text(call.name, list(use.tests)) or "always"
            click.echo(f"    {tests}: {decision_text(use.decision)} ({use.use})")
    for variant, uses, rules in call.variants:
        for use in uses:
            label = variant.label or "every use"
            tests = registers_text(call.name, list(use.tests))
            when = f" ({tests})" if tests else ""
            click.echo(f"  {label}{when}: {use.layer}, {decision_text(use.decision)}")
        for rule in rules:
            click.echo(printable(f"  {rule.line:5}  {rule}"))
        if variant.label in call.asked:
            what = "what none of these decides" if rules else "no rule speaks of it"
            click.echo(f"         {what}: an agent is asked")
        elif not rules:
            click.echo("         no rule speaks of it")
        elif any(use.decision.why == RULES for use in uses):
            click.echo("         what none of these permits: denied with EPERM")


def _foreign(explained: Explained, name: str) -> list[ForeignUses]:
    """Return what becomes of a call by the 32-bit ABI, where that comes under this policy."""
    policy, tree = explained.policy, explained.tree
    if tree is None or policy.foreign is not policy or tree.own.foreign is None:
        return []
    return list(explain_foreign(tree.own.foreign, name))


def _show_foreign(explained: Explained, name: str) -> None:
    for uses in _foreign(explained, name):
        click.echo(f"  by the 32-bit ABI, {uses.call} ({uses.number}):")
        for clause in uses.clauses:
            tests = registers_text("", list(clause.tests)) or "every use"
            click.echo(f"    {tests}: {_foreign_text(clause.decision)}")


def _foreign_text(decision: Decision) -> str:
    if decision.why == BY_POLICY:
        return "the supervisor decides, on a copy of what is not in registers"
    return decision_text(decision)


# -- for programs ----------------------------------------------------------------------------------


def _policy_json(explained: Explained) -> dict[str, object]:
    policy, tree = explained.policy, explained.tree
    shown: dict[str, object] = {
        "program": policy.path, "emulation": policy.emulation, "line": policy.line,
        "refused": explained.why or None,
    }
    if tree is None:
        return shown
    table = tree.whole
    return shown | {
        "supervisor": table.needs_listener,
        "landlock": {"accepted": policy.landlock, "unfit": tree.unfit or None},
        "policies": tree.policies,
        "no_dotdot": bool(policy.no_dotdot),
        "after": [{"line": one.rule.line, "text": str(one)} for one in policy.afters],
        "adopt": policy.adopts,
        "certificates": [
            {"path": one.path, "program": one.certificate.program.path if one.certificate else None,
             "refused": one.why or None}
            for one in explained.reached
        ],
        "instructions": explained.instructions,
        "unmatched": _decision_json(ASKED_UNMATCHED if policy.asks_unmatched else table.default),
        "rules": [
            {**_rule_json(one.rule), "layers": one.layers, "refused": one.why or None}
            for one in explained.rules
        ],
        "guards": [_use_json(use) for use in explain_calls(table) if use.guard],
    }


def _call_json(call: CallUses) -> dict[str, object]:
    return {
        "call": call.name,
        "number": call.number,
        "note": call.note or None,
        "differs": call.differs,
        "guards": [_use_json(use) for use in call.guards],
        "variants": [
            {
                "variant": variant.label, "names": list(variant.names),
                "uses": [_use_json(use) for use in uses],
                "rules": [_rule_json(rule) for rule in rules],
                "asked": variant.label in call.asked,
            }
            for variant, uses, rules in call.variants
        ],
    }


def _foreign_json(explained: Explained, name: str) -> list[dict[str, object]]:
    return [
        {
            "call": uses.call, "number": uses.number,
            "uses": [
                {
                    "decision": _decision_json(clause.decision, _foreign_text(clause.decision)),
                    "tests": _tests_json(clause.tests),
                }
                for clause in uses.clauses
            ],
        }
        for uses in _foreign(explained, name)
    ]


def _tests_json(tests: Sequence[Test]) -> list[dict[str, object]]:
    return [
        {
            "argument": test.argument, "word": "high" if test.word == HIGH else "low",
            "mask": test.mask, "value": test.value,
        }
        for test in tests
    ]


def _use_json(use: Use) -> dict[str, object]:
    return {
        "call": use.call, "use": use.use, "layer": use.layer,
        "decision": _decision_json(use.decision),
        "tests": _tests_json(use.tests),
    }


def _decision_json(decision: Decision, text: str = "") -> dict[str, object]:
    return {
        "kind": decision.kind,
        "errno": decision.errno,
        "error": errno.errorcode.get(decision.errno) if decision.errno else None,
        "why": decision.why or None,
        "log": decision.log,
        "text": text or decision_text(decision),
    }


def _rule_json(rule: Rule) -> dict[str, object]:
    return {"line": rule.line, "name": f"{rule.emulation}-{rule.syscall}", "text": rule.text}
