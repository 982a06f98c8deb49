"""Claims: which restore is under way, and which steps of it have ended.

| object                        | content                                                    |
|-------------------------------|------------------------------------------------------------|
| `ledger/<generation>.json`    | `Claim`: the request, and the tables; put only if absent   |
| `ledger/<generation>/<step>.json` | `StepEnded`: who ended a step, and with what result    |

A restore makes the ledger of the next generation. Whoever puts the claim first decides what is restored; everybody else
joins with the same request, or is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.errors import ObjectMissingError, OperationFailedError
from metering.hours import rfc3339
from metering.restore.ports import Outcome
from metering.stores.codec import StoredDocument
from metering.stores.objects import LEDGER_PREFIX, ObjectStore, generation_of_claim, restore_key

if TYPE_CHECKING:
    from metering.stores.clock import Retrier

Kind = Literal["time", "copy", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Restore that an operator asks for.

    Attributes:
        kind: Where the new ledger comes from: a point in time of the old table, a copy, or nothing.
        to_s: The time T that the new ledger begins with; 0 if it begins with nothing.
        copy_of: Table with a copy of the ledger of that time; empty unless `kind` is `copy`.
    """

    kind: Kind
    to_s: int = 0
    copy_of: str = ""

    def __str__(self) -> str:
        if self.kind == "nothing":
            return "--from-nothing"
        return f"--to {rfc3339(self.to_s)}" + (f" --from-copy {self.copy_of}" if self.copy_of else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(StoredDocument):
    """The claim of one restore.

    Attributes:
        generation: Generation of the new ledger, from 2.
        kind, to_s, copy_of: As in `Request`.
        old_table, new_table: Names of the ledgers.
        old_usage_table: Name of the usage table in use.
        usage_table: Name of the new usage table; empty if the one in use is kept.
        usage_generation: Generation of the usage table with which the new ledger goes.
        begun_at_ms: Time of the claim.
        who: ARN of the caller.
    """

    SCHEMA = "metering.restore/1"
    generation: int
    kind: Kind
    to_s: int
    copy_of: str = ""
    old_table: str
    new_table: str
    old_usage_table: str
    usage_table: str = ""
    usage_generation: int
    begun_at_ms: int
    who: str

    @property
    def request(self) -> Request:
        return Request(kind=self.kind, to_s=self.to_s, copy_of=self.copy_of)

    @property
    def begun(self) -> str:
        """When and by whom, for a sentence."""
        return f"on {rfc3339(self.begun_at_ms // 1000)} by {self.who}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded(StoredDocument):
    """Record that a step has ended; it is not done again."""

    SCHEMA = "metering.restore-step/1"
    step: str
    ended_at_ms: int
    who: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims and records of a region's restores.

    Attributes:
        place: Options that name stage and region, for the commands in messages.
    """

    objects: ObjectStore
    retrier: Retrier
    place: str

    def every(self) -> list[Claim]:
        """All claims, oldest first."""
        keys = [info.key for info in self.objects.list(LEDGER_PREFIX) if generation_of_claim(info.key)]
        return sorted((Claim.from_json(self._get(key), key) for key in keys), key=lambda claim: claim.generation)

    def put(self, claim: Claim) -> Claim:
        """Put a claim unless its generation is claimed; returns the claim that stands there.

        Raises:
            OperationFailedError: The claim that stands there is of another request.
        """
        key = restore_key(claim.generation)
        self.retrier.call(lambda: self.objects.put(key, claim.to_json(), if_absent=True))
        found = Claim.from_json(self._get(key), key)
        if found.request != claim.request:
            raise self.under_way(found)
        return found

    def under_way(self, claim: Claim) -> OperationFailedError:
        """The refusal of another request while a restore is under way."""
        return OperationFailedError(
            f"A restore with {claim.request} was begun {claim.begun}, and it has not ended.",
            f"Finish that one first; it goes on where it stopped: metering restore {claim.request} {self.place}",
        )

    def ended(self, claim: Claim, step: str) -> StepEnded | None:
        """The record of a step; None if the step has not ended."""
        key = restore_key(claim.generation, step)
        try:
            return StepEnded.from_json(self._get(key), key)
        except ObjectMissingError:
            return None

    def end(self, claim: Claim, ended: StepEnded) -> StepEnded:
        """Record the end of a step; returns the record that stands there, because another operator may be first."""
        key = restore_key(claim.generation, ended.step)
        self.retrier.call(lambda: self.objects.put(key, ended.to_json(), if_absent=True))
        return StepEnded.from_json(self._get(key), key)

    def _get(self, key: str) -> bytes:
        return self.retrier.call(lambda: self.objects.get(key))
