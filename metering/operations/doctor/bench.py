"""Ports of the doctor: the service's production ports, and ports that only conformance checks need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from metering.errors import EarlyEndError, MeteringError, ObjectMissingError, UnavailableError
from metering.hours import rfc3339
from metering.intake.messages import SCHEMA
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID, CANARY_PREFIX, CANARY_SERVICE, CANARY_USAGE_TYPES
from metering.stores.objects import LAKE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from metering.operations.logged_errors import FunctionLogs
    from metering.stores.clock import Clock
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue
    from metering.stores.writes import ItemStore, Table, Value
    from metering.usage.totals import Total
    from metering.version import DropIdentity


class CannotAskError(EarlyEndError):
    """The caller lacks the permission, or the endpoint has no such operation. `reason` and `advice` are for people."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return self.reason


class RefusedError(MeteringError):
    """AWS refused a call for a reason other than a missing permission."""


# Event of a function that the doctor asks, `{"probe": "missing-key"}`; the answer has the same field.
PROBE = "probe"
MISSING_KEY = "missing-key"
# No lake file is of a day before the service.
MISSING_LAKE_KEY = f"{LAKE_PREFIX}dt=1970-01-01/hour=00/doctor.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Keys of a listing in order, the number of its pages, and the number of empty pages."""

    keys: tuple[str, ...]
    pages: int
    empty: int


class EndlessListingError(MeteringError):
    """A listing had more pages than its objects and their deleted versions can fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchQueues:
    """Two scratch queues; the second is the first's dead-letter queue, with a redrive policy of `max_receives`."""

    queue: Queue
    dead: Queue
    max_receives: int


class AlarmPath(Protocol):
    """The doctor's scratch alarm, which notifies a topic of the stage, and a queue subscribed to that topic."""

    def publish(self, text: str) -> None:
        """Publish a text to the topic directly, without the alarm."""

    def trip(self, text: str) -> None:
        """Set the alarm to `ALARM`, with `text` as the reason."""

    def received(self) -> Sequence[str]:
        """Messages received since the last call, after a wait of a few seconds."""


class Scratch(Protocol):
    """The doctor's own temporary resources. Context managers delete them on exit, and may raise `CannotAskError`."""

    def queues(self) -> AbstractContextManager[ScratchQueues]:
        """Two queues."""

    def slow_table(self) -> AbstractContextManager[ItemStore]:
        """A store whose ledger is a new table with a capacity of one write unit a second."""

    def alarm(self, severity: str) -> AbstractContextManager[AlarmPath]:
        """An alarm for the topic of `severity` (`page` or `ticket`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRegion:
    """A region of the stage, as the home region records it."""

    name: str
    ready: bool
    opted_in: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMapping:
    """The event source mapping of the aggregator.

    Attributes:
        state: `Enabled` if it delivers.
        batch_size: Most messages of one invocation.
        window_s: Longest wait for that many messages.
        concurrency: Most invocations at a time; None for no limit.
        pollers: Most provisioned pollers; None if Lambda decides.
        partial: Whether an invocation may report single messages as failed.
    """

    state: str
    batch_size: int
    window_s: int
    concurrency: int | None
    pollers: int | None
    partial: bool


class AlarmAction(NamedTuple):
    """One action of an alarm: CloudWatch published to a topic, or failed to; `text` is CloudWatch's sentence."""

    alarm: str
    at_s: int
    succeeded: bool
    text: str


