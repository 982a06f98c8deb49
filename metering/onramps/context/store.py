"""Contexts in a bucket: `context/<hour from which it holds>-<sha256>.json.gz`, each written once.

A context that a person supplied for some files is stored at `context/brought/…`: only plans of these files pin it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError
from metering.hours import hour_label, hour_of, parse_hour
from metering.onramps.context import holders, inventory
from metering.onramps.context.description import read_description
from metering.onramps.context.document import Context, ContextUnreadableError, Network
from metering.stores.objects import CONTEXT_PREFIX, ObjectStore
from metering.units import DAY_S, HOUR_S, MIB, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.stores.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContext:
    """Context that is read on first use: a timeline lists weeks of contexts, and a file needs one or two.

    `read` returns the same object as long as the store caches it.
    """

    effective_s: int
    sha256: str
    read: Callable[[], Context]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Contexts that judge a file: pairs `(hour from which the context holds, context)`, in order.

    The first context also applies to earlier hours.
    """

    versions: tuple[tuple[int, Context | StoredContext], ...] = ()

    def at(self, hour_s: int) -> Context | None:
        """Newest context that holds at `hour_s`, or the first context if all are later; None without contexts.

        Raises:
            ContextUnreadableError: The stored context cannot be read.
            ObjectMissingError: The stored context no longer exists.
            UnavailableError: The store does not answer.
        """
        if not self.versions:
            return None
        version = self.versions[self._index(hour_s)][1]
        return version if isinstance(version, Context) else version.read()

    def pins(self, hours: Iterable[int]) -> Mapping[int, str]:
        """Contexts that judge `hours`, as stored in a plan: hour from which each context holds, and its SHA-256."""
        used = sorted({self._index(hour_s) for hour_s in hours}) if self.versions else []
        return {self.versions[index][0]: self.versions[index][1].sha256 for index in used}

    def with_networks(self, networks: tuple[Network, ...]) -> Timeline:
        """The same contexts, except that these are the destinations that people named."""

        @lru_cache(maxsize=_REMEMBERED)
        def named(context: Context) -> Context:
            return replace(context, networks=networks)

        def read(version: Context | StoredContext) -> Context:
            return named(version if isinstance(version, Context) else version.read())

        return Timeline(tuple(
            (from_s, StoredContext(effective_s=from_s, sha256=each.sha256, read=partial(read, each)))
            for from_s, each in self.versions
        ))  # fmt: skip

    def _index(self, hour_s: int) -> int:
        return max(0, bisect_right(self.versions, hour_s, key=lambda version: version[0]) - 1)


# Number of cached contexts: a file's hours usually share one context, and two are needed when an hour ends.
_REMEMBERED = 3
# Twice the size of the largest context (MAX_INTERFACES, MAX_PREFIXES), so a larger object is not a context.
MAX_CONTEXT_BYTES = 256 * MIB

_BROUGHT_PREFIX = f"{CONTEXT_PREFIX}brought/"
# Tags of resources, `<hour from which they hold>-<sha256>.json.gz`. Functions that judge lines do not read them.
_TAGS_PREFIX = f"{CONTEXT_PREFIX}tags/"
_KEY = re.compile(re.escape(CONTEXT_PREFIX) + r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})-([0-9a-f]{64})\.json\.gz")


def context_key(effective_s: int, sha256: str) -> str:
    """Key of a context."""
    return f"{CONTEXT_PREFIX}{hour_label(effective_s)}-{sha256}.json.gz"


def _beside(prefix: str, key: str) -> str:
    """The key with another prefix."""
    return f"{prefix}{key.rpartition('/')[2]}"


