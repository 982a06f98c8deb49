"""All checks, the most important first: checks of S3 and DynamoDB, SQS, functions and engines."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import ThrottledError, TransactionCanceledError, UnavailableError
from metering.hours import hour_label, rfc3339
from metering.intake.dropped import checksum_batch_id
from metering.intake.envelopes import drop_batch_id
from metering.ledger.booked_hours import pending_key
from metering.ledger.commits import CommitRecord, commit_key, waiting_key
from metering.ledger.markers import Marker, marker_key
from metering.ledger.notes.checks import (
    CANARY_PK,
    CanaryRun,
    CanaryVerdict,
    canary_batch_id,
    canary_key,
    doctor_item,
    doctor_key,
)
from metering.operations.doctor.bench import (
    MISSING_LAKE_KEY,
    SENDER_ADVICE,
    AlarmAction,
    AlarmPath,
    Bench,
    CannotAskError,
    Check,
    EndlessListingError,
    Observation,
    answer_of_missing,
    batch_id,
    body,
    differs,
    ok,
    record,
    unknown,
)
from metering.operations.own_costs import RESTORE_USD_GB
from metering.stores import clock
from metering.stores.objects import DOCTOR_PREFIX, DROP_PREFIX, ObjectStore, crc64nvme
from metering.stores.writes import EXPIRES_AT, Absent, Delete, Item, ItemStore, Key, Put, Table, Update, key_of
from metering.units import DAY_S, GIB, HOUR_S, KIB, MIB, MINUTE_S

if TYPE_CHECKING:
    from metering.stores.queues import Queue, ReceivedMessage

# One byte more than the largest part, so that the upload needs two parts.
LARGE_BYTES = 16 * MIB + 1
# Number of keys per page of a listing (S3 API reference).
_PAGE = 1_000
# After this many pages beyond the full pages, the search for the end of a listing is given up.
_SPARE_PAGES = 50
_THREADS = 16
_READERS = ("reader", "operator")
# A role that may neither read nor list any object in the lake.
_STRANGER = "producer"
_LIST_ADVICE = (
    "The roles must be allowed s3:ListBucket: without it no lake file is ever written. Compare the policies of the "
    "stage's roles with its templates, and deploy it again."
)


def missing_key(bench: Bench) -> Observation:
    """Get a missing key as each role that the caller may assume, as a role that may not list, and as the compactor."""
    answers = {role: _asked(bench, role) for role in (*_READERS, _STRANGER)}
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
    compactor = bench.facts.compactor_sees()
    if compactor != "404":
        return differs(f"a missing key is {compactor} to the compactor, not 404", _LIST_ADVICE)
    return ok(f"404 to {', '.join(asked)} and the compactor, {answers[_STRANGER]} to {_STRANGER}")


def _asked(bench: Bench, role: str) -> str:
    """Response to a role's request for a missing key: `404`, `403`, or why the request was not made."""
    try:
        return answer_of_missing(bench.as_roles[role](), MISSING_LAKE_KEY)
    except CannotAskError as error:
        return str(error)


