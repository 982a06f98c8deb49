"""`metering doctor` on an emulator: observed checks are ok, and unobservable ones are unknown.

    METERING_E2E_ENDPOINT=http://127.0.0.1:4599 pytest tests/e2e/test_doctor.py -s

prints the table for any endpoint.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from metering.operations.doctor.catalogue import CHECKS

if TYPE_CHECKING:
    from tests.e2e.conftest import Service

pytestmark = pytest.mark.emulator
# Behaviour that the service depends on, and that all emulators share with AWS.
SURE = {
    "large-put", "cancel-reasons", "dropped-object", "receives", "alarm", "one-ledger", "restore-cost", "mapping",
    "unreserved", "region-built",
}  # fmt: skip
# Behaviour that no emulator can reproduce. LocalStack keeps a history of alarms (`alarms-heard`), MiniStack does not.
BLIND = {"athena", "cold-starts", "restore-window", "versions-kept", "bootstrap"}
TIMEOUT_S = 500


def examined(service: Service, role: str, *options: str) -> dict[str, dict[str, Any]]:
    """Run the doctor under a role; return findings by check, and print them for `-s`."""
    done = service.run(role, "doctor", *options, "--format", "json", timeout_s=TIMEOUT_S)
    assert done.stdout, f"exit {done.returncode}: {done.stderr}"
    rows = {row["check"]: row for row in json.loads(done.stdout)["rows"]}
    print(f"\nas {role}:")  # The table is the purpose of the command.
    for name, row in rows.items():
        print(f"  {name:16}{row['verdict']:9}{row['saw']}" + (f" -> {row['advice']}" if row["advice"] else ""))
    assert done.returncode == (1 if any(row["verdict"] == "differs" for row in rows.values()) else 0)
    away = sum(row["saw"].startswith("not on an emulator: ") for row in rows.values())
    assert ("As expected: an emulator cannot answer" in done.stderr) == (away > 0)
    return rows


@pytest.fixture(scope="module")
def whole(service: Service) -> dict[str, dict[str, Any]]:
    """The deployer's findings, without the slowest checks: objects, batches and writes by the thousand."""
    return examined(service, "deployer", "--thorough", *_but("tombstones", "mapping-fill", "throttle"))


def test_what_an_emulator_shows_is_ok_and_what_it_cannot_show_is_unknown(
    service: Service, whole: dict[str, dict[str, Any]]
) -> None:
    assert {name: whole[name]["verdict"] for name in SURE} == dict.fromkeys(SURE, "ok")
    assert {name: whole[name]["verdict"] for name in BLIND} == dict.fromkeys(BLIND, "unknown")
    assert {name for name, row in whole.items() if row["verdict"] == "differs"} == set()
    # A stage that was just deployed may have no canary yet that is old enough.
    unknown = {name for name, row in whole.items() if row["verdict"] == "unknown"} - {"lists-emptied"}
    assert {name for name in unknown if not whole[name]["saw"].startswith("not on an emulator: ")} == set()


def test_where_iam_is_enforced_a_missing_key_is_404_to_who_may_list_only(
    service: Service, whole: dict[str, dict[str, Any]]
) -> None:
    row = whole["missing-key"]

    assert row["verdict"] == ("ok" if service.enforced else "unknown")
    assert ("403 to producer" if service.enforced else "does not tell apart") in row["saw"]


def test_without_being_asked_it_pages_nobody_and_a_listing_ends(service: Service) -> None:
    rows = examined(service, "deployer", "--only", "alarm", "--only", "throttle", "--only", "tombstones")

    assert {rows[name]["verdict"] for name in ("alarm", "throttle")} == {"unknown"}
    assert "1,100 deleted objects: pages " in rows["tombstones"]["saw"]
    assert rows["tombstones"]["verdict"] != "differs"


def test_an_operator_may_ask_all_but_what_costs_money_or_pages_people(
    service: Service, whole: dict[str, dict[str, Any]]
) -> None:
    """A deployment examines the region as this role, so the role's grants are those of all quick checks."""
    rows = examined(service, "operator", *_but("tombstones", "mapping-fill", "throttle", "alarm"))
    if service.enforced:
        # Which roles an operator may assume is not the stage's to say.
        del rows["missing-key"]
    assert {name: row["saw"] for name, row in rows.items() if "may not call" in row["saw"]} == {}
    assert rows["redrive"]["saw"] == whole["redrive"]["saw"]
    assert {name: row["verdict"] for name, row in rows.items() if row["verdict"] != whole[name]["verdict"]} == {}


@pytest.mark.usefixtures("whole")
def test_nothing_of_it_is_left(service: Service) -> None:
    clients = service.clients

    urls = clients.sqs.list_queues(QueueNamePrefix=f"metering-{service.stage}-doctor").get("QueueUrls", [])
    tables = [name for name in clients.dynamodb.list_tables()["TableNames"] if "-doctor-" in name]
    alarms = clients.cloudwatch.describe_alarms(AlarmNamePrefix=f"metering-{service.stage}-doctor")["MetricAlarms"]
    found = clients.s3.list_objects_v2(Bucket=service.outputs["DataBucketName"], Prefix="doctor/").get("Contents", [])
    subscribers = [
        each["Endpoint"]
        for topic in ("PageTopicArn", "TicketTopicArn")
        for each in clients.sns.list_subscriptions_by_topic(TopicArn=service.outputs[topic])["Subscriptions"]
    ]

    assert (urls, tables, alarms, found) == ([], [], [], [])
    assert not [endpoint for endpoint in subscribers if "-doctor-" in endpoint]


def test_a_reader_learns_which_rights_it_lacks(service: Service) -> None:
    if not service.enforced:
        pytest.skip("without IAM everybody may do everything")
    rows = examined(service, "reader", "--only", "large-put", "--only", "cancel-reasons", "--only", "warm-tables")

    assert {row["verdict"] for row in rows.values()} == {"unknown"}
    assert "the caller may not call CreateMultipartUpload" in rows["large-put"]["saw"]
    assert "the caller may not call PutItem" in rows["cancel-reasons"]["saw"]


@pytest.mark.drill
def test_no_emulator_throttles_and_that_is_no_proof(service: Service) -> None:
    row = examined(service, "deployer", "--thorough", "--only", "throttle")["throttle"]

    assert row["verdict"] == "unknown"
    assert "none was refused" in row["saw"]


@pytest.mark.drill
def test_a_bucket_that_announces_nothing_differs(service: Service) -> None:
    """The check fails when it should: without event notifications, dropped objects become no batches."""
    bucket = service.outputs["DataBucketName"]
    answer = service.clients.s3.get_bucket_notification_configuration(Bucket=bucket)
    kept = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    service.clients.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    try:
        rows = examined(service, "deployer", "--only", "dropped-object")
    finally:
        service.clients.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=kept)  # type: ignore[arg-type]  # as it was

    assert rows["dropped-object"]["verdict"] == "differs"
    assert "no verdict" in rows["dropped-object"]["saw"]


def _but(*left_out: str) -> list[str]:
    return [word for check in CHECKS if check.name not in left_out for word in ("--only", check.name)]
