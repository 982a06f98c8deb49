"""Values of a bill's lines, as CSV and Parquet hold them: text, numbers of any kind, dates. Amounts are Decimals."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache

from metering.units import GIB

# AWS's GB of data transfer is 2^30 bytes: all 536 lines of metering/replay/samples/aws-bill-lines agree.
_UNIT_BYTES = {
    "gb": GIB, "gib": GIB, "gigabyte": GIB, "gigabytes": GIB, "byte": 1, "bytes": 1, "": GIB,
}  # fmt: skip
_AMOUNT = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.[0-9]{1,9})?)?(?:Z|[+-]00:?00| UTC)?"
)
_ACCOUNT = re.compile(r"[0-9]{12}")
_EXACT = Context(prec=100)
# A ZB: no line of a bill has more.
_MOST_BYTES = 2**70
_YEARS = range(2006, 2100)


def text_of(value: object) -> str:
    """A text; empty if there is none. Parquet may not say that its bytes are text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    return "" if value is None else str(value).strip()


def account_of(value: object) -> str:
    """An account of 12 digits. A number has lost its leading zeros, a text has not.

    Raises:
        ValueError: It is none.
    """
    text = str(value).zfill(12) if isinstance(value, int) else text_of(value)
    if not _ACCOUNT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no account of 12 digits")
    return text


def unit_bytes(value: object) -> int:
    """Bytes of a unit. Where a bill says none, it is the GB of data transfer.

    Raises:
        ValueError: Nobody knows it.
    """
    text = text_of(value)
    found = _UNIT_BYTES.get(text.lower())
    if found is None:
        raise ValueError(f"the unit is {text[:40]!r}, and not GB")
    return found


def bytes_of(value: object, unit: int) -> Decimal:
    """Exact bytes of an amount, which may be a fraction: 10 decimals of a GB are a tenth of a byte.

    A number of Parquet that is binary is taken as its shortest decimal text, which is what AWS counted.

    Raises:
        ValueError: It is no number, or larger than any bill.
    """
    text = _number_text(value)
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no amount")
    exact = _EXACT.multiply(Decimal(text), Decimal(unit))
    if abs(exact) > _MOST_BYTES:
        raise ValueError(f"{text[:40]} is more than any bill has")
    return exact


def usd_of(value: object) -> Decimal | None:
    """What a line costs; None if it does not say so in a number."""
    text = _number_text(value)
    return Decimal(text) if _AMOUNT.fullmatch(text) else None


def _number_text(value: object) -> str:
    if isinstance(value, int | Decimal):
        return str(value)
    return repr(value) if isinstance(value, float) else text_of(value)


def whole_bytes(exact: Decimal) -> int:
    """The nearest whole number of bytes, half away from zero."""
    return int(exact.to_integral_value(ROUND_HALF_UP))


def seconds_of(value: object) -> int:
    """Epoch seconds of a time; one that names no zone is UTC, as all times of AWS's bills are.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, datetime):
        return _known(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return _known(datetime(value.year, value.month, value.day, tzinfo=UTC))
    return _seconds(text_of(value))


@lru_cache(maxsize=4096)
def _seconds(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time in UTC")
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00'}+00:00")
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no time") from error
    return _known(moment)


def _known(moment: datetime) -> int:
    if moment.year not in _YEARS:
        raise ValueError(f"{moment.isoformat()} is before AWS, or far ahead")
    return int(moment.timestamp())
