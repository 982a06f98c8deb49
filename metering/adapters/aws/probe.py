"""`Probe` and `Account` over the services of a region. Checks an endpoint cannot answer are unknown, never passed."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import boto3
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws.errors import error_code, is_denied, is_unknown_call, translated
from metering.adapters.aws.networks import network_findings
from metering.adapters.aws.stacks import made_bootstrap
from metering.errors import OperationFailedError
from metering.fleet.regions import Answered, Finding, ListedRegion
from metering.metric_names import NAMESPACE
from metering.operations.doctor.catalogue import BOOTSTRAP_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_account import AccountClient

    from metering.adapters.aws.session import Clients
    from metering.fleet.settings.organisation import Network


class _Call(NamedTuple):
    """A cheap, read-only call that every caller is allowed to make. Any response proves that the endpoint exists."""

    service: str
    operation: str
    arguments: dict[str, object]


_CALLS = (
    _Call("sts", "get_caller_identity", {}),
    _Call("dynamodb", "list_tables", {"Limit": 1}),
    _Call("s3", "list_buckets", {}),
    _Call("sqs", "list_queues", {"MaxResults": 1}),
    _Call("sns", "list_topics", {}),
    _Call("lambda", "list_functions", {"MaxItems": 1}),
    _Call("events", "list_rules", {"Limit": 1}),
    _Call("logs", "describe_log_groups", {"limit": 1}),
    _Call("cloudwatch", "list_metrics", {"Namespace": NAMESPACE}),
    _Call("kms", "list_keys", {"Limit": 1}),
    _Call("ssm", "describe_parameters", {"MaxResults": 1}),
)
_API = "AWS::ApiGatewayV2::"
# The probe calls these APIs only if the stacks would use them.
_OPTIONAL_CALLS = {
    "AWS::Glue::": _Call("glue", "get_databases", {"MaxResults": 1}),
    "AWS::Athena::": _Call("athena", "list_work_groups", {"MaxResults": 1}),
    _API: _Call("apigatewayv2", "get_apis", {"MaxResults": "1"}),
}


class _Quota(NamedTuple):
    """Quota that the service depends on (codes of Service Quotas)."""

    name: str
    service: str
    code: str
    needed: int


# Lambda keeps 100 units of concurrency unreserved (Lambda developer guide): a smaller quota allows no reservation.
_UNRESERVED = 100
_EXECUTIONS = _Quota("Lambda concurrent executions", "lambda", "L-B99A9384", _UNRESERVED)
# Of all stacks of a home region with an API, log sources and a project.
ROLES = 16
_STACKS = _Quota("CloudFormation stacks", "cloudformation", "L-0485CB21", 10)
# Quota of one on-demand table. `L-34F8CCC8` limits the account's provisioned tables, which are not used here.
TABLE_WRITES = _Quota("DynamoDB write units a table", "dynamodb", "L-AB614373", 4_000)
_UNLISTED = (
    Finding(check="list of types", answered=Answered.UNKNOWN, detail="that of an emulator is not all that it deploys"),
)
_TYPE_NAME = re.compile(r"[A-Z][A-Za-z0-9]+::[A-Za-z0-9]+::[A-Za-z0-9]+")
# A HEAD response has only a status, and a service rejects an emulator's credentials with this code.
_NO_SUCH_PLACE = frozenset({"404", "UnrecognizedClientException"})


class RegionProbe:
    """Probe of the regions of one account.

    Args:
        reserved: Concurrent executions that the stage reserves for its jobs.
        api_concurrency: Concurrent executions that the stage reserves for its API.
        writes_per_s: Write units a second that the stage's busiest table needs at its peak.
        emulated: Whether the regions are an emulator's. LocalStack lists a third of the types that it deploys.
        qualifier: Of the CDK's bootstrap.
        held: Returns how many executions the deployed functions of a region reserve already.
        subscribers: Returns the protocol and the endpoint of each subscriber to the alerts of a region.
        networks: Returns the network that the functions of a region run in; None outside of networks.
    """

    def __init__(
        self,
        clients_of: Callable[[str], Clients],
        *,
        reserved: int,
        api_concurrency: int,
        writes_per_s: int,
        emulated: bool = False,
        qualifier: str = "",
        held: Callable[[str], int] = lambda _region: 0,
        subscribers: Callable[[str], Iterable[tuple[str, str]]] = lambda _region: (),
        networks: Callable[[str], Network | None] = lambda _region: None,
    ) -> None:
        self._clients_of = clients_of
        self._qualifier = qualifier
        self._reserved = reserved
        self._held = held
        self._subscribers = subscribers
        self._networks = networks
        self._executions = _EXECUTIONS._replace(needed=_UNRESERVED + reserved)
        self._quotas = (self._executions, TABLE_WRITES._replace(needed=writes_per_s), _STACKS)
        self._api_concurrency = api_concurrency
        self._emulated = emulated

    def preflight(
        self, region: str, types: Sequence[str], called: Mapping[str, Sequence[str]] | None = None
    ) -> Sequence[Finding]:
        clients = self._clients_of(region)
        network = None if self._emulated else self._networks(region)
        return [
            *_template(clients, types),
            *(_UNLISTED if self._emulated else _listed_types(clients, types)),
            *_endpoints(clients, types),
            *_quotas(clients, self._needed(types)),
            *(() if self._emulated else self._of_account(clients, region, types)),
            *(network_findings(clients, network, called or {}) if network is not None else ()),
            Finding(
                check="architecture arm64",
                answered=Answered.UNKNOWN,
                detail="no API says; a deployment that is refused for it is repeated for x86_64",
            ),
        ]

    def _of_account(self, clients: Clients, region: str, types: Sequence[str]) -> Iterator[Finding]:
        """Check what an account has made, used up or permitted; an emulator has no such limits."""
        held = self._held(region)
        yield _bootstrap(clients, self._qualifier)
        yield _unreserved(clients, "", self._reserved - held)
        if any(name.startswith(_API) for name in types):
            yield _unreserved(clients, " with the API", self._reserved + self._api_concurrency - held)
        yield _roles(clients, 0 if held else ROLES)
        yield from self._permitted(region)

    def _permitted(self, region: str) -> Iterator[Finding]:
        """Check that SNS may call each queue and each function that gets alerts; the templates permit those here."""
        chosen = [each for each in self._subscribers(region) if each[0] in _SNS_CALLS]
        here = self._clients_of(region).sts.get_caller_identity()["Account"] if chosen else ""
        for protocol, arn in chosen:
            _, _, _, place, account, _ = arn.split(":", 5)
            if protocol == "lambda" and (place, account) == (region, here):
                continue
            action, needed = _SNS_CALLS[protocol], f"its policy must let sns.amazonaws.com {_SNS_CALLS[protocol]}"
            try:
                permitted = _sns_may(action, _policy_of(self._clients_of(place), protocol, arn))
            except (ClientError, BotoCoreError) as error:
                detail = f"{needed}; it cannot be read: {_first_line(error)}"
                yield Finding(check=f"subscriber {arn}", answered=Answered.UNKNOWN, detail=detail)
                continue
            answered = Answered.PASSED if permitted else Answered.FAILED
            detail = "" if permitted else f"{needed}, if aws:SourceAccount is {here}"
            yield Finding(check=f"subscriber {arn}", answered=answered, detail=detail)

    def _needed(self, types: Sequence[str]) -> Sequence[_Quota]:
        """Quotas that a deployment needs; the API's quota is checked separately, as the rest works without the API."""
        if not any(name.startswith(_API) for name in types):
            return self._quotas
        needed = self._executions.needed + self._api_concurrency
        with_api = _EXECUTIONS._replace(name=f"{_EXECUTIONS.name} with the API", needed=needed)
        return (*self._quotas, with_api)


