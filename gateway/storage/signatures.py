"""Tells whether a checkpoint was signed by a key that an auditor knows."""

import base64
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.domain.chain_check import SignatureCheck


def signature_check(keys: Mapping[str, Ed25519PublicKey]) -> SignatureCheck:
    """Make the question whether a key of these made a signature (Ed25519, base64url)."""

    def holds(kid: str, message: bytes, signature: str) -> bool:
        try:
            keys[kid].verify(from_base64url(signature), message)
        except (KeyError, ValueError, InvalidSignature):
            return False
        return True

    return holds


def from_base64url(text: str) -> bytes:
    """Read base64url without padding. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
