"""Units of size, time and money, with their sources.

Bytes are `int`, money is `Decimal`, time is epoch seconds (`_s`), epoch milliseconds (`_ms`) or aware UTC. None of them
is ever a float.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MINUTE_S = 60
HOUR_S = 3_600
DAY_S = 86_400

INT64_MAX = 2**63 - 1

# AWS bills data transfer in GB of 2^30 bytes, rounded half up to 10 decimals. All 536 AWS rows of the FOCUS sample
# data agree with that (metering/replay/samples/aws-bill-lines/README.md).
BILLED_GB_BYTES = GIB
_TEN_DECIMALS = Decimal("0.0000000001")


def billed_gb(total_bytes: int) -> Decimal:
    """Quantity in GB that AWS bills for `total_bytes`."""
    return (Decimal(total_bytes) / BILLED_GB_BYTES).quantize(_TEN_DECIMALS, rounding=ROUND_HALF_UP)
