"""Log sources as a setting: `[[stage.NAME.log_sources]]`, checked one by one and together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from metering.billing.bill_export import BillExport, encode_exports
from metering.errors import OperationFailedError
from metering.fleet.settings import bases
from metering.fleet.settings.words import InWords, shown
from metering.onramps import sources
from metering.onramps.bill import tolerance_of
from metering.onramps.sources import DEFAULT_KINDS, SOURCE_KINDS
from metering.operations.access import MAX_ACCOUNTS
from metering.operations.alarms import Severity

NAMED: Final = "named"
SHARED_SUBNETS: Final = "shared-subnets"
ORGANIZATION: Final = "organization"
_WORDS = (NAMED, SHARED_SUBNETS, ORGANIZATION)

_ACCOUNT = r"^[0-9]{12}$"
_REGION = r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$"
_NAME = r"^[a-z][a-z0-9-]{0,31}$"
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_UUID = r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$"
_KEY_ARN = r"^(arn:[a-z0-9-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+)?$"
_ROLE_ARN = re.compile(r"arn:[a-z0-9-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+")
# An IAM policy treats these as wildcards or variables, so a grant on a prefix with them would match other objects.
_WILD = re.compile(r"[*?$]|[^\x20-\x7e]")
_LONGEST_PREFIX = 512
# A function's environment may have 4 KB (Lambda quotas), and other variables use 1.5 KB of it.
MOST_BYTES = 2_000


def _listed(value: object) -> object:
    return (value,) if value in _WORDS else value


def _told(accounts: tuple[str, ...]) -> str | tuple[str, ...]:
    return accounts[0] if accounts[0] in _WORDS else accounts


def _checked_accounts(accounts: tuple[str, ...]) -> tuple[str, ...]:
    if len(accounts) == 1 and accounts[0] in _WORDS:
        return accounts
    if wrong := [account for account in accounts if not re.match(_ACCOUNT, account)]:
        raise ValueError(f"{', '.join(map(shown, wrong))}: an account has 12 digits, as text")
    if not accounts:
        raise ValueError(f"without an account nothing could be metered; list some, or write {shown(NAMED)}")
    return accounts


def _checked_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in SOURCE_KINDS:
            near = bases.nearest(kind, SOURCE_KINDS)
            raise ValueError(
                f"{shown(kind)} is no kind of log that a source can bring"
                + (f": did you mean {near}?" if near else f"; there are {', '.join(SOURCE_KINDS)}")
            )
    if not kinds:
        raise ValueError(f"it names no kind of log; there are {', '.join(SOURCE_KINDS)}")
    return kinds


def _checked_prefix(prefix: str) -> str:
    if prefix.startswith("/"):
        raise ValueError("a key of S3 begins without a slash; take it away")
    if found := _WILD.search(prefix):
        raise ValueError(f"{shown(found.group())} is not possible in it: a policy would take it for more than itself")
    return prefix


def _checked_roles(arns: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [arn for arn in arns if not _ROLE_ARN.fullmatch(arn)]:
        raise ValueError(f"{', '.join(map(shown, wrong))}: not the ARN of a role, arn:aws:iam::123456789012:role/NAME")
    return arns


def _checked_regions(names: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [name for name in names if not re.match(_REGION, name)]:
        raise ValueError(f"{', '.join(map(shown, wrong))}: not the name of a region such as us-west-2")
    return names


_ACCOUNTS_SCHEMA: dict[str, Any] = {
    "anyOf": [{"enum": list(_WORDS)}, {"type": "array", "items": {"type": "string", "pattern": _ACCOUNT}}]
}
_KINDS_SCHEMA: dict[str, Any] = {"type": "array", "items": {"enum": list(SOURCE_KINDS)}}


class LogSource(BaseModel):
    """A bucket whose logs are metered automatically."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, InWords("a letter, then up to 31 of a-z, 0-9 and dashes")] = Field(
        pattern=_NAME, description="Its name in commands, figures and alarms."
    )
    bucket: Annotated[str, InWords("the name of a bucket")] = Field(pattern=_BUCKET, description="Name of the bucket.")
    region: Annotated[str, InWords("a region such as us-west-2")] = Field(
        pattern=_REGION, description="Region of the bucket; the deployment there meters it."
    )
    prefix: Annotated[str, AfterValidator(_checked_prefix)] = Field(
        "", max_length=_LONGEST_PREFIX, description="Where its log files lie; empty: the whole bucket."
    )
    kinds: Annotated[tuple[str, ...], AfterValidator(_checked_kinds), WithJsonSchema(_KINDS_SCHEMA)] = Field(
        DEFAULT_KINDS, description=f"Kinds of logs that are metered: {', '.join(SOURCE_KINDS)}."
    )
    accounts: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed),
        AfterValidator(_checked_accounts),
        PlainSerializer(_told),
        WithJsonSchema(_ACCOUNTS_SCHEMA),
        InWords("a list of account ids, named or shared-subnets"),
    ] = Field(
        (NAMED,),
        description="Accounts that its lines may bill. named: that of the file's name; shared-subnets: also those in "
        "its subnets; organization (ends with the next release): those of the context.",
    )
    kms_key_arn: Annotated[str, InWords("the ARN of a key, and not of an alias")] = Field(
        "", pattern=_KEY_ARN, description="Key that its objects are encrypted with; empty: S3's own."
    )
    context_role_arns: Annotated[tuple[str, ...], AfterValidator(_checked_roles)] = Field(
        (), description="Roles in other accounts, to see their networks."
    )
    context_regions: Annotated[tuple[str, ...], AfterValidator(_checked_regions)] = Field(
        (), description="Regions whose networks the logs show; empty: that of the bucket."
    )

    @model_validator(mode="after")
    def _key_in_region(self) -> LogSource:
        if self.kms_key_arn and self.kms_key_arn.split(":")[3] != self.region:
            raise ValueError(f"kms_key_arn is a key of another region than the bucket, which is in {self.region}")
        return self

    def plain(self) -> sources.LogSource:
        """Source of the on-ramps."""
        values = self.model_dump()
        word = self.accounts[0] if self.accounts[0] in _WORDS else ""
        values["accounts"] = None if word else self.accounts
        return sources.LogSource(**values, billed_as="" if word == ORGANIZATION else word)


