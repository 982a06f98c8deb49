"""Parts of the reconciler function, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lambdas.emf import EmfMetrics
from lambdas.log import function_logger
from metering.stores.threads import scans_at_once
from metering.wiring.functions import FunctionParts
from metering.wiring.jobs import LakeJobs, lake_jobs

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

SERVICE = "reconciler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Use cases of the function, and the means to report them."""

    jobs: LakeJobs
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
    threads = scans_at_once(emulated=parts.clients.access.custom_endpoint)
    jobs = lake_jobs(parts, metrics, threads=threads)
    return Dependencies(jobs=jobs, metrics=metrics, logger=function_logger(SERVICE))
