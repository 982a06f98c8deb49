"""The commands about the lake as an operator runs them: compact, close a month, verify, query, rebuild, trace, cost."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.checklist import ACCEPTABLE
from metering.hours import hour_of, month_bounds_s, month_of, rfc3339
from metering.units import DAY_S
from tests.e2e.conftest import LATE_S, MONTH, ClosedMonth, Service
from tests.e2e.test_main_job import account, message, record, report

if TYPE_CHECKING:
    from pathlib import Path


OUT = "USW2-DataTransfer-Out-Bytes"
# Other tests leave dead letters, gaps and messages, which block the close of any month to which they may belong.
EVEN_SO = tuple(word for name in ACCEPTABLE for word in ("--accept", name))


@pytest.fixture(scope="module")
def who(closed_month: ClosedMonth) -> str:
    """An account with 1,000 bytes in a closed month."""
    return closed_month.who


def send(service: Service, account_id: str, size: int, start_s: int) -> None:
    start = rfc3339(start_s)
    service.send(message(f"{account_id}-{size}", [record(account_id, size=size, start=start, end=start)]))
    service.wait_for_rest()


def usage(service: Service, account_id: str, *options: str) -> list[tuple[str, str]]:
    """Bytes of each row of the closed month, with the hour that the row corrects, if any."""
    answer = service.ask("reader", "report", "usage", "--from", MONTH, "--account", account_id, *options)
    return [(row.get("corrects", ""), row["bytes"]) for row in answer["rows"]]


def test_a_late_batch_is_a_correction_and_the_closed_month_is_what_it_was(service: Service, who: str) -> None:
    shown = service.ask("reader", "period", "show", MONTH)
    assert shown["state"] == "closed"

    send(service, who, 17, LATE_S)
    service.ask("operator", "compact")
    assert service.ask("operator", "period", "verify", MONTH)["rows"] == []
    assert service.ask("reader", "period", "show", MONTH) == shown == service.ask("operator", "period", "close", MONTH)
    for options in ([], ["--detail", "resource_id"]):
        assert usage(service, who, *options) == [("", "1000")]
        marked = [("", "1000"), (rfc3339(LATE_S), "17")]
        assert usage(service, who, "--with-corrections", *options) == marked
    assert report(service, who) == {OUT: 17}
    assert service.ask("operator", "reconcile", "--deep")["different"] == 0


def test_a_month_is_not_closed_before_its_time_and_says_when(service: Service) -> None:
    month = month_of(int(time.time()))
    done = service.run("operator", "period", "close", month, *EVEN_SO)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"it can be closed from {rfc3339(month_bounds_s(month)[1] + 3 * DAY_S)} on" in done.stderr
    shown = service.run("reader", "period", "show", month, "--format", "csv")
    assert (shown.returncode, shown.stdout) == (0, "usage_type,bytes\n")
    assert f"{month} is open: its totals are not frozen" in shown.stderr


def test_verify_names_a_file_of_a_closed_month_that_is_damaged_or_gone(service: Service, who: str) -> None:
    s3, bucket = service.clients.s3, service.outputs["DataBucketName"]
    prefix = f"lake/dt={rfc3339(LATE_S)[:10]}/hour={rfc3339(LATE_S)[11:13]}/"
    key = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"][0]["Key"]
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body[:-9])
        assert problems(service, f"{key} is damaged")
        assert usage(service, who) == [("", "1000")]
        s3.delete_object(Bucket=bucket, Key=key)
        assert problems(service, f"there is no object {key}")
    finally:
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert service.run("operator", "period", "verify", MONTH).returncode == 0


def problems(service: Service, expected: str) -> bool:
    done = service.run("operator", "period", "verify", MONTH, "--format", "csv")
    return done.returncode == 1 and expected in done.stdout and "Traceback" not in done.stderr


@pytest.mark.drill
def test_what_was_lost_is_rebuilt_from_the_rows_and_a_later_copy_is_a_duplicate(service: Service) -> None:
    """Before a repair, two checks a minute apart must be equal; after the repair, a third check confirms it."""
    who, now_s = account(), hour_of(int(time.time()))
    send(service, who, 500, now_s)
    lose(service, "UsageTableName", f"A#{who}#{month_of(now_s)}")
    lose(service, "LedgerTableName", f"B#{who}-500")
    assert report(service, who) == {}

    span = ("--from", rfc3339(now_s), "--to", rfc3339(now_s + DAY_S))
    assert service.ask("operator", "rebuild", "usage", *span, timeout_s=300)["repaired"] == 1
    assert service.ask("operator", "rebuild", "markers")["rebuilt"] == 1
    assert service.ask("operator", "rebuild", "markers")["rebuilt"] == 0
    send(service, who, 500, now_s)
    assert report(service, who) == {OUT: 500}
    assert service.ask("operator", "reconcile", "--deep", *span)["different"] == 0


def lose(service: Service, table: str, pk: str) -> None:
    """Delete a partition's items, which a table restore may lose."""
    dynamodb, name = service.tables, service.outputs[table]
    found = dynamodb.query(
        TableName=name, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}}
    )["Items"]
    assert found
    for item in found:
        dynamodb.delete_item(TableName=name, Key={"pk": item["pk"], "sk": item["sk"]})


