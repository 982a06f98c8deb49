"""`ObjectStore`: the region's data bucket, its prefixes, and the keys of all objects."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import quote

from metering.hours import date_of, hour_label, parse_hour

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """Properties of an object from a listing or a HEAD. `modified_s` is in epoch seconds.

    Attributes:
        crc64nvme: CRC-64/NVME of the whole object in base64, as S3 states it; empty if not asked for, or not stored.
    """

    key: str
    size_bytes: int
    etag: str
    modified_s: int
    storage_class: str = "STANDARD"
    crc64nvme: str = ""


def _crc_row(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_CRC_POLYNOMIAL if value & 1 else 0)
    return value


# Of the NVM Express specification, with its bits reversed; S3 names it CRC64NVME.
_CRC_POLYNOMIAL = 0x9A6C9329AC4BC9B5
_CRC_ONES = 2**64 - 1
_CRC_TABLE = tuple(map(_crc_row, range(256)))


def crc64nvme(body: bytes) -> str:
    """CRC-64/NVME of some bytes in base64, as S3 states it. It takes a quarter of a second per MiB."""
    value = _CRC_ONES
    for byte in body:
        value = _CRC_TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return base64.b64encode((value ^ _CRC_ONES).to_bytes(8, "big")).decode()


class ObjectStore(Protocol):
    """The region's data bucket."""

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        """Write a whole object. Returns False if `if_absent` is set and the object already exists (412)."""

    def upload(self, key: str, body: bytes, *, crc64nvme: str = "") -> str:
        """Write a whole object, replacing an existing one; returns its ETag, without quotes.

        `crc64nvme` is the checksum that the store checks and keeps; empty for a checksum of the store's choice.
        """

    def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: The object does not exist.
        """

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        """A seekable stream that reads ranges of the object on demand; the caller closes it.

        Args:
            key: Key of the object.
            if_match: ETag that the object must have.
            version_id: Version to try first; if this version is unavailable, the newest version is tried next. A
                version is only used together with `if_match`.

        Raises:
            ObjectMissingError: The object does not exist.
            ObjectChangedError: The object's ETag differs from `if_match`.
            ObjectUnreadableError: The object exists, but the store refuses to return it.
        """

    def pinned(self, key: str, *, if_match: str, version_id: str = "") -> ObjectInfo:
        """Properties, with `crc64nvme`, of the version that `open` would read.

        Raises:
            ObjectMissingError, ObjectChangedError, ObjectUnreadableError: As `open`.
        """

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        """A stream as from `open`, whose first call reads the end of the object and determines the object's size.

        This saves a call for readers that need the end first, such as Parquet readers; if the object has up to
        `last_bytes`, one call suffices.

        Raises:
            ObjectMissingError: The object does not exist.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Properties of the object, or None if it does not exist."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix` with keys after `after`, in key order."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. A missing object is not an error. When this returns, all objects are gone."""


class Ranges(io.RawIOBase):
    """Unbuffered base stream: each read is one call. Subclasses add `readinto`, which fills the given buffer.

    Wrap it in `io.BufferedReader` for read-ahead.

    Args:
        size_bytes: Size of the opened version.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self._size = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def readall(self) -> bytes:
        # The base class would read in small pieces.
        rest: bytes = self.read(max(self._size - self._position, 0))
        return rest


# Every prefix of the region's data bucket, and the format of every object key.
#
# The stacks grant access by these prefixes, and all code builds its keys with these functions.


