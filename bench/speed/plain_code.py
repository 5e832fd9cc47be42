"""How fast a Python runs plain code, and what Python it is: a line of JSON. It needs Python 3.11 and no library.

How it was built would be the wrong question. Debian's Python was made with profiles and at link time, and names neither
among its options; and every Python names the flags with which profiles would have been used.
"""

import json
import platform
import sys
import sysconfig
import time
from dataclasses import dataclass
from importlib.util import find_spec

PASSES = 12
DOCUMENTS = 60
NEEDED = ("sqlite3", "ssl")

DOCUMENT = {
    "entry": [
        {"name": f"Name-{number}", "value": str(number), "labels": ["a", "b"]} if number % 7 else {"name": "X"}
        for number in range(100)
    ]
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a document holds."""

    name: str
    value: int
    labels: tuple[str, ...]

    def fits(self, label: str, least: int) -> bool:
        """Whether it is to be told."""
        return label in self.labels and self.value >= least


def read(document: dict[str, list[dict[str, object]]]) -> list[Entry]:
    """Make objects of plain values, and look at each value as one does that somebody else sent."""
    found = []
    for each in document["entry"]:
        try:
            name, value, labels = each["name"], each["value"], each["labels"]
        except KeyError:
            continue
        if isinstance(name, str) and isinstance(value, str) and isinstance(labels, list):
            found.append(Entry(name.lower(), int(value), tuple(labels)))
    return found


def told(entries: list[Entry]) -> str:
    """Ask the objects, and write text."""
    return "".join(
        f"{each.name}={each.value};" for each in sorted(entries, key=lambda it: it.name) if each.fits("b", 9)
    )


def seconds() -> float:
    """Processor time of one pass."""
    begun = time.process_time()
    for _ in range(DOCUMENTS):
        told(read(DOCUMENT))
    return time.process_time() - begun


def main() -> None:
    """Tell it."""
    answer = {
        "program": sys.executable,
        "home": sys.base_prefix,
        "version": list(sys.version_info[:3]),
        "build": platform.python_compiler(),
        "usable": sys.version_info.releaselevel == "final"
        and platform.python_implementation() == "CPython"
        and not sysconfig.get_config_var("Py_GIL_DISABLED"),
        "missing": [name for name in NEEDED if find_spec(name) is None],
        "seconds": min(seconds() for _ in range(PASSES)),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
