"""`Producer`: sends records so that each record is metered once, even if the process is killed.

The producer's outlet is a region's queue and bucket; the outlet sends until both have accepted everything.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias
from uuid import uuid4

from metering.adapters.aws import errors, queues, runtime, session, stacks
from metering.adapters.aws.objects import bucket_named
from metering.adapters.emulator.ministack import endpoint_for
from metering.errors import OperationFailedError, SettingsError, UnavailableError
from metering.producer.batches import Batch, KeyReusedError, NotSentError, batch_id, record_lines, split
from metering.producer.journal import Journal, LineDigest, Promise
from metering.stores.clock import Clock, Entropy, Retrier
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from metering.stores.objects import ObjectStore

# A queue's URL names its region: https://sqs.eu-west-1.amazonaws.com/111122223333/ingest.
_QUEUE_OF_REGION = re.compile(r"https://sqs\.([a-z]{2,}(?:-[a-z]+)+-[0-9]+)\.amazonaws\.com(?:\.cn)?/")
# The number of attempts is not limited: a call is repeated until its time has run out.
_NO_LIMIT = 2**31
_FOR_EVER_MS = 2**53


class Messages(Protocol):
    """The queue operations that a producer has permission to use."""

    def send_many(self, bodies: Sequence[str]) -> list[int]:
        """Send messages; return the positions of messages that were not accepted. Even these may arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """Where batches go.

    Attributes:
        bucket: Name of the data bucket, which messages contain.
    """

    queue: Messages
    objects: ObjectStore
    bucket: str
    clock: Clock
    entropy: Entropy

    def send(self, batches: Sequence[Batch], *, source_id: str | None, until_ms: int | None) -> None:
        """Put the batches' objects, then send the batches' messages, and retry until everything is accepted.

        Args:
            batches: A few batches; all their messages are held in memory.
            source_id: Source that messages state with their sequence numbers; None for unnumbered messages.
            until_ms: Time after which no attempt is started; None for no limit.

        Raises:
            UnavailableError: The time is over. Unconfirmed batches may have arrived.
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

        with errors.refusals_explained():
            for batch in batches:
                if not batch.inline:
                    retrier.call(partial(self._put, batch), go_on=go_on)
            retrier.call(send_bodies, go_on=go_on)

    def _put(self, batch: Batch) -> None:
        self.objects.put(batch.object_key, batch.payload, if_absent=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Destination region, specified by a program.

    Attributes:
        queue_url: URL of the ingest queue; if it is given with `bucket`, no stack is read.
        stage: Stage whose data stack specifies queue and bucket; None for `METERING_STAGE`, or else `local`.
        region: Region; None for the region in the queue's URL, or else in the environment.
        endpoint: URL of an emulator; None for the environment's URL, else the URL of `metering local up` if the stage
            is emulated, else AWS.
    """

    queue_url: str | None = None
    bucket: str | None = None
    stage: str | None = None
    region: str | None = None
    endpoint: str | None = None

    def check(self) -> None:
        """Refuse a destination that is only partly specified.

        Raises:
            OperationFailedError: Only one of queue and bucket is given, or a stage is given as well.
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
        with errors.refusals_explained():
            clients, queue_url, bucket = self._found(environ)
            return Outlet(
                queue=queues.queue_at(clients, queue_url),
                objects=bucket_named(clients, bucket),
                bucket=bucket,
                clock=clock,
                entropy=runtime.SystemEntropy(),
            )

    def _found(self, environ: Mapping[str, str]) -> tuple[session.Clients, str, str]:
        if self.queue_url is not None and self.bucket is not None:
            told = _QUEUE_OF_REGION.match(self.queue_url)
            region = self.region or (told[1] if told is not None else None)
            clients = session.Clients.from_env(environ, region=region, endpoint_url=self.endpoint)
            return clients, self.queue_url, self.bucket
        stage = self.stage or environ.get("METERING_STAGE") or "local"
        endpoint = endpoint_for(stage, self.endpoint, environ)
        clients = session.Clients.from_env(environ, region=self.region, endpoint_url=endpoint)
        try:
            names = stacks.stack_outputs(clients, stage)
        except SettingsError as error:
            raise OperationFailedError(
                f"{error}.", "Name another stage, region or endpoint; or queue_url and bucket, which need no stack."
            ) from error
        return clients, names.ingest_queue_url, names.data_bucket


# The service itself uses these names, in batch ids or below `ingest/`.
_RESERVED = frozenset({"canary", "drop", "ingest", "log", "logs", "retry", "s3"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SOURCE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")
_KEY_CHARS = 1_024
_KEY = re.compile(rf"[^\ud800-\udfff]{{1,{_KEY_CHARS}}}", re.DOTALL)
_PATIENCE_S = 60
# Half of the numbers that a source can have remain.
_MOST_FIRST = 2**62
# Time that records wait for others to share their batch with.
_FILL_S = 60
# Longer than the 50 days of markers and the 35 days of admission, after which a key is useless.
_KEYS_KEPT_DAYS = 90


Records: TypeAlias = "Iterable[Mapping[str, object]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Result of `send`: the queue has accepted all records of the key.

    Attributes:
        key: The caller's key, or the generated one.
        batch_ids: Ids of the key's batches, in order; empty without records.
        first_sequence: Number of the first batch; the others follow. None without a journal or without records.
        again: Whether the key was journalled before. A repeated key gets no new sequence numbers.
    """

    key: str
    records: int
    batch_ids: tuple[str, ...]
    first_sequence: int | None
    again: bool