def problems_together(found: Sequence[LogSource], *, stage: str) -> Iterator[str]:
    """Yield problems that concern several log sources of a stage."""
    names = [source.name for source in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"log_sources has the name {name} twice: name each source otherwise"
    for source in found:
        # CloudFormation prefixes a bucket's name with its stack's name.
        if source.bucket.startswith(f"metering-{stage}-data-"):
            yield f"log source {source.name} is in the data bucket of the stage itself, whose objects are no logs"
    yield from _too_many(found)
    for one, other in combinations(found, 2):
        yield from _beside(one, other)


def problems_of_exports(found: Sequence[BillExportSetting]) -> Iterator[str]:
    """Yield problems that concern several exports of AWS's own bill."""
    places = [(each.bucket, each.prefix.rstrip("/")) for each in found]
    for bucket, prefix in sorted({place for place in places if places.count(place) > 1}):
        yield f"bill_exports has s3://{bucket}/{prefix} twice: an export is compared once"
    size = len(encode_exports(each.plain() for each in found))
    if size > MOST_BYTES:
        yield (
            f"bill_exports have {size:,} bytes as the biller gets them, and there is room for {MOST_BYTES:,}: leave "
            "accounts out, which compares those of the bill that are metered"
        )


def _too_many(found: Sequence[LogSource]) -> Iterator[str]:
    for region in sorted({source.region for source in found}):
        size = len(sources.encode_sources(source.plain() for source in found if source.region == region))
        if size > MOST_BYTES:
            yield (
                f"the log sources of {region} have {size:,} bytes as its functions get them, and there is room for "
                f"{MOST_BYTES:,}: make one of several prefixes, or write shared-subnets for a long list of accounts"
            )


def _beside(one: LogSource, other: LogSource) -> Iterator[str]:
    if one.bucket != other.bucket:
        return
    if one.region != other.region:
        yield f"log sources {one.name} and {other.name} say two regions of one bucket"
    if one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix):
        yield (
            f"log sources {one.name} and {other.name} overlap: s3://{one.bucket}/{one.prefix} and "
            f"s3://{other.bucket}/{other.prefix}; make them one source with all kinds"
        )