def _unreserved(clients: Clients, part: str, more: int) -> Finding:
    """Whether `more` executions can be reserved. Service Quotas tells neither a new account's limit nor its use."""
    check, needed = f"unreserved Lambda executions{part}", _UNRESERVED + max(0, more)
    try:
        free = clients.lambda_.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    except (ClientError, BotoCoreError, KeyError) as error:
        return Finding(check=check, answered=Answered.UNKNOWN, detail=_first_line(error))
    answered = Answered.PASSED if free >= needed else Answered.FAILED
    return Finding(check=check, answered=answered, detail=f"{free}, needed {needed}")


def _roles(clients: Clients, more: int) -> Finding:
    """Whether the account can have `more` roles: its quota holds for all regions and everything in it."""
    try:
        found = clients.iam.get_account_summary()["SummaryMap"]
        free = found["RolesQuota"] - found["Roles"]
    except (ClientError, BotoCoreError, KeyError) as error:
        return Finding(check="quota IAM roles", answered=Answered.UNKNOWN, detail=_first_line(error))
    answered = Answered.PASSED if free >= more else Answered.FAILED
    return Finding(check="quota IAM roles", answered=answered, detail=f"{free} left, needed {more}")


def bootstrap_version(clients: Clients, qualifier: str) -> int | None:
    """Version of the CDK's bootstrap in a region: 0 without a bootstrap, None without permission to read it.

    Raises:
        UnavailableError: The region gives no answer.
    """
    try:
        with translated("ssm.GetParameter"):
            return made_bootstrap(clients, qualifier)
    except ClientError as error:
        if not is_denied(error):
            raise
        return None


