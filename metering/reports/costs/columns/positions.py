"""Costs of a month of many accounts by columns: sums by day decide the prices, and Arrow adds up what has one price.

Usage is read twice: once for the sums by payer, product and day, which give the positions; once for the sums by price
and by the columns that the report is grouped by. Only hours that hold a cut become lines. Nothing holds the month:
payers are taken some hundred at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.billing.prices.book import Product
from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater
from metering.billing.usage.columns import columns_of, lines_of
from metering.billing.usage.merged import merged
from metering.billing.usage.ports import Sold
from metering.reports.costs.columns.summed import SummedUsage, Wanted, add_days
from metering.reports.costs.columns.tables import Fold, chunks, joined, whole_of
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.months import MonthUsage
    from metering.billing.usage.ports import UsageLine
    from metering.reports.costs.columns.summed import Days
    from metering.reports.costs.payers import PayersTogether


@dataclass(frozen=True, kw_only=True)
class Positioned:
    """A payer with the positions of its month."""

    prices: PayerPrices
    rater: Rater
    sums: Days


@dataclass(frozen=True, kw_only=True)
class ColumnPositions:
    """Finds the positions of some payers by the columns of a month.

    Attributes:
        asked: Of each payer, what is to be rated; None for everything. Empty: everything of all of them.
    """

    usage: MonthUsage
    together: PayersTogether
    prices_of: Callable[[str], PayerPrices]
    asked: Sequence[frozenset[Sold] | None] = ()

    def asked_of(self, number: int) -> frozenset[Sold] | None:
        """What of a payer is to be rated; None for everything."""
        return self.asked[number] if self.asked else None

    def positioned(self) -> list[Positioned]:
        """Each payer, in order.

        Raises:
            UnavailableError: A region gives no answer.
        """
        sums = self._sums()
        prices = [self.prices_of(payer_id) for payer_id in self.together.payers]
        read = self._read_at_once(sums, prices) if len(prices) > 1 else {}
        return [
            _positioned(self._summed(payer_id, prices[number], sums[number], read.get(number, {})), prices[number])
            for number, payer_id in enumerate(self.together.payers)
        ]

    @cached_property
    def accounts(self) -> pa.Table:
        """Accounts with the numbers of their payers."""
        ids, numbers = list(self.together.accounts), list(self.together.accounts.values())
        return pa.table({"account_id": pa.array(ids, pa.string()), "payer": pa.array(numbers, pa.int32())})

    def with_payers(self, table: pa.Table) -> pa.Table:
        """Rows with the numbers of their payers, without those of other payers. One payer has the number 0."""
        if self.together.alone:
            return table.append_column("payer", pa.repeat(pa.scalar(0, pa.int32()), table.num_rows))
        return joined(table, self.accounts, ("account_id",))

    def _sums(self) -> list[Days]:
        fold = Fold(("payer", "service", "usage_type", "hour_s"))
        wanted = self.together.wanted
        names = ["hour_s", *([] if self.together.alone else ["account_id"]), "service", "usage_type", "bytes"]
        for region in self.usage.regions:
            for table in chunks(columns_of(region).day_batches(wanted, names)):
                fold.add(self.with_payers(table))
        sums: list[Days] = [{} for _ in self.together.payers]
        for row, size in fold.rows():
            sold = Sold(Service(str(row["service"])), UsageType(str(row["usage_type"])))
            number = whole_of(row["payer"])
            if self._counts(number, sold):
                sums[number].setdefault(sold, {})[whole_of(row["hour_s"])] = size
        for number, accounts in self.together.apart.items():
            add_days(sums[number], self.usage.of(self.together.payers[number]).of_accounts(accounts).day_lines())
        return sums

    def _counts(self, number: int, sold: Sold) -> bool:
        """Whether a payer's positions need what is sold: products of allowances depend on one another."""
        asked = self.asked_of(number)
        return asked is None or sold in asked or self._shares(sold)

    @cached_property
    def _shares(self) -> Callable[[Sold], bool]:
        prices = self.prices_of(self.together.payers[0])
        skus = {sku for allowance in prices.book.allowances for sku in allowance.skus}

        def shares(sold: Sold) -> bool:
            product = prices.found(sold)
            return isinstance(product, Product) and product.sku in skus

        return shares

    def _summed(
        self,
        payer_id: str,
        prices: PayerPrices,
        sums: Days,
        read: dict[int, tuple[frozenset[Sold], list[UsageLine]]],
    ) -> SummedUsage:
        with_allowance = {sku for allowance in prices.book.allowances for sku in allowance.skus}
        found = {sold: prices.found(sold) for sold in sums}
        tiered = frozenset(
            sold
            for sold, product in found.items()
            if isinstance(product, Product)
            and (product.sku in with_allowance or any(len(version.tiers) > 1 for version in product.versions))
        )
        alone = self.together.whole and len(self.together.payers) == 1
        return SummedUsage(whole=self.usage.of(payer_id), sums=sums, tiered=tiered, alone=alone, read=read)

    def _read_at_once(
        self, sums: list[Days], prices: list[PayerPrices]
    ) -> dict[int, dict[int, tuple[frozenset[Sold], list[UsageLine]]]]:
        """Lines that the positions of many payers need, by payer and day: each day is read once for all of them."""
        wanted: dict[int, dict[int, frozenset[Sold]]] = {}
        for number, of in enumerate(sums):
            noted = Wanted(self.usage.month, of)
            positions(prices[number], noted)
            for day_s, sold in noted.wanted.items():
                wanted.setdefault(day_s, {})[number] = frozenset(sold)
        read: dict[int, dict[int, tuple[frozenset[Sold], list[UsageLine]]]] = {}
        for day_s, payers in sorted(wanted.items()):
            for number, lines in self._lines(day_s, payers).items():
                read.setdefault(number, {})[day_s] = (payers[number], lines)
        return read

    def _lines(self, day_s: int, payers: dict[int, frozenset[Sold]]) -> dict[int, list[UsageLine]]:
        names = self.together.payers
        accounts = frozenset(
            account_id
            for account_id in self.together.everything
            if self.together.accounts.get(account_id, -1) in payers or account_id not in self.together.accounts
        )
        sold = frozenset().union(*payers.values())
        found: dict[int, list[UsageLine]] = {number: [] for number in payers}
        numbers = {payer_id: number for number, payer_id in enumerate(names)}
        for region in self.usage.regions:
            for batch in columns_of(region).hour_batches(accounts, day_s=day_s, sold=sold):
                for line in lines_of(batch):
                    payer_id = self.usage.organization.payer_of(line.account_id, line.hour_s)
                    number = numbers.get(payer_id, -1)
                    if number in payers and (line.service, line.usage_type) in payers[number]:
                        found[number].append(line)
        return {number: list(merged(sorted(lines))) for number, lines in found.items()}


def _positioned(usage: SummedUsage, prices: PayerPrices) -> Positioned:
    return Positioned(prices=prices, rater=Rater(prices, positions(prices, usage)), sums=usage.sums)