def _checked_tolerance(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        found = tolerance_of(texts)
    except OperationFailedError as error:
        raise ValueError(f"{error.reason} {error.advice}") from error
    if found is None:
        raise ValueError('without one, each rounding is a difference; write ["0"] for none')
    return texts


class BillExportSetting(BaseModel):
    """An export of AWS's own bill, which the home region's biller compares with what was metered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: Annotated[str, InWords("the name of a bucket")] = Field(pattern=_BUCKET, description="Name of the bucket.")
    region: Annotated[str, InWords("a region such as us-west-2")] = Field(
        pattern=_REGION, description="Region of the bucket."
    )
    prefix: Annotated[str, AfterValidator(_checked_prefix)] = Field(
        min_length=1, max_length=_LONGEST_PREFIX, description="Prefix of the export with its name: `exports/metering`."
    )
    format: Literal["cur2", "focus"] = Field(description="What the export is: `cur2` (CUR 2.0) or `focus`.")
    accounts: tuple[Annotated[str, Field(pattern=_ACCOUNT)], ...] = Field(
        (), description="Accounts that are compared; empty: those of the bill that are metered."
    )
    tolerance: Annotated[tuple[str, ...], AfterValidator(_checked_tolerance)] = Field(
        ("1%", "10MB"), description="A day of a usage type may differ by either of these."
    )
    kms_key_arn: Annotated[str, InWords("the ARN of a key, and not of an alias")] = Field(
        "", pattern=_KEY_ARN, description="Key of the bucket's objects, if it is not S3's own."
    )

    def plain(self) -> BillExport:
        """The export as the biller works with it."""
        return BillExport(**self.model_dump(exclude={"kms_key_arn"}))


class Subscription(BaseModel):
    """A subscriber to the alerts of one severity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity = Field(description="Alerts that it gets.")
    protocol: Literal["email", "https", "sqs", "lambda"] = Field(description="How they are sent.")
    endpoint: str = Field(min_length=1, description="Address: a mailbox, a URL, or an ARN.")

    @model_validator(mode="after")
    def _fits_its_protocol(self) -> Subscription:
        if problem := _address(self.protocol, self.endpoint):
            raise ValueError(problem)
        return self


class ApiGroup(BaseModel):
    """Rights that the members of a group of the identity provider have at the HTTP API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Annotated[str, InWords("the name of a group as the claim has it")] = Field(
        pattern=r"^[ -~]{1,128}$", description="Its name in the claim."
    )
    role: Literal["customer", "analyst", "operator"] = Field(description="Role, as a token has one.")
    accounts: tuple[Annotated[str, Field(pattern=_ACCOUNT)], ...] | None = Field(
        None,
        description="Accounts that it sees, at most 100; without it all, which a customer may not have.",
    )
    costs: bool = Field(
        default=False, description="Also costs whose tiers are shared with accounts that it cannot see."
    )

    @model_validator(mode="after")
    def _has_accounts(self) -> ApiGroup:
        if self.accounts == () or (self.role == "customer" and self.accounts is None):
            raise ValueError("it names no account: list the accounts of a customer; leave accounts out for all")
        if len(self.accounts or ()) > MAX_ACCOUNTS:
            raise ValueError(f"it names {len(self.accounts or ())} accounts: at most {MAX_ACCOUNTS}, as a token")
        return self


class ChatChannel(BaseModel):
    """A chat channel that gets alerts by AWS's own service, Amazon Q Developer in chat applications.

    A person authorizes the workspace or team once, in that service's console; CloudFormation cannot.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, InWords("up to 60 letters, digits, dashes and underscores")] = Field(
        pattern=r"^[A-Za-z0-9_-]{1,60}$", description="Its name in AWS, unique in the account."
    )
    region: Annotated[str, InWords("a region such as us-west-2")] = Field(
        pattern=_REGION, description="Region whose alerts it gets; the deployment there makes it."
    )
    severity: Literal["page", "ticket", "all"] = Field("all", description="Alerts that it gets.")
    kind: Literal["slack", "teams"] = Field(description="The chat application.")
    channel_id: Annotated[str, InWords("the id of a channel")] = Field(
        pattern=r"^[A-Za-z0-9%_.:@=~-]{5,256}$", description="Id of the channel, not its name; of Teams as in its link."
    )
    workspace_id: Annotated[str, InWords("the id of a Slack workspace")] = Field(
        "", pattern=r"^([0-9A-Z]{1,255})?$", description="Of Slack: the id of the workspace."
    )
    team_id: Annotated[str, InWords("the id of a team")] = Field(
        "", pattern=_UUID, description="Of Teams: the id of the team."
    )
    tenant_id: Annotated[str, InWords("the id of a tenant")] = Field(
        "", pattern=_UUID, description="Of Teams: the id of the tenant."
    )

    @model_validator(mode="after")
    def _has_its_ids(self) -> ChatChannel:
        has = bool(self.workspace_id), bool(self.team_id), bool(self.tenant_id)
        if self.kind == "slack" and has != (True, False, False):
            raise ValueError("a channel of Slack needs workspace_id, and neither team_id nor tenant_id")
        if self.kind == "teams" and has != (False, True, True):
            raise ValueError("a channel of Teams needs team_id and tenant_id, and no workspace_id")
        return self


def _address(protocol: str, endpoint: str) -> str | None:
    if protocol == "email":
        return None if "@" in endpoint[1:-1] else f"{shown(endpoint)} is not a mailbox"
    if protocol != "https":
        right = re.match(rf"arn:[a-z0-9-]+:{protocol}:[a-z0-9-]+:[0-9]{{12}}:.", endpoint)
        return None if right else f"{shown(endpoint)} is not the ARN of a {protocol} subscriber"
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return f"{shown(endpoint)} is not a URL"
    if parts.scheme != "https" or not parts.hostname:
        return f"{shown(endpoint)} is not a URL that begins with https://"
    if parts.username is not None or parts.password is not None:
        return "the URL has a password in it, and everyone who may read the settings would see it"
    return None
