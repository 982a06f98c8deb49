"""`metering verify` 20 times during steady traffic and the canary: no batch is lost or counted twice."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_main_job import account, message, record

if TYPE_CHECKING:
    from tests.e2e.conftest import Service

_VERIFICATIONS = 20
_EVERY_S = 0.3
_CANARY_EVERY_S = 5.0


class _Traffic:
    """A batch now and then, and the canary more often than scheduled."""

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
        sqs, name = self._service.client("producer", "sqs"), account()
        while not self._over.wait(_EVERY_S):
            batch_id = f"steady-{name}-{self.sent}"
            body = message(batch_id, [record(name, size=1_000)])
            sqs.send_message(QueueUrl=self._service.outputs["IngestQueueUrl"], MessageBody=body)
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
            found = json.loads(service.run("operator", "verify", "--format", "json").stdout)
            assert (found["lost"], found["doubled"], found["differences"]) == ([], [], []), (number, found)
            settled += found["settled"]
        assert traffic.sent > _VERIFICATIONS
    print(f"{settled} of {_VERIFICATIONS} verifications beside {traffic.sent} batches were settled")
    service.wait_for_rest()
    at_rest = service.ask("operator", "verify", "--wait", "2m")
    assert at_rest["passed"]
