"""Processes that ingest log files or aggregate batches; each process can be killed at any time."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass

from metering.adapters.aws.log_buckets import S3LogStore
from metering.errors import UnavailableError
from metering.onramps.context.store import ContextStore
from metering.onramps.ingest.taking import LogIngest
from metering.onramps.sources import SHARED_SUBNETS
from tests.integration.processes import MESSAGES, Site, queue_of, region_of
from tests.support.emulated import clients_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSite(Site):
    log_bucket: str


def take(site: LogSite) -> None:
    """Ingest all log files in random order, repeatedly, until killed. Each completed pass is logged."""
    region, store = region_of(site), S3LogStore(clients_of(site.endpoint).s3, site.log_bucket)
    ingest = LogIngest(
        objects=region.objects, bucket=site.resources.bucket, queue=queue_of(site), clock=region.clock, window_s=None,
        contexts=ContextStore(region.objects),
    )  # fmt: skip
    chance = random.Random(os.getpid())
    keys = [info.key for info in store.list("")]
    while True:
        for key in chance.sample(keys, len(keys)):
            verdict = ingest.take(store, key, bills=SHARED_SUBNETS).verdict
            assert verdict in ("metered", "repeated", "empty"), verdict
        with (site.log_dir / "passes").open("a") as file:
            file.write(f"{os.getpid()}\n")


def aggregate(site: LogSite) -> None:
    region, queue = region_of(site), queue_of(site)
    while True:
        received = queue.receive(MESSAGES)
        if not received:
            time.sleep(0.05)
            continue
        try:
            retry = region.handle([each.delivery for each in received]).retry
        except UnavailableError:
            continue
        queue.delete_many([each.receipt for each in received if each.delivery.message_id not in retry])
