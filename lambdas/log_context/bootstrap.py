"""Parts of the log-context function, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lambdas.emf import EmfMetrics
from lambdas.log import function_logger
from metering.wiring.onramps import OnrampParts, build_context_keeper, build_coverage_look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aws_lambda_powertools import Logger

    from metering.onramps.context.keeping import ContextKeeper

SERVICE = "log-context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Use cases of the function, and the means to report them.

    Attributes:
        keeper: Captures contexts that are due.
        look: Looks for missing log files, and answers with what it found.
    """

    keeper: ContextKeeper
    look: Callable[[], Mapping[str, int]]
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
    parts = OnrampParts.from_env(os.environ)
    return Dependencies(
        keeper=build_context_keeper(parts),
        look=build_coverage_look(parts),
        metrics=EmfMetrics(service=SERVICE, stage=parts.settings.stage),
        logger=function_logger(SERVICE),
    )
