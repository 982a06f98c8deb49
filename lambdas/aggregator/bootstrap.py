"""Parts of the aggregator function, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lambdas.emf import EmfMetrics
from lambdas.log import function_logger
from metering.wiring.aggregator import AggregatorParts, build_aggregator

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Logger

    from metering.commit.aggregator import Aggregator
    from metering.stores.queues import Queue, QueueFacts

SERVICE = "aggregator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Use case of the function, and the means to report it.

    Attributes:
        queue, facts: Give the ingest queue, and what it is like, which only a throttle asks for: a client costs a cold
            start time.
    """

    aggregator: Aggregator
    queue: Callable[[], Queue]
    facts: Callable[[], QueueFacts]
    metrics: EmfMetrics
    logger: Logger


@cache
def dependencies() -> Dependencies:
    """Build the function's parts from its environment.

    Raises:
        SettingsError: Names every problem of the environment.
        FormatTooNewError: Newer code wrote the ledger.
        UnavailableError: The ledger did not answer when asked for its format; the next invocation asks again.
    """
    # The first batch of a region makes its format known: that of the canary, if no other.
    parts = AggregatorParts.from_env(os.environ)
    metrics = EmfMetrics(service=SERVICE, stage=parts.settings.stage)
    aggregator = build_aggregator(parts, metrics, parts.services)
    return Dependencies(
        aggregator=aggregator,
        queue=lambda: parts.ingest,
        facts=lambda: parts.queue_facts,
        metrics=metrics,
        logger=function_logger(SERVICE),
    )
