"""Formats of a manifest, its contents by batch, and the findings of a verification.

A manifest lists, as NDJSON, the messages that a replay sent, with their expected verdicts.

The first line describes the replay; each further line is one message:

    {"manifest": "metering.manifest/1", "name": "mixed-7-2026112413", "region": "us-east-1", "seed": 7}
    {"batch_id": "…", "content": 0, "expect": "accepted", "records": 100, "metered": 100, "totals": [[…], …]}

`content` numbers the different contents sent under one id, from 0. `expect` is one of

| expect      | must end as                                                                          |
|-------------|--------------------------------------------------------------------------------------|
| `accepted`  | accepted, every record metered                                                       |
| `partly`    | accepted, some records refused                                                       |
| `duplicate` | another copy of a content that is in the manifest already: no verdict of its own     |
| `conflict`  | other content under the same id: whichever comes first is accepted, the other is not |
| `rejected`  | refused as a whole, for `reason`                                                     |

`totals` are `[hour, account, usage type, service, from, to, bytes as a decimal string, records]`. The sender computes
totals with independent code, so the comparison with them is a real proof. `body_sha256` is present only if the batch id
is unreadable. `body_sha256` is the digest of the body's canonical JSON, because queues and emulators may rewrite JSON;
a non-JSON body is hashed unchanged.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import reduce
from itertools import islice
from typing import TYPE_CHECKING, Literal, cast, get_args

from metering.audit.settling import Fingerprint, fingerprint
from metering.errors import OperationFailedError
from metering.hours import hour_label, parse_hour
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageType, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.ledger.markers import Marker


# A verification names at most this many differences: enough to find a fault.
MAX_DIFFERENCES = 1_000


EVERY_ACCOUNT = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two totals that must be equal but differ.

    Attributes:
        between: `markers` and `rows` of one batch in one hour, `usage` and `rows` of one key, the total of an hour's
            files in the `ledger` and their `rows`, or the `accounts` of a month and `rows`. `usage/item`: an item with
            odd or missing attributes, without figures.
        batch_id: Empty for a key.
        key: None for a batch.
        account_id: Account of the month that starts at `hour_s`; `EVERY_ACCOUNT` for the sum over all. Or of an item.
        odd: Key of an item, and its odd and missing attributes.
        expected: Total of the markers, the usage table, the ledger or the accounts.
        found: Total of the rows.
    """

    between: Literal["markers/rows", "usage/rows", "ledger/rows", "accounts/rows", "usage/item"]
    hour_s: int
    batch_id: str = ""
    key: UsageKey | None = None
    account_id: str = ""
    odd: str = ""
    expected: Total
    found: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTotals:
    """Sums over the plans of log files, for comparison with the batches made from these files.

    Attributes:
        plans, lines: Number of log files, and of their lines.
        metered_bytes: Of the metered lines.
        processed_bytes: Of the metered lines that are metered a second time, as processing.
        accepted_bytes: Bytes of the accepted batches of these plans.
        refused_bytes: Bytes of these plans' refused batches and records, which are all in quarantine.
        differences: Pairs of a plan or batch and its problem; at most MAX_DIFFERENCES.
        left_out: Whether more plans exist than one verification reads.
    """

    plans: int = 0
    lines: int = 0
    metered_bytes: int = 0
    processed_bytes: int = 0
    accepted_bytes: int = 0
    refused_bytes: int = 0
    differences: tuple[tuple[str, str], ...] = ()
    left_out: bool = False

    def plus(self, other: LogTotals) -> LogTotals:
        return LogTotals(
            plans=self.plans + other.plans,
            lines=self.lines + other.lines,
            metered_bytes=self.metered_bytes + other.metered_bytes,
            processed_bytes=self.processed_bytes + other.processed_bytes,
            accepted_bytes=self.accepted_bytes + other.accepted_bytes,
            refused_bytes=self.refused_bytes + other.refused_bytes,
            differences=(*self.differences, *other.differences)[:MAX_DIFFERENCES],
            left_out=self.left_out or other.left_out,
        )


