"""What the doctor works with: ports of production, and ports to what only a conformance test asks of AWS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from metering.errors import EarlyEndError, MeteringError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from metering.operations.ports import FunctionLogs
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue
    from metering.stores.writes import Table
    from metering.usage.totals import Total


class CannotAskError(EarlyEndError):
    """The caller may not ask this, or the endpoint has no such call: nothing is known.

    Attributes:
        reason: Why, for people.
        advice: What would let it be asked; may be empty.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return self.reason


class RefusedError(MeteringError):
    """AWS refused a call, for another reason than a missing permission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """A listing as it came.

    Attributes:
        keys: Keys of all pages, in their order.
        pages, empty: Number of pages, and of those without a key.
    """

    keys: tuple[str, ...]
    pages: int
    empty: int


class EndlessListingError(MeteringError):
    """A listing had more pages than its objects and their deleted versions can fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchQueues:
    """Two queues of the doctor's own: what is received often enough from the first becomes a dead letter in the second.

    Attributes:
        max_receives: Receives after which that happens.
    """

    queue: Queue
    dead: Queue
    max_receives: int


class AlarmPath(Protocol):
    """An alarm of the doctor's own that alerts a topic of the stage, and a queue that is subscribed to that topic."""

    def publish(self, text: str) -> None:
        """Send a text to the topic, without an alarm."""
        ...

    def trip(self, text: str) -> None:
        """Put the alarm on, with `text` as its reason."""
        ...

    def received(self) -> Sequence[str]:
        """Messages that came since the last call; waits for a few seconds."""
        ...


class Scratch(Protocol):
    """Resources of the doctor's own. Each is gone when its context ends. A caller may lack the rights to make them.

    Each may raise `CannotAskError`.
    """

    def queues(self) -> AbstractContextManager[ScratchQueues]:
        """Two queues."""
        ...

    def slow_table(self) -> AbstractContextManager[ItemStore]:
        """A store whose ledger is a new table that takes one write unit a second."""
        ...

    def alarm(self, severity: str) -> AbstractContextManager[AlarmPath]:
        """An alarm for the topic of `severity` (`page` or `ticket`)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRegion:
    """A region of the stage, as the home region knows it."""

    name: str
    ready: bool
    opted_in: bool


class Facts(Protocol):
    """What AWS says of the deployed region. Each call may raise `CannotAskError`."""

    def bucket_is_versioned(self) -> bool:
        """Whether the data bucket keeps versions."""
        ...

    def pages(self, prefix: str, *, most: int) -> Pages:
        """A listing, page by page, by the code that the service lists with.

        Raises:
            EndlessListingError: There are more than `most` pages.
        """
        ...

    def writes_per_s(self, table: Table) -> int:
        """Write units a second that the table takes at once."""
        ...

    def table_quota_per_s(self) -> int:
        """Write units a second that a table of this account may take at all."""
        ...

    def cold_starts_ms(self, *, since_s: int) -> Mapping[str, int]:
        """Slowest start of each function since then, by the function's name."""
        ...

    def regions(self) -> Sequence[BuiltRegion]:
        """Regions of the stage but this one, if this is its home region."""
        ...

    def builds(self) -> Sequence[str]:
        """How the last runs of the project that builds regions ended, newest first, such as `SUCCEEDED`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHour:
    """What an engine makes of the lake files of an hour.

    Attributes:
        usage: Sum of its view of usage.
        totals: Sum of the totals beside the files.
        rows: Sum of its rows.
        strange_times: Rows whose time is nowhere near any hour of the lake.
    """

    usage: Total
    totals: Total
    rows: Total
    strange_times: int


class Engine(Protocol):
    """An engine that reads the lake without the service. Each call may raise `CannotAskError`."""

    def hour(self, hour_s: int) -> EngineHour:
        """What it makes of an hour."""
        ...


class LakeHours(Protocol):
    """Published files, as the service reads them."""

    def newest(self) -> tuple[int, Total] | None:
        """The newest hour all of whose rows are in lake files, and the sum of these rows; None if there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is tried.

    Attributes:
        tombstones: Objects that are put and deleted before a listing.
        rates_per_s: Rates at which batches are sent, one after the other.
        rate_s: Seconds at each rate.
        arrival_s: Longest wait for what should arrive by itself.
        throttle_s: Longest try to be throttled.
    """

    tombstones: int = 1_100
    rates_per_s: tuple[int, ...] = (10, 50, 139)
    rate_s: int = 20
    arrival_s: int = 60
    throttle_s: int = 30


THOROUGH = Effort(tombstones=100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything that the checks work with.

    Attributes:
        token: Random name of this examination, part of all that it makes.
        bucket: Name of the data bucket.
        objects: The data bucket, with the caller's own rights.
        as_roles: The same bucket with the rights of `reader`, `operator`, `producer`. Each may raise `CannotAskError`.
        items: The two tables.
        ingest: The ingest queue, with the rights of whoever may send batches of the service itself.
        needed_writes_per_s: Write units a second that each table should take at once.
        logs: Gives the logs of the functions; may raise an error of operations.
        engine: None for a stage without analytics.
        asking: Context that turns errors of AWS into those of this module.
    """

    region: str
    token: str
    bucket: str
    clock: Clock
    objects: ObjectStore
    as_roles: Mapping[str, Callable[[], ObjectStore]]
    items: ItemStore
    ingest: Queue
    needed_writes_per_s: Mapping[Table, int]
    logs: Callable[[], FunctionLogs]
    facts: Facts
    scratch: Scratch
    lake: LakeHours
    engine: Engine | None
    asking: Callable[[], AbstractContextManager[None]]
    effort: Effort = Effort()

    @property
    def now_s(self) -> int:
        return self.clock.now_ms() // 1000

    def until(self, true: Callable[[], bool], *, within_s: int, pause_ms: int = 1_000) -> bool:
        """Ask again until `true` answers so; False if it does not within the time."""
        end_s = self.now_s + within_s
        while not true():
            if self.now_s >= end_s:
                return False
            self.clock.sleep_ms(pause_ms)
        return True
