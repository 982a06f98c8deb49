"""Log sources: prefixes of buckets whose log files are metered automatically."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Protocol

from metering.onramps.reasons import Classified, LineReason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.onramps import reading
    from metering.onramps.context import document
    from metering.onramps.context.store import Timeline
    from metering.stores.objects import ObjectInfo


# Accounts that the lines of a log file may bill: the account in the file's name, and other accounts that are trusted.
# Anyone who can put an object below a log source's prefix can name any account in its lines. So a file's name is
# compared with its folder, which bucket policies protect, and the file's lines are compared with the name.

GIVE_ACCOUNT = 'give its account: --accounts ID (of a log source: accounts = ["ID"])'
"""The cure of a log that does not say whose it is, for people."""
# Prefix of the rules that apply to transit gateway traffic.
_TRANSIT = "transit_gateway_"
# `AWSLogs/<account>/`, in an organization's bucket `AWSLogs/<organization>/<account>/`, or in Hive style.
_FOLDER = re.compile(r"(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?(?:aws-account-id=)?([0-9]{12})(?=/)")


class BilledAs(StrEnum):
    """Rule for the accounts that a line may bill. Plans keep it.

    `named`: the file's name. `shared-subnets`: also accounts that the context shows in the subnets of the file's
        account.
    `listed`: a list. `any`: each line bills the account in the line.
    """

    NAMED = "named"
    SHARED_SUBNETS = "shared-subnets"
    LISTED = "listed"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bills:
    """Accounts that lines of files may bill; `accounts` is the list for `listed`."""

    billed_as: BilledAs
    accounts: frozenset[str] = frozenset()

    @staticmethod
    def listed(accounts: Iterable[str]) -> Bills:
        return Bills(billed_as=BilledAs.LISTED, accounts=frozenset(accounts))

    @property
    def only(self) -> str:
        return next(iter(self.accounts)) if len(self.accounts) == 1 else ""

    def as_planned(self, billed_as: str) -> Bills:
        """Accounts as stored in a plan, so that a file delivered again yields the same records.

        `billed_as` is empty in plans before 0.2, when lines were checked only against lists.
        """
        if billed_as in (BilledAs.NAMED, BilledAs.SHARED_SUBNETS):
            return Bills(billed_as=BilledAs(billed_as))
        # The list may have thousands of accounts, so plans do not store it.
        return self if self.billed_as == BilledAs.LISTED and billed_as != BilledAs.ANY else ANY


NAMED = Bills(billed_as=BilledAs.NAMED)
SHARED_SUBNETS = Bills(billed_as=BilledAs.SHARED_SUBNETS)
ANY = Bills(billed_as=BilledAs.ANY)


class Billable:
    """Decides which accounts the lines of one file may bill."""

    def __init__(self, bills: Bills, name: reading.FileName, timeline: Timeline) -> None:
        self._bills = bills
        self._owner = name.account_id
        self._timeline = timeline
        # The key is the context's name, which identifies its content.
        self._beside: dict[str, tuple[frozenset[str], frozenset[str]]] = {}

    def is_other(self, account_id: str) -> bool:
        """Whether an account differs from the account in the file's name; False if the name has no account."""
        return bool(self._owner) and account_id != self._owner

    def refused(self, found: Classified, hour_s: int) -> Refused | None:
        """Refusal of a line that may not bill its account; None if allowed."""
        account_id, bills = found.traffic.account_id, self._bills
        if bills.billed_as == BilledAs.LISTED and account_id not in bills.accounts:
            detail = f"account {account_id} is none of those that this log may bill"
            return Refused(LineReason.ACCOUNT_NOT_ALLOWED, detail)
        if bills.billed_as in (BilledAs.LISTED, BilledAs.ANY) or not self.is_other(account_id):
            return None
        if bills.billed_as == BilledAs.SHARED_SUBNETS:
            inside, attached = self._known(hour_s)
            transit = found.rule.startswith(_TRANSIT)
            if account_id in (attached if transit else inside):
                return None
            where = "at a transit gateway" if transit else "in a subnet"
            detail = f"the context shows account {account_id} nowhere {where} of account {self._owner}"
            return Refused(LineReason.OTHER_ACCOUNT, detail)
        return Refused(LineReason.OTHER_ACCOUNT, f"the line is of account {account_id}, and the file of {self._owner}")

    def _known(self, hour_s: int) -> tuple[frozenset[str], frozenset[str]]:
        """Accounts with interfaces in the subnets of the file's account, and accounts at its transit gateways."""
        context = self._timeline.at(hour_s)
        if context is None:
            return frozenset(), frozenset()
        found = self._beside.get(context.sha256)
        if found is None:
            found = self._beside[context.sha256] = _beside(context, self._owner)
        return found


