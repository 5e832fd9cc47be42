"""The line of one route to PKB: every exchange on it is told to those who observe it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from yarl import URL

from gateway.flow.ports import Message, Result, UpstreamObserver, unfenced
from gateway.pkb.http import Answer, HttpClient, HttpFault, NotConnected, Reuse, Unreadable, Withheld


@dataclass(frozen=True, slots=True)
class Line:
    """Sends the messages of one route."""

    http: HttpClient
    route: str = ""
    observers: Sequence[UpstreamObserver] = ()

    async def send(
        self,
        message: Message,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        deadline: float,
        *,
        body: bytes | None = None,
        reuse: Reuse = Reuse.ANY,
        fence: Callable[[], bool] = unfenced,
    ) -> Answer:
        """Send one request once; see `HttpClient.send`, which says what this raises."""
        began, result = time.perf_counter(), Result.ABANDONED
        try:
            answer = await self.http.send(method, url, headers, deadline, body=body, reuse=reuse, fence=fence)
            result = _of_status(answer.status)
        except HttpFault as fault:
            result = _of_fault(fault)
            raise
        else:
            return answer
        finally:
            self._tell(message, result, time.perf_counter() - began)

    def _tell(self, message: Message, result: Result, seconds: float) -> None:
        for observe in self.observers:
            try:
                observe(self.route, message, result, seconds)
            except Exception:  # noqa: BLE001, S112 - nothing known of a write may get lost because it was not counted
                continue


def _of_status(status: int) -> Result:
    if 200 <= status <= 299:
        return Result.OK
    if status in {404, 410}:
        return Result.ABSENT
    return Result.REFUSED if 400 <= status <= 499 else Result.FAILED


def _of_fault(fault: HttpFault) -> Result:
    if isinstance(fault, Withheld):
        return Result.WITHHELD
    if fault.late:
        return Result.TIMEOUT
    if isinstance(fault, NotConnected):
        return Result.NOT_CONNECTED
    return Result.UNREADABLE if isinstance(fault, Unreadable) else Result.BROKEN
