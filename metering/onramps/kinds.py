"""Kinds of logs, in one registry. To add a kind, see `metering/onramps/README.md`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from metering.onramps import reading
from metering.units import HOUR_S
from metering.usage.usage_types import is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.onramps.context import document
    from metering.onramps.context.store import Timeline
    from metering.onramps.reasons import Classifier

    _Parts = tuple[Callable[..., Iterator[reading.Block[Any]]], Callable[[reading.FileName, Timeline], Classifier[Any]]]

# Kinds of logs that are never metered: each is recognised by its names, and refused with the reason in a sentence. Most
# of these logs repeat the bytes of another log, so metering both would count bytes twice; the others contain no bytes.


class RefusedKind(NamedTuple):
    """Kind of log that is never metered.

    Attributes:
        pattern: Pattern of its keys.
        why: One sentence: the reason, and the log to use instead.
    """

    about: str
    pattern: re.Pattern[str]
    why: str


_ACCOUNT = r"(?:^|/)(?:conn_log\.|health_check_log\.)?[0-9]{12}_"

REFUSED_KINDS: tuple[RefusedKind, ...] = (
    RefusedKind(
        "access logs of load balancers",
        re.compile(_ACCOUNT + r"elasticloadbalancing_[^/]+$"),
        "they tell the payload of requests whose bytes the flow logs of the balancer's interfaces have on the wire, "
        "so metering both would count twice: meter the VPC flow logs",
    ),
    RefusedKind(
        "Network Firewall logs",
        re.compile(_ACCOUNT + r"network-firewall_[^/]+$"),
        "they tell again what the flow logs of the firewall's endpoints tell: meter the VPC flow logs",
    ),
    RefusedKind(
        "Route 53 resolver query logs",
        re.compile(_ACCOUNT + r"(?:vpcdnsquerylogs|route53resolver)_[^/]+$"),
        "they have no bytes, and traffic of the VPC's own resolver is free: there is nothing to meter",
    ),
    RefusedKind(
        "CloudTrail",
        re.compile(_ACCOUNT + r"CloudTrail(?:-[A-Za-z]+)?_[^/]+$"),
        "it tells who called which API, not what was moved: for S3, meter the server access logs of the bucket",
    ),
    RefusedKind(
        "Global Accelerator flow logs",
        re.compile(_ACCOUNT + r"globalaccelerator_[^/]+$"),
        "AWS bills the dominant direction by the edge, and these logs tell neither: meter the VPC flow logs of the "
        "endpoints, for the transfer itself",
    ),
    RefusedKind(
        "AWS WAF logs",
        re.compile(_ACCOUNT + r"waflogs_[^/]+$"),
        "they have no bytes: meter the logs of what the rules protect, CloudFront's or the VPC's",
    ),
    RefusedKind(
        "AWS Config",
        re.compile(_ACCOUNT + r"Config_[^/]+$"),
        "it tells what there is, not what was moved: it may serve as a context, not as a log",
    ),
    RefusedKind(
        "exports of CloudWatch Logs",
        re.compile(r"(?:^|/)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/[^/]+/[0-9]{6}\.gz$"),
        "an export has no name that says which log it is, so it could be counted twice: add a flow log that delivers "
        "to S3 (metering logs format prints the command)",
    ),
    RefusedKind(
        "a test of permissions",
        re.compile(r"(?:^|/)(?:aws-logs-write-test|AWSLogs/[0-9]{12}/ELBAccessLogTestFile|[^/]*AccessLogTestFile)$"),
        "AWS writes this file to try its permissions: there is nothing to meter",
    ),
)
"""All kinds that are known and refused. Direct Connect has no log of flows at all."""


def why_refused(key: str) -> str | None:
    """Reason why a file is never metered, if its key matches a kind that is never metered; else None."""
    return next((f"{kind.about}: {kind.why}" for kind in REFUSED_KINDS if kind.pattern.search(key)), None)


# Names of S3 server access logs. AWS names a file `YYYY-mm-DD-HH-MM-SS-<16 characters>` below the prefix that the
# bucket's owner chose. In partitioned names, `<account>/<region>/<bucket>/YYYY/mm/DD/` is inserted between prefix and
# name. The time is that of the delivery or, with event-time partitions, the day of the events (Amazon S3 User Guide,
# "Amazon S3 server access log format").

S3_ACCESS = "s3-access"

_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2})-([0-9A-F]{16})")
_PARTITION = re.compile(r"(?:.*/)?([0-9]{12})/([a-z0-9-]+)/([a-z0-9.-]{3,63})/[0-9]{4}/[0-9]{2}/[0-9]{2}/")


def recognise_s3_access(key: str) -> reading.FileName | None:
    """Parse the key of an S3 server access log; None for any other key.

    Only the name is the identity: a replica of a log bucket has the same names, and is not a second log. The slot stays
    None, because S3 access logs arrive at any time.
    """
    folder, slash, name = key.rpartition("/")
    # AWS appends the name directly to the prefix, and the prefix need not end with a slash. AWS never compresses these
    # files. If a person compresses a copy, its name gets a suffix, but the copy counts as the same file.
    name = reading.unpacked_name(name)
    named = _NAME.search(name)
    if named is None or named.end() != len(name) or reading.epoch_s_of(named[1], "%Y-%m-%d-%H-%M-%S") is None:
        return None
    partition = _PARTITION.fullmatch(folder + slash)
    if partition is not None and named.start() == 0 and is_region(partition[2]):
        account_id, region, bucket = partition.groups()
    else:
        account_id = region = bucket = ""
    identity = reading.identity_of("s3", named[0])
    return reading.FileName(kind=S3_ACCESS, identity=identity, account_id=account_id, region=region, source=bucket)


# Names of CloudFront standard logs. In both versions, a file's name is `<distribution>.<YYYY-MM-DD-HH>.<unique>` plus a
# suffix. The hour is the hour of the requests; the files of an hour may arrive up to 24 hours later. Version 2 prefixes
# the name with `AWSLogs/<account>/CloudFront/`, unless the delivery sets another prefix (Amazon CloudFront Developer
# Guide, "Access logs (standard logs)").

CLOUDFRONT = "cloudfront"

_CLOUDFRONT_NAME = re.compile(
    r"([A-Z][0-9A-Z]{9,31})\.([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2})\.[0-9A-Za-z]{6,32}((?:\.[a-z0-9]+)*)"
)
_CLOUDFRONT_ACCOUNT = re.compile(r"(?:^|/)AWSLogs/(?:aws-account-id=)?([0-9]{12})/(?:aws-service=)?CloudFront/")


def recognise_cloudfront(key: str) -> reading.FileName | None:
    """Parse the key of a CloudFront standard log; None for any other key."""
    name = key.rpartition("/")[2]
    found = _CLOUDFRONT_NAME.fullmatch(name)
    slot_s = None if found is None else reading.epoch_s_of(found[2], "%Y-%m-%d-%H")
    if found is None or slot_s is None:
        return None
    account = _CLOUDFRONT_ACCOUNT.search(key)
    # If a person decompresses a copy, its name loses its suffix, but the copy counts as the same file.
    identity = reading.identity_of("cf", reading.unpacked_name(name))
    return reading.FileName(
        kind=CLOUDFRONT,
        identity=identity,
        account_id=account[1] if account is not None else "",
        source=found[1],
        slot_s=slot_s,
        parquet=found[3].endswith(".parquet"),
        # Only version 2 writes the account id into the key.
        version="v2" if account is not None else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKind:
    """Metered kind of log.

    Attributes:
        recognise: Parses a key or path of this kind; returns None for any other text.
        read: Reader of its files.
        classifier: Creates the classifier of a file's subjects from its name and the contexts.
        needs_context: Whether ingest, except a dry run, needs a context that lists flow logs, which may overlap.
        needs_ranges: Whether ingest, except a dry run, needs AWS's address ranges: without them most bytes are
            unclassified.
        settles_after_s: Age from which an hour of this kind is complete; None if slots show completeness.
        rules: Version of the classifier's rules, such as `s3-access/1`. A plan names it.
    """

    name: str
    recognise: Callable[[str], reading.FileName | None]
    read: reading.LogReader
    classifier: Callable[[reading.FileName, Timeline], Classifier[Any]]
    needs_context: bool = True
    needs_ranges: bool = False
    settles_after_s: int | None = None
    rules: str = ""

    @property
    def needs_any_context(self) -> bool:
        return self.needs_context or self.needs_ranges

    def lacks(self, context: document.Context | None) -> str:
        """Requirement of ingest that a context does not meet, such as `lists flow logs`; empty if all are met."""
        if self.needs_context and (context is None or not context.flow_logs):
            return "lists flow logs"
        if self.needs_ranges and (context is None or not context.prefixes):
            return "has the address ranges of AWS"
        return ""


# Arrow is imported when a file is read, so that commands without files start faster.
def _flows() -> _Parts:
    # AWS names flow logs of transit gateways and of VPCs alike; only their fields differ.
    from metering.onramps.transit_gateway import WithTransit, read_flow_file

    return read_flow_file, WithTransit


def _s3_access() -> _Parts:
    from metering.onramps.s3_access import S3AccessClassifier, read_s3_access_log

    return read_s3_access_log, S3AccessClassifier


def _cloudfront() -> _Parts:
    from metering.onramps.cloudfront import CloudFrontClassifier, read_cloudfront_log

    return read_cloudfront_log, CloudFrontClassifier


def _read(
    parts: Callable[[], _Parts],
    stream: BinaryIO,
    name: reading.FileName,
    settings: reading.ReadSettings,
    *,
    digest: Callable[[bytes], object] = len,
) -> Iterator[reading.Block[Any]]:
    return parts()[0](stream, name, settings, digest=digest)


def _classify(parts: Callable[[], _Parts], name: reading.FileName, timeline: Timeline) -> Classifier[Any]:
    return parts()[1](name, timeline)


# AWS promises delivery of CloudFront logs within 24 hours, and states no limit for S3 logs; older hours count as
# complete.
_DAY_S = 24 * HOUR_S

KINDS: tuple[LogKind, ...] = (
    LogKind(
        name="vpc-flow",
        # Text or Parquet in any version and any custom format, including transit gateways.
        recognise=reading.flow_log_name,
        read=partial(_read, _flows),
        classifier=partial(_classify, _flows),
        rules="hops/3",
    ),
    LogKind(
        name="s3-access",
        recognise=recognise_s3_access,
        read=partial(_read, _s3_access),
        classifier=partial(_classify, _s3_access),
        needs_context=False,
        needs_ranges=True,
        settles_after_s=_DAY_S,
        rules="s3-access/1",
    ),
    LogKind(
        name="cloudfront",
        # Legacy and version 2 (W3C, plain, JSON, raw, Parquet).
        recognise=recognise_cloudfront,
        read=partial(_read, _cloudfront),
        classifier=partial(_classify, _cloudfront),
        needs_context=False,
        settles_after_s=_DAY_S,
        rules="cloudfront/2",
    ),
)
"""All kinds of logs that are metered and that names tell. A mapping makes one more (`metering.onramps.mapping`)."""


def recognised(key: str) -> tuple[LogKind, reading.FileName] | None:
    """Kind and parsed name of a file by its key or path; None if no AWS naming scheme matches."""
    return next(((kind, name) for kind in KINDS if (name := kind.recognise(key)) is not None), None)
