"""Sources of logs, found by their plans: a listing that jumps from one source to the next, one LIST each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.onramps.plans import PLACES_PREFIX
from metering.stores.bucket import PLANS_PREFIX

if TYPE_CHECKING:
    from metering.stores.objects import ObjectStore

# The character after the slash: it sorts behind every key of a source, and before the next source.
_BEHIND = chr(ord("/") + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSources:
    """What a search found.

    Attributes:
        sources: Kind and source, as the key of a plan has them.
        after: Key after which the next search goes on; empty if this one came to the end.
    """

    sources: tuple[tuple[str, str], ...]
    after: str


def find_sources(objects: ObjectStore, *, after: str, most: int) -> FoundSources:
    """Look for sources, `most` of them at most, one LIST each.

    Args:
        objects: The data bucket.
        after: Where an earlier search stopped; empty to begin.
        most: Number of sources after which the search stops.
    """
    found: list[tuple[str, str]] = []
    while len(found) < most:
        info = next(iter(objects.list(PLANS_PREFIX, after=after)), None)
        if info is None:
            return FoundSources(sources=tuple(found), after="")
        if info.key.startswith(PLACES_PREFIX):
            after = PLACES_PREFIX.removesuffix("/") + _BEHIND
            continue
        kind, _, rest = info.key.removeprefix(PLANS_PREFIX).partition("/")
        source, inner, _ = rest.partition("/")
        if kind and inner:
            found.append((kind, source))
        after = f"{PLANS_PREFIX}{kind}/{source}{_BEHIND}" if inner else info.key
    return FoundSources(sources=tuple(found), after=after)
