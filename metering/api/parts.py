"""Shared objects of the API, the limits of reads, and the figures that the log has of each request."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from metering.api import parameters
from metering.api.authentication import Door, Limiter, Limits, Tokens
from metering.errors import ConditionFailedError, OutOfTimeError, UnavailableError
from metering.ledger.notes.access import LARGE_KEY, LargeRequest, LargeRequests
from metering.stores.writes import Absent, Equals, ItemStore, Put, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from metering.api.people import SignIn
    from metering.stores.clock import Clock
    from metering.wiring.answers import costs
    from metering.wiring.answers.usage import Everywhere
    from metering.wiring.lake import ReadableRegion

# Log fields of one request: never the token, the query or the content of a response.
#
# This middleware wraps the application, so that it also sees the framework's own responses.


_KEY = "metering.figures"
NO_ROUTE = "none"
"""Route of a request that no route takes: its path may be anything, also a pasted secret."""

_FAILED = 500


@dataclass(slots=True, kw_only=True)
class RequestFigures:
    """Figures of one request, filled in by the code that answers the request. Mutable.

    Attributes:
        route: Route as declared, such as `/v1/hours/{hour}`; `none` if no route matches.
        status: HTTP status of the response; 500 if no response was started.
        ms: Milliseconds from the first byte of the request to the end of the response.
        token_id: Public part of a valid token; otherwise empty.
        partitions: Partitions of the usage table that were read.
        hours: Hours of the lake that were read.
    """

    method: str = ""
    route: str = NO_ROUTE
    status: int = _FAILED
    ms: int = 0
    token_id: str = ""
    partitions: int = 0
    hours: int = 0
    rows: int = 0

    def fields(self) -> dict[str, str | int]:
        return asdict(self)


def figures_of(request: HTTPConnection) -> RequestFigures:
    """The figures of a request, to be filled in; unused figures if no `RequestLog` wraps the application."""
    found = request.scope.get(_KEY)
    return found if isinstance(found, RequestFigures) else RequestFigures()


class RequestLog:
    """Reports the figures of each request once, after its response has ended or the request has failed."""

    def __init__(self, app: ASGIApp, *, tell: Callable[[RequestFigures], None], clock: Clock) -> None:
        self._app = app
        self._tell = tell
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_ms = self._clock.now_ms()
        figures = RequestFigures(method=scope["method"])
        scope[_KEY] = figures

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start":
                figures.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, heard)
        finally:
            figures.route = _route(scope)
            figures.ms = max(self._clock.now_ms() - began_ms, 0)
            self._tell(figures)


def _route(scope: Mapping[str, object]) -> str:
    return str(getattr(scope.get("route"), "path", NO_ROUTE))


# Limits on what concurrent requests read: reads are charged to the token in advance and counted as they happen, and
# only a few large requests run at once.
#
# One read is an hour of the lake or a partition of the usage table. A request with many reads is called large: it takes
# seconds, and a few of them use up a process or a function. So the number of concurrent large requests is limited, both
# per token and in total.


# After its deadline a process only finishes its current read. A killed process leaves its entries, so they expire.
_MARGIN_S = 10
# Requests that begin at the same moment conflict and retry; one request succeeds per round.
_ATTEMPTS = 10
_RETRY_AFTER_S = 3
_MONTH_HOURS = 31 * 24


class LargeStore(Protocol):
    """Stores which large requests are running."""

    def read(self) -> LargeRequests:
        """As of now."""

    def write(self, requests: LargeRequests) -> bool:
        """Replace the requests if they are unchanged since they were read; returns whether they were replaced."""


@dataclass(slots=True)
class ProcessLarge:
    """The running large requests of this process. Instances are thread-safe."""

    _kept: LargeRequests = field(default_factory=LargeRequests)
    _lock: Lock = field(default_factory=Lock)

    def read(self) -> LargeRequests:
        return self._kept

    def write(self, requests: LargeRequests) -> bool:
        with self._lock:
            if requests.version != self._kept.version:
                return False
            self._kept = replace(requests, version=requests.version + 1)
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLarge:
    """The running large requests of all API processes of a region, in one item of the region's ledger."""

    items: Callable[[], ItemStore]

    def read(self) -> LargeRequests:
        item = self.items().get(Table.LEDGER, LARGE_KEY)
        return LargeRequests() if item is None else LargeRequests.from_item(item)

    def write(self, requests: LargeRequests) -> bool:
        before = requests.version
        condition = Equals(attribute="version", value=before) if before else Absent()
        item = replace(requests, version=before + 1).to_item()
        try:
            self.items().put(Put(table=Table.LEDGER, item=item, condition=condition))
        except ConditionFailedError:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Limits of each token's reads and large requests: one object for all routes of an application."""

    limits: Limits
    limiter: Limiter
    large: LargeStore
    clock: Clock

    @classmethod
    def of(cls, large: LargeStore, limits: Limits, clock: Clock) -> Shares:
        most = _MONTH_HOURS * limits.months
        limiter = Limiter(rate_per_s=limits.token_reads_per_s, burst=limits.token_reads, clock=clock, most_units=most)
        return cls(limits=limits, limiter=limiter, large=large, clock=clock)

    def begin(self, token_id: str) -> str:
        """Register a large request; returns the name by which to end it.

        Raises:
            ProblemError: 429, the maximum number of large requests is running.
            UnavailableError: The ledger does not answer.
        """
        name, limits = secrets.token_hex(8), self.limits
        for _ in range(_ATTEMPTS):
            now_ms = self.clock.now_ms()
            kept = self.large.read().at(now_ms)
            if kept.of(token_id) >= limits.large_of_token:
                raise _too_much(f"{limits.large_of_token} large requests of this token are in work, and no more may be")
            if len(kept.entries) >= limits.large_of_all:
                break
            until_ms = now_ms + 1_000 * int(limits.deadline_s + _MARGIN_S)
            begun = {**kept.entries, name: LargeRequest(token_id=token_id, until_ms=until_ms)}
            if self.large.write(replace(kept, entries=begun)):
                return name
        raise _too_much("As many large requests as may be at once are in work")

    def end(self, name: str) -> None:
        """End a large request. If the update fails, the entry expires later."""
        for _ in range(_ATTEMPTS):
            kept = self.large.read()
            left = {other: each for other, each in kept.entries.items() if other != name}
            if len(left) == len(kept.entries) or self.large.write(replace(kept, entries=left)):
                return