NO_LOGS = LogTotals()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Findings of a verification or of a part of it; `sum_verifications` adds up the parts.

    Attributes:
        stable: Whether nothing was in flight or waited for the roll-up before and after, and no hour was unstable.
        sent: Number of distinct contents in the manifest; without a manifest, in the ledger and the queues.
        duplicate: Number of further copies of contents with a verdict. Counted only with a manifest.
        in_flight: Number of contents without a verdict while the ingest queue has messages.
        dead: Number of contents without a verdict that are in the dead-letter queue.
        lost: Ids of batches without a verdict, or with some records invisible.
        doubled: Ids of batches with some records visible or counted more than once.
        unexpected: Pairs of id (or digest) and problem of batches whose verdict differs from the manifest.
        differences: Differences, at most MAX_DIFFERENCES.
        unstable: Hours that could not be compared; their differences are ignored.
        keys: Number of usage keys compared between the usage table and visible rows.
        metered: Total of visible rows in the range.
        promised: Total of the accepted contents as computed by the sender; zero without a manifest.
        proven: Total of visible rows of the manifest's batches; zero without a manifest.
    """

    stable: bool = True
    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    in_flight: int = 0
    dead: int = 0
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    unexpected: tuple[tuple[str, str], ...] = ()
    differences: tuple[Difference, ...] = ()
    unstable: tuple[int, ...] = ()
    keys: int = 0
    metered: Total = ZERO
    promised: Total = ZERO
    proven: Total = ZERO
    logs: LogTotals = NO_LOGS

    @property
    def passed(self) -> bool:
        """Whether the verification was stable, and found nothing lost, doubled, dead, unexpected or different."""
        wrong = self.lost or self.doubled or self.unexpected or self.differences or self.dead or self.logs.differences
        return self.stable and not wrong


def sum_verifications(verifications: Iterable[Verification]) -> Verification:
    """Sum of several verifications, or of the parts of one verification; stable only if all are stable."""
    parts = tuple(verifications)
    return Verification(
        stable=all(part.stable for part in parts),
        sent=sum(part.sent for part in parts),
        accepted=sum(part.accepted for part in parts),
        duplicate=sum(part.duplicate for part in parts),
        conflict=sum(part.conflict for part in parts),
        rejected=sum(part.rejected for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        dead=sum(part.dead for part in parts),
        lost=tuple(batch_id for part in parts for batch_id in part.lost),
        doubled=tuple(batch_id for part in parts for batch_id in part.doubled),
        unexpected=tuple(each for part in parts for each in part.unexpected),
        differences=tuple(islice((each for part in parts for each in part.differences), MAX_DIFFERENCES)),
        unstable=tuple(sorted({hour_s for part in parts for hour_s in part.unstable})),
        keys=sum(part.keys for part in parts),
        metered=sum_totals(part.metered for part in parts),
        promised=sum_totals(part.promised for part in parts),
        proven=sum_totals(part.proven for part in parts),
        logs=reduce(LogTotals.plus, (part.logs for part in parts), NO_LOGS),
    )


SCHEMA = "metering.manifest/1"
_TOTAL_TYPES = [*[str] * 7, int]

Expectation = Literal["accepted", "partly", "duplicate", "conflict", "rejected"]


class ManifestError(OperationFailedError):
    """A file is not a valid manifest. The message names the invalid line and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHeader:
    """Description of a replay.

    Attributes:
        name: Name of the replay, which is the prefix of its batch ids.
        began_at_ms: Time immediately before the first message was sent, epoch milliseconds.
    """

    name: str
    region: str
    seed: int
    began_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """One message as it was sent.

    Attributes:
        batch_id: Empty if the message has no readable id.
        content: Number of this content among all contents sent under the id.
        metered: Number of records that must be metered; all other records must be refused.
        totals: Totals of the metered records, by usage key.
        reason: Expected reason of a rejection.
        body_sha256: Hex digest of the body, only if `batch_id` is empty.
    """

    batch_id: str
    content: int = 0
    expect: Expectation = "accepted"
    records: int
    metered: int
    totals: Mapping[UsageKey, Total] = field(default_factory=dict)
    reason: str = ""
    body_sha256: str = ""


