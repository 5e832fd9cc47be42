"""The key pair that signs access tokens in the bench, and tokens good and bad."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gateway.partner.access_tokens import Scopes, TokenPress
from gateway.partner.keys import SigningKeys, read_signing_keys

PARTNER = "partner"
ISSUER = "http://127.0.0.1:8080"
"""What every contender calls itself in tokens, wherever it listens."""


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    """A private key as PEM."""
    form, no_passphrase = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, no_passphrase).decode("ascii")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """ES256. `private` is a file with it, `public` one with what verifies (PEM)."""

    private: Path
    public: Path

    @classmethod
    def made(cls, folder: Path) -> "TokenKey":
        """Make a new pair."""
        key = ec.generate_private_key(ec.SECP256R1())
        private, public = folder / "tokens.pem", folder / "tokens.public.pem"
        private.write_text(private_pem(key), encoding="ascii")
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
        return cls(private, public)

    def token(self) -> str:
        """An access token as the gateway issues it, good for an hour."""
        keys: SigningKeys = read_signing_keys(self.private.read_text(encoding="ascii"))
        press = TokenPress(ISSUER, keys, 3600)
        return press.issue(
            PARTNER, Scopes.read("system/Appointment.rus"), datetime.now(UTC), secrets.token_hex(16)
        ).text
