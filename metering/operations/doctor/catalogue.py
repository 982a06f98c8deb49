"""All checks, in the order in which they are worth knowing; here those of SQS, functions and engines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.ledger.markers import Marker, marker_key
from metering.operations.doctor import storage
from metering.operations.doctor.bench import (
    SENDER_ADVICE,
    AlarmPath,
    Bench,
    Check,
    Observation,
    batch_id,
    body,
    differs,
    ok,
    unknown,
)
from metering.stores.writes import Table
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.stores.queues import Queue, ReceivedMessage


_LOOK_BACK_S = 7 * DAY_S
_MOST_LINES = 1_000
# Lambda ends a function's init phase after this time, and repeats it within the invocation (Lambda developer guide).
INIT_LIMIT_MS = 10_000
_FULL_DISK = ("No space left on device", "Errno 28")
_TIMED_OUT = "Task timed out"
_SEVERITIES = ("page", "ticket")
_DAYS = _LOOK_BACK_S // DAY_S


def scratch_left(bench: Bench) -> Observation:
    """Look for compactors that found their disk full, because an earlier one was stopped and left its files there."""
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
    """Compare the slowest start of each function with the time after which Lambda starts it anew."""
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
    """Put an alarm on, and wait for it at a queue that is subscribed to the topic."""
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
    """Look whether the project that builds regions has built one that the account had to opt in to."""
    builds = bench.facts.builds()
    if builds and builds[0] == "FAILED":
        return differs(
            "the last run of the project that builds regions failed", "metering region status says at which step."
        )
    regions = bench.facts.regions()
    opted = [region.name for region in regions if region.opted_in and region.ready]
    if not builds or "SUCCEEDED" not in builds:
        return unknown("the project that builds regions has not run to its end yet", "It runs once a day.")
    if not opted:
        return unknown("no region that needs an opt-in was built yet", "metering region add builds one.")
    return ok(f"built and ready: {', '.join(opted)}")


def engine_agrees(bench: Bench) -> Observation:
    """Let Athena sum an hour of the lake, and compare it with what the service reads of the same files."""
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


# From the third receive on, SQS leaves a message out of the queue's age.
_RECEIVES = 3
_WAIT_S = 5
_PATIENCE_S = 60
# Half of the filling that the jobs' costs and backlog are calculated with (docs/scale.md).
FULL_ENOUGH = 50


def receives(bench: Bench) -> Observation:
    """Receive a message three times: `complete_through` rests on its count and on the time that it was sent."""
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
    """Let a message become a dead letter and be moved back: its time of sending must be that of the move."""
    with bench.scratch.queues() as queues:
        queues.queue.send_many([bench.token])
        first = _received(bench, queues.queue)
        for _ in range(queues.max_receives):
            for again in queues.queue.receive(1, wait_s=1):
                queues.queue.release([again.receipt])
        if first is None or not bench.until(lambda: queues.dead.depth().total > 0, within_s=_PATIENCE_S):
            return unknown(f"a message was not dead after {queues.max_receives} receives and {_PATIENCE_S} s")
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
    """Send batches at rising rates, and count how many of them each commit holds."""
    fills: dict[int, float] = {}
    first = 0
    for rate in bench.effort.rates_per_s:
        number = rate * bench.effort.rate_s
        names = [batch_id(bench.token, first + n) for n in range(number)]
        for second in range(bench.effort.rate_s):
            slot = range(first + second * rate, first + (second + 1) * rate)
            bench.ingest.send_many([body(bench.token, n, now_s=bench.now_s, region=bench.region) for n in slot])
            bench.clock.sleep_ms(1_000)
        first += number
        markers = _markers(bench, names)
        if len(markers) < number:
            return differs(
                f"at {rate} messages/s {number - len(markers)} of {number} batches have no verdict after "
                f"{bench.effort.arrival_s} s",
                "See what the functions say: metering errors.",
            )
        if any(marker.verdict == "rejected" for marker in markers):
            return unknown("the batches were refused", SENDER_ADVICE)
        fills[rate] = number / len(Counter(marker.commit_id for marker in markers))
    saw = ", ".join(f"{rate} messages/s: {fill:.1f} batches a commit" for rate, fill in fills.items())
    if max(fills.values()) < FULL_ENOUGH:
        return differs(
            saw,
            f"Below {FULL_ENOUGH} batches a commit, costs and the jobs' work are above what docs/scale.md has: "
            "raise batch_window_s.",
        )
    return ok(saw)


def _markers(bench: Bench, names: list[str]) -> list[Marker]:
    found: dict[str, Marker] = {}

    def all_there() -> bool:
        missing = {marker_key(name): name for name in names if name not in found}
        for key, item in bench.items.get_many(Table.LEDGER, list(missing)).items():
            found[missing[key]] = Marker.from_item(item)
        return len(found) == len(names)

    bench.until(all_there, within_s=bench.effort.arrival_s)
    return list(found.values())


CHECKS: tuple[Check, ...] = (
    Check(name="missing-key", question="Is a missing key 404 to each role?", look=storage.missing_key),
    Check(name="large-put", question="Does an upload in parts keep to its condition?", look=storage.large_put),
    Check(name="cancel-reasons", question="Does a canceled transaction say why?", look=storage.cancel_reasons),
    Check(name="racing", question="What do two transactions say that meet?", look=storage.racing),
    Check(name="throttle", question="What does a throttle look like?", thorough=True, look=storage.throttled),
    Check(name="warm-tables", question="Do the tables take the stage's peak at once?", look=storage.warm),
    Check(name="table-quota", question="May a table take the stage's peak?", look=storage.table_quota),
    Check(name="mapping-fill", question="How full are the mapping's batches?", thorough=True, look=mapping_fill),
    Check(name="dropped-object", question="Does an object below drop/ become a batch?", look=storage.dropped_object),
    Check(name="scratch-left", question="Is the disk free after a run that was stopped?", look=scratch_left),
    Check(name="tombstones", question="Does a listing end behind deleted objects?", look=storage.tombstones),
    Check(name="athena", question="Does Athena read what the service wrote?", look=engine_agrees),
    Check(name="receives", question="Does a message say how often it was received?", look=receives),
    Check(name="redrive", question="Is a redriven message sent anew?", look=redriven),
    Check(name="cold-starts", question="Does each function start in time?", look=cold_starts),
    Check(name="alarm", question="Does an alarm arrive?", thorough=True, look=alarm_arrives),
    Check(name="region-built", question="Was a region built without people?", look=region_built),
)  # fmt: skip
