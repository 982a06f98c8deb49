"""Python programs under separate roles: one sends with `metering.Producer`, one reads with `metering.connect`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.emulator.ministack import api_address
from tests import ROOT
from tests.e2e.conftest import Service, plain_environment, stack_outputs_of
from tests.e2e.test_main_job import account, message, record
from tests.unit.client.test_notebook import is_connecting, read

if TYPE_CHECKING:
    from pathlib import Path

# These tests complement the in-process tests; they are slow, because each test starts commands and waits for them.
pytestmark = pytest.mark.drill

_LIMIT_S = 60
_LARGE_CHARS = 300_000

_SEND = """
import json, sys
import metering

state, queue_url, bucket, keys = json.load(sys.stdin)
with metering.Producer("e2e-python", state=state, queue_url=queue_url, bucket=bucket) as producer:
    sent = [producer.send(records, key=key) for key, records in keys.items()]
print(json.dumps([[each.first_sequence, each.records, each.again] for each in sent]))
"""
# The notebook's first cell runs before this code, and it defines `connection`.
_READ = """
import json, sys

who, = json.load(sys.stdin)
usage = connection.usage(account=who, group_by="usage_type")
batches = connection.trace(who, last="3h")
rows = connection.query(f"SELECT sum(bytes) AS bytes FROM transfers WHERE account_id = '{who}'")
told = connection.about(usage)
print(json.dumps({
    "usage": [[str(row["bytes"]), row["records"]] for row in usage.to_pylist()],
    "batches": sorted([row["source_id"], row["sequence"]] for row in batches.to_pylist()),
    "sql": [str(row["bytes"]) for row in rows.to_pylist()],
    "told": sorted(told),
}))
"""

_OVER_HTTP = """
import json, sys
import metering

url, token, who = json.load(sys.stdin)
connection = metering.connect(url=url, token=token)
table = connection.usage(account=who, last="3h", group_by="account_id")
[row] = table.to_pylist()
equal = table.equals(metering.connect().usage(account=who, last="3h", group_by="account_id"))
try:
    metering.connect(url=url, token="mtr_0123456789abcdef_" + "0" * 64).usage()
except metering.errors.OperationFailedError as error:
    refused = type(error).__name__
print(json.dumps([[str(row["bytes"]), row["records"]], equal, refused]))
"""


def _run(service: Service, role: str, program: str, *given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(given),
        cwd=ROOT,
        env={**plain_environment(), **service.roles[role], "METERING_STAGE": service.stage},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def _ask(service: Service, role: str, program: str, *given: object) -> Any:
    done = _run(service, role, program, *given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_a_python_program_sends_another_one_reads(service: Service, tmp_path: Path) -> None:
    who = account()
    keys = {
        "small": [record(who, size=10), record(who, size=20)],
        "large": [{**record(who, size=2**62), "note": "x" * _LARGE_CHARS} for _ in range(4)],
    }
    given = (str(tmp_path), service.outputs["IngestQueueUrl"], service.outputs["DataBucketName"], keys)
    assert _ask(service, "producer", _SEND, *given) == [[0, 2, False], [1, 4, False]]
    # The caller does not know the outcome, and resends everything.
    assert _ask(service, "producer", _SEND, *given) == [[0, 2, True], [1, 4, True]]

    [cell] = [each for each in read()["cells"] if is_connecting(each)]
    program, end = "".join(cell["source"]) + _READ, time.monotonic() + _LIMIT_S
    total = str(4 * 2**62 + 30)
    while (found := _ask(service, "reader", program, who))["usage"] != [[total, 6]]:
        assert time.monotonic() < end, found
        time.sleep(1)
    assert found["batches"] == [["e2e-python", 0], ["e2e-python", 1]]
    assert found["sql"] == [total]
    assert {"as_of", "complete_through", "held_back_by", "periods"} <= {*found["told"]}


def test_the_same_over_http_with_a_token(service: Service) -> None:
    found = api_address(stack_outputs_of(service.clients, service.stage, "api")["ApiUrl"], service.endpoint)
    if found.host:
        pytest.skip("this emulator tells functions apart by the header Host, which a URL cannot name")
    who = account()
    service.send(message(f"http-{who}", [record(who, size=41_943_040)]))
    service.wait_for_rest()
    token = service.ask("operator", "token", "create", "--role", "customer", "--account", who, "--days", "1")["token"]
    assert _ask(service, "reader", _OVER_HTTP, found.base, token, who) == [
        ["41943040", 1],
        True,
        "OperationFailedError",
    ]


def test_a_refusal_is_an_error_of_ours_that_says_what_to_do(service: Service, tmp_path: Path) -> None:
    if not service.enforced:
        return
    given = (
        str(tmp_path),
        service.outputs["IngestQueueUrl"],
        service.outputs["DataBucketName"],
        {"a": [record(account(), size=1)]},
    )
    done = _run(service, "reader", _SEND, *given)
    assert done.returncode == 1
    assert "metering.errors.OperationFailedError: SendMessageBatch was refused" in done.stderr
    # The batch is in the journal, and a role with permission sends it.
    assert _ask(service, "producer", _SEND, *given) == [[0, 1, True]]
