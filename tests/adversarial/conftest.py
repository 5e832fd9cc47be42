"""One sandbox, and one gateway for each of aiohttp's parsers, for all vectors."""

from collections.abc import Iterator

import pytest

from tests.adversarial.stage import Nursery, Target, nursery, target
from tests.journeys.processes import Place, sandbox_process


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with sandbox_process(tmp_path_factory.mktemp("adversarial")) as running:
        yield running.place


@pytest.fixture(scope="package")
def forks() -> Iterator[Nursery]:
    with nursery(python_parser=False) as ready:
        yield ready


@pytest.fixture(scope="package", params=["parser in C", "parser in Python"])
def gateway(request: pytest.FixtureRequest, place: Place) -> Iterator[Target]:
    python = request.param == "parser in Python"
    with (
        nursery(python_parser=python) as ready,
        target(place, ready, f"attacked-{'python' if python else 'c'}") as found,
    ):
        yield found
