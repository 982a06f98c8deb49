"""SDK clients of one region, created at first use with explicit timeouts and retries.

The environment names the endpoint: `AWS_ENDPOINT_URL`, or `LOCALSTACK_HOST` for the session of localstack-client.
"""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import boto3
import botocore
from botocore.config import Config

from metering.adapters.aws.errors import translated
from metering.errors import MeteringError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_account import AccountClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_codebuild import CodeBuildClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_service_quotas import ServiceQuotasClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient


_DEFAULT_REGION = "us-east-1"
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "localhost.localstack.cloud"})
# As in localstack-client.
_LOCALSTACK_PORT = 4566
_CONNECT_TIMEOUT_S = 3
# Longer than SQS's longest long poll (20 s).
_READ_TIMEOUT_S = 25
# Long enough for a 100-item transaction or a 16 MiB part, and short enough for several attempts in a 60 s invocation.
# An invoked function may need more time to respond.
_READ_TIMEOUTS_S = {"dynamodb": 8, "s3": 10, "lambda": 120}
_EMULATED_TIMEOUTS_S = {"lambda": 120}
# User agent of clients that make many calls.
_USER_AGENT = f"Botocore/{botocore.__version__} Python/{platform.python_version()}"
# Total attempts, including the first (botocore's `total_max_attempts`).
_ATTEMPTS = 4
CONNECTIONS = 32


class _Session(Protocol):
    def client(self, service_name: str, **kwargs: object) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Access to a region.

    Attributes:
        endpoint_url: Endpoint of an emulator; None for AWS itself.
        ca_bundle: Path of the certificates to trust; None for the SDK's own.
        localstack_host: Host for the session of localstack-client; None if the SDK makes the clients.
        localstack_ssl: Whether localstack-client's session uses https, according to the variable `USE_SSL`.
        access_key: Key id and secret; None if the SDK finds the credentials.
        session_token: Session token of temporary credentials, in addition to `access_key`.
    """

    region: str
    endpoint_url: str | None = None
    ca_bundle: str | None = None
    localstack_host: str | None = None
    localstack_ssl: bool = False
    access_key: tuple[str, str] | None = None
    session_token: str | None = field(default=None, repr=False)

    @property
    def custom_endpoint(self) -> bool:
        """Whether the endpoint differs from the SDK's default."""
        return self.custom_endpoint_url is not None

    @property
    def custom_endpoint_url(self) -> str | None:
        """URL of the endpoint that replaces AWS; None for AWS itself."""
        if self.localstack_host is None:
            return self.endpoint_url
        scheme = "https" if self.localstack_ssl else "http"
        return f"{scheme}://{self.localstack_host}" + ("" if ":" in self.localstack_host else f":{_LOCALSTACK_PORT}")

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], *, region: str | None = None, endpoint_url: str | None = None
    ) -> Access:
        """Read the access from environment variables; `region` and `endpoint_url` override them.

        For an emulator on this machine, the access key defaults to `test`, because the SDK would otherwise look for
        credentials on the network.
        """
        endpoint_url = endpoint_url or environ.get("AWS_ENDPOINT_URL") or None
        localstack_host = None if endpoint_url else environ.get("LOCALSTACK_HOST") or None
        local = localstack_host is not None or _is_loopback(endpoint_url)
        return cls(
            region=region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or _DEFAULT_REGION,
            endpoint_url=endpoint_url,
            ca_bundle=environ.get("AWS_CA_BUNDLE") or None,
            localstack_host=localstack_host,
            localstack_ssl=environ.get("USE_SSL") in {"1", "true"},
            access_key=_local_key(environ) if local else None,
        )