@pytest.mark.parametrize("role", ["reader", "operator"])
def test_whoever_may_read_may_ask_and_see_what_it_costs(service: Service, who: str, role: str) -> None:
    sql = f"SELECT sum(bytes) AS bytes, count(*) AS n FROM transfers WHERE account_id = '{who}' AND bytes = 1000"  # noqa: S608 - of ours
    assert service.ask(role, "query", sql)["rows"] == [{"bytes": "1000", "n": 1}]
    found: dict[str, Any] = service.ask(role, "storage", "report")
    assert {"lake/", "runs/", "closed/"} <= {row["what"] for row in found["rows"]}
    assert found["prices"]["storage_usd_gb_month"]["STANDARD"] == "0.023"


@pytest.mark.parametrize("role", ["reader", "operator"])
def test_whoever_may_read_may_ask_how_the_region_is(service: Service, role: str) -> None:
    """Tests that run in parallel leave problems behind, so both exit codes are valid. A report is compared only if the
    status is the same before and after the report."""
    known = status_of(service, role)
    for _ in range(5):
        answer = service.ask(role, "report", "usage")
        before, known = known, status_of(service, role)
        if (before["held_back_by"], before["complete_through"]) == (known["held_back_by"], known["complete_through"]):
            break
    else:
        pytest.fail("what holds the region back changed beside each of five reports")
    assert answer["held_back_by"] == known["held_back_by"] or answer["complete_through"] != known["complete_through"]


def status_of(service: Service, role: str) -> dict[str, Any]:
    done = service.run(role, "status", "--format", "json")
    assert done.returncode in {0, 1}, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["well"] == (done.returncode == 0)
    assert {row["what"] for row in found["rows"]} >= {"complete", "queue", "dead letters", "watch", "alarms", "pager"}
    [known] = found["regions"].values()
    return dict(known)


def test_a_month_is_looked_at_before_it_is_closed_and_a_closed_one_is_final(service: Service, who: str) -> None:
    checked = service.run("operator", "period", "close", month_of(int(time.time())), "--dry-run", "--format", "json")
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["rows"][0]["state"] == "blocks"
    listed = {row["month"]: row for row in service.ask("reader", "period", "list")["rows"]}
    assert (listed[MONTH]["state"], listed[MONTH]["closed_by"] is not None) == ("closed", True)
    by_account = service.ask("reader", "period", "show", MONTH, "--group-by", "account_id")["rows"]
    assert {"account_id": who, "bytes": "1000"} in by_account
    assert service.ask("reader", "report", "usage", "--from", MONTH)["periods"] == {MONTH: "closed"}


