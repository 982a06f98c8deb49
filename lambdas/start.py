"""The start of a function: its parts from its environment, on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

from lambdas.emf import EmfMetrics
from lambdas.log import function_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Logger

    from metering.wiring.region import FunctionParts

WorkT = TypeVar("WorkT")
PartsT = TypeVar("PartsT", bound="FunctionParts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Generic[WorkT]):
    """The use case of a function, and the means to report it."""

    work: WorkT
    metrics: EmfMetrics
    logger: Logger


def starting(
    service: str, parts_of: type[PartsT], build: Callable[[PartsT, EmfMetrics], WorkT]
) -> Callable[[], Started[WorkT]]:
    """Start of a function, once a process: `build` makes its use case of its parts. A start that failed is tried again.

    Raises:
        SettingsError: Names every problem of the environment.
        FormatTooNewError: Newer code wrote the ledger.
        UnavailableError: The ledger did not answer when asked for its format; the next invocation asks again.
    """

    @cache
    def start() -> Started[WorkT]:
        parts = parts_of.from_env(os.environ)
        metrics = EmfMetrics(service=service, stage=parts.settings.stage)
        return Started(work=build(parts, metrics), metrics=metrics, logger=function_logger(service))

    return start