def sdk_config(access: Access, service: str, *, attempts: int = _ATTEMPTS) -> Config:
    """SDK settings of the client of a service: timeouts, retries, connections, user agent."""
    return Config(
        region_name=access.region,
        connect_timeout=_CONNECT_TIMEOUT_S,
        # An emulator processes one call at a time, so a call waits for all before it.
        read_timeout=(_EMULATED_TIMEOUTS_S if access.custom_endpoint else _READ_TIMEOUTS_S).get(
            service, _READ_TIMEOUT_S
        ),
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=CONNECTIONS,
        # The SDK would build its own user agent twice per call, which takes a tenth of the CPU time of an update.
        user_agent=_USER_AGENT if service == "dynamodb" else None,
        user_agent_extra="metering",
        # The SDK's validation takes a third of the CPU time of a 100-item transaction, and DynamoDB validates anyway.
        parameter_validation=service != "dynamodb",
        # An emulator's host name cannot be prefixed with a bucket name.
        s3={"addressing_style": "path" if access.custom_endpoint else "auto"},
    )


T = TypeVar("T")


class _Named(Generic[T]):
    """Typed client of a service, as an attribute of `Clients`."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __get__(self, clients: Clients, _owner: type[Clients]) -> T:
        return cast("T", clients.client(self._service))


class Clients:
    """SDK clients, one for each service, created at first use. Threads may share them."""

    def __init__(self, access: Access, *, attempts: int = _ATTEMPTS) -> None:
        self.access = access
        self._attempts = attempts
        self._lock = threading.RLock()
        self._made: dict[str, object] = {}
        self._session: _Session | None = None

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], *, region: str | None = None, endpoint_url: str | None = None
    ) -> Clients:
        """Clients with the access that `Access.from_env` reads."""
        return cls(Access.from_env(environ, region=region, endpoint_url=endpoint_url))

    def beside(self, region: str) -> Clients:
        """Clients of another region that share the SDK's loaded data, which makes clients of many regions cheap.

        One thread must create a service's first client; after that, several threads may share it.
        """
        with self._lock:
            self._session = self._session or _session(self.access)
        other = Clients(replace(self.access, region=region), attempts=self._attempts)
        other._session = self._session
        return other

    def with_access(self, access: Access) -> Clients:
        """Clients with other credentials, or of another region."""
        return Clients(access)

    def client(self, service: str) -> object:
        """Client of any service, by its SDK name; the properties return typed clients."""
        with self._lock:
            if service not in self._made:
                self._made[service] = self._make(service)
            return self._made[service]

    def _make(self, service: str) -> object:
        if self._session is None:
            self._session = _session(self.access)
        return self._session.client(
            service,
            config=sdk_config(self.access, service, attempts=self._attempts),
            endpoint_url=self.access.endpoint_url,
            verify=self.access.ca_bundle,
        )

    dynamodb: _Named[DynamoDBClient] = _Named("dynamodb")
    s3: _Named[S3Client] = _Named("s3")
    sqs: _Named[SQSClient] = _Named("sqs")
    sns: _Named[SNSClient] = _Named("sns")
    cloudwatch: _Named[CloudWatchClient] = _Named("cloudwatch")
    cloudformation: _Named[CloudFormationClient] = _Named("cloudformation")
    lambda_: _Named[LambdaClient] = _Named("lambda")
    events: _Named[EventBridgeClient] = _Named("events")
    logs: _Named[CloudWatchLogsClient] = _Named("logs")
    iam: _Named[IAMClient] = _Named("iam")
    sts: _Named[STSClient] = _Named("sts")
    account: _Named[AccountClient] = _Named("account")
    codebuild: _Named[CodeBuildClient] = _Named("codebuild")
    service_quotas: _Named[ServiceQuotasClient] = _Named("service-quotas")
    ssm: _Named[SSMClient] = _Named("ssm")


def _session(access: Access) -> _Session:
    if access.localstack_host is not None:
        return _localstack_session(access)
    key_id, secret = access.access_key or (None, None)
    make = cast("Callable[..., _Session]", boto3.session.Session)
    return make(
        region_name=access.region,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=access.session_token,
    )


def _localstack_session(access: Access) -> _Session:
    # Only the `cli` extra installs this package, because functions never need it.
    from localstack_client.session import Session

    key_id, secret = access.access_key or _sdk_key()
    session: _Session = Session(
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=access.session_token,
        region_name=access.region,
        localstack_host=access.localstack_host,
    )
    return session


def _sdk_key() -> tuple[str, str]:
    # localstack-client does not resolve credentials.
    credentials = boto3.session.Session().get_credentials()
    return (credentials.access_key, credentials.secret_key) if credentials is not None else ("test", "test")


def _local_key(environ: Mapping[str, str]) -> tuple[str, str] | None:
    if "AWS_ACCESS_KEY_ID" in environ or "AWS_PROFILE" in environ:
        return None
    return "test", "test"


def _is_loopback(endpoint_url: str | None) -> bool:
    return endpoint_url is not None and urlsplit(endpoint_url).hostname in _LOOPBACK_HOSTS


# SDK clients that can only read: a server that uses a person's own credentials must not be able to write.
#
# The person's credentials may allow any operation. An operation that is not known to be read-only fails before the
# request is signed, in every adapter, so that a bug in a route cannot write.


# Prefixes of operations that only read. `ReceiveMessage` is excluded, because it hides messages from other consumers.
_READING = ("BatchGet", "Describe", "Get", "Head", "List", "Query", "Scan")


class ReadOnlyError(MeteringError):
    """A call was refused, because it is not known to be read-only.

    Attributes:
        operation: The call, as `service.Operation`.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(operation)
        self.operation = operation

    def __str__(self) -> str:
        return f"{self.operation} is refused: only calls that read are made here"