def large_put(bench: Bench) -> Observation:
    """Upload a file in two parts with `If-None-Match`, twice, and read it back."""
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
    """Put objects, delete all except the object that sorts last, then list their prefix."""
    prefix = f"{DOCTOR_PREFIX}{bench.token}/gone/"
    number = bench.effort.tombstones
    keys = [f"{prefix}{n:07d}" for n in range(number)]
    last = f"{prefix}{number:07d}-here"
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda key: bench.objects.put(key, b"", if_absent=False), [*keys, last]))
        list(threads.map(bench.objects.delete, clock.in_blocks(keys, _PAGE)))
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
    """Put an object below `drop/`, and wait until its batch has a verdict."""
    try:
        store: ObjectStore = bench.as_roles[_STRANGER]()
    except CannotAskError:
        store = bench.objects
    key = f"{DROP_PREFIX}doctor-{bench.token}.ndjson"
    body = json.dumps(record(bench.now_s, bench.region)).encode()
    # S3 keeps the checksum that the sender chose, and the ids of some stages are derived from this one.
    checksum = crc64nvme(body) if bench.drop_identity == "checksum" else ""
    batch_id = drop_batch_id(bench.bucket, key, store.upload(key, body, crc64nvme=checksum))
    if checksum:
        batch_id = checksum_batch_id(bench.bucket, key, size_bytes=len(body), crc64nvme=checksum)
    marker = marker_key(batch_id)
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
    """Fail a transaction's second action: the error must list each action's reason, in order, with the found item."""
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
    """Let transactions conflict on one item: each applied transaction counts once; every other reports a conflict."""
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
    """Write to a table with one write unit per second until DynamoDB throttles, and check the error."""
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
    """Compare the tables' warm throughput, or the ledger's provisioned one, with the stage's settings."""
    found = {table: bench.facts.writes_per_s(table) for table in _TABLES}
    provisioned, scales = bench.facts.provisioned_writes_per_s(Table.LEDGER), bench.ledger_scales
    if bool(provisioned) != bool(scales):
        is_so, should = ("provisioned", "on demand") if provisioned else ("on demand", "provisioned")
        advice = "A rebuild that runs keeps it on demand. If none does, deploy the stage again."
        return differs(f"the ledger is {is_so}, and the stage says {should}", advice)
    if scales is not None:
        if not scales[0] <= provisioned <= scales[1]:
            saw = f"ledger {provisioned:,} provisioned write units a second; it says {scales[0]:,} to {scales[1]:,}"
            return differs(saw, "Auto scaling does not hold the table, or people changed it. Deploy the stage again.")
        found[Table.LEDGER] = bench.needed_writes_per_s[Table.LEDGER]
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
    """Compare the account's quota for one table with the stage's own peak."""
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


_LOOK_BACK_S = 7 * DAY_S
_MOST_LINES = 1_000
# Lambda ends the init phase of a function after this time, and repeats it in the invocation (Lambda developer guide).
INIT_LIMIT_MS = 10_000
_FULL_DISK = ("No space left on device", "Errno 28")
_TIMED_OUT = "Task timed out"
_SEVERITIES = ("page", "ticket")
# CloudWatch keeps the history of an alarm for 30 days (CloudWatch user guide).
_HISTORY_S = 30 * DAY_S
# A counted canary's commit has left the waiting list after this time: the roll-up starts again each minute.
_SETTLED_S = 3 * MINUTE_S
_DAYS = _LOOK_BACK_S // DAY_S


def scratch_left(bench: Bench) -> Observation:
    """Look for compactor runs whose /tmp was full of files that an earlier, stopped run had left."""
    lines = bench.logs().errors(["compactor"], from_s=bench.now_s - _LOOK_BACK_S, to_s=bench.now_s, limit=_MOST_LINES)
    full = [line for line in lines if any(word in line.text for word in _FULL_DISK)]
    stopped = [line for line in lines if _TIMED_OUT in line.text]
    if full:
        return differs(
            f"{len(full)} runs of the compactor in {_DAYS} days found no space left on /tmp",
            "Raise compactor_scratch_mb and deploy; report it: a run removes what an earlier one left.",
        )
    if not stopped:
        return unknown(f"no compactor ran out of time in {_DAYS} days, so none left its files behind")
    return ok(
        f"runs of the compactor that ran out of time in {_DAYS} days: {len(stopped)}; none after them found a full disk"
    )


def cold_starts(bench: Bench) -> Observation:
    """Compare each function's slowest cold start with the time after which Lambda restarts the function."""
    starts = bench.facts.cold_starts_ms(since_s=bench.now_s - _LOOK_BACK_S)
    if not starts:
        return unknown(f"the logs of {_DAYS} days say no start of any function")
    saw = ", ".join(f"{name} {starts[name] / 1000:.1f} s" for name in sorted(starts))
    slow = [name for name in sorted(starts) if starts[name] >= INIT_LIMIT_MS]
    if slow:
        return differs(
            saw, f"{' and '.join(slow)}: more memory starts faster (small_job_memory_mb, job_memory_mb, api_memory_mb)."
        )
    return ok(saw)


