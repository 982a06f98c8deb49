"""Parts of the roll-up function, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lambdas.emf import EmfMetrics
from lambdas.log import function_logger
from metering.stores.threads import CALLS_AT_ONCE
from metering.wiring.functions import FunctionParts
from metering.wiring.lake import build_rollup, rollup_tick

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from metering.rollup.tick import RollupTick

SERVICE = "rollup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Use case of the function, and the means to report it."""

    tick: RollupTick
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
    tick = rollup_tick(parts, build_rollup(parts, metrics, threads=CALLS_AT_ONCE))
    return Dependencies(tick=tick, metrics=metrics, logger=function_logger(SERVICE))
