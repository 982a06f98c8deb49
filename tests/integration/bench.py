"""Test bench that the fault matrices share (kills and lost replies)."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from metering.adapters.aws.session import Clients
from metering.errors import UnavailableError
from tests.integration.region import Region, Scenario
from tests.support.wire import Killed, Trouble, Wire

# Faults of a call, and whether a late call is applied only after everything else was done again.
VARIANTS = [(trouble, False) for trouble in Trouble] + [(Trouble.APPLIED_LATE, True)]


def _each(variants: list[tuple[Trouble, bool]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("trouble", "very_late"), variants, ids=lambda each: getattr(each, "name", str(each))
    )


EACH_VARIANT = _each(VARIANTS)
# For restartable jobs, dying before a call is the same as dying after the previous call, which is tried anyway.
EACH_JOB_VARIANT = _each([variant for variant in VARIANTS if variant[0] is not Trouble.KILLED_BEFORE])

_READS = ("BatchGet", "Get", "Head", "List", "Query", "Scan")

# The gate tries every fifth of the calls that differ; `make matrix` tries all of them.
_EVERY = 1 if os.environ.get("METERING_EVERY_CALL") else 5

# The call is unavailable and has no effect, as if the request was lost; only the adapter's error differs.
_ANSWERS = (Trouble.THROTTLED, Trouble.CONFLICTED)


def worth_trying(calls: Sequence[str], trouble: Trouble, *, every: int = _EVERY) -> list[int]:
    """Calls whose fault leads to a distinct sequence of events.

    Reads change nothing: a lost request equals a lost reply, and a kill at a read equals a kill after the last write.
    So reads get only lost replies, and only at the first call of an operation. Error responses also come only there.

    The gate tries every fifth call; the first differs by fault, so that each call is tried with some faults.
    """
    differing = [
        number for number, call in enumerate(calls) if _differs(call, trouble, first=call not in calls[:number])
    ]
    return differing[list(Trouble).index(trouble) % every :: every]


def _differs(call: str, trouble: Trouble, *, first: bool) -> bool:
    service, _, operation = call.partition(".")
    if trouble in _ANSWERS:
        return first and (trouble is Trouble.THROTTLED or service == "dynamodb")
    if operation.startswith(_READS):
        return first and trouble in (Trouble.REPLY_LOST_ONCE, Trouble.REPLIES_LOST)
    return True


class Bench(NamedTuple):
    """Clients with an injectable network fault."""

    clients: Clients
    wire: Wire

    def calls_of(self, work: Callable[[], object]) -> list[str]:
        """All network calls of `work` without faults."""
        self.wire.begin_again()
        work()
        return list(self.wire.calls)

    def befall(self, call: int, trouble: Trouble, work: Callable[[], object]) -> bool:
        """Run `work` with a fault at one call; return whether that call was reached."""
        self.wire.begin_again((call, trouble))
        with suppress(Killed, UnavailableError):
            work()
        happened = self.wire.happened
        self.wire.begin_again()
        return happened


def wrong_after(calls: Sequence[str], trouble: Trouble, suffer: Callable[[int], str]) -> dict[tuple[int, str], str]:
    """Problems after a fault at each call that `worth_trying` selects."""
    found = {(number, calls[number]): suffer(number) for number in worth_trying(calls, trouble)}
    return {call: problem for call, problem in found.items() if problem}


@dataclass(frozen=True, slots=True)
class Matrix:
    """Jobs over a prepared region.

    Attributes:
        at_the_end: Problems after the jobs, as text.
        at_any_time: Problems that must be absent at any time, even before the rerun.
        again: Reruns the jobs after a fault, and applies delayed calls.
    """

    prepare: Callable[[Bench, Region], Scenario]
    run: Callable[[Region], None]
    at_the_end: Callable[[Region, Scenario], list[str]]
    at_any_time: Callable[[Region, Scenario], list[str]] = lambda _region, _made: []
    again: Callable[[Bench, Region], None] | None = None

    def _again(self, bench: Bench, region: Region) -> None:
        self.run(region)
        bench.wire.deliver_late()

    def calls(self, bench: Bench) -> list[str]:
        region = Region(bench.clients)
        made = self.prepare(bench, region)
        assert self.at_any_time(region, made) == []
        recorded = bench.calls_of(lambda: self.run(region))
        assert self.at_the_end(region, made) == []
        return recorded

    def suffer(self, bench: Bench, region: Region, call: int, trouble: Trouble, *, very_late: bool) -> str:
        made = self.prepare(bench, region)
        if not bench.befall(call, trouble, lambda: self.run(region)):
            return "it did not happen"
        wrong = [f"at the trouble: {each}" for each in self.at_any_time(region, made)]
        if not very_late:
            bench.wire.deliver_late()
            wrong += [f"after what came late: {each}" for each in self.at_any_time(region, made)]
        (self.again or self._again)(bench, region)
        return "; ".join([*wrong, *self.at_the_end(region, made)])

    def wrong(self, bench: Bench, trouble: Trouble, *, very_late: bool) -> dict[tuple[int, str], str]:
        """Problems after a fault at each call, each in a new region."""
        return wrong_after(
            self.calls(bench),
            trouble,
            lambda call: self.suffer(bench, Region(bench.clients), call, trouble, very_late=very_late),
        )


def lake_problems(region: Region, made: Scenario) -> list[str]:
    """Check that no job ever changes what a reader of the lake sees. Only the usage table may lag."""
    seen = region.lake()
    return [] if seen == made.totals else [f"a reader sees {set(seen.items()) ^ set(made.totals.items())}"]


def problems(region: Region, made: Scenario) -> list[str]:
    """Problems of a region as text; empty if all totals and verdicts match what was sent."""
    wrong = [
        f"{name} {line}: {totals.get(line)}, sent {made.totals.get(line)}"
        for name, totals in (("usage", region.usage()), ("lake", region.lake()))
        for line in totals.keys() | made.totals.keys()
        if totals.get(line) != made.totals.get(line)
    ]
    return wrong if region.verdicts() == made.verdicts else [*wrong, f"verdicts: {region.verdicts() ^ made.verdicts}"]
