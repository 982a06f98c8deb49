"""How much one request may cost, counted before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from metering.reports.read_budget import FIRST_YEAR, ReadBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of a request. The numbers are measured or priced in docs/decisions.

    Attributes:
        partitions: Accounts times months of the usage table.
        months: Months of a range.
        open_hours: Hours of open months that are read from the lake.
        json_rows: Rows of an answer in JSON.
        table_rows: Rows of an answer in NDJSON, CSV and Parquet.
        summed_rows: Rows that are summed for an answer, before it is cut into pages.
        page_rows: Rows of a page that a cursor asks for, if `limit` is not named.
        first_year: No range begins before it.
        deadline_s: Seconds until a request is given up.
        answer_bytes: Size of an answer after compression.
        token_rate_per_s: Requests a second of one token, on average.
        token_burst: Requests of one token at once.
        token_reads_per_s: Hours and partitions that one token may have read a second, on average.
        token_reads: As many at once. A request that is larger is answered if the token has read little before.
        large: A request that reads more is large.
        large_of_token: Large requests of one token at once.
        large_of_all: Large requests of all tokens at once.
    """

    partitions: int = 200
    months: int = 13
    open_hours: int = 168
    json_rows: int = 20_000
    table_rows: int = 100_000
    summed_rows: int = 300_000
    page_rows: int = 1_000
    first_year: int = FIRST_YEAR
    deadline_s: float = 25.0
    answer_bytes: int = 5_500_000
    token_rate_per_s: float = 5.0
    token_burst: int = 20
    token_reads_per_s: float = 20.0
    token_reads: int = 1_000
    large: int = 12
    large_of_token: int = 2
    large_of_all: int = 4

    @property
    def budget(self) -> ReadBudget:
        """What the answer to one question may cost to read."""
        return ReadBudget(
            partitions=self.partitions, hours=self.open_hours, months=self.months, first_year=self.first_year
        )
