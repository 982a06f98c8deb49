"""The deployed HTTP API: its answers equal those of the commands, and its role can only read.

MiniStack offers a gateway and a function URL, LocalStack only the URL.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import botocore.exceptions
import httpx
import pytest

from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.stacks import stack_outputs
from metering.adapters.emulator.ministack import api_address
from metering.hours import rfc3339
from metering.ledger.notes.access import Role
from metering.operations.access import TokenBook
from metering.units import DAY_S
from metering.wiring.region import RegionPorts
from tests.e2e.conftest import Service, credentials_of, stack_outputs_of
from tests.e2e.test_main_job import account, message, record

_DENIED = r"AccessDenied|not authorized|Forbidden"
# A token is cached for a minute after it was verified.
_REMEMBERED_S = 61
_PATIENCE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """One entry point of the API: a gateway or a function URL."""

    base: str
    host: str
    trust: ssl.SSLContext | bool

    def get(self, path: str, token: str = "", /, **parameters: str) -> httpx.Response:
        """Send a request, with a token if one is given."""
        headers = ({"Host": self.host} if self.host else {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        return httpx.get(
            f"{self.base}{path}", params=parameters, headers=headers, verify=self.trust, timeout=_PATIENCE_S
        )

    def json(self, path: str, token: str = "", /, **parameters: str) -> Any:
        """The JSON of a successful request."""
        answer = self.get(path, token, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()


def front_of(service: Service, put_out: str) -> Front:
    """The entry point whose address is in this stack output."""
    found = api_address(put_out, service.endpoint)
    bundle = service.environ.get("AWS_CA_BUNDLE")
    return Front(base=found.base, host=found.host, trust=ssl.create_default_context(cafile=bundle) if bundle else True)


@pytest.fixture(scope="module")
def outputs(service: Service) -> dict[str, str]:
    """Outputs of the stack of the API."""
    return stack_outputs_of(service.clients, service.stage, "api")


@pytest.fixture(scope="module")
def front(service: Service, outputs: dict[str, str]) -> Front:
    """The entry point that the stack created."""
    return front_of(service, outputs["ApiUrl"])


@pytest.fixture(scope="module")
def book(service: Service) -> TokenBook:
    """API tokens of the region, created with root credentials."""
    ports = RegionPorts(service.clients, stack_outputs(service.clients, service.stage))
    return TokenBook(items=ports.items, clock=SystemClock())


@pytest.fixture(scope="module")
def who(service: Service) -> str:
    """An account whose usage is in staging and in the usage table."""
    found = account()
    service.send(message(f"api-{found}", [record(found, size=41_943_040), record(found, size=2**63 - 1)]))
    service.wait_for_rest()
    return found


@pytest.fixture(scope="module")
def operator(book: TokenBook) -> str:
    """An operator's token."""
    return book.create(role=Role.OPERATOR, accounts=None, life_s=DAY_S, made_by="e2e").text


@pytest.fixture(scope="module")
def revoked(service: Service, front: Front, book: TokenBook) -> tuple[str, float]:
    """A token that was valid and then revoked, and the time of the revocation."""
    made = book.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by="e2e")
    assert front.get("/v1/freshness", made.text).status_code == 200
    service.ask("operator", "token", "revoke", made.stored.token_id)
    return made.text, time.monotonic()


@pytest.fixture
def url_front(service: Service, outputs: dict[str, str]) -> Iterator[Front]:
    """The function's URL, created here if the API uses a gateway."""
    if ".lambda-url." in outputs["ApiUrl"]:
        yield front_of(service, outputs["ApiUrl"])
        return
    name = outputs["ApiFunctionName"]
    made = service.clients.lambda_.create_function_url_config(FunctionName=name, AuthType="NONE")
    yield front_of(service, made["FunctionUrl"])
    service.clients.lambda_.delete_function_url_config(FunctionName=name)


def test_everyone_may_see_the_page_the_document_and_whether_it_is_well(front: Front) -> None:
    assert front.json("/v1/health") == {"status": "ok"}
    assert front.json("/openapi.json")["openapi"].startswith("3.1")
    page = front.get("/")
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    # The page refers to its files by relative paths, so any path prefix works.
    files = re.findall(r'(?:src|href)="([^"#:]+\.(?:js|css))"', page.text)
    assert files
    for name in files:
        assert front.get(f"/{name}").status_code == 200