class Facts(Protocol):
    """Facts about the deployed region, read from AWS. Each call may raise `CannotAskError`."""

    def bucket_is_versioned(self) -> bool:
        """Whether the data bucket is versioned."""

    def pages(self, prefix: str, *, most: int) -> Pages:
        """The pages of a listing, read with the service's own listing code.

        Raises:
            EndlessListingError: The listing has more than `most` pages.
        """

    def writes_per_s(self, table: Table) -> int:
        """Write units a second that the table accepts without scaling (warm throughput)."""

    def provisioned_writes_per_s(self, table: Table) -> int:
        """Write units a second that are provisioned for the table; 0 if it is on demand."""

    def table_quota_per_s(self) -> int:
        """Account quota of write units per second for one table."""

    def restore_window(self) -> tuple[int, int] | None:
        """Earliest and latest second to which the ledger can be restored; None without point-in-time recovery."""

    def ledger_bytes(self) -> int:
        """Size of the ledger, which DynamoDB updates every six hours."""

    def noncurrent_days(self) -> int | None:
        """Days for which the bucket keeps a version of a deleted staging object; None if no rule ends them."""

    def other_ledgers(self) -> Mapping[str, str]:
        """Tables that functions work with in place of the stage's ledger, by the function's name."""

    def cold_starts_ms(self, *, since_s: int) -> Mapping[str, int]:
        """Slowest cold start of each function since `since_s`, by function name."""

    def regions(self) -> Sequence[BuiltRegion]:
        """Other regions of the stage, if this is its home region."""

    def project(self) -> str:
        """Name of the CodeBuild project that builds regions; empty if the region has no such project."""

    def builds(self, project: str) -> Sequence[str]:
        """Statuses of the last runs of a project, newest first: `SUCCEEDED`."""

    def compactor_sees(self) -> str:
        """Answer of a get of a missing key in the lake, as the compactor's function sees it: `404`, or `403`."""

    def unreserved_executions(self) -> int:
        """Unreserved concurrent executions of the account."""

    def bootstrap_version(self) -> int | None:
        """Version of the CDK bootstrap of the stacks; None without a bootstrap."""

    def expiry_attribute(self, table: Table) -> str:
        """Attribute by which a table's items expire; empty if they do not."""

    def is_restorable(self, table: Table) -> bool:
        """Whether point-in-time recovery of a table is on."""

    def lifecycle(self, *, declared: bool) -> Mapping[str, str]:
        """The bucket's lifecycle rules as sentences by id: as the template declares them, or as S3 has them."""

    def mapping(self, *, declared: bool) -> EventMapping | None:
        """The aggregator's event source mapping, as the template declares it or as Lambda has it; None if absent."""

    def alarm_actions(self, *, since_s: int) -> Sequence[AlarmAction]:
        """Actions of the stage's alarms since then, in any order."""

    def undelivered(self, severity: str, *, since_s: int) -> int:
        """Messages of a topic that SNS could not deliver to a subscriber since then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHour:
    """An engine's sums for one hour: of the usage view, of the totals of lake files, and of the rows of lake files.

    Attributes:
        strange_times: Number of rows whose time is not near any hour of the lake.
    """

    usage: Total
    totals: Total
    rows: Total
    strange_times: int


class Engine(Protocol):
    """An engine (Athena) that reads the lake without the service. Each call may raise `CannotAskError`."""

    def hour(self, hour_s: int) -> EngineHour:
        """Sum an hour."""


class LakeHours(Protocol):
    """Published lake files, as the service reads them."""

    def newest(self) -> tuple[int, Total] | None:
        """Newest hour whose rows are all in lake files, and their sum; None if no hour qualifies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Limits of the checks: how many objects, at what rates, and how long.

    Attributes:
        tombstones: Number of objects that are put and deleted before a listing.
        rate_per_s: Rate at which batches are sent: the target's mean rate.
        rate_s: Seconds at that rate, because Lambda adds pollers by the minute.
        judged_s: The last seconds of it, whose commits are judged.
        arrival_s: Longest wait for an expected arrival, in seconds.
        throttle_s: Longest time to write until DynamoDB throttles, in seconds.
    """

    tombstones: int = 1_100
    rate_per_s: int = 139
    rate_s: int = 180
    judged_s: int = 60
    arrival_s: int = 60
    throttle_s: int = 30


THOROUGH = Effort(tombstones=100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Ports and facts of the checks.

    Attributes:
        token: Random name of this examination, contained in the name of everything that the examination creates.
        objects: The data bucket, with the caller's own permissions.
        as_roles: Data bucket by role: `reader`, `operator`, `producer`. Each may raise `CannotAskError`.
        items: The two tables.
        ingest: The ingest queue, with permission to send the service's own batches.
        emulated: Whether the endpoint is an emulator's: its gaps say nothing about AWS.
        needed_writes_per_s: Write units per second that each table should accept without scaling.
        ledger_scales: Least and greatest provisioned write units per second of the ledger; None if it is on demand.
        needed_executions: Concurrent executions that functions without a reservation may use at a time.
        project_wanted: Whether the stage's settings ask for a CodeBuild project that builds regions.
        engine: Analytics engine; None for a stage without analytics.
        drop_identity: What the ids of objects below `drop/` are derived from.
        asking: Context manager that translates AWS errors into this module's errors.
    """

    region: str
    token: str
    bucket: str
    clock: Clock
    objects: ObjectStore
    as_roles: Mapping[str, Callable[[], ObjectStore]]
    items: ItemStore
    ingest: Queue
    emulated: bool
    needed_writes_per_s: Mapping[Table, int]
    ledger_scales: tuple[int, int] | None
    needed_executions: int
    project_wanted: bool
    logs: Callable[[], FunctionLogs]
    facts: Facts
    scratch: Scratch
    lake: LakeHours
    engine: Engine | None
    asking: Callable[[], AbstractContextManager[None]]
    drop_identity: DropIdentity
    effort: Effort = Effort()

    @property
    def now_s(self) -> int:
        return self.clock.now_ms() // 1000

    def until(self, true: Callable[[], bool], *, within_s: int, pause_ms: int = 1_000) -> bool:
        """Poll until `true` returns True; return False on timeout."""
        end_s = self.now_s + within_s
        while not true():
            if self.now_s >= end_s:
                return False
            self.clock.sleep_ms(pause_ms)
        return True


