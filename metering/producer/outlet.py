"""Outlet of a producer: the queue and the bucket of a region, and sending until both have taken everything."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from metering.adapters.aws.errors import refusals_explained
from metering.adapters.aws.objects import bucket_named
from metering.adapters.aws.queues import queue_at
from metering.adapters.aws.runtime import SystemEntropy
from metering.adapters.aws.session import Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.adapters.emulator.reaching import endpoint_for
from metering.errors import OperationFailedError, SettingsError, UnavailableError
from metering.stores.clock import Clock, Entropy, Retrier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.producer.batches import Batch
    from metering.stores.objects import ObjectStore

# A queue's URL names its region: https://sqs.eu-west-1.amazonaws.com/111122223333/ingest.
_QUEUE_OF_REGION = re.compile(r"https://sqs\.([a-z]{2,}(?:-[a-z]+)+-[0-9]+)\.amazonaws\.com(?:\.cn)?/")
# Attempts have no limit: a call is repeated until its time is over.
_NO_LIMIT = 2**31
_FOR_EVER_MS = 2**53


class Messages(Protocol):
    """The queue operations that a producer may use."""

    def send_many(self, bodies: Sequence[str]) -> list[int]:
        """Send messages; returns the positions of those that were not taken. Even these may arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """Where batches go.

    Attributes:
        bucket: Name of the data bucket, as messages state it.
    """

    queue: Messages
    objects: ObjectStore
    bucket: str
    clock: Clock
    entropy: Entropy

    def send(self, batches: Sequence[Batch], *, source_id: str | None, until_ms: int | None) -> None:
        """Put the objects of batches, then send their messages, repeatedly until everything was taken.

        Args:
            batches: A few batches; all their messages are held in memory.
            source_id: Source that messages name with their numbers; None for messages without numbers.
            until_ms: No attempt is made after that moment; None for no limit.

        Raises:
            UnavailableError: The time is over. Batches not known to be taken may have arrived.
            OperationFailedError: AWS refuses the caller.
        """
        bodies = [each.body(source_id=source_id, bucket=self.bucket) for each in batches]
        retrier = Retrier(clock=self.clock, entropy=self.entropy, attempts=_NO_LIMIT)
        end_ms = _FOR_EVER_MS if until_ms is None else until_ms

        def go_on() -> bool:
            return self.clock.now_ms() < end_ms

        def send_bodies() -> None:
            bodies[:] = [bodies[position] for position in self.queue.send_many(bodies)]
            if bodies:
                raise UnavailableError("sqs.SendMessageBatch", f"{len(bodies)} messages were not taken")

        with refusals_explained():
            for batch in batches:
                if not batch.inline:
                    retrier.call(partial(self._put, batch), go_on=go_on)
            retrier.call(send_bodies, go_on=go_on)

    def _put(self, batch: Batch) -> None:
        self.objects.put(batch.object_key, batch.payload, if_absent=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Destination region, as a program specifies it.

    Attributes:
        queue_url: URL of the ingest queue; with `bucket` given, no stack is read.
        stage: Stage whose data stack names both; None for `METERING_STAGE`, or else `local`.
        region: None for the region in the queue's URL, or the environment's.
        endpoint: URL of an emulator; None for the environment's, for that of `metering local up` if the stage is
            emulated, and else AWS.
    """

    queue_url: str | None = None
    bucket: str | None = None
    stage: str | None = None
    region: str | None = None
    endpoint: str | None = None

    def check(self) -> None:
        """Refuse a destination that is only partly specified.

        Raises:
            OperationFailedError: Queue or bucket is missing, or a stage is given beside them.
        """
        if (self.queue_url is None) != (self.bucket is None):
            raise OperationFailedError(
                "queue_url and bucket come together or not at all.",
                "They are the outputs IngestQueueUrl and DataBucketName of the stack metering-<stage>-data.",
            )
        if self.queue_url is not None and self.stage is not None:
            raise OperationFailedError(
                "A stage and queue_url both say where batches go.", "Name the stage, or queue_url and bucket."
            )

    def outlet(self, clock: Clock, environ: Mapping[str, str] = os.environ) -> Outlet:
        """Connect. Nothing is sent.

        Raises:
            OperationFailedError: The stage is not deployed in the region, or AWS refuses the caller.
            UnavailableError: The region does not answer.
        """
        with refusals_explained():
            clients, queue_url, bucket = self._found(environ)
            return Outlet(
                queue=queue_at(clients, queue_url),
                objects=bucket_named(clients, bucket),
                bucket=bucket,
                clock=clock,
                entropy=SystemEntropy(),
            )

    def _found(self, environ: Mapping[str, str]) -> tuple[Clients, str, str]:
        if self.queue_url is not None and self.bucket is not None:
            told = _QUEUE_OF_REGION.match(self.queue_url)
            region = self.region or (told[1] if told is not None else None)
            clients = Clients.from_env(environ, region=region, endpoint_url=self.endpoint)
            return clients, self.queue_url, self.bucket
        stage = self.stage or environ.get("METERING_STAGE") or "local"
        endpoint = endpoint_for(stage, self.endpoint, environ)
        clients = Clients.from_env(environ, region=self.region, endpoint_url=endpoint)
        try:
            names = stack_outputs(clients, stage)
        except SettingsError as error:
            raise OperationFailedError(
                f"{error}.", "Name another stage, region or endpoint; or queue_url and bucket, which need no stack."
            ) from error
        return clients, names.ingest_queue_url, names.data_bucket