def test_a_token_made_by_the_command_gets_what_the_command_reports(service: Service, front: Front, who: str) -> None:
    made = service.ask("operator", "token", "create", "--role", "customer", "--account", who, "--days", "1")
    today_s = int(time.time()) // DAY_S * DAY_S
    day = {"from": rfc3339(today_s)[:10], "to": rfc3339(today_s + DAY_S)[:10]}
    asked = ("--from", day["from"], "--to", day["to"], "--account", who, "--group-by", "usage_type")

    answered = front.json("/v1/usage", made["token"], **day, group_by="usage_type")

    assert answered["rows"] == service.ask("reader", "report", "usage", *asked)["rows"]
    assert {row["bytes"] for row in answered["rows"]} == {str(41_943_040 + 2**63 - 1)}
    reported = service.run("reader", "report", "usage", *asked, "--format", "csv").stdout
    assert front.get("/v1/usage", made["token"], **day, group_by="usage_type", format="csv").text == reported
    # The gateway passes binary bodies unchanged.
    parquet = front.get("/v1/usage", made["token"], **day, group_by="usage_type", format="parquet").content
    assert parquet[:4] == parquet[-4:] == b"PAR1"
    # The response does not reveal whether other accounts exist.
    for other in (account(), "000000000000"):
        assert front.get("/v1/usage", made["token"], **day, account=other).status_code == 403


def test_both_ways_give_the_same_answer(front: Front, url_front: Front, who: str, operator: str) -> None:
    asked = {"account": who, "group_by": "usage_type", "last": "2d"}
    first, second = (each.json("/v1/usage", operator, **asked) for each in (front, url_front))

    assert first["rows"] == second["rows"]
    assert first["rows"]
    assert url_front.get("/v1/usage").status_code == 401
    assert url_front.get("/").content == front.get("/").content


