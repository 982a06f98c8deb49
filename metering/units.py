"""Units of size, time and money, with their sources.

Bytes are `int`, money is `Decimal`, time is epoch seconds (`_s`), epoch milliseconds (`_ms`) or aware UTC. No such
value is ever a float.
"""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MINUTE_S = 60
HOUR_S = 3_600
DAY_S = 86_400

INT64_MAX = 2**63 - 1

# AWS uses KB, MB, GB for powers of 1,024 bytes, and so does this project. On AWS's bills, a GB is 2^30 bytes; all 536
# AWS rows of the FOCUS sample data agree (metering/replay/samples/aws-bill-lines/README.md).
_SIZE_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
SIZE_BASE = "1 KB is 2^10 bytes, 1 MB 2^20, 1 GB 2^30, and so on."
"""What people need to know to read a `size_text`."""


def size_text(total_bytes: int) -> str:
    """Bytes as text, in the largest unit that gives a value of at least 1: `512 bytes`, `19.4 PB`.

    The text has three or four significant digits, rounded half up. Show the exact number beside the text.
    """
    if total_bytes == 1:
        return "1 byte"
    unit, unit_bytes, size = 0, 1, abs(total_bytes)
    # Only integers are used: a Decimal has 28 digits, and a total may have more.
    while unit + 1 < len(_SIZE_UNITS) and _rounded(size, unit_bytes) >= KIB:
        unit, unit_bytes = unit + 1, unit_bytes * KIB
    sign = "-" if total_bytes < 0 else ""
    return f"{sign}{f'{size:,}' if unit_bytes == 1 else _three_digits(size, unit_bytes)} {_SIZE_UNITS[unit]}"


def counted(number: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 record`, `2,000 records`, `1 batch`, `2 batches`.

    `many` is the plural, if irregular.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def exact_and_size(total_bytes: int) -> str:
    """The exact number of bytes and, from 1 KB on, the size: `12,100 bytes = 11.8 KB`."""
    exact = f"{total_bytes:,} {'byte' if total_bytes == 1 else 'bytes'}"
    return exact if abs(total_bytes) < KIB else f"{exact} = {size_text(total_bytes)}"


def _three_digits(size: int, unit_bytes: int) -> str:
    for places in (2, 1):
        rounded = _rounded(size * 10**places, unit_bytes)
        if rounded < 1_000:
            return f"{rounded // 10**places}.{rounded % 10**places:0{places}}"
    return f"{_rounded(size, unit_bytes):,}"


def _rounded(size: int, unit_bytes: int) -> int:
    return (2 * size + unit_bytes) // (2 * unit_bytes)