@dataclass(kw_only=True)
class Reading:
    """Reads of one request. The request's thread counts reads, while another thread may stop the request. Mutable.

    Attributes:
        token_id: Token id of the request; empty until it is known.
        figures: Receives the number of actual reads.
    """

    shares: Shares
    figures: RequestFigures
    token_id: str = ""
    _charged: int = 0
    _large: str = ""
    _given_up: bool = False

    def afford(self, reads: int) -> None:
        """Charge reads in advance: the maximum number that the request will make now. Unused reads are refunded.

        A request with many reads is registered as a large request.

        Raises:
            ProblemError: 429, the token has read too much recently, or too many large requests are running.
            UnavailableError: The ledger does not answer.
        """
        if not reads:
            return
        shares = self.shares
        if self._charged:
            # The request was admitted, so its additional reads become a debt of its token.
            shares.limiter.correct(self.token_id, reads)
        elif wait_s := shares.limiter.wait_s(self.token_id, reads):
            raise _too_much("This token has read more than its share", retry_after_s=wait_s)
        self._charged += reads
        if self._charged > shares.limits.large and not self._large:
            self._large = shares.begin(self.token_id)

    def spend(self, reads: int) -> None:
        """Charge reads other than hours and partitions, such as lists of keys. Raises as `afford` does."""
        self.afford(reads)
        self._charged -= reads

    def hours(self, number: int = 1) -> None:
        """Count reads of hours of the lake. Reads that were not charged in advance are charged now.

        Raises:
            OutOfTimeError: The client no longer waits for the answer.
            ProblemError: 429, as `afford`.
            UnavailableError: The ledger does not answer.
        """
        self.figures.hours += number
        self._go_on()

    def partitions(self, number: int = 1) -> None:
        """Count reads of partitions of the usage table. Raises as `hours` does."""
        self.figures.partitions += number
        self._go_on()

    def give_up(self) -> None:
        """Stop further reads, because the client no longer waits for the answer."""
        self._given_up = True

    def end(self) -> None:
        """End the request, and refund its unused reads to the token."""
        if self._charged:
            self.shares.limiter.correct(self.token_id, self._read - self._charged)
        if self._large:
            # If the ledger does not answer, the entry expires later; the response is valid regardless.
            with suppress(UnavailableError):
                self.shares.end(self._large)

    def _go_on(self) -> None:
        if self._given_up:
            raise OutOfTimeError
        # Reads beyond the estimate: in a trace whose sums differ, or a search for names similar to a mistyped name.
        if (more := self._read - self._charged) > 0:
            self.afford(more)

    @property
    def _read(self) -> int:
        return self.figures.hours + self.figures.partitions


def _too_much(why: str, *, retry_after_s: int = _RETRY_AFTER_S) -> parameters.ProblemError:
    return parameters.problem(
        "too-many-requests",
        f"{why}. Ask again in {retry_after_s} s, or for less at once: a shorter range, or fewer accounts.",
        title="Too much at once",
        headers={"Retry-After": str(retry_after_s)},
    )


@dataclass(frozen=True, kw_only=True)
class ApiParts:
    """Clients and stores that all requests of the API share.

    Attributes:
        regions: The regions whose usage is reported, merged if there are several; a function has only its own region.
        everywhere: Set if these are all regions of the stage, so that answers name the regions. None for one region.
        large: Store of the running large requests: this process, or the ledger if several processes answer requests.
        people: How people sign in, beside tokens; None if only tokens are accepted.
        home: Opens the home region, which has the book of owners; None if it is not read here.
        billing: Finds the regions rated together, anew for each request; None if costs cannot be answered.
    """

    regions: Sequence[ReadableRegion]
    tokens: Tokens
    limits: Limits
    clock: Clock
    everywhere: Everywhere | None = None
    home: Callable[[], ReadableRegion] | None = None
    billing: Callable[[], costs.BillingRegions] | None = None
    large: LargeStore = field(default_factory=ProcessLarge)
    people: SignIn | None = None

    @cached_property
    def door(self) -> Door:
        return Door.of(self.tokens, self.limits, self.clock)

    @cached_property
    def shares(self) -> Shares:
        return Shares.of(self.large, self.limits, self.clock)