@pytest.mark.drill
def test_every_line_of_a_replayed_account_comes_down_to_what_the_manifest_sent(
    service: Service, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.ndjson"
    service.ask(
        "producer", "replay", "--scenario", "clean", "--batches", "60", "--records-per-batch", "20",
        "--seed", str(int(time.time())), "--manifest", str(manifest),
    )  # fmt: skip
    service.wait_for_rest()
    sent = sent_by_account(manifest)
    who = max(sent, key=lambda name: sum(sent[name].values()))
    whole = service.ask("reader", "trace", "--account", who, "--last", "24h")
    assert whole["equal"] is True
    assert {each["batch_id"]: int(each["bytes"]) for each in whole["batches"] if each["batch_id"] in sent[who]} == (
        sent[who]
    )
    # Only replays use this account, and all its batches are named after replays.
    names = {batch_id.rpartition("-")[0] for batch_id in sent[who]}
    assert {each["batch_id"] for each in whole["batches"] if each["batch_id"].rpartition("-")[0] in names} == {
        *sent[who]
    }
    lines = service.ask("reader", "report", "usage", "--account", who, "--last", "24h", "--group-by", "usage_type")
    for each in lines["rows"]:
        line = service.ask("reader", "trace", "--account", who, "--last", "24h", "--usage-type", each["usage_type"])
        assert line["equal"] is True
        assert line["sums"] == dict.fromkeys(("usage", "rows", "markers"), each["bytes"])
        assert sum(int(batch["bytes"]) for batch in line["batches"]) == int(each["bytes"])
    story = service.ask("reader", "batch", "show", whole["batches"][0]["batch_id"])
    assert (story["verdict"], story["proof"]["equal"]) == ("accepted", True)


def test_a_byte_added_by_hand_is_told_with_both_figures(service: Service) -> None:
    who = account()
    service.send(message(f"traced-{who}", [record(who, size=9)]))
    service.wait_for_rest()
    whole = service.ask("reader", "trace", "--account", who, "--last", "24h")
    assert [each["batch_id"] for each in whole["batches"]] == [f"traced-{who}"]
    try:
        service.add_by_hand(who, 1)
        done = service.run("reader", "trace", "--account", who, "--last", "24h", "--format", "json")
        assert done.returncode == 1, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert (answer["equal"], answer["sums"]) == (False, {"usage": "10", "rows": "9", "markers": "9"})
        assert "not what the rows say" in done.stderr
    finally:
        # Other tests compare the whole table, so the change is undone.
        service.add_by_hand(who, -1)
    assert service.ask("reader", "trace", "--account", who, "--last", "24h")["equal"] is True


def sent_by_account(manifest: Path) -> dict[str, dict[str, int]]:
    """Bytes of each accepted batch, by account and batch id, as counted by the sender."""
    sent: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for text in manifest.read_text().splitlines()[1:]:
        each = json.loads(text)
        if each["expect"] == "accepted":
            for _hour, account_id, _type, _service, _from, _to, size, _records in each["totals"]:
                sent[account_id][each["batch_id"]] += int(size)
    return {name: dict(batches) for name, batches in sent.items()}


_VERIFICATIONS = 20
_EVERY_S = 0.3
_CANARY_EVERY_S = 5.0


class _Traffic:
    """Sends batches at intervals, and runs the canary more often than scheduled."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._over = threading.Event()
        self.sent = 0
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._canary)]

    def __enter__(self) -> _Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        name = account()
        while not self._over.wait(_EVERY_S):
            self._service.send(message(f"steady-{name}-{self.sent}", [record(name, size=1_000)]))
            self.sent += 1

    def _canary(self) -> None:
        client = self._service.clients.lambda_
        name = next(f["FunctionName"] for f in client.list_functions()["Functions"] if "anary" in f["FunctionName"])
        while not self._over.wait(_CANARY_EVERY_S):
            client.invoke(FunctionName=name, InvocationType="Event")


@pytest.mark.drill
@pytest.mark.emulator
def test_twenty_verifications_beside_steady_traffic_and_the_canary_raise_no_false_alarm(service: Service) -> None:
    settled = 0
    with _Traffic(service) as traffic:
        time.sleep(2)
        for number in range(_VERIFICATIONS):
            # Each verification reads all batches sent so far, and waits up to two minutes for their roll-up.
            found = json.loads(service.run("operator", "verify", "--format", "json", timeout_s=300).stdout)
            assert (found["lost"], found["doubled"], found["differences"]) == ([], [], []), (number, found)
            settled += found["settled"]
        assert traffic.sent > _VERIFICATIONS
    print(f"{settled} of {_VERIFICATIONS} verifications beside {traffic.sent} batches were settled")
    service.wait_for_rest()
    assert service.ask("operator", "verify", "--wait", "2m")["passed"]
