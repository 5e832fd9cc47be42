"""The keys that patients go by in the audit stream."""

from gateway.configuration.secret import Reading, Secret, read_secret
from gateway.configuration.settings import AuditSettings
from gateway.domain.pseudonym import Pseudonyms


def pseudonym_keys(audit: AuditSettings) -> tuple[Pseudonyms, ...]:
    """Give the present key, then the old ones. Raises ValueError, which names the setting."""
    present = _key("audit.pseudonym_key", audit.pseudonym_key_id, audit.pseudonym_key)
    return (present, *(_key(f"audit.pseudonym_keys: {old.id}", old.id, old.key) for old in audit.pseudonym_keys))


def pseudonym_keys_alone(audit: AuditSettings, reading: Reading) -> tuple[Pseudonyms, ...]:
    """Give the same of settings whose secrets were not read, and read these only. Raises ValueError."""
    references = [("audit.pseudonym_key", audit.pseudonym_key_id, audit.pseudonym_key)]
    references += [(f"audit.pseudonym_keys: {old.id}", old.id, old.key) for old in audit.pseudonym_keys]
    return tuple(_key(name, id_, read_secret(secret.reference, reading)) for name, id_, secret in references)


def _key(name: str, id_: str, secret: Secret) -> Pseudonyms:
    try:
        return Pseudonyms(id_, secret.reveal().encode())
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
