"""Sums the outcomes of many files, counting each file once."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from metering.onramps.ingest.totals import Measured, add_lines, common_fields
from metering.onramps.reading import NO_OTHERS, Balance, Others

if TYPE_CHECKING:
    from metering.onramps import plans
    from metering.onramps.ingest import taking
    from metering.onramps.ingest.causes import Parts


class Moved(NamedTuple):
    """Cause of bytes of a run, without hours and records."""

    usage_type: str
    account_id: str
    resource_id: str
    cause: str
    destination: str
    path: str
    basis: str
    reason: str


FileVerdict = Literal["metered", "repeated", "conflict", "refused", "empty", "left_out"]
VERDICTS: tuple[FileVerdict, ...] = ("metered", "repeated", "empty", "conflict", "refused", "left_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """The outcome of one file. A file in a folder is `left_out` if its name is not the name of a metered log.

    `problem` is reason and detail of a refused, left-out or conflicting file.
    """

    place: str
    verdict: FileVerdict
    stored_bytes: int = 0
    kind: str = ""
    identity: str = ""
    content_sha256: str = ""
    balance: Balance = field(default_factory=Balance)
    shares: tuple[plans.Share, ...] = ()
    shadowed: tuple[tuple[str, int, int], ...] = ()
    refusals: tuple[tuple[str, int, int], ...] = ()
    others: Others = NO_OTHERS
    fields: frozenset[str] | None = None
    problem: tuple[str, str] | None = None
    causes: Parts = field(default_factory=dict)


def outcome_of_taken(taken: taking.Taken, stored_bytes: int) -> FileOutcome:
    """Outcome of an ingested file. A conflict has no totals: the first content stays metered."""
    if taken.plan is None or taken.verdict == "conflict":
        return FileOutcome(place=taken.place, verdict=taken.verdict, stored_bytes=stored_bytes, problem=taken.problem)
    plan = taken.plan
    return FileOutcome(
        place=taken.place,
        verdict=taken.verdict,
        stored_bytes=stored_bytes,
        kind=plan.kind,
        identity=plan.identity,
        **_parts_of(plan),
    )


def outcome_of_measured(measured: Measured, *, place: str, stored_bytes: int, kind: str, identity: str) -> FileOutcome:
    """Outcome of a file that was only measured."""
    return FileOutcome(
        place=place,
        verdict="metered" if measured.totals else "empty",
        stored_bytes=stored_bytes,
        kind=kind,
        identity=identity,
        fields=measured.fields,
        causes=measured.causes,
        **_parts_of(measured),
    )


def _parts_of(found: plans.Plan | Measured) -> dict[str, Any]:
    names = ("content_sha256", "balance", "shares", "shadowed", "refusals", "others")
    return {name: getattr(found, name) for name in names}


class RunTotals:
    """Sums over the files of a run. A file that occurs twice (a replica) counts once. Mutable.

    Attributes:
        files: Files by verdict.
        balance: Sum of the balances of the files, each identity once.
        metered: Lines and bytes by usage type, rule and reason; `shadowed` by log, `refusals` by reason.
        fields: Fields common to all logs with known fields; None if no log has known fields.
        problems: Number of files by reason of their refusal, conflict or omission.
        examples: First file of each reason, with its detail.
        causes: Bytes and lines by cause, if the files were read for causes.
    """

    def __init__(self) -> None:
        self.files: Counter[FileVerdict] = Counter()
        self.stored_bytes = 0
        self.balance = Balance()
        self.metered: dict[tuple[str, str, str], tuple[int, int]] = {}
        self.shadowed: dict[str, tuple[int, int]] = {}
        self.refusals: dict[str, tuple[int, int]] = {}
        self.others = NO_OTHERS
        self.fields: frozenset[str] | None = None
        self.problems: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, str]] = {}
        self.causes: dict[Moved, tuple[int, int]] = {}
        # 8 bytes of an identity's hash, and 8 of the content's hash: for a run of a million files, these take 100 MB.
        self._seen: dict[int, int] = {}

    @property
    def failed(self) -> bool:
        """Whether a file is missing from the totals."""
        return bool(self.files["refused"] or self.files["conflict"])

    def add(self, outcome: FileOutcome) -> FileOutcome:
        """Add a file; return its outcome, which shows if the file already occurred in this run."""
        outcome = self._told_from_before(outcome)
        self.files[outcome.verdict] += 1
        if outcome.problem is not None:
            reason, detail = outcome.problem
            self.problems[reason] += 1
            self.examples.setdefault(reason, (outcome.place, detail))
        return outcome

    def _told_from_before(self, outcome: FileOutcome) -> FileOutcome:
        if outcome.verdict != "left_out":
            self.stored_bytes += outcome.stored_bytes
        if not outcome.identity:
            return outcome
        identity, content = _short(outcome.identity), _short(outcome.content_sha256)
        known = self._seen.get(identity)
        if known is None:
            self._seen[identity] = content
            self._add_parts(outcome)
            return outcome
        if known == content:
            return replace(
                outcome,
                verdict="repeated",
                balance=Balance(),
                shares=(),
                shadowed=(),
                refusals=(),
                others=NO_OTHERS,
                problem=None,
                causes={},
            )
        problem = ("changed_since", "another file of this run has its name, and other content")
        return FileOutcome(place=outcome.place, verdict="conflict", kind=outcome.kind, problem=problem)

    def _add_parts(self, outcome: FileOutcome) -> None:
        self.balance += outcome.balance
        self.others = self.others.plus(outcome.others)
        self.fields = common_fields(self.fields, outcome.fields)
        for share in outcome.shares:
            add_lines(self.metered, (share.usage_type, share.rule, share.reason), share.lines, share.bytes)
        for key, causes in outcome.causes.items():
            record = key.usage_type, key.traffic.account_id, key.traffic.resource_id
            for cause, part in causes.items():
                moved = Moved(*record, *cause[:-1])
                size, lines = self.causes.get(moved, (0, 0))
                self.causes[moved] = (size + part.bytes, lines + part.lines)
        for log, lines, size in outcome.shadowed:
            add_lines(self.shadowed, log, lines, size)
        for reason, lines, size in outcome.refusals:
            add_lines(self.refusals, reason, lines, size)


def _short(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


_HOPS = ("next-hop-az-id", "next-hop-interface-id", "next-hop-vpc-id", "next-hop-interface-type")
_PATHS = ("flow-direction", "traffic-path")
_PEERS = ("pkt-srcaddr", "pkt-dstaddr", "pkt-src-aws-service", "pkt-dst-aws-service")


class Advice(NamedTuple):
    """Reason why bytes are unclassified, worded to follow `because`, and the remedy: log fields, or a context."""

    why: str
    fields: tuple[str, ...] = ()
    context: bool = False


ADVICE = {
    "zone_unknown": Advice("the zone of one side is not known", ("az-id", "next-hop-az-id"), context=True),
    "kind_unknown": Advice("what the other side is (an interface, a load balancer…) is not known", _HOPS, context=True),
    "next_hop_unknown": Advice("the log does not name the next hop", _HOPS, context=True),
    "region_unknown": Advice("the region of the other side is not known", _HOPS, context=True),
    "way_unknown": Advice("whether peering or a transit gateway carried it is not known", _HOPS, context=True),
    "interface_unknown": Advice("whether the interface has a public address is not known", _PATHS, context=True),
    "ranges_unknown": Advice("the address ranges of AWS are not known", context=True),
    "network_unknown": Advice("the other side is a private address of no network that is known", context=True),
    "nothing_known": Advice("the log has no fields that tell", (*_PATHS, *_PEERS, *_HOPS), context=True),
    "ipv6_peering_contested": Advice("AWS's pages disagree whether IPv6 over a peering is free in one zone"),
    "attachment_unknown": Advice("the type of the transit gateway's attachment is not known", context=True),
    "peer_region_unknown": Advice("the region behind the transit gateway's peering is not known", context=True),
    "payer_unknown": Advice(
        "who pays for the transit gateway is not known: its metering policy, or an attachment that it means",
        context=True,
    ),
    "on_premises": Advice("it is with networks outside AWS, which VPN and Direct Connect bill"),
    "local_zone": Advice("it is of a Local Zone, Wavelength or Outpost, for which there is no rule yet"),
    "global_service": Advice("it is with a service of AWS that has no region"),
    "direction_unknown": Advice("neither the log nor a context says which way it went", _PATHS, context=True),
    "edge_unknown": Advice("the edge is in no billing area that is known"),
    "edge_not_logged": Advice("the CloudFront log lacks the field x-edge-location"),
    "method_not_logged": Advice("the CloudFront log lacks the field cs-method, so uploads to the origin are not told"),
    "origin_unknown": Advice("the CloudFront log does not say whether an upload went on to the origin"),
    "peer_not_stated": Advice("the mapping leaves the other side unknown"),
    "contradiction": Advice("the log and the address ranges do not agree"),
}
_OTHER = Advice("the log does not say more")


def advice_of(reason: str) -> Advice:
    """Advice for a reason; a general text for a reason without its own advice."""
    return ADVICE.get(reason, _OTHER)
