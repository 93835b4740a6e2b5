"""certexec: a signed certificate in $PATH is the program."""

__version__ = "0.1.0"
