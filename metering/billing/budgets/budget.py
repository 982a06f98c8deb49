"""Budgets: a scope, an amount in USD or bytes for each month or day, and thresholds.

An error lists all problems of a budget.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.billing.money import EXACT_A_USD, UNITS_A_USD, price_of, usd_text
from metering.errors import LedgerCorruptError, OperationFailedError
from metering.ledger.notes.money import BUDGETS_PK, StoredBudget, budget_key
from metering.stores.writes import Delete, ItemStore, Put, Table
from metering.units import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.stores.clock import Clock

Unit = Literal["USD", "bytes"]
Period = Literal["month", "day"]
Severity = Literal["ticket", "page"]
Measure = Literal["actual", "forecast"]
MOST_THRESHOLDS = 10
"""AWS Budgets has this limit, too: more of them say no more."""
SCOPE_FIELDS = ("payer", "account", "region", "usage_type")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_THRESHOLD = re.compile(r"(actual|forecast)\s+(\S+)(?:\s+(\S+))?")
_PERCENT = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?%")
_SIZE = re.compile(r"([0-9]{1,30})\s*(bytes|KB|MB|GB|TB|PB|EB)?")
_SIZES = {"bytes": 1, **{name: KIB**power for power, name in enumerate(("KB", "MB", "GB", "TB", "PB", "EB"), 1)}}
_WHOLE = 100_000
"""100 % in thousandths of a percent."""


class BudgetRefusedError(OperationFailedError):
    """A budget is invalid; the error lists all its problems."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(f"This is no budget: {'; '.join(problems)}.", "Nothing was set. Correct it, and set it again.")
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return (BudgetRefusedError, (self.problems,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """An amount in a unit (exact cost (L0) in USD, or bytes) with its canonical spelling."""

    unit: Unit
    value: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A value that triggers an alert: a percentage of the budget (in thousandths), or an absolute amount."""

    measure: Measure
    percent: int | None = None
    amount: Amount | None = None

    @property
    def text(self) -> str:
        """Its one spelling: `actual 80%`, `forecast 500 USD`."""
        if self.percent is None:
            return f"{self.measure} {'' if self.amount is None else self.amount.text}"
        whole, part = divmod(self.percent, 1_000)
        decimals = f".{part:03d}".rstrip("0") if part else ""
        return f"{self.measure} {whole}{decimals}%"

    def crossed(self, value: int, amount: int) -> bool:
        """Whether a value reaches the threshold; `amount` is the budget's amount. Nothing is rounded."""
        if self.percent is None:
            return self.amount is not None and value >= self.amount.value
        return value * _WHOLE >= amount * self.percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Filter of the usage that a budget covers: usage must match every non-empty field."""

    payer: str = ""
    account: str = ""
    region: str = ""
    usage_type: str = ""

    def __str__(self) -> str:
        parts = (f"{name} {value}" for name, value in self.as_texts().items())
        return ", ".join(parts).replace("_", " ")

    def as_texts(self) -> dict[str, str]:
        return {name: value for name in SCOPE_FIELDS if (value := str(getattr(self, name)))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A budget. Its period is a calendar month or day in UTC."""

    name: str
    scope: Scope
    amount: Amount
    thresholds: tuple[Threshold, ...]
    period: Period = "month"
    severity: Severity = "ticket"


def amount_of(text: str) -> Amount:
    """Parse an amount such as `500 USD`, `0.5 USD`, `10 TB` or `4096 bytes`.

    Raises:
        ValueError: The text is not an amount, or the amount is not positive.
    """
    number, _, unit = text.strip().partition(" ")
    if number.startswith("-"):
        raise ValueError(f"{text!r} is below 0, and an amount is above it")
    if unit.strip().upper() == "USD":
        price = price_of(number)
        decimals = usd_text(price).rstrip("0").rstrip(".")
        made = Amount(unit="USD", value=price * (EXACT_A_USD // UNITS_A_USD), text=f"{decimals} USD")
    else:
        found = _SIZE.fullmatch(text.strip())
        if found is None or found[2] is None:
            raise ValueError(f"{text!r} is not an amount: 500 USD, 10 TB or 4096 bytes")
        size = int(found[1]) * _SIZES[found[2]]
        made = Amount(unit="bytes", value=size, text=f"{int(found[1])} {found[2]}")
    if made.value == 0:
        raise ValueError(f"{text!r} is 0, and would be crossed before anything is used")
    return made


def threshold_of(text: str) -> Threshold:
    """Parse a threshold such as `actual 80%`, `forecast 100%` or `actual 500 USD`.

    Raises:
        ValueError: It is another text.
    """
    found = _THRESHOLD.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a threshold: actual 80%, forecast 100% or actual 500 USD")
    measure: Measure = "forecast" if found[1] == "forecast" else "actual"
    percent = None if found[3] else _PERCENT.fullmatch(found[2])
    if percent is not None:
        thousandths = int(percent[1]) * 1_000 + int((percent[2] or "").ljust(3, "0"))
        if thousandths == 0:
            raise ValueError(f"{text!r} is crossed before anything is used: a threshold is above 0%")
        return Threshold(measure=measure, percent=thousandths)
    if found[2].endswith("%"):
        raise ValueError(f"{text!r} is not a threshold: the part is above 0%, with at most three decimals")
    return Threshold(measure=measure, amount=amount_of(f"{found[2]} {found[3] or ''}"))


def budget_of(
    name: str, *, amount: str, thresholds: Iterable[str], scope: Scope, period: str = "month", severity: str = "ticket"
) -> Budget:
    """A budget of texts.

    Raises:
        BudgetRefusedError: With every problem.
    """
    problems: list[str] = []
    made: list[Threshold] = []
    size: Amount | None = None
    try:
        size = amount_of(amount)
    except ValueError as error:
        problems.append(f"the amount {error}")
    for text in thresholds:
        try:
            made.append(threshold_of(text))
        except ValueError as error:
            problems.append(str(error))
    problems += [*_problems_of_names(name, scope), *_problems_of_thresholds(made, size)]
    if period not in ("month", "day"):
        problems.append(f"the period {period!r} is neither month nor day")
    if severity not in ("ticket", "page"):
        problems.append(f"the severity {severity!r} is neither ticket nor page")
    if problems or size is None:
        raise BudgetRefusedError(tuple(problems))
    return Budget(
        name=name,
        scope=scope,
        amount=size,
        thresholds=tuple(made),
        period="day" if period == "day" else "month",
        severity="page" if severity == "page" else "ticket",
    )


def _problems_of_names(name: str, scope: Scope) -> list[str]:
    problems = []
    if _NAME.fullmatch(name) is None:
        problems.append(f"the name {name!r} is not 1 to 64 of a-z, 0-9 and -")
    for what, value in (("payer", scope.payer), ("account", scope.account)):
        if value and _ACCOUNT.fullmatch(value) is None:
            problems.append(f"the {what} {value!r} is not an account id of 12 digits")
    if not scope.as_texts():
        problems.append("it is about nothing: name a payer, an account, a region or a usage type")
    return problems


def _problems_of_thresholds(thresholds: list[Threshold], amount: Amount | None) -> list[str]:
    texts = [threshold.text for threshold in thresholds]
    problems = [f"the threshold {text!r} is given twice" for text in dict.fromkeys(texts) if texts.count(text) > 1]
    if not texts:
        problems.append("it has no threshold, so nobody would hear of it")
    if len(texts) > MOST_THRESHOLDS:
        problems.append(f"it has {len(texts)} thresholds, and at most {MOST_THRESHOLDS} are kept")
    if amount is not None:
        problems += [
            f"the threshold {each.text!r} is in {each.amount.unit}, and the budget in {amount.unit}"
            for each in thresholds
            if each.amount is not None and each.amount.unit != amount.unit
        ]
    return problems


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
        item = self.items.get(Table.LEDGER, budget_key(name))
        return None if item is None else _budget(StoredBudget.from_item(item))

    def set(self, budget: Budget) -> None:
        stored = StoredBudget(name=budget.name, document=_document(budget), set_s=self.clock.now_ms() // 1000)
        self.items.put(Put(table=Table.LEDGER, item=stored.to_item()))

    def remove(self, name: str) -> None:
        """Forget a budget. Its alerts stay."""
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
    document = stored.document
    scope = Scope(**{name: document[name] for name in SCOPE_FIELDS if name in document})
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
