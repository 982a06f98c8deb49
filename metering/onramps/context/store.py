"""Where contexts are kept: `context/<hour from which it holds>-<sha256>.json.gz`, each written once.

One that a person brought along for some files lies at `context/brought/…`: their plans pin it, and it judges no others.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from functools import partial
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError
from metering.hours import hour_label, parse_hour
from metering.onramps.context.document import Context, ContextUnreadableError
from metering.onramps.context.timeline import StoredContext, Timeline
from metering.stores.bucket import CONTEXT_PREFIX
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.objects import ObjectStore

# Contexts that are kept in memory: a file's hours mostly have one, at an hour's turn two.
_REMEMBERED = 3
# Twice what the largest context has (MAX_INTERFACES, MAX_PREFIXES): more is no context of ours.
MAX_CONTEXT_BYTES = 256 * MIB

_BROUGHT_PREFIX = f"{CONTEXT_PREFIX}brought/"
_KEY = re.compile(re.escape(CONTEXT_PREFIX) + r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})-([0-9a-f]{64})\.json\.gz")


def context_key(effective_s: int, sha256: str) -> str:
    """Key of a context."""
    return f"{CONTEXT_PREFIX}{hour_label(effective_s)}-{sha256}.json.gz"


def _brought_key(effective_s: int, sha256: str) -> str:
    return f"{_BROUGHT_PREFIX}{context_key(effective_s, sha256).removeprefix(CONTEXT_PREFIX)}"


class ContextStore:
    """Contexts in a bucket, or in a folder behind the same interface. It remembers those that were read last."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._remembered: dict[str, Context] = {}

    def put(self, context: Context) -> bool:
        """Keep a context; returns False if it was kept before."""
        return self._objects.put(context_key(context.effective_s, context.sha256), _packed(context), if_absent=True)

    def put_brought(self, context: Context) -> None:
        """Keep a context that only plans name: it is in no timeline, and judges no file that it was not brought for."""
        key = _brought_key(context.effective_s, context.sha256)
        self._objects.put(key, _packed(context), if_absent=True)

    def get(self, effective_s: int, sha256: str) -> Context:
        """One context.

        Raises:
            ObjectMissingError: It is not kept, or not any more.
            ContextUnreadableError: It is not what its name says.
        """
        key = context_key(effective_s, sha256)
        context = self._remembered.pop(key, None)
        if context is None:
            context = _read(key, self._body(effective_s, sha256), effective_s, sha256)
        self._remembered[key] = context
        while len(self._remembered) > _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return context

    def _body(self, effective_s: int, sha256: str) -> bytes:
        try:
            return self._objects.get(context_key(effective_s, sha256))
        except ObjectMissingError as missing:
            try:
                return self._objects.get(_brought_key(effective_s, sha256))
            except ObjectMissingError:
                raise missing from None

    def names(self) -> Iterator[tuple[int, str]]:
        """`(hour from which it holds, sha256)` of each kept context, in order."""
        for info in self._objects.list(CONTEXT_PREFIX):
            if info.key.startswith(_BROUGHT_PREFIX):
                # These come after all others, in whatever number.
                return
            match = _KEY.fullmatch(info.key)
            if match is not None:
                yield parse_hour(match[1]), match[2]

    def newest(self) -> Context | None:
        """The context that holds from the latest hour; None if there is none."""
        last = None
        for last in self.names():  # noqa: B007
            pass
        return None if last is None else self.get(*last)

    def timeline(self) -> Timeline:
        """All kept contexts in order; each is read when it is needed.

        Of two that hold from one hour (two captures at once), the one with the lesser name counts, for everybody.
        """
        versions: dict[int, StoredContext] = {}
        for effective_s, sha256 in self.names():
            versions.setdefault(effective_s, self._stored(effective_s, sha256))
        return Timeline(tuple(versions.items()))

    def pinned(self, pins: Mapping[int, str]) -> Timeline:
        """The contexts that a plan pins, by the hour that each holds from."""
        return Timeline(
            tuple((effective_s, self._stored(effective_s, pins[effective_s])) for effective_s in sorted(pins))
        )

    def _stored(self, effective_s: int, sha256: str) -> StoredContext:
        read = partial(self.get, effective_s, sha256)
        return StoredContext(effective_s=effective_s, sha256=sha256, read=read)


def _packed(context: Context) -> bytes:
    return gzip.compress(context.encode(), compresslevel=6, mtime=0)


def _read(key: str, body: bytes, effective_s: int, sha256: str) -> Context:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
            text = stream.read(MAX_CONTEXT_BYTES + 1)
    except (OSError, EOFError) as error:
        raise ContextUnreadableError(f"{key} cannot be decompressed: {error}") from error
    if len(text) > MAX_CONTEXT_BYTES:
        raise ContextUnreadableError(f"{key} has more than {MAX_CONTEXT_BYTES:,} bytes")
    if hashlib.sha256(text).hexdigest() != sha256:
        raise ContextUnreadableError(f"{key} has other content than its name says")
    context = Context.decode(text)
    if context.effective_s != effective_s:
        raise ContextUnreadableError(f"{key} holds from another hour than its name says")
    return context
