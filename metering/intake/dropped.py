"""Batch ids of objects below `drop/`: by ETag as the contract says, or by checksum in a stage that encrypts with KMS.

With a KMS key, each upload of the same bytes gets another ETag, so a copy would be another batch. In a stage whose
`drop_identity` is `checksum`, the id is derived from the size and the CRC-64/NVME of the whole object instead. Only S3
tells these two, so an announcement has its id after a HEAD. An object without this checksum is refused under its id by
ETag; the stage never meters under such an id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from metering.errors import BatchRefusedError, ObjectChangedError, ObjectMissingError, ObjectUnreadableError
from metering.intake.envelopes import drop_batch_id
from metering.intake.messages import BatchMessage, ObjectRecords
from metering.intake.work import Reason, refusal

if TYPE_CHECKING:
    from metering.stores.objects import ObjectStore
    from metering.version import DropIdentity


def checksum_batch_id(bucket: str, key: str, *, size_bytes: int, crc64nvme: str) -> str:
    """Id of a batch by the checksum of its object, in base64 (docs/contract/producers.md)."""
    identity = "\n".join((bucket, key, str(size_bytes), crc64nvme))
    return "s3c:" + sha256(identity.encode("utf-8", errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIds:
    """Batch ids of objects below `drop/`, of one region.

    Attributes:
        bucket: Name of the data bucket, which is part of each id.
    """

    objects: ObjectStore
    bucket: str
    identity: DropIdentity = "etag"

    def identified(self, message: BatchMessage) -> BatchMessage:
        """Give the batch of an announced object its id; other messages have theirs already.

        Raises:
            BatchRefusedError: The object has no checksum.
            ObjectMissingError, ObjectChangedError, ObjectUnreadableError: Of the announced version.
            UnavailableError: S3 does not answer.
        """
        records = message.records
        if self.identity == "etag" or not message.announced or not isinstance(records, ObjectRecords):
            return message
        batch_id = self._by_checksum(records.key, records.if_match, records.version_id)
        return replace(message, batch_id=batch_id)

    def of_message(self, message: BatchMessage) -> str:
        """Id under which a batch has its verdict, or will have it; empty if it cannot be read.

        Raises:
            UnavailableError: S3 does not answer.
        """
        try:
            return self.identified(message).batch_id
        except (BatchRefusedError, ObjectMissingError, ObjectChangedError, ObjectUnreadableError):
            return message.batch_id

    def of_object(self, key: str, etag: str) -> tuple[str, ...]:
        """Every id under which an object can have a verdict: refused by its ETag, or judged by its checksum.

        Raises:
            UnavailableError: S3 does not answer.
        """
        by_etag = drop_batch_id(self.bucket, key, etag)
        if self.identity == "etag":
            return (by_etag,)
        try:
            return (by_etag, self._by_checksum(key, etag, ""))
        except (BatchRefusedError, ObjectMissingError, ObjectChangedError, ObjectUnreadableError):
            return (by_etag,)

    def _by_checksum(self, key: str, etag: str, version_id: str) -> str:
        found = self.objects.pinned(key, if_match=etag, version_id=version_id)
        if not found.crc64nvme:
            raise refusal(Reason.CHECKSUM_MISSING, "S3 keeps no CRC64NVME of the whole object: upload it with one")
        return checksum_batch_id(self.bucket, key, size_bytes=found.size_bytes, crc64nvme=found.crc64nvme)
