"""Digest of usage rows: SHA-256 of a text that any program can write, whatever file the rows are kept in.

A row is one line: hour, account, usage type, service, from, to, `corrects`, bytes, records, with a tab between. Times
are epoch seconds, and `corrects` is empty in a row that corrects nothing. No name has a control character
(record_rules), so two different rows never give the same line. The lines of an hour are in the order of `row_place`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.usage.totals import Total, UsageKey

SEPARATOR = "\t"

Place = tuple[str, UsageType, Service, str, str, int, int]


def row_place(key: UsageKey) -> Place:
    """Place of a row among the rows of a month: account, usage type, service, from, to, `corrects`, hour.

    Rows that correct nothing come before corrections. Text is in the order of its code points, which is that of UTF-8.
    """
    corrects_s = -1 if key.corrects_s is None else key.corrects_s
    return key.account_id, key.usage_type, key.service, key.from_location, key.to_location, corrects_s, key.hour_s


def in_order(usage: Mapping[UsageKey, Total]) -> list[tuple[UsageKey, Total]]:
    """Usage as rows in the order of files and digests."""
    return sorted(usage.items(), key=lambda entry: row_place(entry[0]))


def usage_digest(rows: Iterable[tuple[UsageKey, Total]]) -> str:
    """Hex SHA-256 of rows in the given order."""
    digest = hashlib.sha256()
    for (hour_s, account_id, usage_type, service, from_location, to_location, corrects_s), total in rows:
        corrects = "" if corrects_s is None else corrects_s
        digest.update(
            f"{hour_s}\t{account_id}\t{usage_type}\t{service}\t{from_location}\t{to_location}\t{corrects}"
            f"\t{total.bytes}\t{total.records}\n".encode()
        )
    return digest.hexdigest()
