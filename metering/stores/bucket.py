"""Every prefix of the region's data bucket, and the key of every object.

The stacks grant access by these prefixes, and all code builds keys with these functions.
"""

from __future__ import annotations

import hashlib

from metering.hours import date_of, hour_label

# Producers put objects here: those that messages point to, and those that announce themselves.
INGEST_PREFIX = "ingest/"
DROP_PREFIX = "drop/"
# Refused records that are sent again.
RETRY_PREFIX = "ingest/retry/"
# The service puts objects here.
STAGING_PREFIX = "staging/"
LAKE_PREFIX = "lake/"
RUNS_PREFIX = "runs/"
CLOSED_PREFIX = "closed/"
QUARANTINE_PREFIX = "quarantine/"
QUARANTINED_BATCHES_PREFIX = "quarantine/batches/"
# Answers of Athena, kept for a week.
ATHENA_RESULTS_PREFIX = "athena-results/"
# All prefixes of the bucket. A job that reads the whole bucket lists them one by one, because roles may list below
# known prefixes only.
PREFIXES = (
    ATHENA_RESULTS_PREFIX,
    CLOSED_PREFIX,
    DROP_PREFIX,
    INGEST_PREFIX,
    LAKE_PREFIX,
    QUARANTINE_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
)

_STAGING_SUFFIX = ".parquet"
_WAL_SUFFIX = ".wal"
_RECORDS_SUFFIX = ".ndjson"


def staging_key(commit_id: str, now_s: int) -> str:
    """Key of a commit's rows: `staging/<date>/<commit_id>.parquet`."""
    return f"{STAGING_PREFIX}{date_of(now_s)}/{commit_id}{_STAGING_SUFFIX}"


def wal_key(staging: str) -> str:
    """Key of the write-ahead object of the commit whose staging object is `staging`."""
    return staging.removesuffix(_STAGING_SUFFIX) + _WAL_SUFFIX


def commit_id_of(key: str) -> str:
    """Id of the commit that a staging or write-ahead object belongs to."""
    return key.rpartition("/")[2].partition(".")[0]


def plan_key(shard: int, token: str) -> str:
    """Key of a plan object. `token` is random: two planners never write the same one."""
    return f"{RUNS_PREFIX}{shard}/{token}.json"


def lake_prefix(hour_s: int) -> str:
    """Prefix of an hour's published files: `lake/dt=2026-11-24/hour=13/`."""
    label = hour_label(hour_s)
    return f"{LAKE_PREFIX}dt={label[:10]}/hour={label[11:]}/"


def lake_file_key(hour_s: int, shard: int, run: int, index: int) -> str:
    """Key of file number `index` that a run publishes in an hour."""
    return f"{lake_prefix(hour_s)}{shard}-{run:012d}-{index:03d}.parquet"


def closed_month_key(month: str) -> str:
    """Key of a closed month's frozen figures."""
    return f"{CLOSED_PREFIX}{month}.json"


def refused_records_key(commit_id: str, now_s: int) -> str:
    """Key of the refused records of a commit's batches."""
    return f"{QUARANTINE_PREFIX}{date_of(now_s)}/{commit_id}{_RECORDS_SUFFIX}"


def quarantined_batch_key(batch_id: str, content_hash: str) -> str:
    """Key of a whole refused or conflicting batch; `batch_id` is empty if none could be read."""
    identity = f"{batch_id}\n{content_hash}".encode()
    return f"{QUARANTINED_BATCHES_PREFIX}{hashlib.sha256(identity).hexdigest()}.json"


def commit_of_refused_records(key: str) -> str | None:
    """Id of the commit that a quarantine object belongs to, or None if it belongs to no commit."""
    if key.startswith(QUARANTINED_BATCHES_PREFIX) or not key.endswith(_RECORDS_SUFFIX):
        return None
    return key.rpartition("/")[2].removesuffix(_RECORDS_SUFFIX)


def retry_object_key(digest: str) -> str:
    """Key of a retry's records; `digest` names the retry."""
    return f"{RETRY_PREFIX}{digest}{_RECORDS_SUFFIX}"
