"""Publishes the figures of the watch once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.watch.bootstrap import dependencies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.watch.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int]:
    """Measure every figure and publish all of them."""
    del event, context
    return handle(dependencies())


def handle(parts: Dependencies) -> dict[str, int]:
    """`handler` with its dependencies passed in, for tests."""
    figures = {figure.value: value for figure, value in parts.watch.run().items()}
    parts.logger.info("figures published", extra={"figures": figures})
    return figures
