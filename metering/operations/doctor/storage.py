"""Checks of S3 and DynamoDB: keys, uploads, listings and announcements; conflicts, throttles and quotas."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError, ThrottledError, TransactionCanceledError, UnavailableError
from metering.intake.envelopes import drop_batch_id
from metering.ledger.markers import Marker, marker_key
from metering.ledger.notes.checks import doctor_item, doctor_key
from metering.operations.doctor.bench import (
    SENDER_ADVICE,
    Bench,
    CannotAskError,
    EndlessListingError,
    Observation,
    differs,
    ok,
    record,
    unknown,
)
from metering.stores.clock import in_blocks
from metering.stores.objects import DOCTOR_PREFIX, DROP_PREFIX, LAKE_PREFIX, ObjectStore
from metering.stores.writes import Absent, Delete, Item, Key, Put, Table, Update, key_of
from metering.units import HOUR_S, KIB, MIB

if TYPE_CHECKING:
    from metering.stores.items import ItemStore


# One byte more than the largest part, so that the upload has two parts.
LARGE_BYTES = 16 * MIB + 1
# Number of keys per page of a listing (S3 API reference).
_PAGE = 1_000
# Beyond the full pages, a listing may have this many pages before waiting for its end is given up.
_SPARE_PAGES = 50
_THREADS = 16
_READERS = ("reader", "operator")
# A role that may neither read the lake nor list anything.
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
        list(threads.map(bench.objects.delete, in_blocks(keys, _PAGE)))
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


# A stage writes to both tables.
_TABLES = (Table.LEDGER, Table.USAGE)
_RACERS = 8
_ROUNDS = 25
CONFLICT = "TransactionConflict"
_THROTTLED = "throttled"
_PUTS = 10
_NO_THROTTLE = "The service would take this throttle for a conflict, and write more while it is short. Report it."
_REPORT = "Commits, and the checks of what was committed, rest on it: do not run the service at this endpoint."


def cancel_reasons(bench: Bench) -> Observation:
    """Cancel a transaction by its second action: each action must have its reason, in order, with the item found."""
    there, other = (_item(bench, name) for name in ("there", "other"))
    keys = [key_of(item) for item in (there, other)]
    bench.items.put(Put(table=Table.LEDGER, item=there))
    try:
        bench.items.transact(
            [Put(table=Table.LEDGER, item=other), Put(table=Table.LEDGER, item=there, condition=Absent())]
        )
    except TransactionCanceledError as error:
        reasons = error.reasons
    else:
        return differs("a transaction with a condition that does not hold was applied", _REPORT)
    finally:
        written = bench.items.get(Table.LEDGER, keys[1])
        _delete(bench.items, keys)
    if written is not None:
        return differs("the other action of a canceled transaction was applied", _REPORT)
    if len(reasons) != 2 or reasons[0] is not None or reasons[1] is None or reasons[1][0] != "ConditionalCheckFailed":
        return differs(f"the reasons are {_said(reasons)}, not none and ConditionalCheckFailed", _REPORT)
    if reasons[1][1] != there:
        return differs("a failed condition came without the item that was found", _REPORT)
    return ok("one reason an action, in order, with the item that was found")


def racing(bench: Bench) -> Observation:
    """Let transactions meet on one item: what was applied is there once, and what was not says that they met."""
    keys = [doctor_key(f"race-{bench.token}-{half}") for half in ("a", "b")]

    def worker(_number: int) -> list[str]:
        return [_raced(bench, keys) for _ in range(_ROUNDS)]

    try:
        with ThreadPoolExecutor(_RACERS) as threads:
            outcomes = [outcome for each in threads.map(worker, range(_RACERS)) for outcome in each]
        counts = [int(str((bench.items.get(Table.LEDGER, key) or {}).get("n", 0))) for key in keys]
    finally:
        _delete(bench.items, keys)
    applied, unsure = outcomes.count("applied"), outcomes.count("unsure")
    met = outcomes.count(CONFLICT)
    others = sorted(set(outcomes) - {"applied", "unsure", CONFLICT, _THROTTLED})
    saw = (
        f"{len(outcomes)} transactions of {_RACERS} threads: {applied} applied, {met} met another one, {unsure} unsure"
    )
    if counts[0] != counts[1] or not applied <= counts[0] <= applied + unsure:
        return differs(f"{saw}; the two items counted {counts[0]} and {counts[1]}", _REPORT)
    if others:
        return differs(f"{saw}; canceled for {', '.join(others)}", "The service takes this for a conflict. Report it.")
    return ok(saw) if met else unknown(f"{saw}: this endpoint showed no conflict")


def _raced(bench: Bench, keys: list[Key]) -> str:
    expires_s = bench.now_s + HOUR_S
    try:
        bench.items.transact(
            [Update(table=Table.LEDGER, key=key, add={"n": 1}, set={"expires_at": expires_s}) for key in keys]
        )
    except TransactionCanceledError as error:
        if error.throttled:
            return _THROTTLED
        return next((reason[0] for reason in error.reasons if reason is not None), "no reason")
    except ThrottledError as error:
        return "unsure" if error.may_have_applied else _THROTTLED
    except UnavailableError as error:
        return "unsure" if error.may_have_applied else CONFLICT
    return "applied"


def throttled(bench: Bench) -> Observation:
    """Write to a table that takes one write unit a second until it refuses, and see what the refusal looks like."""
    end_s = bench.now_s + bench.effort.throttle_s
    tries = 0
    with bench.scratch.slow_table() as table:
        while bench.now_s < end_s:
            tries += 1
            try:
                table.transact([_filler(bench, tries, n) for n in range(_PUTS)])
            except TransactionCanceledError as error:
                return _judged(error, tries)
            except ThrottledError as error:
                return ok(f"refused after {tries} transactions as a throttle: {error.detail}")
            except UnavailableError as error:
                if not error.may_have_applied:
                    return differs(f"refused after {tries} transactions: {error.detail}", _NO_THROTTLE)
    return unknown(
        f"{tries} transactions of {_PUTS} KB to a table that takes 1 KB a second, and none was refused: this endpoint "
        "showed no throttle"
    )


def _judged(error: TransactionCanceledError, tries: int) -> Observation:
    codes = sorted({reason[0] for reason in error.reasons if reason is not None})
    saw = f"canceled after {tries} transactions: {', '.join(codes) or 'no reason'}"
    return ok(f"{saw}, which the service takes for a throttle") if error.throttled else differs(saw, _NO_THROTTLE)


def warm(bench: Bench) -> Observation:
    """Compare what the tables take at once with what the stage asks for."""
    found = {table: bench.facts.writes_per_s(table) for table in _TABLES}
    saw = ", ".join(f"{table.value} {found[table]:,}" for table in _TABLES) + " write units a second"
    short = [table for table in _TABLES if found[table] < bench.needed_writes_per_s[table]]
    if short:
        needed = ", ".join(f"{table.value} {bench.needed_writes_per_s[table]:,}" for table in short)
        return differs(
            f"{saw}; the stage asks for {needed}",
            "Deploy the stage again; AWS raises it within minutes. Until then the table throttles at its first peak.",
        )
    return ok(saw)


def table_quota(bench: Bench) -> Observation:
    """Compare the account's quota of a table with the stage's own peak."""
    quota, needed = bench.facts.table_quota_per_s(), max(bench.needed_writes_per_s.values())
    saw = f"{quota:,} write units a second, needed {needed:,}"
    if quota < needed:
        return differs(saw, "Ask for more in Service Quotas: DynamoDB, L-AB614373.")
    return ok(saw)


def _item(bench: Bench, name: str, *, filler: str = "") -> Item:
    return doctor_item(f"{name}-{bench.token}", expires_s=bench.now_s + HOUR_S, filler=filler)


def _filler(bench: Bench, number: int, n: int) -> Put:
    return Put(table=Table.LEDGER, item=_item(bench, f"{number}-{n}", filler="x" * (KIB - 200)))


def _delete(items: ItemStore, keys: list[Key]) -> None:
    for key in keys:
        items.delete(Delete(table=Table.LEDGER, key=key))


def _said(reasons: tuple[tuple[str, object] | None, ...]) -> str:
    return " and ".join("none" if reason is None else reason[0] for reason in reasons) or "missing"