def alarm_arrives(bench: Bench) -> Observation:
    """Set an alarm to `ALARM`, and wait for its message at a queue subscribed to the topic."""
    came: list[str] = []
    for severity in _SEVERITIES:
        with bench.scratch.alarm(severity) as path:
            path.publish(f"direct {bench.token}")
            if not _arrives(bench, path, f"direct {bench.token}"):
                return unknown(
                    f"what was published to the topic of {severity} did not reach a queue that is subscribed to it, so "
                    "nothing can be said of alarms"
                )
            path.trip(f"alarm {bench.token}")
            if not _arrives(bench, path, f"alarm {bench.token}"):
                return differs(
                    f"an alarm did not reach the topic of {severity}, though what was published to it arrived",
                    "CloudWatch may not publish there: compare the policies of topic and key with the templates.",
                )
            came.append(severity)
    return ok(f"alarms arrived by the topics of {' and '.join(came)}")


def _arrives(bench: Bench, path: AlarmPath, text: str) -> bool:
    return bench.until(lambda: any(text in message for message in path.received()), within_s=bench.effort.arrival_s)


def region_built(bench: Bench) -> Observation:
    """Check whether the CodeBuild project that builds regions was asked for, and has built an opt-in region."""
    project = bench.facts.project()
    if not project:
        if bench.project_wanted:
            return unknown("no project here builds regions", "Ask in the home region of the stage.")
        return ok("no project builds regions by itself, and no setting asks for one")
    if not bench.project_wanted:
        return differs(
            "a project stands that builds regions by itself each day, and no setting asks for it",
            "Set rollout_project = true in the stage's file to keep it, or = false to remove it, and deploy.",
        )
    builds = bench.facts.builds(project)
    if builds and builds[0] == "FAILED":
        return differs(
            "the last run of the project that builds regions failed", "metering region status says at which step."
        )
    regions = bench.facts.regions()
    opted = [region.name for region in regions if region.opted_in and region.ready]
    if "SUCCEEDED" not in builds:
        return unknown("the project that builds regions has not run to its end yet", "It runs once a day.")
    if not opted:
        return unknown("no region that needs an opt-in was built yet", "metering region add builds one.")
    return ok(f"built and ready: {', '.join(opted)}")


def engine_agrees(bench: Bench) -> Observation:
    """Let Athena sum an hour of the lake, and compare with what the service reads from the same files."""
    if bench.engine is None:
        return unknown("this stage has no analytics")
    newest = bench.lake.newest()
    if newest is None:
        return unknown("no hour is in lake files yet", "Run it again after the first compaction.")
    hour_s, expected = newest
    found = bench.engine.hour(hour_s)
    saw = f"{hour_label(hour_s)}: {expected.records:,} rows, {expected.bytes:,} bytes"
    for what, total in (("rows", found.rows), ("view of usage", found.usage), ("totals", found.totals)):
        if total != expected:
            return differs(
                f"{saw}; its {what} has {total.records:,} rows, {total.bytes:,} bytes",
                "Bill by the service's reports, not by Athena, and report it.",
            )
    if found.strange_times:
        return differs(
            f"{saw}, {found.strange_times:,} of them with a time that no hour of the lake has",
            "This engine misreads times of microseconds: the workgroup must use Athena engine version 3.",
        )
    return ok(f"{saw}, in its rows, in its totals and in its view of usage")


# From a message's third receive on, SQS ignores the message in the queue's age.
_RECEIVES = 3
_WAIT_S = 5
_PATIENCE_S = 60
# Half of the fill level on which the calculation of the jobs' costs and backlog is based (docs/scale.md).
FULL_ENOUGH = 50


def receives(bench: Bench) -> Observation:
    """Receive a message three times: `complete_through` relies on the message's receive count and sent timestamp."""
    with bench.scratch.queues() as queues:
        queues.queue.send_many([bench.token])
        seen = [_received(bench, queues.queue) for _ in range(_RECEIVES)]
        counts = [0 if message is None else message.delivery.receive_count for message in seen]
        sent = {message.delivery.sent_at_ms for message in seen if message is not None}
        for message in seen[-1:]:
            if message is not None:
                queues.queue.delete_many([message.receipt])
    saw = f"receive counts {', '.join(map(str, counts))}"
    if counts != [1, 2, 3] or len(sent) != 1:
        return differs(
            f"{saw}, {len(sent)} times of sending",
            "A message that no worker settles would not hold complete_through back. Look at the queue before a close.",
        )
    return ok(f"{saw}, one time of sending")


