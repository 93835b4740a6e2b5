"""The stable words that say why something was refused, and what each means.

Each refusal carries exactly one of these words, in messages, JSON and logs. The manual page
certexec-reasons(7) is generated from this table.
"""

EXIT_INTERNAL = 125
"""certexec itself failed: nothing was judged."""
EXIT_REFUSED = 126
"""The certificate, its signer, the invoker, the binary or the policy was judged and refused."""
EXIT_NOT_FOUND = 127
"""The certificate or the binary that it names does not exist."""

REASONS: dict[str, tuple[int, str]] = {
    # word: (exit code on the run path, meaning)
    "malformed": (EXIT_REFUSED, "the bytes are not a certificate in the strict format"),
    "unsupported": (EXIT_REFUSED, "the certificate demands what this certexec cannot enforce"),
    "untrusted-key": (EXIT_REFUSED, "no signature is by a key in the trust store"),
    "revoked-key": (EXIT_REFUSED, "the signing key, serial or digest was revoked"),
    "bad-signature": (EXIT_REFUSED, "a signature by a known key does not fit the content"),
    "key-constraint": (EXIT_REFUSED, "the key is trusted, but not for this path or lifetime"),
    "not-yet-valid": (EXIT_REFUSED, "the clock is before the certificate's first moment"),
    "expired": (EXIT_REFUSED, "the clock is past the certificate's last moment"),
    "binary-missing": (EXIT_NOT_FOUND, "the binary that the certificate names does not exist"),
    "binary-mismatch": (EXIT_REFUSED, "the binary is not the one that was signed"),
    "binary-unusable": (EXIT_REFUSED, "the binary cannot be read or executed where it stands"),
    "policy-mismatch": (EXIT_REFUSED, "the policy is not the one that was signed"),
    "policy-syntax": (EXIT_REFUSED, "the policy is not in the policy language"),
    "policy-unsupported": (EXIT_REFUSED, "the policy holds a rule that cannot be enforced here"),
    "file-mismatch": (EXIT_REFUSED, "a file that the program relies on is not as signed"),
    "acl-denied": (EXIT_REFUSED, "the invoker is not on the certificate's invocation list"),
    "tty-required": (EXIT_REFUSED, "the certificate demands a terminal and the invoker has none"),
    "argv-denied": (EXIT_REFUSED, "the arguments are not those that the certificate allows"),
    "time-denied": (EXIT_REFUSED, "now is outside the certificate's time windows"),
    "setuid-denied": (EXIT_REFUSED, "an identity is granted or demanded that may not be given"),
    "identity-mismatch": (EXIT_REFUSED, "a user or group has another number here than signed"),
    "limit-failed": (EXIT_REFUSED, "a limit that the certificate demands cannot be set"),
    "kernel-unsupported": (EXIT_REFUSED, "this kernel or file system cannot enforce this"),
    "trust-unsafe": (EXIT_REFUSED, "the trust store can be written by somebody who must not"),
    "trust-syntax": (EXIT_REFUSED, "a constraint file of the trust store is not in its format"),
    "nested": (EXIT_REFUSED, "a certificate was executed inside a confined program"),
    "not-found": (EXIT_NOT_FOUND, "the certificate does not exist"),
    "unreadable": (EXIT_INTERNAL, "a file that certexec needs cannot be read"),
    "certificate-unreadable": (EXIT_REFUSED, "the invoker may not read the certificate"),
    "bad-key": (EXIT_REFUSED, "the key is damaged, weak or of an unknown kind"),
    "bad-passphrase": (EXIT_REFUSED, "the passphrase does not open the key"),
    "exists": (EXIT_REFUSED, "the file exists and would be overwritten"),
    "usage": (EXIT_INTERNAL, "the command was called in a way that cannot be understood"),
    "not-root": (EXIT_INTERNAL, "the command needs root"),
    "internal": (EXIT_INTERNAL, "certexec itself failed"),
}

HINTS: dict[str, str] = {
    # word: what mends it, wherever an error says nothing better
    "malformed": "if it was a certificate once, it is damaged: fetch it anew, or sign again",
    "binary-missing": "install the program, or sign it anew where it is now",
    "binary-unusable": '"ls -l" and "findmnt -T" show whether it may be read and executed there',
    "argv-denied": '"certexec inspect" shows which arguments are allowed',
    "time-denied": '"certexec inspect" shows when it may be run (UTC)',
}
