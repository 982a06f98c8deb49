"""How much a table takes at once, before it was ever busy (DynamoDB developer guide, warm throughput)."""

from __future__ import annotations

# Write units a second that a new table on demand takes.
TABLE_WRITES_PER_S = 4_000


def peak_writes_per_s(*warm: int) -> int:
    """Write units a second that the quota of a table must allow, of the settings of all tables; 0 is as a new table."""
    return max(TABLE_WRITES_PER_S, *warm)


def problem_of_warm_tables(warm: dict[str, int]) -> str | None:
    """Say which settings are wrong, by their names: AWS refuses less than a table takes already."""
    wrong = [name for name, writes in warm.items() if 0 < writes < TABLE_WRITES_PER_S]
    return f"{' and '.join(wrong)} must be 0 or at least {TABLE_WRITES_PER_S}, as a new table has" if wrong else None
