"""Parts of the API function, built on first use."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

from lambdas.emf import EmfMetrics
from lambdas.log import function_logger
from metering.api.app import build
from metering.api.limits import Limits
from metering.api.parts import ApiParts
from metering.api.reading import LedgerLarge
from metering.api.tokens import LedgerTokens
from metering.wiring.functions import ReaderParts

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from starlette.types import ASGIApp

    from metering.api.grants import Grant
    from metering.stores.clock import Clock
    from metering.wiring.answers.costs import BillingRegions

SERVICE = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The application, and the means to report what it answered."""

    app: ASGIApp
    clock: Clock
    metrics: EmfMetrics
    logger: Logger


@dataclass
class _Tokens:
    """`Tokens` of the function's region. The first request opens the ledger: one that does not answer is a 503."""

    region: ReaderParts

    @cached_property
    def _ledger(self) -> LedgerTokens:
        return LedgerTokens(items=self.region.items, clock=self.region.clock)

    def grant_of(self, token: str) -> Grant | None:
        return self._ledger.grant_of(token)


def _billing(parts: ReaderParts) -> BillingRegions:
    # The rating is imported by the first request for costs.
    from metering.wiring.answers.costs import own_billing

    return own_billing(parts, home=parts.names.home_region or None)


@cache
def dependencies() -> Dependencies:
    """Build the function's parts from its environment.

    Raises:
        SettingsError: Names every problem of the environment.
    """
    # Its lines at level info have the path in them, and a path may hold what was pasted by mistake.
    logging.getLogger("mangum").setLevel(logging.WARNING)
    parts = ReaderParts.from_env(os.environ)
    app = build(
        ApiParts(
            regions=[parts],
            tokens=_Tokens(parts),
            limits=Limits(),
            clock=parts.clock,
            billing=partial(_billing, parts),
            large=LedgerLarge(items=lambda: parts.items),
        )
    )
    return Dependencies(
        app=app,
        clock=parts.clock,
        metrics=EmfMetrics(service=SERVICE, stage=parts.settings.stage),
        logger=function_logger(SERVICE),
    )
