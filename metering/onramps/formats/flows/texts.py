"""Checks of the texts of a flow log, each distinct text once."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from metering.onramps.formats.flows.columns import rows_of, rows_with
from metering.onramps.reasons import LineReason
from metering.usage.locations import is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from metering.onramps.formats.flows.columns import Rows

_ACCOUNT = re.compile(r"[0-9]{12}")
_ZONE_ID = re.compile(r"[a-z0-9-]{1,32}")
_UNKNOWN = "unknown"
# Most characters of a resource id (docs/contract.md). No text of a flow log that is used is longer.
_MAX_CHARS = 512
# Texts that are remembered as right. Their number has a bound, because addresses of the internet have none.
_REMEMBERED = 200_000


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address in its usual form."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def _is_account(text: str) -> bool:
    return _ACCOUNT.fullmatch(text) is not None


def _is_zone_id(text: str) -> bool:
    return _ZONE_ID.fullmatch(text) is not None


def _is_direction(text: str) -> bool:
    return text in ("egress", "ingress")


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _MAX_CHARS and text.isprintable()


_ADDRESS = (is_address, LineReason.INVALID_ADDRESS, "is no address")
_PLAIN = (_is_plain, LineReason.INVALID_VALUE, "is empty, too long or not printable")
_CHECKS: Mapping[str, tuple[Callable[[str], bool], LineReason, str]] = {
    "source": _ADDRESS,
    "destination": _ADDRESS,
    "packet_source": _ADDRESS,
    "packet_destination": _ADDRESS,
    "flow_direction": (_is_direction, LineReason.INVALID_VALUE, "is not egress or ingress"),
    "region": (is_region, LineReason.INVALID_VALUE, "is no region"),
    "zone_id": (_is_zone_id, LineReason.INVALID_VALUE, "is no zone id"),
}


class Texts:
    """Checks the texts of one file, block after block.

    Args:
        account_id: Account that the file's name states, for lines that state none; may be empty.
    """

    def __init__(self, account_id: str) -> None:
        self._account_id = account_id
        self._right: dict[Callable[[str], bool], set[str]] = {}

    def problems(self, rows: Rows) -> Iterator[tuple[pa.BooleanArray, str, str]]:
        """Rows with a text that is wrong, as `(rows, reason, detail)`."""
        accounts = rows.words.get("account_id")
        if accounts is not None:
            unknown = bool(self._account_id)
            bad = rows_with(accounts, lambda word: not (_is_account(word) or (unknown and word == _UNKNOWN)),
                            null=not unknown)  # fmt: skip
            if bad is not None:
                yield bad, LineReason.INVALID_ACCOUNT, "account-id has no 12 digits, nor does the file's name help"
        for attribute, column in rows.words.items():
            if attribute != "account_id":
                yield from self._problem(attribute, column, rows.texts(attribute))

    def account(self, word: str) -> str:
        """The account of a line that states `word`."""
        return self._account_id if word in ("", _UNKNOWN) else word

    def _problem(
        self, attribute: str, column: pa.DictionaryArray, words: list[str]
    ) -> Iterator[tuple[pa.BooleanArray, str, str]]:
        fits, reason, detail = _CHECKS.get(attribute, _PLAIN)
        right = self._right.setdefault(fits, set())
        new = set(words).difference(right)
        wrong = {word for word in new if not fits(word)}
        right |= new - wrong
        if len(right) > _REMEMBERED:
            right.clear()
        if wrong:
            bad = rows_of(column, [place for place, word in enumerate(words) if word in wrong])
            if bad is not None:
                yield bad, reason, f"{attribute.replace('_', '-')} {detail}"