def _beside(context: document.Context, owner: str) -> tuple[frozenset[str], frozenset[str]]:
    own_vpcs = {vpc.id for vpc in context.vpcs if vpc.account_id == owner}
    subnets = {subnet.id for subnet in context.subnets if subnet.vpc_id in own_vpcs}
    inside = frozenset(each.account_id for each in context.interfaces if each.subnet_id in subnets)
    # A gateway belongs to its owner and to the attached accounts: the policy of either may charge the others.
    own = {each.gateway_id for each in context.attachments if owner in (each.owner_id, each.gateway_owner_id)}
    attached = [each for each in context.attachments if each.gateway_id in own]
    return inside, frozenset(account_id for each in attached for account_id in (each.owner_id, each.gateway_owner_id))


def folder_contradicts(key: str, name: reading.FileName) -> str:
    """Contradiction between the accounts in a file's name and in its folder; empty if the accounts agree.

    Every `AWSLogs/<account>/` in the key is compared, because a bucket policy may apply to any of these folders.
    """
    for account_id in _FOLDER.findall(key) if name.account_id else ():
        if account_id != name.account_id:
            return f"its name is of account {name.account_id}, and it lies below AWSLogs/{account_id}/"
    return ""


# Kinds from `metering.onramps.kinds` that a source may deliver. A mapped log needs its mapping, so only people send it.
SOURCE_KINDS = ("vpc-flow", "s3-access", "cloudfront")
DEFAULT_KINDS = ("vpc-flow",)

ORGANIZATION_WARNING = (
    'accounts = "organization" lets the lines of any file bill every account of the context, and ends with the next '
    'release: take it out, so that only the account in a file\'s name is billed; or write "shared-subnets", or a list'
)
"""What is said of a source that bills the accounts of the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """Prefix of a bucket with log files.

    Attributes:
        prefix: Prefix of the source's log files; empty for the whole bucket.
        kinds: Kinds of logs that are metered; files of other kinds are refused.
        accounts: Accounts that lines may bill, 12 digits each; None for the context's accounts, or if `billed_as`
            applies.
        billed_as: A value of `BilledAs`; empty if `accounts` applies.
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
        return f"s3://{self.bucket}/{self.prefix}"

    def holds(self, bucket: str, key: str) -> bool:
        return bucket == self.bucket and key.startswith(self.prefix)

    @property
    def bills_organization(self) -> bool:
        """Whether lines of this source may bill every account of the context."""
        return self.accounts is None and not self.billed_as

    def bills(self, organization: Iterable[str]) -> Bills:
        """Accounts that its lines may bill; `organization` holds the context's accounts, for `bills_organization`."""
        if self.billed_as:
            return Bills(billed_as=BilledAs(self.billed_as))
        return Bills.listed(organization if self.accounts is None else self.accounts)


def source_of(sources: Iterable[LogSource], bucket: str, key: str) -> LogSource | None:
    """Log source of an object; None if no source contains it. Sources of a stage never overlap."""
    return next((source for source in sources if source.holds(bucket, key)), None)


def encode_sources(sources: Iterable[LogSource]) -> str:
    """Encode sources as one JSON string, for an environment variable of a function. Defaults are left out."""
    rows = [
        {name: value for name, value in asdict(source).items() if name not in _DEFAULTS or value != _DEFAULTS[name]}
        for source in sources
    ]
    return json.dumps(rows, sort_keys=True, separators=(",", ":"))


def decode_sources(text: str) -> tuple[LogSource, ...]:
    """Decode the output of `encode_sources`.

    Raises:
        ValueError: The text is not from `encode_sources`.
    """
    try:
        return tuple(_source(row) for row in json.loads(text))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"no list of log sources: {error}") from error


def _source(row: dict[str, object]) -> LogSource:
    return LogSource(**{name: tuple(each) if isinstance(each, list) else each for name, each in row.items()})  # type: ignore[arg-type]  # of `encode_sources`


_DEFAULTS = {each.name: each.default for each in fields(LogSource) if each.default is not MISSING}


class LogStore(Protocol):
    """Bucket of any account, or folder, with log files; has the read methods of `metering.stores.objects.ObjectStore`.

    A key is the key of the object, or the path below the folder with `/` between its parts.
    """

    @property
    def place(self) -> str:
        """Location of the store for display, without the key: `s3://acme-logs/`, or the folder."""

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        """Open a seekable stream of the object, which the caller closes.

        Raises:
            ObjectMissingError: The object does not exist.
            ObjectChangedError: The object's ETag differs from `if_match`, at the start or during the read.
            ObjectUnreadableError: The object exists, but the store refuses to return it.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Properties of the object, or None if it does not exist."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix` with keys after `after`, in key order."""
