"""Start of a function: its dependencies are built from its environment on first use."""

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
    """Use case of a function, with its logger and metrics."""

    work: WorkT
    metrics: EmfMetrics
    logger: Logger


def starting(
    service: str, parts_of: type[PartsT], build: Callable[[PartsT, EmfMetrics], WorkT]
) -> Callable[[], Started[WorkT]]:
    """Start a function once per process: `build` makes the use case from its dependencies. A failed start is retried.

    Raises:
        SettingsError: The message names every problem in the environment variables.
        FormatTooNewError: A newer version wrote the ledger.
        UnavailableError: The ledger's format could not be read; the next invocation tries again.
    """

    @cache
    def start() -> Started[WorkT]:
        parts = parts_of.from_env(os.environ)
        metrics = EmfMetrics(service=service, stage=parts.settings.stage)
        return Started(work=build(parts, metrics), metrics=metrics, logger=function_logger(service))

    return start
