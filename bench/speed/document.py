"""The figures in docs/performance.md: between two marks, and only such as a run found."""

from pathlib import Path
from typing import Final

from bench.speed.findings import Findings
from bench.speed.report import markdown

DOCUMENT: Final = Path("docs/performance.md")
BEGIN: Final = "<!-- figures: written by `make bench`, do not edit -->"
END: Final = "<!-- end of the figures -->"


def write(found: Findings, path: Path = DOCUMENT) -> None:
    """Put the figures of a run into their place. Raises ValueError where the place is not marked."""
    path.write_text(placed(path.read_text(encoding="utf-8"), markdown(found)), encoding="utf-8")


def placed(text: str, figures: str) -> str:
    """A document with other figures in their place. Raises ValueError."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the place of the figures is not marked")
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"
