"""Log files in tests: the result that a kind of log returns for given content."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Measured, measure
from metering.onramps.kinds import LogKind, recognised
from metering.onramps.reading import Block, FileName, ReadSettings
from metering.onramps.sources import ANY, Bills

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.onramps.context.document import Context

SETTINGS = ReadSettings()


class Row(NamedTuple):
    """A record from a log file, with the fields of the contract."""

    account: str
    resource: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    bytes: int


def log_of(key: str) -> tuple[LogKind, FileName]:
    """The kind of log and the file name of a key that is recognised."""
    found = recognised(key)
    assert found is not None, key
    return found


def measured(
    content: bytes | str,
    key: str = "",
    *,
    kind: LogKind | None = None,
    name: FileName | None = None,
    context: Context | None = None,
    settings: ReadSettings = SETTINGS,
    allowed: Sequence[str] = (),
    watch: Callable[[Block[object]], None] | None = None,
) -> Measured:
    """Measure a file by `key`, or by `kind` and `name`."""
    body = content.encode() if isinstance(content, str) else content
    if kind is None:
        kind, stated = log_of(key)
        name = name or stated
    assert name is not None
    timeline = Timeline(((0, context),) if context is not None else ())
    bills = Bills.listed(allowed) if allowed else ANY
    result = measure(io.BytesIO(body), kind, name, timeline, settings, bills=bills, watch=watch)
    assert result.balance.holds
    assert sum(lines for _, lines, _ in result.refusals) == result.balance.refused
    return result


def records(result: Measured) -> list[Row]:
    return sorted(
        Row(account, resource, direction, from_location, to_location, usage_type, total.bytes)
        for (
            (account, _, resource, direction, from_location, to_location, usage_type),
            _,
        ), total in result.totals.items()
    )


def reasons(result: Measured) -> dict[str, int]:
    return {reason: lines for reason, lines, _ in result.refusals}


def gzipped(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)
