"""JSON Schemas of all files, for editors: `python -m gateway.configuration.schemas` writes them to config/schemas."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from gateway.configuration.cases import cases_shape
from gateway.configuration.grants import grants_shape
from gateway.configuration.settings_file import settings_shape

FOLDER: Final = Path("config/schemas")
_JSON_TYPES: Final = {"string": str, "boolean": bool, "integer": int, "array": list}


def schemas() -> dict[str, str]:
    """The name and the text of every schema."""
    return {
        "gateway.schema.json": _text(settings_shape().json_schema, "Settings of the gateway"),
        "cases.schema.json": _text(cases_shape().json_schema, "The customers' own tests of their grants"),
        "grants.schema.json": _text(grants_shape().json_schema, "Who may act for whom"),
    }


def _text(schema: dict[str, Any], title: str) -> str:
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_tidy(schema), "title": title}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any) -> Any:
    """Leave out what is true of Python only: `null`, which TOML has not, names made of names, and inner defaults."""
    if isinstance(node, list):
        return [_tidy(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: {name: _tidy(each) for name, each in value.items()} if key in {"properties", "$defs"} else _tidy(value)
        for key, value in node.items()
        if key not in {"title", "default"}
    }
    several = kept.get("anyOf", [])
    if {"type": "null"} in several:
        del kept["anyOf"]
        kept = {**next(each for each in several if each != {"type": "null"}), **kept}
    if "default" in node and _fits(node["default"], str(kept.get("type"))):
        kept["default"] = node["default"]
    return kept


def _fits(default: Any, type_: str) -> bool:
    """Whether a default reads in TOML as it does here; a duration, for one, does not."""
    kind = _JSON_TYPES.get(type_)
    return kind is not None and isinstance(default, kind) and not str(default).startswith("P")


def write(folder: Path) -> None:
    """Write every schema."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
