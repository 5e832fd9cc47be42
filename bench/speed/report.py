"""The report for people."""

from collections.abc import Iterable, Iterator, Sequence

from bench.speed.bars import bars
from bench.speed.findings import Findings
from bench.speed.sizing import APPOINTMENTS, BUSY, PEAK, READS, TOKENS, WRITES, sizing


def markdown(found: Findings) -> str:
    """All of it."""
    parts: Iterable[str] = (
        _facts(found),
        _bars(found),
        _work(found),
        _latency(found),
        _capacity(found),
        _lives(found),
        _reloads(found),
        _decisions(found),
        _records(found),
        _sizing(found),
        _profile(found),
        _skipped(found),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines)


def _section(title: str, about: str, table: str) -> str:
    return f"### {title}\n\n{about}\n\n{table}"


def _facts(found: Findings) -> str:
    if not found.facts:
        return ""
    text = ", ".join(f"{name} {value}" for name, value in found.facts.items())
    return f"### The machine\n\n{text}."


def _bars(found: Findings) -> str:
    # A run of a part says nothing about what it left out.
    judged = [bar for bar in bars(found) if found.facts or bar.found is not None]
    if not judged:
        return ""
    rows = [(bar.what, bar.text(), bar.floor(), bar.verdict) for bar in judged]
    about = (
        "Ratios of medians of this run. `below` and `above` are comparisons that nobody promised. Last but one: what "
        "`bare`, aiohttp and PyJWT alone, reaches in the same run."
    )
    return _section("What is promised", about, _table(("promise", "found", "bare", "verdict"), rows))


def _work(found: Findings) -> str:
    if not found.work:
        return ""
    rows = [
        (
            found.titles.get(each.contender, each.contender),
            each.scenario,
            each.cpu.text(),
            each.rate.text(),
            f"{each.memory:.0f}",
        )
        for each in sorted(found.work, key=lambda each: each.scenario)
    ]
    about = (
        "Processor time of all processes of a contender, user and system; every connection busy. Median of the rounds, "
        f"least and most. These wait for the disk before they answer: {', '.join(found.durable)}."
    )
    heads = ("contender", "scenario", "µs CPU per request", "requests/s", "MiB")
    return _section("Processor time and throughput", about, _table(heads, rows))


def _latency(found: Findings) -> str:
    if not found.latency:
        return ""
    direct = {(each.scenario, each.rate): each for each in found.latency if each.contender == "direct"}
    rows = []
    for each in sorted(found.latency, key=lambda each: (each.scenario, each.rate)):
        base = direct.get((each.scenario, each.rate))
        own = (each.p50, each.p99, each.p999)
        added = (
            [f"{one - other:+.1f}" for one, other in zip(own, (base.p50, base.p99, base.p999), strict=True)]
            if base
            else ["–"] * 3
        )
        rows.append(
            (
                found.titles.get(each.contender, each.contender),
                each.scenario,
                f"{each.rate:.0f}",
                *(f"{value:.1f} ({more})" for value, more in zip(own, added, strict=True)),
                f"{each.late:.1f}",
            )
        )
    about = (
        "Milliseconds from the moment at which a request was due, and how much that is above direct. The upstream "
        "takes 50 ms for each of its requests: a cancel has three, a read two. Open loop, random moments, all rounds "
        "pooled. Last column: how late the driver itself sent (p99)."
    )
    heads = ("contender", "scenario", "requests/s", "p50", "p99", "p99.9", "late")
    return _section("Latency", about, _table(heads, rows))


def _capacity(found: Findings) -> str:
    at = {
        (each.contender, each.scenario): each
        for each in found.work
        if each.contender == "gateway" or each.contender.startswith("gateway-")
    }
    contenders = dict.fromkeys(contender for contender, _ in at)
    if len(contenders) < 2:
        return ""
    scenarios = list(dict.fromkeys(scenario for _, scenario in at))
    rows = [
        (
            found.titles.get(contender, contender),
            *(at[contender, each].rate.text() if (contender, each) in at else "–" for each in scenarios),
        )
        for contender in contenders
    ]
    about = "Requests a second with every connection busy. Stub and driver share the processors with the workers."
    return _section("Capacity and the number of workers", about, _table(("", *scenarios), rows))


