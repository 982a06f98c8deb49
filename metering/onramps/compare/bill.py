"""A bill of any number of files: what it says of data transfer, and how much of it was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError
from metering.onramps.compare.files import opened
from metering.onramps.compare.lines import BilledLine, BrokenLine, LeftOut, LeftOutLine, judged
from metering.onramps.compare.named import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from metering.onramps.compare.lines import Broken, LineKey, Wanted

# A key takes some 300 bytes: 150 MB. A month of 500 accounts with 30 usage types has 450,000.
MOST_KEYS = 500_000
_EXAMPLES = 3
_TOLD_EVERY = 10_000
_EXACT = Context(prec=100)


@dataclass(slots=True, kw_only=True)
class Bill:
    """What the files say. Mutable: it grows as they are read; memory is that of its keys.

    Attributes:
        bytes: Billed bytes, each line rounded to whole ones.
        exact: The sum before lines were rounded.
        lines: Lines that are compared.
        negative: Those of them that take bytes back.
        compared: Lines that are compared, and what they cost, by usage type.
        left_out: Lines that are not compared, by reason.
        no_transfer: Those that are no data transfer, and what they cost, by usage type.
        broken: Lines that cannot be read, by what is wrong.
        examples: The first of them, in words.
        names: Kinds of export that were found.
        first_s, last_s: Earliest and latest start of a line that is compared; None if there is none.
    """

    bytes: dict[LineKey, int] = field(default_factory=dict)
    exact: Decimal = Decimal(0)
    lines: int = 0
    negative: int = 0
    compared: Names = field(default_factory=Names)
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    no_transfer: Names = field(default_factory=Names)
    broken: Counter[Broken] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    first_s: int | None = None
    last_s: int | None = None

    @property
    def read(self) -> int:
        """All lines that were read: each is compared, left out or broken."""
        return self.lines + self.left_out.total() + self.broken.total()

    @property
    def accounts(self) -> frozenset[str]:
        """Accounts with a line that is compared."""
        return frozenset(key.account_id for key in self.bytes)

    @property
    def rounding(self) -> Decimal:
        """Bytes by which rounding the lines has moved the sum."""
        return _EXACT.subtract(Decimal(sum(self.bytes.values())), self.exact)

    def take(self, found: BilledLine | LeftOutLine | BrokenLine, where: str) -> None:
        """Count a line, once.

        Raises:
            OperationFailedError: There is more than memory should hold.
        """
        if isinstance(found, LeftOutLine):
            self.left_out[found.why] += 1
            if found.why is LeftOut.NO_TRANSFER:
                self.no_transfer.add(found.usage_type, found.usd)
        elif isinstance(found, BrokenLine):
            self.broken[found.what] += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(f"{where}: {found.why}")
        else:
            self._add(found)

    def _add(self, line: BilledLine) -> None:
        self.lines += 1
        self.negative += line.bytes < 0
        self.compared.add(line.key.usage_type, line.usd)
        self.bytes[line.key] = self.bytes.get(line.key, 0) + line.bytes
        self.exact = _EXACT.add(self.exact, line.exact)
        self.first_s = line.start_s if self.first_s is None else min(self.first_s, line.start_s)
        self.last_s = line.start_s if self.last_s is None else max(self.last_s, line.start_s)
        if len(self.bytes) > MOST_KEYS:
            raise OperationFailedError(
                f"The bill has more than {MOST_KEYS:,} different accounts, usage types and days.",
                "Compare a part of it: --account, --from and --to, or --by month.",
            )


def read_bill(paths: Iterable[Path], wanted: Wanted, tell: Callable[[Path, int], None] = lambda *_: None) -> Bill:
    """Read the files of a bill, one after the other, in memory of one block and of the sums.

    Args:
        paths: The files.
        wanted: Which lines are asked for.
        tell: Told now and then how many lines of a file were read.

    Raises:
        OperationFailedError: A file cannot be read, is no bill, or there is more than memory should hold.
    """
    bill = Bill()
    for path in paths:
        with opened(path) as (found, rows):
            bill.names.add(found.dialect.name)
            for number, fields in rows:
                bill.take(judged(fields, found.dialect, wanted), f"{path}, row {number:,}")
                if number % _TOLD_EVERY == 0:
                    tell(path, number)
    return bill
