"""Budgets as they are kept in the ledger of the home region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.budgets.budget import Budget, BudgetRefusedError, Scope, budget_of
from metering.errors import LedgerCorruptError
from metering.ledger.notes.budgets import BUDGETS_PK, StoredBudget, budget_key
from metering.stores.writes import Delete, Put, Table

if TYPE_CHECKING:
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStore:
    """All budgets of a stage."""

    items: ItemStore
    clock: Clock

    def list(self) -> list[Budget]:
        """Every budget, by name.

        Raises:
            LedgerCorruptError: One of them cannot be read.
        """
        return [_budget(StoredBudget.from_item(item)) for item in self.items.query(Table.LEDGER, BUDGETS_PK)]

    def get(self, name: str) -> Budget | None:
        """A budget, or None."""
        item = self.items.get(Table.LEDGER, budget_key(name))
        return None if item is None else _budget(StoredBudget.from_item(item))

    def set(self, budget: Budget) -> None:
        """Keep a budget; one of the same name is replaced."""
        stored = StoredBudget(name=budget.name, document=_document(budget), set_s=self.clock.now_ms() // 1000)
        self.items.put(Put(table=Table.LEDGER, item=stored.to_item()))

    def remove(self, name: str) -> None:
        """Forget a budget. Alerts that it made stay."""
        self.items.delete(Delete(table=Table.LEDGER, key=budget_key(name)))


def _document(budget: Budget) -> dict[str, str]:
    return {
        **budget.scope.as_texts(),
        "amount": budget.amount.text,
        "thresholds": "\n".join(threshold.text for threshold in budget.thresholds),
        "period": budget.period,
        "severity": budget.severity,
    }


def _budget(stored: StoredBudget) -> Budget:
    document = dict(stored.document)
    scope = Scope(
        **{name: document.pop(name) for name in ("payer", "account", "region", "usage_type") if name in document}
    )
    try:
        return budget_of(
            stored.name,
            scope=scope,
            amount=document["amount"],
            thresholds=document["thresholds"].split("\n"),
            period=document["period"],
            severity=document["severity"],
        )
    except (KeyError, BudgetRefusedError) as error:
        raise LedgerCorruptError(f"{stored.key.pk} / {stored.name}: {error}") from error
