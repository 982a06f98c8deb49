"""Removal policies of resources that hold data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import RemovalPolicy

if TYPE_CHECKING:
    from metering.fleet.stage import StageConfig


def removal_policy(config: StageConfig) -> RemovalPolicy:
    """Keep what holds data when its stack goes, but not what a failed first creation made: that has no data yet.

    `RETAIN` would leave tables, bucket, queues and a key behind that no stack owns, and the next run would make others.
    """
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if config.stateful_retained else RemovalPolicy.DESTROY
