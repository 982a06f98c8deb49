"""No function works on a ledger whose format it does not know: its invocation fails, and its messages come back."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lambdas
from lambdas.aggregator.handler import handler as aggregate
from lambdas.api.handler import handler as answer
from metering.adapters.aws.item_attributes import to_attributes
from metering.adapters.aws.session import Access, Clients
from metering.errors import FormatTooNewError, FormatTooOldError, GenerationError
from metering.ledger.format_version import FORMAT_VERSION, LedgerFormat
from metering.settings import as_environment
from metering.version import package_version
from tests.support.format_ledger import NEWER, REFUSAL, FormatLedger
from tests.support.small_world import batch, delivery
from tests.support.stage import settings
from tests.unit.lambdas.api_requests import request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambdas.sqs import SqsRecord

OWN = LedgerFormat(number=FORMAT_VERSION, written_by="0.1.0", usage_generation=settings().usage_generation)
OLD = LedgerFormat(number=FORMAT_VERSION - 1, written_by="0.1.0", usage_generation=1)
OF_LOGS = ("onramp", "log_context")
FUNCTIONS = sorted(path.parent.name for path in Path(lambdas.__path__[0]).glob("*/handler.py"))


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 50_000


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[FormatLedger]:
    """The ledger of a region whose functions start in this process."""
    for name, value in as_environment(settings().model_dump()).items():
        monkeypatch.setenv(name, value)
    clients = Clients(Access(region="eu-west-1", endpoint_url="http://127.0.0.1:9", access_key=("test", "test")))
    monkeypatch.setattr(Clients, "from_env", lambda *_args, **_options: clients)
    _forget()
    yield FormatLedger(clients, None)
    _forget()


def _forget() -> None:
    for name in FUNCTIONS:
        importlib.import_module(f"lambdas.{name}.handler").dependencies.cache_clear()


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - {"api"}))
def test_a_function_starts_on_a_ledger_of_its_format_and_not_on_a_newer_or_an_older_one(
    name: str, ledger: FormatLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependencies = importlib.import_module(f"lambdas.{name}.handler").dependencies
    if name in OF_LOGS:
        monkeypatch.setenv("METERING_LOG_SOURCES", "[]")
    ledger.item = NEWER.to_item()
    for _ in range(2):
        # Not remembered: a function whose region was put right works again.
        with pytest.raises(FormatTooNewError, match=re.escape(REFUSAL)):
            dependencies()
    ledger.item = OLD.to_item()
    with pytest.raises(FormatTooOldError, match="run metering upgrade"):
        dependencies()
    ledger.item = replace(OWN, usage_generation=OWN.usage_generation + 1).to_item()
    with pytest.raises(GenerationError, match="usage table 3, and 2 is deployed"):
        dependencies()
    ledger.item = OWN.to_item()
    assert dependencies()
    assert ledger.put == []


def test_the_aggregator_makes_the_format_of_a_new_region_known(ledger: FormatLedger) -> None:
    assert importlib.import_module("lambdas.aggregator.handler").dependencies()
    own = replace(OWN, written_by=package_version())
    assert [put["Item"] for put in ledger.put] == [to_attributes(own.to_item())]
    assert "attribute_not_exists" in ledger.put[0]["ConditionExpression"]
    assert ledger.asked == 1


def test_a_new_process_that_gets_no_answer_gives_every_message_back_and_is_no_error(ledger: FormatLedger) -> None:
    ledger.throttled = True
    sent = delivery(batch(1))
    attributes = {"SentTimestamp": "1", "ApproximateReceiveCount": "1", "SenderId": "a"}
    records: list[SqsRecord] = [
        {"messageId": name, "receiptHandle": name, "body": sent.body, "attributes": attributes} for name in "mn"
    ]
    assert aggregate({"Records": records}, Context()) == {
        "batchItemFailures": [{"itemIdentifier": "m"}, {"itemIdentifier": "n"}]
    }


def test_the_api_answers_nothing_of_a_ledger_that_it_does_not_know(ledger: FormatLedger) -> None:
    """Whoever asks gets an answer, and not the gateway's: the ledger is opened by the first request."""
    event = request("/v1/health")
    ledger.item = NEWER.to_item()
    for _ in range(2):
        assert answer(event, Context())["statusCode"] == 500
    ledger.item = OWN.to_item()
    assert answer(event, Context())["statusCode"] == 200


def test_the_api_says_that_it_cannot_answer_now(ledger: FormatLedger) -> None:
    ledger.throttled = True
    answered = answer(request("/v1/health"), Context())
    assert answered["statusCode"] == 503


def test_the_aggregator_gives_every_message_back(ledger: FormatLedger) -> None:
    """It raises, so the mapping deletes none of them; and nothing was asked of the ledger but its format."""
    ledger.item = NEWER.to_item()
    sent = delivery(batch(1))
    attributes = {"SentTimestamp": "1", "ApproximateReceiveCount": "1", "SenderId": "a"}
    record: SqsRecord = {"messageId": "m", "receiptHandle": "m", "body": sent.body, "attributes": attributes}
    with pytest.raises(FormatTooNewError):
        aggregate({"Records": [record]}, Context())
    assert ledger.put == []
