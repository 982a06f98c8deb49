"""Functions make their calls side by side, as many as `make scale` measures them with."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from metering.adapters.aws.session import Access, Clients
from metering.ledger.format_version import FORMAT_VERSION, LedgerFormat
from metering.settings import as_environment
from metering.stores.clock import CALLS_AT_ONCE
from tests.support.format_ledger import FormatLedger
from tests.support.stage import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["", "http://127.0.0.1:9"], ids=["aws", "emulator"])
def threads_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Threads of the jobs of a function that starts in this process."""
    for name, value in as_environment(settings().model_dump()).items():
        monkeypatch.setenv(name, value)
    access = Access(region="eu-west-1", endpoint_url=request.param or None, access_key=("test", "test"))
    clients = Clients(access)
    monkeypatch.setattr(Clients, "from_env", lambda *_args, **_options: clients)
    own = LedgerFormat(number=FORMAT_VERSION, written_by="0.1.0", usage_generation=settings().usage_generation)
    FormatLedger(clients, own.to_item())
    made = []

    def start(name: str) -> int:
        module = importlib.import_module(f"lambdas.{name}.handler")
        module.dependencies.cache_clear()
        made.append(module)
        threads: int = module.dependencies().work.threads
        return threads

    yield start
    for module in made:
        module.dependencies.cache_clear()


def test_the_compactor_has_many_calls_on_their_way(threads_of: Callable[[str], int]) -> None:
    assert threads_of("compactor") == CALLS_AT_ONCE


def test_the_reconciler_scans_in_parts_side_by_side_but_for_an_emulator(
    threads_of: Callable[[str], int], request: pytest.FixtureRequest
) -> None:
    emulated = request.node.name.endswith("[emulator]")
    found = threads_of("reconciler")
    assert (found < CALLS_AT_ONCE) if emulated else (found == CALLS_AT_ONCE)
