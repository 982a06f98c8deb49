"""Quarantine objects: refused content with the reasons of its refusal.

| what | key | content |
|---|---|---|
| refused records of an accepted batch | `quarantine/<date>/<commit_id>.ndjson` | one line a record |
| a whole batch: refused, or in conflict | `quarantine/batches/<sha256 of batch id and hash>.json` | one document |

Objects of the first kind belong to their commit, and are deleted with an orphan commit. Objects of the second kind are
named by identity alone, so a second delivery writes the same object on any day, and an id and a hash are enough to find
it. One that its sender may not send has a name of its sender, the id that it claims, and its body. All of it is ASCII
JSON, because refused content can hold any text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.intake.batches import Claim, RefusedRecord
from metering.intake.senders.producers import role_of
from metering.stores.bucket import disallowed_batch_key, quarantined_batch_key
from metering.stores.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


Kind = Literal["refused", "conflict"]

_SCHEMA = "metering.quarantine/1"
_KINDS: tuple[Kind, ...] = ("refused", "conflict")

Problems = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRecord:
    """A refused record of an accepted batch."""

    batch_id: str
    record: RefusedRecord


def encode_records(refused: Mapping[str, tuple[RefusedRecord, ...]]) -> bytes:
    """Refused records by batch id as NDJSON, in the order given."""
    lines = [
        json.dumps(
            {"batch_id": batch_id, "position": each.position, "reasons": each.reasons, "raw": each.raw},
            separators=(",", ":"),
        )
        for batch_id, records in refused.items()
        for each in records
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def decode_records(body: bytes, key: str = "quarantine object") -> Iterator[QuarantinedRecord]:
    """Inverse of `encode_records`, line by line.

    Args:
        body: The object's content.
        key: Its key.

    Raises:
        LedgerCorruptError: It is not such an object.
    """
    for number, line in enumerate(body.splitlines(), start=1):
        document = Fields.of_json(line, f"{key}, line {number}")
        record = RefusedRecord(
            position=document.whole("position"), reasons=_problems(document), raw=document.any_text("raw")
        )
        yield QuarantinedRecord(batch_id=document.any_text("batch_id"), record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedBatch:
    """A whole batch that is not metered.

    Attributes:
        kind: `refused`, or `conflict`: an accepted batch with other content has its id.
        problems: Every problem found, as `(reason, detail)`; a conflict has the one problem `conflict`.
        hash_version: Version of the content hash; 0 says that it is the SHA-256 of the message body.
        records: Number of records that arrived, 0 if unknown.
        first_sender_id: Sender of the accepted content, for a conflict; else empty.
        body: The message as it came. A retry sends it again.
        evidence: Evidence that the reader kept, as text; empty if that is the body.
        claim: What it says it is, if its sender may not send it; then it has no batch id.
    """

    kind: Kind
    batch_id: str
    content_hash: str
    hash_version: int
    problems: Problems
    source_id: str
    sequence: int | None
    sender_id: str
    first_sender_id: str
    records: int
    body: str
    evidence: str
    claim: Claim | None = None

    @property
    def key(self) -> str:
        if self.claim is not None:
            return disallowed_batch_key(role_of(self.sender_id), self.claim.batch_id, self.content_hash)
        return quarantined_batch_key(self.batch_id, self.content_hash)

    @property
    def reason(self) -> str:
        return self.problems[0][0]

    def encode(self) -> bytes:
        """The object's content."""
        claim = self.claim
        claims = {} if claim is None else {"claims": [claim.batch_id, claim.content_hash, claim.hash_version]}
        document = {
            "schema": _SCHEMA,
            "kind": self.kind,
            "batch_id": self.batch_id,
            "hash": self.content_hash,
            "hash_version": self.hash_version,
            "reasons": self.problems,
            "source_id": self.source_id,
            "sequence": self.sequence,
            "sender": self.sender_id,
            "first_sender": self.first_sender_id,
            "records": self.records,
            "body": self.body,
            "evidence": self.evidence,
            **claims,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes, key: str = "quarantine object") -> QuarantinedBatch:
        """Inverse of `encode`.

        Args:
            body: The object's content.
            key: Its key.

        Raises:
            LedgerCorruptError: It is not such an object.
        """
        document = Fields.of_json(body, key)
        document.one_of("schema", (_SCHEMA,))
        return cls(
            kind=document.one_of("kind", _KINDS),
            batch_id=document.any_text("batch_id"),
            content_hash=document.text("hash"),
            hash_version=document.whole("hash_version"),
            problems=_problems(document),
            source_id=document.any_text("source_id"),
            sequence=document.whole_or_null("sequence"),
            sender_id=document.any_text("sender"),
            first_sender_id=document.any_text("first_sender"),
            records=document.whole("records"),
            body=document.any_text("body"),
            evidence=document.any_text("evidence"),
            claim=_claim(document) if "claims" in document else None,
        )


def _claim(document: Fields) -> Claim:
    row = document.row("claims", ("batch_id", "hash", "hash_version"))
    return Claim(
        batch_id=row.any_text("batch_id"), content_hash=row.text("hash"), hash_version=row.whole("hash_version")
    )


def _problems(document: Fields) -> Problems:
    problems = document.rows("reasons", ("reason", "detail"))
    if not problems:
        document.fail("reasons", "one reason at least")
    return tuple((problem.text("reason"), problem.any_text("detail")) for problem in problems)
