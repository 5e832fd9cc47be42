"""Which Python the benchmark runs on: the fastest that is here, since that is what is deployed.

`pyenv install` and a plain `./configure` build a Python that takes half as long again as that of Debian, or of the
official container image. All contenders written in Python run on the same one, in an environment made as a deployment
makes its own.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.speed import plain_code
from bench.speed.tools import Unavailable
from bench.speed.turns import in_turns

OWN: Final = "own"
"""On the command line: the Python of the checkout's .venv."""
ENVIRONMENTS: Final = Path(".bench/python")
FOLDERS: Final = (Path("/usr/local/bin"), Path("/usr/bin"))
OLDEST: Final = (3, 11)
ROUNDS: Final = 3
CLEARLY: Final = 1.05
"""One that is not faster by this much is not worth an environment of its own: rounds differ by as much."""
PATIENCE: Final = 30.0
_NAME: Final = re.compile(r"python3(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that answered; `seconds` is what plain code took."""

    program: Path
    home: str
    version: tuple[int, int, int]
    build: str
    usable: bool
    missing: tuple[str, ...]
    seconds: float

    @property
    def title(self) -> str:
        """For people, without a path."""
        return f"{'.'.join(map(str, self.version))} ({self.build})"

    @property
    def installation(self) -> tuple[str, tuple[int, int, int]]:
        """The same for every name and every environment of it."""
        return self.home, self.version

    @property
    def supported(self) -> bool:
        """Whether the gateway can be deployed on it."""
        return self.usable and not self.missing and self.version[:2] >= OLDEST


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run on, and why in words."""

    program: Path
    why: str


Make = Callable[[Interpreter], Path]
"""Makes an environment on an interpreter, and gives its program. Raises Unavailable."""


def asked(program: Path) -> Interpreter | None:
    """Ask one. None if it is none, or one so old that it does not understand the question."""
    command = [program, "-I", "-S", str(Path(plain_code.__file__).resolve())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
        told = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    told |= {"program": Path(told["program"]), "version": tuple(told["version"]), "missing": tuple(told["missing"])}
    return Interpreter(**told)


def programs(path: str, more: Sequence[Path] = FOLDERS) -> list[Path]:
    """All that are called like a Python 3. Links are not followed: some are told by their name what to be."""
    folders = [Path(folder).resolve() for folder in path.split(os.pathsep) if folder]
    return [
        each
        for folder in dict.fromkeys([*folders, *more])
        if folder.is_dir()
        for each in sorted(folder.iterdir())
        if _NAME.fullmatch(each.name) and os.access(each, os.X_OK)
    ]


def measured(candidates: Iterable[Path]) -> list[Interpreter]:
    """Those that answer, one for each installation, in their order and each by its best round."""
    best: dict[tuple[str, tuple[int, int, int]], Interpreter] = {}
    for each in candidates:
        if (found := asked(each)) is not None:
            best.setdefault(found.installation, found)
    for which in in_turns(list(best), ROUNDS):
        if (found := asked(best[which].program)) is not None:
            best[which] = replace(best[which], seconds=min(best[which].seconds, found.seconds))
    return list(best.values())


def better(own: Interpreter, others: Iterable[Interpreter]) -> list[Interpreter]:
    """Those on which plain code runs clearly faster than on the checkout's own, and which are no older; best first."""
    return sorted(
        (
            each
            for each in others
            if each.supported and each.version[:2] >= own.version[:2] and own.seconds >= CLEARLY * each.seconds
        ),
        key=lambda each: each.seconds,
    )


def chosen(wanted: str | None, around: Sequence[Path], make: Make) -> Choice:
    """Decide, and make what is needed to run on it. Raises Unavailable where the one asked for cannot be had."""
    here = Path(sys.executable)
    if wanted is not None and wanted != OWN:
        return _as_asked(here, wanted, make)
    own, *others = measured([here] if wanted == OWN else [here, *around])
    if wanted == OWN:
        return Choice(here, f"{own.title}, the checkout's own, as asked for")
    worth = better(own, others)
    for each in worth:
        try:
            program = make(each)
        except Unavailable as error:
            print(f"SKIPPED: Python {each.title}: {error}", file=sys.stderr, flush=True)
        else:
            return Choice(program, f"{each.title}, the fastest of {1 + len(others)} found: {compared(each, own)}")
    if worth:
        return Choice(here, f"{own.title}, the checkout's own: {worth[0].title} is faster, but could not be set up")
    return Choice(
        here, f"{own.title}, the checkout's own: none of {1 + len(others)} found runs plain code clearly faster"
    )


def compared(one: Interpreter, own: Interpreter) -> str:
    """How much faster, in words."""
    return f"plain code runs {own.seconds / one.seconds:.2f} times as fast as on the checkout's own {own.title}"


def _as_asked(here: Path, wanted: str, make: Make) -> Choice:
    program = shutil.which(wanted)
    other = asked(Path(program)) if program else None
    if other is None or not other.supported:
        lacks = f": it lacks {', '.join(other.missing)}" if other and other.missing else ""
        raise Unavailable(f"{wanted} is no CPython 3.11 or newer that the gateway can be deployed on{lacks}")
    own, *others = measured([here, other.program])
    if not others:
        return Choice(here, f"{own.title}, the checkout's own, as asked for")
    return Choice(make(other), f"{other.title}, as asked for: {compared(others[0], own)}")


def environment(of: Interpreter) -> Path:
    """The program of an environment on it, made where there is none yet. Raises Unavailable."""
    version = ".".join(map(str, of.version))
    folder = ENVIRONMENTS / f"{version}-{hashlib.sha256(of.home.encode()).hexdigest()[:8]}"
    print(f"setting up an environment on Python {of.title}", file=sys.stderr, flush=True)
    variables = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    done = subprocess.run(making(of, folder), capture_output=True, text=True, env=variables, check=False)
    if done.returncode != 0:
        raise Unavailable(f"make ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return folder.resolve() / "bin/python"


def making(of: Interpreter, folder: Path) -> Sequence[str]:
    """The command with which a checkout sets up its own environment for `make serve`, for another place and Python."""
    return ["make", "--silent", f"{folder}/.service", f"VENV={folder}", f"PYTHON={of.program}"]
