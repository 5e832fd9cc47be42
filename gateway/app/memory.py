"""When Python's collector looks for unused cycles of objects, and among which.

A start makes some 200,000 objects that last as long as the process: modules, classes, the shapes of files. Left to
itself the collector goes through them time and again while they are made, and later in the middle of requests.
"""

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 20)
"""New objects before the collector looks at the youngest, and looks before it turns to older ones.

Python's own 700 has it look every other request. What requests leave in cycles is little."""


def begin() -> None:
    """Look at nothing during a start."""
    gc.disable()


def settle() -> None:
    """Set apart, unlooked at, what the start made, and from now on look at what comes on top.

    The few cycles that the start left unused stay too: to find them would stop the first requests for 50 ms.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
