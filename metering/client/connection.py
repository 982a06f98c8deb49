"""`metering.connect`: usage, cost, SQL and traces as Arrow tables, for notebooks and programs."""

from __future__ import annotations

import inspect
import os
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Unpack, cast

from metering.client.asking import Answers, SqlQuestion, Time, about, columns, filter_texts, time_text
from metering.errors import OperationFailedError
from metering.reports.costs.rows import CostParameters
from metering.reports.query import (
    COST_FILTERS,
    FILTERS,
    LINE_FILTERS,
    WHO_FILTERS,
    Filter,
    TraceParameters,
    UsageParameters,
)
from metering.reports.who import WhoParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from metering.reports import answer
    from metering.reports.query import CostNames, LineNames, Names, UsageNames, WhoNames


class SumsDifferError(OperationFailedError):
    """The sums of a trace differ: the report and its rows do not have the same totals.

    Attributes:
        sums: Bytes as decimal strings for `usage`, `rows` and `markers`; None for expired markers.
        table: The trace that `Connection.trace` would have returned.
    """

    def __init__(self, sums: Mapping[str, str | None], table: pa.Table) -> None:
        told = ", ".join(f"{name} {size}" for name, size in sums.items() if size is not None)
        super().__init__(
            f"The sums are not equal ({told} bytes).",
            "If batches come in they are equal in a minute. Else: metering runbook reconciliation-differences",
        )
        self.sums = dict(sums)
        self.table = table

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.sums, self.table))


P = ParamSpec("P")


def _keywords(filters: Mapping[str, Filter]) -> Callable[[Callable[P, pa.Table]], Callable[P, pa.Table]]:
    """Show the filters as keywords of a method, for `help` and for notebooks, and refuse any other keyword."""

    def named(method: Callable[P, pa.Table]) -> Callable[P, pa.Table]:
        signature = inspect.signature(method)
        given = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in filters]
        shown = signature.replace(parameters=[*list(signature.parameters.values())[:-1], *given])

        @wraps(method)
        def asked(*args: P.args, **keywords: P.kwargs) -> pa.Table:
            shown.bind(*args, **keywords)
            return method(*args, **keywords)

        asked.__signature__ = shown  # type: ignore[attr-defined]  # read by inspect.signature
        return asked

    return named


