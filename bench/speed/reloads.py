"""A grants file that changes while requests are served: how soon it counts, and what the requests notice of it."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.reload import CUSTOMER as FILLING_CUSTOMER
from bench.reload import GRANT as FILLING_GRANT
from bench.speed.box import OTHER
from bench.speed.contender import WITHOUT_GRANT, Running
from bench.speed.figures import Figure
from bench.speed.findings import Reload
from bench.speed.gateways import GRANTS, serving
from bench.speed.keys import PARTNER
from bench.speed.plan import Plan, Result
from bench.speed.processes import resident, tree
from bench.speed.work import Bench

PINGS = 400
"""A second, at random moments."""
LOOK_EVERY = 0.01
LONGEST = 60.0
PING = "GET /_ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
FURTHER_GRANT = f"""
[[grants]]
id = "further"
customer = "{WITHOUT_GRANT}"
partner = "{PARTNER}"
operations = ["read"]
from = 2026-01-01
until = 2098-01-01
privacy_labels = ["GENERAL_HEALTH"]
approved_by = "Director of Informatics"
"""


def grants_text(count: int) -> str:
    """A file of so many grants: the one that the bench uses, and others of ten partners and many customers."""
    others = count - 1
    partners = [f'\n[partners.p{n}]\nname = "Partner {n}"\npkb_client_id = "client-{n}"\n' for n in range(10)]
    customers = [FILLING_CUSTOMER.format(n=n) for n in range(-(-others // 10))]
    grants = [FILLING_GRANT.format(n=n, customer=n // 10, partner=n % 10) for n in range(others)]
    head, _, grant = GRANTS.partition("\n[[grants]]")
    return "".join((head, *partners, *customers, "\n[[grants]]", grant, *grants))


def reload(bench: Bench, count: int, changes: int) -> Reload:
    """Change it so many times."""
    text = grants_text(count)
    with serving(bench.setting, workers=1, grants=text) as running:
        asking = _Asking(running, bench.token)
        _put(running, text, further=True)
        first = asking.until(200)  # Not counted: what is built once, such as the shape of the file, is built here.
        _put(running, text, further=False)
        asking.until(403)
        window = first + 1.0
        quiet = [_longest(bench, running, window, lambda: None) for _ in range(changes)]
        before = sum(map(resident, tree(running.pid)))
        seconds, stalls, peak = [], [], before
        for number in range(changes):
            further = number % 2 == 0
            time.sleep(0.037 * (number % 5))  # Changes come at any moment of the rhythm in which the file is looked at.

            def change(*, further: bool = further) -> None:
                time.sleep(0.3)
                _put(running, text, further=further)
                seconds.append(asking.until(200 if further else 403))

            stalls.append(_longest(bench, running, window, change))
            peak = max(peak, asking.peak)
        after = sum(map(resident, tree(running.pid)))
    return Reload(count, Figure.of(seconds), Figure.of(stalls), Figure.of(quiet), before, peak, after)


class _Asking:
    """Asks for what only the changed file permits, until the answer is the one expected."""

    def __init__(self, running: Running, token: str) -> None:
        self._running = running
        self._headers = {"Authorization": f"Bearer {token}"}
        self.peak = 0.0

    def until(self, status: int) -> float:
        """Seconds from now. Raises TimeoutError."""
        begun = time.monotonic()
        for _ in self._looks(begun + LONGEST):
            connection = http.client.HTTPConnection("127.0.0.1", self._running.port, timeout=LONGEST)
            connection.request("GET", f"/{WITHOUT_GRANT}/fhir/Appointment/{OTHER}1", headers=self._headers)
            answered = connection.getresponse().status
            connection.close()
            if answered == status:
                return time.monotonic() - begun
            self.peak = max(self.peak, sum(map(resident, tree(self._running.pid))))
        raise TimeoutError(f"the changed grants file did not count after {LONGEST:.0f} s")

    def _looks(self, until: float) -> Iterator[None]:
        while time.monotonic() < until:
            yield
            time.sleep(LOOK_EVERY)


def _put(running: Running, text: str, *, further: bool) -> None:
    draft: Path = running.folder / "grants.draft"
    draft.write_text(text + (FURTHER_GRANT if further else ""), encoding="utf-8")
    draft.replace(running.folder / "grants.toml")


def _longest(bench: Bench, running: Running, seconds: float, meanwhile: Callable[[], None]) -> float:
    """The longest that any of many small requests took, in milliseconds, while something else was done."""
    results: list[Result] = []
    plan = Plan("pings", running.port, [PING], round(PINGS * (seconds + 0.5)), connections=8, rate=PINGS)
    pinging = threading.Thread(target=lambda: results.append(bench.driver.run(plan)))
    pinging.start()
    meanwhile()
    pinging.join()
    # From the moment a request was sent: that the driver had to wait for a processor says nothing about the gateway.
    return 1000 * max(took - late for took, late in zip(results[0].took, results[0].late, strict=True))