# Producers put objects below these prefixes: objects that messages point to, and objects that an S3 event announces.
INGEST_PREFIX = "ingest/"
DROP_PREFIX = "drop/"
# Refused records that are resent.
RETRY_PREFIX = "ingest/retry/"
# Records that an on-ramp made from a log file. Messages point to them.
LOG_PARTS_PREFIX = "ingest/logs/"
# Plans made by on-ramps from log files, and the contexts for these plans. A plan outlives its batches' markers.
PLANS_PREFIX = "plans/"
CONTEXT_PREFIX = "context/"
# Cause rows of log files: whose workloads moved the bytes of their records.
CAUSES_PREFIX = "causes/"
CAUSE_PARTS_PREFIX = "causes/parts/"
# Causes of each day, their names, and the index of both.
CAUSE_DAYS_PREFIX = "causes/days/"
CAUSE_NAMES_PREFIX = "causes/names/"
CAUSE_INDEX_PREFIX = "causes/index/"
# For each closed month, the objects that answers about its causes read for good.
CAUSE_PINS_PREFIX = "causes/closed/"
# The service puts the rows of commits below this prefix.
STAGING_PREFIX = "staging/"
LAKE_PREFIX = "lake/"
RUNS_PREFIX = "runs/"
# Plans of the roll-up's chains: `runs/U<shard>/`.
ROLLUP_PLANS_PREFIX = "runs/U"
CLOSED_PREFIX = "closed/"
# Totals of each lake file, outside `lake/`, because engines read every object below `lake/` as rows.
SUMMARIES_PREFIX = "summaries/"
# Markers of the batches in lake files, from which a lost ledger can be restored. They live as long as the ledger's.
MARKERS_PREFIX = "markers/"
# Restores of the ledger, by the generation that each makes: its claim and its decision (P41).
LEDGER_PREFIX = "ledger/"
# Copies of the ledger's notes, which cannot be derived from anything else.
NOTES_PREFIX = "notes/"
# Lake files of a replaced ledger that came after the decision. They are deleted after some weeks.
WITHDRAWN_PREFIX = "withdrawn/"
# Money: price books and overrides, payers, owners of workloads, the biller's data on open months, invoices.
PRICES_PREFIX = "prices/"
ORGANIZATION_PREFIX = "organization/"
OWNERS_PREFIX = "owners/"
RATED_PREFIX = "rated/"
INVOICES_PREFIX = "invoices/"
# Reports of saved questions.
REPORTS_PREFIX = "reports/"
RATED_INDEX_PREFIX = "rated/index/"
QUARANTINE_PREFIX = "quarantine/"
# Staging objects with batches that a restore could not decide, by the ledger's generation.
HELD_PREFIX = "quarantine/restore/"
QUARANTINED_BATCHES_PREFIX = "quarantine/batches/"
# Refused lines of log files, and log files that were refused as a whole.
QUARANTINED_LOGS_PREFIX = "quarantine/logs/"
# Query results of Athena, kept for a week.
ATHENA_RESULTS_PREFIX = "athena-results/"
# Objects with which `metering doctor` tests S3; the command deletes them when it ends.
DOCTOR_PREFIX = "doctor/"
# Progress of a full scan, from which the reconciler continues.
AUDIT_PREFIX = "audit/"
SCAN_KEY = "audit/scan.json.gz"
# All prefixes of the bucket. A job that reads the whole bucket lists the prefixes individually, because roles may list
# only below known prefixes.
PREFIXES = (
    ATHENA_RESULTS_PREFIX,
    AUDIT_PREFIX,
    CAUSES_PREFIX,
    CLOSED_PREFIX,
    CONTEXT_PREFIX,
    DOCTOR_PREFIX,
    DROP_PREFIX,
    INGEST_PREFIX,
    INVOICES_PREFIX,
    LAKE_PREFIX,
    LEDGER_PREFIX,
    MARKERS_PREFIX,
    NOTES_PREFIX,
    ORGANIZATION_PREFIX,
    OWNERS_PREFIX,
    PLANS_PREFIX,
    PRICES_PREFIX,
    QUARANTINE_PREFIX,
    RATED_PREFIX,
    REPORTS_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
    SUMMARIES_PREFIX,
    WITHDRAWN_PREFIX,
)

_SAFE_CHARS = 200
_STAGING_SUFFIX = ".parquet"
_ADOPTED = "adopted-"
_RECORDS_SUFFIX = ".ndjson"


def staging_key(commit_id: str, now_s: int) -> str:
    """Key of a commit's rows: `staging/<date>/<commit_id>.parquet`."""
    return f"{STAGING_PREFIX}{date_of(now_s)}/{commit_id}{_STAGING_SUFFIX}"