def _received(bench: Bench, queue: Queue) -> ReceivedMessage | None:
    found: list[ReceivedMessage] = []

    def try_once() -> bool:
        found.extend(queue.receive(1, wait_s=_WAIT_S))
        return bool(found)

    if not bench.until(try_once, within_s=_PATIENCE_S):
        return None
    queue.release([found[0].receipt])
    return found[0]


def redriven(bench: Bench) -> Observation:
    """Let a message become a dead letter, and redrive it: its sent timestamp must be the time of the redrive."""
    with bench.scratch.queues() as queues:
        queues.queue.send_many([bench.token])
        first = _received(bench, queues.queue)

        def dead() -> bool:
            for again in queues.queue.receive(1, wait_s=1):
                queues.queue.release([again.receipt])
            return queues.dead.depth().total > 0

        if first is None or not bench.until(dead, within_s=_PATIENCE_S):
            return unknown(
                f"a message was not dead after {_PATIENCE_S} s, though {queues.max_receives} receives are allowed",
                "Run it again.",
            )
        if queues.dead.start_redrive() is None:
            return unknown("this endpoint has no StartMessageMoveTask; here the service moves dead letters one by one")
        moved = _received(bench, queues.queue)
    if moved is None:
        return unknown(f"the moved message did not come back within {_PATIENCE_S} s", "Run it again.")
    later_ms = moved.delivery.sent_at_ms - first.delivery.sent_at_ms
    if later_ms <= 0:
        return differs(
            "a moved message keeps its first time of sending",
            "Its markers would live shorter than the queues keep it. Redrive within the admission window only.",
        )
    return ok(f"a moved message is sent anew, {later_ms / 1000:.0f} s after its first time")


