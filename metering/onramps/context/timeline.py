"""Contexts by the hour from which each holds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.onramps.context.document import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContext:
    """A context that is read when it is first needed: a timeline names weeks of them, and a file needs one or two.

    Attributes:
        effective_s: Hour from which it holds, in epoch seconds.
        sha256: Its name.
        read: Reads it. It gives the same object again while its store remembers it.
    """

    effective_s: int
    sha256: str
    read: Callable[[], Context]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The contexts that judge a file.

    Attributes:
        versions: `(hour from which it holds, context)` in order. Hours before the first are judged by the first.
    """

    versions: tuple[tuple[int, Context | StoredContext], ...] = ()

    def at(self, hour_s: int) -> Context | None:
        """The newest context that holds at `hour_s`, or the first one if all are later; None if there is none.

        Raises:
            ContextUnreadableError: It is stored, and cannot be read.
            ObjectMissingError: It was stored, and is gone.
            UnavailableError: The store gives no answer.
        """
        if not self.versions:
            return None
        version = self.versions[self._index(hour_s)][1]
        return version if isinstance(version, Context) else version.read()

    def pins(self, hours: Iterable[int]) -> Mapping[int, str]:
        """The contexts that judge `hours`, as a plan keeps them: the hour that each holds from, and its SHA-256."""
        used = sorted({self._index(hour_s) for hour_s in hours}) if self.versions else []
        return {self.versions[index][0]: self.versions[index][1].sha256 for index in used}

    def _index(self, hour_s: int) -> int:
        return max(0, bisect_right(self.versions, hour_s, key=lambda version: version[0]) - 1)