class Verdict(StrEnum):
    """Result of a check: `ok` if AWS behaved as expected; `unknown` if endpoint, caller or stage cannot show it."""

    OK = "ok"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Verdict with text for operators; `advice` is empty if no action is needed."""

    verdict: Verdict
    saw: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Check of one AWS behaviour that the service relies on.

    Attributes:
        thorough: The check costs money, takes minutes or pages people, so it runs only on request.
        of_aws: Emulators are known to behave differently, so their differences do not count.
        look: Runs the check, and deletes what the check created.
    """

    name: str
    question: str
    thorough: bool = False
    of_aws: bool = False
    look: Callable[[Bench], Observation]


def ok(saw: str) -> Observation:
    """AWS behaves as expected."""
    return Observation(verdict=Verdict.OK, saw=saw)


def differs(saw: str, advice: str) -> Observation:
    """AWS behaves differently."""
    return Observation(verdict=Verdict.DIFFERS, saw=saw, advice=advice)


def unknown(saw: str, advice: str = "") -> Observation:
    """The check has no result."""
    return Observation(verdict=Verdict.UNKNOWN, saw=saw, advice=advice)


def _on_emulator(bench: Bench, seen: Observation) -> Observation:
    """Say of an emulator that it cannot show a point."""
    return unknown(f"{NOT_HERE}: {seen.saw}") if bench.emulated else seen


ASK_THOROUGHLY = "Run it with --thorough."


def examine(bench: Bench, checks: Iterable[Check], *, thorough: bool) -> Iterator[tuple[Check, Observation]]:
    """Run each check in turn. A failing check does not stop the other checks."""
    for check in checks:
        if check.thorough and not thorough:
            yield check, unknown("not asked: it costs money, takes minutes or pages people", ASK_THOROUGHLY)
        else:
            yield check, _looked(bench, check)


NOT_HERE = "not on an emulator"


def _looked(bench: Bench, check: Check) -> Observation:
    try:
        with bench.asking():
            seen = check.look(bench)
        blind = check.of_aws or (seen.verdict is Verdict.UNKNOWN and not seen.advice)
        return _on_emulator(bench, seen) if blind and seen.verdict is not Verdict.OK else seen
    except CannotAskError as error:
        seen = unknown(str(error), error.advice)
        # What a person can cure, such as a missing right, is said as it is.
        return seen if error.advice else _on_emulator(bench, seen)
    except RefusedError as error:
        return differs(str(error), "The service makes the same call. Read the message, and report it with its words.")
    except UnavailableError as error:
        return unknown(f"no answer: {error}", "Run it again.")
    except MeteringError as error:
        return differs(f"{type(error).__name__}: {error}", "Report it with these words: the service would fail alike.")


def answer_of_missing(store: ObjectStore, key: str) -> str:
    """Response to a get of a missing key: `404` to who may know that it is missing, else `403`; `200` if it is there.

    Raises:
        UnavailableError: S3 gave no answer.
    """
    try:
        if store.head(key) is None:
            store.get(key)
    except ObjectMissingError:
        return "404"
    except UnavailableError as error:
        if error.may_have_applied:
            raise
        return "403"
    return "200"


SENDER_ADVICE = (
    "In a stage whose producers are registered, run it with credentials that may assume the operator role: the service "
    "takes batches of this account of its own roles only."
)


def record(now_s: int, region: str) -> dict[str, Value]:
    """One record of one byte at the current time."""
    return {
        "account_id": CANARY_ACCOUNT_ID,
        "service": CANARY_SERVICE,
        "resource_id": "doctor",
        "direction": "out",
        "from": region,
        "to": "internet",
        "bytes": 1,
        "start": rfc3339(now_s),
        "end": rfc3339(now_s),
        "usage_type": f"{CANARY_USAGE_TYPES}doctor",
    }


def batch_id(token: str, number: int) -> str:
    """Id of one batch of an examination."""
    return f"{CANARY_PREFIX}doctor:{token}:{number:06d}"


def body(token: str, number: int, *, now_s: int, region: str) -> str:
    """Message with one record."""
    message: dict[str, Value] = {
        "schema": SCHEMA,
        "batch_id": batch_id(token, number),
        "record_count": 1,
        "records": [record(now_s, region)],
    }
    return json.dumps(message)
