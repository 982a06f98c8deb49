"""What a region is asked before anything is built in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from metering.adapters.aws.fleet.probe import RegionProbe
from metering.fleet.regions import ALONE_FUNCTIONS, Answered

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients


class Region:
    """Clients of a region that has everything, with a quota of concurrent executions."""

    def __init__(self, concurrency: int) -> None:
        self.cloudformation = SimpleNamespace(
            validate_template=lambda **_: {},
            get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: [{"TypeSummaries": []}]),
        )
        self.service_quotas = SimpleNamespace(
            get_service_quota=lambda ServiceCode, QuotaCode: {  # noqa: N803  # the SDK's names
                "Quota": {"Value": concurrency if ServiceCode == "lambda" else 10_000, "Code": QuotaCode}
            }
        )

    def client(self, _service: str) -> Any:
        class Everything:
            def __getattr__(self, _: str) -> Any:
                return lambda **_: {}

        return Everything()


@pytest.mark.parametrize(("quota", "answered"), [(102, Answered.FAILED), (103, Answered.PASSED)])
def test_an_account_with_too_little_concurrency_to_reserve_any_is_told_before_it_deploys(
    quota: int, answered: Answered
) -> None:
    probe = RegionProbe(lambda _: cast("Clients", Region(quota)))

    [finding] = [f for f in probe.preflight("us-east-1", []) if f.check == "quota Lambda concurrent executions"]

    # AWS lets nobody reserve of the last 100.
    assert 100 + len(ALONE_FUNCTIONS) == 103
    assert (finding.answered, finding.detail) == (answered, f"{quota}, needed 103")
