"""The accounts of a month: bytes, records, first and last hour of each, so that all of them are listed in one read.

A gzip file of lines of JSON. The first line is the head: the month, and the total of each hour that is in the sums.
Each line after it is an account, in order: `["123456789012", "4096", 12, 1764000000, 1764003600]`, with the first and
the last hour that it has usage in, in epoch seconds. Bytes are text, because numbers of JSON end at 2^53.

Unlike the sums of days, the canary is in it, and so are corrections, in the month that they are booked in: the sum over
all accounts is that of the lake files, to the byte.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import LedgerCorruptError, ObjectDamagedError
from metering.hours import hour_label
from metering.stores.bucket import rated_accounts_key
from metering.stores.fields import Fields
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_SCHEMA = "metering.month-accounts/1"
_LEVEL = 6
# So many lines are decoded at once. One at a time takes three times as long.
_LINES = 4_096
# The id of an account stands at the same place of every line.
_ID = slice(2, 14)


class AccountSum(NamedTuple):
    """What an account used in a month.

    Attributes:
        first_s, last_s: The first and the last hour with usage, epoch seconds.
    """

    account_id: str
    bytes: int
    records: int
    first_s: int
    last_s: int

    def plus(self, other: AccountSum) -> AccountSum:
        """Both together; `other` is of the same account."""
        return AccountSum(
            self.account_id,
            self.bytes + other.bytes,
            self.records + other.records,
            min(self.first_s, other.first_s),
            max(self.last_s, other.last_s),
        )


def merged(sums: Iterable[AccountSum]) -> Iterator[AccountSum]:
    """One sum for each account, of sums in the order of accounts."""
    last: AccountSum | None = None
    for each in sums:
        if last is not None and last.account_id == each.account_id:
            last = last.plus(each)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


def accounts_body(month: str, hours: Mapping[int, Total], sums: Iterable[AccountSum]) -> bytes:
    """Content of the object. `sums` are in order. Equal sums give equal bytes; no more than a line is held."""
    sink = io.BytesIO()
    head = [[hour_label(hour_s), str(total.bytes), total.records] for hour_s, total in sorted(hours.items())]
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
        file.write(_line({"schema": _SCHEMA, "month": month, "hours": head}))
        for each in sums:
            file.write(_line([each.account_id, str(each.bytes), each.records, each.first_s, each.last_s]))
    return sink.getvalue()


def accounts_key(month: str, body: bytes) -> str:
    """Key of the object: other sums have another one."""
    return rated_accounts_key(month, hashlib.sha256(body).hexdigest())


class AccountsReader:
    """Reads the accounts of a month from the body of their object; they are decoded while the caller iterates.

    Args:
        body: The object.
        key: Its key, which its content must have.

    Raises:
        ObjectDamagedError: It is another content than the key says, or something else.
    """

    def __init__(self, body: bytes, key: str) -> None:
        self._body = body
        self._key = key
        try:
            with self._opened() as file:
                fields = Fields.of_json(file.readline(), key)
            fields.one_of("schema", (_SCHEMA,))
            self.month = fields.text("month")
            self.hours: Mapping[int, Total] = {
                row.hour("hour"): Total(row.decimal("bytes"), row.whole("records"))
                for row in fields.rows("hours", ("hour", "bytes", "records"))
            }
        except (LedgerCorruptError, OSError, EOFError, zlib.error) as error:
            raise ObjectDamagedError(key, str(error)) from error
        if accounts_key(self.month, body) != key:
            raise ObjectDamagedError(key, "its content is another one than its name says")

    def accounts(self, wanted: frozenset[str] | None = None, *, prefix: str = "") -> Iterator[AccountSum]:
        """Accounts in order; only some of them unless None, and only those whose ids begin with `prefix`."""
        lines: list[bytes] = []
        begins = prefix.encode()
        with self._opened() as file:
            file.readline()
            for line in file:
                account_id = line[_ID]
                if account_id.startswith(begins) and (wanted is None or account_id.decode() in wanted):
                    lines.append(line)
                    if len(lines) == _LINES:
                        yield from _sums(lines)
                        lines.clear()
        yield from _sums(lines)

    def _opened(self) -> gzip.GzipFile:
        return gzip.GzipFile(fileobj=io.BytesIO(self._body), mode="rb")


def _sums(lines: list[bytes]) -> Iterator[AccountSum]:
    for account_id, size, records, first_s, last_s in json.loads(b"[%b]" % b",".join(lines)):
        yield AccountSum(account_id, int(size), records, first_s, last_s)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
