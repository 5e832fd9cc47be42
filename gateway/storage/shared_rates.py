"""Token buckets that all nodes take from, refilled by the clock of the database."""

from dataclasses import dataclass

from gateway.flow.rates import WHOLE
from gateway.storage.database import Database


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets in the database: capacity N, refilled evenly, full at start."""

    database: Database

    async def take(self, key: str, requests: int, seconds: int) -> tuple[bool, float]:
        """Take one request, if there is one, and give the level after it. Raises StateUnavailable.

        A bucket whose rate was changed is full.
        """
        now = self.database.now
        same = "bucket.requests = excluded.requests AND bucket.seconds = excluded.seconds"
        # A clock that was set back refills nothing and counts on from there.
        since = f"(CASE WHEN {now} > bucket.at THEN {now} - bucket.at ELSE 0.0 END)"
        refilled = f"(bucket.level + {since} * excluded.requests / excluded.seconds)"
        capped = f"(CASE WHEN {refilled} < excluded.requests THEN {refilled} ELSE excluded.requests END)"
        level = f"(CASE WHEN {same} THEN {capped} ELSE excluded.requests END)"
        has_one = f"{level} >= {WHOLE!r}"
        left = f"(CASE WHEN {level} > 1.0 THEN {level} - 1.0 ELSE 0.0 END)"
        # One statement: whoever else takes from this bucket comes before it or after it.
        found = await self.database.returned(
            "INSERT INTO bucket (key, requests, seconds, level, granted, at)"
            f" VALUES ($1, $2, $3, $4, 1, {now}) ON CONFLICT (key) DO UPDATE SET"
            f" level = CASE WHEN {has_one} THEN {left} ELSE {level} END,"
            f" granted = CASE WHEN {has_one} THEN 1 ELSE 0 END,"
            " requests = excluded.requests, seconds = excluded.seconds, at = excluded.at"
            " RETURNING granted, level",
            key,
            requests,
            seconds,
            requests - 1.0,
        )
        granted, after = found[0]
        return bool(granted), float(after)