def _lives(found: Findings) -> str:
    if not found.starts:
        return ""
    rows = [
        (str(each.workers), each.seconds.text(2), f"{each.idle:.0f}", f"{each.shared:.0f}") for each in found.starts
    ]
    about = "From the start of the process until `/health/ready` is green, or until every worker serves."
    heads = ("workers", "s to ready", "MiB resident, idle, largest worker", "MiB per worker, shared pages counted once")
    return _section("Start and idle memory", about, _table(heads, rows))


def _reloads(found: Findings) -> str:
    if not found.reloads:
        return ""
    rows = [
        (
            f"{each.grants:,}",
            each.seconds.text(2),
            each.stall.text(1),
            each.quiet.text(1),
            f"{each.before:.0f} → {each.peak:.0f} → {each.after:.0f}",
        )
        for each in found.reloads
    ]
    about = (
        "One worker serves 400 small requests a second meanwhile. In force: the first request that only the new file "
        "permits. Longest answer: of all those small requests, while the file changes, and while nothing does."
    )
    heads = ("grants", "s to in force", "longest answer, ms", "without a change, ms", "MiB before → peak → after")
    return _section("A changed grants file", about, _table(heads, rows))


def _decisions(found: Findings) -> str:
    if not found.decisions:
        return ""
    rows = [(f"{each.grants:,}", each.few.text(1), each.many.text(1)) for each in found.decisions]
    about = "Processor time of one permitted cancel's decision, all rules asked, in memory."
    heads = ("grants", "µs, ten pairs of customer and partner", "µs, up to a thousand pairs")
    return _section("What a decision costs", about, _table(heads, rows))


def _records(found: Findings) -> str:
    if not found.records:
        return ""
    rows = [
        (
            each.scenario,
            f"{each.rate:,.0f}",
            f"{each.audit_bytes:,.0f}",
            f"{each.syncs:.2f}",
            f"{each.written_bytes / 1024:,.1f}",
        )
        for each in found.records
    ]
    about = (
        "One worker, no delay upstream. Syncs are calls of `fsync` and `fdatasync` by the process, counted by a "
        "preloaded library, for audit and state together; requests that come close together share them."
    )
    heads = ("scenario", "requests/s", "audit bytes per request", "syncs per request", "KiB written per request")
    return _section("What a request leaves on disk", about, _table(heads, rows))


def _sizing(found: Findings) -> str:
    reckoned = sizing(found)
    if reckoned is None:
        return ""
    rows = [
        ("requests a second, mean and peak", f"{reckoned.mean:,.1f} and {reckoned.peak:,.0f}"),
        ("processors kept busy, mean and peak", f"{reckoned.cores_mean:.2f} and {reckoned.cores_peak:.1f}"),
        (f"workers at the peak, each {BUSY:.0%} busy", f"{reckoned.workers}"),
        ("memory of these, idle", f"{reckoned.memory / 1024:,.1f} GiB"),
        ("audit", f"{reckoned.audit_day:,.1f} GiB a day, {reckoned.audit_year:,.0f} GiB a year"),
        ("syncs a second at the peak, at most", f"{reckoned.syncs_peak:,.0f}"),
    ]
    about = (
        f"Reckoned, not measured: {APPOINTMENTS / 1e6:.0f} million appointments a year, for each {READS:.0f} reads, "
        f"{WRITES:.0f} cancel or change and {TOKENS:g} tokens; a peak of {PEAK} times the mean; at the costs above."
    )
    return _section("National scale", about, _table(("", "needed"), rows))


def _profile(found: Findings) -> str:
    if not found.profile:
        return ""
    about = (
        "Where the main thread of one worker spends its processor time while it cancels, by part of the program and by "
        "function. The profiler adds to every call, so that what makes many small ones looks larger than it is."
    )
    return f"### Profile\n\n{about}\n\n```text\n{found.profile}\n```"


def _skipped(found: Findings) -> str:
    return "\n".join(_lines("### Not measured", found.skipped)) if found.skipped else ""


def _lines(title: str, entries: Iterable[str]) -> Iterator[str]:
    yield f"{title}\n"
    yield from (f"- {each}" for each in entries)
