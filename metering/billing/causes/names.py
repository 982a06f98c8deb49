"""Names of the causes of a day: whose a resource was, hour by hour; and the names that later captures take back.

The names of a day are a gzip file of JSON lines. The head lists, for each hour, the causes and destinations whose
address may have had another holder. Each further line has a resource and its stretches of hours.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from metering.billing.causes.days import is_of
from metering.billing.causes.index import Reused
from metering.billing.owners import Attributes
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import date_of
from metering.onramps.context.document import Context, ContextUnreadableError
from metering.onramps.context.holders import Workloads
from metering.stores.objects import cause_names_key
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.onramps.context.store import ContextStore
    from metering.stores.objects import ObjectStore

_SCHEMA = "metering.cause-names/1"
_LEVEL = 6
# Names of one day at the largest number of interfaces of a context.
_MOST_BYTES = 2**30


class Stretch(NamedTuple):
    """Facts about a resource from an hour on, epoch seconds. Empty texts are unknown."""

    from_s: int
    account_id: str
    workload: str
    vpc_id: str
    subnet_id: str
    tags: dict[str, str]


class _Head(msgspec.Struct, kw_only=True, frozen=True):
    schema: str
    day: str
    causes: tuple[str, ...]
    destinations: tuple[str, ...]


_line = msgspec.json.Decoder(tuple[str, tuple[Stretch, ...]]).decode
_head = msgspec.json.Decoder(_Head).decode


class CauseNames:
    """Names of a day."""

    def __init__(self, day_s: int, stretches: Mapping[str, tuple[Stretch, ...]], reused: Reused | None = None) -> None:
        self.day_s = day_s
        self.stretches = stretches
        self.reused = reused or Reused()

    @classmethod
    def read(cls, objects: ObjectStore, day_s: int, key: str | None) -> CauseNames:
        """Read the names of a day; without a key, the day is empty.

        Raises:
            ObjectMissingError: They are gone.
            ObjectDamagedError: They are something else.
        """
        if key is None:
            return cls(day_s, {})
        packed = objects.get(key)
        if not is_of(packed, key):
            raise ObjectDamagedError(key, "it has other bytes than its name says")
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
                body = file.read(_MOST_BYTES + 1)
            if len(body) > _MOST_BYTES:
                raise ObjectDamagedError(key, f"it has more than {_MOST_BYTES:,} bytes")
            first, *lines = body.splitlines()
            head = _head(first)
            if (head.schema, head.day) != (_SCHEMA, date_of(day_s)):
                raise ObjectDamagedError(key, f"these are names of {head.day[:20]!r} in {head.schema[:40]!r}")
            found = dict(map(_line, lines))
        except (OSError, EOFError, zlib.error, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise ObjectDamagedError(key, str(error)) from error
        return cls(day_s, found, Reused(frozenset(head.causes), frozenset(head.destinations)))

    def at(self, cause: str, hour_s: int) -> Attributes | None:
        """Facts about a cause in an hour, else the first known facts; None for an unknown cause."""
        found = self.stretches.get(cause)
        if not found:
            return None
        # Of most causes, nothing changes within a day.
        at = 0 if len(found) == 1 else max(bisect_right(found, hour_s, key=lambda stretch: stretch.from_s) - 1, 0)
        each = found[at]
        return Attributes(each.account_id, cause, each.workload, each.vpc_id, each.subnet_id, each.tags)

    def cuts(self, cause: str) -> tuple[int, ...]:
        """Hours within the day from which something else is known of a cause."""
        return tuple(each.from_s for each in self.stretches.get(cause, ())[1:])

    def put(self, objects: ObjectStore) -> str:
        """Store the names; returns their key."""
        head = _Head(
            schema=_SCHEMA, day=date_of(self.day_s), causes=tuple(sorted(self.reused.causes)),
            destinations=tuple(sorted(self.reused.destinations)),
        )  # fmt: skip
        sink = io.BytesIO()
        with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
            file.write(msgspec.json.encode(head) + b"\n")
            for each in sorted(self.stretches.items()):
                file.write(msgspec.json.encode(each) + b"\n")
        body = sink.getvalue()
        key = cause_names_key(self.day_s, hashlib.sha256(body).hexdigest())
        objects.put(key, body, if_absent=False)
        return key

    def with_context(self, workloads: Workloads, hour_s: int) -> CauseNames:
        """Names that a context changes from an hour of this day on; a resource that it lacks keeps its names."""
        found = dict(self.stretches)
        for its_id in workloads.resources():
            of, at = workloads.of(its_id), workloads.location(its_id)
            made = Stretch(hour_s, at.account_id, of.workload, at.vpc_id, at.subnet_id, dict(sorted(of.tags.items())))
            before = found.get(its_id, ())
            if not before or before[-1][1:] != made[1:]:
                found[its_id] = (*(each for each in before if each.from_s < hour_s), made)
        return CauseNames(self.day_s, found, self.reused)


class Captures:
    """Adds contexts to the names of their days, one after the other.

    Args:
        before: Names of each day, as stored.
    """

    def __init__(self, contexts: ContextStore, names: Mapping[int, str], objects: ObjectStore) -> None:
        self._contexts = contexts
        self._keys = names
        self._objects = objects
        self._made: dict[int, CauseNames] = {}
        self.skipped: list[str] = []

    def add(self, after_s: int, *, from_s: int, most: int) -> int:
        """Add the contexts of hours after `after_s`, at most `most`; returns the hour of the last one.

        A damaged context is skipped, and names of a day that are damaged begin anew; `skipped` notes both.

        Raises:
            UnavailableError: A context cannot be read now.
        """
        versions = [version for version in self._contexts.timeline().versions if version[0] >= from_s]
        earlier = [each for each in versions if each[0] <= after_s]
        new = [each for each in versions if each[0] > after_s][:most]
        last: tuple[int, Context] | None = None
        for hour_s, stored in (*earlier[-1:], *new):
            try:
                context = stored if isinstance(stored, Context) else stored.read()
            except ContextUnreadableError as error:
                self.skipped.append(str(error))
                continue
            if last is not None:
                self._take_back(last, (hour_s, context))
            if hour_s > after_s:
                self._name(hour_s, context, last)
            last = hour_s, context
        return new[-1][0] if new else after_s

    def put(self) -> dict[int, str]:
        """Store the changed names; returns their keys by day."""
        return {day_s: names.put(self._objects) for day_s, names in sorted(self._made.items())}

    def _name(self, hour_s: int, context: Context, last: tuple[int, Context] | None) -> None:
        day_s = hour_s - hour_s % DAY_S
        if day_s not in self._keys and day_s not in self._made and hour_s > day_s and last is not None:
            # The day begins with the context of the day before.
            self._made[day_s] = self._names(day_s).with_context(self._workloads(last[1], day_s), day_s)
        self._made[day_s] = self._names(day_s).with_context(self._workloads(context, hour_s), hour_s)

    def _workloads(self, context: Context, hour_s: int) -> Workloads:
        return Workloads(context, self._contexts.tags_at(hour_s))

    def _names(self, day_s: int) -> CauseNames:
        if day_s not in self._made:
            try:
                self._made[day_s] = CauseNames.read(self._objects, day_s, self._keys.get(day_s))
            except (ObjectMissingError, ObjectDamagedError) as error:
                self.skipped.append(str(error))
                self._made[day_s] = CauseNames(day_s, {})
        return self._made[day_s]

    def _take_back(self, one: tuple[int, Context], other: tuple[int, Context]) -> None:
        """Take back the names of both holders of an address in all hours between two captures.

        A capture is made in the hour before the one from which it holds.
        """
        names: set[str] = set()
        groups: set[str] = set()
        for holder in _changed_hands(one[1], other[1]):
            names.add(holder.resource_id)
            groups |= {holder.workload, holder.resource_id} - {""}
        for hour_s in range(one[0] - HOUR_S, other[0], HOUR_S) if names else ():
            day_s = hour_s - hour_s % DAY_S
            found = self._names(day_s)
            at = frozenset(f"{each}@{hour_s}" for each in names), frozenset(f"{each}@{hour_s}" for each in groups)
            self._made[day_s] = CauseNames(day_s, found.stretches, found.reused.plus(Reused(*at)))


class _Holder(NamedTuple):
    resource_id: str
    workload: str


def _changed_hands(one: Context, other: Context) -> Iterator[_Holder]:
    """Holders of the addresses that another interface has in the other context."""
    before = _holders(one)
    groups = dict(one.groups), dict(other.groups)
    held = dict(one.holders), dict(other.holders)
    for at, now in _holders(other).items():
        then = before.get(at, now)
        if then != now:
            for interface_id, of, group in ((then, held[0], groups[0]), (now, held[1], groups[1])):
                resource = of.get(interface_id, interface_id)
                yield _Holder(resource, group.get(interface_id) or group.get(resource, ""))


def _holders(context: Context) -> dict[tuple[str, str], str]:
    """Interface at each address of each VPC."""
    vpcs = {each.id: each.vpc_id for each in context.subnets}
    found: dict[tuple[str, str], str] = {}
    for each in context.interfaces:
        for address in (*each.addresses, *each.prefixes):
            found[vpcs[each.subnet_id], address] = each.id
    return found
