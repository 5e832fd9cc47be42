"""What goes on around the traffic of a soak: grants reloaded, keys replaced, PKB failing now and then."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from gateway.cli.token import make_assertion
from gateway.partner.token_endpoint import ASSERTION_TYPE, CLIENT_CREDENTIALS
from tests.edges.tokens import jwk, pem
from tests.journeys.partner import Client, replace_file
from tests.journeys.processes import Place

FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"target": "box", "kind": "status", "value": 500, "on": "read"},
    {"target": "box", "kind": "drop-after", "on": "write"},
    {"target": "box", "kind": "delay", "value": 400, "on": "any"},
    {"target": "box", "kind": "drop-before", "on": "read"},
    {"target": "aggregated", "kind": "status", "value": 503, "on": "read"},
    {"target": "hl7", "kind": "drop-after", "on": "write"},
)
PARTNER: Final = "viewonly"
"""Whose keys are replaced; the traffic is another's."""


@dataclass(slots=True)
class Chores:
    """Does them until told to stop. `trouble` is what should not have happened."""

    client: Client
    place: Place
    reloads: int = 0
    faults: int = 0
    partner_keys: int = 0
    own_keys: int = 0
    trouble: list[str] = field(default_factory=list)
    _keys: list[tuple[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        """Go on until cancelled."""
        await asyncio.gather(
            every(1.0, self._reload),
            every(7.0, self._fail_for_a_while),
            every(5.0, self._replace_the_partners_key),
            every(20.0, self._replace_our_key),
        )

    async def _reload(self) -> None:
        self.reloads += 1
        text = self.place.grants.read_text(encoding="utf-8")
        kept = text.split("# soak")[0].rstrip()
        replace_file(self.place.grants, f"{kept}\n# soak {self.reloads}\n")

    async def _fail_for_a_while(self) -> None:
        fault = dict(FAULTS[self.faults % len(FAULTS)])
        self.faults += 1
        await self.client.fault(fault.pop("kind"), fault.pop("value", None), **fault)
        await asyncio.sleep(2.0)
        await self.client.clear()

    async def _replace_the_partners_key(self) -> None:
        """Publish a further key beside the last one, then ask for a token with it, as a partner would."""
        self.partner_keys += 1
        kid = f"soak-{self.partner_keys}"
        self._keys = [*self._keys[-1:], (kid, ec.generate_private_key(ec.SECP256R1()))]
        entries = [jwk(key.public_key(), kid=name, use="sig", alg="ES256") for name, key in self._keys]
        file = self.place.directory / "keys" / f"{PARTNER}.jwks.json"
        replace_file(file, json.dumps({"keys": entries}))
        await asyncio.sleep(2.0)
        if answer := await self._refused_token():
            self.trouble.append(f"token with {kid}: {answer}")

    async def _refused_token(self) -> str:
        kid, key = self._keys[-1]
        url = f"{self.place.gateway_url}/oauth2/token"
        assertion = make_assertion(PARTNER, pem(key), kid, "ES256", url, now=time.time(), jti=uuid.uuid4().hex)
        form = {"grant_type": CLIENT_CREDENTIALS, "client_assertion_type": ASSERTION_TYPE}
        async with self.client.session.post(url, data={**form, "client_assertion": assertion}) as response:
            return "" if response.status == 200 else f"{response.status} {await response.text()}"

    async def _replace_our_key(self) -> None:
        """Put a new key in front of the others in the gateway's own file; tokens of the old ones stay good."""
        self.own_keys += 1
        file = self.place.directory / "keys" / "tokens.pem"
        fresh = pem(ec.generate_private_key(ec.SECP256R1()))
        replace_file(file, f"{fresh}\n{_first_keys(file, 3)}")


def _first_keys(file: Path, count: int) -> str:
    end = "-----END PRIVATE KEY-----\n"
    blocks = [block + end for block in file.read_text(encoding="ascii").split(end) if block.strip()]
    # The last one in the file signed the tokens of the traffic.
    return "".join([*blocks[:-1][:count], blocks[-1]])


async def every(seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again, one after the other."""
    while True:
        await asyncio.sleep(seconds)
        await chore()
