"""Parameters that several resources have, with the words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.api.parameters import Parameter
from metering.reports.query import COST_COLUMNS, DETAIL_COLUMNS, GROUP_COLUMNS
from metering.reports.time_range import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIME = (
    "[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2}))?)?"
    f"|{'|'.join(WORDS)}"
)
_NO_TIME = "is not a time: write it as 2026-11-24T13:00:00Z, 2026-11-24, 2026-11 or one of " + ", ".join(WORDS) + "."
ACCOUNT_PATTERN = "[0-9]{12}"
USAGE_TYPE_PATTERN = "[A-Za-z0-9][A-Za-z0-9:._-]{0,127}"
SERVICE_PATTERN = "[A-Za-z0-9]{1,64}"
LOCATION_PATTERN = "[a-z0-9-]{1,64}(?:/[a-z0-9-]{1,32})?"

FORMATS = ("json", "ndjson", "csv", "parquet")

FROM = Parameter(
    name="from",
    about="Beginning of the range, included: RFC 3339, a date, a month, today, yesterday, this-month or last-month. "
    "Default: this month. In UTC.",
    words=_NO_TIME,
    pattern=_TIME,
    most_chars=25,
    example="2026-11-01",
)
TO = Parameter(
    name="to",
    about="End of the range, not included. Default: the end of `from` if that is a date or month, else the end of this "
    "hour.",
    words=_NO_TIME,
    pattern=_TIME,
    most_chars=25,
    example="2026-11-08",
)
LAST = Parameter(
    name="last",
    about="A span that ends with the hour that runs now, in place of `from` and `to`: 24h, 7d, 2w or 3m.",
    words="is not a span of time: write it as 24h, 7d, 2w or 3m (months).",
    pattern="[0-9]{1,4}[hdwm]",
    most_chars=5,
    example="7d",
)
TZ = Parameter(
    name="tz",
    about="Zone of dates and months, and of the times in the answer. Default: UTC.",
    words="is not a time zone.",
    pattern="[A-Za-z0-9+_/-]{1,64}",
    most_chars=64,
    example="Europe/Berlin",
)
ACCOUNT = Parameter(
    name="account",
    about="Only these accounts, with commas between them.",
    words="is not an account: an account has 12 digits.",
    pattern=ACCOUNT_PATTERN,
    most_chars=12,
    most_values=100,
    example="123456789012",
)
SERVICE = Parameter(
    name="service",
    about="Only these services, by product code, with commas between them.",
    words="is not a service: a service is a product code of 1 to 64 letters and digits, as AmazonEC2.",
    pattern=SERVICE_PATTERN,
    most_chars=64,
    most_values=20,
    example="AmazonEC2",
)
USAGE_TYPE = Parameter(
    name="usage_type",
    about="Only these usage types, with commas between them.",
    words="is not a usage type: it has 1 to 128 of A-Za-z0-9:._- and begins with a letter or digit.",
    pattern=USAGE_TYPE_PATTERN,
    most_values=20,
    example="DataTransfer-Out-Bytes",
)
_LOCATION_WORDS = (
    "is not a location: a location is a region, a region with a zone id (us-east-1/use1-az2), internet, cloudfront or "
    "unknown."
)
FROM_LOCATION = Parameter(
    name="from_location",
    about="Only transfers from these locations, as the column `from` has them, with commas between them.",
    words=_LOCATION_WORDS,
    pattern=LOCATION_PATTERN,
    most_chars=97,
    most_values=20,
    example="us-east-1/use1-az2",
)
TO_LOCATION = Parameter(
    name="to_location",
    about="Only transfers to these locations, as the column `to` has them, with commas between them.",
    words=_LOCATION_WORDS,
    pattern=LOCATION_PATTERN,
    most_chars=97,
    most_values=20,
    example="internet",
)


def columns(name: str, known: Sequence[str], *, about: str, most: int, example: str) -> Parameter:
    """A parameter that names columns."""
    return Parameter(
        name=name,
        about=about,
        words=f"is not one of the columns. The columns are: {', '.join(known)}.",
        pattern="|".join(known),
        most_chars=max(map(len, known)),
        most_values=most,
        example=example,
    )


_GROUPS = "Columns of the answer, with commas between them. Default: usage_type."
GROUP_BY = columns("group_by", GROUP_COLUMNS, about=_GROUPS, most=8, example="day,usage_type")
COST_GROUP_BY = columns("group_by", COST_COLUMNS, about=_GROUPS, most=8, example="account_id,tier")
DETAIL = columns(
    "detail",
    DETAIL_COLUMNS,
    about="Further columns, which only the lake has. Rows are read, hour by hour.",
    most=3,
    example="resource_id",
)
SORT = Parameter(
    name="sort",
    about="Sort by this column; with :desc the largest first. Such an answer has no pages.",
    words="is not a column, or a column with :asc or :desc.",
    pattern=r"[a-z_]{1,32}(?::(?:asc|desc))?",
    most_chars=40,
    example="bytes:desc",
)
TOP = Parameter(
    name="top",
    about="Only the first rows, by bytes unless `sort` says otherwise; the others become one sum.",
    kind="integer",
    maximum=100_000,
    example="10",
)
WITH_CORRECTIONS = Parameter(
    name="with_corrections",
    about="Also rows that were booked later for closed months, told apart by the column `corrects`.",
    kind="flag",
    example="true",
)
NOW = Parameter(
    name="now",
    about="Exact as of now, also of what is not rolled up yet, which is a matter of seconds. It takes longer.",
    kind="flag",
    example="true",
)
FORMAT = Parameter(
    name="format",
    about="Form of the answer; it wins over the header Accept.",
    choices=FORMATS,
    example="csv",
)
LIMIT = Parameter(
    name="limit",
    about="Rows of a page. Without it the whole answer comes at once, or is refused as too large; never a part of it.",
    kind="integer",
    maximum=20_000,
    example="1000",
)
CURSOR = Parameter(
    name="cursor",
    about="Where the next page begins: `next` of the page before, with the same other parameters.",
    words="is not a cursor.",
    pattern="[A-Za-z0-9_-]{1,4096}",
    most_chars=4_096,
)
