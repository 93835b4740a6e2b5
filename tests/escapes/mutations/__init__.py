"""Each defence taken out by itself: the attack that it stops must then succeed.

The functions run in the process of one policy server, which becomes the supervisor, before it
serves; so only what the run path may import is imported here. Launcher, kernel, certificate and
policy stay as they are. The text of each is its docstring.
"""

from .calls import *  # noqa: F403
from .rights import *  # noqa: F403
