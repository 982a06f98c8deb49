"""The plan of a log file: what it is metered as. It is put once, and every later reading of the file follows it.

A plan names the contexts that judged the file, so a file that comes again is judged by the same ones, whatever has
changed since, and becomes the same batches. It holds the balance of the file, so totals of logs are sums over plans.

Key: `plans/<kind>/<source>/<slot>/<digest of the identity>.json`. So a listing below a source shows its slots in order.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metering.onramps.reading import NO_OTHERS, Balance, Others
from metering.stores.fields import Fields
from metering.stores.objects import PLANS_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
NO_SLOT = "none"
PLACES_PREFIX = f"{PLANS_PREFIX}places/"
"""Prefix of the notes about files without AWS's name (`metering.onramps.ingest.places`). They are no plans."""

_SCHEMA = "metering.plan/1"
_TEXTS = ("identity", "kind", "source", "account_id", "region", "place", "etag", "content_sha256", "rules", "after")
_BALANCE = tuple(each.name for each in fields(Balance))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One batch of a plan: at most 50,000 records.

    Attributes:
        batch_id: `<identity>/<number from 0>`.
        records: Records in it.
        bytes: Their bytes.
        sha256: SHA-256 of the records, whatever writes them as Parquet (`metering.onramps.ingest.planning`).
    """

    batch_id: str
    records: int
    bytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Lines of a file that one rule classified as one usage type.

    Attributes:
        usage_type: Usage type, as the report shows it.
        rule: The rule that decided.
        reason: Why they are unclassified; empty if they are classified.
    """

    usage_type: str
    rule: str
    reason: str
    bytes: int
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a log file is metered as.

    Attributes:
        identity: Identity of the file.
        kind: Kind of log.
        source: What writes such files: a flow-log id, a distribution, a logged bucket.
        account_id: Account of the file's name; empty if it states none.
        region: Region of the file's name; empty if it states none.
        slot_s: Start of the time that the file is for; None if its name does not say.
        place: Where the file lay when it was planned. A copy elsewhere has the same plan.
        etag: Its ETag then; empty for a file on disk.
        content_sha256: SHA-256 of the decompressed content; of a Parquet file, of the file.
        contexts: SHA-256 of the context that judged the lines of each hour, by the hour that it holds from, in order;
            empty if none did.
        rules: Version of the rules.
        parts: Its batches, in order.
        balance: What became of its lines.
        shares: What was metered by usage type and rule, sorted.
        shadowed: Lines and bytes that another log has the authority over, by that log, as `(log, lines, bytes)`.
        refusals: Refused lines and bytes, as `(reason, lines, bytes)`.
        planned_s: When it was planned, in epoch seconds.
        from_byte: Byte of the decompressed content that its lines begin at: those before have another plan. 0 unless
            release 0.2.0 appended them to a file that had grown.
        after: Identity of the content before `from_byte`; empty if there is none.
        billed_as: What said whom its lines may bill, a name of `metering.onramps.sources.BilledAs`; empty in plans of
            before 0.2.
        others: Lines of other accounts than the file's name states.
    """

    identity: str
    kind: str
    source: str
    account_id: str
    region: str
    slot_s: int | None
    place: str
    etag: str
    content_sha256: str
    contexts: Mapping[int, str]
    rules: str
    parts: tuple[Part, ...]
    balance: Balance
    shares: tuple[Share, ...]
    shadowed: tuple[tuple[str, int, int], ...]
    refusals: tuple[tuple[str, int, int], ...]
    planned_s: int
    from_byte: int = 0
    after: str = ""
    billed_as: str = ""
    others: Others = NO_OTHERS

    @property
    def key(self) -> str:
        return plan_key(self.kind, self.source, self.slot_s, self.identity)

    def encode(self) -> bytes:
        """The object's content: JSON, with bytes as decimal text."""
        document = {
            "schema": _SCHEMA,
            **{name: getattr(self, name) for name in _TEXTS},
            "slot_s": self.slot_s,
            "contexts": sorted(self.contexts.items()),
            "parts": [[part.batch_id, part.records, str(part.bytes), part.sha256] for part in self.parts],
            "balance": {name: _number(name, getattr(self.balance, name)) for name in _BALANCE},
            "shares": [[s.usage_type, s.rule, s.reason, str(s.bytes), s.lines] for s in self.shares],
            "shadowed": [[log, lines, str(size)] for log, lines, size in self.shadowed],
            "refusals": [[reason, lines, str(size)] for reason, lines, size in self.refusals],
            "planned_s": self.planned_s,
            "from_byte": self.from_byte,
            "billed_as": self.billed_as,
            "others": [
                self.others.lines,
                str(self.others.bytes),
                self.others.billed_lines,
                str(self.others.billed_bytes),
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes, key: str = "plan") -> Plan:
        """Inverse of `encode`.

        Args:
            body: The object's content.
            key: Its key, for errors.

        Raises:
            LedgerCorruptError: It is not a plan.
        """
        document = Fields.of_json(body, key)
        document.one_of("schema", (_SCHEMA,))
        balance = document.nested("balance")
        return cls(
            **{name: document.any_text(name) for name in _TEXTS},
            slot_s=document.whole_or_null("slot_s"),
            contexts={
                row.whole("from_s"): row.text("sha256") for row in document.rows("contexts", ("from_s", "sha256"))
            },
            parts=tuple(_part(row) for row in document.rows("parts", ("batch_id", "records", "bytes", "sha256"))),
            balance=Balance(**{name: _number_of(balance, name) for name in _BALANCE}),
            shares=tuple(
                _share(row) for row in document.rows("shares", ("usage_type", "rule", "reason", "bytes", "lines"))
            ),
            shadowed=_counts(document, "shadowed"),
            refusals=_counts(document, "refusals"),
            planned_s=document.whole("planned_s"),
            from_byte=document.whole("from_byte"),
            billed_as=document.any_text("billed_as") if "billed_as" in document else "",
            others=_others(document),
        )


def _others(document: Fields) -> Others:
    if "others" not in document:
        return NO_OTHERS
    row = document.row("others", Others._fields)
    return Others(row.whole("lines"), row.decimal("bytes"), row.whole("billed_lines"), row.decimal("billed_bytes"))


def _number(name: str, value: int) -> int | str:
    return str(value) if name.endswith("_bytes") else value


def _number_of(balance: Fields, name: str) -> int:
    return balance.decimal(name) if name.endswith("_bytes") else balance.whole(name)


def _part(row: Fields) -> Part:
    return Part(
        batch_id=row.text("batch_id"),
        records=row.whole("records", least=1),
        bytes=row.decimal("bytes"),
        sha256=row.any_text("sha256"),
    )


def _share(row: Fields) -> Share:
    return Share(
        usage_type=row.text("usage_type"),
        rule=row.any_text("rule"),
        reason=row.any_text("reason"),
        bytes=row.decimal("bytes"),
        lines=row.whole("lines"),
    )


def _counts(document: Fields, name: str) -> tuple[tuple[str, int, int], ...]:
    rows = document.rows(name, ("name", "lines", "bytes"))
    return tuple((row.any_text("name"), row.whole("lines"), row.decimal("bytes")) for row in rows)


def source_prefix(kind: str, source: str) -> str:
    """Prefix of the plans of one source."""
    return f"{PLANS_PREFIX}{kind}/{_UNFIT.sub('_', source) or NO_SLOT}/"


def plan_key(kind: str, source: str, slot_s: int | None, identity: str) -> str:
    """Key of the plan of a file."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:40]
    return f"{source_prefix(kind, source)}{slot_label(slot_s)}/{digest}.json"


def slot_label(slot_s: int | None) -> str:
    """Label of a slot in a key, `20261124T1305Z`; labels sort in the order of time."""
    if slot_s is None:
        return NO_SLOT
    return datetime.fromtimestamp(slot_s, UTC).strftime("%Y%m%dT%H%MZ")
