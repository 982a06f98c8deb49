"""Checks of S3: missing keys, conditional uploads in parts, listings behind deleted objects, announced objects."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError, UnavailableError
from metering.intake.notifications import drop_batch_id
from metering.ledger.markers import Marker, marker_key
from metering.operations.doctor.batches import SENDER_ADVICE, record
from metering.operations.doctor.bench import CannotAskError, EndlessListingError
from metering.operations.doctor.checks import differs, ok, unknown
from metering.stores.bucket import DOCTOR_PREFIX, DROP_PREFIX, LAKE_PREFIX
from metering.stores.writes import Table
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.operations.doctor.bench import Bench
    from metering.operations.doctor.checks import Observation
    from metering.stores.objects import ObjectStore

# One byte more than the largest part, so that the upload has two parts.
LARGE_BYTES = 16 * MIB + 1
# Keys of one page of a listing (S3 API reference).
_PAGE = 1_000
# Pages more than full ones that a listing may have before nobody waits for its end.
_SPARE_PAGES = 50
_THREADS = 16
_READERS = ("reader", "operator")
# A role that may not read the lake, nor list anything.
_STRANGER = "producer"
_LIST_ADVICE = (
    "The roles must be allowed s3:ListBucket: without it no lake file is ever written. Compare the policies of the "
    "stage's roles with its templates, and deploy it again."
)


def missing_key(bench: Bench) -> Observation:
    """Ask for a key that is not there, as each role that may be assumed, and as one that has no right to know."""
    key = f"{LAKE_PREFIX}dt=1970-01-01/hour=00/doctor-{bench.token}.parquet"
    answers = {role: _asked(bench, role, key) for role in (*_READERS, _STRANGER)}
    wrong = [role for role in _READERS if answers[role] == "403"]
    if wrong:
        return differs(f"a missing key is 403 to {' and '.join(wrong)}, not 404", _LIST_ADVICE)
    asked = [role for role in _READERS if answers[role] == "404"]
    if not asked:
        return unknown(
            f"no role could be assumed ({answers[_READERS[0]]})", "Run it with credentials that may assume the roles."
        )
    if answers[_STRANGER] == "404":
        return unknown(
            f"404 to {' and '.join(asked)}, and also to {_STRANGER}, which may not list: this endpoint does not tell "
            "apart who may know"
        )
    compacted = next(iter(bench.objects.list(LAKE_PREFIX)), None) is not None
    functions = (
        "; lake files are there, so the compactor gets 404 as well"
        if compacted
        else "; of the compactor nobody knows until its first lake file"
    )
    return ok(f"404 to {' and '.join(asked)}, {answers[_STRANGER]} to {_STRANGER}{functions}")


def _asked(bench: Bench, role: str, key: str) -> str:
    """What a role is told of a missing key: `404`, `403`, or why it was not asked."""
    try:
        store = bench.as_roles[role]()
    except CannotAskError as error:
        return str(error)
    try:
        if store.head(key) is not None:
            return "200"
        store.get(key)
    except ObjectMissingError:
        return "404"
    except UnavailableError as error:
        if error.may_have_applied:
            raise
        return "403"
    return "200"


def large_put(bench: Bench) -> Observation:
    """Upload a file in two parts on the condition that it is not there, twice, and read it back."""
    key = f"{DOCTOR_PREFIX}{bench.token}/large.parquet"
    body = random.Random(bench.token).randbytes(LARGE_BYTES)  # noqa: S311  # bytes that nobody compressed
    with tempfile.TemporaryDirectory(prefix="metering-doctor-") as scratch:
        path = Path(scratch, "large")
        path.write_bytes(body)
        first = bench.objects.put(key, path, if_absent=True)
        try:
            second = bench.objects.put(key, path, if_absent=True)
            found = hashlib.sha256(bench.objects.get(key)).digest()
        finally:
            bench.objects.delete([key])
    size = f"{LARGE_BYTES:,} bytes in two parts"
    if not first:
        return differs(f"{size}: refused as if the object were there", "No large lake file can be written. Report it.")
    if second:
        return differs(
            f"{size}: written a second time, although the condition was that it is not there",
            "Two runs could replace each other's files. Do not run the service at this endpoint.",
        )
    if found != hashlib.sha256(body).digest():
        return differs(f"{size}: other bytes came back", "Do not run the service at this endpoint.")
    return ok(f"{size}: written once, refused the second time, read back unchanged")


def tombstones(bench: Bench) -> Observation:
    """Put and delete objects, then list the prefix that they were below, where one is left after all the others."""
    prefix = f"{DOCTOR_PREFIX}{bench.token}/gone/"
    number = bench.effort.tombstones
    keys = [f"{prefix}{n:07d}" for n in range(number)]
    last = f"{prefix}{number:07d}-here"
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda key: bench.objects.put(key, b"", if_absent=False), [*keys, last]))
        list(threads.map(bench.objects.delete, _slices(keys)))
    try:
        found = bench.facts.pages(prefix, most=number // _PAGE + _SPARE_PAGES)
    except EndlessListingError as error:
        return differs(str(error), "No job that lists would end. Report it.")
    finally:
        bench.objects.delete([last])
    saw = f"{number:,} deleted objects: pages {found.pages}, of them empty {found.empty}, objects {len(found.keys)}"
    if found.keys != (last,):
        return differs(f"{saw}, not the one that is there", "Listings are wrong: orphans and checks cannot be trusted.")
    if not bench.facts.bucket_is_versioned():
        return unknown(f"{saw}; the bucket keeps no versions, so nothing of them was left to be passed over")
    return ok(saw)


def dropped_object(bench: Bench) -> Observation:
    """Put an object below `drop/`, and wait until the batch that it is has a verdict."""
    try:
        store: ObjectStore = bench.as_roles[_STRANGER]()
    except CannotAskError:
        store = bench.objects
    key = f"{DROP_PREFIX}doctor-{bench.token}.ndjson"
    etag = store.upload(key, json.dumps(record(bench.now_s, bench.region)).encode())
    marker = marker_key(drop_batch_id(bench.bucket, key, etag))
    began_s = bench.now_s
    arrived = bench.until(lambda: bench.items.get(Table.LEDGER, marker) is not None, within_s=bench.effort.arrival_s)
    if not arrived:
        return differs(
            f"an object below {DROP_PREFIX} has no verdict after {bench.effort.arrival_s} s",
            "Compare the bucket's notifications and the queue's policy with the templates; metering drops list shows "
            "what was not announced, and metering drops send announces it.",
        )
    took_s = bench.now_s - began_s
    if Marker.from_item(bench.items.get(Table.LEDGER, marker) or {}).verdict == "rejected":
        return unknown(f"announced and judged within {took_s} s, and refused", SENDER_ADVICE)
    return ok(f"announced, judged and counted within {took_s} s")


def _slices(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _PAGE):
        yield keys[start : start + _PAGE]
