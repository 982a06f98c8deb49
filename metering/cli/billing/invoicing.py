"""What the commands of invoices share: their parts over all regions, checked options, states and progress."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from metering.cli.billing.home import billing_home, readable_regions
from metering.cli.command import progress
from metering.cli.failures import WrongUsageError
from metering.hours import month_bounds_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.progress import Progress, TaskID

    from metering.billing.invoices.document import Invoice
    from metering.billing.invoices.issuing import Issued, Issuer
    from metering.billing.invoices.readiness import IssueRefusedError
    from metering.cli.command import Session
    from metering.wiring.connection import RegionConnection

T = TypeVar("T")

_ACCOUNT = re.compile(r"[0-9]{12}")


class Invoicing:
    """Parts of invoices, and a bar on stderr while they work. Mutable.

    Attributes:
        issuer: Set while the parts are open.
        buckets: Data buckets of the stage's regions.
    """

    issuer: Issuer
    buckets: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._hours: TaskID | None = None

    @contextmanager
    def counted(self, what: str, documents: Iterable[T]) -> Iterator[Iterator[T]]:
        """The documents, counted while they are made."""
        from rich.progress import TextColumn, TimeElapsedColumn

        with progress(TextColumn("{task.completed:,.0f} {task.description}"), TimeElapsedColumn()) as bar:
            task = bar.add_task(what, total=None)
            self._bar, self._hours = bar, bar.add_task("", total=None, visible=False)
            try:
                yield _each(documents, lambda: bar.advance(task))
            finally:
                self._bar = None

    def on_hour(self, region: str, done: int, of: int) -> None:
        """Tell how far an open month of a region is read."""
        if self._bar is not None and self._hours is not None:
            what = f"of {of:,} hours of {region} read"
            self._bar.update(self._hours, description=what, completed=done, visible=done < of)


def _each(documents: Iterable[T], tell: Callable[[], None]) -> Iterator[T]:
    for each in documents:
        tell()
        yield each


class UntilRefused:
    """Documents that are issued, up to the refusal of the rest. Mutable.

    Attributes:
        refused: Why the rest was refused; None if it was not.
    """

    def __init__(self, issued: Iterable[Issued]) -> None:
        self.refused: IssueRefusedError | None = None
        self._issued = issued

    def __iter__(self) -> Iterator[Issued]:
        from metering.billing.invoices.readiness import IssueRefusedError

        try:
            yield from self._issued
        except IssueRefusedError as error:
            self.refused = error


@contextmanager
def invoicing(session: Session, home: RegionConnection | None = None) -> Iterator[Invoicing]:
    """The parts of invoices over all regions of the stage; those that give no answer are named in them.

    Raises:
        CommandFailedError: The home region gives no answer, or the stage is not deployed there.
    """
    from metering.wiring.billing.invoices import build_issuer
    from metering.wiring.billing.usage import StageUsage

    at_home = home or billing_home(session)
    regions, left_out = readable_regions(session, at_home)
    parts = Invoicing()
    parts.buckets = frozenset(region.names.data_bucket for region in (at_home, *regions))
    with StageUsage(regions, left_out=left_out, on_hour=parts.on_hour) as usage:
        parts.issuer = build_issuer(at_home, usage)
        yield parts


def checked_month(text: str) -> str:
    """A month that there is.

    Raises:
        WrongUsageError: It is none.
    """
    try:
        month_bounds_s(text)
    except (ValueError, OverflowError) as error:
        raise WrongUsageError(f"{text} is not a month.", "Write it as 2026-11.") from error
    return text


def checked_payer(text: str | None) -> str:
    """An account id, or empty for all payers.

    Raises:
        WrongUsageError: It is none.
    """
    if text is not None and _ACCOUNT.fullmatch(text) is None:
        raise WrongUsageError(f"{text} is no account.", "A payer is an account id of 12 digits.")
    return text or ""


def state_of(issuer: Issuer, invoice: Invoice) -> str:
    """`issued`, or what is left to do before the document counts."""
    return "issued" if issuer.is_issued(invoice) else "unfinished: run issue or credit again"


def draft_state(invoice: Invoice) -> str:
    """What keeps a draft from being issued."""
    found = [
        *(["unpriced"] if invoice.unpriced else []),
        *(["not closed"] if invoice.left_out else []),
    ]
    return f"draft: {', '.join(found)}" if found else "draft"


def not_final(issuer: Issuer, month: str) -> list[str]:
    """Regions that drafts of a month are without, or that have not closed it."""
    usage = issuer.composer.usage
    closed = issuer.planner.closed(month)
    missing = [f"Left out, because it cannot be read: {region} ({why})." for region, why in usage.left_out.items()]
    still = sorted(set(usage.regions) - closed.keys() - usage.left_out.keys())
    return [*missing, *([f"Not closed yet in {', '.join(still)}: figures are as of now."] if still else [])]
