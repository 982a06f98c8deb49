"""Names of lines that stay the same in every export: the key of a charge, and the invoice line that it belongs to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.reports.exports.periods import labels_of

if TYPE_CHECKING:
    from metering.reports.exports.batches import Batch, Billed, Parts, Priced

_PRICED_CHARS = 20
_BILLED_CHARS = 12
_RESOURCE_CHARS = 12


def detail_id(billed: Billed, priced: Priced) -> str:
    """InvoiceDetailId of a charge; see `line_id`."""
    month = "" if billed.month == billed.billing_month else billed.month
    return line_id(billed.invoice_id, priced.region, priced.rated.rate_code, month)


def line_id(invoice_id: str, region: str, rate_code: str, month: str) -> str:
    """Id of an invoice line: `<invoice>:<region>:<rate code>`; `:<month of use>` follows if a later month books it."""
    return f"{invoice_id}:{region}:{rate_code}" + (f":{month}" if month else "")


@dataclass(slots=True)
class Identities:
    """Identities of the lines of batches. Mutable: it remembers those of parts."""

    _parts: Parts | None = None
    _billed: list[str] = field(default_factory=list)
    _priced: list[str] = field(default_factory=list)
    _used: list[str] = field(default_factory=list)
    _details: dict[int, str] = field(default_factory=dict)

    def charge_keys(self, batch: Batch) -> pa.Array:
        """`<account>:<digest of key and price>:<digest of the document>:<hour>`: one line of an export has one."""
        self._learn(batch)
        return pc.binary_join_element_wise(
            pa.array(self._used, pa.string()).take(batch.used),
            pa.array(self._priced, pa.string()).take(batch.priced),
            pa.array(self._billed, pa.string()).take(batch.billed),
            labels_of(batch.starts),
            ":",
        )

    def detail_ids(self, batch: Batch) -> pa.Array:
        """InvoiceDetailId of each line, as a dictionary."""
        self._learn(batch)
        pairs = line_numbers(batch).dictionary_encode()
        texts = [self._detail(batch.parts, pair) for pair in pairs.dictionary.to_pylist()]
        encoded = pa.array(texts, pa.string()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(encoded.indices.take(pairs.indices), encoded.dictionary)

    def _detail(self, parts: Parts, pair: int) -> str:
        known = self._details.get(pair)
        if known is None:
            billed, priced = parts_of(parts, pair)
            known = self._details[pair] = detail_id(billed, priced)
        return known

    def _learn(self, batch: Batch) -> None:
        if batch.parts is not self._parts:
            self._parts, self._details = batch.parts, {}
            self._billed, self._priced, self._used = [], [], []
        parts = batch.parts
        self._billed += map(_billed_digest, parts.billed[len(self._billed) :])
        self._priced += map(_priced_digest, parts.priced[len(self._priced) :])
        self._used += [
            f"{each.account_id}/{_digest([each.resource_id], _RESOURCE_CHARS)}" if each.resource_id else each.account_id
            for each in parts.used[len(self._used) :]
        ]


# More prices than parts are ever remembered.
_PRICED = 2**20


def line_numbers(batch: Batch) -> pa.Array:
    """A number for each line that tells document and price apart: `parts_of` gives them back."""
    return pc.add(pc.multiply(batch.billed.cast(pa.int64()), _PRICED), batch.priced.cast(pa.int64()))


def parts_of(parts: Parts, number: int) -> tuple[Billed, Priced]:
    """Document and price of a line's number."""
    billed, priced = divmod(number, _PRICED)
    return parts.billed[billed], parts.priced[priced]


def _billed_digest(part: Billed) -> str:
    # A draft and its invoice have the same keys. Several credit notes may be about one line.
    note = part.invoice_id if part.credit_of else ""
    return _digest([part.payer.payer_id, part.billing_month, part.later, part.credit_of, note], _BILLED_CHARS)


def _priced_digest(part: Priced) -> str:
    line = part.rated.line
    key = (line.service, line.usage_type, line.from_location, line.to_location)
    return _digest([part.region, *key, *part.rated[2:]], _PRICED_CHARS)


def _digest(values: list[object], chars: int) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:chars]
