"""What every judged contender has to do right before it is measured."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from bench.speed.box import MOVING, OTHER
from bench.speed.contender import CUSTOMER, WITHOUT_GRANT, Running, cancel_body
from bench.speed.harness import Told, Upstream, ask

JSON = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class Check:
    """Asks a contender, and holds its answers against what the stub got."""

    running: Running
    upstream: Upstream
    token: str

    def faults(self) -> list[str]:
        """Everything that is wrong, in words."""
        return [fault for part in (self._right, self._refused, self._stale) for fault in part()]

    def _right(self) -> Iterator[str]:
        id_, before = self._id(), self.upstream.counts()
        told = self._cancel(id_)
        after, held = self.upstream.counts(), self.upstream.appointment(id_)
        if told.status != 200 or told.json().get("status") != "cancelled" or told.json().get("id") != id_:
            yield f"a cancel was answered with {told.status}"
        if told.status == 200 and told.json()["meta"]["versionId"] != "2":
            yield "the answer to a cancel is not the new version"
        reason = held.get("cancelationReason", {}).get("coding", [{}])[0].get("code")
        if (held["status"], reason, held["comment"]) != ("cancelled", "pat", "Please arrive ten minutes early."):
            yield "the upstream does not hold the cancelled appointment"
        for kind in ("write", "read appointment", "read patient"):
            if after.get(kind, 0) - before.get(kind, 0) != 1:
                yield f"a cancel took {after.get(kind, 0) - before.get(kind, 0)} of: {kind}"
        if (read := self._read(id_)).status != 200 or read.json() != held:
            yield f"a read was answered with {read.status}, or with something else than the upstream holds"
        if self._cancel(id_).status != 409:
            yield "a second cancel was not refused with 409"

    def _refused(self) -> Iterator[str]:
        before = self.upstream.counts().get("write", 0)
        header, claims, signature = self.token.split(".")
        forged = f"{header}.{claims}.{signature[:-8]}{signature[-4:]}{signature[-8:-4]}"
        for what, told, expected in (
            ("of another owner's appointment", self._cancel(self._id(OTHER)), {403, 404}),
            ("by a forged token", self._cancel(self._id(), token=forged), {401}),
            ("without a token", self._cancel(self._id(), token=""), {401}),
            ("without a grant", self._cancel(self._id(), customer=WITHOUT_GRANT), {403}),
            ("for no reason", self._cancel(self._id(), body='{"resourceType":"Parameters"}'), {400}),
        ):
            if told.status not in expected:
                yield f"a cancel {what} was answered with {told.status}"
        if (told := self._read(self._id(OTHER))).status not in {403, 404}:
            yield f"a read of another owner's appointment was answered with {told.status}"
        if self.upstream.counts().get("write", 0) != before:
            yield "something was written although it was refused"

    def _stale(self) -> Iterator[str]:
        before = self.upstream.counts().get("write", 0)
        for what, told in (
            ("of a version that is not the partner's", self._cancel(self._id(), if_match='W/"0"')),
            ("of an appointment that changes meanwhile", self._cancel(self._id(MOVING))),
        ):
            if told.status != 412:
                yield f"a cancel {what} was answered with {told.status}"
        if self.upstream.counts().get("write", 0) != before:
            yield "a stale version was written over"
        if (told := self._cancel(self._id(), if_match='W/"1"')).status != 200:
            yield f"a cancel of the version that is held was answered with {told.status}"

    def _id(self, prefix: str = "check-") -> str:
        return f"{prefix}{secrets.token_hex(6)}"

    def _read(self, id_: str) -> Told:
        headers = {"Authorization": f"Bearer {self.token}"}
        return ask(self.running.port, "GET", f"/{CUSTOMER}/fhir/Appointment/{id_}", headers)

    def _cancel(
        self, id_: str, *, token: str | None = None, customer: str = CUSTOMER, body: str = "", if_match: str = ""
    ) -> Told:
        headers = {"Content-Type": JSON}
        if (bearer := self.token if token is None else token) != "":
            headers["Authorization"] = f"Bearer {bearer}"
        if if_match:
            headers["If-Match"] = if_match
        path = f"/{customer}/fhir/Appointment/{id_}/$cancel"
        return ask(self.running.port, "POST", path, headers, body or cancel_body())