class Connection:
    """A connection to a stage, for queries. A connection only reads, and several threads may share it.

    Every method returns a `pyarrow.Table` with the columns and types of the command's `--format parquet`: byte totals
    are `decimal128(38, 0)`, counts `int64`, money `decimal128(38, 10)`, times UTC. Convert a table with
    `table.to_pandas()` or `polars.from_arrow(table)`. `Connection.about(table)` states how complete the table's figures
    are.

    A filter takes one value, several values separated by commas, or a list. Times are strings as on the command line
    (`2026-11`, `2026-11-24T13:00:00Z`, `yesterday`), dates, or datetimes with a zone; `to` is exclusive.

    Each method raises:
        InvalidParametersError: The question is invalid; the error lists every problem.
        UnavailableError: A store or the API did not respond; the same call may succeed later.
        OperationFailedError: There is no answer to the question, or AWS or the API denies access; `advice` says what to
            do.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    @_keywords(FILTERS)
    def usage(
        self,
        *,
        from_: Time = None,
        to: Time = None,
        last: str | None = None,
        group_by: Names = None,
        detail: Names = None,
        with_corrections: bool = False,
        now: bool = False,
        tz: str | None = None,
        sort: str | None = None,
        top: int | None = None,
        **filters: Unpack[UsageNames],
    ) -> pa.Table:
        """Exact totals of usage, as in `metering report usage`.

        Args:
            from_: A full hour, included. Default: the beginning of this month.
            to: A full hour, exclusive. Default: the end of the period that `from_` names, or of this hour.
            last: A time span that ends now, such as `7d`; replaces `from_` and `to`.
            group_by: Columns: `account_id`, `usage_type` (the default), `service`, `from`, `to`, `month`, `day`,
                `hour`, `corrects`, `region`.
            detail: Columns that only the lake has: `resource_id`, `direction`, `batch_id`.
            with_corrections: Whether to include later corrections of the range, with a column `corrects`.
            now: Whether to include the usage of the last seconds, which is not rolled up yet. It takes longer.
            tz: Time zone in which days and months begin, such as `Europe/Berlin`.
            sort: A column to sort by; with `:desc`, the largest value comes first.
            top: Maximum number of rows, chosen by bytes; the last row is the sum of all other rows.
            filters: `account`, `service`, `usage_type`, `from_location` and `to_location`: include only usage with one
                of the values given. A location is written as `us-east-1`, `us-east-1/use1-az2` or `internet`.

        Returns:
            The grouping columns, `bytes` and `records`, sorted by the grouping columns.
        """
        return self._answers.usage(
            UsageParameters(
                start=time_text("from", from_), end=time_text("to", to), last=last, group_by=columns(group_by),
                detail=columns(detail), filters=filter_texts(filters), with_corrections=with_corrections, now=now,
                zone=tz, sort=sort, top=top,
            )
        )  # fmt: skip

    @_keywords(COST_FILTERS)
    def cost(
        self,
        *,
        from_: Time = None,
        to: Time = None,
        last: str | None = None,
        month: str | None = None,
        group_by: Names = None,
        with_corrections: bool = False,
        prices: str | None = None,
        exact: bool = False,
        tz: str | None = None,
        sort: str | None = None,
        top: int | None = None,
        **filters: Unpack[CostNames],
    ) -> pa.Table:
        """Costs of usage, as in `metering cost`: rated at query time, over all regions of the stage together.

        Times, `group_by`, `with_corrections`, `tz`, `sort` and filters work as in `usage`. There are two further
        columns, `tier` and `payer`, and a further filter, `payer`; `month` (one billing month) may replace the times.
        `top` ranks by cost. `prices` names a price book, such as `aws-list@3`; the default is the book of the month's
        invoices, or else the book in force. `exact` recomputes a payer's tiers from all usage.

        Returns:
            The grouping columns, `bytes`, `quantity_gb`, `cost_usd`, `unpriced_bytes` and `unrated_bytes`.
        """
        asked = CostParameters(
            start=time_text("from", from_), end=time_text("to", to), last=last, month=month,
            group_by=columns(group_by), filters=filter_texts(filters), with_corrections=with_corrections, zone=tz,
            sort=sort, top=top,
        )  # fmt: skip
        return self._answers.cost(asked, prices=prices, exact=exact)

    @_keywords(WHO_FILTERS)
    def who(
        self,
        *,
        from_: Time = None,
        to: Time = None,
        last: str | None = None,
        group_by: Names = None,
        owners: int | None = None,
        cost: bool = False,
        prices: str | None = None,
        tz: str | None = None,
        top: int | None = None,
        **filters: Unpack[WhoNames],
    ) -> pa.Table:
        """Causes of usage: owners, workloads, destinations and paths, as in `metering who`.

        Times, `tz` and filters work as in `usage`. Bytes of two usage types are never added up: `usage_type` is always
        a column. Without a question, the resources with the most bytes are listed.

        Args:
            from_: A full hour, included. Default: the beginning of this month.
            to: A full hour, exclusive. Default: the end of the period that `from_` names, or of this hour.
            last: A time span that ends now, such as `7d`; replaces `from_` and `to`.
            group_by: Columns: `owner`, `workload` and `destination` (the default), `cause`, `path`, `direction`,
                `resource`, `account`, `usage_type`, `basis`, `reason`, `region`, `hour`, `day`, `month`.
            owners: Version of the book of owners. Default: the newest.
            cost: Whether to add `cost_usd`, the exact share of the cost of each line, and `unpriced_bytes`.
            prices: Price book of the costs, as in `cost`.
            tz: Time zone in which days and months begin, such as `Europe/Berlin`.
            top: Maximum number of rows of each usage type; its other rows become one.
            filters: `resource`, `usage_type`, `path`, `owner`, `workload`, `account` and `destination`.

        Returns:
            The usage type, the grouping columns, the reason of unattributed bytes, `bytes`, and `share` as text.
        """
        return self._answers.who(
            WhoParameters(
                start=time_text("from", from_), end=time_text("to", to), last=last, group_by=columns(group_by),
                filters=filter_texts(filters), zone=tz, top=top, owners=owners, cost=cost,
            ),
            prices=prices,
        )  # fmt: skip

    @_keywords(LINE_FILTERS)
    def trace(
        self,
        account: str,
        *,
        hour: Time = None,
        from_: Time = None,
        to: Time = None,
        last: str | None = None,
        **filters: Unpack[LineNames],
    ) -> pa.Table:
        """The batches that add up to a total in a report, as in `metering trace`.

        The traced report line belongs to one account. The filters are those of `usage`, but each takes only one value;
        `hour` names one full hour and replaces the range.

        Returns:
            A row a batch: `batch_id`, `source_id`, `sequence`, `bytes`, `records`, `first_hour`, `last_hour`, `marker`.
            `about` returns the hours, files and sums. A trace is returned only if its sums are equal.

        Raises:
            SumsDifferError: The report, its rows and their markers have different totals. The error has the totals.
        """
        asked = TraceParameters(
            account=account, filters=cast("dict[str, str | None]", filters), hour=time_text("hour", hour),
            start=time_text("from", from_), end=time_text("to", to), last=last,
        )  # fmt: skip
        table = self._answers.trace(asked)
        told = about(table)
        if not told.get("equal"):
            sums = told.get("sums")
            raise SumsDifferError(sums if isinstance(sums, dict) else {}, table)
        return table

    def query(
        self,
        sql: str,
        *,
        from_: Time = None,
        to: Time = None,
        last: str | None = None,
        tz: str | None = None,
        timeout_s: int = 600,
        with_canary: bool = False,
    ) -> pa.Table:
        """The result of a SQL statement over `transfers`, `usage` and `causes`, as in `metering query`. Not over HTTP.

        Queries see all rows or, if a range is given, the rows that start in the range. The canary's rows are included
        only with `with_canary`.

        Raises:
            QueryError: DuckDB refuses the statement.
            QueryStoppedError: The query ran longer than `timeout_s`.
        """
        return self._answers.query(
            SqlQuestion(
                sql=sql, start=time_text("from", from_), end=time_text("to", to), last=last, zone=tz,
                timeout_s=timeout_s, with_canary=with_canary,
            )
        )  # fmt: skip

    @staticmethod
    def about(table: pa.Table) -> dict[str, answer.Json]:
        """Metadata of an answer: `as_of`, `complete_through`; without the HTTP API, every fact of the JSON answer."""
        return about(table)


def connect(
    *,
    stage: str | None = None,
    region: str | None = None,
    endpoint: str | None = None,
    home: str | None = None,
    url: str | None = None,
    token: str | None = None,
) -> Connection:
    """Connect to a stage: to its stores, with the credentials of the AWS SDK, or to its HTTP API, with a token.

    The first question sends the first request.

    Args:
        stage: Default: `METERING_STAGE`, or `local`, which needs `metering local up`.
        region: One region, or `all`. Default: the region of the environment, or the home region of the deployed stage.
        endpoint: URL of an emulator. Default: `AWS_ENDPOINT_URL`; for stage `local`, the URL of `metering local up`;
            otherwise AWS.
        home: Home region, which has the price books and, for `all`, the list of regions. Default: the home region of
            the deployed stage.
        url: URL of the HTTP API: the stack's output `ApiUrl`, or the link with a token that `metering serve` prints.
        token: Token of the API. Default: `METERING_TOKEN`, or else the token in the URL after `#`.

    Raises:
        OperationFailedError: The arguments contradict each other, or the stage, region, endpoint or URL is invalid.
    """
    if url is None and token is None:
        from metering.client import stores

        place = stores.Place.named(stage=stage, region=region, endpoint=endpoint, home=home, environ=os.environ)
        return Connection(stores.StoreAnswers(place))
    if url is None or any(each is not None for each in (stage, region, endpoint, home)):
        raise OperationFailedError(
            "url and token are one way to connect, and stage, region and endpoint another.",
            'Write metering.connect(url=…, token=…), or metering.connect(stage="prod", region="us-east-1").',
        )
    from metering.client.http import HttpAnswers

    environ = os.environ
    return Connection(
        HttpAnswers.at(url, token or environ.get("METERING_TOKEN"), ca_bundle=environ.get("AWS_CA_BUNDLE"))
    )