def commit_id_of(key: str) -> str:
    """Id of the commit to which a staging object belongs."""
    return key.rpartition("/")[2].partition(".")[0]


def plan_key(chain: str, number: int, token: str) -> str:
    """Key of a plan object: `runs/U0/000000000012-<token>.json`. `token` is random, so planners never share a key."""
    return f"{plans_prefix(chain)}{number:012d}-{token}.json"


def part_of_plan_key(chain: str, number: int, generation: int) -> str:
    """Key of the part of a run's plan that a restore adopted."""
    return plan_key(chain, number, f"{_ADOPTED}{generation}")


def is_part_of_plan(key: str) -> bool:
    """Whether a plan object is the part of a plan that a restore adopted."""
    return f"-{_ADOPTED}" in key


def plans_prefix(chain: str) -> str:
    """Prefix of the plans of a chain, in the order of their numbers."""
    return f"{RUNS_PREFIX}{chain}/"


def restore_key(generation: int, step: str = "") -> str:
    """Key of the claim of a restore that makes the ledger of a generation, or of the record that a step has ended."""
    return f"{LEDGER_PREFIX}{generation}{step and '/'}{step}.json"


def generation_of_claim(key: str) -> int | None:
    """Generation of the ledger for which a claim was made; None for other objects."""
    number = key.removeprefix(LEDGER_PREFIX).removesuffix(".json")
    return int(number) if number.isascii() and number.isdecimal() and key == restore_key(int(number)) else None


def number_of_plan(key: str) -> int | None:
    """Number of the run for which a plan object was made; None for other objects."""
    number, found, _ = key.rpartition("/")[2].partition("-")
    return int(number) if found and len(number) == 12 and number.isdecimal() else None


def lake_prefix(hour_s: int) -> str:
    """Prefix of an hour's published files: `lake/dt=2026-11-24/hour=13/`."""
    label = hour_label(hour_s)
    return f"{LAKE_PREFIX}dt={label[:10]}/hour={label[11:]}/"


def lake_file_key(hour_s: int, shard: int, run: int, index: int) -> str:
    """Key of file number `index` that a run publishes in an hour."""
    return f"{lake_prefix(hour_s)}{shard}-{run:012d}-{index:03d}.parquet"


def summary_key(lake_file: str) -> str:
    """Key of the totals of a lake file: `summaries/dt=2026-11-24/hour=13/…`, for the file `lake/…`."""
    return SUMMARIES_PREFIX + lake_file.removeprefix(LAKE_PREFIX)


def markers_key(lake_file: str) -> str:
    """Key of the markers beside a lake file: `markers/dt=2026-11-24/hour=13/….ndjson.gz`, for the file `lake/…`."""
    return f"{MARKERS_PREFIX}{lake_file.removeprefix(LAKE_PREFIX).removesuffix('.parquet')}.ndjson.gz"


def notes_prefix(partition: str) -> str:
    """Prefix of the lines about notes of a partition of the ledger: `notes/producers/`."""
    return f"{NOTES_PREFIX}{_safe(partition.rpartition('#')[2])}/"


def note_key(partition: str, sort_key: str, now_ms: int, token: str) -> str:
    """Key of a line: `notes/producers/edge/001796083200000-1a2b3c4d.json`, with the beginning of a random token."""
    return f"{notes_prefix(partition)}{_safe(sort_key)}/{now_ms:015d}-{token[:8]}.json"


def _safe(text: str) -> str:
    # A key has at most 1,024 bytes, and quoting makes a text up to three times as long.
    quoted = quote(text, safe="")
    return quoted if len(quoted) <= _SAFE_CHARS else f"{quoted[:_SAFE_CHARS]}-{_text_digest(text)}"


def decision_key(generation: int) -> str:
    """Key of the decision by which a restore made the ledger of a generation (P41)."""
    return f"{LEDGER_PREFIX}{generation}/decision.ndjson.gz"