def header_line(header: ManifestHeader) -> str:
    """Format the first line of a manifest, with its line feed."""
    return json.dumps({"manifest": SCHEMA, **asdict(header)}) + "\n"


def sent_line(sent: SentBatch) -> str:
    """Format the manifest line of one message, with its line feed."""
    line: dict[str, object] = {
        name: getattr(sent, name) for name in ("batch_id", "content", "expect", "records", "metered")
    }
    if sent.totals:
        line["totals"] = [
            [hour_label(key.hour_s), key.account_id, *key.kind, str(t.bytes), t.records]
            for key, t in sent.totals.items()
        ]
    if sent.reason:
        line["reason"] = sent.reason
    if sent.body_sha256:
        line["body_sha256"] = sent.body_sha256
    return json.dumps(line) + "\n"


def read_header(line: str) -> ManifestHeader:
    """Inverse of `header_line`.

    Raises:
        ManifestError: The line is not the first line of a manifest.
    """
    value = _object(line, 1)
    if value.get("manifest") != SCHEMA:
        raise ManifestError(f"line 1 is not the first line of a manifest ({SCHEMA})")
    try:
        return ManifestHeader(
            name=str(value["name"]),
            region=str(value["region"]),
            seed=int(cast("int", value["seed"])),
            began_at_ms=int(cast("int", value["began_at_ms"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"line 1 lacks {error}") from error


def read_sent(lines: Iterable[str]) -> Iterator[SentBatch]:
    """Parse all lines but the first: the inverse of `sent_line`.

    Raises:
        ManifestError: A line is not a message of a manifest, or is truncated.
    """
    for number, line in enumerate(lines, start=2):
        value = _object(line, number)
        try:
            yield _sent(value)
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"line {number} is not a message of a manifest: {error!r}") from error


def whole_lines(lines: Iterable[str], cut: Callable[[str], None]) -> Iterator[str]:
    """Yield the lines except a truncated last line, which has no line feed and is not JSON. `cut` gets that line.

    A killed replay or a full disk causes a truncated line. The message of this line may have been sent.
    """
    for line in lines:
        try:
            if not line.endswith("\n"):
                json.loads(line)
        except ValueError:
            cut(line)
            return
        yield line


def body_digest(body: str) -> str:
    """Name of a body without a readable batch id (see the module's docstring)."""
    try:
        canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        # The body is not JSON, or is nested too deeply for Python's parser: quarantine holds such bodies.
        canonical = body
    return hashlib.sha256(canonical.encode("utf-8", errors="surrogatepass")).hexdigest()


def _sent(value: Mapping[str, object]) -> SentBatch:
    expect = value["expect"]
    if expect not in get_args(Expectation):
        raise ValueError(f"expect {expect!r}")
    rows = cast("list[tuple[str, str, UsageType, Service, str, str, str, int]]", value.get("totals", []))
    for row in rows:
        if [type(field) for field in row] != _TOTAL_TYPES:
            raise ValueError(f"totals {row!r}")
        # A name that cannot be encoded is the name of no record. UnicodeEncodeError is a ValueError.
        "".join(row[1:6]).encode()
    return SentBatch(
        batch_id=str(value["batch_id"]),
        content=int(cast("int", value["content"])),
        expect=cast("Expectation", expect),
        records=int(cast("int", value["records"])),
        metered=int(cast("int", value["metered"])),
        totals={UsageKey(parse_hour(row[0]), *row[1:6]): Total(int(row[6]), row[7]) for row in rows},
        reason=str(value.get("reason", "")),
        body_sha256=str(value.get("body_sha256", "")),
    )


def _object(line: str, number: int) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ManifestError(f"line {number} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ManifestError(f"line {number} is not a JSON object")
    return value


@dataclass(slots=True, kw_only=True)
class SentContent:
    """One content of one batch id. The content may have been sent several times.

    Attributes:
        bytes: Sum of the content's metered records.
        unaccounted: Fingerprint of those of the content's totals by usage key that were not yet found in rows: memory
            grows with batches, not with keys.
    """

    batch_id: str
    rejected: bool
    records: int
    metered: int
    bytes: int
    unaccounted: Fingerprint

    def matches(self, marker: Marker) -> bool:
        """Whether the marker accepted this content, which its sums show: no two contents of an id have equal sums."""
        return (marker.records, marker.metered) == (self.records, self.metered) and self.bytes == sum(
            total.bytes for total in marker.hours.values()
        )


@dataclass(slots=True, kw_only=True)
class SentBatches:
    """All contents of a manifest.

    Attributes:
        contents: Contents by batch id, in order of content number.
        nameless: Digests of bodies without a readable id.
        copies: Number of further copies of contents, by batch id.
    """

    contents: dict[str, list[SentContent]] = field(default_factory=dict)
    nameless: set[str] = field(default_factory=set)
    copies: dict[str, int] = field(default_factory=dict)

    @classmethod
    def collect(cls, lines: Iterable[SentBatch]) -> SentBatches:
        """Group the lines of a manifest by batch. A content listed twice counts as one content and one copy."""
        sent = cls()
        seen: set[tuple[str, int]] = set()
        for line in lines:
            if not line.batch_id:
                sent.nameless.add(line.body_sha256)
            elif line.expect == "duplicate" or (line.batch_id, line.content) in seen:
                sent.copies[line.batch_id] = sent.copies.get(line.batch_id, 0) + 1
            else:
                seen.add((line.batch_id, line.content))
                sent.contents.setdefault(line.batch_id, []).append(_content(line))
        return sent

    def add(self, other: SentBatches) -> None:
        """Add another manifest. A content in both manifests counts as one content and further copies."""
        self.nameless |= other.nameless
        for batch_id, contents in other.contents.items():
            known = self.contents.setdefault(batch_id, [])
            for content in contents:
                if any(content.unaccounted == each.unaccounted and content.rejected == each.rejected for each in known):
                    self.copies[batch_id] = self.copies.get(batch_id, 0) + 1
                else:
                    known.append(content)
        for batch_id, copies in other.copies.items():
            self.copies[batch_id] = self.copies.get(batch_id, 0) + copies

    @property
    def distinct(self) -> int:
        """Number of different contents."""
        return len(self.nameless) + sum(len(contents) for contents in self.contents.values())

    @property
    def expected(self) -> dict[str, int]:
        """Expected number of contents by verdict, and of further copies (`duplicate`)."""
        rejected = sum(contents[0].rejected for contents in self.contents.values())
        return {
            "accepted": len(self.contents) - rejected,
            "duplicate": sum(self.copies.values()),
            "conflict": sum(len(contents) - 1 for contents in self.contents.values()),
            "rejected": rejected + len(self.nameless),
        }

    def accepted_content(self, marker: Marker) -> SentContent | None:
        """Content that a marker accepted; None if that content was not sent."""
        contents = self.contents.get(marker.batch_id, [])
        return next((content for content in contents if content.matches(marker)), None)


def _content(line: SentBatch) -> SentContent:
    sent = fingerprint(line.totals.items())
    return SentContent(
        batch_id=line.batch_id,
        rejected=line.expect == "rejected",
        records=line.records,
        metered=line.metered,
        bytes=sent.total.bytes,
        unaccounted=sent,
    )
