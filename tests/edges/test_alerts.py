"""The alert rules ask for metrics that there are, by labels that they have, and each says what to do."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.edges.still_gauges import every_metric

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
SERIES = re.compile(r"([a-z_]+)(?:\{([^}]*)\})?(?:\[(\d+[smhd])\])?")
WORDS = {
    *("sum", "by", "on", "and", "or", "max", "min", "rate", "increase", "histogram_quantile", "time"),
    *("le", "instance", "reason", "upstream"),
}
BESIDE_OURS = {"up": {"job"}}


def known() -> Mapping[str, set[str]]:
    """Every time series that there may be, with its labels."""
    found: dict[str, set[str]] = dict(BESIDE_OURS)
    for line in every_metric().text().decode().splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


KNOWN = known()


def asked(expression: str) -> Iterator[tuple[str, set[str], str | None]]:
    """Each series that an expression asks for: name, labels it selects by, and over how long."""
    for name, selectors, over in SERIES.findall(re.sub(r"\b(?:by|on) \([^)]*\)", "", expression)):
        if name not in WORDS:
            yield name, set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', selectors)), over or None


def faults_of(expression: str) -> list[str]:
    """What is wrong with an expression, as far as can be told without Prometheus."""
    without = re.sub(r'"[^"]*"', '""', expression)
    wrong = ["brackets"] if any(without.count(a) != without.count(b) for a, b in ("()", "[]", "{}")) else []
    series = list(asked(expression))
    wrong += [] if series else ["asks for nothing"]
    for name, labels, over in series:
        if name not in KNOWN:
            wrong.append(f"{name} is no metric")
        elif labels - KNOWN[name]:
            wrong.append(f"{name} has no {labels - KNOWN[name]}")
        counts = name.endswith(("_total", "_bucket"))
        ranged = re.search(rf"(?:rate|increase)\({name}\b", expression) is not None
        if counts != (over is not None) or counts != ranged:
            wrong.append(f"{name} is to be asked for its {'rise' if counts else 'value'}")
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        mine = set().union({"instance", "le"}, *(KNOWN.get(name, set()) for name, _, _ in series))
        wrong += [f"there is no label {label}" for label in labels.split(", ") if label not in mine]
    return wrong


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_there_is_and_says_what_to_do(rule: Mapping[str, Any]) -> None:
    assert faults_of(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


def test_every_runbook_has_its_rule() -> None:
    alerts = (
        (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Alerts\n")[2].partition("\n## ")[0]
    )
    assert re.findall(r"^### (\w+)$", alerts, re.MULTILINE) == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("pkb_gateway_audit_healthy == 0", None),
        ("pkb_gateway_audit_health == 0", "is no metric"),
        ('pkb_gateway_breaker{route="x"} == 2', "has no"),
        ("rate(pkb_gateway_audit_healthy[5m]) > 0", "its value"),
        ("pkb_gateway_shed_total > 0", "its rise"),
        ("sum by (customer) (rate(pkb_gateway_shed_total[5m])) > 0", "no label customer"),
        ("sum((rate(pkb_gateway_shed_total[5m])) > 0", "brackets"),
        ("1 > 0", "asks for nothing"),
    ],
)
def test_a_wrong_expression_is_noticed(expression: str, fault: str | None) -> None:
    wrong = " ".join(faults_of(expression))
    assert wrong == "" if fault is None else fault in wrong


def test_prometheus_itself_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("PROMETHEUS DID NOT CHECK THE ALERT RULES: THERE IS NO PROMTOOL")
    ran = subprocess.run([promtool, "check", "rules", str(FILE)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
