"""The Python that the benchmark runs on: the fastest that is here, and none that a deployment could not have."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.speed.interpreters import OWN, Interpreter, asked, better, chosen, making, measured, programs
from bench.speed.tools import Unavailable

HERE = Path(sys.executable)
FAST, SLOW = 1e-6, 100.0


def interpreter(
    seconds: float, version: tuple[int, int, int] = (3, 11, 2), *, usable: bool = True, missing: tuple[str, ...] = ()
) -> Interpreter:
    return Interpreter(Path("python3"), "home", version, "cc 1", usable, missing, seconds)


def installed(
    folder: Path,
    name: str,
    *,
    seconds: float,
    home: str = "",
    version: tuple[int, int, int] = (3, 99, 1),
    missing: tuple[str, ...] = (),
) -> Path:
    """Put a program there that answers as a Python would that took so long."""
    program = folder / name
    told = {
        "program": str(program),
        "home": home or name,
        "version": version,
        "build": "cc 1",
        "usable": True,
        "missing": missing,
        "seconds": seconds,
    }
    program.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def made(of: Interpreter) -> Path:
    return Path("environments") / of.program.name


def not_made(_of: Interpreter) -> Path:
    raise Unavailable("the network is away")


def test_this_very_python_answers_what_it_is_and_how_long_plain_code_takes() -> None:
    told = asked(HERE)
    assert told is not None
    assert (told.version, told.home, told.supported) == (sys.version_info[:3], sys.base_prefix, True)
    assert 0 < told.seconds < 10
    assert str(told.program.parent) not in told.title


def test_only_what_is_called_like_a_python_3_is_asked_and_each_folder_looked_into_once(tmp_path: Path) -> None:
    for name in ("python3", "python3.12", "python3.12-config", "python", "python2.7", "pythonic3"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "python3.13").touch(0o644)
    (tmp_path / "again").symlink_to(tmp_path)
    path = os.pathsep.join([str(tmp_path), str(tmp_path / "again"), str(tmp_path / "away")])
    assert [each.name for each in programs(path, [])] == ["python3", "python3.12"]


def test_an_installation_is_measured_once_under_whatever_name_and_what_is_no_python_not_at_all(tmp_path: Path) -> None:
    one = installed(tmp_path, "python3", seconds=2.0, home="/one")
    again = installed(tmp_path, "python3.99", seconds=1.0, home="/one")
    newer = installed(tmp_path, "python3.100", seconds=3.0, home="/one", version=(3, 100, 0))
    (tmp_path / "python3.98").write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    (tmp_path / "python3.98").chmod(0o755)
    (tmp_path / "python3.97").write_text("#!/bin/sh\necho Python\n", encoding="utf-8")
    (tmp_path / "python3.97").chmod(0o755)
    found = measured([one, again, tmp_path / "python3.98", tmp_path / "python3.97", tmp_path / "away", newer])
    assert [(each.program, each.seconds) for each in found] == [(one, 2.0), (newer, 3.0)]


def test_better_are_those_clearly_faster_no_older_and_fit_for_a_deployment_the_fastest_first() -> None:
    slower, hardly, faster, fastest = (interpreter(seconds) for seconds in (1.2, 0.96, 0.9, 0.8))
    newer = interpreter(0.7, (3, 13, 0))
    older = interpreter(0.1, (3, 11, 9))
    free_threaded = interpreter(0.1, usable=False)
    without = interpreter(0.1, missing=("ssl",))
    found = better(interpreter(1.0), [slower, hardly, faster, fastest, newer, free_threaded, without])
    assert found == [newer, fastest, faster]
    assert better(interpreter(1.0, (3, 12, 0)), [older, newer]) == [newer]
    assert not interpreter(0.1, (3, 10, 13)).supported


def test_the_fastest_is_run_on_and_the_report_says_by_how_much(tmp_path: Path) -> None:
    around = [installed(tmp_path, name, seconds=each) for name, each in (("a", SLOW), ("b", FAST), ("c", FAST / 2))]
    choice = chosen(None, around, made)
    assert choice.program == Path("environments/c")
    assert choice.why.startswith("3.99.1 (cc 1), the fastest of 4 found: plain code runs ")
    assert "times as fast as on the checkout's own 3." in choice.why
    assert str(tmp_path) not in choice.why


def test_where_nothing_is_clearly_faster_the_checkouts_own_is_run_on_and_nothing_is_made(tmp_path: Path) -> None:
    around = [installed(tmp_path, "a", seconds=SLOW), installed(tmp_path, "b", seconds=FAST, version=(3, 9, 9))]
    choice = chosen(None, around, not_made)
    assert choice.program == HERE
    assert choice.why.endswith("the checkout's own: none of 3 found runs plain code clearly faster")


def test_one_that_cannot_be_set_up_is_named_and_the_checkouts_own_is_run_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = chosen(None, [installed(tmp_path, "a", seconds=FAST)], not_made)
    assert choice.program == HERE
    assert choice.why.endswith("the checkout's own: 3.99.1 (cc 1) is faster, but could not be set up")
    assert "SKIPPED: Python 3.99.1 (cc 1): the network is away" in capsys.readouterr().err


def test_what_is_asked_for_is_run_on_whether_or_not_it_is_faster(tmp_path: Path) -> None:
    fast, slow = (installed(tmp_path, name, seconds=each) for name, each in (("fast", FAST), ("slow", SLOW)))
    own = chosen(OWN, [fast], not_made)
    assert (own.program, own.why.endswith("the checkout's own, as asked for")) == (HERE, True)
    named = chosen(str(HERE), [fast], not_made)
    assert (named.program, named.why) == (HERE, own.why)
    other = chosen(str(slow), [fast], made)
    assert other.program == Path("environments/slow")
    assert other.why.startswith("3.99.1 (cc 1), as asked for: plain code runs 0.00 times as fast as on")


def test_what_is_asked_for_and_cannot_be_run_on_ends_the_run(tmp_path: Path) -> None:
    without = installed(tmp_path, "without", seconds=FAST, missing=("ssl",))
    with pytest.raises(Unavailable, match=r"no CPython 3\.11 or newer .*: it lacks ssl$"):
        chosen(str(without), [], made)
    done = subprocess.run(
        [HERE, "-m", "bench.speed", "--python", "no-such-python"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "error: no-such-python is no CPython 3.11 or newer that the gateway can be deployed on" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="THERE IS NO MAKE")
def test_an_environment_is_made_as_that_of_a_deployment_is(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    done = subprocess.run(
        [*making(interpreter(1.0), folder), "--dry-run"], capture_output=True, text=True, check=False, env=os.environ
    )
    commands = done.stdout
    assert f"python3 -m venv {folder}\n" in commands
    assert "install --no-deps --require-hashes -r requirements.lock -r requirements-build.lock" in commands
    assert "install --no-deps --no-build-isolation --editable ." in commands
    assert "requirements-dev.lock" not in commands
    assert f"{folder}/bin/python -m pip" in commands
