"""The plan of a log file. A plan is put once, and every later read of the file uses this plan.

A plan names the contexts that judged the file, so a file delivered again is judged by the same contexts and yields the
same batches, whatever has changed since. A plan holds the totals of one log file; totals of logs are sums over plans.

Key: `plans/<kind>/<source>/<slot>/<digest of the identity>.json`. So the keys below a source sort by slot.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, ClassVar, NamedTuple

from metering.onramps.reading import NO_OTHERS, SLOT_FORM, Balance, Others
from metering.stores import objects
from metering.stores.codec import (
    Added,
    AnyText,
    DecimalText,
    Fields,
    Form,
    FromOne,
    StoredDocument,
    Unwritten,
    WholeOrNull,
)

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
NO_SLOT = "none"
PLACES_PREFIX = f"{objects.PLANS_PREFIX}places/"
"""Prefix of the notes about files without AWS's name (`metering.onramps.ingest.taking`). They are no plans."""


class Part(NamedTuple):
    """One batch of a plan: at most 50,000 records.

    Attributes:
        batch_id: `<identity>/<number from 0>`.
        sha256: SHA-256 of the records, independent of the Parquet writer (`metering.onramps.ingest.planning`).
    """

    batch_id: str
    records: FromOne
    bytes: DecimalText
    sha256: str = ""


class Share(NamedTuple):
    """Lines of a file with the same rule and usage type; `reason` is empty if the lines are classified."""

    usage_type: str
    rule: AnyText
    reason: AnyText
    bytes: DecimalText
    lines: int


_Counts = tuple[tuple[str, int, int], ...]


def _counts(document: Fields, name: str) -> _Counts:
    rows = document.rows(name, ("name", "lines", "bytes"))
    return tuple((row.any_text("name"), row.whole("lines"), row.decimal("bytes")) for row in rows)


def _counted(counts: _Counts) -> list[list[str | int]]:
    return [[name, lines, str(size)] for name, lines, size in counts]


def _contexts(document: Fields, name: str) -> dict[int, str]:
    return {row.whole("from_s"): row.text("sha256") for row in document.rows(name, ("from_s", "sha256"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(StoredDocument):
    """Batches of a log file, and the outcomes of its lines.

    Attributes:
        source: The writer of such files: a flow-log id, a distribution, a logged bucket.
        account_id: Account in the file's name; empty if the name has no account. So for `region`.
        slot_s: Start of the file's slot, in epoch seconds; None if the file's name states no slot.
        place: Location of the file when it was planned. A copy of the file elsewhere has the same plan.
        etag: ETag of the file when planned; empty for a file on disk.
        content_sha256: SHA-256 of the decompressed content; for Parquet, of the file itself.
        contexts: First hour of each context -> SHA-256 of the context, for the contexts used, by hour; empty without
            contexts.
        shares: Metered bytes by usage type and rule, sorted.
        shadowed: Lines and bytes for which another log has the authority, by this other log, as `(log, lines, bytes)`.
        from_byte: Offset of the plan's lines in the decompressed content: earlier lines have another plan. 0 unless
            release 0.2.0 appended lines to a file that had grown.
        after: Identity of the content before `from_byte`; empty without such content.
        causes: SHA-256 of the file's cause rows (`metering.onramps.ingest.causes`); empty without them.
        billed_as: A value of `metering.onramps.sources.BilledAs`; empty in plans before 0.2.
    """

    SCHEMA: ClassVar[str] = "metering.plan/1"
    identity: AnyText
    kind: AnyText
    source: AnyText
    account_id: AnyText
    region: AnyText
    place: AnyText
    etag: AnyText
    content_sha256: AnyText
    rules: AnyText
    after: str = ""
    slot_s: WholeOrNull
    contexts: Annotated[Mapping[int, str], Form(_contexts, lambda contexts: sorted(contexts.items()))]
    parts: tuple[Part, ...]
    balance: Balance
    shares: tuple[Share, ...]
    shadowed: Annotated[_Counts, Form(_counts, _counted)]
    refusals: Annotated[_Counts, Form(_counts, _counted)]
    planned_s: int
    from_byte: int = 0
    billed_as: Annotated[str, Added("")] = ""
    others: Annotated[Others, Added(NO_OTHERS)] = NO_OTHERS
    causes: Annotated[str, Added(""), Unwritten("")] = ""

    @property
    def key(self) -> str:
        return plan_key(self.kind, self.source, self.slot_s, self.identity)


def source_prefix(kind: str, source: str) -> str:
    """Prefix of the plans of one source."""
    return f"{objects.PLANS_PREFIX}{kind}/{_UNFIT.sub('_', source) or NO_SLOT}/"


def plan_key(kind: str, source: str, slot_s: int | None, identity: str) -> str:
    """Key of the plan of a file."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:40]
    return f"{source_prefix(kind, source)}{slot_label(slot_s)}/{digest}.json"


def slot_label(slot_s: int | None) -> str:
    """Label of a slot in a key, `20261124T1305Z`; labels sort chronologically."""
    if slot_s is None:
        return NO_SLOT
    return datetime.fromtimestamp(slot_s, UTC).strftime(SLOT_FORM)