def held_key(generation: int, staging_key: str) -> str:
    """Key of a copy of a staging object with batches that a restore could not decide."""
    return f"{HELD_PREFIX}{generation}/{staging_key.rpartition('/')[2]}"


def hour_of_lake_key(key: str) -> int | None:
    """Hour of a lake file; None for other objects, such as a console folder or a file that an engine left."""
    try:
        _, date, hour, _ = key.split("/")
        return parse_hour(f"{date.removeprefix('dt=')}T{hour.removeprefix('hour=')}")
    except ValueError:
        return None


def run_of_lake_key(key: str) -> tuple[int, int] | None:
    """Shard and number of the run that made a lake file; None for other objects."""
    shard, _, rest = key.rpartition("/")[2].partition("-")
    run, _, _ = rest.partition("-")
    return (int(shard), int(run)) if shard.isdecimal() and len(run) == 12 and run.isdecimal() else None


def withdrawn_key(lake_file: str) -> str:
    """Key to which a late lake file is moved: `withdrawn/dt=2026-11-24/hour=13/…`, for the file `lake/…`."""
    return WITHDRAWN_PREFIX + lake_file.removeprefix(LAKE_PREFIX)


def closed_month_key(month: str) -> str:
    """Key of a closed month's manifest."""
    return f"{CLOSED_PREFIX}{month}.json"


def rated_index_key(number: int) -> str:
    """Key of one version of the index of a region's day sums."""
    return f"{RATED_INDEX_PREFIX}{number:08d}.json"


def rated_day_key(day_s: int, sha256: str) -> str:
    """Key of a day's sums: `rated/2026-11/days/2026-11-24-….json.gz`. The key depends on the sums."""
    day = date_of(day_s)
    return f"{RATED_PREFIX}{day[:7]}/days/{day}-{sha256[:16]}.json.gz"


def cause_index_key(number: int) -> str:
    """Key of one version of the index of a region's days of causes."""
    return f"{CAUSE_INDEX_PREFIX}{number:08d}.json"


def cause_day_key(day_s: int, sha256: str) -> str:
    """Key of a piece of a day's causes: `causes/days/2026-11-24/….parquet`. The key depends on the rows."""
    return f"{CAUSE_DAYS_PREFIX}{date_of(day_s)}/{sha256[:40]}.parquet"


def cause_names_key(day_s: int, sha256: str) -> str:
    """Key of the names of a day's causes: `causes/names/2026-11-24-….json.gz`. The key depends on the names."""
    return f"{CAUSE_NAMES_PREFIX}{date_of(day_s)}-{sha256[:16]}.json.gz"


def cause_pin_key(month: str) -> str:
    """Key of the pin of a closed month's causes."""
    return f"{CAUSE_PINS_PREFIX}{month}.json"


def rated_accounts_key(month: str, sha256: str) -> str:
    """Key of a month's accounts: `rated/2026-11/accounts-….json.gz`. The key depends on the sums."""
    return f"{RATED_PREFIX}{month}/accounts-{sha256[:16]}.json.gz"


def rated_summaries_key(month: str) -> str:
    """Key of the sums of a month's days, which the biller stores for budgets."""
    return f"{RATED_PREFIX}{month}/summaries.json.gz"


def positions_key(month: str, payer_id: str) -> str:
    """Key of a payer's positions in an open month."""
    return f"{RATED_PREFIX}{month}/positions/{payer_id}.json"


def reports_prefix(name: str) -> str:
    """Prefix of the reports of a saved question: `reports/egress/`."""
    return f"{REPORTS_PREFIX}{name}/"


def report_key(name: str, date: str, file: str) -> str:
    """Key of an object of a report: `reports/egress/2026-11-30/…`."""
    return f"{reports_prefix(name)}{date}/{file}"


def invoices_prefix(month: str, payer_id: str = "") -> str:
    """Prefix of the documents of a month of use: `invoices/2026-11/`; if a payer is given, of the payer's documents."""
    return f"{INVOICES_PREFIX}{month}/{payer_id}/" if payer_id else f"{INVOICES_PREFIX}{month}/"


