"""Flow logs that the newest context lists: those that should deliver, and why one does not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.onramps.sources import source_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.onramps.context.document import Context
    from metering.onramps.context.facts import FlowLog
    from metering.onramps.sources import LogSource

# Destination of a flow log in S3, as `DescribeFlowLogs` gives it: bucket, and folder if there is one.
_S3_ARN = re.compile(r"arn:[a-z0-9-]+:s3:::(?P<bucket>[^/]+)/?(?P<prefix>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedLog:
    """A flow log of a context.

    Attributes:
        source: Its id, `fl-…`.
        destination: Where it delivers: an ARN, or the name of a log group.
        created_s: When it was made, epoch seconds; 0 if the context does not say.
        status: `DeliverLogsStatus` if it is not `SUCCESS`; empty if all is well, or not known.
    """

    source: str
    account_id: str
    region: str
    resource_id: str
    destination: str
    created_s: int = 0
    status: str = ""

    @property
    def in_s3(self) -> bool:
        return _S3_ARN.fullmatch(self.destination) is not None

    @property
    def place(self) -> str:
        """Where its files lie, `s3://bucket/prefix/AWSLogs/<account>/vpcflowlogs/<region>/`; else its destination.

        AWS puts `AWSLogs` below the folder of the destination. A Hive layout has other folders below that.
        """
        found = _S3_ARN.fullmatch(self.destination)
        if found is None:
            return self.destination
        folder = found["prefix"].strip("/")
        return f"s3://{found['bucket']}/{folder + '/' if folder else ''}AWSLogs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the newest context says of flow logs.

    Attributes:
        effective_s: Hour from which it holds; 0 if there is no context.
        places: Account and region of all that it has looked into.
        logs: Flow logs, by id.
    """

    effective_s: int = 0
    places: frozenset[tuple[str, str]] = frozenset()
    logs: tuple[ExpectedLog, ...] = ()

    def of_stage(self, sources: Sequence[LogSource]) -> list[tuple[ExpectedLog, LogSource]]:
        """Flow logs that deliver into a log source of the stage, with it."""
        found = []
        for log in self.logs:
            bucket, key = split_place(log.place)
            source = source_of(sources, bucket, key) or _containing(sources, bucket, key)
            if source is not None and log.in_s3 and "vpc-flow" in source.kinds:
                found.append((log, source))
        return found


def expected_of(context: Context | None) -> Expected:
    """What a context says of flow logs; nothing if there is none."""
    if context is None:
        return Expected()
    return Expected(
        effective_s=context.effective_s,
        places=frozenset(context.places),
        logs=tuple(_expected(log) for log in context.flow_logs.values()),
    )


def _expected(log: FlowLog) -> ExpectedLog:
    return ExpectedLog(
        source=log.id,
        account_id=log.account_id,
        region=log.region,
        resource_id=log.resource_id,
        destination=log.destination,
        created_s=log.created_s,
        status="" if log.delivery_status == "SUCCESS" else log.delivery_status,
    )


def _containing(sources: Sequence[LogSource], bucket: str, key: str) -> LogSource | None:
    """A log source whose prefix is below the folder: of an account or region alone, for instance."""
    return next((each for each in sources if each.bucket == bucket and each.prefix.startswith(key)), None)


def split_place(place: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; two empty texts if it is no place in S3."""
    if not place.startswith("s3://"):
        return "", ""
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return bucket, key


def folder_of(place: str) -> str:
    """The folder of a place in S3, without the part that changes by the day; the place itself if it has no day."""
    head, found, _ = re.sub(r"(/year=|/\d{4}/\d{2}/).*", r"\0", place).partition("\0")
    return f"{head}/" if found else place.rpartition("/")[0] + "/"
