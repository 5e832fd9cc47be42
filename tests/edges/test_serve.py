"""What `serve` asks of the machine before it opens anything."""

import resource
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.cli.serve import open_many_files


@pytest.fixture
def hard() -> Iterator[int]:
    """This process with room for few files, which it may raise."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_may_open_as_many_files_as_the_machine_allows(hard: int) -> None:
    open_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("fault", [ValueError, OSError])
def test_a_machine_that_refuses_leaves_it_as_it_is(
    hard: int, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any) -> None:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(resource, "setrlimit", refusing)
        open_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(256, hard), hard)
