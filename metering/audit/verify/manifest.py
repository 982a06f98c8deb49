"""The manifest: list of the messages that a replay sent, with their expected verdicts, as NDJSON.

The first line describes the replay; each further line is one message:

    {"manifest": "metering.manifest/1", "name": "mixed-7-2026112413", "region": "us-east-1", "seed": 7}
    {"batch_id": "…", "content": 0, "expect": "accepted", "records": 100, "metered": 100, "totals": [[…], …]}

`content` numbers the contents that were sent under one id: 0 is the first. `expect` is one of

| expect      | must end as                                                                          |
|-------------|--------------------------------------------------------------------------------------|
| `accepted`  | accepted, every record metered                                                       |
| `partly`    | accepted, some records refused                                                       |
| `duplicate` | another copy of a content that is in the manifest already: no verdict of its own     |
| `conflict`  | other content under the same id: whichever comes first is accepted, the other is not |
| `rejected`  | refused as a whole, for `reason`                                                     |

`totals` are `[hour, account, usage type, service, from, to, bytes as a decimal string, records]`. The sender computes
them with code of its own, so that the comparison proves something. `body_sha256` replaces a batch id that cannot be
read. It is the digest of the body's canonical JSON, because queues and emulators may rewrite JSON, and of the body
itself if that is not JSON.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast, get_args

from metering.errors import OperationFailedError
from metering.hours import hour_label, parse_hour
from metering.usage.totals import Service, Total, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SCHEMA = "metering.manifest/1"
_TOTAL_TYPES = [*[str] * 7, int]

Expectation = Literal["accepted", "partly", "duplicate", "conflict", "rejected"]


class ManifestError(OperationFailedError):
    """A file is not a manifest. The message names the wrong line and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHeader:
    """Description of a replay.

    Attributes:
        name: Start of its batch ids.
        began_at_ms: When the first message was about to be sent, epoch milliseconds.
    """

    name: str
    region: str
    seed: int
    began_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """One message as it was sent.

    Attributes:
        batch_id: Empty if none can be read from it.
        content: Number of the content among those sent under this id.
        metered: Records that must be metered; `records - metered` must be refused.
        totals: Totals of the metered records, by usage key.
        reason: Expected reason of the rejection; empty otherwise.
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
    """First line of a manifest, with its line feed."""
    line = {
        "manifest": SCHEMA,
        "name": header.name,
        "region": header.region,
        "seed": header.seed,
        "began_at_ms": header.began_at_ms,
    }
    return json.dumps(line) + "\n"


def sent_line(sent: SentBatch) -> str:
    """Line of one message, with its line feed."""
    line: dict[str, object] = {
        "batch_id": sent.batch_id,
        "content": sent.content,
        "expect": sent.expect,
        "records": sent.records,
        "metered": sent.metered,
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
    """Inverse of `sent_line`, for all lines after the first.

    Raises:
        ManifestError: A line is not a message of a manifest, or is cut short.
    """
    for number, line in enumerate(lines, start=2):
        value = _object(line, number)
        try:
            yield _sent(value)
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"line {number} is not a message of a manifest: {error!r}") from error


def whole_lines(lines: Iterable[str], cut: Callable[[str], None]) -> Iterator[str]:
    """Lines without a truncated last line, which has no line feed and is not JSON. `cut` is called with it.

    A replay that was killed, or whose disk was full, leaves such a line. Its message may have been sent.
    """
    for line in lines:
        if not line.endswith("\n") and not _is_json(line):
            cut(line)
            return
        yield line


def body_digest(body: str) -> str:
    """Name of a body from which no batch id can be read (see the module's docstring)."""
    try:
        canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        # Not JSON, or nested deeper than Python reads: quarantine holds such bodies.
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
        # Names that cannot be encoded are no record's. UnicodeEncodeError is a ValueError.
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


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _object(line: str, number: int) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ManifestError(f"line {number} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ManifestError(f"line {number} is not a JSON object")
    return value