class ContextStore:
    """Contexts in a bucket or folder. Caches the contexts that were read last."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._remembered: dict[str, Context] = {}

    def put(self, context: Context) -> bool:
        """Store a context; return False if it was already stored."""
        return self._objects.put(context_key(context.effective_s, context.sha256), _packed(context), if_absent=True)

    def put_brought(self, context: Context) -> None:
        """Store a context that only plans refer to, outside of all timelines."""
        key = _beside(_BROUGHT_PREFIX, context_key(context.effective_s, context.sha256))
        self._objects.put(key, _packed(context), if_absent=True)

    def get(self, effective_s: int, sha256: str) -> Context:
        key = context_key(effective_s, sha256)
        context = self._remembered.pop(key, None)
        if context is None:
            context = _read(key, self._body(effective_s, sha256), effective_s)
        self._remembered[key] = context
        while len(self._remembered) > _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return context

    def _body(self, effective_s: int, sha256: str) -> bytes:
        try:
            return self._objects.get(context_key(effective_s, sha256))
        except ObjectMissingError as missing:
            try:
                return self._objects.get(_beside(_BROUGHT_PREFIX, context_key(effective_s, sha256)))
            except ObjectMissingError:
                raise missing from None

    def names(self) -> Iterator[tuple[int, str]]:
        """`(hour from which the context holds, sha256)` of each stored context, in order."""
        for info in self._objects.list(CONTEXT_PREFIX):
            if info.key.startswith((_BROUGHT_PREFIX, _TAGS_PREFIX)):
                # Uploaded contexts and tags sort after all others, and their number is not limited.
                return
            match = _KEY.fullmatch(info.key)
            if match is not None:
                yield parse_hour(match[1]), match[2]

    def put_tags(self, tags: holders.Tags) -> None:
        """Store the tags of a capture."""
        key = _beside(_TAGS_PREFIX, context_key(tags.effective_s, tags.sha256))
        self._objects.put(key, _packed(tags), if_absent=True)

    def tags_at(self, hour_s: int) -> holders.Tags | None:
        """Tags that hold at an hour, or the first ones if all are later; None without tags.

        Raises:
            ContextUnreadableError: The stored tags cannot be read.
        """
        found: dict[int, str] = {}
        for info in self._objects.list(_TAGS_PREFIX):
            match = _KEY.fullmatch(_beside(CONTEXT_PREFIX, info.key))
            if match is not None:
                # If two captures stored tags of one hour, all processes use the smaller name, as for contexts.
                found.setdefault(parse_hour(match[1]), info.key)
        if not found:
            return None
        key = found[max((each for each in found if each <= hour_s), default=min(found))]
        return holders.decoded_tags(_unpacked(key, self._objects.get(key)))

    def newest(self) -> Context | None:
        """The newest context, by the hour from which it holds; None without contexts."""
        last = None
        for last in self.names():  # noqa: B007
            pass
        return None if last is None else self.get(*last)

    def timeline(self) -> Timeline:
        """All stored contexts in order; each is read on first use.

        If concurrent captures store two contexts for one hour, all processes use the smaller name.
        """
        versions: dict[int, StoredContext] = {}
        for effective_s, sha256 in self.names():
            versions.setdefault(effective_s, self._stored(effective_s, sha256))
        return Timeline(tuple(versions.items()))

    def pinned(self, pins: Mapping[int, str]) -> Timeline:
        """Contexts that a plan pins, by the hour from which each holds."""
        return Timeline(
            tuple((effective_s, self._stored(effective_s, pins[effective_s])) for effective_s in sorted(pins))
        )

    def _stored(self, effective_s: int, sha256: str) -> StoredContext:
        read = partial(self.get, effective_s, sha256)
        return StoredContext(effective_s=effective_s, sha256=sha256, read=read)


def _packed(document: Context | holders.Tags) -> bytes:
    return gzip.compress(document.encode(), compresslevel=6, mtime=0)


def _unpacked(key: str, body: bytes) -> bytes:
    """The JSON of an object, whose name ends with its hash."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
            text = stream.read(MAX_CONTEXT_BYTES + 1)
    except (OSError, EOFError) as error:
        raise ContextUnreadableError(f"{key} cannot be decompressed: {error}") from error
    if len(text) > MAX_CONTEXT_BYTES:
        raise ContextUnreadableError(f"{key} has more than {MAX_CONTEXT_BYTES:,} bytes")
    if f"-{hashlib.sha256(text).hexdigest()}." not in key:
        raise ContextUnreadableError(f"{key} has other content than its name says")
    return text


def _read(key: str, body: bytes, effective_s: int) -> Context:
    context = Context.decode(_unpacked(key, body))
    if context.effective_s != effective_s:
        raise ContextUnreadableError(f"{key} holds from another hour than its name says")
    return context


# Capture of contexts: each hour has its own context, which is captured late in the hour before. A context applies from
# the next full hour. So the later in the hour a context is captured, the more accurate it is when it begins to apply. A
# failed capture is repeated at the next tick.


# Two ticks of five minutes, one of which may fail.
_LATE_S = 10 * MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextKeeper:
    """Captures contexts from `describe` (`metering.onramps.context.description`) when due."""

    contexts: ContextStore
    describe: Callable[[], Mapping[str, object]]
    clock: Clock

    def run(self) -> Context | None:
        """Capture a context if one is due; otherwise return None.

        Raises:
            UnavailableError: A service did not answer; the next tick retries.
            DescriptionError: The description contradicts itself.
        """
        now_s = self.clock.now_ms() // 1000
        newest = self.contexts.newest()
        if newest is not None and not is_due(newest.effective_s, now_s):
            return None
        description = self.describe()
        context = context_from(description, now_s)
        _put_tags(description, self.contexts, context.effective_s)
        self.contexts.put(context)
        return context


def is_due(newest_s: int, now_s: int) -> bool:
    """Whether a new context is due at `now_s` if the newest holds from `newest_s`; both in epoch seconds."""
    hour_s = hour_of(now_s)
    missed = newest_s < hour_s
    late = now_s >= hour_s + HOUR_S - _LATE_S
    return missed or (late and newest_s <= hour_s)


# After a day, an equal context is stored again, because contexts expire by age and a context in use must outlive the
# plans that name it.
_KEPT_AGAIN_S = DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """Context that holds from now on, and whether it was stored (False if equal to the newest context)."""

    context: Context
    kept: bool


def context_from(description: Mapping[str, object], now_s: int) -> Context:
    """Context of the description at `now_s`; it holds from the next full hour.

    Another context already judged the current hour, so this hour's context cannot change.

    Raises:
        DescriptionError: The description contradicts itself.
    """
    return inventory.context_of(description, hour_of(now_s) + HOUR_S)


def capture_context(description: Mapping[str, object], store: ContextStore, now_s: int) -> Captured:
    """Store the context of the description at `now_s`, unless the newest context has the same facts.

    Raises:
        DescriptionError: The description contradicts itself.
        UnavailableError: A service did not answer.
    """
    context = context_from(description, now_s)
    _put_tags(description, store, context.effective_s)
    newest = store.newest()
    age_s = context.effective_s - newest.effective_s if newest is not None else _KEPT_AGAIN_S
    if newest is not None and 0 <= age_s < _KEPT_AGAIN_S and newest.says_the_same(context):
        return Captured(context=newest, kept=False)
    return Captured(context=context, kept=store.put(context))


def _put_tags(description: Mapping[str, object], store: ContextStore, effective_s: int) -> None:
    tags = holders.tags_of(read_description(description), effective_s)
    if tags is not None:
        store.put_tags(tags)
