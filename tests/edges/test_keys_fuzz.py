"""The reader of key sets takes what is good in any bytes at all, and fails in one way only."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.partner.jwt_checks import unpadded
from gateway.partner.keys import ALGORITHMS, KEYS_PER_SET, KeySet, KeySetProblem, read_key_set
from tests.edges.tokens import jwk, private_key

GOOD = [jwk(private_key(kind), kid=kind) for kind in ("RSA", "P-256", "P-384", "Ed25519")]
PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")

texts = st.one_of(
    st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "P-384", "Ed25519", "secp256k1", "sig", "enc", *ALGORITHMS]),
    st.binary(max_size=300).map(unpadded),
    st.sampled_from([str(value) for entry in GOOD for value in entry.values()]),
    st.text(max_size=20),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["kty", "kid", "use", "alg", "key_ops", "crv", "x", "y", "n", "e", "x5c", "x5u", *PRIVATE])


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, Any]:
    """A good key with a few members changed, added or taken out."""
    entry = dict(draw(st.sampled_from(GOOD)))
    for name, value in draw(st.dictionaries(names, st.none() | values, max_size=3)).items():
        if value is None:
            entry.pop(name, None)
        else:
            entry[name] = value
    return entry


def read(data: bytes) -> KeySet | None:
    try:
        return read_key_set(data)
    except KeySetProblem:
        return None


@given(st.binary(max_size=500))
@example(b"\xff\xfe")
@example(b'{"keys":' + b"[" * 5000)
@example(b'{"keys": [' + b"1," * 40 + b"1]}")
def test_any_bytes_are_a_key_set_or_a_problem(data: bytes) -> None:
    read(data)


@given(st.lists(spoiled() | values, max_size=6))
@settings(max_examples=400)
def test_whatever_a_set_holds_only_keys_that_fit_come_out_of_it(entries: list[Any]) -> None:
    found = read(json.dumps({"keys": entries}).encode())
    if found is None:
        return
    assert 0 < len(found.keys) <= KEYS_PER_SET
    for kid, key in found.keys.items():
        named = [entry for entry in entries if isinstance(entry, dict) and entry.get("kid") == kid]
        assert key.kid == kid
        assert len([entry for entry in named if entry.get("kty") == key.jwk["kty"]]) >= 1
        assert key.algorithms
        assert key.algorithms <= set(ALGORITHMS)
        assert not set(PRIVATE) & set(key.jwk)
        assert any(not set(PRIVATE) & set(entry) and entry.get("use", "sig") == "sig" for entry in named)


@given(spoiled())
@settings(max_examples=200)
def test_a_spoiled_key_never_costs_the_others_of_its_set(entry: dict[str, Any]) -> None:
    kept = jwk(private_key("P-256", 7), kid="kept")
    found = read(json.dumps({"keys": [kept, {**entry, "kid": "spoiled"}]}).encode())
    assert found is not None
    assert "kept" in found.keys


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
@settings(max_examples=300)
def test_a_set_with_a_few_bytes_changed_is_read_or_refused(place: int, change: bytes) -> None:
    data = json.dumps({"keys": GOOD[1:]}).encode()
    place %= len(data)
    read(data[:place] + change + data[place + len(change) :])
