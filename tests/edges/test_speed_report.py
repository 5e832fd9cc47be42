"""What the benchmark makes of its figures: promises kept and missed, sizing, the report, its place in the document."""

import json
import math
from pathlib import Path

import pytest

from bench.speed import document
from bench.speed.bars import bars, missed
from bench.speed.decisions import costs, pairs
from bench.speed.figures import Figure
from bench.speed.findings import DecisionCost, Findings, Latency, Records, Reload, Start, Work
from bench.speed.report import markdown
from bench.speed.sizing import sizing


def figure(value: float) -> Figure:
    return Figure.of([value, value * 2, value / 2])


def work(contender: str, scenario: str, cpu: float, rate: float = 1000.0) -> Work:
    return Work(contender, scenario, figure(cpu), figure(rate), 500, 60.0)


def latency(contender: str, p50: float, p99: float) -> Latency:
    return Latency(contender, "cancel", 200.0, p50, p99, p99 + 1, 3000, 0.1)


def reload(grants: int, seconds: float, stall: float) -> Reload:
    return Reload(grants, figure(seconds), figure(stall), figure(1.0), 80.0, 90.0, 85.0)


def findings() -> Findings:
    return Findings(
        facts={"processor": "one"},
        titles={"gateway": "the gateway"},
        durable=["the gateway"],
        work=[
            work("gateway", "cancel", 400),
            work("gateway-2", "cancel", 430),
            work("gateway-apart", "cancel", 420),
            work("gateway", "read", 200),
            work("gateway", "refusal", 110),
            work("gateway", "token", 300),
            work("njs", "cancel", 500),
            work("njs-cache", "cancel", 250),
            work("fastify", "cancel", 300),
            work("fastify-durable", "cancel", 410),
            work("fastapi", "cancel", 6000),
            work("bare", "cancel", 320),
            work("bare", "refusal", 60),
            work("hello", "hello", 40),
        ],
        latency=[
            latency("direct", 150, 152),
            latency("njs", 151, 154),
            latency("gateway", 151.5, 155),
            latency("bare", 151.25, 154.5),
        ],
        starts=[Start(1, figure(0.8), 80.0, 70.0), Start(2, figure(1.2), 81.0, 60.0)],
        reloads=[reload(2_000, 0.5, 15.0), reload(20_000, 6.0, 40.0)],
        decisions=[DecisionCost(10, figure(20.0), figure(20.0)), DecisionCost(100_000, figure(20.4), figure(25.0))],
        records=[Records(kind, 100.0, 1000.0, 2.0, 8192.0) for kind in ("cancel", "read", "token")],
    )


def test_every_promise_is_judged_by_the_figures_of_its_contenders() -> None:
    found = {bar.what.partition(": at most")[0]: (bar.found, bar.verdict) for bar in bars(findings())}
    assert found == {
        "1. CPU per durable, audited cancel, to nginx + njs with its access log": (0.8, "met"),
        "1. CPU per durable, audited cancel, to nginx + njs that also remembers proven tokens": (1.6, "above"),
        "1. CPU per durable, audited cancel, to Fastify that waits for fdatasync": (
            pytest.approx(0.9756, 0.001),
            "met",
        ),
        "1. CPU per durable, audited cancel, to Fastify with a buffered log": (pytest.approx(1.333, 0.001), "above"),
        "1. CPU per durable, audited cancel, to FastAPI + httpx": (pytest.approx(0.0667, 0.01), "met"),
        "1. CPU per durable, audited cancel, to aiohttp and PyJWT alone, which do nothing else": (1.25, "above"),
        "1. CPU per refusal without an upstream call, to an aiohttp hello": (2.75, "met"),
        "2. cancels at 200/s, upstream of 50 ms: p50 at most 1 ms above nginx + njs": (0.5, "met"),
        "2. cancels at 200/s, upstream of 50 ms: p99 added over direct, to that of nginx + njs": (1.5, "met"),
        "3. a decision with 100,000 grants in memory, to one with 10": (pytest.approx(1.02), "met"),
        "3. 2,000 grants, from file change to in force": (0.5, "met"),
        "3. 2,000 grants, longest answer meanwhile": (15.0, "met"),
        "3. 20,000 grants, from file change to in force": (6.0, "met"),
        "3. 20,000 grants, longest answer meanwhile": (40.0, "met"),
        "4. CPU per cancel with two workers, to one": (pytest.approx(1.075), "met"),
        "4. the same with two gateways that share the machine and nothing else": (pytest.approx(1.05), "below"),
        "5. cold start to ready": (0.8, "met"),
        "5. idle, per worker": (pytest.approx(84.93, 0.01), "met"),
    }
    assert missed(findings()) == []