class ReadOnlyClients(Clients):
    """`Clients` that raise `ReadOnlyError` for calls not known to be read-only."""

    def _make(self, service: str) -> object:
        made = cast("_Client", super()._make(service))
        made.meta.events.register("before-parameter-build", _refuse_writes)
        return made


def _refuse_writes(*, model: _Operation, **_others: object) -> None:
    if not model.name.startswith(_READING):
        raise ReadOnlyError(f"{model.service_model.service_name}.{model.name}")


# The members of the SDK's untyped classes that are used here.
class _Service(Protocol):
    service_name: str


class _Operation(Protocol):
    name: str
    service_model: _Service


class _Events(Protocol):
    def register(self, event_name: str, handler: Callable[..., None]) -> None: ...


class _Meta(Protocol):
    events: _Events


class _Client(Protocol):
    meta: _Meta


_SESSION_NAME = "metering-context"


def assumed(clients: Clients, role_arn: str) -> Clients:
    """Clients with a role's temporary credentials, which expire after an hour.

    Raises:
        UnavailableError: STS gave no answer.
    """
    with translated("sts.AssumeRole"):
        answer = clients.sts.assume_role(RoleArn=role_arn, RoleSessionName=_SESSION_NAME)
    credentials = answer["Credentials"]
    key = (credentials["AccessKeyId"], credentials["SecretAccessKey"])
    return clients.with_access(replace(clients.access, access_key=key, session_token=credentials["SessionToken"]))


def in_region(clients: Clients, region: str) -> Clients:
    """Clients with the same credentials in another region."""
    return clients if clients.access.region == region else clients.with_access(replace(clients.access, region=region))


def account_of(clients: Clients) -> str:
    """Account to which the credentials belong. Raises as `assumed` does."""
    with translated("sts.GetCallerIdentity"):
        return clients.sts.get_caller_identity()["Account"]


def caller_arn(client: STSClient) -> str:
    """ARN of the user or role whose credentials the client has."""
    with translated("sts.GetCallerIdentity"):
        return client.get_caller_identity()["Arn"]


def caller_id(client: STSClient) -> str:
    """Unique id of the user, or of the role and session, in the form of SQS's `SenderId`."""
    with translated("sts.GetCallerIdentity"):
        return client.get_caller_identity()["UserId"]
