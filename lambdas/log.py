"""Log of a function: JSON lines with the service and the version of the code."""

from __future__ import annotations

from aws_lambda_powertools import Logger

from metering.version import package_version


def function_logger(service: str) -> Logger:
    """Logger whose lines all have the fields `service` and `version`."""
    return Logger(service=service, version=package_version())
