"""Limits and intervals of the functions that a stage may change, with their defaults; what a table takes at once."""

from __future__ import annotations

from metering.units import DAY_S, HOUR_S, MIB, MINUTE_S

# Fields of `metering.settings.Policy` that a stage changes by `tunables`. `StageConfig` has fields for the other two.
TUNABLES: dict[str, int] = {
    "ahead_s": 5 * MINUTE_S,
    "admission_floor_s": 0,
    "shards": 1,
    "rollup_every_s": 15,
    "rollup_commits": 2_000,
    "rollup_blocks": 0,
    "kinds_per_account": 4_096,
    # 1 was the table of release 0.1.0 (docs/decisions/0044-upgrade.md).
    "usage_generation": 2,
    "commit_records": 200_000,
    "commit_bytes": 64 * MIB,
    "object_bytes": 512 * MIB,
    "reserve_ms": 10_000,
    "attempts": 4,
    # 12 million rows of about 14 bytes are about 170 MB.
    "compact_file_rows": 12_000_000,
    "compact_run_rows": 60_000_000,
    "compact_run_pairs": 20_000,
    "compact_wait_today_s": HOUR_S,
    "compact_wait_older_s": DAY_S,
    "scan_every_s": 0,
    "scan_memory_mb": 1_024,
    "source_jump": 1_000_000,
    # Longer than a marker lives: a forgotten source has no marker left that it would be derived from again.
    "source_life_s": 60 * DAY_S,
    "clean_wait_s": HOUR_S,
    # With an inventory and v5 of flow logs about 11 % cannot be known (docs/on-ramps.md).
    "log_unclassified_percent": 20,
}
# Write units a second that a new table on demand takes (DynamoDB developer guide, warm throughput).
TABLE_WRITES_PER_S = 4_000


def peak_writes_per_s(*warm: int) -> int:
    """Write units a second that the quota of a table must allow, of the settings of all tables; 0 is as a new table."""
    return max(TABLE_WRITES_PER_S, *warm)


def problem_of_warm_tables(warm: dict[str, int]) -> str | None:
    """Say which settings are wrong, by their names: AWS refuses less than a table takes already."""
    wrong = [name for name, writes in warm.items() if 0 < writes < TABLE_WRITES_PER_S]
    return f"{' and '.join(wrong)} must be 0 or at least {TABLE_WRITES_PER_S}, as a new table has" if wrong else None
