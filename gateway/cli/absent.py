"""A library's taste for another that is installed, and not wanted in this process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(module: str) -> Iterator[None]:
    """Let `import` not find it for a while, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    # How Python marks a module that cannot be imported.
    sys.modules[module] = None  # type: ignore[assignment]  # typeshed knows of modules only
    try:
        yield
    finally:
        del sys.modules[module]
