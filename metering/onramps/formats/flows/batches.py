"""Columns of a Parquet file as the reader of flow logs wants them: texts as dictionaries, numbers as int64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.onramps.formats.flows.columns import WORDS, numbers_of
from metering.units import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACCOUNT_DIGITS = 12
# How writers say that a value is absent, beside null. `None` comes of Python's `str`.
_ABSENT = frozenset(("-", "", "None"))
# Path 0 does not exist; an integer column has it where the text has `-`.
_NO_PATH = frozenset(("0",))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, folded or not. A column without any value may be anything."""
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(values) for is_kind in kinds)


def is_number(kind: pa.DataType) -> bool:
    """Whether a column that is no text can give numbers: integers, and times for `start` and `end`."""
    return bool(pa.types.is_integer(kind) or pa.types.is_timestamp(kind))


def text_column(column: pa.Array, attribute: str) -> pa.DictionaryArray:
    """A column as texts. Integers become texts, accounts with 12 digits; what stands for absent becomes null."""
    folded = _folded(column)
    words = [None if word is None else str(word) for word in folded.dictionary.to_pylist()]
    if attribute == "account_id" and not is_text(column.type):
        words = [None if word is None else word.zfill(_ACCOUNT_DIGITS) for word in words]
    absent = _ABSENT | _NO_PATH if attribute == "path" else _ABSENT
    indices = _without(folded.indices, [place for place, word in enumerate(words) if word is None or word in absent])
    return pa.DictionaryArray.from_arrays(indices, pa.array([word or "" for word in words], pa.string()))


def number_column(column: pa.Array) -> tuple[pa.Int64Array, pa.BooleanArray | None]:
    """A column as int64, null where there is no number of 64 bits; and the rows with a text that is no number."""
    if is_text(column.type):
        texts = text_column(column, "").cast(pa.string())
        numbers = numbers_of(texts)
        bad = pc.and_(texts.is_valid(), numbers.is_null())
        return numbers, bad if bad.true_count else None
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64()), None
    if pa.types.is_uint64(column.type):
        large = pc.greater(column, pa.scalar(INT64_MAX, pa.uint64())).fill_null(False)
        numbers = pc.if_else(large, None, column).cast(pa.int64())
        return numbers, large if large.true_count else None
    return column.cast(pa.int64()), None


def _folded(column: pa.Array) -> pa.DictionaryArray:
    """A dictionary of no more words than the batch has rows: that of a whole row group may be far larger."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_dictionary(column.type):
        return column.dictionary_encode().cast(pa.dictionary(pa.int32(), column.type))
    if len(column.dictionary) <= len(column):
        return column.cast(pa.dictionary(pa.int32(), column.type.value_type))
    used = pc.unique(column.indices).drop_null()
    return pa.DictionaryArray.from_arrays(
        pc.index_in(column.indices, used), column.dictionary.take(used).cast(WORDS.value_type)
    )


def _without(indices: pa.Int32Array, places: Sequence[int]) -> pa.Int32Array:
    if not places:
        return indices
    gone = pc.is_in(indices, pa.array(places, pa.int32()))
    return pc.if_else(gone, None, indices)