class Producer:
    """Sends records of one source to one region. Threads may share a Producer; their calls run one at a time.

    With `state`, records are synced to a journal in that folder before any are sent. If a `send` returned or raised
    `NotSentError`, its records are never lost, and its batches are numbered without a gap. After a crash, the next call
    sends the remaining batches, and the caller repeats each `send` that did not return; known keys give the same
    batches and the same numbers. Without `state` (in functions), only the caller's key ensures that ids stay the same,
    and batches have no numbers.

    Args:
        source_id: Source of the records: 1 to 128 characters without control characters.
        state: Folder of the journal, on a local disk that persists after the process ends. One process, one source.
        name: Prefix of batch ids and object keys, as registered by `metering producers add`: 1-64 of `A-Za-z0-9._-`.
            Default: the source id.
        queue_url: The ingest queue; if it is given with `bucket`, no stack is read.
        bucket: The data bucket.
        stage: The stage, instead of queue and bucket. Default: `METERING_STAGE`, or `local`.
        region: Default: the region in the queue's URL, or the AWS SDK's.
        endpoint: URL of an emulator. Default: `AWS_ENDPOINT_URL`; for stage `local`, the URL of `metering local up`;
            otherwise AWS.
        fill_s: How long records of `add` wait for others to share their batch, in seconds.
        patience_s: How long a call retries, in seconds; None for no limit. Each request has four SDK attempts.
        first_sequence: Number of a new journal's first batch, for a source whose records other tools sent before.
        outlet: Destination of batches that replaces queue and bucket, for tests.

    Raises:
        OperationFailedError: An argument is invalid, or the journal cannot be used (`JournalError`).
    """

    def __init__(
        self,
        source_id: str,
        *,
        state: str | os.PathLike[str] | None = None,
        name: str | None = None,
        queue_url: str | None = None,
        bucket: str | None = None,
        stage: str | None = None,
        region: str | None = None,
        endpoint: str | None = None,
        fill_s: int = _FILL_S,
        patience_s: int | None = _PATIENCE_S,
        first_sequence: int = 0,
        outlet: Outlet | None = None,
    ) -> None:
        self.source_id = _checked_source(source_id)
        self.name = _checked_name(source_id if name is None else name)
        _check_first(first_sequence)
        self._place = Place(queue_url=queue_url, bucket=bucket, stage=stage, region=region, endpoint=endpoint)
        self._place.check()
        self._outlet = outlet
        self._clock = runtime.SystemClock() if outlet is None else outlet.clock
        self._patience_s = patience_s
        self._fill_s = fill_s
        self._turn = threading.RLock()
        self._process = os.getpid()
        self._journal = (
            None
            if state is None
            else Journal(Path(state), source_id=source_id, name=self.name, first_sequence=first_sequence)
        )
        self._forgot = False

    def send(self, records: Records, *, key: str | None = None) -> Sent:
        """Send records; return when the queue has accepted all records.

        Args:
            records: Records as defined in docs/contract.md, any number, read once; one batch at a time is in memory.
                Values are strings, integers and times with a time zone.
            key: Name of these records, such as `flows.log:4096` or a job's id: 1 to 1,024 characters. The same key with
                the same records in the same order always gives the same batches, even if sent repeatedly. Without a
                key, each call gets a new key, so records that are sent again are counted again.

        Raises:
            NotSentError: The queue or the bucket did not accept everything in time. With a journal, any later call
                sends the stored records; without a journal, send the key again.
            RecordsRefusedError: Records cannot be written as JSON; nothing was sent.
            KeyReusedError: The key was used for other records before. Only a journal detects the reuse; without a
                journal, the service quarantines the other records as a conflict.
            JournalError: The journal cannot be written; records that are not in the journal were not sent.
            OperationFailedError: There is neither a key nor a journal, or AWS refuses the caller.
        """
        with self._turn:
            self._refuse_other_process()
            if self._journal is None:
                return self._send_unnumbered(self._checked_key(key), records)
            return self._send_numbered(self._journal, self._checked_key(key), records)

    def add(self, records: Records, *, key: str | None = None) -> int:
        """Store records, to share batches with those of other keys. Send what is full, or has waited for `fill_s`.

        A shared batch has up to 1,000 records or 200 KB. Most of the cost of a batch does not depend on its records.
        The records are in the journal when this returns. Any later call sends them, and `flush` sends them now.

        Args:
            records: As in `send`.
            key: As in `send`. A key that is added again is counted once, while its journal exists: without it, the
                same key may come into another batch, which has another id. A key is of `send` or of `add`.

        Returns:
            Number of batches that this call sent.

        Raises:
            NotSentError, RecordsRefusedError, KeyReusedError, JournalError, OperationFailedError: As `send`.
        """
        with self._turn:
            self._refuse_other_process()
            if self._journal is None:
                raise OperationFailedError(
                    "Records that share a batch need a journal: nothing else knows which records a batch has.",
                    "Give state=, a folder for the journal; or send the records, many under one key.",
                )
            now_s = self._clock.now_ms() // 1000
            self._add(self._journal, self._checked_key(key), records, now_s)
            self._journal.fill(since=(now_s - self._fill_s, now_s))
            return self._send_left(self._journal)

    def flush(self) -> int:
        """Send the batches that earlier calls and processes left in the journal, full or not; return their number.

        Raises:
            NotSentError, JournalError, OperationFailedError: As `send`.
        """
        with self._turn:
            self._refuse_other_process()
            if self._journal is None:
                return 0
            self._journal.fill()
            return self._send_left(self._journal)

    @property
    def unsent(self) -> int:
        """Number of batches in the journal that are not confirmed as sent, also one to fill; 0 without a journal."""
        with self._turn:
            self._refuse_other_process()
            return 0 if self._journal is None else self._journal.count_unsent()

    @property
    def next_sequence(self) -> int | None:
        """Sequence number of the next batch; None without a journal."""
        with self._turn:
            self._refuse_other_process()
            return None if self._journal is None else self._journal.next_sequence

    def close(self) -> None:
        """Close the journal. The next Producer sends the remaining batches. A second call has no effect."""
        with self._turn:
            if self._journal is not None and self._process == os.getpid():
                self._journal.close()

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send_numbered(self, journal: Journal, key: str, records: Records) -> Sent:
        known = journal.find(key)
        # Numbers follow the order of the calls.
        journal.fill()
        promise = self._promise(journal, key, records) if known is None else known
        if known is not None and _digest(records, shared=False) != known.digest:
            raise KeyReusedError(key)
        self._send_left(journal)
        return self._sent(key, promise, numbered=True, again=known is not None)

    def _send_unnumbered(self, key: str, records: Records) -> Sent:
        # All records are validated before the first record is sent, as with a permanent journal.
        journal = Journal(None, source_id=self.source_id, name=self.name, first_sequence=0)
        try:
            promise = self._promise(journal, key, records)
            self._send_left(journal)
        finally:
            journal.close()
        return self._sent(key, promise, numbered=False, again=False)

    def _sent(self, key: str, promise: Promise, *, numbered: bool, again: bool) -> Sent:
        return Sent(
            key=key,
            records=promise.records,
            batch_ids=tuple(batch_id(self.name, key, part) for part in range(promise.batches)),
            first_sequence=promise.first if numbered and promise.batches else None,
            again=again,
        )

    def _add(self, journal: Journal, key: str, records: Records, now_s: int) -> None:
        known = journal.find(key)
        if known is None:
            digest = LineDigest(shared=True)
            self._forget(journal, now_s)
            journal.add(key, digest.through(record_lines(records)), digest, now_s=now_s)
        elif _digest(records, shared=True) != known.digest:
            raise KeyReusedError(key)

    def _forget(self, journal: Journal, now_s: int) -> None:
        if not self._forgot:
            journal.forget_keys(before_s=now_s - _KEYS_KEPT_DAYS * DAY_S)
            self._forgot = True

    def _promise(self, journal: Journal, key: str, records: Records) -> Promise:
        digest = LineDigest()
        now_s = self._clock.now_ms() // 1000
        self._forget(journal, now_s)
        return journal.promise(key, split(digest.through(record_lines(records))), digest, now_s=now_s)

    def _send_left(self, journal: Journal) -> int:
        numbered, number = journal is self._journal, 0
        until_ms = None if self._patience_s is None else self._clock.now_ms() + 1000 * self._patience_s
        while batches := journal.unsent():
            try:
                self._connected().send(batches, source_id=self.source_id if numbered else None, until_ms=until_ms)
            except UnavailableError as error:
                raise NotSentError(
                    error.operation, error.detail, unsent=journal.count_unsent(), journalled=numbered
                ) from error
            journal.sent(batches)
            number += len(batches)
        return number

    def _connected(self) -> Outlet:
        if self._outlet is None:
            self._outlet = self._place.outlet(self._clock)
        return self._outlet

    def _checked_key(self, key: str | None) -> str:
        if key is None:
            if self._journal is None:
                raise OperationFailedError(
                    "Records without a key need a journal: a call that is repeated would be counted twice.",
                    "Give a key, such as the id of the event or of the job; or state=, a folder for the journal.",
                )
            return uuid4().hex
        if not _KEY.fullmatch(key):
            raise OperationFailedError(
                f"{key[:80]!r} is no key: it has 1 to {_KEY_CHARS} characters of text.",
                "Name the records, such as file and offset.",
            )
        return key

    def _refuse_other_process(self) -> None:
        if self._process != os.getpid():
            raise OperationFailedError(
                "This Producer was made in another process, which still has it.",
                "Make one in each process, each with its own source id and state; after a fork, not before it.",
            )


def _digest(records: Records, *, shared: bool) -> str:
    digest = LineDigest(shared=shared)
    for _line in digest.through(record_lines(records)):
        pass
    return digest.hex()


def _checked_source(source_id: str) -> str:
    if not _SOURCE.fullmatch(source_id):
        raise OperationFailedError(
            f"{source_id[:80]!r} is no source id: it has 1 to 128 characters, and no control characters."
        )
    return source_id


def _check_first(first_sequence: object) -> None:
    if type(first_sequence) is not int or not 0 <= first_sequence <= _MOST_FIRST:
        raise OperationFailedError(f"first_sequence is a whole number from 0 to {_MOST_FIRST}, not {first_sequence!r}.")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise OperationFailedError(
            f"{name[:80]!r} is no name of a producer: it has 1 to 64 of `A-Z a-z 0-9 . _ -`, begins with a letter or a "
            f"digit, and is none of {', '.join(sorted(_RESERVED))}.",
            "Name the producer with name=; without it, its name is the source id.",
        )
    return name
