"""Kinds of logs, in one registry. To add a kind, see `metering/onramps/README.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from metering.onramps.cloudfront import names as cloudfront
from metering.onramps.names import flow_log_name
from metering.onramps.reading import LogReader, ReadSettings
from metering.onramps.s3_access import names as s3_access
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.onramps.context.document import Context
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.names import FileName
    from metering.onramps.observations import Block
    from metering.onramps.traffic import Classifier

__all__ = ["KINDS", "LogKind", "LogReader", "ReadSettings", "recognised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKind:
    """A kind of log that is metered.

    Attributes:
        name: Its name in commands, plans and settings.
        about: What it is, for people.
        recognise: What a key or path says if it is a file of this kind, else None.
        read: Reader of its files.
        classifier: Makes the judge of a file's subjects, from what its name says and the contexts.
        needs_context: Whether a real ingest needs a context that lists the flow logs, because they may overlap.
        needs_ranges: Whether a real ingest needs a context with AWS's address ranges, without which most bytes would be
            unclassified for good.
        settles_after_s: Age from which an hour of this kind is taken to be complete; None if slots tell.
        rules: Version of its classifier's rules, such as `s3-access/1`. A plan names it.
    """

    name: str
    about: str
    recognise: Callable[[str], FileName | None]
    read: LogReader
    classifier: Callable[[FileName, Timeline], Classifier[Any]]
    needs_context: bool = True
    needs_ranges: bool = False
    settles_after_s: int | None = None
    rules: str = ""

    @property
    def needs_any_context(self) -> bool:
        """Whether a real ingest needs a context at all."""
        return self.needs_context or self.needs_ranges

    def lacks(self, context: Context | None) -> str:
        """What a real ingest needs of a context and this one does not, such as `lists flow logs`; else empty."""
        if self.needs_context and (context is None or not context.flow_logs):
            return "lists flow logs"
        if self.needs_ranges and (context is None or not context.prefixes):
            return "has the address ranges of AWS"
        return ""


def _read_flows(
    stream: BinaryIO,
    name: FileName,
    settings: ReadSettings,
    *,
    digest: Callable[[bytes], object] = len,
) -> Iterator[Block[Any]]:
    # Arrow is imported when a file is read: commands that read none start without it. So are all readers here.
    from metering.onramps.transit_gateway.reader import read_flow_file

    # AWS names the flow logs of transit gateways and of VPCs alike; only their fields tell.
    return read_flow_file(stream, name, settings, digest=digest)


def _classify_flows(name: FileName, timeline: Timeline) -> Classifier[Any]:
    from metering.onramps.rules.flow_classifier import flow_classifier
    from metering.onramps.transit_gateway.rules import WithTransit

    return WithTransit(name, timeline, flow_classifier(name, timeline))


def _read_s3_access(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object] = len
) -> Iterator[Block[Any]]:
    from metering.onramps.s3_access.reader import read_s3_access_log

    return read_s3_access_log(stream, name, settings, digest=digest)


def _classify_s3_access(name: FileName, timeline: Timeline) -> Classifier[Any]:
    from metering.onramps.s3_access.rules import S3AccessClassifier

    return S3AccessClassifier(name, timeline)


def _read_cloudfront(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object] = len
) -> Iterator[Block[Any]]:
    from metering.onramps.cloudfront.reader import read_cloudfront_log

    return read_cloudfront_log(stream, name, settings, digest=digest)


def _classify_cloudfront(name: FileName, timeline: Timeline) -> Classifier[Any]:
    from metering.onramps.cloudfront.rules import CloudFrontClassifier

    return CloudFrontClassifier(name, timeline)


# AWS promises no time for S3, and 24 hours for CloudFront; hours before are taken to be complete.
_DAY_S = 24 * HOUR_S

KINDS: tuple[LogKind, ...] = (
    LogKind(
        name="vpc-flow",
        about="VPC Flow Logs, text or Parquet, of any version and any custom format, and those of transit gateways",
        recognise=flow_log_name,
        read=_read_flows,
        classifier=_classify_flows,
        rules="hops/2",
    ),
    LogKind(
        name="s3-access",
        about="S3 server access logs, with simple or partitioned names",
        recognise=s3_access.recognise,
        read=_read_s3_access,
        classifier=_classify_s3_access,
        needs_context=False,
        needs_ranges=True,
        settles_after_s=_DAY_S,
        rules="s3-access/1",
    ),
    LogKind(
        name="cloudfront",
        about="CloudFront standard logs, legacy and version 2 (W3C, plain, JSON, raw, Parquet)",
        recognise=cloudfront.recognise,
        read=_read_cloudfront,
        classifier=_classify_cloudfront,
        needs_context=False,
        settles_after_s=_DAY_S,
        rules="cloudfront/2",
    ),
)
"""All kinds of logs that are metered and that names tell. A mapping makes one more (`metering.onramps.mapped`)."""


def recognised(key: str) -> tuple[LogKind, FileName] | None:
    """The kind of a file by its key or path, and what its name says; None if it has no name that AWS gives."""
    return next(((kind, name) for kind in KINDS if (name := kind.recognise(key)) is not None), None)
