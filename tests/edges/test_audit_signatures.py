"""`audit verify` with keys: signed, unsigned, and signed by others."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.edges.audit_folders import FIRST, run, signed_folder, two_chains, write_chain
from tests.edges.journal_bench import SIGNER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    two_chains(tmp_path / "audit")
    return tmp_path / "audit"


def jwks(path: Path, *keys: tuple[str, Ed25519PublicKey]) -> Path:
    path.write_text(
        json.dumps(
            {
                "keys": [
                    {"kty": "EC", "crv": "P-256", "kid": "tokens", "x": "AA", "y": "AA"},
                    *(
                        {
                            "kty": "OKP",
                            "crv": "Ed25519",
                            "kid": kid,
                            "x": base64.urlsafe_b64encode(key.public_bytes_raw()).decode().rstrip("="),
                        }
                        for kid, key in keys
                    ),
                ]
            }
        )
    )
    return path


async def test_signatures_are_checked_when_keys_are_given(tmp_path: Path) -> None:
    bench = await signed_folder(tmp_path)
    keys = jwks(tmp_path / "keys.json", ("audit-1", SIGNER.key.public_key()))
    result = run(bench.directory, "--keys", keys)
    assert result.exit_code == 0
    assert "good, 7 records, signed up to seq 7" in result.output
    assert "signatures: checked" in result.output
    assert "checkpoint up to seq 7" in run(bench.directory).output


@pytest.mark.parametrize(
    ("kid", "seed"), [("audit-1", b"\x01" * 32), ("audit-2", bytes(range(32)))], ids=["other key", "other kid"]
)
async def test_a_chain_that_others_signed_is_bad(tmp_path: Path, kid: str, seed: bytes) -> None:
    bench = await signed_folder(tmp_path)
    keys = jwks(tmp_path / "keys.json", (kid, Ed25519PrivateKey.from_private_bytes(seed).public_key()))
    result = run(bench.directory, "--keys", keys)
    assert result.exit_code == 1
    assert "seq 2: bad signature" in result.output
    (tmp_path / "kept.json").write_text(json.dumps(bench.records[-1]))
    assert (
        "signed its checkpoint 7" in run(bench.directory, "--keys", keys, "--checkpoint", tmp_path / "kept.json").output
    )


async def test_a_chain_that_nobody_signed_is_told_as_such(tmp_path: Path) -> None:
    bench = await signed_folder(tmp_path, signer=None)
    keys = jwks(tmp_path / "keys.json", ("audit-1", SIGNER.key.public_key()))
    result = run(bench.directory, "--keys", keys)
    assert result.exit_code == 0
    assert "never signed" in result.output


async def test_a_signature_that_is_no_base64url_is_bad(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    write_chain(folder, FIRST, [{"event": "checkpoint", "kid": "audit-1", "signature": "?? ü"}])
    keys = jwks(tmp_path / "keys.json", ("audit-1", SIGNER.key.public_key()))
    assert "seq 1: bad signature" in run(folder, "--keys", keys).output


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"keys":[]}', '{"keys":[7]}', '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AA"}]}'],
    ids=["empty", "list", "no key", "no object", "short key"],
)
def test_a_key_file_must_hold_keys(folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    result = run(folder, "--keys", tmp_path / "keys.json")
    assert result.exit_code == 1
    assert "keys.json" in result.output