def _bootstrap(clients: Clients, qualifier: str) -> Finding:
    found, check = bootstrap_version(clients, qualifier), f"bootstrap {qualifier}"
    if found is None:
        return Finding(check=check, answered=Answered.UNKNOWN, detail="its version may not be read")
    answered = Answered.PASSED if found >= BOOTSTRAP_VERSION else Answered.FAILED
    return Finding(check=check, answered=answered, detail=f"version {found}, needed {BOOTSTRAP_VERSION}")


_SNS_CALLS = {"lambda": "lambda:InvokeFunction", "sqs": "sqs:SendMessage"}


def _policy_of(clients: Clients, protocol: str, arn: str) -> str:
    """Policy of a queue or a function as JSON; empty without a policy."""
    if protocol == "lambda":
        try:
            return clients.lambda_.get_policy(FunctionName=arn)["Policy"]
        except clients.lambda_.exceptions.ResourceNotFoundException:
            return ""
    account, name = arn.split(":", 5)[4:]
    url = clients.sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
    found = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    return found.get("Attributes", {}).get("Policy", "")


def _sns_may(action: str, policy: str) -> bool:
    """Whether any statement permits SNS the action; its conditions and other statements may narrow that."""
    for statement in _listed(json.loads(policy or "{}").get("Statement", [])):
        who = statement.get("Principal", {})
        who = [who] if isinstance(who, str) else [each for listed in who.values() for each in _listed(listed)]
        actions = [str(each).lower() for each in _listed(statement.get("Action", []))]
        if (
            statement.get("Effect") == "Allow"
            and not {"*", "sns.amazonaws.com"}.isdisjoint(who)
            and any(fnmatchcase(action.lower(), each) for each in actions)
        ):
            return True
    return False


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _template(clients: Clients, types: Sequence[str]) -> Iterator[Finding]:
    """Validate a template with one resource of each type. The error of ValidateTemplate names all unknown types."""
    skeleton = {"Resources": {f"R{n}": {"Type": name} for n, name in enumerate(types)}}
    unknown: set[str] = set()
    try:
        clients.cloudformation.validate_template(TemplateBody=json.dumps(skeleton))
    except ClientError as error:
        unknown = set(_TYPE_NAME.findall(str(error))) & set(types)
        if not unknown:
            answered = Answered.UNKNOWN if _has_no_answer(error) else Answered.FAILED
            yield Finding(check="templates", answered=answered, detail=str(error))
            return
    except BotoCoreError as error:
        yield Finding(check="templates", answered=Answered.UNKNOWN, detail=str(error))
        return
    for name in types:
        missing = name in unknown
        yield Finding(
            check=f"type {name}",
            answered=Answered.FAILED if missing else Answered.PASSED,
            detail="CloudFormation does not know it" if missing else "",
        )