def mapping_fill(bench: Bench) -> Observation:
    """Send batches at the target's rate for some minutes, and count the batches in each commit of the last one."""
    rate, effort = bench.effort.rate_per_s, bench.effort
    began_ms = bench.clock.now_ms()
    for second in range(effort.rate_s):
        slot = range(second * rate, (second + 1) * rate)
        bench.ingest.send_many([body(bench.token, n, now_s=bench.now_s, region=bench.region) for n in slot])
        bench.clock.sleep_ms(max(0, began_ms + (second + 1) * 1_000 - bench.clock.now_ms()))
    took_s = max(1, (bench.clock.now_ms() - began_ms) // 1_000)
    sent = effort.rate_s * rate
    names = [batch_id(bench.token, n) for n in range(sent - effort.judged_s * rate, sent)]
    markers = _markers(bench, names)
    if len(markers) < len(names):
        return differs(
            f"{len(names) - len(markers)} of the last {len(names)} batches have no verdict after {effort.arrival_s} s",
            "See what the functions say: metering errors.",
        )
    if any(marker.verdict == "rejected" for marker in markers):
        return unknown("the batches were refused", SENDER_ADVICE)
    fill = len(names) / len(Counter(marker.commit_id for marker in markers))
    real_rate = sent / took_s
    saw = (
        f"{real_rate:.0f} messages/s for {took_s} s: {fill:.1f} batches a commit in the last {effort.judged_s} s"
        f"{_pollers(bench, real_rate, fill)}"
    )
    if fill < FULL_ENOUGH:
        return differs(
            saw,
            f"Below {FULL_ENOUGH} batches a commit, costs and the jobs' work are above what docs/scale.md has: "
            "raise batch_window_s.",
        )
    return ok(saw)


def _pollers(bench: Bench, rate_per_s: float, fill: float) -> str:
    """Number of pollers that would fill commits so. Lambda reveals the number only of provisioned pollers."""
    mapping = bench.facts.mapping(declared=False)
    if mapping is None:
        return ""
    if mapping.pollers is not None:
        return f", by at most {mapping.pollers} provisioned pollers"
    if fill >= mapping.batch_size - 1 or not mapping.window_s:
        return ""
    # Each poller hands over what it gathered at the end of its window.
    return f", as by {max(1, round(rate_per_s * mapping.window_s / fill))} pollers"


def _markers(bench: Bench, names: list[str]) -> list[Marker]:
    found: dict[str, Marker] = {}

    def all_there() -> bool:
        missing = {marker_key(name): name for name in names if name not in found}
        for key, item in bench.items.get_many(Table.LEDGER, list(missing)).items():
            found[missing[key]] = Marker.from_item(item)
        return len(found) == len(names)

    bench.until(all_there, within_s=bench.effort.arrival_s)
    return list(found.values())


# Longest time to which DynamoDB restores a table (developer guide, point-in-time recovery).
RESTORE_POINT_DAYS = 35
# The version of the CDK bootstrap that the stacks' templates ask for (their parameter BootstrapVersion).
BOOTSTRAP_VERSION = 6
# DynamoDB promises no time for its copy, and says that it does not depend on the size alone.
_COPY_HOURS = "1 to 10 hours"
_DEPLOY = "Deploy the stage again."


def restore_window(bench: Bench) -> Observation:
    """Read the earliest and the latest time to which the ledger can be restored."""
    window = bench.facts.restore_window()
    if window is None:
        return differs("point-in-time recovery of the ledger is off", f"Nothing can be restored. {_DEPLOY}")
    return ok(f"from {rfc3339(window[0])} to {rfc3339(window[1])}")


def versions_kept(bench: Bench) -> Observation:
    """Compare the life of deleted versions with that of restore points: a restored ledger refers to such versions."""
    if not bench.facts.bucket_is_versioned():
        return unknown("the bucket keeps no versions", "A stage on AWS needs the setting versioned.")
    days = bench.facts.noncurrent_days()
    if days is not None and days < RESTORE_POINT_DAYS:
        return differs(
            f"deleted versions are kept for {days} days, and restore points for {RESTORE_POINT_DAYS}",
            f"Restore to a time within {days} days only, or set noncurrent_days to {RESTORE_POINT_DAYS} and deploy.",
        )
    return ok(f"deleted versions are kept {'for ever' if days is None else f'for {days} days'}")


def one_ledger(bench: Bench) -> Observation:
    """Compare the ledger of each function with that of the data stack: they differ until a restore is deployed."""
    others = bench.facts.other_ledgers()
    if others:
        saw = ", ".join(f"{name} works with {table}" for name, table in sorted(others.items()))
        return differs(f"of another generation: {saw}", f"Finish the restore, if one is under way. {_DEPLOY}")
    return ok("each function works with the ledger that the data stack names")


def restore_cost(bench: Bench) -> Observation:
    """Compute the cost of a restore of the whole ledger from the ledger's size."""
    size = bench.facts.ledger_bytes()
    usd = size * RESTORE_USD_GB / GIB
    return ok(
        f"DynamoDB's copy of {size / GIB:,.1f} GB: {usd:,.2f} USD (list price of us-east-1) and {_COPY_HOURS}; then "
        "what was accepted since is adopted"
    )


def expiry(bench: Bench) -> Observation:
    """Read by which attribute the items of each table expire: in the ledger, markers do; usage never expires."""
    wanted = {Table.LEDGER: EXPIRES_AT, Table.USAGE: ""}
    found = {table: bench.facts.expiry_attribute(table) for table in _TABLES}
    saw = ", ".join(f"{table.value}: {found[table] or 'never'}" for table in _TABLES)
    if found != wanted:
        return differs(
            saw,
            f"Items of the ledger expire by {EXPIRES_AT}, those of usage never. Set it so in DynamoDB before a day "
            "has passed: what an expiry deletes is in no report any more.",
        )
    return ok(saw)


def restore_points(bench: Bench) -> Observation:
    """Read whether each table keeps restore points."""
    off = [table.value for table in _TABLES if not bench.facts.is_restorable(table)]
    if off:
        return differs(f"point-in-time recovery of {' and '.join(off)} is off", f"Nothing can be restored. {_DEPLOY}")
    return ok("point-in-time recovery is on for both tables")


def lifecycle_deployed(bench: Bench) -> Observation:
    """Compare the bucket's lifecycle rules with those of the template."""
    declared, found = bench.facts.lifecycle(declared=True), bench.facts.lifecycle(declared=False)
    wrong = [
        f"{name}: {found.get(name, 'missing')}, in the template {declared.get(name, 'missing')}"
        for name in sorted({*declared, *found})
        if declared.get(name) != found.get(name)
    ]
    if wrong:
        return differs(
            "; ".join(wrong),
            "Somebody changed the bucket by hand. Undo it before the days have passed: what S3 deletes is gone. Then "
            "deploy the stage again.",
        )
    return ok(f"{len(found)} rules, as in the template")


def mapping_deployed(bench: Bench) -> Observation:
    """Compare the aggregator's event source mapping with that of the template."""
    declared, found = bench.facts.mapping(declared=True), bench.facts.mapping(declared=False)
    if declared is None:
        return unknown("the template has no event source mapping")
    if found is None:
        return differs("the aggregator has no event source mapping, so no batch is taken from the queue", _DEPLOY)
    said = [f"{name} {value}" for name, value in asdict(found).items() if value is not None]
    wrong = {name: value for name, value in asdict(declared).items() if asdict(found)[name] != value}
    if wrong:
        told = ", ".join(f"{name} {value}" for name, value in wrong.items())
        return differs(f"{', '.join(said)}; in the template {told}", f"Somebody changed it by hand. {_DEPLOY}")
    return ok(", ".join(said))


def unreserved(bench: Bench) -> Observation:
    """Compare the account's unreserved concurrency with the needs of the functions without a reservation."""
    found = bench.facts.unreserved_executions()
    saw = f"{found:,} concurrent executions that nobody has reserved, needed {bench.needed_executions:,}"
    if found < bench.needed_executions:
        return differs(
            saw, "Ask for more in Service Quotas (Lambda, L-B99A9384), or take back what other functions have reserved."
        )
    return ok(saw)


def bootstrap(bench: Bench) -> Observation:
    """Compare the version of the CDK bootstrap with the one that the stacks need."""
    version = bench.facts.bootstrap_version()
    if version is None or version < BOOTSTRAP_VERSION:
        return differs(
            f"version {'none' if version is None else version}, needed {BOOTSTRAP_VERSION}",
            "The next deployment fails. Bootstrap the region again, or let `metering deploy` do it.",
        )
    return ok(f"version {version}, needed {BOOTSTRAP_VERSION}")


def alarms_heard(bench: Bench) -> Observation:
    """Read from the alarms' history and from SNS's own figures whether what alarms published reached subscribers."""
    since_s = bench.now_s - _HISTORY_S
    last: dict[str, AlarmAction] = {}
    for action in sorted(bench.facts.alarm_actions(since_s=since_s), key=lambda each: each.at_s):
        last[action.alarm] = action
    if failed := [action for action in last.values() if not action.succeeded]:
        return differs(
            f"{len(failed)} of {len(last)} alarms could not publish, such as {failed[0].alarm}: {failed[0].text}",
            "CloudWatch may not publish there: compare the policies of topic and key with the templates.",
        )
    lost = {severity: bench.facts.undelivered(severity, since_s=since_s) for severity in _SEVERITIES}
    if any(lost.values()):
        told = " and ".join(f"{count:,} to {severity}" for severity, count in lost.items() if count)
        return differs(
            f"SNS could not deliver {told} in {_HISTORY_S // DAY_S} days",
            "metering alerts list names the subscribers; metering alerts test sends to each.",
        )
    if not last:
        return unknown(
            f"no alarm changed its state in {_HISTORY_S // DAY_S} days", "metering alerts test shows who is reached."
        )
    return ok(f"{len(last)} alarms published, and SNS delivered, in {_HISTORY_S // DAY_S} days")


def lists_emptied(bench: Bench) -> Observation:
    """Look whether commits of the canary left the lists: functions may delete in these partitions alone.

    The roll-up takes a placed commit off the waiting list, the compactor takes a compacted one off the pending list.
    """
    runs = bench.items.query(
        Table.LEDGER,
        CANARY_PK,
        sk_from=canary_key(bench.now_s - DAY_S).sk,
        sk_to=canary_key(bench.now_s - _SETTLED_S).sk,
    )
    good = [run for run in map(CanaryRun.from_item, runs) if run.verdict is CanaryVerdict.GOOD]
    keys = [marker_key(canary_batch_id(run.slot_s)) for run in good]
    markers = [Marker.from_item(item) for item in bench.items.get_many(Table.LEDGER, keys).values()]
    found = bench.items.get_many(Table.LEDGER, [commit_key(marker.commit_id) for marker in markers])
    commits = [CommitRecord.from_item(item) for item in found.values()]
    if not commits:
        return unknown("no canary of the last day is counted and three minutes old", "Run it again in ten minutes.")
    compacted = [each for each in commits if each.expires_at_s is not None]
    for what, list_key, of in (("waiting", waiting_key, commits), ("pending", pending_key, compacted)):
        left = bench.items.get_many(Table.LEDGER, [list_key(each.shard, each.commit_id) for each in of])
        if left:
            return differs(
                f"{len(left)} of {len(of)} commits of the canary are done, and still on the {what} list",
                "The function may not delete there: compare its role's dynamodb:LeadingKeys with the template, and see "
                "metering errors.",
            )
    return ok(f"{len(commits)} commits of the canary left the waiting list, and {len(compacted)} the pending list")


CHECKS: tuple[Check, ...] = (
    Check(name="missing-key", question="Is a missing key 404 to each role?", look=missing_key),
    Check(name="large-put", question="Does an upload in parts keep to its condition?", look=large_put),
    Check(name="cancel-reasons", question="Does a canceled transaction say why?", look=cancel_reasons),
    Check(name="racing", question="What do two transactions say that meet?", look=racing),
    Check(name="throttle", question="What does a throttle look like?", thorough=True, look=throttled),
    Check(name="warm-tables", question="Do the tables take the stage's peak at once?", look=warm),
    Check(name="table-quota", question="May a table take the stage's peak?", look=table_quota),
    Check(name="mapping-fill", question="How full are its batches?", thorough=True, look=mapping_fill, of_aws=True),
    Check(name="dropped-object", question="Does an object below drop/ become a batch?", look=dropped_object),
    Check(name="scratch-left", question="Is the disk free after a run that was stopped?", look=scratch_left),
    Check(name="tombstones", question="Does a listing end behind deleted objects?", look=tombstones),
    Check(name="athena", question="Does Athena read what the service wrote?", look=engine_agrees),
    Check(name="receives", question="Does a message say how often it was received?", look=receives),
    Check(name="redrive", question="Is a redriven message sent anew?", look=redriven, of_aws=True),
    Check(name="cold-starts", question="Does each function start in time?", look=cold_starts),
    Check(name="alarm", question="Does an alarm arrive?", thorough=True, look=alarm_arrives),
    Check(name="restore-window", question="To which times can the ledger be restored?", look=restore_window),
    Check(name="versions-kept", question="Does the bucket keep what a restore needs?", look=versions_kept, of_aws=True),
    Check(name="one-ledger", question="Do all functions work with the stage's ledger?", look=one_ledger),
    Check(name="restore-cost", question="What would a restore take today?", look=restore_cost),
    Check(name="expiry", question="Do items expire, and those alone that may?", look=expiry, of_aws=True),
    Check(name="restore-points", question="Does each table keep restore points?", look=restore_points, of_aws=True),
    Check(name="lifecycle", question="Does the bucket delete as deployed?", look=lifecycle_deployed, of_aws=True),
    Check(name="mapping", question="Does the mapping deliver as deployed?", look=mapping_deployed),
    Check(name="lists-emptied", question="May functions delete what they are done with?", look=lists_emptied),
    Check(name="unreserved", question="Is concurrency left for the aggregator?", look=unreserved, of_aws=True),
    Check(name="bootstrap", question="Is the bootstrap new enough to deploy?", look=bootstrap, of_aws=True),
    Check(name="alarms-heard", question="Did alarms reach their subscribers?", look=alarms_heard, of_aws=True),
    Check(name="region-built", question="Are regions built without people, if asked for?", look=region_built),
)  # fmt: skip
