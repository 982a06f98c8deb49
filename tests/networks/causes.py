"""The exam of causes: each line's cause and destination are compared with the truth of the line.

The lines of a log and slot are written to one file for each true cause and destination. All of these files are read as
one file: with one classifier, one grouping of addresses, and all evidence.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Judge
from metering.onramps.kinds import recognised
from metering.onramps.reading import ReadSettings
from metering.onramps.reasons import Classified
from metering.onramps.rules.causes import PRIVATE, Cause, Naming
from metering.onramps.sources import ANY, Billable
from metering.units import HOUR_S, MINUTE_S
from tests.networks.exam import FIRST_S
from tests.support.networks.causes import NETWORKS, NOBODY, Named
from tests.support.networks.description import description

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.support.networks.files import LogFile
    from tests.support.networks.traffic import Network

# The names by which peers outside of all networks are called; every other true name is private.
_PUBLIC_NAMES = ("internet", "cloudfront", "EC2.", "S3.", "DYNAMODB.", "GLOBALACCELERATOR")
NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})
FIRST_HOUR_S = FIRST_S - FIRST_S % HOUR_S


class Fault(NamedTuple):
    what: str
    usage_type: str
    truth: Named
    verdict: Cause


@dataclass(slots=True)
class CauseMarks:
    """Bytes by usage type (without region), by what is known of them; and wrong names. `wrong` must be empty.

    Attributes:
        people: Bytes to destinations that people named, by name; `knows_people` tells whether the contexts have these.
    """

    bytes: Counter[str] = field(default_factory=Counter)
    caused: Counter[str] = field(default_factory=Counter)
    destined: Counter[str] = field(default_factory=Counter)
    wrong: Counter[Fault] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    bases: Counter[str] = field(default_factory=Counter)
    people: Counter[str] = field(default_factory=Counter)
    knows_people: bool = False

    def add(self, usage_type: str, cause: Cause, truth: Named, size_bytes: int) -> None:
        name = usage_type.rpartition("USW2-")[2].rpartition("USE1-")[2]
        self.bytes[name] += size_bytes
        self.bases[cause.basis] += size_bytes
        if cause.cause:
            self.caused[name] += size_bytes
            self.destined[name] += size_bytes if cause.destination else 0
        else:
            self.reasons[name, cause.reason] += size_bytes
        if cause.cause and cause.cause not in truth.causes:
            self.wrong[Fault("cause", name, truth, cause)] += size_bytes
        if cause.destination in NETWORKS:
            self.people[cause.destination] += size_bytes
        if not _is_right(cause.destination, truth, knows_people=self.knows_people):
            self.wrong[Fault("destination", name, truth, cause)] += size_bytes

    def share(self, counted: Mapping[str, int], *names: str) -> float:
        """Percentage of the bytes of some usage types, for output and bars."""
        return 100 * sum(counted.get(name, 0) for name in names) / sum(self.bytes[name] for name in names)

    def told(self, most: int = 12) -> str:
        """The faults, largest first."""
        return "\n".join(f"{size:>12,} {fault}" for fault, size in self.wrong.most_common(most))


def _is_right(destination: str, truth: Named, *, knows_people: bool) -> bool:
    name = truth.destinations[0] if truth.destinations else ""
    if name in NETWORKS:
        # If the contexts have the names that people use, these are the only right ones.
        return (
            destination in ("", name)
            if knows_people
            else destination != name
            and _is_right(destination, truth._replace(destinations=truth.destinations[1:]), knows_people=False)
        )
    if destination == PRIVATE:
        return not any(name.startswith(_PUBLIC_NAMES) for name in truth.destinations)
    return not destination or destination in truth.destinations


def captures(network: Network, hours: int = 4, without: Mapping[str, Sequence[str]] = NOTHING) -> Timeline:
    """Contexts of the hours of a network, each captured ten minutes before its hour, without some lists."""
    versions = []
    for number in range(hours):
        hour_s = FIRST_HOUR_S + number * HOUR_S
        told = description(network.inventory, network.flow_logs, hour_s - 10 * MINUTE_S)
        for place in told["regions"]:  # type: ignore[attr-defined]  # a list of places
            for name in without.get("lists", ()):
                place.pop(name, None)
        told["regions"] = [
            place
            for place in told["regions"]  # type: ignore[attr-defined]  # a list of places
            if place["account_id"] not in without.get("accounts", ())
        ]
        for name in without.get("members", ()):
            told.pop(name, None)
        versions.append((hour_s, context_of(told, hour_s)))
    return Timeline(tuple(versions))


def examined(files: Iterable[LogFile], timeline: Timeline, *, knows_people: bool = False) -> CauseMarks:
    """Name the causes of all lines, and compare them with the truth."""
    marks = CauseMarks(knows_people=knows_people)
    named = (file for file in files if file.named is not None)
    for _, together in groupby(named, key=lambda file: (file.slot_s, file.log.id)):
        _examine(list(together), timeline, marks)
    return marks


def _examine(files: Sequence[LogFile], timeline: Timeline, marks: CauseMarks) -> None:
    found = recognised(files[0].key)
    assert found is not None, files[0].key
    kind, name = found
    classifier = kind.classifier(name, timeline)
    assert isinstance(classifier, Naming)
    causes = classifier.causes(later=True)
    judge = Judge(classifier, Billable(ANY, name, timeline), causes)
    settings = ReadSettings(folding=classifier, detail=causes)  # type: ignore[arg-type]  # it groups addresses, too
    judged = []
    for file in files:
        for block in kind.read(io.BytesIO(file.body), name, settings, digest=len):
            causes.learn(block.shown)
            judged += [
                (file.named or NOBODY, each, judge.verdict(each.subject, each.hour_s)) for each in block.observations
            ]
    for truth, each, verdict in judged:
        if isinstance(verdict.outcome, Classified) and verdict.ends is not None:
            cause = causes.resolved(verdict.ends, each.hour_s)
            marks.add(verdict.usage_type, cause, truth, each.bytes)
            if verdict.outcome.processed is not None:
                marks.add(verdict.outcome.processed.traffic.usage_type, cause, truth, each.bytes)
