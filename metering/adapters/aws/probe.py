"""`Probe` and `Account` over the services of a region. Checks an endpoint cannot answer are unknown, never passed."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws.errors import error_code, is_unknown_call, translated
from metering.errors import OperationFailedError
from metering.fleet.regions import Answered, Finding, ListedRegion
from metering.metric_names import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mypy_boto3_account import AccountClient

    from metering.adapters.aws.session import Clients


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
        subscribers: Returns the protocol and the endpoint of each subscriber to the alerts of a region.
    """

    def __init__(
        self,
        clients_of: Callable[[str], Clients],
        *,
        reserved: int,
        api_concurrency: int,
        writes_per_s: int,
        emulated: bool = False,
        subscribers: Callable[[str], Iterable[tuple[str, str]]] = lambda _region: (),
    ) -> None:
        self._clients_of = clients_of
        self._subscribers = subscribers
        self._executions = _EXECUTIONS._replace(needed=_UNRESERVED + reserved)
        self._quotas = (self._executions, TABLE_WRITES._replace(needed=writes_per_s), _STACKS)
        self._api_concurrency = api_concurrency
        self._emulated = emulated

    def preflight(self, region: str, types: Sequence[str]) -> Sequence[Finding]:
        clients = self._clients_of(region)
        return [
            *_template(clients, types),
            *(_UNLISTED if self._emulated else _listed_types(clients, types)),
            *_endpoints(clients, types),
            *_quotas(clients, self._needed(types)),
            *(() if self._emulated else self._permitted(region)),
            Finding(
                check="architecture arm64",
                answered=Answered.UNKNOWN,
                detail="no API says; a deployment that is refused for it is repeated for x86_64",
            ),
        ]

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


_SNS_CALLS = {"lambda": "lambda:InvokeFunction", "sqs": "sqs:SendMessage"}


def _policy_of(clients: Clients, protocol: str, arn: str) -> str:
    """Policy of a queue or a function as JSON; empty if it has none."""
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


def has_account_api(partition: str) -> bool:
    """Whether the SDK's endpoint data has the account API in a partition (`aws`, `aws-us-gov`)."""
    names = botocore.session.get_session().get_available_regions("account", partition, allow_non_regional=True)
    return bool(names)


class AwsAccount:
    """Account of the client's credentials. An emulator's endpoint counts as an account API in any partition."""

    def __init__(self, client: AccountClient, *, custom_endpoint: bool) -> None:
        self._client = client
        self._there = custom_endpoint or has_account_api(client.meta.partition)

    def regions(self) -> Sequence[ListedRegion]:
        if not self._there:
            raise _unlisted(f"Partition {self._client.meta.partition}")
        try:
            with translated("account.ListRegions"):
                pages = self._client.get_paginator("list_regions").paginate(PaginationConfig={"PageSize": _PAGE})
                found = [region for page in pages for region in page.get("Regions", [])]
        except ClientError as error:
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
            raise
        return answer.get("RegionOptStatus")

    def enable(self, region: str) -> None:
        with translated("account.EnableRegion"):
            self._client.enable_region(RegionName=region)


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
