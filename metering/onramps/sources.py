"""Log sources: buckets, below prefixes, whose log files are metered without a command."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING

from metering.onramps.bills import BilledAs, Bills

if TYPE_CHECKING:
    from collections.abc import Iterable

# Kinds of `metering.onramps.kinds` whose files a source may bring. A mapped log needs its mapping: a
# person sends it.
SOURCE_KINDS = ("vpc-flow", "s3-access", "cloudfront")
DEFAULT_KINDS = ("vpc-flow",)

ORGANIZATION_WARNING = (
    'accounts = "organization" lets the lines of any file bill every account of the context, and ends with the next '
    'release: take it out, so that only the account in a file\'s name is billed; or write "shared-subnets", or a list'
)
"""What is said of a source that bills the accounts of the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """A prefix of a bucket with log files.

    Attributes:
        name: Its name in commands, figures and alarms.
        bucket: Name of the bucket.
        region: Region of the bucket. The deployment there meters its files.
        prefix: Where its log files lie; empty for the whole bucket.
        kinds: Kinds of logs that are metered, from `SOURCE_KINDS`; files of other kinds are refused.
        accounts: Accounts that its lines may bill, 12 digits each; None for those of the context, or if `billed_as`
            says it.
        billed_as: `named` or `shared-subnets` (`metering.onramps.bills.BilledAs`); empty if `accounts` says it.
        kms_key_arn: Key that its objects are encrypted with; empty if S3's own.
        context_role_arns: Roles of other accounts whose networks belong to the context.
        context_regions: Regions whose networks belong to the context; empty for the bucket's region alone.
    """

    name: str
    bucket: str
    region: str
    prefix: str = ""
    kinds: tuple[str, ...] = DEFAULT_KINDS
    accounts: tuple[str, ...] | None = None
    billed_as: str = ""
    kms_key_arn: str = ""
    context_role_arns: tuple[str, ...] = ()
    context_regions: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """How people call it: `s3://acme-logs/AWSLogs/`."""
        return f"s3://{self.bucket}/{self.prefix}"

    def holds(self, bucket: str, key: str) -> bool:
        """Whether an object lies in it."""
        return bucket == self.bucket and key.startswith(self.prefix)

    @property
    def bills_organization(self) -> bool:
        """Whether its lines may bill every account of the context."""
        return self.accounts is None and not self.billed_as

    def bills(self, organization: Iterable[str]) -> Bills:
        """Whom its lines may bill.

        Args:
            organization: The accounts of the context, asked for only if `bills_organization`.
        """
        if self.billed_as:
            return Bills(billed_as=BilledAs(self.billed_as))
        return Bills.listed(organization if self.accounts is None else self.accounts)


def source_of(sources: Iterable[LogSource], bucket: str, key: str) -> LogSource | None:
    """The source that an object lies in; None if it lies in none. Sources of a stage never overlap."""
    return next((source for source in sources if source.holds(bucket, key)), None)


def encode_sources(sources: Iterable[LogSource]) -> str:
    """Sources as one JSON text, for the environment of a function. What says the same as its default is left out."""
    rows = [
        {name: value for name, value in asdict(source).items() if name not in _DEFAULTS or value != _DEFAULTS[name]}
        for source in sources
    ]
    return json.dumps(rows, sort_keys=True, separators=(",", ":"))


def decode_sources(text: str) -> tuple[LogSource, ...]:
    """Sources from the text of `encode_sources`.

    Raises:
        ValueError: The text is none of `encode_sources`.
    """
    try:
        return tuple(_source(row) for row in json.loads(text))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"no list of log sources: {error}") from error


def _source(row: dict[str, object]) -> LogSource:
    return LogSource(**{name: tuple(each) if isinstance(each, list) else each for name, each in row.items()})  # type: ignore[arg-type]  # of `encode_sources`


_DEFAULTS = {each.name: each.default for each in fields(LogSource) if each.default is not MISSING}
