"""The main job: sent usage is metered once, reported to the byte, and verified."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from tests.e2e.conftest import Service, usage_by_type, wait_for

if TYPE_CHECKING:
    from pathlib import Path

_DENIED = r"AccessDenied|not authorized|Forbidden"


def record(account: str, *, size: int, **changes: Any) -> dict[str, Any]:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "account_id": account,
        "service": "AmazonEC2",
        "resource_id": "i-0abc",
        "direction": "out",
        "from": "us-west-2",
        "to": "internet",
        "bytes": size,
        "start": start,
        "end": start,
        **changes,
    }


def message(batch_id: str, records: list[dict[str, Any]], **changes: Any) -> str:
    body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": len(records), "records": records}
    return json.dumps({**body, **changes})


def account() -> str:
    """An unused account id, so that no test counts another test's bytes."""
    return str(uuid.uuid4().int % 10**12).zfill(12)


def report(service: Service, account_id: str) -> dict[str, int]:
    return usage_by_type(service.ask("reader", "report", "usage", "--account", account_id))


def test_a_batch_sent_three_times_is_counted_once(service: Service) -> None:
    who = account()
    body = message(f"once-{who}", [record(who, size=41_943_040), record(who, size=2**63 - 1)])
    for _ in range(3):
        service.send(body)
    service.wait_for_rest()
    assert report(service, who) == {"USW2-DataTransfer-Out-Bytes": 41_943_040 + 2**63 - 1}


def test_other_content_under_an_accepted_id_is_a_conflict_and_not_metered(service: Service) -> None:
    who = account()
    for size in (7, 8):
        service.send(message(f"c-{who}", [record(who, size=size)]))
        service.wait_for_rest()
    assert report(service, who) == {"USW2-DataTransfer-Out-Bytes": 7}
    assert f"c-{who}" in json.dumps(service.ask("reader", "quarantine", "list"))


def test_bad_records_are_refused_and_the_others_of_their_batch_are_metered(service: Service) -> None:
    who = account()
    records = [record(who, size=5), record(who, size=-1), record(who, size=6, direction="up"), record("12", size=1)]
    service.send(message(f"partly-{who}", records))
    service.wait_for_rest()
    assert report(service, who) == {"USW2-DataTransfer-Out-Bytes": 5}


@pytest.mark.parametrize("body", ["", "not json", "[" * 5_000, '{"schema": "metering.batch/9"}', '"\\ud800"', "null"])
def test_a_message_that_is_no_batch_is_kept_and_does_not_come_back(service: Service, body: str) -> None:
    if not body:
        body = " "
    service.send(body)
    service.wait_for_rest()
    waiting = service.clients.sqs.get_queue_attributes(
        QueueUrl=service.outputs["DeadLetterQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert waiting["Attributes"]["ApproximateNumberOfMessages"] == "0"


def test_an_object_in_drop_announces_itself_and_is_counted_once(service: Service) -> None:
    who = account()
    lines = "\n".join(json.dumps(record(who, size=size)) for size in (1, 10, 100))
    s3 = service.client("producer", "s3")
    for _ in range(2):
        s3.put_object(Bucket=service.outputs["DataBucketName"], Key=f"drop/{who}/a b+c.ndjson", Body=lines.encode())
    wait_for("usage of the dropped object", lambda: report(service, who))
    service.wait_for_rest()
    assert report(service, who) == {"USW2-DataTransfer-Out-Bytes": 111}


def test_a_location_outside_ingest_is_refused_and_one_inside_is_read(service: Service) -> None:
    who = account()
    lines = json.dumps(record(who, size=33)).encode()
    bucket = service.outputs["DataBucketName"]
    service.client("producer", "s3").put_object(Bucket=bucket, Key=f"ingest/{who}.ndjson", Body=lines)
    for name, key in (("inside", f"ingest/{who}.ndjson"), ("outside", f"lake/{who}.ndjson")):
        location = {"bucket": bucket, "key": key, "format": "ndjson", "compression": "none"}
        body = {"schema": "metering.batch/1", "batch_id": f"{name}-{who}", "record_count": 1, "location": location}
        service.send(json.dumps(body))
    service.wait_for_rest()
    assert report(service, who) == {"USW2-DataTransfer-Out-Bytes": 33}
    assert "location_not_allowed" in json.dumps(service.ask("reader", "quarantine", "list"))


def test_mixed_traffic_is_proven_against_the_senders_own_count(service: Service, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.ndjson"
    sent = service.ask(
        "producer", "replay", "--scenario", "mixed", "--batches", "400", "--records-per-batch", "50",
        "--conflicts", "0.05", "--seed", str(int(time.time())), "--manifest", str(manifest),
    )  # fmt: skip
    assert sent["duplicate"] > 0
    assert sent["conflict"] > 0
    assert sent["rejected"] > 0
    answer = service.ask("reader", "verify", "--manifest", str(manifest), "--wait", "3m", timeout_s=220)
    assert answer["settled"]
    assert (answer["lost"], answer["doubled"]) == ([], [])
    assert answer["accepted"] == sent["accepted"] + sent["partly"]


def test_verify_fails_when_a_usage_item_is_wrong_by_one_byte(service: Service) -> None:
    who = account()
    service.send(message(f"broken-{who}", [record(who, size=9)]))
    service.wait_for_rest()
    for delta in (1, -1):
        service.add_by_hand(who, delta)
        done = service.run("reader", "verify", "--format", "json")
        assert done.returncode == (delta == 1), done.stdout + done.stderr
        assert (who in done.stdout) == (delta == 1)


@pytest.mark.ministack(reason="it enforces IAM")
def test_each_role_is_denied_what_is_not_its_job(service: Service) -> None:
    if not service.enforced:
        pytest.skip("this endpoint does not enforce IAM")
    with pytest.raises(botocore.exceptions.ClientError, match=_DENIED):
        service.client("reader", "sqs").send_message(QueueUrl=service.outputs["IngestQueueUrl"], MessageBody="{}")
    with pytest.raises(botocore.exceptions.ClientError, match=_DENIED):
        service.client("producer", "dynamodb").scan(TableName=service.outputs["LedgerTableName"])
    with pytest.raises(botocore.exceptions.ClientError, match=_DENIED):
        service.client("producer", "s3").put_object(Bucket=service.outputs["DataBucketName"], Key="lake/x", Body=b"")
    with pytest.raises(botocore.exceptions.ClientError, match=_DENIED):
        service.client("reader", "dynamodb").put_item(
            TableName=service.outputs["UsageTableName"], Item={"pk": {"S": "x"}, "sk": {"S": "x"}}
        )
    # The policy of the bucket refuses the object, whatever the producer's role allows.
    put = service.client("producer", "s3").put_object
    for key in (f"ingest/{account()}.ndjson", f"drop/{account()}.ndjson"):
        with pytest.raises(botocore.exceptions.ClientError, match=_DENIED):
            put(Bucket=service.outputs["DataBucketName"], Key=key, Body=b"", ServerSideEncryption="aws:kms")
    refused = service.run("reader", "alerts", "test")
    assert refused.returncode == 1
    assert "Publish was refused" in refused.stderr
    assert "Traceback" not in refused.stderr
