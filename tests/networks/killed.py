"""Processes that take log files and aggregate, each of which can be killed at any moment."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.adapters.aws.log_buckets import S3LogStore
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock
from metering.errors import UnavailableError
from metering.onramps.context.store import ContextStore
from metering.onramps.ingest.taking import LogIngest
from metering.onramps.sources import SHARED_SUBNETS
from tests.integration.region import Region
from tests.support.emulated import Resources, clients_of

if TYPE_CHECKING:
    from pathlib import Path

# A message comes back this soon after its worker died.
VISIBILITY_S = 3
_MESSAGES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    endpoint: str
    resources: Resources
    queue_url: str
    log_bucket: str
    work_dir: Path


def region_of(site: Site) -> Region:
    region = Region(clients_of(site.endpoint), resources=site.resources)
    region.clock = SystemClock()  # type: ignore[assignment]  # another `Clock`
    return region


def queue_of(site: Site) -> SqsQueue:
    return SqsQueue(clients_of(site.endpoint).sqs, site.queue_url)


def take(site: Site) -> None:
    """Take all log files in an order of its own, again and again until killed. Writes down each pass that it ended."""
    region, store = region_of(site), S3LogStore(clients_of(site.endpoint).s3, site.log_bucket)
    ingest = LogIngest(
        objects=region.objects,
        bucket=site.resources.bucket,
        queue=queue_of(site),
        contexts=ContextStore(region.objects),
        clock=region.clock,
        window_s=None,
    )
    chance = random.Random(os.getpid())
    keys = [info.key for info in store.list("")]
    while True:
        for key in chance.sample(keys, len(keys)):
            verdict = ingest.take(store, key, bills=SHARED_SUBNETS).verdict
            assert verdict in ("metered", "repeated", "empty"), verdict
        with (site.work_dir / "passes").open("a") as file:
            file.write(f"{os.getpid()}\n")


def aggregate(site: Site) -> None:
    region, queue = region_of(site), queue_of(site)
    while True:
        received = queue.receive(_MESSAGES)
        if not received:
            time.sleep(0.05)
            continue
        try:
            retry = region.handle([each.delivery for each in received]).retry
        except UnavailableError:
            continue
        queue.delete_many([each.receipt for each in received if each.delivery.message_id not in retry])