def test_every_route_is_answered_under_the_role_of_the_function(
    service: Service, front: Front, who: str, operator: str
) -> None:
    """If the role lacks a permission, the status is 500. Reads include the lake: staging and files."""
    service.ask("operator", "compact")
    service.ask("operator", "budget", "update")
    hour = rfc3339(int(time.time()) // 3_600 * 3_600)
    own = {"account": who, "last": "2d"}
    questions: dict[str, list[dict[str, str]]] = {
        "/v1/usage": [own, {"last": "2h"}, {**own, "detail": "resource_id"}],
        "/v1/cost": [{**own, "prices": "sample"}, {"last": "2h", "group_by": "account_id", "prices": "sample"}],
        "/v1/who": [own, {"last": "2h", "group_by": "owner,workload"}],
        "/v1/accounts": [{}, {"prefix": who[:6]}],
        "/v1/trace": [{**own, "usage_type": "USW2-DataTransfer-Out-Bytes"}],
        "/v1/batches": [{"id": f"api-{who}"}],
        "/v1/hours/{hour}": [{}],
        "/v1/sources": [{}],
        "/v1/quarantine": [{}],
        "/v1/reconciliation": [{}],
        "/v1/freshness": [{}],
        "/v1/health": [{}],
        "/v1/budgets": [{}],
        "/v1/organization": [{}],
        "/v1/reports": [{}],
        "/openapi.json": [{}],
    }
    assert set(front.json("/openapi.json")["paths"]) == set(questions)
    wrong: list[str] = []
    for path, asked in questions.items():
        for parameters in asked:
            answer = front.get(path.replace("{hour}", hour), operator, **parameters)
            if answer.status_code != 200:
                wrong.append(f"{path} {parameters}: {answer.status_code} {answer.text}")
    assert wrong == []
    assert front.json("/v1/trace", operator, **questions["/v1/trace"][0])["equal"] is True


@pytest.mark.parametrize(
    "token", ["", "garbage", "mtr_0123456789abcdef_" + "0" * 64, "mtr_" + "f" * 16 + "_" + "F" * 64]
)
def test_a_token_that_nobody_made_opens_nothing(front: Front, token: str) -> None:
    for path in ("/v1/usage", "/v1/freshness", "/v1/accounts"):
        answer = front.get(path, token)
        assert answer.status_code == 401
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert not token or token not in answer.text


def test_a_token_whose_life_is_over_opens_nothing(front: Front, book: TokenBook) -> None:
    made = book.create(role=Role.ANALYST, accounts=None, life_s=2, made_by="e2e")
    time.sleep(2.5)

    assert front.get("/v1/usage", made.text).status_code == 401


@pytest.mark.drill
@pytest.mark.last
def test_a_token_that_was_revoked_opens_nothing_a_minute_later(front: Front, revoked: tuple[str, float]) -> None:
    token, revoked_s = revoked
    while front.get("/v1/freshness", token).status_code != 401:
        assert time.monotonic() - revoked_s < _REMEMBERED_S
        time.sleep(1)


@pytest.mark.ministack(reason="LocalStack does not enforce IAM")
def test_the_role_of_the_function_can_write_nothing_that_counts_and_scan_nothing(
    service: Service, outputs: dict[str, str]
) -> None:
    if not service.enforced:
        pytest.skip("this endpoint does not enforce IAM")
    role = service.clients.lambda_.get_function(FunctionName=outputs["ApiFunctionName"])["Configuration"]["Role"]
    service.roles["api"] = credentials_of(service.clients, role, service.environ)  # type: ignore[index]  # a dict
    dynamodb, s3, sqs = (service.client("api", name) for name in ("dynamodb", "s3", "sqs"))
    key = {"pk": {"S": "S#format"}, "sk": {"S": "-"}}
    own = service.outputs
    for table in (own["LedgerTableName"], own["UsageTableName"]):
        assert dynamodb.get_item(TableName=table, Key=key)
        assert dynamodb.query(
            TableName=table, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": "G"}}
        )
    assert s3.list_objects_v2(Bucket=own["DataBucketName"], Prefix="staging/")["KeyCount"] >= 0
    bucket, queue, item = own["DataBucketName"], own["IngestQueueUrl"], {**key, "x": {"S": "y"}}
    denied: list[partial[Any]] = []
    for table in (own["LedgerTableName"], own["UsageTableName"]):
        denied += [
            partial(dynamodb.update_item, TableName=table, Key=key),
            partial(dynamodb.delete_item, TableName=table, Key=key),
            partial(dynamodb.scan, TableName=table, Limit=1),
        ]
    # The API's role may put one item of the ledger. MiniStack ignores partitions: the template's test has the others.
    usage = own["UsageTableName"]
    denied += [
        partial(dynamodb.put_item, TableName=usage, Item=item),
        partial(dynamodb.transact_write_items, TransactItems=[{"Put": {"TableName": usage, "Item": item}}]),
    ]
    for prefix in ("staging", "lake", "quarantine", "summaries", "drop", "ingest", "closed"):
        denied.append(partial(s3.put_object, Bucket=bucket, Key=f"{prefix}/x", Body=b"x"))
    for prefix in ("ingest", "drop", "plans", "context"):
        denied.append(partial(s3.get_object, Bucket=bucket, Key=f"{prefix}/x"))
    denied += [
        partial(s3.delete_object, Bucket=bucket, Key="staging/x"),
        partial(sqs.send_message, QueueUrl=queue, MessageBody="x"),
        partial(sqs.receive_message, QueueUrl=queue),
    ]
    for call in denied:
        with pytest.raises(botocore.exceptions.ClientError, match=_DENIED):
            call()


@pytest.mark.ministack(reason="LocalStack keeps no log of functions")
def test_each_request_has_one_line_and_no_secret_in_it(
    service: Service, front: Front, outputs: dict[str, str], who: str, operator: str
) -> None:
    began_ms = int(time.time() * 1000) - 1_000
    mistake = "mtr_" + "a" * 16 + "_" + "b" * 64
    front.get("/v1/usage", operator, account=who)
    front.get(f"/v1/{mistake}", mistake)
    front.get("/v1/usage", "", token=mistake)
    lines: list[str] = []
    end = time.monotonic() + _PATIENCE_S
    while len([line for line in lines if "request answered" in line]) < 3 and time.monotonic() < end:
        found = service.clients.logs.filter_log_events(logGroupName=outputs["ApiLogGroupName"], startTime=began_ms)
        lines = [each["message"] for each in found["events"]]
        time.sleep(0.5)

    answered = [json.loads(line) for line in lines if '"request answered"' in line]
    assert {each["route"] for each in answered} >= {"/v1/usage", "none"}
    written = "\n".join(lines)
    for secret in (operator, operator.rpartition("_")[2], mistake, "b" * 64, who):
        assert secret not in written