def test_beside_each_promise_stands_what_the_libraries_alone_reach() -> None:
    floors = {bar.what.partition(": at most")[0]: bar.floor() for bar in bars(findings()) if bar.alone is not None}
    assert floors == {
        "1. CPU per durable, audited cancel, to nginx + njs with its access log": "0.64×",
        "1. CPU per durable, audited cancel, to nginx + njs that also remembers proven tokens": "1.28×",
        "1. CPU per durable, audited cancel, to Fastify that waits for fdatasync": "0.78×",
        "1. CPU per durable, audited cancel, to Fastify with a buffered log": "1.07×",
        "1. CPU per durable, audited cancel, to FastAPI + httpx": "0.05×",
        "1. CPU per durable, audited cancel, to aiohttp and PyJWT alone, which do nothing else": "1.00×",
        "1. CPU per refusal without an upstream call, to an aiohttp hello": "1.50×",
        "2. cancels at 200/s, upstream of 50 ms: p50 at most 1 ms above nginx + njs": "0.25 ms",
        "2. cancels at 200/s, upstream of 50 ms: p99 added over direct, to that of nginx + njs": "1.25×",
    }
    assert "| 0.80× | 0.64× | met |" in markdown(findings())


def test_a_promise_that_does_not_hold_is_missed_and_one_not_measured_is_neither() -> None:
    found = findings()
    found.starts = [Start(1, figure(1.1), 80.0, 70.0)]
    found.reloads = [reload(2_000, 0.5, 21.0)]
    assert [bar.what.partition(":")[0] for bar in missed(found)] == [
        "3. 2,000 grants, longest answer meanwhile",
        "5. cold start to ready",
    ]
    assert "| – |  | not measured |" in markdown(found)


def test_a_gateway_too_slow_for_the_rate_misses_the_promise_of_its_latency() -> None:
    found = findings()
    found.latency = [each for each in found.latency if each.contender != "gateway"]
    assert [bar.found for bar in missed(found)] == [math.inf, math.inf]
    assert markdown(found).count("| cannot keep up | 0.25 ms | **missed** |") == 1


def test_a_run_of_a_part_judges_only_what_it_measured() -> None:
    part = Findings(work=[work("gateway", "cancel", 400), work("njs", "cancel", 500)])
    text = markdown(part)
    assert "| 0.80× |  | met |" in text
    assert "not measured" not in text
    assert "### Latency" not in text


def test_the_report_tells_medians_and_spread_and_what_was_left_out() -> None:
    found = findings()
    found.skipped = ["FastAPI: there is no pip"]
    text = markdown(found)
    assert "| the gateway | cancel | 400 (200–800) | 1,000 (500–2,000) | 60 |" in text
    assert "| gateway | cancel | 200 | 151.5 (+1.5)" not in text
    assert "| the gateway | cancel | 200 | 151.5 (+1.5) | 155.0 (+3.0) | 156.0 (+3.0) | 0.1 |" in text
    assert text.endswith("### Not measured\n\n- FastAPI: there is no pip\n")


def test_national_scale_is_reckoned_from_what_requests_were_found_to_cost() -> None:
    reckoned = sizing(findings())
    assert reckoned is not None
    # 130 million a year are 4.12 a second: one cancel of 400 µs, four reads of 200 µs, a tenth of a token of 300 µs.
    assert reckoned.mean == pytest.approx(4.122 * 5.1, 0.001)
    assert reckoned.cores_peak == pytest.approx(4.122 * 50 * 1230e-6, 0.001)
    assert reckoned.workers == 1
    assert reckoned.audit_year == pytest.approx(130e6 * 5.1 * 1000 / 2**30, 0.001)
    assert reckoned.syncs_peak == pytest.approx(4.122 * 50 * 5.1 * 2, 0.001)


def test_nothing_is_reckoned_from_costs_that_were_not_measured() -> None:
    found = findings()
    found.records = []
    assert sizing(found) is None
    assert "### National scale" not in markdown(found)


def test_a_run_comes_back_from_its_json() -> None:
    assert Findings.read(json.loads(json.dumps(findings().told()))) == findings()


def test_the_figures_of_the_document_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n", encoding="utf-8")
    document.write(findings(), page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{document.BEGIN}\n\n### The machine")
    assert text.endswith(f"{document.END}\nafter\n")
    assert "\nold\n" not in text
    with pytest.raises(ValueError, match="not marked"):
        document.placed("no marks", "figures")


def test_the_document_has_a_place_for_the_figures() -> None:
    assert document.placed(document.DOCUMENT.read_text(encoding="utf-8"), "new").count("new") >= 1


def test_decisions_are_measured_about_pairs_from_all_over_the_policy() -> None:
    assert [who.customer for who, _ in pairs(100_000, 10)] == [
        f"c{number}000" if number else "c0" for number in range(10)
    ]
    assert len(pairs(10, 1_000)) == 10
    assert [each.grants for each in costs(1, sizes=(10, 50), decisions=20)] == [10, 50]
