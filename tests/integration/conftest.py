"""The real adapters on MiniStack, with injectable network faults."""

from types import SimpleNamespace

import botocore.endpoint
import pytest

from tests.integration.bench import Bench
from tests.support.emulated import clients, clients_of, ministack
from tests.support.wire import Wire

__all__ = ["clients", "ministack"]


@pytest.fixture(scope="module")
def bench(ministack: str) -> Bench:
    """Clients with two attempts per call: one retry, then an error."""
    made = clients_of(ministack, attempts=2)
    wire = Wire()
    wire.attach(made.dynamodb, made.s3)
    return Bench(made, wire)


@pytest.fixture(autouse=True)
def _sdk_waits_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the SDK's pauses between attempts."""
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _seconds: None))
