"""Words for a grants file: more partners and more grants than a sandbox has."""

from datetime import UTC, datetime, timedelta

GRANT_FIELDS = '["start", "end", "comment", "location"]'


def partner_table(name: str, *, rate: str = "60000/min", status: str = "active") -> str:
    """A partner that borrows swiftbook's keys; its tokens are made by `Place.token`."""
    return (
        f'\n[partners.{name}]\nname = "{name}"\npkb_client_id = "pkb-{name}"\nstatus = "{status}"\nrate = "{rate}"\n'
        f'authentication = [{{ method = "private_key_jwt", jwks_file = "keys/swiftbook.jwks.json" }}]\n'
    )


def grant_table(partner: str, *lines: str, customer: str = "airedale", days: tuple[int, int] = (-60, 365)) -> str:
    """A grant of every operation unless a line says `operations`; `days` are its begin and end from today."""
    today = datetime.now(UTC).date()
    begin, end = (today + timedelta(days=each) for each in days)
    every = (
        () if any(line.startswith("operations") for line in lines) else ('operations = ["read", "change", "cancel"]',)
    )
    shape = "\n".join((*every, *lines))
    return (
        f'\n[[grants]]\nid = "{customer}-{partner}"\ncustomer = "{customer}"\npartner = "{partner}"\n'
        f'from = {begin}\nuntil = {end}\nprivacy_labels = ["GENERAL_HEALTH"]\n{shape}\napproved_by = "journey"\n'
    )


def with_added(grants: str, partners: str, grants_added: str) -> str:
    """A grants file with more partners (before the customers) and more grants (at its end)."""
    place = grants.index("\n[customers.")
    return grants[:place] + partners + grants[place:] + grants_added
