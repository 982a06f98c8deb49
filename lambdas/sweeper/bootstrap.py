"""Parts of the sweeper function, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lambdas.emf import EmfMetrics
from lambdas.log import function_logger
from metering.wiring.functions import FunctionParts
from metering.wiring.sweeper import build_sweeper

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from metering.commit.sweeper import Sweeper

SERVICE = "sweeper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Use case of the function, and the means to report it."""

    sweeper: Sweeper
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
    parts = FunctionParts.from_env(os.environ)
    metrics = EmfMetrics(service=SERVICE, stage=parts.settings.stage)
    return Dependencies(sweeper=build_sweeper(parts, metrics), metrics=metrics, logger=function_logger(SERVICE))
