"""JSON compared as it is written, and an appointment full of what no gateway should touch."""

import json
from typing import Any

from tests.journeys.processes import Json

STRANGE = (
    '"extension": [{"url": "https://pas.example/n", "valueDecimal": 1.10},'
    ' {"url": "https://pas.example/e", "valueDecimal": 1E+2},'
    ' {"url": "https://pas.example/z", "valueDecimal": -0.0},'
    ' {"url": "https://pas.example/b", "valueDecimal": 12345678901234567890.12345678901234567890},'
    ' {"url": "https://pas.example/t", "valueString": "caf\\u00e9 \\ud83e\\uddea \\"\\\\/ <&> \\u2028"}],'
    ' "unheardOf": {"a": [null, [], {}, true, false, 0, 0.10, ""]}, "_comment": {"id": "c1"},'
)


def exactly(text: str) -> Any:
    """Read JSON with every number as the text it is written in."""
    return json.loads(
        text, parse_float=lambda written: f"number {written}", parse_int=lambda written: f"number {written}"
    )


def differences(before: Json, after: Json) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
