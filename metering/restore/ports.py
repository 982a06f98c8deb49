"""Ports of a restore: tables by name, the fence around the old ledger, and the steps that change the new ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from metering.stores.codec import StoredDocument

if TYPE_CHECKING:
    from collections.abc import Sequence


class LedgerTables(Protocol):
    """DynamoDB tables by name. Each call may be repeated, also by a second operator."""

    def exists(self, name: str) -> bool:
        """Whether the table exists, in any status."""

    def restore(self, source: str, target: str, at_s: int) -> None:
        """Start a point-in-time restore of `source` into a new table. An existing target is not an error."""

    def copy(self, source: str, target: str) -> None:
        """Create the target, and put those items of `source` that it lacks; an emulator restores no table."""

    def create(self, target: str) -> None:
        """Start to create an empty table with the keys of a ledger. An existing target is not an error."""

    def is_active(self, name: str) -> bool:
        """Whether the table exists and can be used."""

    def make_fit(self, name: str) -> None:
        """Set what a restored table lacks: TTL, point-in-time recovery, deletion protection, tags, warm throughput."""

    def window(self, name: str) -> tuple[int, int] | None:
        """Earliest and latest restorable second; None if the table has no point-in-time recovery."""

    def drop(self, name: str) -> None:
        """Delete the table, in spite of its deletion protection. A missing table is not an error."""

    def size(self, name: str) -> tuple[int, int]:
        """Numbers of items and bytes, as DescribeTable states them."""


class Fence(Protocol):
    """Stops the functions of the region, and closes a table to them. Each call may be repeated."""

    def stop(self) -> None:
        """Disable the event source mappings, and reserve no concurrency for any function of pipeline and API."""

    def longest_timeout_s(self) -> int:
        """Longest timeout of these functions; a function that began before the stop may write until then."""

    def deny(self, table: str) -> str:
        """Deny writes to the table, by its own policy or else by the policies of the functions' roles; says which."""

    def is_denied(self, table: str) -> bool:
        """Whether a function's role is refused to write to the table."""


class Tell(Protocol):
    """Told of progress."""

    def __call__(self, what: str, done: int, of: int, /) -> None:
        """So many of `of` are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(StoredDocument):
    """Contents that a restore has put into the new ledger, and contents that it could not put there.

    Attributes:
        batches: Batches that count again, by the place of their rows: `lake`, `staging` (used in place) or `copied` (to
            a new staging object).
        hashless: Batches without a content hash, because an earlier release wrote their files.
        undecided: Ids of batches with several contents, of which nothing says which one was accepted.
        unconfirmed: Tokens and producers that stay off until an operator confirms them, such as `token reports`.
        damaged: One sentence for each hour or object that could not be adopted.
    """

    batches: Mapping[str, int] = field(default_factory=dict)
    hashless: int = 0
    undecided: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


class NewLedger(Protocol):
    """The steps that read the decision and change the new ledger (P41). Each step can be repeated.

    After another operator has opened the ledger, a late step changes nothing and raises a MeteringError.
    """

    def decide(self) -> None:
        """Store the decision, unless one is stored."""

    def prepare(self, tell: Tell) -> Outcome:
        """Put what the decision names into the new ledger, and correct usage."""

    def assist(self, tell: Tell) -> int:
        """Put files and markers beside the process that prepares a ledger from nothing; returns how many markers."""

    def open(self) -> None:
        """Let functions use the new ledger: `adopting` becomes `open`. An open ledger is not an error."""

    def late_files(self) -> Sequence[str]:
        """Lake files below the lift that the decision does not name: late calls of the old ledger put them."""

    def withdraw(self) -> Sequence[str]:
        """Move the late files to `withdrawn/`; returns their keys."""
