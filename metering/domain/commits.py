"""Names of a commit's objects, and the numbers that its id decides. A commit id is random and never used again."""

from __future__ import annotations

import zlib

from metering.domain.hours import date_of

STAGING_PREFIX = "staging/"
_STAGING_SUFFIX = ".parquet"
_WAL_SUFFIX = ".wal"


def staging_key(commit_id: str, now_s: int) -> str:
    """`staging/<date>/<commit_id>.parquet`: the commit's rows."""
    return f"{STAGING_PREFIX}{date_of(now_s)}/{commit_id}{_STAGING_SUFFIX}"


def wal_key(staging: str) -> str:
    """Key of the write-ahead object beside the staging object `staging`."""
    return staging.removesuffix(_STAGING_SUFFIX) + _WAL_SUFFIX


def commit_id_of(key: str) -> str:
    """The commit that a staging or write-ahead object belongs to."""
    return key.rpartition("/")[2].partition(".")[0]


def shard_of(commit_id: str, shards: int) -> int:
    """Compaction shard of a commit: hash of its id modulo `shards`."""
    return zlib.crc32(commit_id.encode()) % shards


def usage_suffix(commit_id: str, usage_shards: int) -> int:
    """Suffix of the usage items that a commit adds to, so that commits side by side seldom meet on one item."""
    return (zlib.crc32(commit_id.encode()) >> 16) % usage_shards
