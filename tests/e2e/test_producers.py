"""Producers whose roles a command created send their own data; a stage that checks senders refuses other senders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from metering.adapters.aws.deployment import run_deployment
from metering.adapters.aws.session import Access, Clients
from metering.intake.senders import decode_services
from metering.settings import GivenSettings
from tests.e2e.conftest import Service, credentials_of, stack_outputs_of, wait_for
from tests.e2e.test_main_job import account, message, record, report

ELSEWHERE = "ap-northeast-3"
NAME = "edge-e2e"


def client(service: Service, keys: dict[str, str], name: str) -> Any:
    import boto3

    return boto3.client(  # type: ignore[call-overload]  # it knows services by their literal names
        name,
        region_name=service.region,
        endpoint_url=service.endpoint,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys["AWS_SESSION_TOKEN"],
        verify=service.environ.get("AWS_CA_BUNDLE", True),
    )


def test_a_producer_is_on_board_with_one_command_and_can_write_what_is_its_own_alone(service: Service) -> None:
    who = account()
    shown = service.ask("deployer", "producers", "add", NAME, "--accounts", who, "--yes")
    assert shown["accounts"] == [who]
    # An emulator reports its account as every sender, and the command states this after the first canary.
    assert shown["role_id"].startswith("AROA")
    keys = credentials_of(service.clients, shown["role_arn"], dict(service.environ))
    sqs, s3 = client(service, keys, "sqs"), client(service, keys, "s3")
    bucket, queue = service.outputs["DataBucketName"], service.outputs["IngestQueueUrl"]
    for prefix in (shown["objects"], shown["drops"]):
        s3.put_object(Bucket=bucket, Key=f"{prefix}e2e.txt", Body=b"")
    sqs.send_message(QueueUrl=queue, MessageBody=message(f"{NAME}/1", [record(who, size=700)]))
    if service.enforced:
        for key in ("ingest/edge/x", f"ingest/{NAME}", "drop/edge/x", "staging/x", "lake/x", f"quarantine/{NAME}/x"):
            with pytest.raises(ClientError, match="AccessDenied"):
                s3.put_object(Bucket=bucket, Key=key, Body=b"")
        denied: list[Callable[[], object]] = [
            lambda: s3.get_object(Bucket=bucket, Key=f"{shown['objects']}e2e.txt"),
            lambda: s3.list_objects_v2(Bucket=bucket),
            lambda: sqs.receive_message(QueueUrl=queue),
            lambda: sqs.send_message(QueueUrl=service.outputs["DeadLetterQueueUrl"], MessageBody="x"),
        ]
        for call in denied:
            with pytest.raises(ClientError, match="Denied"):
                call()
    wait_for("the batch is metered", lambda: sum(report(service, who).values()) == 700)
    assert [row["name"] for row in service.ask("reader", "producers", "list")["rows"]] == [NAME]
    assert service.ask("deployer", "producers", "remove", NAME, "--yes")["rows"] == []
    with pytest.raises(ClientError, match="NoSuchEntity"):
        service.clients.iam.get_role(RoleName=f"metering-{service.stage}-producer-{NAME}")


# Roles of emulated regions have the same names: a deployment to another region replaces the first region's grants.
@pytest.mark.last
@pytest.mark.drill
def test_a_stage_that_judges_is_deployed_and_refuses_whom_it_does_not_know(service: Service) -> None:
    """The aggregator accepts the service's roles. An emulator's SenderId is the account id: each sender is unknown."""
    bundle = service.environ.get("AWS_CA_BUNDLE")
    clients = Clients(
        Access(region=ELSEWHERE, endpoint_url=service.endpoint, ca_bundle=bundle, access_key=("test", "test"))
    )
    run_deployment(
        stage=service.stage,
        region=ELSEWHERE,
        endpoint=service.endpoint,
        environ={**os.environ, **service.environ},
        given=GivenSettings(like=service.stage, by_option={"producers": "registered"}),
        progress=lambda _: None,
    )
    services = decode_services(stack_outputs_of(clients, service.stage, "pipeline")["ServiceSenders"])
    assert services.canary.startswith("AROA")
    assert all(each.startswith("AROA") for each in services.operators)
    outputs = stack_outputs_of(clients, service.stage, "data")
    who = account()
    clients.sqs.send_message(
        QueueUrl=outputs["IngestQueueUrl"], MessageBody=message(f"{NAME}/1", [record(who, size=700)])
    )

    def kept() -> list[dict[str, Any]]:
        done = service.run("deployer", "quarantine", "list", "--region", ELSEWHERE, "--format", "json")
        assert done.returncode == 0, done.stderr
        return [row for row in json.loads(done.stdout)["rows"] if "sender_not_allowed" in str(row["reasons"])]

    wait_for("it is in quarantine", kept)
    marker = clients.dynamodb.get_item(
        TableName=outputs["LedgerTableName"], Key={"pk": {"S": f"B#{NAME}/1"}, "sk": {"S": "M"}}
    )
    assert "Item" not in marker
