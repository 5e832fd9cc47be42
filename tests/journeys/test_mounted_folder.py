"""A gateway whose files lie in a folder as Kubernetes mounts it: what is updated is one symbolic link, `..data`."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as with_changes
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.journeys.partner import Client
from tests.journeys.processes import Json, Place, started_gateway

PROMISE = 1.0
"""Seconds."""
FILES = ("grants.toml", "keys")


@dataclass
class Mount:
    """A volume of a ConfigMap: the names point into `..data`, and `..data` at the version that counts."""

    folder: Path
    versions: int = 0

    def swap(self, fill: Callable[[Path], None]) -> None:
        """Do what the kubelet does: copy, write, rename a new `..data` over the old one, remove the old version."""
        data = self.folder / "..data"
        old = data.resolve() if data.exists() else None
        self.versions += 1
        new = self.folder / f"..2026_11_27_{self.versions}"
        if old is None:
            new.mkdir()
        else:
            shutil.copytree(old, new)
        fill(new)
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").rename(data)
        for name in new.iterdir():
            if not (self.folder / name.name).is_symlink():
                (self.folder / name.name).symlink_to(Path("..data") / name.name)
        if old is not None:
            shutil.rmtree(old)


@dataclass
class Mounted:
    """A gateway on such a folder."""

    mount: Mount
    client: Client

    async def until(self, true: Callable[[], object]) -> float:
        """Wait for something to become true, at most twice as long as promised."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() < began + 2 * PROMISE, self.client.place.records()[-3:]
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    def heard(self, event: str) -> list[Json]:
        return [record for record in self.client.place.records() if record["event"] == event]


def filled_from(source: Path) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        for name in FILES:
            copy = shutil.copytree if (source / name).is_dir() else shutil.copy
            copy(source / name, folder / name)

    return fill


@contextlib.contextmanager
def gateway_on(mount: Mount, place: Place) -> Iterator[Place]:
    told = {
        **place.told,
        "config_file": str(mount.folder / "gateway.toml"),
        "grants_file": str(mount.folder / "grants.toml"),
    }
    shutil.copy(place.told["config_file"], mount.folder / "gateway.toml")
    with started_gateway(with_changes(place, told=told), "audit") as (running, process):
        yield running
        process.terminate()
        process.wait(60)


@pytest.fixture
async def mounted(client: Client, tmp_path: Path) -> AsyncIterator[Mounted]:
    mount = Mount(tmp_path)
    mount.swap(filled_from(client.place.directory))
    with gateway_on(mount, client.place) as running:
        yield Mounted(mount, client.at(running))


def changeable(place: Place) -> str:
    found: str = next(each["id"] for each in place.told["appointments"] if each["scenario"] == "changeable")
    return found


def edited(edit: Callable[[str], str]) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        file = folder / "grants.toml"
        file.write_text(edit(file.read_text(encoding="utf-8")), encoding="utf-8")

    return fill


def suspended(grants: str) -> str:
    head, name, rest = grants.partition("[partners.swiftbook]\n")
    lines = [line for line in rest.splitlines(keepends=True) if not line.startswith("status")]
    return head + name + 'status = "suspended"\n' + "".join(lines)


async def test_grants_swapped_by_kubernetes_are_in_force_within_a_second(mounted: Mounted) -> None:
    id_ = changeable(mounted.client.place)
    assert (await mounted.client.read(id_)).status == 200
    loaded = len(mounted.heard("grants-loaded"))
    mounted.mount.swap(edited(suspended))
    assert await mounted.until(lambda: len(mounted.heard("grants-loaded")) > loaded) < PROMISE
    assert (await mounted.client.read(id_)).code == "partner-suspended"
    assert mounted.heard("grants-refused") == []


async def test_a_bad_file_swapped_in_changes_nothing_and_the_next_good_one_counts(mounted: Mounted) -> None:
    id_ = changeable(mounted.client.place)
    mounted.mount.swap(edited(lambda grants: grants.replace('"read"', '"reed"')))
    assert await mounted.until(lambda: mounted.heard("grants-refused")) < PROMISE
    assert (await mounted.client.read(id_)).status == 200
    mounted.mount.swap(edited(lambda grants: suspended(grants.replace('"reed"', '"read"'))))
    began = time.monotonic()
    while (await mounted.client.read(id_)).code != "partner-suspended":
        assert time.monotonic() < began + PROMISE


async def test_a_signing_key_swapped_by_kubernetes_is_published_within_a_second(mounted: Mounted) -> None:
    async def kids() -> set[str]:
        return {
            key["kid"] for key in (await mounted.client.ask("GET", "/.well-known/jwks.json", token="")).body["keys"]
        }

    def fill(folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        file = folder / "keys" / "tokens.pem"
        file.write_bytes(file.read_bytes() + pem)

    before = await kids()
    mounted.mount.swap(fill)
    began = time.monotonic()
    while (now := await kids()) == before:
        assert time.monotonic() < began + PROMISE
        await asyncio.sleep(0.02)
    assert before < now
