"""How one supervisor puts its verdicts into practice."""

from __future__ import annotations


class Manner:
    """How verdicts are put into practice.

    Attributes:
        log_denials: write down what rules deny (what no rule matches is always written down).
        log_permits: write down what is permitted, too.
        permissive: write denials down and let the call happen all the same; never with a grant.
    """

    __slots__ = ("log_denials", "log_permits", "permissive")

    def __init__(self, log_denials: bool, log_permits: bool, permissive: bool) -> None:
        self.log_denials = log_denials
        self.log_permits = log_permits
        self.permissive = permissive