def invoice_key(month: str, payer_id: str, number: int) -> str:
    """Key of an invoice (number 1), or of one of its credit notes."""
    return f"{invoices_prefix(month, payer_id)}{number}.json"


def invoice_inputs_key(month: str, number: int = 1) -> str:
    """Key of the inputs that the invoices of a month share. These inputs do not belong to any payer's documents.

    Inputs numbered 2 or higher have a later version of the price book, for payers whose usage had no price.
    """
    return f"{invoices_prefix(month)}inputs{'' if number == 1 else f'-{number}'}.json"


def closed_hour_key(month: str, hour_s: int) -> str:
    """Key of the totals of one hour of a closed month: `closed/2026-10/2026-10-01T00.parquet`."""
    return f"{CLOSED_PREFIX}{month}/{hour_label(hour_s)}.parquet"


def closed_accounts_key(month: str) -> str:
    """Key of the totals of all hours of a closed month, sorted by account."""
    return f"{CLOSED_PREFIX}{month}/accounts.parquet"


def closed_days_key(month: str) -> str:
    """Key of the totals of all days of a closed month, sorted by account."""
    return f"{CLOSED_PREFIX}{month}/days.parquet"


def refused_records_key(commit_id: str, now_s: int) -> str:
    """Key of the refused records of a commit's batches."""
    return f"{QUARANTINE_PREFIX}{date_of(now_s)}/{commit_id}{_RECORDS_SUFFIX}"


def quarantined_batch_key(batch_id: str, content_hash: str) -> str:
    """Key of a whole refused batch; `batch_id` is empty if it could not be read."""
    identity = f"{batch_id}\n{content_hash}".encode()
    return f"{QUARANTINED_BATCHES_PREFIX}{hashlib.sha256(identity).hexdigest()}.json"


def conflicting_batch_key(batch_id: str, content_hash: str) -> str:
    """Key of a batch in conflict. A late refusal of the same content has another key, and replaces nothing (P10)."""
    return quarantined_batch_key(batch_id, f"{content_hash}\nconflict")


def disallowed_batch_key(role_id: str, claimed_id: str, body_hash: str) -> str:
    """Key of a batch whose sender may not send it. Two senders of one body have two keys, because one may be right."""
    return quarantined_batch_key("", f"{role_id}\n{claimed_id}\n{body_hash}")


def quarantined_lines_key(identity: str) -> str:
    """Key of the refused lines of a log file."""
    return f"{QUARANTINED_LOGS_PREFIX}lines/{hashlib.sha256(identity.encode()).hexdigest()}.json"


def quarantined_files_prefix(place: str) -> str:
    """Prefix of the references to a wholly refused log file; there is one reference for each reason and version."""
    return f"{QUARANTINED_LOGS_PREFIX}file/{_text_digest(place)}-"


def quarantined_file_key(place: str, version_id: str, etag: str, reason: str) -> str:
    """Key of the reference to one version of a log file that was refused as a whole."""
    digest = hashlib.sha256(f"{version_id}\n{etag}\n{reason}".encode()).hexdigest()[:24]
    return f"{quarantined_files_prefix(place)}{digest}.json"


def _text_digest(text: str) -> str:
    # A path in a folder may contain bytes that are not valid text.
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def log_part_key(identity: str, number: int, records_sha256: str) -> str:
    """Key of the records of one part of a log file. The key depends on the records."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:40]
    return f"{LOG_PARTS_PREFIX}{digest}/{number}-{records_sha256[:16]}.parquet"


def commit_of_refused_records(key: str) -> str | None:
    """Id of the commit to which a quarantine object belongs, or None if it belongs to no commit."""
    if key.startswith(QUARANTINED_BATCHES_PREFIX) or not key.endswith(_RECORDS_SUFFIX):
        return None
    return key.rpartition("/")[2].removesuffix(_RECORDS_SUFFIX)


def retry_object_key(digest: str) -> str:
    """Key of a retry's records; `digest` identifies the retry."""
    return f"{RETRY_PREFIX}{digest}{_RECORDS_SUFFIX}"
