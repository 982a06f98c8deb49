"""A reported number is traced to the sent batches, and a byte that was never sent is detected."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_main_job import account, message, record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Service


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
    # Only replays use this account, and all of its batches are named after replays.
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
    service.client("producer", "sqs").send_message(
        QueueUrl=service.outputs["IngestQueueUrl"], MessageBody=message(f"traced-{who}", [record(who, size=9)])
    )
    service.wait_for_rest()
    whole = service.ask("reader", "trace", "--account", who, "--last", "24h")
    assert [each["batch_id"] for each in whole["batches"]] == [f"traced-{who}"]
    month = whole["hours"][0]["hour"][:7]
    table = service.outputs["UsageTableName"]
    found = service.tables.query(
        TableName=table, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": f"A#{who}#{month}"}}
    )
    key = {name: found["Items"][0][name] for name in ("pk", "sk")}
    try:
        add_bytes(service, table, key, 1)
        done = service.run("reader", "trace", "--account", who, "--last", "24h", "--format", "json")
        assert done.returncode == 1, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert (answer["equal"], answer["sums"]) == (False, {"usage": "10", "rows": "9", "markers": "9"})
        assert "not what the rows say" in done.stderr
    finally:
        # Other tests compare the whole table, so the change is undone.
        add_bytes(service, table, key, -1)
    assert service.ask("reader", "trace", "--account", who, "--last", "24h")["equal"] is True


def add_bytes(service: Service, table: str, key: Any, delta: int) -> None:
    service.clients.dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="ADD #b :d",
        ExpressionAttributeNames={"#b": "b0"},
        ExpressionAttributeValues={":d": {"N": str(delta)}},
    )


def sent_by_account(manifest: Path) -> dict[str, dict[str, int]]:
    """Bytes of each accepted batch, by account and batch id, as counted by the sender."""
    sent: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for text in manifest.read_text().splitlines()[1:]:
        each = json.loads(text)
        if each["expect"] == "accepted":
            for _hour, account_id, _type, _service, _from, _to, size, _records in each["totals"]:
                sent[account_id][each["batch_id"]] += int(size)
    return {name: dict(batches) for name, batches in sent.items()}
