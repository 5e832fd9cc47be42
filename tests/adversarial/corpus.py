"""All vectors: those that anybody may send to a deployment, and those that need a sandbox."""

from pathlib import Path

from gateway.selftest.vectors import Corpus, harmless, read

HERE = Path(__file__).parent / "vectors"


def whole() -> Corpus:
    """Every vector that is bytes."""
    parts = [harmless(), *(read(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.toml")))]
    families = {name: text for part in parts for name, text in part.families.items()}
    return Corpus(families, tuple(vector for part in parts for vector in part.vectors))