def _listed_types(clients: Clients, types: Sequence[str]) -> Iterator[Finding]:
    client = clients.cloudformation
    try:
        pages = client.get_paginator("list_types").paginate(
            Visibility="PUBLIC", Type="RESOURCE", Filters={"Category": "AWS_TYPES"}
        )
        known = {summary.get("TypeName", "") for page in pages for summary in page.get("TypeSummaries", [])}
    except (ClientError, BotoCoreError) as error:
        yield Finding(check="list of types", answered=Answered.UNKNOWN, detail=_first_line(error))
        return
    if not known:
        yield Finding(check="list of types", answered=Answered.UNKNOWN, detail="it is empty")
        return
    for name in sorted(set(types) - known):
        yield Finding(check=f"type {name}", answered=Answered.FAILED, detail="not among the region's public types")
    yield Finding(check="list of types", answered=Answered.PASSED, detail=f"{len(known)} types")


def _endpoints(clients: Clients, types: Sequence[str]) -> Iterator[Finding]:
    optional = [call for prefix, call in _OPTIONAL_CALLS.items() if any(name.startswith(prefix) for name in types)]
    for call in (*_CALLS, *optional):
        check = f"endpoint {call.service}"
        try:
            client = clients.client(call.service)
            cast("Callable[..., object]", getattr(client, call.operation))(**call.arguments)
        except ClientError as error:
            if _has_no_answer(error):
                yield Finding(check=check, answered=Answered.FAILED, detail=_first_line(error))
                continue
            # An access-denied error also proves that the endpoint exists.
        except BotoCoreError as error:
            yield Finding(check=check, answered=Answered.FAILED, detail=_first_line(error))
            continue
        yield Finding(check=check, answered=Answered.PASSED)


def _quotas(clients: Clients, needed: Sequence[_Quota]) -> Iterator[Finding]:
    for quota in needed:
        check = f"quota {quota.name}"
        try:
            answer = clients.service_quotas.get_service_quota(ServiceCode=quota.service, QuotaCode=quota.code)
            value = answer["Quota"]["Value"]
        except (ClientError, BotoCoreError, KeyError) as error:
            yield Finding(check=check, answered=Answered.UNKNOWN, detail=_first_line(error))
            continue
        enough = value >= quota.needed
        yield Finding(
            check=check,
            answered=Answered.PASSED if enough else Answered.FAILED,
            detail=f"{value:.0f}, needed {quota.needed}",
        )


def _has_no_answer(error: ClientError) -> bool:
    return error_code(error) in _NO_SUCH_PLACE or is_unknown_call(error)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


# Implements `Account` with the account API, in partitions that have it.
#
# GovCloud, the isolated partitions and the European sovereign cloud have no account API. For those, the SDK constructs
# a host name that does not answer, so the adapter first consults the SDK's endpoint data.


# ListRegions returns at most 50 regions per page (account API reference).
_PAGE = 50
_UNKNOWN_REGION = frozenset({"ValidationException", "ResourceNotFoundException", "NotFoundException"})
_OPTED_IN = "ENABLED"
# Nobody may say whether a region that answers was opted in to.
_ANSWERING = "ENABLED_BY_DEFAULT"


def has_account_api(partition: str) -> bool:
    """Whether the SDK's endpoint data has the account API in a partition (`aws`, `aws-us-gov`)."""
    names = botocore.session.get_session().get_available_regions("account", partition, allow_non_regional=True)
    return bool(names)


