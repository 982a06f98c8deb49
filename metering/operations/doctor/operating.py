"""Checks of functions, alarms, regions and engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.operations.doctor.checks import differs, ok, unknown
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.operations.doctor.bench import AlarmPath, Bench
    from metering.operations.doctor.checks import Observation

_LOOK_BACK_S = 7 * DAY_S
_MOST_LINES = 1_000
# Lambda stops the start of a function after this time, and repeats it inside the invocation (Lambda developer guide).
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
