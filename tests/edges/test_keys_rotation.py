"""The gateway's own keys replaced in their file: nobody is refused, and a bad file changes nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.app import keys as module
from gateway.app.keys import SigningKeyFile
from gateway.configuration.secret import Reading, Secret, read_again, read_secret
from gateway.partner.access_tokens import AccessTokens, Identity, Scopes, TokenInvalid, TokenPress, Verdict
from gateway.partner.jwt_checks import Fault
from gateway.partner.keys import read_signing_keys
from gateway.partner.signing_ring import SPREAD, SigningRing
from tests.edges.tokens import NOW, PARTNER, PUBLIC_URL, pem, private_key

LIFETIME = timedelta(seconds=300)
OLD, NEW, NEWEST = (pem(private_key("P-256", number)) for number in (1, 2, 3))


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Bench:
    """A ring with a press and a verifier on it."""

    clock: Clock = field(default_factory=Clock)
    looked: list[str] = field(default_factory=list)
    ring: SigningRing = field(init=False)
    tokens: AccessTokens = field(init=False)
    press: TokenPress = field(init=False)

    def __post_init__(self) -> None:
        self.ring = SigningRing(read_signing_keys(OLD), LIFETIME, self.clock, self.look)
        self.press = TokenPress(PUBLIC_URL, self.ring, 300)
        self.tokens = AccessTokens({PUBLIC_URL: self.press.issuer()}, lambda _issuer, name: name)

    async def look(self) -> None:
        self.looked.append("look")

    def token(self) -> str:
        return self.press.issue(PARTNER, Scopes.read("system/Appointment.r"), self.clock.now, "j").text

    def verdict(self, token: str) -> Verdict:
        return self.tokens.verify(f"Bearer {token}", self.clock.now)

    @property
    def published(self) -> list[str]:
        return [key["kid"] for key in self.ring.public_jwks()["keys"]]


def kid(text: str) -> str:
    return read_signing_keys(text).first.kid


def test_a_new_key_signs_at_once_and_tokens_of_the_old_one_are_good_until_they_end() -> None:
    bench = Bench()
    bench.clock.now += timedelta(hours=1)
    last = bench.token()
    assert bench.ring.replace(read_signing_keys(NEW))
    first = bench.token()
    assert bench.published == [kid(NEW), kid(OLD)]
    for _ in range(2):
        assert isinstance(bench.verdict(last), Identity)
        assert isinstance(bench.verdict(first), Identity)
        bench.clock.now += timedelta(seconds=299)
    bench.clock.now = NOW + timedelta(hours=1) + LIFETIME + SPREAD
    assert bench.verdict(last) == TokenInvalid(Fault.KEY)
    assert bench.published == [kid(NEW)]


def test_a_key_that_has_not_signed_here_is_good_only_as_long_as_it_is_in_the_file() -> None:
    bench = Bench()
    bench.ring.replace(read_signing_keys(OLD, NEW))
    assert bench.published == [kid(OLD), kid(NEW)]
    bench.ring.replace(read_signing_keys(OLD))
    assert bench.published == [kid(OLD)]


def test_the_whole_procedure_for_several_nodes_never_refuses_a_token_of_another_node() -> None:
    """Second on all nodes, first on all nodes, alone on all nodes; in between one node is behind the other."""
    nodes = [Bench(), Bench()]
    for step in (OLD + NEW, NEW + OLD, NEW):
        for node in nodes:
            node.ring.replace(read_signing_keys(step))
            tokens = [each.token() for each in nodes]
            for each in nodes:
                each.clock.now += timedelta(seconds=60)
                assert [isinstance(each.verdict(token), Identity) for token in tokens] == [True, True]


def test_a_key_taken_out_soon_after_it_stopped_signing_is_good_until_its_last_token_has_ended() -> None:
    bench = Bench()
    last = bench.token()
    bench.ring.replace(read_signing_keys(NEW, OLD))
    bench.clock.now += timedelta(seconds=10)
    bench.ring.replace(read_signing_keys(NEW))
    assert isinstance(bench.verdict(last), Identity)
    bench.clock.now += LIFETIME + SPREAD
    assert bench.published == [kid(NEW)]


def test_a_key_that_comes_back_is_a_key_like_any_other() -> None:
    bench = Bench()
    for step in (NEW, OLD, NEWEST):
        bench.ring.replace(read_signing_keys(step))
        assert bench.ring.first.kid == kid(step)
    assert bench.published == [kid(NEWEST), kid(OLD), kid(NEW)] or bench.published == [kid(NEWEST), kid(NEW), kid(OLD)]
    bench.clock.now += LIFETIME + SPREAD
    bench.ring.replace(read_signing_keys(OLD))
    assert set(bench.published) == {kid(OLD), kid(NEWEST)}


def test_the_same_keys_again_are_no_change() -> None:
    bench = Bench()
    before = bench.ring.key_set().generation
    assert not bench.ring.replace(read_signing_keys(OLD))
    assert bench.ring.key_set().generation == before


async def test_a_token_signed_elsewhere_with_a_newer_key_makes_the_file_be_looked_at() -> None:
    bench = Bench()
    elsewhere = Bench()
    elsewhere.ring.replace(read_signing_keys(NEW))

    async def look() -> None:
        bench.ring.replace(read_signing_keys(NEW))

    header = f"Bearer {elsewhere.token()}"
    assert bench.verdict(header.removeprefix("Bearer ")) == TokenInvalid(Fault.KEY)
    assert await bench.tokens.identify(header, bench.clock, 1e9) == TokenInvalid(Fault.KEY)
    assert bench.looked == ["look"]
    bench.ring._look = look
    assert isinstance(await bench.tokens.identify(header, bench.clock, 1e9), Identity)


async def test_a_ring_without_a_file_has_nowhere_to_look() -> None:
    ring = SigningRing(read_signing_keys(OLD), LIFETIME, Clock())
    assert await ring.seek(kid(OLD), 0.0)
    assert not await ring.seek(kid(NEW), 0.0)


# The file.


@dataclass
class Followed:
    """A file of signing keys, followed."""

    path: Path
    ring: SigningRing
    file: SigningKeyFile
    counted: list[str]

    async def signs(self, text: str) -> None:
        await eventually(lambda: self.ring.first.kid == kid(text))

    def replace(self, text: str) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.path)


def uncounted(_surprise: str) -> None:
    """For files that give none."""


async def eventually(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(4):
        while True:
            if good():
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def following(folder: Path, text: str = OLD) -> AsyncIterator[Followed]:
    path = folder / "tokens.pem"
    path.write_text(text)
    secret = read_secret("file:tokens.pem", Reading(folder))
    ring = SigningRing(read_signing_keys(secret.reveal()), LIFETIME, Clock())
    counted: list[str] = []
    file = SigningKeyFile(secret, ring, counted.append)
    task = asyncio.create_task(file.run())
    try:
        yield Followed(path, ring, file, counted)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_file_replaced_on_disk_is_in_use_within_a_second(tmp_path: Path) -> None:
    async with following(tmp_path) as followed:
        followed.replace(NEW)
        async with asyncio.timeout(1):
            await followed.signs(NEW)
        assert followed.counted == []
        assert followed.file.problem is None


async def test_a_link_swapped_as_kubernetes_does_is_noticed(tmp_path: Path) -> None:
    for name, text in (("one", OLD), ("two", NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens.pem").write_text(text)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "tokens.pem").symlink_to("data/tokens.pem")
    ring = SigningRing(read_signing_keys(OLD), LIFETIME, Clock())
    file = SigningKeyFile(read_secret("file:tokens.pem", Reading(tmp_path)), ring, uncounted)
    await file.look()
    assert ring.first.kid == kid(OLD)
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    await file.look()
    assert ring.first.kid == kid(NEW)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(NEW[:60], id="cut off"),
        pytest.param("hunter2", id="something else"),
        pytest.param(NEW + NEW, id="one key twice"),
        pytest.param(NEW + "\n" + OLD.replace("M", "N"), id="a good key and a damaged one"),
    ],
)
async def test_a_bad_file_leaves_the_keys_in_use_and_is_told_once(tmp_path: Path, text: str) -> None:
    async with following(tmp_path) as followed:
        followed.replace(text)
        await eventually(lambda: followed.file.problem is not None)
        await asyncio.sleep(3 * module.LOOK_EVERY)
        assert followed.ring.first.kid == kid(OLD)
        assert followed.counted == ["signing-key-refused"]
        assert followed.file.problem is not None
        assert "hunter2" not in followed.file.problem
        followed.replace(NEW)
        await followed.signs(NEW)
        assert followed.file.problem is None


async def test_a_file_that_is_gone_leaves_the_keys_in_use_and_may_come_back(tmp_path: Path) -> None:
    async with following(tmp_path) as followed:
        followed.path.unlink()
        await eventually(lambda: followed.file.problem is not None)
        assert followed.ring.first.kid == kid(OLD)
        followed.replace(OLD)
        await eventually(lambda: followed.file.problem is None)


async def test_a_bad_file_is_told_again_when_somebody_asks(tmp_path: Path) -> None:
    async with following(tmp_path) as followed:
        followed.replace("bad")
        await eventually(lambda: len(followed.counted) == 1)
        followed.file.look_now()
        await eventually(lambda: len(followed.counted) == 2)


async def test_a_file_that_was_refused_is_tried_again_without_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRY_AGAIN", 0.1)
    async with following(tmp_path) as followed:
        followed.replace("bad")
        await eventually(lambda: followed.file.problem is not None)
        await asyncio.sleep(4 * (module.LOOK_EVERY + module.SETTLE))
        assert followed.counted == ["signing-key-refused"]
        # Nothing shows that the content differs, as where a right was missing.
        monkeypatch.setattr(module, "read_again", lambda _secret: NEW)
        await followed.signs(NEW)


async def test_half_of_a_file_written_in_place_does_not_count(tmp_path: Path) -> None:
    async with following(tmp_path, NEW + OLD) as followed:
        with followed.path.open("w") as file:
            file.write(NEWEST)
            file.flush()
            os.fsync(file.fileno())
            await asyncio.sleep(module.SETTLE / 2)
            file.write(NEW)
        await followed.signs(NEWEST)
        assert {key.kid for key in followed.ring._keys.keys} == {kid(NEWEST), kid(NEW)}
        assert followed.counted == []


async def test_a_file_that_never_stands_still_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.0)
    turns = iter([NEW, NEWEST] * 1000)
    monkeypatch.setattr(module, "read_again", lambda _secret: next(turns))
    async with following(tmp_path) as followed:
        await eventually(lambda: followed.file.problem == "the file keeps changing while it is read")
        assert followed.ring.first.kid == kid(OLD)


async def test_a_fault_while_looking_does_not_end_the_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with following(tmp_path) as followed:
        with monkeypatch.context() as broken:
            broken.setattr(module, "read_signing_keys", lambda *_: 1 / 0)
            followed.replace(NEW)
            await asyncio.sleep(2 * module.LOOK_EVERY)
        followed.file.look_now()
        await followed.signs(NEW)


async def test_all_who_wait_share_one_look(tmp_path: Path) -> None:
    async with following(tmp_path) as followed:
        await followed.file.look()
        followed.replace(NEW)
        await asyncio.gather(*(followed.file.look() for _ in range(50)))
        assert followed.ring.first.kid == kid(NEW)


async def test_a_key_from_the_environment_stays_as_it_is() -> None:
    ring = SigningRing(read_signing_keys(OLD), LIFETIME, Clock())
    file = SigningKeyFile(Secret("env:KEY", OLD), ring, uncounted)
    await asyncio.wait_for(file.run(), 1)
    await file.look()
    assert ring.first.kid == kid(OLD)
    assert read_again(file.secret) == OLD


def test_what_a_secret_file_holds_now_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("one\n")
    secret = read_secret("file:secret", Reading(tmp_path))
    (tmp_path / "secret").write_text("two\n")
    assert (secret.reveal(), read_again(secret)) == ("one", "two")
    assert str(tmp_path) not in repr(Secret("env:X", "x"))
    (tmp_path / "secret").unlink()
    with pytest.raises(ValueError, match="No such file"):
        read_again(secret)