class AwsAccount:
    """Account of the client's credentials. An emulator's endpoint counts as an account API in any partition.

    Organisations often deny `account:*`. Then a region that answers these credentials is enabled, by whatever means.

    Args:
        client: Of the account API.
        custom_endpoint: Whether the endpoint is an emulator's.
        answers: Whether STS of a region knows the credentials, which needs the region to be enabled.
    """

    def __init__(self, client: AccountClient, *, custom_endpoint: bool, answers: Callable[[str], bool]) -> None:
        self._client = client
        self._there = custom_endpoint or has_account_api(client.meta.partition)
        self._answers = answers

    def regions(self) -> Sequence[ListedRegion]:
        if not self._there:
            raise _unlisted(f"Partition {self._client.meta.partition}")
        try:
            with translated("account.ListRegions"):
                pages = self._client.get_paginator("list_regions").paginate(PaginationConfig={"PageSize": _PAGE})
                found = [region for page in pages for region in page.get("Regions", [])]
        except ClientError as error:
            if is_denied(error) and (known := self._answering()):
                return known
            if not is_unknown_call(error):
                raise
            raise _unlisted("This endpoint") from error
        return [
            ListedRegion(name=region["RegionName"], opt_status=region["RegionOptStatus"])
            for region in found
            if "RegionName" in region and "RegionOptStatus" in region
        ]

    def opt_status(self, region: str) -> str | None:
        if not self._there:
            return None
        try:
            with translated("account.GetRegionOptStatus"):
                answer = self._client.get_region_opt_status(RegionName=region)
        except ClientError as error:
            if error_code(error) in _UNKNOWN_REGION:
                return None
            if is_unknown_call(error):
                # An emulator has no opt-in regions, so it serves every region.
                return _OPTED_IN
            if not is_denied(error):
                raise
            if self._answers(region):
                return _ANSWERING
            raise OperationFailedError(
                f"{region} does not answer these credentials, and they may not ask whether the account has enabled it "
                "(account:GetRegionOptStatus).",
                f"Let whoever may enable regions do that: aws account enable-region --region-name {region}",
            ) from error
        return answer.get("RegionOptStatus")

    def enable(self, region: str) -> None:
        try:
            with translated("account.EnableRegion"):
                self._client.enable_region(RegionName=region)
        except ClientError as error:
            if not is_denied(error):
                raise
            raise OperationFailedError(
                f"These credentials may not enable {region} (account:EnableRegion).",
                f"Let whoever may enable regions do that: aws account enable-region --region-name {region}",
            ) from error

    def _answering(self) -> list[ListedRegion]:
        """Those regions of the SDK's data that answer."""
        session = boto3.session.Session()
        names = session.get_available_regions("cloudformation", partition_name=self._client.meta.partition)
        return [ListedRegion(name=name, opt_status=_ANSWERING) for name in names if self._answers(name)]


def answers(clients: Clients) -> bool:
    """Whether STS of the clients' region knows their credentials."""
    try:
        clients.sts.get_caller_identity()
    except (ClientError, BotoCoreError):
        return False
    return True


def _unlisted(what: str) -> OperationFailedError:
    return OperationFailedError(
        f"{what} has no account API, so its regions cannot be listed.",
        "Name each: `metering region add <region>` builds one that is not listed.",
    )


class _HttpApis(Protocol):
    def get_apis(self, *, MaxResults: str) -> object: ...  # noqa: N803 - as the SDK spells it


def has_http_apis(clients: Clients) -> bool:
    """Whether the emulator at the clients' endpoint has HTTP APIs. LocalStack's open-source edition lacks HTTP APIs.

    Raises:
        UnavailableError: It gives no answer.
    """
    try:
        with translated("apigatewayv2.GetApis"):
            cast("_HttpApis", clients.client("apigatewayv2")).get_apis(MaxResults="1")
    except ClientError as error:
        if is_unknown_call(error):
            return False
        raise
    return True
