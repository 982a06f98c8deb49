"""Records inside the message, as a JSON array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from metering.intake.formats.json_records import REFUSALS, JsonIntake, decode_any, opening_brackets
from metering.intake.json_values import MAX_DEPTH, DepthError, JsonError, canonical_json, check_depth, parse_json
from metering.intake.reasons import Reason
from metering.intake.records import WireRecord
from metering.intake.work import refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.intake.formats.assembly import BatchAssembly
    from metering.intake.records import AnyRecord
    from metering.intake.work import ReadLimits

_decode_all = msgspec.json.Decoder(list[WireRecord]).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Texts:
    """Texts of the records of an array. They are cut out on first use, because most batches have no refused record."""

    def __init__(self, array: bytes) -> None:
        self._array = array
        self._texts: list[bytes] = []

    def at(self, position: int) -> bytes:
        return self.all()[position]

    def all(self) -> list[bytes]:
        """Texts of all records, in order.

        Raises:
            BatchRefusedError: The array is nested too deeply, or is not an array.
        """
        if not self._texts:
            self._texts = self._cut()
        return self._texts

    def _cut(self) -> list[bytes]:
        try:
            return list(map(bytes, _split(self._array)))
        except REFUSALS:
            # Only the patient parser takes NaN and lone surrogates.
            pass
        try:
            values = parse_json(self._array.decode("utf-8", errors="surrogateescape"))
        except DepthError as error:
            raise refusal(Reason.TOO_DEEPLY_NESTED, str(error)) from error
        except JsonError as error:
            raise refusal(Reason.INVALID_RECORDS, str(error)) from error
        if not isinstance(values, list):
            raise refusal(Reason.INVALID_RECORDS, "records is no array")
        return [canonical_json(value).encode("ascii") for value in values]


def read_inline(array: bytes, assembly: BatchAssembly, limits: ReadLimits) -> int:
    """Read the records of a JSON array; returns its size in bytes.

    Raises:
        BatchRefusedError: Too many records, too much work, nested too deeply, or not an array.
        OutOfTimeError: It takes too long.
    """
    texts = _Texts(array)
    try:
        records: Sequence[AnyRecord] = _decode_all(array)
    except REFUSALS:
        records = [decode_any(text, assembly.work) for text in texts.all()]
    if len(records) > limits.batch_records:
        raise refusal(Reason.TOO_MANY_RECORDS, f"{len(records)} records, more than {limits.batch_records}")
    _check_depth(array, len(records))
    JsonIntake(assembly).add(records, texts.at)
    return len(array)


def _check_depth(array: bytes, records: int) -> None:
    # Each record opens one bracket, and the array opens one. Deep nesting needs many more.
    if opening_brackets(array) - records < MAX_DEPTH - 1:
        return
    try:
        check_depth(array.decode("utf-8", errors="surrogateescape"))
    except DepthError as error:
        raise refusal(Reason.TOO_DEEPLY_NESTED, str(error)) from error
