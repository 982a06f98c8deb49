"""Publishes the figures of the watch once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.start import Started, starting
from metering.wiring.region import FunctionParts
from metering.wiring.watch import build_watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.adapters.aws.runtime import LambdaContext
    from metering.operations.watch import Watch

dependencies = starting("watch", FunctionParts, lambda parts, _: build_watch(parts))


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int]:
    """Measure every figure and publish all of them."""
    del event, context
    return handle(dependencies())


def handle(parts: Started[Watch]) -> dict[str, int]:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    figures = {figure.value: value for figure, value in parts.work.run().items()}
    parts.logger.info("figures published", extra={"figures": figures})
    return figures
