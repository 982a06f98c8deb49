"""Questions to a stage, given as on the command line, and answers as Arrow tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from metering.reports import parquet_table, time_range

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from metering.reports.answer import Answer, Json
    from metering.reports.costs.rows import CostParameters
    from metering.reports.query import Names, TraceParameters, UsageParameters
    from metering.reports.who import WhoParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuestion:
    """One SQL statement over the lake, with times as in `UsageParameters`."""

    sql: str
    start: str | None = None
    end: str | None = None
    last: str | None = None
    zone: str | None = None
    timeout_s: int = 600
    with_canary: bool = False


class Answers(Protocol):
    """Answers as tables. All methods raise the errors that `Connection` documents."""

    def usage(self, asked: UsageParameters) -> pa.Table:
        """Totals of usage."""

    def cost(self, asked: CostParameters, *, prices: str | None, exact: bool) -> pa.Table:
        """Costs of usage."""

    def who(self, asked: WhoParameters, *, prices: str | None) -> pa.Table:
        """Causes of usage, with costs by the price book `prices` if they are asked for."""

    def trace(self, asked: TraceParameters) -> pa.Table:
        """Batches behind a report line; the metadata includes `sums` and `equal`."""

    def query(self, asked: SqlQuestion) -> pa.Table:
        """Rows of a statement."""


Time: TypeAlias = "str | date | datetime | None"
"""A time as `--from` takes it, such as `2026-11` or `yesterday`; or a date, or a datetime with its zone."""


def names(given: Names) -> tuple[str, ...]:
    """Names in the given order, without repetitions."""
    texts = [given] if isinstance(given, str) else list(given or ())
    return tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))


def filter_texts(given: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Filter name -> values given by the caller."""
    return {name: names(cast("Names", value)) for name, value in given.items()}


def columns(given: Names) -> str | None:
    """Column names separated by commas; None if no columns were given."""
    return None if given is None else ",".join(names(given))


def time_text(parameter: str, given: Time) -> str | None:
    """A time as text.

    Raises:
        InvalidParametersError: A datetime has no time zone. The local time zone of the machine is never assumed.
    """
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, datetime):
        return given.isoformat()
    if given.utcoffset() is None:
        raise time_range.InvalidParametersError(
            [
                time_range.ParameterProblem(
                    parameter=parameter,
                    value=given.isoformat(),
                    problem="has no zone.",
                    advice="Give it one, as tzinfo=UTC.",
                )
            ]
        )
    return given.isoformat()


ABOUT = b"metering"
"""Key of the schema's metadata under which a table says what it is."""


def table_of(answer: Answer, about: Mapping[str, Json] | None = None) -> pa.Table:
    """An answer as a table, with `about` as metadata; without `about`, the metadata is the answer's `meta`.

    If `top` omits rows, the table's last row is the sum of the omitted rows.
    """
    table = parquet_table.arrow_table({column.name: column.kind for column in answer.columns}, answer.rows_and_others())
    return with_about(table, answer.meta if about is None else about)


def with_about(table: pa.Table, about: Mapping[str, Json]) -> pa.Table:
    """The same table, with `about` stored as JSON in the schema metadata."""
    return table.replace_schema_metadata({ABOUT: json.dumps(about).encode()})


def about(table: pa.Table) -> dict[str, Json]:
    """Metadata of an answer's table: `as_of`, `complete_through`, and every other fact in the answer."""
    found: dict[str, Json] = json.loads((table.schema.metadata or {}).get(ABOUT, b"{}"))
    return found
